//! What a killed palisade has left behind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::directory::Directory;
use super::host::{Hierarchy, Host};
use super::place::name_of;
use super::unified::CALLER;
use super::{Error, Record, retry};

/// Removes the cgroups of sandboxes that nobody watches any more: those that have no process and that no [`super::Cgroup`] of
/// any process holds. Returns how many directories were removed.
///
/// It reads one directory per hierarchy, so it is for commands that look around, not for the start of a sandbox. Scopes of
/// systemd need none of this: systemd removes them with their last process.
///
/// # Errors
/// What the kernel says about reading where the hierarchies are. What cannot be removed is left.
pub fn remove_abandoned() -> Result<usize, Error> {
    remove_abandoned_but(|_| false)
}

/// The same without a look at the cgroups of sandboxes whose ids are known to be watched: of hundreds they cost the most.
///
/// # Errors
/// As for [`remove_abandoned`].
pub fn remove_abandoned_but(watched: impl Fn(&str) -> bool) -> Result<usize, Error> {
    // Between the making of a cgroup and its being held lies less than this.
    remove_older_than(Duration::from_secs(10), &watched)
}

pub(super) fn remove_older_than(
    age: Duration,
    watched: &dyn Fn(&str) -> bool,
) -> Result<usize, Error> {
    Ok(Host::find()?
        .hierarchies()
        .map(|hierarchy| sweep(hierarchy, age, watched))
        .sum())
}

fn sweep(hierarchy: &Hierarchy, age: Duration, watched: &dyn Fn(&str) -> bool) -> usize {
    let own = hierarchy
        .own
        .as_deref()
        .filter(|own| *own != hierarchy.root);
    let base = own.map(|own| {
        if own.ends_with(CALLER) {
            own.parent().unwrap_or(own)
        } else {
            own
        }
    });
    let mut removed = 0;
    for directory in [Some(hierarchy.root.as_path()), base].into_iter().flatten() {
        for path in entries(directory) {
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name
                .filter(|name| *name != CALLER)
                .and_then(|name| name.strip_prefix("palisade-"));
            if id.is_none_or(watched) {
                continue;
            }
            let made = path.metadata().and_then(|metadata| metadata.modified());
            let old = made.is_ok_and(|made| {
                SystemTime::now()
                    .duration_since(made)
                    .is_ok_and(|since| since >= age)
            });
            if old && remove(&path) {
                removed += 1;
            }
        }
    }
    removed
}

impl Record {
    /// Whether a killed supervisor of the sandbox `id` left something of this cgroup.
    #[must_use]
    pub fn is_left(&self, id: &str) -> bool {
        self.left(id).next().is_some()
    }

    /// Removes what a killed supervisor of the sandbox `id` left of this cgroup. What is held by somebody stays, and what has
    /// processes that do not end within `patience`: they die with their supervisor. What does not bear the sandbox's name is
    /// another's.
    pub fn remove_abandoned(&self, id: &str, patience: Duration) {
        let left: Vec<&Path> = self.left(id).collect();
        if left.is_empty() {
            return;
        }
        let Ok(host) = Host::find() else {
            return;
        };
        let until = Instant::now() + patience;
        for path in left {
            if is_below(path, &host) {
                remove_soon(path, until);
            }
        }
    }

    /// Those of its directories that are there and bear the name of the sandbox `id`.
    fn left(&self, id: &str) -> impl Iterator<Item = &Path> {
        let v1 = self.v1.iter().map(|(_, path)| path);
        let name = name_of(id);
        let all = self.unified.iter().chain(v1).map(PathBuf::as_path);
        all.filter(move |path| path.ends_with(&name) && path.exists())
    }
}

/// Whether a path names something of a mounted hierarchy without a detour: a record may have been written by another user,
/// with links of his own in its paths.
fn is_below(path: &Path, host: &Host) -> bool {
    host.hierarchies().any(|hierarchy| {
        path.strip_prefix(&hierarchy.root).is_ok_and(|inside| {
            inside
                .components()
                .all(|component| matches!(component, Component::Normal(_)))
        })
    })
}

/// [`remove`] for a cgroup whose last processes may be dying just now. What is gone is removed.
pub(super) fn remove_soon(path: &Path, until: Instant) -> bool {
    retry(until, || remove(path) || !path.exists())
}

/// rmdir refuses a cgroup that has processes, and the lock one that somebody holds.
fn remove(path: &Path) -> bool {
    let Some(directory) = Directory::open_abandoned(path) else {
        return false;
    };
    // Under v1 nothing frozen dies, not even of its death signal: then this goes at the next look. Only a v1 freezer has
    // the file.
    let _ = directory.write("freezer.state", "THAWED");
    for child in entries(path) {
        if child.is_dir() && !remove(&child) {
            return false;
        }
    }
    directory.remove().is_ok()
}

/// What is in a directory that can be read. The standard library's iterator would panic where closedir(3) fails.
fn entries(path: &Path) -> Vec<PathBuf> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut directory) = Dir::open(path, flags, Mode::empty()) else {
        return Vec::new();
    };
    directory
        .iter()
        .flatten()
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .map(|name| path.join(name))
        .collect()
}
