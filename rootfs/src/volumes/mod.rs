//! Volumes: directories that outlive the sandboxes that use them, and those that go with one.
//!
//! ```text
//! volumes/<name>/_data        what a sandbox sees; owner and mode are the volume's own
//!                volume.json  labels; made once. A shared lock on it (flock(2)) says that a sandbox uses the volume
//!                filling      there while the image's content is being copied: who finds it goes on with that
//! volumes/.new-*, .gone-*     one that is being made or removed; who finds such a thing unlocked removes it
//! ```
//!
//! A volume appears by rename and goes by rename. The directory `volumes/` is locked while that happens, a volume's own
//! directory while it is filled, so that of two first users one fills and the other waits.

mod copy;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::Ownership;
use crate::unpack::remove;

/// The directory of a volume that sandboxes see.
const DATA: &str = "_data";
/// The file that describes it.
const RECORD: &str = "volume.json";
/// The mark of a volume whose filling has begun.
const FILLING: &str = "filling";
/// Where one file is made before it gets its name.
const PART: &str = "part";
/// Bytes of a name: what a file name may have, and room for a prefix.
const LONGEST_NAME: usize = 200;

/// docker's label of a volume that was given no name: `volume prune` removes it where no sandbox has it.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The volumes below one data directory.
#[derive(Clone, Debug)]
pub struct Volumes {
    dir: PathBuf,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// Labels of `volume create --label`, and [`ANONYMOUS`].
    pub labels: BTreeMap<String, String>,
    /// What sandboxes see, on the host.
    pub mountpoint: PathBuf,
}

/// `volume.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    labels: BTreeMap<String, String>,
}

/// What an empty volume starts with.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The image's layers, the bottom one first; none for a sandbox that has no image.
    pub layers: &'a [PathBuf],
    /// Where the volume is mounted: what the image has there is copied.
    pub path: &'a Path,
    /// Whose the copies are.
    pub ownership: Ownership,
    /// With [`Ownership::Kept`]: whom the volume belongs to where the image has no such directory.
    pub owner: (u32, u32),
    /// With [`Ownership::Kept`]: what belongs to root in the image belongs to [`owner`](Self::owner), because the image's
    /// root is that user here.
    pub root_is_owner: bool,
}

/// A volume in use: it cannot be removed as long as this lives.
#[derive(Debug)]
pub struct InUse {
    _lock: File,
    /// What was copied otherwise than the image has it, in words.
    pub notes: Vec<String>,
}

impl Volumes {
    /// The volumes below a data directory, which need not exist yet.
    pub fn new(data: &Path) -> Self {
        Self {
            dir: data.join("volumes"),
        }
    }

    /// Where the volume `name` shows sandboxes its files, whether it exists or not.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.dir.join(name).join(DATA)
    }

    /// Whether a volume may have this name: docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
    ///
    /// # Errors
    /// [`Error::Volume`] with the reason.
    pub fn check_name(name: &str) -> Result<()> {
        let first = name.bytes().next();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let good = first.is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(plain);
        if good && (2..=LONGEST_NAME).contains(&name.len()) {
            return Ok(());
        }
        Err(refused(
            name,
            "a name has 2 to 200 letters, digits, `_`, `.` and `-`, and begins with a letter or a digit",
        ))
    }

    /// Makes a volume; one that is there stays as it is, as docker has it.
    ///
    /// # Errors
    /// A bad name, or what could not be made.
    pub fn create(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Volume> {
        Self::check_name(name)?;
        if let Some(volume) = self.find(name)? {
            return Ok(volume);
        }
        let _making = self.lock()?;
        // Made meanwhile.
        if let Some(volume) = self.find(name)? {
            return Ok(volume);
        }
        let new = self.dir.join(format!(".new-{name}"));
        make(&new, 0o700)?;
        make(&new.join(DATA), 0o755)?;
        let record = Record {
            labels: labels.clone(),
        };
        let text = serde_json::to_vec(&record).map_err(|error| refused(name, error.to_string()))?;
        let path = new.join(RECORD);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, e))?;
        let path = self.dir.join(name);
        fs::rename(&new, &path).map_err(|e| Error::io("make", &path, e))?;
        self.find(name)?
            .ok_or_else(|| refused(name, "it was removed while it was made"))
    }

    /// The volume of a name.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Volume>> {
        if Self::check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.dir.join(name).join(RECORD);
        let read = || -> io::Result<(Vec<u8>, SystemTime)> {
            let text = fs::read(&path)?;
            Ok((text, fs::metadata(&path)?.modified()?))
        };
        let (text, created) = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| Error::io("read", &path, e))?,
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| refused(name, format!("{} is broken: {error}", path.display())))?;
        Ok(Some(Volume {
            name: name.to_owned(),
            created,
            labels: record.labels,
            mountpoint: self.mountpoint(name),
        }))
    }

    /// Every volume, by name.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("read", &self.dir, e))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(|e| Error::io("read", &self.dir, e))?
                .file_name();
            names.extend(name.into_string().ok());
        }
        names.sort_unstable();
        let mut all = Vec::new();
        for name in names {
            all.extend(self.find(&name)?);
        }
        Ok(all)
    }

    /// Bytes that a volume's files take on the disk.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn size(&self, name: &str) -> Result<u64> {
        usage(&self.mountpoint(name))
    }

    /// Removes a volume with all its files.
    ///
    /// # Errors
    /// [`Error::Volume`] if a sandbox uses it or there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        Self::check_name(name)?;
        let path = self.dir.join(name);
        let making = self.lock()?;
        let record = match File::open(path.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(name, "there is no such volume"));
            }
            other => other.map_err(|e| Error::io("open", &path, e))?,
        };
        match flock(&record, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(refused(name, "a running sandbox uses it")),
            Err(e) => return Err(Error::io("lock", &path, e)),
        }
        let gone = format!(".gone-{name}-{}", std::process::id());
        let parent = open_directory(&self.dir)?;
        let held = open_directory(&path)?;
        flock(&held, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", &path, e))?;
        fs::rename(&path, self.dir.join(&gone)).map_err(|e| Error::io("remove", &path, e))?;
        drop(making);
        remove::tree(parent.as_fd(), gone.as_bytes()).map_err(|e| Error::io("remove", &path, e))
    }

    /// Makes a volume with these labels where there is none, fills it where it is empty, and keeps it from being removed.
    ///
    /// # Errors
    /// What could not be made or copied. What was copied until then stays, and the next user goes on with it.
    pub fn take(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        content: Option<&Content<'_>>,
    ) -> Result<InUse> {
        loop {
            self.create(name, labels)?;
            let path = self.dir.join(name);
            let Some((directory, lock)) = hold(&path)? else {
                // Removed between the two.
                continue;
            };
            let mut notes = Vec::new();
            if let Some(content) = content {
                notes = fill(&path, &directory, content)?;
            }
            return Ok(InUse { _lock: lock, notes });
        }
    }

    /// Locks the directory of all volumes, and removes what was left half-made or half-removed.
    fn lock(&self) -> Result<File> {
        make(&self.dir, 0o700)?;
        let directory = File::from(open_directory(&self.dir)?);
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|e| Error::io("lock", &self.dir, e))?;
        let entries = fs::read_dir(&self.dir).map_err(|e| Error::io("read", &self.dir, e))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let bytes = name.as_encoded_bytes();
            if !bytes.starts_with(b".new-") && !bytes.starts_with(b".gone-") {
                continue;
            }
            // One that is locked is being removed just now.
            if let Ok(left) = open_directory(&entry.path())
                && flock(&left, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                remove::tree(directory.as_fd(), bytes)
                    .map_err(|e| Error::io("remove", &entry.path(), e))?;
            }
        }
        Ok(directory)
    }
}

/// Bytes that the files below a directory take on the disk.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn usage(path: &Path) -> Result<u64> {
    copy::size(path).map_err(|e| Error::io("measure", path, e))
}

/// What the sandbox sees of a volume that lies in a directory of its own (see [`private`]).
pub fn data_of(directory: &Path) -> PathBuf {
    directory.join(DATA)
}

/// Makes a volume that goes with its sandbox, in a directory that nobody else knows of: [`data_of`] it is what the sandbox sees.
///
/// # Errors
/// What could not be made or copied.
pub fn private(directory: &Path, content: &Content<'_>) -> Result<Vec<String>> {
    make(directory, 0o700)?;
    let data = data_of(directory);
    if !data.exists() {
        make(&data, 0o755)?;
    }
    fill(directory, &open_directory(directory)?, content)
}

/// Opens a volume's directory and takes a shared lock of its record; none if it is gone.
fn hold(path: &Path) -> Result<Option<(std::os::fd::OwnedFd, File)>> {
    let gone = |e: Errno| match e {
        Errno::NOENT => Ok(None),
        e => Err(Error::io("open", path, e)),
    };
    let directory = match open(path) {
        Ok(directory) => directory,
        Err(e) => return gone(e),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let record = match rustix::fs::openat(&directory, RECORD, flags, Mode::empty()) {
        Ok(record) => File::from(record),
        Err(e) => return gone(e),
    };
    flock(&record, FlockOperation::LockShared).map_err(|e| Error::io("lock", path, e))?;
    let same = rustix::fs::stat(path).is_ok_and(|now| {
        rustix::fs::fstat(&directory)
            .is_ok_and(|held| (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino))
    });
    Ok(same.then_some((directory, record)))
}

/// Copies the image's content into an empty volume, or goes on with a copy that was broken off.
fn fill(path: &Path, directory: &impl AsFd, content: &Content<'_>) -> Result<Vec<String>> {
    let data = path.join(DATA);
    let marked = || path.join(FILLING).exists();
    if !marked() && !is_empty(&data)? {
        return Ok(Vec::new());
    }
    flock(directory, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", path, e))?;
    // Filled while this one waited.
    let result = if !marked() && !is_empty(&data)? {
        Ok(Vec::new())
    } else {
        fill_locked(path, directory, content)
    };
    flock(directory, FlockOperation::Unlock).map_err(|e| Error::io("unlock", path, e))?;
    result
}

fn fill_locked(path: &Path, directory: &impl AsFd, content: &Content<'_>) -> Result<Vec<String>> {
    let data = path.join(DATA);
    let merged = crate::merged::Merged::open(content.layers)?;
    let source = if content.layers.is_empty() {
        None
    } else {
        merged.directory(content.path)?
    };
    let Some(source) = source else {
        if content.ownership == Ownership::Kept {
            let (uid, gid) = content.owner;
            let there = fs::metadata(&data).map_err(|e| Error::io("look at", &data, e))?;
            if (there.uid(), there.gid()) != (uid, gid) {
                let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                rustix::fs::chownat(directory, DATA, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| Error::io("change the owner of", &data, e))?;
            }
        }
        return Ok(Vec::new());
    };
    let mark = path.join(FILLING);
    fs::write(&mark, "").map_err(|e| Error::io("write", &mark, e))?;
    let notes = copy::tree(&merged, &source, directory, content)
        .map_err(|fault| fault.at("the image", content.path.as_os_str().as_encoded_bytes()))?;
    fs::remove_file(&mark).map_err(|e| Error::io("remove", &mark, e))?;
    Ok(notes)
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path).map_err(|e| Error::io("read", path, e))?;
    Ok(entries.next().is_none())
}

fn make(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Error::io("make", path, e))
}

fn open(path: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn open_directory(path: &Path) -> Result<std::os::fd::OwnedFd> {
    open(path).map_err(|e| Error::io("open", path, e))
}

fn refused(name: &str, reason: impl Into<String>) -> Error {
    Error::Volume {
        name: name.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
