//! A layer is refused or unpacked: nothing is written beside the store, nothing half-made is left in it.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::{Digest, Limits, Ownership, Platform, Reference, Store};
use tempfile::TempDir;

/// A lower layer for links and whiteouts to refer to: `file`, and `link` that leads out.
fn lower() -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, target) in [(b'0', "file", ""), (b'2', "link", "/.."), (b'5', "dir", "")] {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[156] = kind;
        header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        seal(&mut header);
        tar.extend_from_slice(&header);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Writes an image of two layers, packed as they are.
fn write(dir: &Path, layers: &[&[u8]]) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#,
            bytes.len()
        )
    };
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("\"{}\"", Digest::of(layer)))
        .collect();
    let packed: Vec<String> = layers
        .iter()
        .map(|layer| put(layer, "layer.v1.tar"))
        .collect();
    let config = format!(
        r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = put(config.as_bytes(), "config.v1+json");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
        packed.join(",")
    );
    let manifest = put(manifest.as_bytes(), "manifest.v1+json");
    fs::write(
        dir.join("index.json"),
        format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#),
    )
    .unwrap();
}

static PLACE: OnceLock<TempDir> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    // Mutated headers would only ever fail their checksum.
    let mut tar = data.to_vec();
    tar.chunks_exact_mut(512)
        .filter(|block| block[257..262] == *b"ustar")
        .for_each(seal);
    let place = PLACE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        }
    });
    let (image, store) = (place.path().join("image"), place.path().join("store"));
    write(&image, &[&lower(), &tar]);
    let limits = Limits {
        layer_bytes: 1 << 20,
        entries: 200,
        depth: 32,
        ratio: 100,
        layers: 4,
    };
    let reference = Reference::parse(&format!("oci:{}", image.display())).unwrap();
    let result = Store::open(&store).unwrap().with_limits(limits).resolve(
        &reference,
        &Platform::host(),
        Ownership::Caller,
    );
    let mut names: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["image", "store"], "something was written outside");
    for entry in fs::read_dir(store.join("layers")).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} was left behind");
    }
    if let Ok(image) = result {
        assert!(
            image
                .layers
                .iter()
                .all(|layer| layer.path.starts_with(&store))
        );
    }
    for dir in [&image, &store] {
        // Directories without permissions are only in the way of an ordinary user; the next run replaces them.
        let _ = fs::remove_dir_all(dir);
    }
});
