//! What the store's layout holds: names, the images they stand for, and their blobs.

use std::fs::File;

use super::layout::{Layout, name_entry, with_source};
use super::{Store, record};
use crate::config::{self, ImageConfig};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, Manifest};
use crate::platform::Platform;
use crate::reference::{Name, Reference};
use crate::source::SourceLayer;
use crate::source::layout::{Wanted, blob, choose, follow, layers};
use crate::unpack;

/// An image of the store, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What index.json has under the name: a manifest, or an index of several.
    pub entry: Descriptor,
    /// The manifest for the platform; the same as `entry` where that is one.
    pub descriptor: Descriptor,
    /// Its content.
    pub manifest: Manifest,
}

/// An image of the store, its documents read.
#[derive(Debug)]
pub struct Details {
    /// Its place in the store.
    pub stored: Stored,
    /// The digest of its configuration, which is docker's image id.
    pub id: Digest,
    /// What it is for.
    pub platform: Platform,
    /// What it says about running it.
    pub config: ImageConfig,
    /// The digests of its layers' tar streams, the bottom one first.
    pub diff_ids: Vec<Digest>,
    /// The configuration as it is: JSON.
    pub document: Vec<u8>,
    layers: Vec<SourceLayer>,
}

impl Store {
    /// The entries of index.json in their order: one for each name, and one for each image without a name. Empty for a new store.
    ///
    /// # Errors
    /// [`Error::Json`] if index.json is damaged (`palisade store check --repair` mends it).
    pub fn entries(&self) -> Result<Vec<Descriptor>> {
        Ok(match self.layout()? {
            Some(layout) => layout.index()?.manifests,
            None => Vec::new(),
        })
    }

    /// Finds what a name, an id or the beginning of one stands for.
    ///
    /// # Errors
    /// [`Error::NotInStore`] if it stands for nothing, [`Error::NoSuchImage`] if for several images.
    pub fn entry(&self, reference: &Reference, platform: &Platform) -> Result<Descriptor> {
        let wanted = match reference {
            Reference::Registry(name) => Wanted::Name(name),
            Reference::Id(id) => Wanted::Id(*id),
            _ => {
                return Err(Error::Reference {
                    text: reference.to_string(),
                    reason: "it lies elsewhere, and has no name in the store (palisade load gives it one)"
                        .to_owned(),
                });
            }
        };
        let missing = || Error::NotInStore {
            name: reference.to_string(),
        };
        let layout = self.layout()?.ok_or_else(missing)?;
        let all = layout.index()?.manifests;
        match choose(layout.place(), &all, wanted, platform) {
            Ok(entry) => Ok(entry.clone()),
            Err(Error::NoSuchImage { .. }) => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Finds an image and reads its manifest.
    ///
    /// # Errors
    /// As [`Store::entry`]; [`Error::Platform`] if it is not for that platform; any other for an image that is damaged.
    pub fn find(&self, reference: &Reference, platform: &Platform) -> Result<Stored> {
        let entry = self.entry(reference, platform)?;
        self.stored_at(entry, platform)
    }

    /// The image that an entry of index.json stands for.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn stored_at(&self, entry: Descriptor, platform: &Platform) -> Result<Stored> {
        let layout = self.opened()?;
        let (descriptor, manifest) = follow(layout.place(), entry.clone(), platform)?;
        Ok(Stored {
            entry,
            descriptor,
            manifest,
        })
    }

    /// Gives what an entry stands for another name, which nothing else has then.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if a part of it is missing; [`Error::Io`].
    pub fn tag(&self, entry: &Descriptor, name: &Name) -> Result<()> {
        let layout = self.opened()?;
        layout.edit(|entries| {
            layout.require(entry)?;
            name_entry(entries, entry, name);
            Ok(())
        })
    }

    /// Remembers the digest that a registry knows an image by under a name; nothing, if the name stands for another image meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remember(&self, entry: &Descriptor, name: &Name, known: Digest) -> Result<()> {
        let layout = self.opened()?;
        layout.edit(|entries| {
            let own = entries.iter().find(|own| {
                own.descriptor.digest == entry.digest
                    && own.descriptor.name().is_some_and(|own| name.is(own))
            });
            if let Some(own) = own.filter(|own| own.descriptor.source_digest() != known) {
                let descriptor = with_source(own.descriptor.clone(), Some(known));
                name_entry(entries, &descriptor, name);
            }
            Ok(())
        })
    }

    /// All that is known of an image without looking into its layers. Of an index for other platforms alone, its first image that is here.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn details(&self, entry: Descriptor, platform: &Platform) -> Result<Details> {
        let stored = match self.stored_at(entry.clone(), platform) {
            Err(Error::Platform { .. }) => {
                let platform = self.other_platform(&entry)?;
                self.stored_at(entry, &platform)?
            }
            result => result?,
        };
        let layout = self.opened()?;
        let config = blob(layout.place(), &stored.manifest.config, "configuration")?;
        let document = config::Document::parse(&config, layout.path())?;
        let layers = layers(&stored.manifest, &document, layout.path())?;
        Ok(Details {
            id: stored.manifest.config.digest,
            platform: document.platform,
            config: document.config,
            diff_ids: document.diff_ids,
            document: config,
            layers,
            stored,
        })
    }

    fn other_platform(&self, entry: &Descriptor) -> Result<Platform> {
        let layout = self.opened()?;
        let here = match layout.document(entry)? {
            Document::Index(index) => index
                .manifests
                .into_iter()
                .filter(|d| layout.has(d.digest, Some(d.size)))
                .find_map(|d| d.platform),
            Document::Manifest(_) => None,
        };
        here.ok_or_else(|| Error::NotAnImage {
            path: layout.path().to_owned(),
            kind: "a complete image",
            reason: format!("nothing of the index {} is here", entry.digest),
        })
    }

    /// How many bytes the files of each layer have, as docker counts them: those of the layer's archive, links counted once. What was never
    /// unpacked is read for it once.
    ///
    /// # Errors
    /// Those of reading a layer.
    pub fn layer_sizes(&self, details: &Details) -> Result<Vec<u64>> {
        let sizes = self.made("sizes")?;
        let size = |layer: &SourceLayer| {
            let name = layer.diff_id.hex();
            let known = std::fs::read_to_string(sizes.join(&name)).ok();
            if let Some(size) = known.and_then(|text| text.parse().ok()) {
                return Ok(size);
            }
            let blob = layer.open(self.opened()?.place())?;
            let size = unpack::measure(blob, &self.limits, &layer.diff_id.to_string())?;
            record::publish(&sizes, &name, size.to_string().as_bytes())?;
            Ok(size)
        };
        details.layers.iter().map(size).collect()
    }

    /// Reads a manifest, index or configuration; its size and digest are checked.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if it is missing, [`Error::DigestMismatch`] and [`Error::SizeMismatch`] if it is damaged.
    pub fn read_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        blob(self.opened()?.place(), descriptor, "document")
    }

    /// Opens a blob; none if it is not there. Whoever reads it checks the digest.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotAnImage`] if what lies there is no regular file.
    pub fn open_blob(&self, digest: Digest) -> Result<Option<File>> {
        let Some(layout) = self.layout()? else {
            return Ok(None);
        };
        let part = layout
            .place()
            .open(&format!("blobs/sha256/{}", digest.hex()))?;
        Ok(part.map(|part| part.file))
    }

    fn opened(&self) -> Result<Layout> {
        self.layout()?.ok_or_else(|| Error::NotInStore {
            name: "the image".to_owned(),
        })
    }
}
