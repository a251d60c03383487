//! Processes: made, executed, signalled, waited for.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;
use nix::Result;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use super::{Stack, descriptor, done};

/// Which side of a clone this is.
pub(crate) enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

// Flags of linux/sched.h beyond 32 bits; the constants of the libc crate overflow.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) as a fork: the child runs on a copy of the caller's memory, with handlers reset to their defaults.
/// With `cgroup` the child starts inside that cgroup v2 directory.
///
/// The caller must have one thread, or the child may do only what is async-signal-safe.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut flags = flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: clone_args is plain data; all-zero is "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM and with no stack given this is fork: the child continues here on its own copy of memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match Errno::result(result)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: CLONE_PIDFD has stored a new descriptor that nobody else knows.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Runs `body` in a child that shares this process's memory while the caller stands still (clone(2) with CLONE_VM and
/// CLONE_VFORK), until the child has executed a program or ended. Returns the child's process id.
///
/// `body` must not return normally for success: it executes a program; what it returns is the exit status if that failed.
/// It may write only memory that the caller expects it to write, and must not unwind or allocate.
pub(crate) fn vfork<F: FnMut() -> c_int>(stack: &mut Stack, body: &mut F) -> Result<i32> {
    extern "C" fn enter<F: FnMut() -> c_int>(argument: *mut libc::c_void) -> c_int {
        // SAFETY: `argument` is the `&mut F` passed below; the parent is suspended, so nobody else uses it.
        let body = unsafe { &mut *argument.cast::<F>() };
        body()
    }
    // SAFETY: the child has a stack of its own, and the parent does not run until the child no longer uses this memory.
    let result = unsafe {
        libc::clone(
            enter::<F>,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            std::ptr::from_mut(body).cast(),
        )
    };
    Errno::result(result)
}

/// fork(2): none in the child, which runs on a copy of the caller's memory, the child's process id in the parent.
///
/// The caller must have one thread, or the child may do only what is async-signal-safe.
pub(crate) fn fork() -> Result<Option<i32>> {
    // SAFETY: with one thread the child's copy of memory is whole.
    match Errno::result(unsafe { libc::fork() })? {
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Ends this process at once, running no destructor and no exit handler.
pub(crate) fn exit_now(status: c_int) -> ! {
    // SAFETY: _exit(2) is always safe; it does not return.
    unsafe { libc::_exit(status) }
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no siginfo is passed.
    done(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) })
}

/// Waits for any child with `options`, as wait4(2): its process id, raw wait status and resource usage; no child state
/// to report is `Ok(None)`.
pub(crate) fn wait4(pid: i32, options: c_int) -> Result<Option<(i32, c_int, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: rusage is plain data.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    match Errno::result(unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) })? {
        0 => Ok(None),
        pid => Ok(Some((pid, status, usage))),
    }
}

/// Sets the default action for `signal`, also for those that the C library keeps to itself (rt_sigaction(2)).
pub(crate) fn reset_signal(signal: c_int) -> Result<()> {
    // The kernel's struct sigaction: handler, flags, restorer, mask. All zero is SIG_DFL.
    let default = [0_u64; 4];
    // SAFETY: the structure has the kernel's size; no handler of ours can run any more once the default is set.
    done(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            0,
            size_of::<u64>(),
        )
    })
}

/// The signal that the calling process gets when its parent dies (prctl(2) PR_GET_PDEATHSIG).
pub(crate) fn parent_death_signal() -> Result<c_int> {
    let mut signal: c_int = 0;
    // SAFETY: the kernel writes an int.
    Errno::result(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) })?;
    Ok(signal)
}

/// Executes `path` (execve(2)); returns only if that failed.
pub(crate) fn execve(path: &CStr, argv: &Pointers, envp: &Pointers) -> Errno {
    // SAFETY: both arrays are NULL-terminated and their strings live as long as they do.
    unsafe { libc::execve(path.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    Errno::last()
}

/// A NULL-terminated array of C strings that it owns.
pub(crate) struct Pointers(
    Vec<*const libc::c_char>,
    // What the pointers point to.
    Vec<std::ffi::CString>,
);

impl Pointers {
    pub(crate) fn new(strings: Vec<std::ffi::CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Self(pointers, strings)
    }

    pub(crate) fn strings(&self) -> &[std::ffi::CString] {
        &self.1
    }
}

/// Blocks every signal, and returns nothing of the old mask: the caller is a child about to replace it anyway.
pub(crate) fn block_all_signals() -> Result<()> {
    nix::sys::signal::SigSet::all().thread_set_mask()
}

/// Waits for the next pending signal of those blocked (sigtimedwait(2)); EAGAIN after `patience`.
pub(crate) fn next_signal(patience: Option<TimeSpec>) -> Result<c_int> {
    let all = nix::sys::signal::SigSet::all();
    let patience = patience
        .as_ref()
        .map_or(std::ptr::null(), |time| std::ptr::from_ref(time.as_ref()));
    // SAFETY: the set is valid, the time is valid or absent; no siginfo is asked for.
    Errno::result(unsafe {
        libc::sigtimedwait(
            std::ptr::from_ref(all.as_ref()),
            std::ptr::null_mut(),
            patience,
        )
    })
}

/// How long a command runs before those who wait for it give memory back: for a shorter one that is lost time.
pub(crate) const SHORT_LIFE: TimeSpec = TimeSpec::new(1, 0);

/// kill(2); a process that has ended is fine.
pub(crate) fn kill(pid: i32, signal: c_int) {
    // SAFETY: takes integers only.
    let _ = unsafe { libc::kill(pid, signal) };
}

/// Whether the calling process may signal process `pid` (kill(2) with signal 0).
pub(crate) fn may_signal(pid: i32) -> Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::kill(pid, 0) }).map(drop)
}
