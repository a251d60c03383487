//! What is in use: which blobs and unpacked layers the names of a store lead to.

use std::collections::BTreeSet;

use super::layers::directories;
use super::layout::Layout;
use crate::config;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Manifest};
use crate::source::layout::{blob, layers};

/// Blobs, and names of directories of layers.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub blobs: BTreeSet<Digest>,
    pub layers: BTreeSet<String>,
}

impl Used {
    /// Adds everything that an entry leads to. What cannot be read leads no further.
    pub(crate) fn add(&mut self, layout: &Layout, entry: &Descriptor) {
        // Each document is read once, which also ends a circle.
        let mut todo = vec![entry.clone()];
        while let Some(descriptor) = todo.pop() {
            if !self.blobs.insert(descriptor.digest) {
                continue;
            }
            match layout.document(&descriptor) {
                Ok(Document::Index(index)) => todo.extend(index.manifests),
                Ok(Document::Manifest(manifest)) => self.add_manifest(layout, &manifest),
                Err(_) => {}
            }
        }
    }

    fn add_manifest(&mut self, layout: &Layout, manifest: &Manifest) {
        self.blobs.insert(manifest.config.digest);
        self.blobs.extend(manifest.layers.iter().map(|d| d.digest));
        let document = blob(layout.place(), &manifest.config, "configuration")
            .and_then(|text| config::Document::parse(&text, layout.path()));
        if let Ok(layers) = document.and_then(|d| layers(manifest, &d, layout.path())) {
            self.layers.extend(directories(&layers));
        }
    }
}
