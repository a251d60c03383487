//! Descriptors: which are open, where they go.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::c_uint;
use nix::Result;
use nix::errno::Errno;

use super::{done, message};

/// close_range(2): closes every descriptor from `first` to `last`, or marks them so with CLOSE_RANGE_CLOEXEC.
pub(crate) fn close_range(first: c_uint, last: c_uint, flags: c_uint) -> Result<()> {
    // SAFETY: closing descriptors touches no memory; whoever owned them does not use them again in this process.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
}

/// Closes every descriptor but these (close_range(2)); negative numbers stand for none.
pub(crate) fn close_all_but(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut first = 0;
    for number in keep.iter().filter_map(|fd| c_uint::try_from(*fd).ok()) {
        if number > first {
            close_range(first, number - 1, 0)?;
        }
        first = number + 1;
    }
    close_range(first, c_uint::MAX, 0)
}

/// The first descriptor from `first` up to, not including, `end` that is open and stays open when a program is executed;
/// none where there is none. One poll(2) looks at 64: it says POLLNVAL of what is not open.
pub(crate) fn first_that_stays(first: RawFd, end: RawFd) -> Result<Option<RawFd>> {
    const EACH: usize = 64;
    // SAFETY: takes integers only; a closed descriptor is -1.
    let stays = |number: RawFd| matches!(unsafe { libc::fcntl(number, libc::F_GETFD) }, flags if flags != -1 && flags & libc::FD_CLOEXEC == 0);
    let mut fds = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; EACH];
    let mut from = first;
    while from < end {
        let count = ((end - from) as usize).min(EACH);
        for (fd, number) in fds.iter_mut().zip(from..end) {
            fd.fd = number;
        }
        // SAFETY: `count` is at most the array's length.
        let polled = Errno::result(unsafe { libc::poll(fds.as_mut_ptr(), count as u64, 0) });
        let found = match polled {
            Ok(_) => fds[..count]
                .iter()
                .filter(|fd| fd.revents & libc::POLLNVAL == 0)
                .map(|fd| fd.fd)
                .find(|number| stays(*number)),
            // More than RLIMIT_NOFILE at once.
            Err(Errno::EINVAL) => (from..from + count as RawFd).find(|number| stays(*number)),
            Err(errno) => return Err(errno),
        };
        if found.is_some() {
            return Ok(found);
        }
        from += count as RawFd;
    }
    Ok(None)
}

/// dup2(2) onto one of the three standard descriptors.
pub(crate) fn onto_standard(from: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    // SAFETY: replaces what 0, 1 or 2 refer to in this process, which is the purpose; no owner of them exists here.
    Errno::result(unsafe { libc::dup2(from.as_raw_fd(), number) }).map(drop)
}

/// Whether the directory just opened as `dir` holds nothing.
pub(crate) fn getdents_is_empty(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut buffer = [0_u64; 32];
    // SAFETY: the buffer is valid for its size in bytes, and aligned for the records.
    let length = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buffer.as_mut_ptr(),
            size_of_val(&buffer),
        )
    };
    let length = Errno::result(length)? as usize;
    // "." and ".." take 24 bytes each; a third entry means that something is there.
    Ok(length <= 48)
}

/// Takes ownership of a descriptor that recvmsg(2) has just installed.
pub(crate) fn received_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: SCM_RIGHTS descriptors are new in this process and nobody else knows their number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// readlinkat(2): bytes written to `buffer`, which is full where the link may be longer.
pub(crate) fn readlinkat(dir: BorrowedFd<'_>, path: &CStr, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `path` is NUL-terminated; the kernel writes at most the buffer's length.
    let length = unsafe {
        libc::readlinkat(
            dir.as_raw_fd(),
            path.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    Errno::result(length).map(isize::cast_unsigned)
}

/// Sends one byte and these descriptors, for [`receive_go`].
pub(crate) fn send_go(socket: BorrowedFd<'_>, descriptors: &[RawFd]) -> Result<()> {
    let byte = [std::io::IoSlice::new(&[1])];
    let rights = [nix::sys::socket::ControlMessage::ScmRights(descriptors)];
    let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
    nix::sys::socket::sendmsg::<()>(socket.as_raw_fd(), &byte, &rights, flags, None).map(drop)
}

/// Waits for one byte and the descriptors that come with it; puts them into `into` in order and returns their number,
/// or none when the other side is gone. Allocates nothing.
pub(crate) fn receive_go(
    socket: BorrowedFd<'_>,
    into: &mut [Option<OwnedFd>],
) -> Result<Option<usize>> {
    match message::receive(socket, &mut [0], into, 0)? {
        (0, _) => Ok(None),
        (_, count) => Ok(Some(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_descriptor_that_stays_is_found_wherever_it_is() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let file = std::fs::File::open("/dev/null").expect("there");
        let high = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(950)).expect("a copy");
        let high = received_descriptor(high);
        let number = high.as_raw_fd();
        let found = || first_that_stays(900, 1000).expect("polled");
        assert_eq!(found(), None);
        fcntl(&high, FcntlArg::F_SETFD(FdFlag::empty())).expect("set");
        assert_eq!(found(), Some(number));
        drop(high);
        assert_eq!(found(), None);
    }
}
