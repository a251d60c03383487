//! System calls that only probes make.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;
use palisade_policies::Instruction;

/// unshare(2).
pub(super) fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: takes flags only.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// clone3(2) as a bare fork, as the launch uses it.
pub(super) fn clone3_works() -> Result<()> {
    match crate::sys::clone3(0, None)? {
        crate::sys::Cloned::Child => crate::sys::exit_now(0),
        crate::sys::Cloned::Parent { pid, .. } => {
            while let Err(Errno::EINTR) = crate::sys::wait4(pid, 0) {}
            Ok(())
        }
    }
}

/// Loads a filter and returns the descriptor on which its notifications arrive (seccomp_unotify(2)).
pub(super) fn seccomp_listener(program: &[Instruction]) -> Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: Instruction has the layout of struct sock_filter, and the kernel only reads `len` of them.
    let fd = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// kcmp(2)'s number is one that no probe needs: what a filter answers for it is the filter's doing.
pub(super) fn kcmp() -> Errno {
    // SAFETY: takes integers only.
    unsafe { libc::syscall(libc::SYS_kcmp, 0, 0, 0, 0, 0) };
    Errno::last()
}

/// Whether `fd` is open.
pub(super) fn is_open(fd: BorrowedFd<'_>) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok()
}
