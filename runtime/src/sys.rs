//! System calls that nix does not wrap. Each function is one call, takes and returns owned or borrowed descriptors, and
//! allocates nothing, so that all of them may run between clone and exec.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "system calls return and take numbers in registers: the kernel's types fit, whatever libc declares"
)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long};
use nix::Result;
use nix::errno::Errno;

mod confine;
mod credentials;
mod descriptor;
pub(crate) mod direct;
mod limit;
pub(crate) mod message;
mod mount;
mod process;
mod program;
mod stack;

pub(crate) use confine::*;
pub(crate) use credentials::*;
pub(crate) use descriptor::*;
pub(crate) use limit::*;
pub(crate) use message::MOST_DESCRIPTORS;
pub(crate) use mount::*;
pub(crate) use process::*;
pub use program::*;
pub(crate) use stack::Stack;

/// Turns the result of a system call into a descriptor.
fn descriptor(result: c_long) -> Result<OwnedFd> {
    let fd = Errno::result(result)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn done(result: c_long) -> Result<()> {
    Errno::result(result).map(drop)
}

/// Brings up the loopback interface of the current network namespace (netdevice(7)).
pub(crate) fn loopback_up() -> Result<()> {
    // SAFETY: takes integers only.
    let socket = descriptor(c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    let request = loopback_request();
    // SAFETY: SIOCSIFFLAGS reads the structure, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    })
    .map(drop)
}

/// "Up", said to the loopback interface.
fn loopback_request() -> libc::ifreq {
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request
}

/// Unlocks the pseudoterminal behind `master` and opens its other end, without a path (ioctl_tty(2) TIOCGPTPEER).
pub(crate) fn terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock: c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    descriptor(c_long::from(unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    }))
}

/// Makes `terminal` the controlling terminal of this session (ioctl_tty(2) TIOCSCTTY).
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// getcwd(2) as the kernel says it: the first byte of the path, which is `(` for a directory outside the root.
pub(crate) fn getcwd(buffer: &mut [u8]) -> Result<u8> {
    // SAFETY: the pointer is valid for the length given.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(length).map(|_| buffer[0])
}

/// sethostname(2).
pub(crate) fn sethostname(name: &CStr) -> Result<()> {
    // SAFETY: the pointer is valid for the length given.
    Errno::result(unsafe { libc::sethostname(name.as_ptr(), name.to_bytes().len()) }).map(drop)
}

/// setdomainname(2).
pub(crate) fn setdomainname(name: &CStr) -> Result<()> {
    // SAFETY: the pointer is valid for the length given.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr(), name.to_bytes().len()) }).map(drop)
}
