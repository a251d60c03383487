//! What layers become in the store: sharing, what reaches down, what an overlay needs, what is remembered.

#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use palisade_rootfs::{Digest, Ownership, Platform, Reference, Store};
use serde_json::json;
use support::{Item, Layout, Scene, Tar, gzip, is_root, item, many, names, one, zstd};

fn opaque(path: &Path) -> bool {
    let mut value = [0_u8; 4];
    rustix::fs::lgetxattr(path, "user.overlay.opaque", &mut value)
        .is_ok_and(|length| &value[..length] == b"y")
}

#[test]
fn every_compression_gives_the_same_layer() {
    let tar = Tar::default().file("a", "x").dir("d").end();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zstd, <[u8]>::to_vec, |tar| {
        [gzip(&tar[..700]), gzip(&tar[700..])].concat()
    }] {
        let image = Scene::new(&Layout::packed(std::slice::from_ref(&tar), pack))
            .resolve()
            .unwrap();
        assert_eq!(image.layers[0].diff_id, Some(Digest::of(&tar)));
    }
}

#[test]
fn modes_times_links_and_attributes_are_those_of_the_archive() {
    let tar = Tar::default()
        .add(&Item {
            mode: 0o1777,
            mtime: 1234,
            ..item(b'5', "tmp")
        })
        .pax(&[
            ("mtime", b"1500000000.123456789"),
            ("SCHILY.xattr.user.note", b"hello"),
        ])
        .add(&Item {
            mode: 0o640,
            data: b"x".to_vec(),
            ..item(b'0', "tmp/f")
        })
        .symlink("tmp/s", "/etc/passwd")
        .add(&Item {
            mode: 0o444,
            ..item(b'6', "pipe")
        });
    let scene = one(tar);
    let root = scene.resolve().unwrap().layers[0].path.clone();
    let dir = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o1777, 1234));
    let file = fs::metadata(root.join("tmp/f")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.mtime(), file.mtime_nsec()),
        (0o640, 1_500_000_000, 123_456_789)
    );
    let mut value = [0_u8; 8];
    assert_eq!(
        rustix::fs::lgetxattr(root.join("tmp/f"), "user.note", &mut value),
        Ok(5)
    );
    assert_eq!(
        fs::symlink_metadata(root.join("tmp/s")).unwrap().mtime(),
        1_700_000_000
    );
    assert_eq!(
        fs::read_link(root.join("tmp/s")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        fs::metadata(root.join("pipe")).unwrap().mode() & 0o7777,
        0o444
    );
}

#[test]
fn whiteouts_and_opaque_directories_are_those_of_an_overlay() {
    let scene = many(&[
        Tar::default()
            .file("gone", "")
            .file("d/low", "")
            .file("e/low", ""),
        Tar::default()
            .file(".wh.gone", "")
            .dir("d")
            .file("d/.wh..wh..opq", "")
            .file("d/high", "")
            .file(".wh.e", "")
            .dir("e"),
    ]);
    let image = scene.resolve().unwrap();
    let top = &image.layers[1].path;
    let whiteout = fs::symlink_metadata(top.join("gone")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(opaque(&top.join("d")) && opaque(&top.join("e")));
    assert!(!top.join("d/.wh..wh..opq").exists());
}

#[test]
fn a_hard_link_to_a_lower_layer_brings_the_file_up_with_all_it_has() {
    let low = Tar::default()
        .dir("bin")
        .pax(&[("SCHILY.xattr.user.note", b"low")])
        .add(&Item {
            mode: 0o750,
            mtime: 99,
            data: b"tool".to_vec(),
            ..item(b'0', "bin/tool")
        })
        .symlink("bin/link", "tool");
    let scene = many(&[
        low,
        Tar::default()
            .hardlink("copy", "bin/tool")
            .hardlink("again", "bin/tool")
            .hardlink("l", "bin/link"),
    ]);
    let image = scene.resolve().unwrap();
    let top = &image.layers[1].path;
    let meta = fs::metadata(top.join("copy")).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.mtime(), meta.nlink()),
        (0o750, 99, 3)
    );
    assert_eq!(fs::read_to_string(top.join("again")).unwrap(), "tool");
    assert_eq!(
        rustix::fs::lgetxattr(top.join("copy"), "user.note", &mut [0_u8; 8]),
        Ok(3)
    );
    assert_eq!(fs::read_link(top.join("l")).unwrap(), Path::new("tool"));
}

#[test]
fn a_layer_that_reaches_down_is_not_shared_with_images_that_have_others_beneath() {
    let top = Tar::default().hardlink("mine", "yours").end();
    let (good, evil) = (
        Tar::default().file("yours", "good").end(),
        Tar::default().file("yours", "evil").end(),
    );
    let scene = Scene::new(&Layout::new(&[evil, top.clone()]));
    let first = scene.resolve().unwrap();
    fs::remove_dir_all(scene.image()).unwrap();
    Layout::new(&[good, top]).write(&scene.image());
    let second = scene.resolve().unwrap();
    assert_eq!(first.layers[1].diff_id, second.layers[1].diff_id);
    assert_eq!(
        fs::read_to_string(second.layers[1].path.join("mine")).unwrap(),
        "good"
    );
}

#[test]
fn a_directory_that_is_not_listed_looks_like_the_one_beneath() {
    let low = Tar::default()
        .add(&Item {
            mode: 0o1777,
            mtime: 5,
            ..item(b'5', "tmp")
        })
        .dir("usr/lib")
        .symlink("lib", "usr/lib");
    let scene = many(&[
        low,
        Tar::default()
            .file("tmp/x", "")
            .file("lib/y", "")
            .file("new/z", ""),
    ]);
    let top = scene.resolve().unwrap().layers[1].path.clone();
    let tmp = fs::metadata(top.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 5));
    assert!(top.join("usr/lib/y").exists() && !top.join("lib").exists());
    assert_eq!(
        fs::metadata(top.join("new")).unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn a_layer_that_occurs_twice_is_listed_once_where_it_is_on_top() {
    let (a, b) = (
        Tar::default().file("a", "").end(),
        Tar::default().file("b", "").end(),
    );
    let image = Scene::new(&Layout::new(&[a.clone(), b, a.clone()]))
        .resolve()
        .unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[1].diff_id, Some(Digest::of(&a)));
}

#[test]
fn users_are_those_of_the_topmost_layer() {
    let low = Tar::default()
        .file("etc/passwd", "old:x:5:5::/:\n")
        .file("etc/group", "g:x:7:\n");
    let scene = many(&[
        low,
        Tar::default().file("etc/passwd", "app:x:10001:10001::/app:/bin/sh\n"),
    ]);
    for _ in 0..2 {
        let image = scene.resolve().unwrap();
        assert_eq!(image.users.resolve("app:g").unwrap().gid, 7);
        assert!(image.users.resolve("old").is_err());
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
}

#[test]
fn a_second_resolve_reads_neither_image_nor_layers() {
    let scene = one(Tar::default().file("a", "x"));
    // Until its change time has passed, an index is not trusted to stay the same.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = scene.resolve().unwrap();
    fs::remove_dir_all(scene.image().join("blobs")).unwrap();
    let mut second = scene.resolve().unwrap();
    assert!(first.fresh && !second.fresh);
    second.fresh = first.fresh;
    assert_eq!(second, first);
}

#[test]
fn a_changed_index_or_a_lost_layer_is_noticed() {
    let scene = one(Tar::default().file("a", "x"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = scene.resolve().unwrap();
    fs::remove_dir_all(&first.layers[0].path).unwrap();
    assert_eq!(scene.resolve().unwrap(), first);
    assert!(first.layers[0].path.join("a").exists());
    Layout::new(&[Tar::default().file("b", "y").end()]).write(&scene.image());
    assert_ne!(
        scene.resolve().unwrap().layers[0].diff_id,
        first.layers[0].diff_id
    );
}

#[test]
fn a_damaged_record_is_no_obstacle() {
    let scene = one(Tar::default().file("a", "x"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = scene.resolve().unwrap();
    for name in names(&scene.store().join("records")) {
        fs::write(scene.store().join("records").join(name), "{\"nonsense\n").unwrap();
    }
    assert_eq!(scene.resolve().unwrap(), first);
}

#[test]
fn several_at_once_unpack_a_layer_once_and_agree() {
    let scene = many(&[
        Tar::default().file("a", vec![1; 1 << 20]),
        Tar::default().hardlink("b", "a"),
    ]);
    let images: Vec<_> = std::thread::scope(|scope| {
        let resolve = || {
            let reference = Reference::parse(&format!("oci:{}", scene.image().display())).unwrap();
            Store::open(&scene.store())
                .unwrap()
                .resolve(&reference, &Platform::host(), Ownership::Caller)
                .unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(resolve)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(images.iter().all(|image| image == &images[0]));
    assert_eq!(names(&scene.store().join("layers")).len(), 2);
}

#[test]
fn what_a_crash_left_half_unpacked_is_removed_by_the_next_unpacking() {
    let scene = one(Tar::default().file("a", "x"));
    let layers = scene
        .store()
        .join(if is_root() { "layers-kept" } else { "layers" });
    let left = layers.join(format!(".{}.part", Digest::of(b"left").hex()));
    fs::create_dir_all(left.join("d")).unwrap();
    fs::write(left.join("d/f"), "").unwrap();
    fs::write(
        layers.join(format!(".{}.lock", Digest::of(b"other").hex())),
        "",
    )
    .unwrap();
    scene.resolve().unwrap();
    assert_eq!(names(&layers).len(), 1);
}

#[test]
fn a_prepared_directory_is_its_own_layer() {
    let scene = Scene::empty();
    fs::create_dir_all(scene.image().join("etc")).unwrap();
    fs::write(
        scene.image().join("etc/passwd"),
        "me:x:1000:1000::/home/me:/bin/sh\n",
    )
    .unwrap();
    let image = scene
        .resolve_as(&format!("dir:{}", scene.image().display()))
        .unwrap();
    assert_eq!(
        image.layers[0].path,
        fs::canonicalize(scene.image()).unwrap()
    );
    assert_eq!(
        image.users.resolve("me").unwrap().home.as_deref(),
        Some("/home/me")
    );
}

fn archive(layout: &Path, file: &Path) {
    let status = Command::new("tar")
        .args([
            "-C",
            layout.to_str().unwrap(),
            "-cf",
            file.to_str().unwrap(),
            ".",
        ])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn an_oci_archive_gives_what_its_layout_gives_plain_or_compressed() {
    let scene = one(Tar::default().file("a", "x"));
    let expected = scene.resolve().unwrap();
    let file = scene.dir.path().join("image.tar");
    archive(&scene.image(), &file);
    let plain = fs::read(&file).unwrap();
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        fs::write(&file, bytes).unwrap();
        let image = scene
            .resolve_as(&format!("oci-archive:{}", file.display()))
            .unwrap();
        assert_eq!(image, expected);
    }
}

#[test]
fn a_docker_archive_is_read_with_its_old_links_and_several_images() {
    let scene = Scene::empty();
    let layer = Tar::default().file("a", "x").end();
    let config = json!({"os": "linux", "architecture": Platform::host().architecture, "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}})
    .to_string();
    let id = Digest::of(config.as_bytes()).hex();
    let manifest = json!([
        {"Config": format!("{id}.json"), "RepoTags": ["me/app:1"], "Layers": ["two/layer.tar"]},
        {"Config": format!("{id}.json"), "RepoTags": ["other:latest"], "Layers": ["one/layer.tar"]}]);
    let tar = Tar::default()
        .file(format!("{id}.json"), &config)
        .file("one/layer.tar", &layer)
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("manifest.json", manifest.to_string());
    let file = scene.dir.path().join("image.tar");
    fs::write(&file, tar.end()).unwrap();
    let at = |tag: &str| scene.resolve_as(&format!("docker-archive:{}{tag}", file.display()));
    assert_eq!(at(":me/app:1").unwrap().config.cmd, ["sh"]);
    assert_eq!(
        at(":docker.io/library/other").unwrap().layers,
        at(":me/app:1").unwrap().layers
    );
    assert!(at("").unwrap_err().to_string().contains("me/app:1"));
    assert!(
        at(":nothing")
            .unwrap_err()
            .to_string()
            .contains("other:latest")
    );
}

#[test]
fn a_docker_archive_with_links_in_a_circle_or_out_of_it_is_refused() {
    for (link, word) in [
        ("layer.tar", "chain of links"),
        ("../../../../etc/passwd", "missing"),
        ("/etc/passwd", "missing"),
    ] {
        let scene = Scene::empty();
        let config =
            json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(b"").to_string()]}})
                .to_string();
        let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["one/layer.tar"]}])
            .to_string();
        let tar = Tar::default()
            .file("c.json", config)
            .symlink("one/layer.tar", link)
            .file("manifest.json", manifest);
        let file = scene.dir.path().join("image.tar");
        fs::write(&file, tar.end()).unwrap();
        let error = scene
            .resolve_as(&format!("docker-archive:{}", file.display()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_name_is_looked_up_in_the_store() {
    let scene = one(Tar::default().file("a", "x"));
    fs::create_dir(scene.store()).unwrap();
    fs::rename(scene.image(), scene.store().join("images")).unwrap();
    let index = scene.store().join("images/index.json");
    fs::write(
        &index,
        fs::read_to_string(&index)
            .unwrap()
            .replace("latest", "docker.io/library/box:latest"),
    )
    .unwrap();
    assert_eq!(scene.resolve_as("box").unwrap().layers.len(), 1);
    assert!(
        scene
            .resolve_as("box:2")
            .unwrap_err()
            .to_string()
            .contains("not in the store")
    );
}
