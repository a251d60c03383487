//! seccomp and Landlock.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use libc::{c_int, c_ulong};
use nix::Result;
use nix::errno::Errno;
use palisade_policies::Instruction;

use super::{descriptor, done};

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
