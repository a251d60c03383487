//! The mounts of a sandbox: a list of operations in order. The order is the meaning.
//!
//! A target in the image's tree is resolved once, inside the root, to a descriptor, and mounted on through it. A target
//! directly below a file system that this set-up has just made (a new /dev) needs no such care: nobody else has put
//! anything there.

mod calls;
mod options;
mod steps;
mod tree;

use std::ffi::CString;

use nix::mount::MsFlags;
use oci_spec::runtime::LinuxIdMapping;

use crate::prepare::PreparedPath;

pub(crate) use calls::{FdPath, Unhidden, clone_shared, clone_tree, set};
pub(crate) use steps::{below_a_bind, devices, paths_outside_proc, steps};
pub(crate) use tree::{Tree, open_for_contents};

/// MOUNT_ATTR_* of linux/mount.h.
pub(crate) mod attribute {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const IDMAP: u64 = 0x10_0000;
}

/// OPEN_TREE_CLONE of linux/mount.h.
pub(crate) const OPEN_TREE_CLONE: u32 = 1;

/// One mount, ready to be made.
pub(crate) struct MountStep {
    /// The destination as the user knows it, for messages.
    pub(crate) destination: CString,
    target: PreparedPath,
    /// The earlier step whose new file system the target lies directly in.
    parent: Option<usize>,
    /// Whether later steps need a descriptor on what this one mounts.
    keep: bool,
    kind: Kind,
}

pub(super) enum Kind {
    /// A new file system.
    New(NewFilesystem),
    /// A part of the host's tree.
    Bind {
        source: Source,
        recursive: bool,
        attributes: u64,
        directory: bool,
    },
}

pub(crate) struct NewFilesystem {
    kind: CString,
    flags: MsFlags,
    data: CString,
    /// What the image has there stays visible.
    copy_up: bool,
    /// Becomes read-only after everything below it is made.
    read_only_late: bool,
    /// For proc: paths relative to it.
    masked: Vec<CString>,
    read_only: Vec<CString>,
}

/// Where a bind mount comes from.
pub(crate) enum Source {
    /// A host path that PID 1 opens.
    Path(CString),
    /// A tree that the supervisor has opened: its number in the list.
    Tree(TreeRequest),
}

/// A host tree for the supervisor to open, where PID 1 lacks the caller's rights.
pub(crate) struct TreeRequest {
    pub(crate) source: CString,
    pub(crate) map: Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>,
}

/// A device bound from the host's own.
pub(crate) struct Device {
    /// Absolute host path.
    pub(crate) source: CString,
    target: PreparedPath,
    parent: Option<usize>,
}

impl MountStep {
    /// Whether this puts a new file system on /dev.
    pub(crate) fn is_new_dev(&self) -> bool {
        matches!(self.kind, Kind::New(_)) && self.target.path.as_c_str() == c"dev"
    }

    fn is_new_devpts(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"devpts")
    }

    /// Whether this mounts an in-memory file system of its own size.
    pub(crate) fn is_tmpfs(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"tmpfs")
    }

    /// The new procfs that this mounts, if it is to show less than all.
    pub(crate) fn restricted_proc(&self) -> Option<&NewFilesystem> {
        match &self.kind {
            Kind::New(new) if new.hides() => Some(new),
            _ => None,
        }
    }

    /// Whether it is a new sysfs, which shows the network namespace of whoever mounts it (sysfs(5)).
    pub(crate) fn shows_network(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"sysfs")
    }

    /// Whether this puts a new procfs on /proc.
    pub(crate) fn is_proc(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"proc")
            && self.target.path.as_c_str() == c"proc"
    }

    /// What the supervisor has to open for this mount, with the attributes it must have.
    pub(crate) fn tree_request(&self) -> Option<(&TreeRequest, bool, u64)> {
        match &self.kind {
            Kind::Bind {
                source: Source::Tree(request),
                recursive,
                attributes,
                ..
            } => Some((request, *recursive, *attributes)),
            _ => None,
        }
    }
}
