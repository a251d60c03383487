//! The unpacked layers of a store: found, or unpacked once however many processes want them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::hold::Hold;
use super::lock::Lock;
use super::stack::{Stack, Work};
use super::{Ownership, open_own, record};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::source::{Place, SourceLayer};
use crate::unpack::{self, Beneath, Blob, Failure, How, Limits, remove};

/// A directory of layers.
pub(crate) struct Layers {
    dir: PathBuf,
    sizes: PathBuf,
    fd: OwnedFd,
    ownership: Ownership,
    limits: Limits,
}

/// What names a layer's directory.
struct Names {
    /// For a tree that is right anywhere.
    shared: String,
    /// For a tree that is right only above the layers it was unpacked above.
    above: String,
}

impl Layers {
    pub(crate) fn new(
        dir: PathBuf,
        sizes: PathBuf,
        ownership: Ownership,
        limits: Limits,
    ) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&dir, flags, Mode::empty())
            .map_err(|e| Error::io("open the store in", &dir, e))?;
        Ok(Self {
            dir,
            sizes,
            fd,
            ownership,
            limits,
        })
    }

    /// Makes sure that all layers are unpacked; returns their directories, the bottom one first, and keeps them from being
    /// removed.
    pub(crate) fn ensure(
        &self,
        place: &Place,
        layers: &[SourceLayer],
    ) -> Result<(Vec<PathBuf>, Hold)> {
        // What another process removes between the unpacking and the hold is unpacked again.
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let paths = self.unpacked(place, layers)?;
            let mut hold = Hold::default();
            if paths.iter().all(|path| hold.add(path)) {
                return Ok((paths, hold));
            }
        }
        Err(Error::Store {
            path: self.dir.clone(),
            reason:
                "another command keeps removing the image's layers (run again when it has ended)"
                    .to_owned(),
        })
    }

    fn unpacked(&self, place: &Place, layers: &[SourceLayer]) -> Result<Vec<PathBuf>> {
        let names = names(layers);
        let mut done: Vec<Option<PathBuf>> = names.iter().map(|names| self.find(names)).collect();
        if done.iter().any(Option::is_none) {
            self.sweep();
            self.unpack_all(place, layers, &names, &mut done)?;
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// The notes of a layer's unpacking.
    pub(crate) fn notes(&self, layer: &Path) -> Vec<String> {
        let name = format!(
            "{}.notes",
            layer.file_name().unwrap_or_default().to_string_lossy()
        );
        let Ok(file) = open_own(&self.fd, &name) else {
            return Vec::new();
        };
        serde_json::from_reader(file).unwrap_or_default()
    }

    fn find(&self, names: &Names) -> Option<PathBuf> {
        [&names.shared, &names.above]
            .into_iter()
            .find(|name| {
                rustix::fs::statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
            })
            .map(|name| self.dir.join(name))
    }

    /// Unpacks what is missing, from the bottom up. There are two threads to a layer, but seldom do both have something to do: of
    /// one more layer than there are pairs of processors, some thread always has.
    fn unpack_all(
        &self,
        place: &Place,
        layers: &[SourceLayer],
        names: &[Names],
        done: &mut [Option<PathBuf>],
    ) -> Result<()> {
        let missing: Vec<usize> = (0..layers.len()).filter(|&i| done[i].is_none()).collect();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = (processors / 2 + 1).min(missing.len());
        let shared = Mutex::new(done);
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let waiting: Mutex<BTreeSet<usize>> = Mutex::default();
        let stack = Stack::new(layers.len());
        for (i, path) in lock(&shared).iter().enumerate() {
            if let Some(path) = path {
                stack.is_at(i, path.clone());
            }
        }
        let attempt = |i: usize| -> Result<bool> {
            let layer = &layers[i];
            let open = || layer.open(place);
            let work = stack.begin(i);
            match self.unpack(layer.diff_id, &names[i], &work, open) {
                Ok(path) => {
                    work.done(path.clone());
                    lock(&shared)[i] = Some(path);
                }
                Err(Failure::NeedsLower) => return Ok(false),
                Err(Failure::Error(error)) => return Err(error),
            }
            Ok(true)
        };
        let work = || {
            while lock(&failed).is_none() {
                let Some(&i) = missing.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                match attempt(i) {
                    Ok(true) => {}
                    Ok(false) => drop(lock(&waiting).insert(i)),
                    Err(error) => drop(lock(&failed).get_or_insert(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            (1..workers).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        if let Some(error) = lock(&failed).take() {
            return Err(error);
        }
        // Those that refer to layers which another process unpacks come last, in order: no lock was held while they waited, so two
        // processes that unpack the same layers in different orders cannot wait for each other.
        for i in std::mem::take(&mut *lock(&waiting)) {
            attempt(i)?;
        }
        Ok(())
    }

    /// Unpacks one of an image's layers while its blob arrives. The blob comes back if the layer is there already.
    ///
    /// A layer that refers to those beneath it waits for them, if they are being unpacked as well; else that is a [`Failure::NeedsLower`].
    pub(crate) fn arrive<'a>(
        &self,
        layers: &[SourceLayer],
        work: &Work<'_>,
        blob: Blob<'a>,
    ) -> Result<Option<Blob<'a>>, Failure> {
        let i = work.layer();
        let mut blob = Some(blob);
        let open = || {
            blob.take().ok_or_else(|| Error::NotAnImage {
                path: self.dir.clone(),
                kind: "a layer",
                reason: "it was asked for twice".to_owned(),
            })
        };
        let path = self.unpack(layers[i].diff_id, &names(layers)[i], work, open)?;
        work.done(path);
        Ok(blob)
    }

    /// Where a layer of an image lies, if it is unpacked.
    pub(crate) fn path(&self, layers: &[SourceLayer], i: usize) -> Option<PathBuf> {
        self.find(&names(layers)[i])
    }

    /// Unpacks one layer, unless another process has done so by the time it is this one's turn.
    fn unpack<'a>(
        &self,
        diff_id: Digest,
        names: &Names,
        work: &Work<'_>,
        open: impl FnOnce() -> Result<Blob<'a>>,
    ) -> Result<PathBuf, Failure> {
        let lock = Lock::wait(&self.fd, &self.dir, &names.shared, || work.waits())?;
        work.goes_on();
        if let Some(path) = self.find(names) {
            lock.remove(&self.fd);
            return Ok(path);
        }
        let part = format!(".{}.part", names.shared);
        let at = |doing| move |e: Errno| Error::io(doing, &self.dir, e);
        remove::tree(self.fd.as_fd(), part.as_bytes())
            .map_err(at("remove a layer left half unpacked in"))?;
        let result = self.fill(diff_id, open, work, &part).and_then(|unpacked| {
            let name = if unpacked.used_beneath {
                &names.above
            } else {
                &names.shared
            };
            if !unpacked.notes.is_empty() {
                let notes = serde_json::to_vec(&unpacked.notes).unwrap_or_default();
                record::publish(&self.dir, &format!("{name}.notes"), &notes)?;
            }
            let size = unpacked.bytes.to_string();
            record::publish(&self.sizes, &diff_id.hex(), size.as_bytes())?;
            rustix::fs::renameat(&self.fd, &part, &self.fd, name)
                .map_err(at("publish a layer in"))?;
            Ok(self.dir.join(name))
        });
        if result.is_err() {
            // The error that is reported says more than one met while cleaning; the next unpacking cleans again.
            let _ = remove::tree(self.fd.as_fd(), part.as_bytes());
        }
        lock.remove(&self.fd);
        result
    }

    fn fill<'a>(
        &self,
        diff_id: Digest,
        open: impl FnOnce() -> Result<Blob<'a>>,
        work: &Work<'_>,
        part: &str,
    ) -> Result<unpack::Unpacked, Failure> {
        let path = self.dir.join(part);
        let at = |doing| {
            let path = &path;
            move |e: Errno| Error::io(doing, path, e)
        };
        let blob = open()?;
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.fd, part, mode).map_err(at("make"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.fd, part, flags, Mode::empty()).map_err(at("open"))?;
        rustix::fs::fchmod(&root, mode).map_err(at("set the mode of"))?;
        // A default ACL of the store's directory would change the mode of every file.
        let _ = rustix::fs::fremovexattr(&root, "system.posix_acl_default");
        let below = work.below();
        let beneath = if below.is_empty() {
            Beneath::Nothing
        } else {
            Beneath::Layers(&below)
        };
        let how = How {
            ownership: self.ownership,
            limits: self.limits,
            beneath,
        };
        unpack::layer(blob, diff_id, root, how)
    }

    /// Removes what crashed processes left half unpacked: that which nobody holds the lock of.
    fn sweep(&self) {
        record::sweep(&self.dir);
        let names: BTreeSet<String> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| {
                let name = name.strip_prefix('.')?;
                name.strip_suffix(".part")
                    .or_else(|| name.strip_suffix(".lock"))
                    .map(str::to_owned)
            })
            .collect();
        for name in names {
            if let Ok(lock) = self.lock(&name, FlockOperation::NonBlockingLockExclusive) {
                let _ = remove::tree(self.fd.as_fd(), format!(".{name}.part").as_bytes());
                lock.remove(&self.fd);
            }
        }
    }

    fn lock(&self, name: &str, how: FlockOperation) -> Result<Lock> {
        Lock::take(&self.fd, &self.dir, name, how)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The names that the directories of an image's layers may have.
pub(crate) fn directories(layers: &[SourceLayer]) -> Vec<String> {
    let names = names(layers).into_iter();
    names
        .flat_map(|names| [names.shared, names.above])
        .collect()
}

/// The diff-id of the layer that was unpacked into a directory, whose name begins with it; what it was unpacked above may follow.
pub fn diff_id_of(directory: &Path) -> Option<Digest> {
    let name = directory.file_name()?.to_str()?;
    Digest::from_hex(name.split('.').next()?)
}

/// The names of each layer's directory. Chain ids are those of the OCI image-spec (config.md, "Layer `ChainID`").
fn names(layers: &[SourceLayer]) -> Vec<Names> {
    let mut chain: Option<Digest> = None;
    let name = |layer: &SourceLayer| {
        let shared = layer.diff_id.hex();
        let above = format!(
            "{shared}.{}",
            chain.map_or_else(|| "base".to_owned(), |chain| chain.hex())
        );
        chain = Some(match chain {
            None => layer.diff_id,
            Some(chain) => Digest::of(format!("{chain} {}", layer.diff_id).as_bytes()),
        });
        Names { shared, above }
    };
    layers.iter().map(name).collect()
}
