//! System calls without the C library, for a thread that shares the thread-local storage of another.
//!
//! Results are what the kernel returns, errno is left alone, nothing allocates.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_long};
use nix::Result;
use nix::errno::Errno;
use nix::mount::MsFlags;

use super::Stack;
use crate::aside::Shared;

/// Makes a system call: what it returns, or a negative errno.
#[cfg(target_arch = "x86_64")]
fn call(number: c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let result: isize;
    // SAFETY: the convention of syscall(2) on x86-64. The callers pass integers, and pointers to what the call may use.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Makes a system call by the C library: here is no thread whose errno could be in the way.
#[cfg(not(target_arch = "x86_64"))]
fn call(number: c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the callers pass integers, and pointers to what the call may use.
    match Errno::result(unsafe { libc::syscall(number, first, second, third, fourth, fifth) }) {
        Ok(result) => result as isize,
        Err(errno) => -(errno as isize),
    }
}

/// The errno of a call that returns nothing else; 0 for none.
fn errno(result: isize) -> c_int {
    c_int::try_from(-result.min(0)).unwrap_or(libc::EIO)
}

fn address<T>(pointer: *const T) -> usize {
    pointer.expose_provenance()
}

/// Starts a thread of this process that does [`Shared::work`] and ends. It has a working directory of its own. Both `stack` and
/// `shared` must stay where they are until it has ended, as `shared.running` tells.
#[cfg(target_arch = "x86_64")]
pub(crate) fn start_thread(stack: &mut Stack, shared: &Shared<'_>) -> Result<()> {
    extern "C" fn work(argument: *mut libc::c_void) -> c_int {
        // SAFETY: `argument` is the `&Shared` passed below, which outlives the thread; all that changes in it is atomic.
        let shared = unsafe { &*argument.cast::<Shared<'_>>() };
        shared.work();
        // This thread alone.
        loop {
            call(libc::SYS_exit, [0; 5]);
        }
    }
    const THREAD: c_int = libc::CLONE_VM
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_CLEARTID;
    // SAFETY: the thread has a stack of its own, and touches only `shared` of this process's memory.
    Errno::result(unsafe {
        libc::clone(
            work,
            stack.top(),
            THREAD,
            std::ptr::from_ref(shared).cast_mut().cast(),
            std::ptr::null_mut::<libc::pid_t>(),
            std::ptr::null_mut::<libc::c_void>(),
            shared.running.as_ptr().cast::<libc::pid_t>(),
        )
    })
    .map(drop)
}

/// There is no thread where the C library makes the calls.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn start_thread(_stack: &mut Stack, _shared: &Shared<'_>) -> Result<()> {
    Err(Errno::ENOSYS)
}

/// A descriptor of a new network namespace with its loopback up (netdevice(7)), which the calling thread is then in; or a
/// negative errno.
pub(crate) fn network_namespace() -> c_int {
    let unshared = call(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0]);
    if unshared < 0 {
        return -errno(unshared);
    }
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
    let socket = call(libc::SYS_socket, [libc::AF_INET as usize, kind, 0, 0, 0]);
    // A sandbox without network is whole even where loopback cannot be brought up.
    if let Ok(socket) = usize::try_from(socket) {
        let request = super::loopback_request();
        let request = address(&raw const request);
        call(
            libc::SYS_ioctl,
            [socket, libc::SIOCSIFFLAGS as usize, request, 0, 0],
        );
        call(libc::SYS_close, [socket, 0, 0, 0, 0]);
    }
    let path = address(c"/proc/thread-self/ns/net".as_ptr());
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let here = libc::AT_FDCWD as usize;
    let opened = call(libc::SYS_openat, [here, path, flags, 0, 0]);
    c_int::try_from(opened).unwrap_or(-libc::EIO)
}

/// fchdir(2): an errno, or 0.
pub(crate) fn fchdir(directory: RawFd) -> c_int {
    errno(call(libc::SYS_fchdir, [directory as usize, 0, 0, 0, 0]))
}

/// mount(2): an errno, or 0.
pub(crate) fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: MsFlags,
    data: Option<&CStr>,
) -> c_int {
    let text = |text: Option<&CStr>| text.map_or(0, |text| address(text.as_ptr()));
    let flags = flags.bits() as usize;
    let arguments = [
        text(source),
        address(target.as_ptr()),
        text(kind),
        flags,
        text(data),
    ];
    errno(call(libc::SYS_mount, arguments))
}

/// Sets the word to 1 and wakes who waits for it (futex(2)).
pub(crate) fn set_and_wake(word: &AtomicU32) {
    word.store(1, Ordering::Release);
    let arguments = [
        address(word.as_ptr()),
        libc::FUTEX_WAKE as usize,
        i32::MAX as usize,
        0,
        0,
    ];
    // A wake-up that is lost is waited for in vain. Where none can be had at all, neither is there a way to sleep.
    for _ in 0..3 {
        if call(libc::SYS_futex, arguments) >= 0 {
            break;
        }
    }
}

/// Waits while the word has this value (futex(2)).
pub(crate) fn wait_while(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) == value {
        let arguments = [
            address(word.as_ptr()),
            libc::FUTEX_WAIT as usize,
            value as usize,
            0,
            0,
        ];
        call(libc::SYS_futex, arguments);
    }
}

/// Waits until the kernel has cleared the word, as it does at the end of a thread (set_tid_address(2)).
pub(crate) fn wait_until_ended(running: &AtomicU32) {
    loop {
        match running.load(Ordering::Acquire) {
            0 => return,
            value => wait_while(running, value),
        }
    }
}
