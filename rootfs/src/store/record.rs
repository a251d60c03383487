//! What is remembered of a resolved image, so that the next run neither looks at it nor checks it again.
//!
//! A record holds while the file it was made from (an archive, or a layout's index.json) is the same to the nanosecond
//! of its change time, and while the layers it names are there. It is one file: a JSON line, then the texts of `/etc/passwd` and
//! `/etc/group`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Ownership, give};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::platform::Platform;

/// Changes with the form of records, which makes older ones unknown.
const VERSION: &str = "2";

/// What names a record's file: everything an image is chosen by.
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn new(
        kind: &str,
        path: &Path,
        tag: Option<&str>,
        platform: &Platform,
        ownership: Ownership,
    ) -> Self {
        let ownership = match ownership {
            Ownership::Caller => "caller",
            Ownership::Kept => "kept",
        };
        let mut hasher = Sha256::new();
        // Each part with its length, so that no two keys run into one.
        let platform = platform.to_string();
        let parts = [
            VERSION.as_bytes(),
            kind.as_bytes(),
            path.as_os_str().as_encoded_bytes(),
            platform.as_bytes(),
            ownership.as_bytes(),
        ];
        for part in parts.into_iter().chain(tag.map(str::as_bytes)) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(Digest::finish(hasher).hex())
    }
}

/// Tells whether a file is the one it was.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn from_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// The identity of an open file; none if it changed so recently that the next change might bear the same time.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        /// The kernel's clock for files ticks at least every 10 ms.
        const TICK: Duration = Duration::from_millis(20);
        let identity = Self::from_stat(&rustix::fs::fstat(file)?);
        let (seconds, nanoseconds) = identity.changed;
        let changed = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds).unwrap_or(0),
        );
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Ok((now > changed + TICK).then_some(identity))
    }
}

#[derive(Serialize, Deserialize)]
struct Record<I> {
    identity: Identity,
    /// The file whose identity it is, where the image lies elsewhere; none for an image of the store.
    place: Option<PathBuf>,
    image: I,
    /// Length of the text of `/etc/passwd`; that of `/etc/group` is the rest.
    passwd: usize,
}

/// The remembered image; none if there is no record, or it no longer holds.
pub(crate) fn read(records: &Path, key: &Key, source: &Path, layers: &Path) -> Option<Image> {
    let bytes = std::fs::read(records.join(&key.0)).ok()?;
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let record: Record<Image> = serde_json::from_slice(&bytes[..end]).ok()?;
    if Identity::from_stat(&rustix::fs::stat(source).ok()?) != record.identity {
        return None;
    }
    let mut image = record.image;
    for layer in &mut image.layers {
        layer.path = layers.join(&layer.path);
        if !image.hold.add(&layer.path) {
            return None;
        }
    }
    let texts = &bytes[end + 1..];
    image.users.passwd = texts.get(..record.passwd)?.to_vec();
    image.users.group = texts[record.passwd..].to_vec();
    Some(image)
}

/// Remembers an image.
pub(crate) fn write(
    records: &Path,
    key: &Key,
    (identity, place): (&Identity, Option<&Path>),
    image: &Image,
) -> Result<()> {
    let mut named = image.clone();
    for layer in &mut named.layers {
        layer.path = PathBuf::from(layer.path.file_name().unwrap_or_default());
    }
    let record = Record {
        identity: identity.clone(),
        place: place.map(Path::to_owned),
        image: &named,
        passwd: image.users.passwd.len(),
    };
    let mut bytes = serde_json::to_vec(&record)
        .map_err(|e| Error::io("write the record in", records, io::Error::from(e)))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&image.users.passwd);
    bytes.extend_from_slice(&image.users.group);
    publish(records, &key.0, &bytes)
}

/// The directories of layers that images elsewhere are unpacked in, by the records that still hold. Records for which `keep` is false, and,
/// with `sweep`, those that do not hold are removed.
pub(crate) fn elsewhere(records: &Path, sweep: bool, keep: bool) -> BTreeSet<String> {
    let mut layers = BTreeSet::new();
    for entry in std::fs::read_dir(records).into_iter().flatten().flatten() {
        let path = entry.path();
        let record = std::fs::read(&path).ok().and_then(|bytes| {
            let line = bytes.split(|&b| b == b'\n').next()?;
            serde_json::from_slice::<Record<Image>>(line).ok()
        });
        let holds = record.filter(|record| {
            let stat = record.place.as_ref().map(rustix::fs::stat);
            stat.is_some_and(|stat| {
                stat.is_ok_and(|stat| Identity::from_stat(&stat) == record.identity)
            })
        });
        match holds {
            Some(record) if keep => layers.extend(
                record
                    .image
                    .layers
                    .iter()
                    .map(|layer| layer.path.to_string_lossy().into_owned()),
            ),
            Some(_) => drop(std::fs::remove_file(path)),
            None if sweep && !entry.file_name().as_encoded_bytes().starts_with(b".") => {
                let _ = std::fs::remove_file(path);
            }
            None => {}
        }
    }
    layers
}

/// Counts the files that are written: threads of a process may write the same one at once.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes a file of the store, whole or not at all.
pub(crate) fn publish(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{name}.{}.{write}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        give(&temporary, dir)?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        Error::io("write", &path, e)
    })
}

/// Removes what crashed writers left: nobody takes an hour over a small file.
pub(crate) fn sweep(dir: &Path) {
    let hour = Duration::from_hours(1);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let left = entry.file_name().as_encoded_bytes().ends_with(b".tmp");
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if left && old().is_some_and(|age| age > hour) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
