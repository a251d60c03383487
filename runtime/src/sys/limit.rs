//! Resource limits and processors.

use nix::Result;
use nix::errno::Errno;

use super::done;

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
