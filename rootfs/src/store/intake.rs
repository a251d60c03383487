//! Taking content into the store: verified while it arrives, and there at once or not at all.
//!
//! An [`Intake`] is held for as long as content comes in that nothing points to yet; while there is one, nothing that
//! seems unused is removed. What arrived of a blob before the source broke off is kept, and the next attempt goes on from there.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};

use super::layers::Layers;
use super::layout::{Entry, Layout, name_entry, with_source};
use super::lock::{Lock, flock};
use super::stack::Stack;
use super::{Ownership, Store};
use crate::config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, LONGEST_DOCUMENT, Manifest};
use crate::reference::Name;
use crate::source::SourceLayer;
use crate::source::layout::layers;
use crate::unpack::{Blob, Bytes, Failure};

/// Opens a blob's source at an offset: how many bytes of it are here already, 0 for all of it.
///
/// A read error may carry an [`Error`] ([`io::Error::other`]), which is then the one that is reported.
pub type Open<'a> = dyn FnMut(u64) -> Result<Box<dyn Read + 'a>> + 'a;

/// What became of a blob that was to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was here; the source was not opened.
    Present,
    /// It came in now.
    Now,
}

/// The right to add content to a store. From several threads at once, if need be.
#[derive(Debug)]
pub struct Intake<'a> {
    store: &'a Store,
    layout: Layout,
    /// Where files grow.
    partial: PathBuf,
    /// Its handle has a shared lock for as long as this lives.
    fd: OwnedFd,
}

/// An image whose documents are in the store, and whose layers are still to come.
#[derive(Debug)]
pub struct Incoming<'a> {
    intake: &'a Intake<'a>,
    descriptor: Descriptor,
    manifest: Manifest,
    layers: Vec<SourceLayer>,
    stack: Stack,
}

impl Store {
    /// Begins to take content in. Waits for a clean-up that is under way.
    ///
    /// # Errors
    /// [`Error::Io`] if the store's directories cannot be made.
    pub fn intake(&self) -> Result<Intake<'_>> {
        let layout = self.make_layout()?;
        let partial = self.made("partial")?;
        let fd = open_directory(&partial)?;
        flock(&fd, FlockOperation::LockShared)
            .map_err(|e| Error::io("take the lock of", &partial, e))?;
        Ok(Intake {
            store: self,
            layout,
            partial,
            fd,
        })
    }
}

impl Intake<'_> {
    /// Whether a blob is here, of that length. Its content is not looked at again: it was when it came.
    pub fn has(&self, digest: Digest, size: u64) -> bool {
        self.layout.has(digest, Some(size))
    }

    /// Takes in a document that is in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        let size = content.len() as u64;
        self.blob(digest, size, &mut |offset| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest: &[u8] = content.get(offset..).unwrap_or_default();
            Ok(Box::new(rest))
        })?;
        Ok(digest)
    }

    /// Takes in a blob. Of several that take the same one at once, one opens its source and the others wait for it.
    ///
    /// # Errors
    /// Those of the source, [`Error::DigestMismatch`] and [`Error::SizeMismatch`] for other content than was promised, of which nothing
    /// is kept; [`Error::Io`].
    pub fn blob(&self, digest: Digest, size: u64, open: &mut Open<'_>) -> Result<Taken> {
        self.take(digest, size, open, &|| {}, |arriving| {
            arriving.drain(digest)
        })
    }

    /// Takes in the documents of an image: its manifest, found in a registry or archive under `descriptor`, and its configuration.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Unsupported`] or [`Error::Limit`] if it is no image that could be run; digests and sizes that
    /// do not agree; [`Error::Io`].
    pub fn image(
        &self,
        descriptor: &Descriptor,
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Incoming<'_>> {
        let path = self.layout.path();
        check(manifest, descriptor, "manifest")?;
        let Document::Manifest(parsed) = Document::parse(manifest, path)? else {
            return Err(crate::manifest::broken(
                "manifest",
                path,
                "it is an index".to_owned(),
            ));
        };
        parsed.check()?;
        check(config, &parsed.config, "configuration")?;
        let document = config::Document::parse(config, path)?;
        let layers = layers(&parsed, &document, path)?;
        if layers.len() > self.store.limits.layers {
            return Err(Error::limit(
                "the number of the image's layers",
                self.store.limits.layers.to_string(),
            ));
        }
        self.put(manifest)?;
        self.put(config)?;
        Ok(Incoming {
            intake: self,
            descriptor: descriptor.clone(),
            manifest: parsed,
            stack: Stack::new(layers.len()),
            layers,
        })
    }

    /// Gives an image names, which no other has from then on; without a name it is kept until it is pruned.
    ///
    /// `descriptor` is of a manifest or an index; everything it needs has to be here. `source` is the digest of the index it was chosen from,
    /// under which the registry has it.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if a part of it is missing (somebody removed it meanwhile: take it in again); [`Error::Io`].
    pub fn publish(
        &self,
        descriptor: &Descriptor,
        source: Option<Digest>,
        names: &[Name],
    ) -> Result<()> {
        let descriptor = with_source(descriptor.clone(), source);
        self.layout.edit(|entries| {
            // Under the lock: nothing is removed between the look and the name.
            self.layout.require(&descriptor)?;
            for name in names {
                let mut name = name.clone();
                if name.digest.is_some() {
                    name.tag = None;
                }
                name_entry(entries, &descriptor, &name);
            }
            let known = |entry: &Entry| entry.descriptor.digest == descriptor.digest;
            if names.is_empty() && !entries.iter().any(known) {
                entries.push(Entry::new(&descriptor, None));
            }
            Ok(())
        })
    }

    fn take(
        &self,
        digest: Digest,
        size: u64,
        open: &mut Open<'_>,
        waiting: &dyn Fn(),
        consume: impl FnOnce(&mut Arriving<'_, '_>) -> Result<()>,
    ) -> Result<Taken> {
        if self.has(digest, size) {
            return Ok(Taken::Present);
        }
        let name = digest.hex();
        let lock = Lock::wait(&self.fd, &self.partial, &name, waiting)?;
        if self.has(digest, size) {
            lock.remove(&self.fd);
            return Ok(Taken::Present);
        }
        let path = self.partial.join(&name);
        let result = self.open_partial(&name, size).and_then(|(file, kept)| {
            let mut arriving = Arriving {
                file,
                path: &path,
                size,
                kept,
                at: 0,
                open,
                source: None,
                failed: None,
            };
            let result = consume(&mut arriving);
            match arriving.failed {
                // Whoever read only saw the stream break off.
                Some(error) => Err(error),
                None => result,
            }
        });
        let result = match result {
            Ok(()) => self.layout.adopt(&self.fd, &name, digest),
            Err(error) => {
                // What only broke off is gone on with; what is wrong would be wrong again.
                if !error.is_of_the_way() {
                    let _ = rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty());
                }
                Err(error)
            }
        };
        lock.remove(&self.fd);
        result.map(|()| Taken::Now)
    }

    /// The file a blob grows in, and how much of it is there.
    fn open_partial(&self, name: &str, size: u64) -> Result<(File, u64)> {
        let path = self.partial.join(name);
        let fail = |e: io::Error| Error::io("open", &path, e);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644))
            .map_err(|e| fail(e.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| fail(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Store {
                path,
                reason: "something that is no file lies there (remove it)".to_owned(),
            });
        }
        super::give(&path, &self.partial).map_err(|e| fail(e.into()))?;
        let file = File::from(fd);
        let mut kept = u64::try_from(stat.st_size).unwrap_or(0);
        if kept > size {
            file.set_len(0).map_err(fail)?;
            kept = 0;
        }
        Ok((file, kept))
    }
}

impl Incoming<'_> {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the blob of a layer is here.
    pub fn has(&self, layer: usize) -> bool {
        let layer = &self.manifest.layers[layer];
        self.intake.has(layer.digest, layer.size)
    }

    /// Takes in the blob of a layer and unpacks it while it arrives, unless it is unpacked already. One that refers to the layers beneath it waits for
    /// those that are on their way, begun before it; what cannot be unpacked now, [`Store::resolve`] unpacks later, from the blob.
    ///
    /// # Errors
    /// As [`Intake::blob`], and those of unpacking: [`Error::Layer`], [`Error::Limit`].
    pub fn layer(&self, layer: usize, ownership: Ownership, open: &mut Open<'_>) -> Result<Taken> {
        let store = self.intake.store;
        let packed = &self.manifest.layers[layer];
        let dir = store.made(ownership.directory())?;
        let unpacked = Layers::new(dir, store.made("sizes")?, ownership, store.limits)?;
        let work = self.stack.begin(layer);
        let waiting = || work.waits();
        let taken = self
            .intake
            .take(packed.digest, packed.size, open, &waiting, |arriving| {
                work.goes_on();
                let blob = Blob {
                    source: Box::new(&mut *arriving),
                    length: packed.size,
                    digest: Some(packed.digest),
                };
                let needs_lower = match unpacked.arrive(&self.layers, &work, blob) {
                    Ok(None) => false,
                    Ok(Some(blob)) => return Bytes::new(blob).finish(),
                    Err(Failure::NeedsLower) => true,
                    Err(Failure::Error(error)) => return Err(error),
                };
                if needs_lower {
                    arriving.drain(packed.digest)?;
                }
                Ok(())
            })?;
        if taken == Taken::Present
            && let Some(path) = unpacked.path(&self.layers, layer)
        {
            work.done(path);
        }
        Ok(taken)
    }

    /// As [`Intake::publish`].
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub fn publish(&self, source: Option<Digest>, names: &[Name]) -> Result<()> {
        self.intake.publish(&self.descriptor, source, names)
    }
}

impl Layout {
    /// Makes sure that everything an image is made of is here. Of an index, what is here of its images, at least one.
    pub(crate) fn require(&self, descriptor: &Descriptor) -> Result<()> {
        let missing = |what: &str, digest: Digest| Error::NotAnImage {
            path: self.path().to_owned(),
            kind: "a complete image",
            reason: format!("the {what} {digest} is missing"),
        };
        match self.document(descriptor)? {
            Document::Manifest(manifest) => {
                let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
                for part in parts {
                    if !self.has(part.digest, Some(part.size)) {
                        return Err(missing("blob", part.digest));
                    }
                }
                Ok(())
            }
            Document::Index(index) => {
                let mut here = index
                    .manifests
                    .iter()
                    .filter(|d| self.has(d.digest, Some(d.size)))
                    .peekable();
                if here.peek().is_none() {
                    return Err(missing("image of the index", descriptor.digest));
                }
                // An index of indexes is refused by those who follow it: its parts are not walked here.
                here.filter_map(|d| self.document(d).ok().map(|document| (d, document)))
                    .filter(|(_, document)| matches!(document, Document::Manifest(_)))
                    .try_for_each(|(d, _)| self.require(d))
            }
        }
    }
}

/// A blob on its way in: first what is here of it, then what its source gives, which is written down as it passes.
struct Arriving<'a, 'o> {
    file: File,
    path: &'a Path,
    size: u64,
    /// Bytes that are in the file.
    kept: u64,
    /// Where the next read begins.
    at: u64,
    open: &'a mut Open<'o>,
    source: Option<Box<dyn Read + 'o>>,
    failed: Option<Error>,
}

impl Arriving<'_, '_> {
    /// Reads everything, from the first byte on, and checks it.
    fn drain(&mut self, digest: Digest) -> Result<()> {
        self.at = 0;
        let length = self.size;
        Bytes::new(Blob {
            source: Box::new(self),
            length,
            digest: Some(digest),
        })
        .finish()
    }

    fn fetch(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.source.is_none() {
            self.source = Some((self.open)(self.at)?);
        }
        let Some(source) = &mut self.source else {
            return Ok(0);
        };
        let count = loop {
            match source.read(out) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(match e.downcast::<Error>() {
                        Ok(error) => error,
                        Err(e) => Error::io("read the source of", self.path, e),
                    });
                }
                Ok(count) => break count,
            }
        };
        if self.at == self.size {
            if count > 0 {
                return Err(Error::SizeMismatch {
                    what: "blob".to_owned(),
                    expected: self.size,
                    found: self.size + count as u64,
                });
            }
            return Ok(0);
        }
        if count == 0 {
            return Err(Error::io(
                "read the source of",
                self.path,
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ended after {} of {} bytes", self.at, self.size),
                ),
            ));
        }
        self.file
            .write_all_at(&out[..count], self.at)
            .map_err(|e| Error::io("write", self.path, e))?;
        self.kept += count as u64;
        Ok(count)
    }
}

impl Read for Arriving<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let count = if self.at < self.kept {
            let most = usize::try_from(self.kept - self.at).unwrap_or(usize::MAX);
            let most = most.min(out.len());
            let count = self.file.read_at(&mut out[..most], self.at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            count
        } else if self.at == self.size && self.source.is_none() {
            0
        } else {
            // One byte past the end tells a source that is longer than it should be.
            let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let most = left.max(1).min(out.len());
            match self.fetch(&mut out[..most]) {
                Ok(count) => count,
                Err(error) => {
                    let said = error.to_string();
                    self.failed.get_or_insert(error);
                    return Err(io::Error::other(said));
                }
            }
        };
        self.at += count as u64;
        Ok(count)
    }
}

/// Checks a document that somebody else has fetched.
fn check(text: &[u8], descriptor: &Descriptor, what: &'static str) -> Result<()> {
    if text.len() as u64 > LONGEST_DOCUMENT {
        return Err(Error::limit(
            format!("the size of the image's {what}"),
            "4 MiB",
        ));
    }
    if text.len() as u64 != descriptor.size {
        return Err(Error::SizeMismatch {
            what: what.to_owned(),
            expected: descriptor.size,
            found: text.len() as u64,
        });
    }
    let found = Digest::of(text);
    if found != descriptor.digest {
        return Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: descriptor.digest,
            found,
        });
    }
    Ok(())
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
}
