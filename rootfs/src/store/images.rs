//! What the store's layout holds: names, the images they stand for, and their blobs.

use std::fs::File;

use super::Store;
use super::layout::Layout;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::source::layout::{Wanted, blob, choose, follow};

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
