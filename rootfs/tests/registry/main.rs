//! The client of registries against a registry of the tests' own: sound, broken, and lying.

#![allow(missing_docs)]

mod faults;
mod identity;
mod listing;
mod pulling;
mod pushing;
mod rules;
mod server;
mod signatures;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use palisade_rootfs::registry::{Options, Patience, Pulled, Registries};
use palisade_rootfs::{
    Descriptor, Digest, Error, Image, Name, Ownership, Platform, Reference, Store, manifest,
};
use serde_json::json;
use support::{Tar, gzip};

/// An image in memory.
#[derive(Clone)]
pub(crate) struct Packed {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Packed {
    pub fn new(tars: &[Vec<u8>]) -> Self {
        Self::of_platform(tars, &Platform::host())
    }

    pub fn of_platform(tars: &[Vec<u8>], platform: &Platform) -> Self {
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = json!({"os": "linux", "architecture": platform.architecture,
            "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string().into_bytes();
        let described =
            |layer: &Vec<u8>| Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", layer);
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest::media_type::OCI_MANIFEST,
            "config": Descriptor::of(manifest::media_type::OCI_CONFIG, &config),
            "layers": layers.iter().map(described).collect::<Vec<_>>()});
        Self {
            layers,
            config,
            manifest: manifest.to_string().into_bytes(),
        }
    }

    /// With layers that are not compressed.
    pub fn plain(tars: &[Vec<u8>]) -> Self {
        let packed = Self::new(tars);
        let described = |tar: &Vec<u8>| Descriptor::of(manifest::media_type::OCI_LAYER, tar);
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest::media_type::OCI_MANIFEST,
            "config": Descriptor::of(manifest::media_type::OCI_CONFIG, &packed.config),
            "layers": tars.iter().map(described).collect::<Vec<_>>()});
        Self {
            layers: tars.to_vec(),
            manifest: manifest.to_string().into_bytes(),
            ..packed
        }
    }

    /// Two layers, the second with a file of many bytes that cannot be packed well.
    pub fn large() -> Self {
        let mut noise = Vec::with_capacity(400_000);
        let mut state = 1_u32;
        while noise.len() < 400_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.extend_from_slice(&state.to_be_bytes()[..2]);
        }
        Self::new(&[tar("a"), Tar::default().file("noise", noise).end()])
    }
}

pub(crate) fn tar(name: &str) -> Vec<u8> {
    Tar::default().file(name, name.repeat(100)).end()
}

/// A caller's machine: a store and a home.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    pub options: Options,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            variables: vec![("HOME".into(), dir.path().into())],
            settings: dir.path().join("settings"),
            certificates: Vec::new(),
            rules: dir.path().join("images.json"),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(20),
            patience: Patience {
                attempts: 4,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(50),
            },
            ..Options::default()
        };
        Self { dir, options }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    pub fn registries(&self) -> Registries {
        Registries::new(self.options.clone()).unwrap()
    }

    pub fn pull(&self, name: &str) -> Result<Pulled, Error> {
        self.pull_for(name, &Platform::host())
    }

    pub fn pull_for(&self, name: &str, platform: &Platform) -> Result<Pulled, Error> {
        let name = Name::parse(name).unwrap();
        self.registries()
            .pull(&self.store(), &name, platform, Ownership::Caller, &())
    }

    pub fn resolve(&self, name: &str) -> Result<Image, Error> {
        let reference = Reference::parse(name).unwrap();
        self.store()
            .resolve(&reference, &Platform::host(), Ownership::Caller)
    }

    /// The file in which a blob grows.
    pub fn partial(&self, blob: &[u8]) -> PathBuf {
        self.path("store/partial").join(Digest::of(blob).hex())
    }

    /// A pull that fails, and leaves nothing that could be taken for an image.
    pub fn refused(&self, name: &str) -> Error {
        let error = match self.pull(name) {
            Ok(pulled) => panic!("pulled {pulled:?}"),
            Err(error) => error,
        };
        assert!(matches!(self.resolve(name), Err(Error::NotInStore { .. })));
        for place in ["store/layers", "store/partial"] {
            let entries = fs::read_dir(self.path(place))
                .into_iter()
                .flatten()
                .flatten();
            let left: Vec<PathBuf> = entries
                .map(|entry| entry.path())
                .filter(|path| {
                    path.extension()
                        .is_some_and(|extension| extension == "part")
                })
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
        error
    }
}
