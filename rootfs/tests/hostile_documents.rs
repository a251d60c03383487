//! Broken and forged documents of an image: each is refused with one line that says why.

#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use palisade_rootfs::{Digest, Ownership, Platform, Reference, Store};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;
use support::{Layout, Scene, Tar, gzip, names, one, zstd};

fn layout() -> Layout {
    Layout::new(&[Tar::default().file("x", "y").end()])
}

fn blobs(scene: &Scene) -> std::path::PathBuf {
    scene.image().join("blobs/sha256")
}

fn layer_blob(scene: &Scene, layout: &Layout) -> std::path::PathBuf {
    blobs(scene).join(Digest::of(&layout.layers[0].0).hex())
}

#[test]
fn a_wrong_blob_digest_is_refused() {
    let (layout, other) = (layout(), gzip(&Tar::default().file("x", "z").end()));
    let scene = Scene::new(&layout);
    assert_eq!(other.len(), layout.layers[0].0.len());
    fs::write(layer_blob(&scene, &layout), other).unwrap();
    scene.refused("not what the image says");
    assert!(
        names(&scene.store().join("layers")).is_empty()
            && names(&scene.store().join("layers-kept")).is_empty()
    );
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let mut layout = layout();
    layout.layers[0].1 = b"another tar".to_vec();
    Scene::new(&layout).refused("not what the image says");
}

#[test]
fn wrong_sizes_are_refused() {
    let mut layout = layout();
    layout.spoil_manifest = |m| m["layers"][0]["size"] = 7.into();
    Scene::new(&layout).refused("bytes long");
    layout.spoil_manifest = |m| m["config"]["size"] = 7.into();
    Scene::new(&layout).refused("bytes long");
    layout.spoil_manifest = |m| m["layers"][0]["size"] = (-1).into();
    Scene::new(&layout).refused("manifest of the image is broken");
    layout.spoil_manifest = |m| m["layers"][0]["size"] = json!(1e300);
    Scene::new(&layout).refused("manifest of the image is broken");
    layout.spoil_manifest = |_| {};
    layout.spoil_index = |i| i["manifests"][0]["size"] = 1.into();
    Scene::new(&layout).refused("bytes long");
}

#[test]
fn bytes_after_the_archive_count_in_the_digest() {
    let mut layout = layout();
    layout.layers[0].0.extend_from_slice(&gzip(b"more"));
    Scene::new(&layout).refused("not what the image says");
}

#[test]
fn forged_documents_are_refused() {
    for what in ["config", "manifest"] {
        let scene = Scene::new(&layout());
        for name in names(&blobs(&scene)) {
            let path = blobs(&scene).join(&name);
            let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) else {
                continue;
            };
            if text.contains("diff_ids") == (what == "config") {
                fs::write(
                    &path,
                    text.replace("linux", "linuy").replace("layers", "layerz"),
                )
                .unwrap();
            }
        }
        scene.refused("not what the image says");
    }
}

#[test]
fn broken_json_of_each_kind_is_refused() {
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"manifests\":7}",
        "{\"manifests\":[{}]}",
        "\u{0}",
        "{\"schemaVersion\":1e99}",
    ] {
        let scene = Scene::new(&layout());
        fs::write(scene.image().join("index.json"), bad).unwrap();
        scene.refused("index of the image is broken");
    }
    let deep = "[".repeat(100_000);
    let scene = Scene::new(&layout());
    fs::write(scene.image().join("index.json"), deep).unwrap();
    scene.refused("index of the image is broken");
    for (spoil, word) in [
        (
            (|m| *m = json!([])) as fn(&mut serde_json::Value),
            "manifest of the image is broken",
        ),
        (
            |m| m["layers"] = json!({}),
            "manifest of the image is broken",
        ),
        (|m| m["layers"] = json!([]), "has 0 layers"),
        (
            |m| m["layers"][0]["digest"] = json!("sha256:../../../canary"),
            "not a SHA-256 digest",
        ),
        (
            |m| m["layers"][0]["digest"] = json!("sha512:00"),
            "not a digest palisade knows",
        ),
        (
            |m| m["layers"][0]["mediaType"] = json!("text/plain"),
            "text/plain",
        ),
        (
            |m| {
                m["layers"][0]["mediaType"] =
                    json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
            },
            "distributed",
        ),
        (|m| m["config"] = json!(null), "names no configuration"),
        (
            |m| m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json"),
            "artifact",
        ),
        (|m| m["schemaVersion"] = 1.into(), "schema 1"),
        (|m| m["schemaVersion"] = 3.into(), "version is 3"),
        (
            |m| m["manifests"] = json!([]),
            "both a manifest and an index",
        ),
    ] {
        let mut layout = layout();
        layout.spoil_manifest = spoil;
        Scene::new(&layout).refused(word);
    }
    for (spoil, word) in [
        (
            (|c| *c = json!(null)) as fn(&mut serde_json::Value),
            "configuration of the image is broken",
        ),
        (
            |c| c["rootfs"] = json!({"type": "layers", "diff_ids": ["x"]}),
            "not a digest",
        ),
        (|c| c["rootfs"]["type"] = json!("other"), "rootfs.type"),
        (
            |c| c["rootfs"]["diff_ids"] = json!([]),
            "the configuration 0",
        ),
        (
            |c| c["config"] = json!("x"),
            "configuration of the image is broken",
        ),
        (|c| c["os"] = json!("windows"), "the image is not for"),
        (|c| c["architecture"] = json!("sparc"), "--platform"),
    ] {
        let mut layout = layout();
        layout.spoil_config = spoil;
        Scene::new(&layout).refused(word);
    }
}

#[test]
fn odd_environments_and_working_directories_are_refused() {
    for (config, word) in [
        (json!({"Env": ["NOVALUE"]}), "Env"),
        (json!({"Env": ["A=\u{0}"]}), "NUL"),
        (json!({"Env": [7]}), "broken"),
        (json!({"WorkingDir": "../../proc/self/fd/7"}), "WorkingDir"),
        (json!({"WorkingDir": "/a/../../x"}), "WorkingDir"),
        (json!({"WorkingDir": "/x\u{0}"}), "NUL"),
        (json!({"User": "a\u{0}"}), "NUL"),
        (json!({"Entrypoint": "sh"}), "broken"),
    ] {
        let mut layout = layout();
        layout.config = config;
        Scene::new(&layout).refused(word);
    }
}

#[test]
fn odd_users_are_refused_when_they_are_asked_for() {
    for user in [
        "-1",
        "4294967295",
        "99999999999",
        "0x0",
        "no body",
        "root:-1",
        "a:b:c",
        "../x",
        "$(id)",
        "nobody",
    ] {
        let mut layout = layout();
        layout.config = json!({"User": user});
        let image = Scene::new(&layout).resolve().unwrap();
        assert!(
            image.users.resolve(&image.config.user).is_err(),
            "{user} was accepted"
        );
    }
}

#[test]
fn an_index_that_points_to_itself_or_in_a_circle_is_refused() {
    let mut spoilt = layout();
    spoilt.spoil_index =
        |i| i["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    Scene::new(&spoilt).refused("a manifest is given as an index");
    // A digest cannot be made to hold itself; a chain of indexes comes closest.
    let scene = Scene::new(&layout());
    let mut inner: serde_json::Value =
        serde_json::from_slice(&fs::read(scene.image().join("index.json")).unwrap()).unwrap();
    for _ in 0..20 {
        let text = inner.to_string();
        let digest = Digest::of(text.as_bytes());
        fs::write(blobs(&scene).join(digest.hex()), &text).unwrap();
        inner = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": text.len()}]});
    }
    fs::write(scene.image().join("index.json"), inner.to_string()).unwrap();
    scene.refused("number of indexes");
}

#[test]
fn an_index_of_a_hundred_megabytes_is_refused_unread() {
    let scene = Scene::new(&layout());
    fs::File::create(scene.image().join("index.json"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    scene.refused("4 MiB");
}

#[test]
fn a_blob_that_is_a_fifo_or_a_link_or_a_directory_is_refused_without_waiting() {
    let layout = layout();
    let replace = |make: &dyn Fn(&std::path::Path)| {
        let scene = Scene::new(&layout);
        let blob = layer_blob(&scene, &layout);
        fs::remove_file(&blob).unwrap();
        make(&blob);
        scene
    };
    replace(&|path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap())
        .refused("regular file");
    replace(&|path| symlink("/etc/passwd", path).unwrap()).refused("regular file");
    replace(&|path| fs::create_dir(path).unwrap()).refused("regular file");
    replace(&|_| {}).refused("missing");
    let scene = Scene::new(&layout);
    fs::remove_file(scene.image().join("index.json")).unwrap();
    mknodat(
        CWD,
        scene.image().join("index.json"),
        FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .unwrap();
    scene.refused("regular file");
    let scene = Scene::new(&layout);
    fs::rename(blobs(&scene), scene.dir.path().join("store-blobs")).unwrap();
    symlink("/etc", blobs(&scene)).unwrap();
    fs::rename(
        scene.dir.path().join("store-blobs"),
        scene.image().join("moved"),
    )
    .unwrap();
    scene.refused("regular file");
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let scene = Scene::empty();
    fs::create_dir(scene.image()).unwrap();
    fs::write(scene.image().join("index.json"), "{}").unwrap();
    scene.refused("holds several images");
    for (reference, word) in [
        (
            format!("oci:{}", scene.dir.path().join("canary").display()),
            "cannot open",
        ),
        (
            format!("oci:{}", scene.dir.path().join("none").display()),
            "cannot open",
        ),
        (
            format!("oci-archive:{}", scene.dir.path().join("canary").display()),
            "not an image archive",
        ),
        (
            format!("docker-archive:{}", scene.image().display()),
            "not a regular file",
        ),
        (
            format!("dir:{}", scene.dir.path().join("canary").display()),
            "not a directory",
        ),
        ("dir:/".to_owned(), "own root"),
        ("dir:/usr/..".to_owned(), "own root"),
        ("host".to_owned(), "this machine"),
        ("debian".to_owned(), "not in the store"),
    ] {
        let error = scene
            .resolve_as(&reference)
            .expect_err(&reference)
            .to_string();
        assert!(error.contains(word), "{reference}: {error}");
    }
}

#[test]
fn a_tag_that_is_not_there_is_answered_with_those_that_are() {
    let scene = Scene::new(&layout());
    let error = scene
        .resolve_as(&format!("oci:{}:none", scene.image().display()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`none`") && error.contains("latest"),
        "{error}"
    );
}

#[test]
fn a_platform_that_is_not_there_is_answered_with_those_that_are() {
    let scene = Scene::new(&layout());
    let reference = Reference::parse(&format!("oci:{}", scene.image().display())).unwrap();
    let store = Store::open(&scene.store()).unwrap();
    let error = store
        .resolve(
            &reference,
            &Platform::parse("linux/s390x").unwrap(),
            Ownership::Caller,
        )
        .unwrap_err();
    assert!(
        error.to_string().contains(&Platform::host().to_string()),
        "{error}"
    );
}

#[test]
fn a_store_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scene = one(Tar::default());
    fs::create_dir(scene.store()).unwrap();
    fs::set_permissions(scene.store(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        Store::open(&scene.store())
            .unwrap_err()
            .to_string()
            .contains("others may write")
    );
    assert!(
        Store::open(&scene.dir.path().join("canary"))
            .unwrap_err()
            .to_string()
            .contains("not a directory")
    );
}

#[test]
fn empty_blobs_and_empty_archives_are_empty_layers() {
    for tar in [Vec::new(), vec![0; 1024], vec![0; 512]] {
        for pack in [gzip as fn(&[u8]) -> Vec<u8>, zstd, <[u8]>::to_vec] {
            let image = Scene::new(&Layout::packed(std::slice::from_ref(&tar), pack)).resolve();
            let scene = image.unwrap();
            assert_eq!(scene.layers.len(), 1);
        }
    }
}
