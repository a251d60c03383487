//! Single operations on mounts, none of which allocates.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat, stat};

use super::options::attributes;
use super::{NewFilesystem, OPEN_TREE_CLONE};
use crate::Error;
use crate::control::Step;
use crate::failure::Failure;
use crate::sys::direct::mount;
use crate::sys::{self, MountAttributes};

/// What a missing target becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    File,
}

/// Makes an entry in the working directory, which is a file system that this set-up has just made.
pub(super) fn make_here(name: &CStr, missing: Missing) -> nix::Result<()> {
    let made = match missing {
        Missing::Directory => mkdirat(AT_FDCWD, name, Mode::from_bits_truncate(0o755)),
        Missing::File => mknodat(
            AT_FDCWD,
            name,
            SFlag::S_IFREG,
            Mode::from_bits_truncate(0o644),
            0,
        ),
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// A detached copy of a host tree with these attributes, private.
pub(crate) fn clone_tree(path: &CStr, recursive: bool, attributes: u64) -> nix::Result<OwnedFd> {
    let tree = clone_shared(path, recursive)?;
    set(tree.as_fd(), recursive, attributes)?;
    Ok(tree)
}

/// A detached copy of a host tree that is yet to become private: where the host's mounts are shared, as systemd makes them,
/// the copy is their peer, and what is mounted in the one is mounted in the other (mount_namespaces(7)).
pub(crate) fn clone_shared(path: &CStr, recursive: bool) -> nix::Result<OwnedFd> {
    let recursion = if recursive {
        libc::AT_RECURSIVE as u32
    } else {
        0
    };
    let host = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    sys::open_tree(
        host.as_fd(),
        c"",
        OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32 | recursion,
    )
}

/// Adds attributes to a mount, or to a whole tree of them, and makes it private.
pub(crate) fn set(mount: BorrowedFd<'_>, recursive: bool, attributes: u64) -> nix::Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(
        mount,
        flags,
        &MountAttributes {
            set: attributes,
            propagation: libc::MS_PRIVATE,
            ..MountAttributes::default()
        },
    )
}

/// Keeps a directory of the root as a mount of its own, which stays writable when the root becomes read-only.
pub(super) fn bind_onto_itself(target: BorrowedFd<'_>, flags: MsFlags) -> nix::Result<()> {
    let tree = sys::open_tree(target, c"", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32)?;
    let attributes = attributes(flags);
    if attributes != 0 {
        set(tree.as_fd(), false, attributes)?;
    }
    sys::move_mount(tree.as_fd(), target)
}

/// Makes sure that the host's null device is one, before anything is hidden behind it or given it for reading and writing.
///
/// # Errors
/// [`Error::Unsupported`] for anything else at that path, and what the kernel says if there is nothing.
pub(super) fn check_null_device() -> Result<(), Error> {
    let status = stat(c"/dev/null").map_err(|errno| Error::Setup {
        step: Step::Mask,
        subject: "/dev/null".to_owned(),
        errno,
    })?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    // The numbers are the kernel's own (Documentation/admin-guide/devices.txt).
    if kind == SFlag::S_IFCHR && status.st_rdev == makedev(1, 3) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "hiding files behind this machine's /dev/null".to_owned(),
        why: "it is not the null device (character device 1, 3); as root: rm /dev/null && mknod -m 666 /dev/null c 1 3"
            .to_owned(),
    })
}

/// Hides what is at `target`. The source is the host's own null device, never a file of the image (CVE-2025-31133), and
/// for a directory an empty read-only file system, or the directory `empty` that has been hidden by one already. An errno if
/// that fails.
fn cover(target: &CStr, empty: Option<&CStr>) -> Result<Hidden, i32> {
    let bind = |source| mount(Some(source), target, None, MsFlags::MS_BIND, None);
    match (bind(c"/dev/null"), empty) {
        (0, _) => Ok(Hidden::File),
        (libc::ENOTDIR, Some(empty)) => done(bind(empty)).map(|()| Hidden::Directory),
        (libc::ENOTDIR, None) => {
            let flags =
                MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let tmpfs = Some(c"tmpfs");
            done(mount(
                tmpfs,
                target,
                tmpfs,
                flags,
                Some(c"nr_inodes=2,mode=555"),
            ))
            .map(|()| Hidden::Directory)
        }
        (errno, _) => Err(errno),
    }
}

/// Hides what is at `target`.
pub(super) fn hide(target: &CStr) -> nix::Result<()> {
    cover(target, None).map(drop).map_err(Errno::from_raw)
}

/// What [`cover`] has hidden.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    File,
    Directory,
}

fn done(errno: i32) -> Result<(), i32> {
    if errno == 0 { Ok(()) } else { Err(errno) }
}

/// What a new procfs was to hide, or to show read-only, and could not.
pub(crate) struct Unhidden {
    /// Of the list of hidden paths, followed by that of read-only ones.
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

impl NewFilesystem {
    /// Hides what a new procfs, which is the working directory, is not to show, and makes read-only what it is not to
    /// change. Calls the kernel directly: see [`direct`](crate::sys::direct).
    pub(crate) fn hide_below_here(&self) -> Result<(), Unhidden> {
        let mut index = 0;
        let mut empty = None;
        for path in &self.masked {
            match cover(path, empty) {
                Ok(Hidden::Directory) => empty = Some(path.as_c_str()),
                Ok(Hidden::File) | Err(libc::ENOENT) => {}
                Err(errno) => return Err(Unhidden { index, errno }),
            }
            index += 1;
        }
        for path in &self.read_only {
            let onto_itself = MsFlags::MS_BIND | MsFlags::MS_REC;
            let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | self.flags;
            match done(mount(Some(path), path, None, onto_itself, None))
                .and_then(|()| done(mount(None, path, None, remount, None)))
            {
                Ok(()) | Err(libc::ENOENT) => {}
                Err(errno) => return Err(Unhidden { index, errno }),
            }
            index += 1;
        }
        Ok(())
    }

    /// Whether this is a procfs that shows less than all.
    pub(crate) fn hides(&self) -> bool {
        !(self.masked.is_empty() && self.read_only.is_empty())
    }

    /// The failure as the user is told of it.
    pub(crate) fn failure(&self, unhidden: &Unhidden) -> Failure<'_> {
        let index = unhidden.index as usize;
        let (step, path) = match self.masked.get(index) {
            Some(path) => (Step::Mask, Some(path)),
            None => (
                Step::ReadOnly,
                self.read_only.get(index - self.masked.len()),
            ),
        };
        Failure {
            step,
            errno: Errno::from_raw(unhidden.errno),
            subject: path.map_or(c"/proc", CString::as_c_str),
        }
    }
}

/// The path `/proc/self/fd/N` of a descriptor, for calls that take only paths.
pub(crate) struct FdPath([u8; 48]);

impl FdPath {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        Self::with_name(fd, "")
    }

    /// The path of `name`, which starts with a slash and is short, below a descriptor.
    pub(crate) fn with_name(fd: BorrowedFd<'_>, name: &str) -> Self {
        use std::io::Write as _;
        let mut path = [0; 48];
        // 48 bytes hold the prefix, ten digits and the short names that are used here.
        let _ = write!(&mut path[..47], "/proc/self/fd/{}{name}", fd.as_raw_fd());
        Self(path)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_descriptor_leads_to_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "here").expect("written");
        let path = FdPath::new(file.as_file().as_fd());
        assert_eq!(
            std::fs::read(path.as_c_str().to_str().expect("text")).expect("read"),
            b"here"
        );
    }
}
