//! Mounts, by descriptors (open_tree(2), fsopen(2), mount_setattr(2), pivot_root(2)).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_int, c_uint};
use nix::Result;

use super::{descriptor, done};

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
