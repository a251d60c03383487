//! The root file system: an overlay of layers, or an empty tmpfs, attached on top of the host's root until pivot_root.
//!
//! It is attached before anything is mounted in it, as some kernels refuse mounts in a detached tree.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat, stat};
use nix::unistd::fchdir;

use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::mount::{FdPath, attribute};
use crate::prepare::{PreparedFile, PreparedRoot, PreparedScratch, PreparedUpper};
use crate::{readback, sys};

/// Trees of the root that the supervisor opened: the layers' directory, and the writable layer's.
#[derive(Default)]
pub(crate) struct RootTrees {
    pub(crate) base: Option<OwnedFd>,
    pub(crate) upper: Option<OwnedFd>,
}

impl PreparedRoot {
    /// The host directories that the supervisor opens where PID 1 lacks the caller's rights: base, then upper.
    pub(crate) fn tree_requests(&self) -> impl Iterator<Item = &CStr> {
        let (base, upper) = match self {
            Self::Callers | Self::Tmpfs { .. } => (None, None),
            Self::Overlay {
                base,
                upper: PreparedUpper::Tmpfs(_),
                ..
            } => (Some(base), None),
            Self::Overlay {
                base,
                upper: PreparedUpper::Directory(upper),
                ..
            } => (Some(base), Some(upper)),
        };
        base.into_iter().chain(upper).map(CString::as_c_str)
    }
}

/// Makes and attaches the root; returns a descriptor on it. `unused_sys` says that PID 1 will open nothing below the host's
/// /sys, so that it may be covered.
pub(crate) fn attach<'p>(
    root: &'p PreparedRoot,
    files: &'p [PreparedFile],
    trees: &mut RootTrees,
    unused_sys: bool,
) -> Result<Attached, Failure<'p>> {
    match root {
        // There is no mount namespace to attach anything in.
        PreparedRoot::Callers => Err(Failure {
            step: Step::AttachRoot,
            errno: Errno::EINVAL,
            subject: c"(the caller's own)",
        }),
        PreparedRoot::Tmpfs { scratch, .. } => Ok(Attached {
            root: attach_mount(tmpfs(scratch, c"0755")?)?,
            has_etc_files: false,
            outside: None,
        }),
        PreparedRoot::Overlay {
            base,
            lower,
            joined,
            etc,
            upper,
        } => {
            let mut outside = None;
            let upper = match upper {
                PreparedUpper::Tmpfs(scratch) => {
                    let made = make_scratch(scratch)?;
                    outside = Some(open_to_all(made.fd.as_fd())?);
                    made
                }
                PreparedUpper::Directory(path) => open_directory(path, trees.upper.take())?,
            };
            let base = open_directory(base, trees.base.take())?;
            let has_etc_files = match etc_mode(base.fd.as_fd(), etc) {
                Some(mode) => place_etc_files(upper.fd.as_fd(), mode, files)?,
                None => false,
            };
            let overlay = overlay(&base, lower, joined, &upper, unused_sys)?;
            Ok(Attached {
                root: attach_mount(overlay)?,
                has_etc_files,
                outside,
            })
        }
    }
}

/// The attached root.
pub(crate) struct Attached {
    pub(crate) root: OwnedFd,
    /// The files of [`in_etc`] are there already.
    pub(crate) has_etc_files: bool,
    /// A directory for everybody in a file system that no path leads to, if one was made anyway.
    pub(crate) outside: Option<OwnedFd>,
}

/// Whether a file lies directly in /etc, as all that palisade itself writes does.
pub(crate) fn in_etc(file: &PreparedFile) -> bool {
    matches!(file.path.parents.as_slice(), [parent] if parent.as_c_str() == c"etc")
}

/// Permission bits of the directory /etc that the layers show, or of a new one; none if it is no directory.
fn etc_mode(base: BorrowedFd<'_>, etc: &[CString]) -> Option<u32> {
    for path in etc {
        match fstatat(base, path.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Err(_) => return None,
            Ok(status) => {
                let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
                // A character device is a whiteout here: nothing beneath it shows.
                return match kind {
                    SFlag::S_IFDIR => Some(status.st_mode & 0o777 | 0o700),
                    SFlag::S_IFCHR => Some(0o755),
                    _ => None,
                };
            }
        }
    }
    Some(0o755)
}

/// Writes files of /etc into the upper directory before it becomes part of the overlay: that needs no copy of the
/// directory, and works where the image's own /etc belongs to somebody else. False if /etc is there already.
fn place_etc_files<'p>(
    upper: BorrowedFd<'_>,
    mode: u32,
    files: &'p [PreparedFile],
) -> Result<bool, Failure<'p>> {
    match mkdirat(upper, c"upper/etc", Mode::from_bits_truncate(mode)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(false),
        Err(errno) => {
            return Err(Failure {
                step: Step::File,
                errno,
                subject: c"/etc",
            });
        }
    }
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let etc = openat(upper, c"upper/etc", directory, Mode::empty()).or_fail(Step::File, c"/etc")?;
    for file in files.iter().filter(|file| in_etc(file)) {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let subject = file.path.path.as_c_str();
        let opened = openat(
            &etc,
            file.path.name(),
            flags,
            Mode::from_bits_truncate(file.mode),
        )
        .or_fail(Step::File, subject)?;
        file.write_to(opened.as_fd()).or_fail(Step::File, subject)?;
    }
    Ok(true)
}

/// A directory that the overlay is made of.
struct Part {
    fd: OwnedFd,
    origin: Origin,
}

/// Where a [`Part`] comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A directory of the mount tree.
    Path,
    /// A detached mount made in this mount namespace.
    Here,
    /// A detached mount that the supervisor made.
    Supervisor,
}

/// The directory at `path`, or the tree that the supervisor has opened for it.
fn open_directory(path: &CStr, tree: Option<OwnedFd>) -> Result<Part, Failure<'_>> {
    if let Some(fd) = tree {
        let origin = Origin::Supervisor;
        return Ok(Part { fd, origin });
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty()).or_fail(Step::Overlay, path)?;
    let origin = Origin::Path;
    Ok(Part { fd, origin })
}

/// An in-memory file system with the two directories that an overlay writes to.
fn make_scratch(scratch: &PreparedScratch) -> Result<Part, Failure<'_>> {
    let fd = tmpfs(scratch, c"0700")?;
    for name in [c"upper", c"work"] {
        mkdirat(&fd, name, Mode::from_bits_truncate(0o755)).or_fail(Step::Scratch, name)?;
    }
    let origin = Origin::Here;
    Ok(Part { fd, origin })
}

/// A directory beside those two, which everybody may write to who has a descriptor of it.
fn open_to_all(scratch: BorrowedFd<'_>) -> Result<OwnedFd, Failure<'static>> {
    let (name, flags) = (
        c"outside",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
    );
    mkdirat(scratch, name, Mode::from_bits_truncate(0o777))
        .and_then(|()| openat(scratch, name, flags, Mode::empty()))
        .or_fail(Step::Scratch, name)
}

fn tmpfs<'p>(scratch: &'p PreparedScratch, mode: &CStr) -> Result<OwnedFd, Failure<'p>> {
    let make = || -> nix::Result<OwnedFd> {
        let context = sys::fsopen(c"tmpfs")?;
        sys::fsconfig_string(context.as_fd(), c"size", &scratch.size)?;
        if let Some(inodes) = &scratch.inodes {
            sys::fsconfig_string(context.as_fd(), c"nr_inodes", inodes)?;
        }
        sys::fsconfig_string(context.as_fd(), c"mode", mode)?;
        sys::fsconfig_create(context.as_fd())?;
        sys::fsmount(context.as_fd(), attribute::NOSUID | attribute::NODEV)
    };
    make().or_fail(Step::Scratch, &scratch.size)
}

fn attach_mount(mount: OwnedFd) -> Result<OwnedFd, Failure<'static>> {
    attach_here(mount.as_fd())?;
    Ok(mount)
}

/// Attaches the supervisor's tree where it goes with the host's: a mount over "/" would need an unmount of its own, which
/// waits for every CPU.
fn attach_aside(mount: BorrowedFd<'_>) -> bool {
    sys::move_mount_to_path(mount, AT_FDCWD, c"/sys").is_ok()
}

fn attach_here(mount: BorrowedFd<'_>) -> Result<(), Failure<'static>> {
    sys::move_mount_to_path(mount, AT_FDCWD, c"/").or_fail(Step::AttachRoot, c"")
}

/// An overlay of `lower`, topmost first, named relative to `base`. `userxattr` is what an unprivileged mounter may use
/// (kernel documentation, filesystems/overlayfs); layers are unpacked for it.
///
/// Linux takes detached mounts of this namespace since 6.15 and layers one at a time since 6.5; before, mounts must be
/// attached, and layers named in one string. Trees that came from the supervisor are always attached.
fn overlay<'p>(
    base: &Part,
    lower: &'p [CString],
    joined: &'p CStr,
    upper: &Part,
    unused_sys: bool,
) -> Result<OwnedFd, Failure<'p>> {
    let subject = lower.first().map_or(c"", |first| first.as_c_str());
    let mut covering = 0;
    let mut attach = |part: &Part, origin| -> Result<(), Failure<'static>> {
        if part.origin == origin && !(unused_sys && attach_aside(part.fd.as_fd())) {
            attach_here(part.fd.as_fd())?;
            covering += 1;
        }
        Ok(())
    };
    attach(base, Origin::Supervisor)?;
    attach(upper, Origin::Supervisor)?;
    let mut made = overlay_of(base, Layers::Each(lower), upper);
    if made.as_ref().err() == Some(&Errno::EINVAL) {
        attach(upper, Origin::Here)?;
        made = overlay_of(base, Layers::Each(lower), upper);
    }
    if made.as_ref().err() == Some(&Errno::EINVAL) {
        made = overlay_of(base, Layers::Joined(joined), upper);
    }
    // The overlay holds its layers by itself. A mount left between it and the host's root would take the one unmount of
    // `pivot` for itself, and the host's tree would stay in sight as "/..".
    for _ in 0..covering {
        umount2(c"/", MntFlags::MNT_DETACH).or_fail(Step::AttachRoot, c"(layers)")?;
    }
    made.or_fail(Step::Overlay, subject)
}

/// How lower directories are named to the kernel.
#[derive(Clone, Copy)]
enum Layers<'p> {
    Each(&'p [CString]),
    Joined(&'p CStr),
}

fn overlay_of(base: &Part, layers: Layers<'_>, upper: &Part) -> nix::Result<OwnedFd> {
    let context = sys::fsopen(c"overlay")?;
    let context = context.as_fd();
    fchdir(&base.fd)?;
    match layers {
        Layers::Each(lower) => {
            for layer in lower {
                sys::fsconfig_string(context, c"lowerdir+", layer)?;
            }
        }
        Layers::Joined(lower) => sys::fsconfig_string(context, c"lowerdir", lower)?,
    }
    for (key, name) in [(c"upperdir", "/upper"), (c"workdir", "/work")] {
        let path = FdPath::with_name(upper.fd.as_fd(), name);
        sys::fsconfig_string(context, key, path.as_c_str())?;
    }
    sys::fsconfig_flag(context, c"userxattr")?;
    sys::fsconfig_create(context)?;
    sys::fsmount(context, attribute::NOSUID | attribute::NODEV)
}

/// Makes `root` the root directory and lets go of the host's whole tree. The working directory is the new root.
/// Returns what it is.
pub(crate) fn pivot(root: BorrowedFd<'_>) -> Result<readback::Place, Failure<'static>> {
    fchdir(root).or_fail(Step::PivotRoot, c"")?;
    sys::pivot_root_here().or_fail(Step::PivotRoot, c"")?;
    // "." now has the old root stacked on it (pivot_root(2), "pivot_root(".", ".")").
    umount2(c".", MntFlags::MNT_DETACH).or_fail(Step::PivotRoot, c"(the host's tree)")?;
    // Whatever was still mounted on the root would be what "/.." leads to.
    let above = stat(c"/..").or_fail(Step::PivotRoot, c"/..")?;
    let root = fstat(root).or_fail(Step::PivotRoot, c"/")?;
    if readback::place(&above) != readback::place(&root) {
        return Err(Failure {
            step: Step::PivotRoot,
            errno: Errno::EBUSY,
            subject: c"(the host's tree is still there)",
        });
    }
    Ok(readback::place(&root))
}
