//! Which in-memory file systems had no room left when the command failed: ENOSPC itself is seen by the command alone.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::mount::MountStep;

/// Writes the names of the full ones into `buffer`, each with a NUL behind it, as many as fit, and returns what it wrote.
///
/// Called by PID 1, with the sandbox's root as its root. It asks no file system but tmpfs and the root: another one, such
/// as a network's, may not answer.
pub(crate) fn look<'b>(mounts: &[MountStep], buffer: &'b mut [u8]) -> &'b [u8] {
    let mut length = 0;
    let sized = mounts
        .iter()
        .filter(|step| step.is_tmpfs())
        .map(|step| step.destination.as_c_str());
    for path in std::iter::once(c"/").chain(sized) {
        let name = path.to_bytes_with_nul();
        if is_full(path)
            && let Some(place) = buffer.get_mut(length..length + name.len())
        {
            place.copy_from_slice(name);
            length += name.len();
        }
    }
    &buffer[..length]
}

/// The names that [`look`] wrote.
pub(crate) fn names(text: &[u8]) -> Vec<String> {
    text.split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// Whether no block, or no inode, is left. What cannot be asked, or is read-only, is not said to be full.
fn is_full(path: &CStr) -> bool {
    let Ok(state) = open(path).and_then(fstatvfs) else {
        return false;
    };
    // A size or number of inodes of 0 is no bound (tmpfs(5)).
    let none_left = |all, left| all > 0 && left == 0;
    !state.flags().contains(FsFlags::ST_RDONLY)
        && (none_left(state.blocks(), state.blocks_available())
            || none_left(state.files(), state.files_available()))
}

/// The command may have put a symbolic link where a parent directory was: none is followed.
fn open(path: &CStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::from_bits_retain(libc::O_PATH | libc::O_CLOEXEC))
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_written() {
        assert_eq!(names(b"/\0/tmp\0"), ["/", "/tmp"]);
        assert!(names(b"").is_empty());
    }

    #[test]
    fn what_has_room_or_does_not_exist_is_not_full() {
        assert!(!is_full(c"/proc"));
        assert!(!is_full(c"/nonexistent"));
    }
}
