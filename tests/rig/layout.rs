//! OCI image layouts of a test's own: one busybox layer and whatever configuration the test is about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::Rig;

/// How the layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Tar,
    Gzip,
    Zstd,
}

/// Writes the rig's root directory as an image layout `name` with this `config` object and returns its path.
pub fn write(rig: &Rig, name: &str, config: &Value, packing: Packing) -> PathBuf {
    let layout = rig.path(name);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let tar = layout.join("layer.tar");
    succeed(
        Command::new("tar")
            .args(["--create", "--numeric-owner", "--owner=0", "--group=0"])
            .arg("--file")
            .arg(&tar)
            .arg("--directory")
            .arg(rig.path("image"))
            .arg("."),
    );
    let diff_id = sha256(&tar);
    let (packed, media_type) = match packing {
        Packing::Tar => (tar, "application/vnd.oci.image.layer.v1.tar"),
        Packing::Gzip => {
            succeed(Command::new("gzip").arg(&tar));
            (
                layout.join("layer.tar.gz"),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            )
        }
        Packing::Zstd => {
            succeed(Command::new("zstd").args(["-q", "--rm"]).arg(&tar));
            (
                layout.join("layer.tar.zst"),
                "application/vnd.oci.image.layer.v1.tar+zstd",
            )
        }
    };
    let layer = descriptor(&packed, media_type);
    fs::rename(&packed, blobs.join(hex(&layer))).unwrap();
    let configuration = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    let configuration = blob(
        &layout,
        &configuration,
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration,
        "layers": [layer],
    });
    let manifest = blob(
        &layout,
        &manifest,
        "application/vnd.oci.image.manifest.v1+json",
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion": "1.0.0"}"#,
    )
    .unwrap();
    layout
}

/// The name of the only layer's blob in a layout that [`write`] made: the largest.
pub fn layer_blob(layout: &Path) -> PathBuf {
    fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

fn blob(layout: &Path, content: &Value, media_type: &str) -> Value {
    let path = layout.join("document.json");
    fs::write(&path, content.to_string()).unwrap();
    let descriptor = descriptor(&path, media_type);
    fs::rename(&path, layout.join("blobs/sha256").join(hex(&descriptor))).unwrap();
    descriptor
}

fn descriptor(path: &Path, media_type: &str) -> Value {
    let size = path.metadata().unwrap().len();
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(path)), "size": size})
}

fn hex(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap()["sha256:".len()..].to_owned()
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "sha256sum {}", path.display());
    String::from_utf8(output.stdout[..64].to_vec()).unwrap()
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
