//! Removing: names, images without one, and what nothing leads to any more.
//!
//! What is used is found by looking at what is there, not by counting: the names in index.json, the records of images that lie elsewhere, and
//! the locks of those that run.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::intake::open_directory;
use super::layers::diff_id_of;
use super::layout::{Entry, Layout};
use super::lock::{Lock, flock};
use super::used::Used;
use super::{Ownership, Store, hold, record};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::unpack::remove;

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    /// Blobs, by their digests.
    pub blobs: Vec<Digest>,
    /// Unpacked layers, by the digests of their tar streams.
    pub layers: Vec<Digest>,
    /// Bytes of the blobs and of the files of the layers.
    pub bytes: u64,
    /// Content is arriving in the store, so that nothing but names was removed: what it may need is not known yet. The next pruning
    /// finds it.
    pub deferred: bool,
}

/// What else goes when a store is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Only what the entries that are removed led to, and nothing else does.
    Entries,
    /// Everything that nothing leads to.
    Unused,
    /// Also the unpacked layers of images that lie elsewhere, which the next run of them unpacks again.
    Elsewhere,
}

impl Store {
    /// Removes the entries of index.json that `choose` picks, then what is needed by nobody else. Of layers that a sandbox runs on, only
    /// the blobs go; `keep` names directories of layers that are needed though nobody runs on them now.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be removed; what `choose` returns.
    pub fn remove(
        &self,
        extent: Extent,
        keep: &BTreeSet<PathBuf>,
        choose: impl FnOnce(&[Descriptor]) -> Result<Vec<Descriptor>>,
    ) -> Result<Removed> {
        let mut removed = Removed::default();
        let Some(layout) = self.layout()? else {
            choose(&[])?;
            if extent != Extent::Entries {
                let nothing = Used::default();
                self.remove_layers(&nothing, None, (extent, keep), &mut removed)?;
            }
            return Ok(removed);
        };
        let partial = self.made("partial")?;
        let session = open_directory(&partial)?;
        let alone = match flock(&session, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::AGAIN) => false,
            Err(e) => return Err(Error::io("take the lock of", &partial, e)),
        };
        layout.edit_then(
            |entries| {
                let all: Vec<Descriptor> = entries
                    .iter()
                    .map(|entry| entry.descriptor.clone())
                    .collect();
                let gone = choose(&all)?;
                let mut before = Used::default();
                for entry in &gone {
                    before.add(&layout, entry);
                }
                entries.retain(|entry: &Entry| !gone.contains(&entry.descriptor));
                Ok(before)
            },
            // The names are gone before what they led to, and nothing gets one meanwhile.
            |entries, before| {
                if !alone {
                    removed.deferred = true;
                    return Ok(());
                }
                let mut after = Used::default();
                for entry in entries {
                    after.add(&layout, &entry.descriptor);
                }
                let candidates = (extent == Extent::Entries).then_some(before);
                remove_blobs(&layout, &after, candidates, &mut removed)?;
                self.remove_layers(&after, candidates, (extent, keep), &mut removed)?;
                if extent != Extent::Entries {
                    sweep_partial(&partial, &session)?;
                }
                Ok(())
            },
        )?;
        Ok(removed)
    }

    fn remove_layers(
        &self,
        used: &Used,
        candidates: Option<&Used>,
        (extent, keep): (Extent, &BTreeSet<PathBuf>),
        removed: &mut Removed,
    ) -> Result<()> {
        let elsewhere = record::elsewhere(
            &self.dir.join("records"),
            extent != Extent::Entries,
            extent != Extent::Elsewhere,
        );
        for ownership in [Ownership::Caller, Ownership::Kept] {
            let dir = self.dir.join(ownership.directory());
            let Ok(fd) = open_directory(&dir) else {
                continue;
            };
            for name in names(&dir)? {
                let wanted = candidates.is_none_or(|candidates| candidates.layers.contains(&name));
                let needed = used.layers.contains(&name)
                    || elsewhere.contains(&name)
                    || keep.contains(&dir.join(&name));
                if !wanted || needed {
                    continue;
                }
                if let Some(diff_id) = remove_layer(&dir, &fd, &name)? {
                    let size = self.known_size(diff_id);
                    removed.bytes += size.unwrap_or(0);
                    if !removed.layers.contains(&diff_id) {
                        removed.layers.push(diff_id);
                    }
                }
            }
        }
        for diff_id in &removed.layers {
            let _ = std::fs::remove_file(self.dir.join("sizes").join(diff_id.hex()));
        }
        Ok(())
    }

    /// Whether every layer of an image is in use by somebody who runs.
    pub fn is_running(&self, entry: &Descriptor) -> Result<bool> {
        let Some(layout) = self.layout()? else {
            return Ok(false);
        };
        let mut used = Used::default();
        used.add(&layout, entry);
        Ok([Ownership::Caller, Ownership::Kept]
            .iter()
            .any(|ownership| {
                let dir = self.dir.join(ownership.directory());
                let mut unpacked = used
                    .layers
                    .iter()
                    .map(|name| dir.join(name))
                    .filter(|path| path.exists())
                    .peekable();
                unpacked.peek().is_some()
                    && unpacked.all(|path| matches!(hold::seize(&path), Ok(None)))
            }))
    }

    pub(crate) fn known_size(&self, diff_id: Digest) -> Option<u64> {
        let text = std::fs::read_to_string(self.dir.join("sizes").join(diff_id.hex())).ok()?;
        text.parse().ok()
    }
}

fn remove_blobs(
    layout: &Layout,
    used: &Used,
    candidates: Option<&Used>,
    removed: &mut Removed,
) -> Result<()> {
    let all = match candidates {
        Some(candidates) => candidates.blobs.clone(),
        None => layout.blobs()?,
    };
    for &digest in all.difference(&used.blobs) {
        if let Some(size) = layout.remove(digest)? {
            removed.blobs.push(digest);
            removed.bytes += size;
        }
    }
    Ok(())
}

/// Removes an unpacked layer that nobody runs on; its diff-id if it was removed.
fn remove_layer(dir: &Path, fd: &OwnedFd, name: &str) -> Result<Option<Digest>> {
    let Some(diff_id) = diff_id_of(Path::new(name)) else {
        return Ok(None);
    };
    let shared = diff_id.hex();
    let fail = |e: Errno| Error::io("remove the layer", &dir.join(name), e);
    let Ok(lock) = Lock::take(fd, dir, &shared, FlockOperation::NonBlockingLockExclusive) else {
        return Ok(None);
    };
    let seized = match hold::seize(&dir.join(name)) {
        Ok(seized) => seized,
        Err(Errno::NOENT) => None,
        Err(e) => return Err(fail(e)),
    };
    let mut result = Ok(None);
    if seized.is_some() {
        // Under the name of what is half unpacked: a crash in between leaves it to be swept.
        let part = format!(".{shared}.part");
        result = remove::tree(fd.as_fd(), part.as_bytes())
            .and_then(|()| rustix::fs::renameat(fd, name, fd, &part))
            .and_then(|()| remove::tree(fd.as_fd(), part.as_bytes()))
            .map_err(fail)
            .map(|()| Some(diff_id));
    }
    if matches!(result, Ok(Some(_))) {
        let _ = rustix::fs::unlinkat(fd, format!("{name}.notes"), AtFlags::empty());
    }
    lock.remove(fd);
    result
}

/// The directories of layers in a directory.
fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect())
}

/// Removes what is left of blobs that did not arrive. Nothing is arriving now.
fn sweep_partial(dir: &Path, fd: &OwnedFd) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    for entry in entries.flatten() {
        rustix::fs::unlinkat(fd, entry.file_name(), AtFlags::empty())
            .map_err(|e| Error::io("remove", &entry.path(), e))?;
    }
    Ok(())
}
