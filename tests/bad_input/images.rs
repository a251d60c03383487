//! Images that are not there, not images, or not what they say.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::layout::{self, Packing};
use crate::place::on;
use crate::refusal::{assert_refused, assert_store_empty};
use crate::remains::watched;
use crate::rig::{Rig, end};

/// Runs on an image that must be refused.
#[track_caller]
fn refused(rig: &Rig, image: &str, words: &[&str]) {
    let command = watched(rig, on(rig, &["--rm"], image, &["echo", "ran"]));
    let output = end({ command }.spawn().unwrap());
    assert_refused(rig, &output, words);
    assert_store_empty(rig);
}

/// A good layout that `damage` makes a bad one.
#[track_caller]
fn damaged(words: &[&str], damage: impl FnOnce(&Path)) {
    let rig = Rig::new();
    let layout = layout::write(&rig, "damaged.oci", &json!({}), Packing::Gzip);
    damage(&layout);
    refused(&rig, &format!("oci:{}", layout.display()), words);
}

fn manifest(layout: &Path) -> PathBuf {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

#[test]
fn an_image_that_does_not_exist_is_named() {
    let rig = Rig::new();
    let missing = rig.path("missing").display().to_string();
    for kind in ["oci", "oci-archive", "docker-archive", "dir"] {
        refused(&rig, &format!("{kind}:{missing}"), &[&missing]);
    }
}

#[test]
fn what_is_no_image_of_its_kind_is_refused() {
    let rig = Rig::new();
    let file = rig.path("file");
    fs::write(&file, "not a tar archive\n".repeat(100)).unwrap();
    let empty = rig.path("empty");
    fs::write(&empty, "").unwrap();
    let fifo = rig.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
    let directory = rig.path("workspace");
    for path in [&file, &empty, &fifo] {
        let path = path.display().to_string();
        for kind in ["oci", "oci-archive", "docker-archive", "dir"] {
            refused(&rig, &format!("{kind}:{path}"), &[&path]);
        }
    }
    for kind in ["oci", "oci-archive", "docker-archive"] {
        let directory = directory.display().to_string();
        refused(&rig, &format!("{kind}:{directory}"), &[&directory]);
    }
    refused(&rig, "oci-archive:/dev/zero", &["/dev/zero"]);
}

#[test]
fn a_name_that_is_no_image_is_refused() {
    let rig = Rig::new();
    for name in [
        "",
        "oci:",
        "dir:",
        "oci-archive:",
        "UPPER",
        "a b",
        "-",
        "../x",
        "a//b",
        "x@sha256:12",
        "\u{1b}[31m",
    ] {
        let command = watched(&rig, on(&rig, &["--"], name, &["echo", "ran"]));
        let output = end({ command }.spawn().unwrap());
        assert_refused(&rig, &output, &[]);
        assert!(
            !output.stderr.contains(&0x1b),
            "a control character reaches the terminal"
        );
    }
}

#[test]
fn an_image_that_may_not_be_pulled_is_not_on_this_machine() {
    let rig = Rig::new();
    for name in [
        "busybox",
        "docker.io/library/busybox:1",
        "ghcr.io/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let options = ["--rm", "--pull", "never"];
        let command = watched(&rig, on(&rig, &options, name, &["echo", "ran"]));
        let output = end({ command }.spawn().unwrap());
        assert_refused(&rig, &output, &[name, "not on this machine"]);
        assert_store_empty(&rig);
    }
}

#[test]
fn a_tag_that_a_layout_lacks_is_named() {
    let rig = Rig::new();
    let layout = layout::write(&rig, "good.oci", &json!({}), Packing::Tar);
    refused(
        &rig,
        &format!("oci:{}:no-such-tag", layout.display()),
        &["no-such-tag"],
    );
}

#[test]
fn a_layer_that_was_changed_is_refused() {
    damaged(&["sha256:"], |layout| {
        let layer = OpenOptions::new()
            .write(true)
            .open(layout::layer_blob(layout))
            .unwrap();
        let middle = layer.metadata().unwrap().len() / 2;
        layer.write_all_at(b"changed", middle).unwrap();
    });
}

#[test]
fn a_layer_that_is_cut_off_is_refused() {
    damaged(&["bytes long"], |layout| {
        let layer = OpenOptions::new()
            .write(true)
            .open(layout::layer_blob(layout))
            .unwrap();
        layer.set_len(layer.metadata().unwrap().len() / 2).unwrap();
    });
}

#[test]
fn a_layer_that_is_longer_than_it_says_is_refused() {
    damaged(&["bytes long"], |layout| {
        let layer = OpenOptions::new()
            .write(true)
            .open(layout::layer_blob(layout))
            .unwrap();
        layer
            .write_all_at(&[0; 1000], layer.metadata().unwrap().len())
            .unwrap();
    });
}

#[test]
fn a_layer_that_is_missing_is_named() {
    damaged(&["sha256"], |layout| {
        fs::remove_file(layout::layer_blob(layout)).unwrap();
    });
}

#[test]
fn an_index_that_is_no_json_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"schemaVersion\": 2}",
        "{\"schemaVersion\": 2, \"manifests\": [{}]}",
    ] {
        damaged(&[], |layout| {
            fs::write(layout.join("index.json"), text).unwrap();
        });
    }
}

#[test]
fn an_index_without_images_is_refused() {
    damaged(&[], |layout| {
        fs::write(
            layout.join("index.json"),
            r#"{"schemaVersion": 2, "manifests": []}"#,
        )
        .unwrap();
    });
}

#[test]
fn a_manifest_that_was_changed_is_refused() {
    damaged(&["manifest"], |layout| {
        let path = manifest(layout);
        let changed = fs::read_to_string(&path).unwrap().replace("gzip", "zstd");
        fs::write(path, changed).unwrap();
    });
}

#[test]
fn a_manifest_that_is_missing_is_refused() {
    damaged(&[], |layout| fs::remove_file(manifest(layout)).unwrap());
}

#[test]
fn a_pipe_in_the_place_of_a_blob_does_not_hang() {
    for blob in [layout::layer_blob, manifest] {
        damaged(&[], |layout| {
            let path = blob(layout);
            fs::remove_file(&path).unwrap();
            mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
        });
    }
}

#[test]
fn an_image_without_a_command_says_how_to_give_one() {
    let rig = Rig::new();
    let layout = layout::write(&rig, "silent.oci", &json!({}), Packing::Tar);
    let command = watched(
        &rig,
        on(&rig, &["--rm"], &format!("oci:{}", layout.display()), &[]),
    );
    let output = end({ command }.spawn().unwrap());
    assert_refused(&rig, &output, &["no command"]);
}
