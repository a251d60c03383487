//! Removing a directory that a command could fill, by handle, whatever it holds.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes `path` and everything beneath it; success when it does not exist.
///
/// Nothing outside is reached: entries are removed by name in an opened directory, and no symbolic link is followed.
/// The tree may be as deep as it likes: a directory that is not empty is moved up beneath `path` and emptied there, so
/// there is neither recursion nor more than two open directories.
pub fn remove(path: &Path) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = Moved::default();
    empty(top.as_fd(), top.as_fd(), &mut moved)?;
    while let Some(name) = moved.waiting.pop_front() {
        let inner = openat(&top, name.as_c_str(), flags, Mode::empty())?;
        empty(inner.as_fd(), top.as_fd(), &mut moved)?;
        unlinkat(&top, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
    }
    unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}

/// Directories moved up and not yet emptied.
#[derive(Default)]
struct Moved {
    waiting: VecDeque<CString>,
    count: u64,
}

impl Moved {
    /// A name that nothing in `top` has.
    fn fresh(&mut self, top: BorrowedFd) -> CString {
        loop {
            self.count += 1;
            let name = CString::new(format!(".palisade-{}", self.count)).unwrap_or_default();
            if fstatat(top, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
                return name;
            }
        }
    }
}

/// Removes what is in `directory`; what is not empty goes to `top` and onto the list.
fn empty(directory: BorrowedFd, top: BorrowedFd, moved: &mut Moved) -> Result<(), Errno> {
    for name in names(directory)? {
        let name = name.as_c_str();
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {}
            // What POSIX has unlink say of a directory, and what some file systems do.
            Err(Errno::EPERM) if is_directory(directory, name) => {}
            other => {
                other?;
                continue;
            }
        }
        match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            other => {
                other?;
                continue;
            }
        }
        // To be moved, its own `..` changes; to be emptied, it is read and written.
        fchmodat(directory, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
        let fresh = moved.fresh(top);
        renameat(directory, name, top, fresh.as_c_str())?;
        moved.waiting.push_back(fresh);
    }
    Ok(())
}

fn is_directory(directory: BorrowedFd, name: &CStr) -> bool {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The entries of a directory without `.` and `..`. All at once: removing while reading may skip some (readdir(3)).
fn names(directory: BorrowedFd) -> Result<Vec<CString>, Errno> {
    let own = directory
        .try_clone_to_owned()
        .map_err(|error| Errno::try_from(error).unwrap_or(Errno::UnknownErrno))?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(own)?.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};

    use super::remove;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir(&top).unwrap();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut inner = open(&top, flags, Mode::empty()).unwrap();
        for _ in 0..5000 {
            mkdirat(&inner, "d", Mode::S_IRWXU).unwrap();
            inner = openat(&inner, "d", flags, Mode::empty()).unwrap();
        }
        drop(inner);
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_a_symbolic_link_points_to_stays() {
        let base = tempfile::tempdir().unwrap();
        let (top, outside) = (base.path().join("top"), base.path().join("outside"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        remove(&top).unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        symlink(&outside, &top).unwrap();
        assert!(remove(&top).is_err());
        assert!(outside.join("file").exists());
    }

    #[test]
    fn a_directory_that_forbids_everything_is_removed_by_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir_all(top.join("shut/inside")).unwrap();
        fs::write(top.join(".palisade-1"), "a name we would have taken").unwrap();
        fs::set_permissions(top.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_does_not_exist_is_removed_already() {
        let base = tempfile::tempdir().unwrap();
        remove(&base.path().join("nothing")).unwrap();
    }
}
