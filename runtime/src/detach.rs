//! Splitting off a process that stays when the caller's command line has returned.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;

use crate::{Error, sys};

/// Which side of [`detach`] this is.
#[derive(Debug)]
pub enum Side {
    /// The caller goes on; the number is the new process's.
    Caller(i32),
    /// The new process: in a session of its own, at `/`, without the caller's streams and descriptors.
    Detached,
}

/// Forks (fork(2)). The new process keeps the descriptors of `keep` and no others; its 0, 1 and 2 are /dev/null.
///
/// In the new process every other descriptor is closed behind the back of whatever owned it: what the caller had open must
/// not be used or dropped there, so the new process has to end by [`exit_now`]. The calling process must have one thread.
///
/// # Errors
/// The process cannot be made.
pub fn detach(keep: &[BorrowedFd<'_>]) -> Result<Side, Error> {
    let failed = |action: &str, errno| Error::Launch {
        action: action.to_owned(),
        errno,
    };
    // The monitor's own failures are told over a descriptor that is kept; here nothing can fail but the fork.
    match sys::fork().map_err(|errno| failed("make the monitor's process", errno))? {
        None => {}
        Some(pid) => return Ok(Side::Caller(pid)),
    }
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    let detached = nix::unistd::setsid()
        .and_then(|_| nix::unistd::chdir(c"/"))
        .and_then(|()| close_others(&keep));
    match detached {
        Ok(()) => Ok(Side::Detached),
        Err(_) => sys::exit_now(125),
    }
}

/// Ends the process at once: nothing is dropped, no handler runs (_exit(2)).
pub fn exit_now(code: u8) -> ! {
    sys::exit_now(i32::from(code))
}

/// Gives back the pages that a start needed and waiting does not: free memory, and the program's own code.
pub fn release_memory() {
    sys::trim_heap();
    sys::release_program();
}

fn close_others(keep: &[RawFd]) -> Result<(), Errno> {
    let mut from = 3;
    for number in keep.iter().map(|number| number.unsigned_abs()) {
        if number > from {
            sys::close_range(from, number - 1, 0)?;
        }
        from = from.max(number + 1);
    }
    sys::close_range(from, u32::MAX, 0)?;
    let null = nix::fcntl::open(
        c"/dev/null",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    for number in 0..3 {
        sys::onto_standard(std::os::fd::AsFd::as_fd(&null), number)?;
    }
    Ok(())
}
