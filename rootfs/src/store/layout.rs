//! The store's own images: an OCI image layout (image-spec, image-layout.md) that others may read and add to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::lock::flock;
use super::{Store, give};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, Index};
use crate::reference::Name;
use crate::source::Place;
use crate::source::layout::{REF_NAME, SOURCE_DIGEST, blob, index};

/// Annotations by which an entry has a name.
const NAMES: [&str; 2] = [REF_NAME, "io.containerd.image.name"];

/// The directory `images/` of a store.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    fd: OwnedFd,
    place: Place,
}

/// An entry of index.json: as it is written, so that what others have put there stays, and as it is understood.
pub(crate) struct Entry {
    raw: Map<String, Value>,
    pub descriptor: Descriptor,
}

impl Store {
    /// The layout; none if nothing was ever put into it.
    pub(crate) fn layout(&self) -> Result<Option<Layout>> {
        match Layout::open(self.dir.join("images")) {
            Ok(layout) => Ok(Some(layout)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The layout, made if it is missing.
    pub(crate) fn make_layout(&self) -> Result<Layout> {
        let path = self.made("images")?;
        self.made("images/blobs")?;
        self.made("images/blobs/sha256")?;
        let layout = Layout::open(path)?;
        if !layout.path.join("index.json").exists() || !layout.path.join("oci-layout").exists() {
            let _lock = layout.lock()?;
            if !layout.path.join("oci-layout").exists() {
                layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            if !layout.path.join("index.json").exists() {
                layout.write_index(Map::new(), &[])?;
            }
        }
        Ok(layout)
    }
}

impl Layout {
    fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|e| Error::io("open the store's images in", &path, e))?;
        let place = Place::directory(&path)?;
        Ok(Self { path, fd, place })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a blob is there, of that length if one is given. Its content is not looked at.
    pub(crate) fn has(&self, digest: Digest, size: Option<u64>) -> bool {
        let name = format!("blobs/sha256/{}", digest.hex());
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && size.is_none_or(|size| u64::try_from(stat.st_size) == Ok(size))
        })
    }

    /// Removes a blob; its length if it was there.
    pub(crate) fn remove(&self, digest: Digest) -> Result<Option<u64>> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let stat = rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
        match rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()) {
            Ok(()) => Ok(Some(
                stat.ok()
                    .and_then(|stat| u64::try_from(stat.st_size).ok())
                    .unwrap_or(0),
            )),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io("remove the blob", &self.path.join(name), e)),
        }
    }

    /// The digests of all blobs that are here, by their names.
    pub(crate) fn blobs(&self) -> Result<BTreeSet<Digest>> {
        let dir = self.path.join("blobs/sha256");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(e) => return Err(Error::io("read", &dir, e)),
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?))
            .collect())
    }

    /// Moves a finished file to where its blob lies.
    pub(crate) fn adopt(&self, dir: &OwnedFd, name: &str, digest: Digest) -> Result<()> {
        let blob = format!("blobs/sha256/{}", digest.hex());
        rustix::fs::renameat(dir, name, &self.fd, &blob)
            .map_err(|e| Error::io("publish the blob", &self.path.join(&blob), e))
    }

    /// A manifest or index, its digest checked.
    pub(crate) fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let text = blob(&self.place, descriptor, "manifest")?;
        Document::parse(&text, &self.path)
    }

    /// The entries of index.json.
    pub(crate) fn index(&self) -> Result<Index> {
        index(&self.place)
    }

    /// Changes index.json: reads it, lets `change` change its entries, and writes it if they are others now. One process at a time.
    ///
    /// # Errors
    /// What `change` returns, then nothing is written.
    pub(crate) fn edit<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> Result<T>) -> Result<T> {
        self.edit_then(change, |_, _| Ok(()))
    }

    /// The same; `then` is done with the entries that are left before another process may change them.
    pub(crate) fn edit_then<T>(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T>,
        then: impl FnOnce(&[Entry], &T) -> Result<()>,
    ) -> Result<T> {
        let _lock = self.lock()?;
        let text = self
            .place
            .read("index.json", "index")?
            .unwrap_or_else(|| b"{}".to_vec());
        let broken = |reason: String| Error::Json {
            what: "index",
            path: self.path.join("index.json"),
            reason,
        };
        let mut document: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        let manifests = match document.remove("manifests") {
            Some(Value::Array(manifests)) => manifests,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(broken("its manifests are no list".to_owned())),
        };
        let entry = |value: Value| -> Result<Entry> {
            let descriptor =
                serde_json::from_value(value.clone()).map_err(|e| broken(e.to_string()))?;
            match value {
                Value::Object(raw) => Ok(Entry { raw, descriptor }),
                _ => Err(broken("an entry is no object".to_owned())),
            }
        };
        let mut entries: Vec<Entry> = manifests.into_iter().map(entry).collect::<Result<_>>()?;
        let values = |entries: &[Entry]| -> Vec<Map<String, Value>> {
            entries.iter().map(|entry| entry.raw.clone()).collect()
        };
        let before = values(&entries);
        let result = change(&mut entries)?;
        let after = values(&entries);
        if before != after {
            self.write_index(document, &after)?;
        }
        then(&entries, &result)?;
        Ok(result)
    }

    fn write_index(
        &self,
        mut document: Map<String, Value>,
        entries: &[Map<String, Value>],
    ) -> Result<()> {
        document.insert("schemaVersion".to_owned(), json!(2));
        document
            .entry("mediaType")
            .or_insert_with(|| json!(crate::manifest::media_type::OCI_INDEX));
        document.insert("manifests".to_owned(), json!(entries));
        let text = serde_json::to_vec(&document).map_err(|e| {
            Error::io(
                "write",
                &self.path.join("index.json"),
                std::io::Error::from(e),
            )
        })?;
        self.write("index.json", &text)
    }

    /// Writes a file of the layout, whole or not at all, and on disk before it can be seen: a lost index would lose every name.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.tmp");
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o644);
            let mut file = File::from(rustix::fs::openat(&self.fd, &temporary, flags, mode)?);
            file.write_all(bytes)?;
            give(&self.path.join(&temporary), &self.path)?;
            file.sync_data()?;
            Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?)
        };
        write().map_err(|e| {
            let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
            Error::io("write", &path, e)
        })
    }

    /// The lock of index.json, held until the handle is closed.
    fn lock(&self) -> Result<OwnedFd> {
        let fail = |e: Errno| Error::io("take the lock of", &self.path, e);
        // A handle of its own: two threads that share one would both hold its lock.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.fd.as_fd(), ".", flags, Mode::empty()).map_err(fail)?;
        flock(&fd, FlockOperation::LockExclusive).map_err(fail)?;
        Ok(fd)
    }
}

impl Entry {
    /// A new entry. It says of the content what the descriptor does, and bears the name if one is given.
    pub(crate) fn new(descriptor: &Descriptor, name: Option<&Name>) -> Self {
        let mut descriptor = descriptor.clone();
        for annotation in NAMES {
            descriptor.annotations.remove(annotation);
        }
        if let Some(name) = name {
            descriptor
                .annotations
                .insert(REF_NAME.to_owned(), name.to_string());
        }
        let raw = match json!(descriptor) {
            Value::Object(raw) => raw,
            _ => Map::new(),
        };
        Self { raw, descriptor }
    }

    /// Takes the name away.
    pub(crate) fn forget_name(&mut self) {
        if let Some(Value::Object(annotations)) = self.raw.get_mut("annotations") {
            annotations.retain(|key, _| !NAMES.contains(&key.as_str()));
            if annotations.is_empty() {
                self.raw.remove("annotations");
            }
        }
        for annotation in NAMES {
            self.descriptor.annotations.remove(annotation);
        }
    }
}

/// Gives `descriptor` the name, which nothing else has then. What had it stays, without a name, if it had no other.
pub(crate) fn name_entry(entries: &mut Vec<Entry>, descriptor: &Descriptor, name: &Name) {
    let new = Entry::new(descriptor, Some(name));
    for entry in entries.iter_mut() {
        if entry.descriptor.name().is_some_and(|own| name.is(own)) {
            entry.forget_name();
        }
    }
    // An entry without a name keeps the image it points to; where another entry does that it is of no use.
    entries.push(new);
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    let all = std::mem::take(entries);
    let named: Vec<Digest> = all
        .iter()
        .filter(|entry| entry.descriptor.name().is_some())
        .map(|entry| entry.descriptor.digest)
        .collect();
    for entry in all {
        let digest = entry.descriptor.digest;
        let again = || {
            kept.iter()
                .any(|other: &Entry| other.descriptor.digest == digest)
        };
        if entry.descriptor.name().is_none() && (named.contains(&digest) || again()) {
            continue;
        }
        kept.push(entry);
    }
    *entries = kept;
}

/// The same descriptor, remembering the digest of the index that it was chosen from.
pub(crate) fn with_source(mut descriptor: Descriptor, source: Option<Digest>) -> Descriptor {
    if source.is_some() {
        descriptor.annotations.remove(SOURCE_DIGEST);
    }
    if let Some(source) = source.filter(|&source| source != descriptor.digest) {
        descriptor
            .annotations
            .insert(SOURCE_DIGEST.to_owned(), source.to_string());
    }
    descriptor
}
