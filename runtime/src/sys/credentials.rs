//! Capabilities, ids and process flags.

use libc::{c_int, c_ulong};
use nix::Result;
use nix::errno::Errno;

use super::done;

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
