//! Images made by the tests themselves, byte by byte.

#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use palisade_rootfs::{Digest, Error, Image, Limits, Ownership, Platform, Reference, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A tar archive under construction.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A header and what it describes.
#[derive(Clone)]
pub struct Item {
    pub kind: u8,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub data: Vec<u8>,
    /// Written as it is instead of the data's length.
    pub size_field: Option<Vec<u8>>,
}

pub fn item(kind: u8, path: impl AsRef<[u8]>) -> Item {
    Item {
        kind,
        path: path.as_ref().to_vec(),
        link: Vec::new(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        data: Vec::new(),
        size_field: None,
    }
}

impl Tar {
    pub fn add(mut self, item: &Item) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &item.path[..item.path.len().min(100)]);
        put(100, format!("{:07o}\0", item.mode).as_bytes());
        put(108, format!("{:07o}\0", item.uid).as_bytes());
        put(116, format!("{:07o}\0", item.gid).as_bytes());
        put(
            124,
            &item
                .size_field
                .clone()
                .unwrap_or_else(|| format!("{:011o}\0", item.data.len()).into_bytes()),
        );
        put(136, format!("{:011o}\0", item.mtime).as_bytes());
        put(156, &[item.kind]);
        put(157, &item.link[..item.link.len().min(100)]);
        put(257, b"ustar\x0000");
        if matches!(item.kind, b'3' | b'4') {
            put(329, b"0000001\0");
            put(337, b"0000003\0");
        }
        seal(&mut header);
        self.0.extend_from_slice(&header);
        self.data(&item.data)
    }

    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.add(&Item {
            data: data.as_ref().to_vec(),
            ..item(b'0', path)
        })
    }

    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.add(&item(b'5', path))
    }

    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(&Item {
            link: target.as_ref().to_vec(),
            ..item(b'2', path)
        })
    }

    pub fn hardlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(&Item {
            link: target.as_ref().to_vec(),
            ..item(b'1', path)
        })
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let mut length = bare + 1;
            while length != bare + length.to_string().len() {
                length = bare + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.add(&Item {
            data: text,
            ..item(b'x', "pax")
        })
    }

    /// A GNU long name (`L`) or long link target (`K`) for the next entry.
    pub fn gnu_long(self, kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut data = name.as_ref().to_vec();
        data.push(0);
        self.add(&Item {
            data,
            ..item(kind, "././@LongLink")
        })
    }

    /// The archive, ended by two zero blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Sets a header's checksum.
pub fn seal(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An OCI layout whose documents can be spoilt before they are written.
#[derive(Clone)]
pub struct Layout {
    /// The blob and the tar stream in it.
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub config: Value,
    pub media_type: &'static str,
    pub spoil_config: fn(&mut Value),
    pub spoil_manifest: fn(&mut Value),
    pub spoil_index: fn(&mut Value),
}

fn same(_: &mut Value) {}

impl Layout {
    pub fn new(tars: &[Vec<u8>]) -> Self {
        Self::packed(tars, gzip)
    }

    pub fn packed(tars: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Self {
        Self {
            layers: tars.iter().map(|tar| (pack(tar), tar.clone())).collect(),
            config: json!({}),
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
            spoil_config: same,
            spoil_manifest: same,
            spoil_index: same,
        }
    }

    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            json!({"digest": digest.to_string(), "size": bytes.len()})
        };
        let typed = |mut descriptor: Value, kind: &str| {
            descriptor["mediaType"] = kind.into();
            descriptor
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(blob, _)| typed(put(blob), self.media_type))
            .collect();
        let ids: Vec<String> = self
            .layers
            .iter()
            .map(|(_, tar)| Digest::of(tar).to_string())
            .collect();
        let mut config = json!({"os": "linux", "architecture": Platform::host().architecture,
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": ids}});
        (self.spoil_config)(&mut config);
        let config = typed(
            put(config.to_string().as_bytes()),
            "application/vnd.oci.image.config.v1+json",
        );
        let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        (self.spoil_manifest)(&mut manifest);
        let mut manifest = typed(
            put(manifest.to_string().as_bytes()),
            "application/vnd.oci.image.manifest.v1+json",
        );
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let mut index = json!({"schemaVersion": 2, "manifests": [manifest]});
        (self.spoil_index)(&mut index);
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// A scene: a directory with a canary, a layout and a store in it.
pub struct Scene {
    pub dir: TempDir,
    pub limits: Limits,
}

impl Scene {
    pub fn new(layout: &Layout) -> Self {
        let scene = Self::empty();
        layout.write(&scene.dir.path().join("image"));
        scene
    }

    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("canary"), "alive").unwrap();
        let limits = Limits {
            layer_bytes: 4 << 20,
            entries: 1000,
            depth: 64,
            ratio: 100,
            layers: 8,
        };
        Self { dir, limits }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub fn resolve(&self) -> Result<Image, Error> {
        self.resolve_as(&format!("oci:{}", self.image().display()))
    }

    /// Resolves, and checks that nothing was written but in the store, and nothing half-made is left in it.
    pub fn resolve_as(&self, reference: &str) -> Result<Image, Error> {
        let ownership = if is_root() {
            Ownership::Kept
        } else {
            Ownership::Caller
        };
        let result = Store::open(&self.store())
            .unwrap()
            .with_limits(self.limits)
            .resolve(
                &Reference::parse(reference).unwrap(),
                &Platform::host(),
                ownership,
            );
        assert_eq!(
            fs::read_to_string(self.dir.path().join("canary")).unwrap(),
            "alive"
        );
        for name in names(self.dir.path()) {
            assert!(
                ["canary", "store", "image", "image.tar"].contains(&name.as_str()),
                "{name} was written outside"
            );
        }
        for dir in ["layers", "layers-kept", "records"] {
            for name in names(&self.store().join(dir)) {
                assert!(!name.starts_with('.'), "{dir}/{name} was left behind");
                assert!(
                    result.is_ok() || dir == "records" || name.len() == 64 || name.len() > 65,
                    "{name} is odd"
                );
            }
        }
        result
    }

    /// Resolves, expecting a refusal that says `word`.
    #[track_caller]
    pub fn refused(&self, word: &str) {
        let error = self.resolve().expect_err("the image was taken").to_string();
        assert!(error.contains(word), "the reason is another: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let again = self
            .resolve()
            .expect_err("the image was taken the second time")
            .to_string();
        assert_eq!(again, error);
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The scene of an image with one layer.
pub fn one(tar: Tar) -> Scene {
    Scene::new(&Layout::new(&[tar.end()]))
}

/// The scene of an image with several layers, the bottom one first.
pub fn many(tars: &[Tar]) -> Scene {
    Scene::new(&Layout::new(
        &tars.iter().map(|tar| tar.clone().end()).collect::<Vec<_>>(),
    ))
}

/// Resolves an image of one layer that is well; returns the scene, to keep it, and the layer's directory.
#[track_caller]
pub fn unpacked(tar: Tar) -> (Scene, PathBuf) {
    let scene = one(tar);
    let image = scene.resolve().unwrap();
    let path = image.layers[0].path.clone();
    (scene, path)
}
