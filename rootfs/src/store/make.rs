//! Making images: from an archive, or from an image and one more layer.

use std::fs::File;
use std::io::{Read, Seek, Write};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Ownership, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, media_type};
use crate::reference::Name;
use crate::unpack::{Blob, Section, Stream};

/// A layer that is to be the topmost of a new image: a tar stream, plain or compressed, in a file.
#[derive(Debug)]
pub struct NewLayer {
    file: File,
    descriptor: Descriptor,
    diff_id: Digest,
}

impl Store {
    /// Takes a layer from a file, which is read from its beginning.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a compression that layers cannot have, [`Error::Layer`] for one that is damaged, [`Error::Limit`], [`Error::Io`].
    pub fn new_layer(&self, file: File) -> Result<NewLayer> {
        let reading = |e| Error::io("read", "the layer".as_ref(), e);
        let length = file.metadata().map_err(reading)?.len();
        let clone = || file.try_clone().map_err(reading);
        let section = |file| {
            Box::new(Section {
                file,
                offset: 0,
                length,
            })
        };
        let digest = crate::unpack::Bytes::new(Blob {
            source: section(clone()?),
            length,
            digest: None,
        })
        .digest()
        .map_err(reading)?;
        let mut stream = Stream::new(Blob {
            source: section(clone()?),
            length,
            digest: None,
        })?;
        let suffix = match &stream {
            Stream::Plain(_) => "",
            Stream::Gzip(_) => "+gzip",
            Stream::Zstd(_) => "+zstd",
        };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0_u64;
        loop {
            let count = stream.read(&mut buffer).map_err(|e| Error::Layer {
                layer: digest.to_string(),
                entry: Vec::new(),
                reason: format!("it cannot be inflated: {e}"),
            })?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > self.limits.layer_bytes
                || self.limits.is_bomb(total, stream.blob().consumed())
            {
                return Err(Error::limit(
                    "the size of the layer",
                    format!(
                        "{} bytes, and {} to 1",
                        self.limits.layer_bytes, self.limits.ratio
                    ),
                ));
            }
            hasher.update(&buffer[..count]);
        }
        drop(stream);
        Ok(NewLayer {
            file,
            diff_id: Digest::finish(hasher),
            descriptor: Descriptor {
                media_type: format!("{}{suffix}", media_type::OCI_LAYER),
                digest,
                size: length,
                platform: None,
                annotations: std::collections::BTreeMap::new(),
            },
        })
    }

    /// Makes an image: the layers of `base`, if one is given, and a new one. `config` is its configuration document but for the layers, which
    /// are put into it. Returns the image's id.
    ///
    /// # Errors
    /// Those of unpacking, which tells whether the layer is one; [`Error::Config`] for a configuration that could not be run; [`Error::Io`].
    pub fn make(
        &self,
        base: Option<&super::Details>,
        mut config: Map<String, Value>,
        layer: &NewLayer,
        names: &[Name],
        ownership: Ownership,
    ) -> Result<Digest> {
        let mut diff_ids = base.map_or_else(Vec::new, |base| base.diff_ids.clone());
        diff_ids.push(layer.diff_id);
        let mut layers = base.map_or_else(Vec::new, |base| base.stored.manifest.layers.clone());
        layers.push(layer.descriptor.clone());
        config.insert(
            "rootfs".to_owned(),
            json!({"type": "layers", "diff_ids": diff_ids}),
        );
        let config = Value::Object(config).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
            "layers": layers,
        })
        .to_string();
        let intake = self.intake()?;
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
        let incoming = intake.image(&descriptor, manifest.as_bytes(), config.as_bytes())?;
        let last = layers.len() - 1;
        incoming.layer(last, ownership, &mut |offset| {
            let file = layer
                .file
                .try_clone()
                .map_err(|e| Error::io("read", "the layer".as_ref(), e))?;
            Ok(Box::new(Section {
                file,
                offset,
                length: layer.descriptor.size.saturating_sub(offset),
            }))
        })?;
        incoming.publish(None, names)?;
        Ok(Digest::of(config.as_bytes()))
    }

    /// Puts several images under one name: an index of them. Each has to be here. Returns its digest.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if a part of one is missing; [`Error::Io`].
    pub fn make_index(&self, images: &[Descriptor], name: &Name) -> Result<Digest> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": images,
        })
        .to_string();
        let intake = self.intake()?;
        intake.put(index.as_bytes())?;
        let descriptor = Descriptor::of(media_type::OCI_INDEX, index.as_bytes());
        intake.publish(&descriptor, None, std::slice::from_ref(name))?;
        Ok(descriptor.digest)
    }

    /// A nameless file of the store, written by `write` and then at its beginning.
    ///
    /// # Errors
    /// Those of `write`; [`Error::Io`].
    pub fn written(&self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<File> {
        let file = self.spool(&mut std::io::empty())?;
        let mut writer = std::io::BufWriter::with_capacity(256 << 10, file);
        write(&mut writer)?;
        let mut file = writer
            .into_inner()
            .map_err(|e| Error::io("write", &self.dir, e.into_error()))?;
        file.rewind().map_err(|e| Error::io("read", &self.dir, e))?;
        Ok(file)
    }
}
