//! The sandbox's own cgroup at /sys/fs/cgroup, read-only: runtimes such as Java's look for limits there and nowhere else.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::symlinkat;
use oci_spec::runtime::Spec;

use crate::Error;
use crate::cgroup::Cgroup;
use crate::mount::{OPEN_TREE_CLONE, Tree, attribute, clone_tree};
use crate::prepare::c_string;
use crate::sys;

/// Where it goes, relative to the root.
pub(super) const PLACE: &CStr = c"sys/fs/cgroup";
/// What leads there, each the directory of the next.
const LEADING: [&CStr; 3] = [c"sys", c"sys/fs", PLACE];

const READ_ONLY: u64 = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// The directories to show.
#[derive(Default)]
pub(super) struct Own {
    directories: Vec<Directory>,
    /// Names beside them, with what they lead to.
    links: Vec<(CString, CString)>,
}

struct Directory {
    source: CString,
    place: (u64, u64),
    /// Relative to the root: [`PLACE`] itself, or directly in it.
    target: CString,
}

impl Own {
    /// What is shown of `cgroup`: nothing where the spec has something of its own there.
    pub(super) fn new(cgroup: &Cgroup, spec: &Spec) -> Result<Self, Error> {
        let mounts = spec.mounts().iter().flatten();
        if mounts
            .into_iter()
            .any(|mount| mount.destination().starts_with("/sys/fs/cgroup"))
        {
            return Ok(Self::default());
        }
        let mut own = Self::default();
        for shown in cgroup.shown()? {
            let target = format!("sys/fs/cgroup/{}", shown.name);
            own.directories.push(Directory {
                source: c_string("cgroup", &shown.path)?,
                place: shown.place,
                target: c_string("cgroup", target.trim_end_matches('/'))?,
            });
            for link in shown.links {
                own.links.push((
                    c_string("cgroup", format!("sys/fs/cgroup/{link}"))?,
                    c_string("cgroup", &shown.name)?,
                ));
            }
        }
        Ok(own)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Whether there are several directories, for which there must be one to hold them.
    fn has_parts(&self) -> bool {
        self.directories
            .iter()
            .any(|d| d.target.as_c_str() != PLACE)
    }

    /// Makes the places for it in a file system, at the paths that they have in the sandbox.
    pub(super) fn make_places(&self, made: BorrowedFd<'_>) -> nix::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let listable = Mode::from_bits_truncate(0o555);
        let parts = self.directories.iter().map(|d| d.target.as_c_str());
        for path in LEADING.into_iter().chain(parts) {
            match mkdirat(made, path, listable) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        for (link, target) in &self.links {
            symlinkat(target.as_c_str(), made, link.as_c_str())?;
        }
        Ok(())
    }

    /// Mounts each at its place. `made` has the places and is not in the tree yet, unless `made_is_there`.
    pub(super) fn mount(
        &self,
        tree: &Tree<'_>,
        made: BorrowedFd<'_>,
        made_is_there: bool,
    ) -> nix::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        if !made_is_there && self.has_parts() {
            let Some(place) = open(tree, PLACE)? else {
                return Ok(());
            };
            let holder = sys::open_tree(made, PLACE, OPEN_TREE_CLONE)?;
            sys::move_mount(holder.as_fd(), place.as_fd())?;
        }
        for directory in &self.directories {
            let shown = match clone_tree(&directory.source, false, READ_ONLY) {
                // The host keeps it from whoever is not root: it is not the sandbox's to show.
                Err(Errno::EACCES) => continue,
                shown => shown?,
            };
            let status = fstat(&shown)?;
            if (status.st_dev, status.st_ino) != directory.place {
                return Err(Errno::ESTALE);
            }
            if let Some(target) = open(tree, &directory.target)? {
                sys::move_mount(shown.as_fd(), target.as_fd())?;
            }
        }
        Ok(())
    }
}

/// A place in the tree; none where a /sys of the user's own making has none.
fn open(tree: &Tree<'_>, path: &CStr) -> nix::Result<Option<std::os::fd::OwnedFd>> {
    match tree.open_without_links(path) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
