//! What is sent to a registry for an image: its documents, with layers that are not compressed compressed first.
//!
//! Images that were made here, or came in an archive, have layers as plain tar streams. What is compressed for a push lies in nameless files
//! until the push is over: the image in the store stays what it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, Manifest, media_type};
use crate::source::layout::DEEPEST;
use crate::store::Store;
use crate::unpack::{Blob, Section, Stream};

/// docker's media type of a layer; `.gzip` follows where it is.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// What every registry and engine reads (RFC 1952).
    Gzip,
    /// Smaller, and faster to unpack (RFC 8878); docker before 23 and old engines do not read it.
    Zstd,
}

/// A manifest or index as it is sent.
pub(super) struct Parcel {
    pub text: Vec<u8>,
    pub digest: Digest,
    pub kind: String,
    /// Of a manifest, what it needs.
    pub manifest: Option<Manifest>,
    /// Of an index, what it names.
    pub parts: Vec<Parcel>,
}

/// Makes parcels.
pub(super) struct Packer<'a> {
    store: &'a Store,
    /// What all layers are to be; without it only those that are not compressed at all become gzip.
    wanted: Option<Compression>,
    /// Fails once the push is to end.
    alive: &'a dyn Fn() -> Result<()>,
    /// What was made of layers, by what they were.
    packed: BTreeMap<Digest, Descriptor>,
    /// Blobs that are not in the store.
    pub made: BTreeMap<Digest, File>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        store: &'a Store,
        wanted: Option<Compression>,
        alive: &'a dyn Fn() -> Result<()>,
    ) -> Self {
        Self {
            store,
            wanted,
            alive,
            packed: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// The parcel of a manifest or index of the store.
    ///
    /// # Errors
    /// [`Error::NotInStore`] and others for an image that is not whole; [`Error::Interrupted`].
    pub(super) fn pack(&mut self, descriptor: &Descriptor) -> Result<Parcel> {
        self.document(descriptor, DEEPEST)
    }

    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Parcel> {
        let text = self.store.read_blob(descriptor)?;
        let document = Document::parse(&text, "the store".as_ref())?;
        let kind = match (&document, descriptor.media_type.as_str()) {
            (Document::Manifest(_), "") => media_type::OCI_MANIFEST,
            (Document::Index(_), "") => media_type::OCI_INDEX,
            (_, kind) => kind,
        };
        match document {
            Document::Manifest(manifest) => self.image(text, kind, manifest),
            Document::Index(_) if depth == 0 => Err(Error::limit(
                "the number of indexes on the way to the image",
                DEEPEST.to_string(),
            )),
            Document::Index(index) => {
                let mut parts = Vec::new();
                for part in &index.manifests {
                    parts.push(self.document(part, depth - 1)?);
                }
                let changed = parts
                    .iter()
                    .zip(&index.manifests)
                    .any(|(part, was)| part.digest != was.digest);
                let (text, kind) = if changed {
                    renewed_index(&text, kind, &parts)?
                } else {
                    (text, kind.to_owned())
                };
                Ok(Parcel {
                    digest: Digest::of(&text),
                    text,
                    kind,
                    manifest: None,
                    parts,
                })
            }
        }
    }

    fn image(&mut self, text: Vec<u8>, kind: &str, manifest: Manifest) -> Result<Parcel> {
        let mut layers = manifest.layers.clone();
        // What is no image has no layers to be compressed.
        if manifest.check().is_ok() {
            for layer in &mut layers {
                self.layer(layer)?;
            }
        }
        if layers == manifest.layers {
            return Ok(Parcel {
                digest: Digest::of(&text),
                text,
                kind: kind.to_owned(),
                manifest: Some(manifest),
                parts: Vec::new(),
            });
        }
        // docker's own kind of manifest has no word for zstd.
        let docker = kind == media_type::DOCKER_MANIFEST && self.wanted != Some(Compression::Zstd);
        let mut config = manifest.config;
        let kind = if docker {
            media_type::DOCKER_MANIFEST
        } else {
            media_type::OCI_CONFIG.clone_into(&mut config.media_type);
            media_type::OCI_MANIFEST
        };
        for layer in &mut layers {
            if docker {
                layer.media_type = format!("{DOCKER_LAYER}.gzip");
            } else if let Some(rest) = layer.media_type.strip_prefix(DOCKER_LAYER) {
                layer.media_type = format!("{}{}", media_type::OCI_LAYER, rest.replace('.', "+"));
            }
        }
        let mut whole = object(&text)?;
        whole["mediaType"] = json!(kind);
        whole["config"] = json!(config);
        whole["layers"] = json!(layers);
        let text = whole.to_string().into_bytes();
        Ok(Parcel {
            digest: Digest::of(&text),
            text,
            kind: kind.to_owned(),
            manifest: Some(Manifest { config, layers }),
            parts: Vec::new(),
        })
    }

    /// Makes of a layer what it has to be.
    fn layer(&mut self, layer: &mut Descriptor) -> Result<()> {
        if let Some(packed) = self.packed.get(&layer.digest) {
            layer.clone_from(packed);
            return Ok(());
        }
        let file = self
            .store
            .open_blob(layer.digest)?
            .ok_or_else(|| Error::NotInStore {
                name: format!("blob {}", layer.digest),
            })?;
        let mut stream = Stream::new(Blob {
            source: Box::new(Section {
                file,
                offset: 0,
                length: layer.size,
            }),
            length: layer.size,
            digest: Some(layer.digest),
        })?;
        let is = match &stream {
            Stream::Plain(_) => None,
            Stream::Gzip(_) => Some(Compression::Gzip),
            Stream::Zstd(_) => Some(Compression::Zstd),
        };
        let wanted = match (is, self.wanted) {
            (None, None) => Compression::Gzip,
            (is, Some(wanted)) if is != Some(wanted) => wanted,
            _ => return Ok(()),
        };
        let mut written = Counted::default();
        let alive = self.alive;
        let file = self.store.written(|out| {
            let out = Tee {
                out,
                counted: &mut written,
            };
            let failed = |e| Error::io("compress", "a layer".as_ref(), e);
            match wanted {
                Compression::Gzip => {
                    let mut packer = GzEncoder::new(out, flate2::Compression::default());
                    copy(&mut stream, &mut packer, alive)?;
                    packer.finish().map_err(failed)?;
                }
                Compression::Zstd => {
                    let mut packer = zstd::Encoder::new(out, 0).map_err(failed)?;
                    copy(&mut stream, &mut packer, alive)?;
                    packer.finish().map_err(failed)?;
                }
            }
            Ok(())
        })?;
        stream.into_blob().finish()?;
        let digest = Digest::finish(written.hasher);
        let suffix = match wanted {
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let packed = Descriptor {
            media_type: format!("{}{suffix}", media_type::OCI_LAYER),
            digest,
            size: written.bytes,
            platform: None,
            // What was said of the other bytes does not hold for these.
            annotations: BTreeMap::new(),
        };
        self.made.insert(digest, file);
        self.packed.insert(layer.digest, packed.clone());
        *layer = packed;
        Ok(())
    }
}

/// An index that names other manifests than it did.
fn renewed_index(text: &[u8], kind: &str, parts: &[Parcel]) -> Result<(Vec<u8>, String)> {
    let mut whole = object(text)?;
    let docker = |part: &Parcel| {
        matches!(
            part.kind.as_str(),
            media_type::DOCKER_MANIFEST | media_type::DOCKER_INDEX
        )
    };
    let kind = if kind == media_type::DOCKER_INDEX && parts.iter().all(docker) {
        kind
    } else {
        media_type::OCI_INDEX
    };
    whole["mediaType"] = json!(kind);
    if let Some(Value::Array(entries)) = whole.get_mut("manifests") {
        for (entry, part) in entries.iter_mut().zip(parts) {
            entry["mediaType"] = json!(part.kind);
            entry["digest"] = json!(part.digest);
            entry["size"] = json!(part.text.len());
        }
    }
    Ok((whole.to_string().into_bytes(), kind.to_owned()))
}

fn object(text: &[u8]) -> Result<Value> {
    crate::manifest::json(text, "manifest", "the store".as_ref())
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, alive: &dyn Fn() -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        alive()?;
        let count = from
            .read(&mut buffer)
            .map_err(|e| Error::io("read", "a layer of the store".as_ref(), e))?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])
            .map_err(|e| Error::io("write", "a compressed layer".as_ref(), e))?;
    }
}

/// What has been written.
#[derive(Default)]
struct Counted {
    hasher: Sha256,
    bytes: u64,
}

/// Writes, and counts what it writes.
struct Tee<'o, 'c> {
    out: &'o mut dyn Write,
    counted: &'c mut Counted,
}

impl Write for Tee<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.counted.hasher.update(&bytes[..count]);
        self.counted.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
