//! Taking in images that lie elsewhere on disk, so that they have a name here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::intake::Intake;
use super::layout::Entry;
use super::{Ownership, Store, open_image};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, media_type};
use crate::platform::Platform;
use crate::reference::{Name, Reference};
use crate::source::layout::{CONTAINERD_NAME, DEEPEST, Wanted, blob, choose, index};
use crate::source::{Part, Place, docker};
use crate::unpack::{Blob, Bytes, Section};

/// Where images are to be loaded from.
#[derive(Debug)]
pub enum Origin<'a> {
    /// `oci:`, `oci-archive:` or `docker-archive:`, of which one image is meant where a tag follows.
    Reference(&'a Reference),
    /// An archive of either kind, open; the path is for errors.
    File(File, &'a Path),
}

/// Which names loaded images get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming<'a> {
    /// Those the archive or layout gives: each is taken from the image that had it.
    Given,
    /// This one, which only one image can have.
    As(&'a Name),
    /// None: images that have a name keep it, the others stay until they are pruned.
    Nothing,
}

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The names it got.
    pub names: Vec<Name>,
    /// Its id: the configuration's digest. Of an index that is not for this platform, its own digest.
    pub id: Digest,
}

/// An image on its way in.
struct Finished {
    descriptor: Descriptor,
    id: Digest,
}

impl Store {
    /// Loads every image of an archive or layout, or the one that is named, and unpacks those that run here.
    ///
    /// # Errors
    /// Any [`Error`] of finding, checking and unpacking. Images that were complete before keep their names.
    pub fn load(
        &self,
        from: Origin<'_>,
        naming: Naming<'_>,
        platform: &Platform,
        ownership: Ownership,
    ) -> Result<Vec<Loaded>> {
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|e| Error::io("find", path, e));
        let opened = |file: &Path| -> Result<Place> {
            let file = absolute(file)?;
            let open = open_image(&file)?;
            self.archive(&file, open)
        };
        let intake = self.intake()?;
        let load = |place| Load {
            store: self,
            intake: &intake,
            place,
            platform,
            ownership,
        };
        match from {
            Origin::Reference(Reference::OciLayout { dir, tag }) => {
                let place = Place::directory(&absolute(dir)?)?;
                load(&place).layout(tag.as_deref(), naming)
            }
            Origin::Reference(Reference::OciArchive { file, tag }) => {
                let place = opened(file)?;
                load(&place).layout(tag.as_deref(), naming)
            }
            Origin::Reference(Reference::DockerArchive { file, reference }) => {
                let place = opened(file)?;
                load(&place).docker(reference.as_deref(), naming)
            }
            Origin::Reference(other) => Err(Error::Reference {
                text: other.to_string(),
                reason: "only oci:, oci-archive: and docker-archive: can be loaded".to_owned(),
            }),
            Origin::File(file, path) => {
                let place = self.archive(path, file)?;
                // docker writes both descriptions; the layout's keeps the digests of the manifests.
                if place.open("index.json")?.is_some() {
                    load(&place).layout(None, naming)
                } else {
                    load(&place).docker(None, naming)
                }
            }
        }
    }

    /// Puts what can be read only once into a nameless file of the store.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than a layer may have, [`Error::Io`].
    pub fn spool(&self, source: &mut dyn Read) -> Result<File> {
        let dir = self.made("records")?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&dir, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::io("make a temporary file in", &dir, e))?;
        let mut file = File::from(file);
        let most = self.limits.layer_bytes;
        let count = io::copy(&mut source.take(most + 1), &mut file)
            .map_err(|e| Error::io("copy the input to", &dir, e))?;
        if count > most {
            return Err(Error::limit(
                "the size of the input",
                format!("{most} bytes"),
            ));
        }
        Ok(file)
    }
}

impl Naming<'_> {
    /// The names of one image, of those the archive gives it.
    fn names(self, given: impl IntoIterator<Item = Name>) -> Vec<Name> {
        match self {
            Self::Given => given.into_iter().collect(),
            Self::As(name) => vec![name.clone()],
            Self::Nothing => Vec::new(),
        }
    }
}

struct Load<'a> {
    store: &'a Store,
    intake: &'a Intake<'a>,
    place: &'a Place,
    platform: &'a Platform,
    ownership: Ownership,
}

impl Load<'_> {
    /// The images of an OCI layout.
    fn layout(&self, tag: Option<&str>, naming: Naming<'_>) -> Result<Vec<Loaded>> {
        let all = index(self.place)?.manifests;
        let chosen: Vec<&Descriptor> = match tag {
            Some(tag) => vec![choose(self.place, &all, Wanted::Tag(tag), self.platform)?],
            None => all.iter().collect(),
        };
        self.only(naming, chosen.len())?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for entry in chosen {
            let finished = self.copy(entry, DEEPEST)?;
            // containerd's annotation is the full name where the other is a tag alone.
            let own = entry.annotations.get(CONTAINERD_NAME).map(String::as_str);
            let own = own.or(entry.name()).and_then(|own| Name::parse(own).ok());
            let names = naming.names(own);
            self.publish(&finished, &names)?;
            match loaded.iter_mut().find(|other| other.id == finished.id) {
                Some(other) => other.names.extend(names),
                None => loaded.push(Loaded {
                    names,
                    id: finished.id,
                }),
            }
        }
        if loaded.is_empty() {
            return Err(Error::NoSuchImage {
                path: self.place.path().to_owned(),
                wanted: tag.map(str::to_owned),
                available: Vec::new(),
            });
        }
        Ok(loaded)
    }

    /// The images of a docker archive.
    fn docker(&self, wanted: Option<&str>, naming: Naming<'_>) -> Result<Vec<Loaded>> {
        let items = docker::items(self.place)?;
        let full = |name: &str| Name::parse(name).ok();
        let chosen: Vec<_> = items
            .iter()
            .filter(|item| {
                let wanted = wanted.map(|wanted| full(wanted).map(|name| name.to_string()));
                wanted.is_none_or(|wanted| {
                    let mut names = item.names().filter_map(full).map(|name| name.to_string());
                    wanted.is_some_and(|wanted| names.any(|own| own == wanted))
                })
            })
            .collect();
        if chosen.is_empty() {
            return Err(Error::NoSuchImage {
                path: self.place.path().to_owned(),
                wanted: wanted.map(str::to_owned),
                available: items
                    .iter()
                    .flat_map(|item| item.names().map(str::to_owned))
                    .collect(),
            });
        }
        self.only(naming, chosen.len())?;
        let mut loaded = Vec::new();
        for item in chosen {
            let source = docker::source(self.place, item)?;
            let finished = self.convert(&source)?;
            let names = naming.names(item.names().filter_map(full));
            self.publish(&finished, &names)?;
            loaded.push(Loaded {
                names,
                id: finished.id,
            });
        }
        Ok(loaded)
    }

    fn only(&self, naming: Naming<'_>, count: usize) -> Result<()> {
        if matches!(naming, Naming::As(_)) && count != 1 {
            return Err(Error::NoSuchImage {
                path: self.place.path().to_owned(),
                wanted: None,
                available: Vec::new(),
            });
        }
        Ok(())
    }

    fn publish(&self, finished: &Finished, names: &[Name]) -> Result<()> {
        self.intake.publish(&finished.descriptor, None, names)
    }

    /// Copies a manifest or index with everything it leads to.
    fn copy(&self, descriptor: &Descriptor, depth: usize) -> Result<Finished> {
        let text = blob(self.place, descriptor, "manifest")?;
        // What is said of an entry is no part of it.
        let descriptor = Entry::new(descriptor, None).descriptor;
        let id = match Document::parse(&text, self.place.path())? {
            Document::Index(_) if depth == 0 => {
                return Err(Error::limit(
                    "the number of indexes on the way to the image",
                    DEEPEST.to_string(),
                ));
            }
            Document::Index(index) => {
                let mut id = None;
                for child in &index.manifests {
                    // An index may tell of more than the layout has.
                    if self.place.open(&child.path())?.is_some() {
                        let here = child.platform.as_ref();
                        let runs = here.is_some_and(|here| self.platform.accepts(here));
                        let copied = self.copy(child, depth - 1)?;
                        if id.is_none() || runs {
                            id = Some(copied.id);
                        }
                    }
                }
                self.intake.put(&text)?;
                id.unwrap_or(descriptor.digest)
            }
            Document::Manifest(manifest) => {
                let config = self.document(&manifest.config)?;
                let image = manifest
                    .check()
                    .and_then(|()| self.intake.image(&descriptor, &text, &config));
                match image {
                    Ok(incoming) if self.runs(&config) => {
                        for (i, layer) in manifest.layers.iter().enumerate() {
                            let part = self.part(layer)?;
                            incoming.layer(i, self.ownership, &mut |at| section(&part, at))?;
                        }
                    }
                    // An image for another platform, or what is no image but part of an index, such as an attestation.
                    Ok(_) | Err(Error::Unsupported { .. }) => {
                        self.intake.put(&config)?;
                        for layer in &manifest.layers {
                            let part = self.part(layer)?;
                            self.intake
                                .blob(layer.digest, layer.size, &mut |at| section(&part, at))?;
                        }
                        self.intake.put(&text)?;
                    }
                    Err(error) => return Err(error),
                }
                manifest.config.digest
            }
        };
        Ok(Finished { descriptor, id })
    }

    /// Makes an OCI image of one of docker's. Its configuration, and so its id, stay as they are.
    fn convert(&self, source: &crate::source::Source) -> Result<Finished> {
        let mut layers = Vec::new();
        let mut parts = Vec::new();
        for layer in &source.layers {
            let part = layer.part(self.place)?;
            let mut first = Vec::new();
            section(&part, 0)?
                .take(4)
                .read_to_end(&mut first)
                .map_err(|e| Error::io("read", self.place.path(), e))?;
            let (suffix, digest) = match first[..] {
                [0x1f, 0x8b, ..] => ("+gzip", self.hash(&part)?),
                [0x28, 0xb5, 0x2f, 0xfd] => ("+zstd", self.hash(&part)?),
                _ => ("", layer.diff_id),
            };
            layers.push(Descriptor {
                media_type: format!("{}{suffix}", media_type::OCI_LAYER),
                digest,
                size: part.length,
                platform: None,
                annotations: std::collections::BTreeMap::new(),
            });
            parts.push(part);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, &source.config),
            "layers": layers,
        })
        .to_string();
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
        let incoming = self
            .intake
            .image(&descriptor, manifest.as_bytes(), &source.config)?;
        for (i, (part, layer)) in parts.iter().zip(&layers).enumerate() {
            if self.platform.accepts(&source.document.platform) {
                incoming.layer(i, self.ownership, &mut |at| section(part, at))?;
            } else {
                self.intake
                    .blob(layer.digest, layer.size, &mut |at| section(part, at))?;
            }
        }
        Ok(Finished {
            descriptor,
            id: source.config_digest,
        })
    }

    fn runs(&self, config: &[u8]) -> bool {
        crate::config::Document::parse(config, self.store.dir.as_ref())
            .is_ok_and(|document| self.platform.accepts(&document.platform))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        blob(self.place, descriptor, "configuration")
    }

    fn part(&self, layer: &Descriptor) -> Result<Part> {
        self.place
            .open(&layer.path())?
            .ok_or_else(|| Error::NotAnImage {
                path: self.place.path().to_owned(),
                kind: "a complete image",
                reason: format!("the layer {} is missing", layer.digest),
            })
    }

    fn hash(&self, part: &Part) -> Result<Digest> {
        Bytes::new(Blob {
            source: section(part, 0)?,
            length: part.length,
            digest: None,
        })
        .digest()
        .map_err(|e| Error::io("read", self.place.path(), e))
    }
}

/// A part of an archive, from an offset on.
fn section(part: &Part, at: u64) -> Result<Box<dyn Read>> {
    let file = part
        .file
        .try_clone()
        .map_err(|e| Error::io("read", "the archive".as_ref(), e))?;
    Ok(Box::new(Section {
        file,
        offset: part.offset + at,
        length: part.length.saturating_sub(at),
    }))
}
