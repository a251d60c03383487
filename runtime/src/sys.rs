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
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_long, c_uint, c_ulong};
use nix::Result;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use palisade_policies::Instruction;

pub(crate) mod direct;
pub(crate) mod message;
mod stack;

pub(crate) use message::MOST_DESCRIPTORS;
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

/// open_tree(2).
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: c_uint) -> Result<OwnedFd> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags | libc::O_CLOEXEC as c_uint,
        )
    })
}

/// move_mount(2) of the mount behind `mount` onto what `target` refers to.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    const BOTH_BY_FD: c_uint = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty static strings.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            BOTH_BY_FD,
        )
    })
}

/// move_mount(2) of the mount behind `mount` onto a path, relative to `directory`.
pub(crate) fn move_mount_to_path(
    mount: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    target: &CStr,
) -> Result<()> {
    // SAFETY: the paths are NUL-terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            directory.as_raw_fd(),
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;

/// Attributes for mount_setattr(2), as in linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// mount_setattr(2) on the mount behind `mount`, with `AT_RECURSIVE` where `flags` says so.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    flags: c_int,
    attributes: &MountAttributes,
) -> Result<()> {
    mount_setattr_at(
        mount.as_raw_fd(),
        c"",
        flags | libc::AT_EMPTY_PATH,
        attributes,
    )
}

/// Makes every mount below `/` private (mount_namespaces(7)).
pub(crate) fn make_all_private() -> Result<()> {
    let attributes = MountAttributes {
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    mount_setattr_at(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &attributes)
}

fn mount_setattr_at(
    dir: RawFd,
    path: &CStr,
    flags: c_int,
    attributes: &MountAttributes,
) -> Result<()> {
    // SAFETY: path and attributes outlive the call, and the size is that of the structure.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags as c_uint,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    })
}

/// fsopen(2).
pub(crate) fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    // SAFETY: `kind` is NUL-terminated; 1 is FSOPEN_CLOEXEC.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })
}

/// fsconfig(2) with a key and a string.
pub(crate) fn fsconfig_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    // SAFETY: key and value are NUL-terminated; 1 is FSCONFIG_SET_STRING.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            1,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    })
}

/// fsconfig(2) with a key alone.
pub(crate) fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    // SAFETY: key is NUL-terminated; 0 is FSCONFIG_SET_FLAG, which takes no value.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            0,
            key.as_ptr(),
            0,
            0,
        )
    })
}

/// fsconfig(2): makes the superblock.
pub(crate) fn fsconfig_create(context: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: 6 is FSCONFIG_CMD_CREATE, which takes neither key nor value.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 6, 0, 0, 0) })
}

/// fsmount(2): a detached mount with these attributes.
pub(crate) fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    // SAFETY: 1 is FSMOUNT_CLOEXEC.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            1,
            attributes as c_uint,
        )
    })
}

/// pivot_root(2) with the working directory as both the new root and the place of the old one.
pub(crate) fn pivot_root_here() -> Result<()> {
    // SAFETY: both paths are static strings.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

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

/// The three 64-bit sets of capset(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// capset(2) for the calling thread.
pub(crate) fn capset(sets: CapabilitySets) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let CapabilitySets {
        effective: e,
        permitted: p,
        inheritable: i,
    } = sets;
    let data: [u32; 6] = [low(e), low(p), low(i), high(e), high(p), high(i)];
    // SAFETY: header and data have the layout of struct __user_cap_header and two struct __user_cap_data.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

/// prctl(2) with integer arguments only.
pub(crate) fn prctl(option: c_int, a: c_ulong, b: c_ulong) -> Result<c_int> {
    // SAFETY: the options used here take integers; unused arguments must be zero.
    Errno::result(unsafe { libc::prctl(option, a, b, 0 as c_ulong, 0 as c_ulong) })
}

/// Loads a seccomp filter for the calling thread (seccomp(2)).
pub(crate) fn seccomp_load(program: &[Instruction]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: Instruction has the layout of struct sock_filter, and the kernel only reads `len` of them.
    done(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
}

/// Loads a seccomp filter that asks a listener, and returns the listener (seccomp_unotify(2)). EBUSY where this process has
/// one already, of whoever runs palisade.
pub(crate) fn seccomp_load_listening(program: &[Instruction]) -> Result<OwnedFd> {
    // Since Linux 5.19: once the question is read, no signal but a deadly one interrupts the call, to be asked about again.
    const WAIT_KILLABLE_RECV: c_ulong = 1 << 5;
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    let load = |flags: c_ulong| {
        // SAFETY: Instruction has the layout of struct sock_filter, and the kernel only reads `len` of them.
        descriptor(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        })
    };
    match load(WAIT_KILLABLE_RECV) {
        Err(Errno::EINVAL) => load(0),
        result => result,
    }
}

/// SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND of linux/seccomp.h.
const NOTIF_RECV: c_ulong = 0xc050_2100;
const NOTIF_SEND: c_ulong = 0xc018_2101;

/// The next question of a seccomp listener; waits for one.
pub(crate) fn seccomp_receive(listener: BorrowedFd<'_>) -> Result<libc::seccomp_notif> {
    // SAFETY: plain data; the kernel wants it zeroed.
    let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request's size is the structure's.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut question) })?;
    Ok(question)
}

/// Answers a question: the call fails with `errno`.
pub(crate) fn seccomp_answer(listener: BorrowedFd<'_>, id: u64, errno: c_int) -> Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: the request's size is the structure's.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut answer) })
        .map(drop)
}

/// landlock_create_ruleset(2) attributes, as in linux/landlock.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LandlockRuleset {
    pub(crate) handled_access_fs: u64,
    pub(crate) handled_access_net: u64,
    pub(crate) scoped: u64,
}

/// landlock_create_ruleset(2). `size` is how much of the structure the running kernel knows.
pub(crate) fn landlock_create_ruleset(ruleset: &LandlockRuleset, size: usize) -> Result<OwnedFd> {
    // SAFETY: the structure outlives the call and `size` is at most its size.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(ruleset),
            size.min(size_of::<LandlockRuleset>()),
            0,
        )
    })
}

/// landlock_add_rule(2) for everything beneath `path`.
pub(crate) fn landlock_add_path(
    ruleset: BorrowedFd<'_>,
    path: BorrowedFd<'_>,
    access: u64,
) -> Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent_fd: i32,
    }
    let rule = PathBeneath {
        allowed_access: access,
        parent_fd: path.as_raw_fd(),
    };
    // SAFETY: the structure has the kernel's packed layout; 1 is LANDLOCK_RULE_PATH_BENEATH.
    done(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            1,
            &raw const rule,
            0,
        )
    })
}

/// landlock_restrict_self(2).
pub(crate) fn landlock_restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes a descriptor and flags only.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
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

/// A resource limit of setrlimit(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rlimit {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// setrlimit(2).
pub(crate) fn setrlimit(limit: Rlimit) -> Result<()> {
    let value = libc::rlimit {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: `value` outlives the call.
    Errno::result(unsafe { libc::setrlimit(limit.resource, &raw const value) }).map(drop)
}

/// Most processors that a kernel is built for, in 64-bit words (`NR_CPUS`).
const CPU_WORDS: usize = 8192 / 64;

/// The processors that the calling thread may use, a bit each (sched_getaffinity(2)).
pub(crate) fn affinity() -> Result<[u64; CPU_WORDS]> {
    let mut mask = [0_u64; CPU_WORDS];
    // SAFETY: the kernel writes at most the size given.
    done(unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(&mask),
            mask.as_mut_ptr(),
        )
    })?;
    Ok(mask)
}

/// Keeps the calling thread and its later children on these processors (sched_setaffinity(2)).
pub(crate) fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads the size given.
    done(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })
}

/// getrlimit(2): soft and hard.
pub(crate) fn getrlimit(resource: u32) -> Result<(u64, u64)> {
    let mut value = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `value` outlives the call.
    Errno::result(unsafe { libc::getrlimit(resource, &raw mut value) })?;
    Ok((value.rlim_cur, value.rlim_max))
}

/// The signal that the calling process gets when its parent dies (prctl(2) PR_GET_PDEATHSIG).
pub(crate) fn parent_death_signal() -> Result<c_int> {
    let mut signal: c_int = 0;
    // SAFETY: the kernel writes an int.
    Errno::result(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) })?;
    Ok(signal)
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

/// Sets the supplementary groups (setgroups(2)) without a library's bookkeeping.
pub(crate) fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the slice is valid for its length.
    done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// setresgid(2) then setresuid(2) of this thread alone, as PID 1 has no other.
pub(crate) fn set_ids(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: takes integers only.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// setfsuid(2) and setfsgid(2) of this thread: the ids that file accesses go by. Neither call can report a failure.
pub(crate) fn set_file_ids(uid: u32, gid: u32) {
    // SAFETY: takes integers only.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
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

/// dup2(2) onto one of the three standard descriptors.
pub(crate) fn onto_standard(from: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    // SAFETY: replaces what 0, 1 or 2 refer to in this process, which is the purpose; no owner of them exists here.
    Errno::result(unsafe { libc::dup2(from.as_raw_fd(), number) }).map(drop)
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

/// What a program must see to first, before it opens anything: that 0, 1 and 2 are open, as a file that took the place of a
/// closed one would be written to by whoever says something (CVE-2002-0572); and that a reader who went away is an error
/// to handle, not the end of the process.
///
/// Ends the process where there is no /dev/null to put in the place of a closed descriptor.
pub fn begin() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD touches nothing but the flags of a descriptor, and no memory.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a C string.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            if opened != descriptor {
                exit_now(125);
            }
        }
    }
    // SAFETY: SIG_IGN is no handler that could run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Where this process's argument strings lie, one after the other (proc_pid_cmdline(5)).
static ARGUMENTS: (AtomicPtr<u8>, AtomicUsize) =
    (AtomicPtr::new(std::ptr::null_mut()), AtomicUsize::new(0));

/// glibc calls what is listed here before `main`, with main's arguments.
#[cfg(target_env = "gnu")]
#[used]
// SAFETY: the section holds pointers to functions of this type, and nothing else is put there.
#[unsafe(link_section = ".init_array")]
static REMEMBER_ARGUMENTS: extern "C" fn(c_int, *const *mut u8) = {
    extern "C" fn remember(count: c_int, words: *const *mut u8) {
        let Some(last) = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_sub(1))
        else {
            return;
        };
        // SAFETY: there are `count` words; the kernel has put their bytes one after the other (execve(2)).
        unsafe {
            let (first, last) = (*words, *words.add(last));
            let end = last.add(libc::strlen(last.cast_const().cast()) + 1);
            ARGUMENTS.0.store(first, Ordering::Relaxed);
            ARGUMENTS
                .1
                .store(end.addr() - first.addr(), Ordering::Relaxed);
        }
    }
    remember
};

/// Overwrites the arguments that this process shows in /proc: they name files of the host and values of variables, and
/// everybody in the sandbox may read those of its PID 1.
pub(crate) fn forget_arguments() {
    const SHOWN: &[u8] = b"palisade";
    let (first, length) = (
        ARGUMENTS.0.load(Ordering::Relaxed),
        ARGUMENTS.1.load(Ordering::Relaxed),
    );
    if first.is_null() {
        return;
    }
    // SAFETY: the strings lie in this process's own stack, which is writable; no reference to them is kept.
    unsafe {
        first.write_bytes(0, length);
        first.copy_from(SHOWN.as_ptr(), SHOWN.len().min(length - 1));
    }
}

/// How long a command runs before those who wait for it give memory back: for a shorter one that is lost time.
pub(crate) const SHORT_LIFE: TimeSpec = TimeSpec::new(1, 0);

/// Lets go of the pages of this program's code and constants (madvise(2) MADV_DONTNEED): they stay in the page cache, and
/// the few that are needed again are mapped again. A start touches most of the program, waiting for the end very little.
/// For whoever has waited for a second already: what has ended before that would only map the pages again.
pub fn release_program() {
    // SAFETY: the linker defines both names, for the first byte of the program and the first byte after its code; only
    // their addresses are used.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr() & !(PAGE - 1);
    let end = (&raw const etext).addr() & !(PAGE - 1);
    // SAFETY: the range holds only pages of the file that nobody has written to: relocated data lies behind the code. So
    // what is mapped again is what was there. Failure changes nothing.
    unsafe {
        libc::madvise(
            (&raw const __executable_start)
                .cast_mut()
                .cast::<libc::c_void>()
                .with_addr(start),
            end.saturating_sub(start),
            libc::MADV_DONTNEED,
        )
    };
}

/// Gives free memory of the heap back to the kernel (malloc_trim(3)).
pub(crate) fn trim_heap() {
    // SAFETY: takes an integer only; the allocator keeps its own books.
    unsafe { libc::malloc_trim(0) };
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

/// getcwd(2) as the kernel says it: the first byte of the path, which is `(` for a directory outside the root.
pub(crate) fn getcwd(buffer: &mut [u8]) -> Result<u8> {
    // SAFETY: the pointer is valid for the length given.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(length).map(|_| buffer[0])
}

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

/// landlock_create_ruleset(2) asked for the kernel's ABI version.
pub(crate) fn landlock_abi() -> Result<i32> {
    // SAFETY: no structure is passed; 1 is LANDLOCK_CREATE_RULESET_VERSION.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1,
        )
    })
    .map(|v| v as i32)
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
