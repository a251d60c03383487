//! Images as others leave them on disk.

pub(crate) mod docker;
pub(crate) mod layout;
mod place;

pub(crate) use place::{Part, Place};

use crate::config::Document;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::unpack::{Blob, Section};

/// An image found in a [`Place`]: its documents are checked, its layers still packed.
#[derive(Debug)]
pub(crate) struct Source {
    pub document: Document,
    pub manifest_digest: Option<Digest>,
    pub config_digest: Digest,
    /// The configuration as it is: JSON.
    pub config: Vec<u8>,
    /// The bottom one first.
    pub layers: Vec<SourceLayer>,
}

/// A packed layer.
#[derive(Debug)]
pub(crate) struct SourceLayer {
    pub diff_id: Digest,
    pub digest: Option<Digest>,
    pub size: Option<u64>,
    /// The file's name in its place.
    pub name: String,
}

impl SourceLayer {
    /// Where the layer's blob lies.
    pub(crate) fn part(&self, place: &Place) -> Result<Part> {
        place.open(&self.name)?.ok_or_else(|| Error::NotAnImage {
            path: place.path().to_owned(),
            kind: "a complete image",
            reason: format!("the layer `{}` is missing", self.name.escape_debug()),
        })
    }

    /// Opens the layer's blob and checks its length.
    pub(crate) fn open(&self, place: &Place) -> Result<Blob<'static>> {
        let part = self.part(place)?;
        if let Some(expected) = self.size.filter(|&size| size != part.length) {
            return Err(Error::SizeMismatch {
                what: "layer's blob".to_owned(),
                expected,
                found: part.length,
            });
        }
        Ok(Blob {
            length: part.length,
            digest: self.digest,
            source: Box::new(Section {
                file: part.file,
                offset: part.offset,
                length: part.length,
            }),
        })
    }
}
