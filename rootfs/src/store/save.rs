//! Writing images of the store to an archive that others can load.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::Store;
use super::layout::Entry;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, Index, media_type};
use crate::platform::Platform;
use crate::reference::Name;
use crate::source::layout::{CONTAINERD_NAME, REF_NAME};
use crate::unpack::{Blob, Bytes};

/// The kind of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As docker writes it: an OCI layout with a manifest.json beside it, so that both kinds of readers find what they look for.
    Docker,
    /// An OCI layout alone.
    Oci,
}

impl Store {
    /// Writes images, each with the names it shall have in the archive. What several of them share is written once.
    ///
    /// # Errors
    /// [`Error::NotAnImage`], [`Error::DigestMismatch`] and [`Error::SizeMismatch`] for an image that is damaged, [`Error::Io`].
    pub fn save(
        &self,
        images: &[(Descriptor, Vec<Name>)],
        form: Form,
        platform: &Platform,
        out: &mut dyn Write,
    ) -> Result<()> {
        let mut archive = Archive {
            store: self,
            out: tar::Builder::new(out),
            written: BTreeSet::new(),
        };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        let mut index = Vec::new();
        let mut items: Vec<Value> = Vec::new();
        for (entry, names) in images {
            archive.image(entry)?;
            index.extend(entries(entry, names));
            if form == Form::Docker {
                let details = self.details(entry.clone(), platform)?;
                let manifest = &details.stored.manifest;
                let layers: Vec<String> = manifest.layers.iter().map(Descriptor::path).collect();
                items.push(json!({
                    "Config": manifest.config.path(),
                    "RepoTags": names.iter().map(familiar).collect::<Vec<_>>(),
                    "Layers": layers,
                }));
            }
        }
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": index});
        archive.file("index.json", index.to_string().as_bytes())?;
        if form == Form::Docker {
            archive.file("manifest.json", Value::from(items).to_string().as_bytes())?;
        }
        archive.out.finish().map_err(writing)
    }
}

/// The entries of the archive's index for one image.
fn entries(entry: &Descriptor, names: &[Name]) -> Vec<Descriptor> {
    let plain = Entry::new(entry, None).descriptor;
    if names.is_empty() {
        return vec![plain];
    }
    let under = |name: &Name| {
        let mut descriptor = plain.clone();
        for key in [REF_NAME, CONTAINERD_NAME] {
            descriptor
                .annotations
                .insert(key.to_owned(), name.to_string());
        }
        descriptor
    };
    names.iter().map(under).collect()
}

/// A name as docker's archives have it.
fn familiar(name: &Name) -> String {
    let tag = name.tag.as_deref().unwrap_or("latest");
    format!("{}:{tag}", name.familiar())
}

struct Archive<'a> {
    store: &'a Store,
    out: tar::Builder<&'a mut dyn Write>,
    written: BTreeSet<Digest>,
}

impl Archive<'_> {
    /// Writes everything that an entry leads to; of an index, what of it is here.
    fn image(&mut self, entry: &Descriptor) -> Result<()> {
        let mut todo = vec![entry.clone()];
        while let Some(descriptor) = todo.pop() {
            if !self.written.insert(descriptor.digest) {
                continue;
            }
            let text = self.store.read_blob(&descriptor)?;
            match Document::parse(&text, Path::new("the image"))? {
                Document::Index(Index { manifests }) => {
                    for child in manifests {
                        if self.store.open_blob(child.digest)?.is_some() {
                            todo.push(child);
                        }
                    }
                }
                Document::Manifest(manifest) => {
                    for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                        self.blob(part)?;
                    }
                }
            }
            self.file(&descriptor.path(), &text)?;
        }
        Ok(())
    }

    /// Writes a blob, and checks it on the way.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<()> {
        if !self.written.insert(descriptor.digest) {
            return Ok(());
        }
        let file = self
            .store
            .open_blob(descriptor.digest)?
            .ok_or_else(|| Error::NotAnImage {
                path: self.store.dir.join("images"),
                kind: "a complete image",
                reason: format!("the blob {} is missing", descriptor.digest),
            })?;
        let mut bytes = Bytes::new(Blob {
            source: Box::new(file),
            length: descriptor.size,
            digest: Some(descriptor.digest),
        });
        let header = header(descriptor.size);
        self.out
            .append_data(
                &mut header.clone(),
                descriptor.path(),
                (&mut bytes).take(descriptor.size),
            )
            .map_err(writing)?;
        bytes.finish()
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        let mut header = header(0);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        self.out
            .append_data(&mut header, name, std::io::empty())
            .map_err(writing)
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.out
            .append_data(&mut header(content.len() as u64), name, content)
            .map_err(writing)
    }
}

/// The same for everything, so that the same images make the same archive. The owner is the caller: skopeo, which unpacks
/// archives to read them, gives files to whom they say, and may do that as an ordinary user for itself alone.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header
}

fn writing(error: std::io::Error) -> Error {
    Error::io("write", Path::new("the archive"), error)
}
