//! Layers made to do harm: each is refused with a reason, or unpacked without leaving its directory.

#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use support::{Item, Layout, Scene, Tar, gzip, is_root, item, many, one, seal, unpacked, zstd};

#[test]
fn a_path_that_leads_upwards_is_refused() {
    for path in [
        "../canary",
        "a/../../canary",
        "../../../../../../../../tmp/x",
        "..",
        "a/..",
        "/..",
    ] {
        one(Tar::default().dir("a").file(path, "x")).refused("upwards");
    }
}

#[test]
fn an_absolute_path_stays_inside() {
    let (_scene, root) = unpacked(Tar::default().file("/etc/x", "in"));
    assert_eq!(fs::read_to_string(root.join("etc/x")).unwrap(), "in");
}

#[test]
fn a_parent_that_is_a_link_to_the_outside_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    for target in [
        outside.path().to_str().unwrap(),
        "../../..",
        "/",
        "/proc/self/root",
        "/proc/self/cwd",
    ] {
        let (_scene, root) = unpacked(
            Tar::default()
                .symlink("out", target)
                .file("out/canary", "in"),
        );
        assert!(fs::symlink_metadata(root.join("out")).unwrap().is_symlink());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_chain_of_links_as_parent_stays_inside() {
    let tar = Tar::default()
        .symlink("a", "/b")
        .symlink("b", "c/../..")
        .dir("c")
        .symlink("c/d", "../a")
        .file("c/d/x", "in");
    let (_scene, root) = unpacked(tar);
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "in");
}

#[test]
fn a_loop_of_links_as_parent_is_refused() {
    one(Tar::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", ""))
    .refused("loop");
}

#[test]
fn links_that_lengthen_a_path_are_refused() {
    one(Tar::default()
        .gnu_long(b'K', "d/".repeat(500))
        .symlink("l", "short")
        .file("l/x", ""))
    .refused("deep");
}

#[test]
fn a_link_replaced_by_a_link_is_not_written_through() {
    let (_scene, root) = unpacked(Tar::default().symlink("x", "/canary").file("x", "mine"));
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "mine");
    assert!(fs::symlink_metadata(root.join("x")).unwrap().is_file());
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    one(Tar::default().hardlink("x", "../../canary")).refused("upwards");
    one(Tar::default().hardlink("x", "/etc/passwd")).refused("not there");
    one(Tar::default()
        .symlink("s", "/etc")
        .hardlink("x", "s/passwd"))
    .refused("not there");
}

#[test]
fn a_hard_link_to_itself_is_harmless() {
    one(Tar::default().hardlink("x", "x")).refused("not there");
    let (_scene, root) = unpacked(Tar::default().file("x", "kept").hardlink("x", "./x"));
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "kept");
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link() {
    let (_scene, root) = unpacked(
        Tar::default()
            .symlink("s", "/etc/shadow")
            .hardlink("x", "s")
            .file("x", "own"),
    );
    assert!(fs::symlink_metadata(root.join("s")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "own");
}

#[test]
fn a_hard_link_to_a_directory_or_the_root_is_refused() {
    one(Tar::default().dir("d").hardlink("x", "d")).refused("directory");
    one(Tar::default().hardlink("x", "/")).refused("root");
    many(&[Tar::default().dir("d"), Tar::default().hardlink("x", "d")]).refused("directory");
}

#[test]
fn chained_hard_links_are_one_file() {
    let (_scene, root) = unpacked(
        Tar::default()
            .file("a", "x")
            .hardlink("b", "a")
            .hardlink("c", "b")
            .hardlink("d/e", "c"),
    );
    assert_eq!(fs::metadata(root.join("d/e")).unwrap().nlink(), 4);
}

#[test]
fn rewriting_a_hard_linked_file_leaves_the_other_name_alone() {
    let (_scene, root) = unpacked(
        Tar::default()
            .file("a", "first")
            .hardlink("b", "a")
            .file("b", "second"),
    );
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "first");
}

#[test]
fn whiteouts_that_lead_upwards_or_name_nothing_are_refused() {
    for path in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh.."] {
        one(Tar::default().dir("a").file(path, "")).refused("nothing that could be removed");
    }
    one(Tar::default().file("../.wh.canary", "")).refused("upwards");
    one(Tar::default().dir(".wh.d").file(".wh.d/x", "")).refused("below a whiteout");
}

#[test]
fn a_whiteout_below_a_link_to_the_outside_stays_inside() {
    let (_scene, root) = unpacked(
        Tar::default()
            .symlink("out", "/..")
            .file("out/.wh.canary", ""),
    );
    assert!(
        fs::symlink_metadata(root.join("canary"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_has() {
    for tar in [
        Tar::default().file("a", "x").file(".wh.a", ""),
        Tar::default().file(".wh.a", "").file("a", "x"),
    ] {
        let (_scene, root) = unpacked(tar);
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "x");
    }
}

#[test]
fn an_opaque_root_hides_all_layers_beneath() {
    let scene = many(&[
        Tar::default().file("low", ""),
        Tar::default().file(".wh..wh..opq", "").file("high", ""),
    ]);
    let image = scene.resolve().unwrap();
    assert_eq!(image.layers.len(), 1);
    assert!(image.layers[0].path.join("high").exists());
}

#[test]
fn aufs_leftovers_are_passed_over() {
    let (_scene, root) = unpacked(
        Tar::default()
            .dir(".wh..wh.plnk")
            .file(".wh..wh.plnk/1.2", "x")
            .file("a", ""),
    );
    assert_eq!(support::names(&root), ["a"]);
}

#[test]
fn special_directories_may_be_links_and_fifos_and_are_not_opened() {
    for name in ["dev", "proc", "etc", "tmp"] {
        let (_scene, root) = unpacked(Tar::default().symlink(name, "/..").file("x", ""));
        assert!(fs::symlink_metadata(root.join(name)).unwrap().is_symlink());
        let (_scene, root) = unpacked(Tar::default().add(&item(b'6', name)));
        assert!(fs::metadata(root.join(name)).unwrap().file_type().is_fifo());
        one(Tar::default()
            .add(&item(b'6', name))
            .file(format!("{name}/x"), ""))
        .refused("not a directory");
    }
}

#[test]
fn a_passwd_that_is_a_fifo_or_a_link_to_the_host_reads_as_empty() {
    for tar in [
        Tar::default().add(&item(b'6', "etc/passwd")),
        Tar::default().symlink("etc/passwd", "/../../../../etc/passwd"),
        Tar::default().symlink("etc/passwd", "/proc/self/root/etc/passwd"),
        Tar::default().symlink("etc", "/proc/1/root/etc"),
        Tar::default().dir("etc/passwd"),
        Tar::default().symlink("etc/passwd", "passwd"),
    ] {
        let users = one(tar).resolve().unwrap().users;
        // The second leads to the image's own etc/passwd, which is itself: a loop.
        assert_eq!(users.passwd, b"");
        assert!(users.resolve("root").is_err());
        assert_eq!(users.resolve("0").unwrap().uid, 0);
    }
}

#[test]
fn a_passwd_of_two_megabytes_is_refused() {
    one(Tar::default().file("etc/passwd", vec![b'\n'; 2 << 20])).refused("limit");
}

#[test]
fn a_device_0_0_does_not_become_a_whiteout() {
    let mut tar = Tar::default().file("a", "").add(&item(b'3', "null"));
    let at = tar.0.len() - 512;
    let header: &mut [u8; 512] = (&mut tar.0[at..]).try_into().unwrap();
    header[329..345].copy_from_slice(b"0000000\x000000000\0");
    seal(header);
    let scene = one(tar);
    let image = scene.resolve().unwrap();
    assert!(fs::symlink_metadata(image.layers[0].path.join("null")).is_err());
    assert!(image.notes[0].contains("left out"), "{:?}", image.notes);
}

#[test]
fn devices_are_left_out_with_a_note_for_an_ordinary_user_and_made_for_root() {
    let scene = one(Tar::default()
        .add(&item(b'3', "null"))
        .add(&item(b'4', "disk")));
    let image = scene.resolve().unwrap();
    let made = fs::symlink_metadata(image.layers[0].path.join("null")).is_ok();
    assert_eq!(
        (made, image.notes.len()),
        if is_root() { (true, 0) } else { (false, 1) }
    );
}

#[test]
fn forged_overlay_attributes_are_left_out() {
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.whiteout", b"y"),
        ])
        .file("x", "")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("d");
    let scene = one(tar);
    let image = scene.resolve().unwrap();
    for (name, attribute) in [
        ("x", "user.overlay.redirect"),
        ("x", "user.overlay.whiteout"),
        ("d", "user.overlay.opaque"),
    ] {
        let path = image.layers[0].path.join(name);
        assert!(
            rustix::fs::lgetxattr(&path, attribute, &mut [0_u8; 16]).is_err(),
            "{name} has {attribute}"
        );
    }
    assert_eq!(image.notes.len(), 4);
}

#[test]
fn huge_and_broken_attributes_are_refused_or_noted() {
    one(Tar::default()
        .pax(&[("SCHILY.xattr.user.x", &vec![b'a'; 70_000])])
        .file("x", ""))
    .refused("64 KiB");
    one(Tar::default().pax(&[("SCHILY.xattr.", b"a")]).file("x", "")).refused("name is empty");
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(300));
    one(Tar::default().pax(&[(&long, b"a")]).file("x", "")).refused("too long");
    // More than a block of the file system holds, where that is a limit.
    let (scene, root) = unpacked(
        Tar::default()
            .pax(&[("SCHILY.xattr.user.x", &vec![b'a'; 60_000])])
            .file("x", "data"),
    );
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "data");
    drop(scene);
}

#[test]
fn setuid_bits_are_kept_for_root_and_dropped_for_the_caller() {
    let (_scene, root) = unpacked(Tar::default().add(&Item {
        mode: 0o6755,
        ..item(b'0', "su")
    }));
    let mode = fs::metadata(root.join("su")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, if is_root() { 0o6755 } else { 0o755 });
}

#[test]
fn owners_are_kept_for_root_and_the_callers_otherwise() {
    let (_scene, root) = unpacked(Tar::default().add(&Item {
        uid: 77,
        gid: 88,
        ..item(b'0', "x")
    }));
    let meta = fs::metadata(root.join("x")).unwrap();
    let me = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    assert_eq!(
        (meta.uid(), meta.gid()),
        if is_root() { (77, 88) } else { me }
    );
}

#[test]
fn unreadable_directories_can_be_filled_and_their_mode_is_right() {
    let tar = Tar::default()
        .add(&Item {
            mode: 0,
            ..item(b'5', "d")
        })
        .file("d/x", "in")
        .add(&Item {
            mode: 0o555,
            ..item(b'5', "./")
        });
    let scene = one(tar);
    let image = scene.resolve().unwrap();
    let root = &image.layers[0].path;
    assert_eq!(fs::metadata(root.join("d")).unwrap().mode() & 0o7777, 0);
    assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o555);
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_unreadable_directory_can_be_replaced() {
    let tar = Tar::default()
        .add(&Item {
            mode: 0,
            ..item(b'5', "d")
        })
        .dir("d/e")
        .file("d/e/x", "")
        .file("d", "now a file")
        .dir("d");
    let (_scene, root) = unpacked(tar);
    assert_eq!(support::names(&root.join("d")), Vec::<String>::new());
}

#[test]
fn duplicate_entries_leave_the_last_one() {
    let tar = Tar::default()
        .file("a", "1")
        .file("a", "22")
        .symlink("b", "x")
        .dir("b")
        .file("b/c", "")
        .dir("e")
        .symlink("e", "b")
        .file("e/f", "");
    let (_scene, root) = unpacked(tar);
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "22");
    assert!(root.join("b/c").exists() && root.join("b/f").exists());
}

#[test]
fn a_name_with_a_nul_byte_is_refused() {
    one(Tar::default().pax(&[("path", b"a\0b")]).file("x", "")).refused("NUL");
    one(Tar::default()
        .pax(&[("linkpath", b"a\0b")])
        .symlink("x", "y"))
    .refused("NUL");
}

#[test]
fn names_with_newlines_and_odd_bytes_are_kept_and_shown_on_one_line() {
    let name = b"new\nline\x1b[31m\xff";
    let (_scene, root) = unpacked(Tar::default().file(name, "x"));
    assert!(
        root.join(Path::new(std::ffi::OsStr::from_bytes(name)))
            .exists()
    );
    one(Tar::default().file([&name[..], b"/../x"].concat(), "")).refused("\\n");
}

#[test]
fn over_long_names_and_paths_are_refused() {
    one(Tar::default().gnu_long(b'L', "n".repeat(256)).file("x", "")).refused("255");
    one(Tar::default()
        .gnu_long(b'L', "d/".repeat(3000))
        .file("x", ""))
    .refused("4095");
    one(Tar::default()
        .pax(&[("path", "e/".repeat(4000).as_bytes())])
        .file("x", ""))
    .refused("4095");
    one(Tar::default().gnu_long(b'L', "d/".repeat(100)).dir("x")).refused("depth");
    let header = Item {
        size_field: Some(b"77777777777\0".to_vec()),
        ..item(b'L', "x")
    };
    one(Tar::default().add(&header)).refused("1 MiB");
}

#[test]
fn long_names_in_each_form_are_read() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    for tar in [
        Tar::default().gnu_long(b'L', &long).file("short", "x"),
        Tar::default()
            .pax(&[("path", long.as_bytes())])
            .file("short", "x"),
    ] {
        let (_scene, root) = unpacked(tar);
        assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "x");
    }
    let target = "t".repeat(200);
    let (_scene, root) = unpacked(Tar::default().gnu_long(b'K', &target).symlink("s", "short"));
    assert_eq!(
        fs::read_link(root.join("s")).unwrap().to_str(),
        Some(&target[..])
    );
}

#[test]
fn an_entry_without_a_name_or_over_the_root_is_refused() {
    one(Tar::default().file("", "x")).refused("no name");
    one(Tar::default().dir("./").symlink("/", "/etc")).refused("root");
    one(Tar::default().symlink(".", "/etc")).refused("root");
}

#[test]
fn negative_and_overflowing_sizes_are_refused() {
    let mut huge = [0xff_u8; 12];
    for field in [&b"-0000000001\0"[..], &huge.clone(), b"99999999999\0"] {
        one(Tar::default().add(&Item {
            size_field: Some(field.to_vec()),
            ..item(b'0', "x")
        }))
        .refused("size");
    }
    huge[0] = 0x80;
    one(Tar::default().add(&Item {
        size_field: Some(huge.to_vec()),
        ..item(b'0', "x")
    }))
    .refused("size");
    let mut large = [0_u8; 12];
    large[0] = 0x80;
    large[4..].copy_from_slice(&i64::MAX.to_be_bytes());
    one(Tar::default().add(&Item {
        size_field: Some(large.to_vec()),
        ..item(b'0', "x")
    }))
    .refused("size");
    one(Tar::default().pax(&[("size", b"-1")]).file("x", "")).refused("number");
    one(Tar::default()
        .pax(&[("size", b"99999999999999999999")])
        .file("x", ""))
    .refused("number");
}

#[test]
fn owners_out_of_range_are_refused() {
    one(Tar::default().pax(&[("uid", b"4294967296")]).file("x", "")).refused("user id");
    if is_root() {
        one(Tar::default().pax(&[("uid", b"4294967295")]).file("x", "")).refused("no id");
    }
}

fn sparse(size: &str, map: &str, data: &[u8]) -> Tar {
    let mut body = map.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", size.as_bytes()),
            ("GNU.sparse.name", b"s"),
        ])
        .file("GNUSparseFile.0/s", body)
}

#[test]
fn sparse_files_of_every_kind_are_unpacked_with_their_holes() {
    let (_scene, root) = unpacked(sparse("1048576", "2\n0\n3\n1048573\n3\n", b"abcxyz"));
    let bytes = fs::read(root.join("s")).unwrap();
    assert_eq!(
        (bytes.len(), &bytes[..4], &bytes[1_048_573..]),
        (1 << 20, &b"abc\0"[..], &b"xyz"[..])
    );
    assert!(fs::metadata(root.join("s")).unwrap().blocks() * 512 < 1 << 20);
    let (_scene, root) = unpacked(
        Tar::default()
            .pax(&[
                ("GNU.sparse.size", b"100"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.map", b"10,3"),
                ("GNU.sparse.name", b"z"),
            ])
            .file("x", "abc"),
    );
    assert_eq!(fs::read(root.join("z")).unwrap().len(), 100);
    let (_scene, root) = unpacked(old_sparse(100, &[(10, 3)], b"abc"));
    assert_eq!(&fs::read(root.join("s")).unwrap()[9..14], b"\0abc\0");
}

fn old_sparse(size: u64, pieces: &[(u64, u64)], data: &[u8]) -> Tar {
    let mut tar = Tar::default().add(&Item {
        size_field: Some(format!("{:011o}\0", data.len()).into_bytes()),
        ..item(b'S', "s")
    });
    let header: &mut [u8; 512] = (&mut tar.0[..]).try_into().unwrap();
    header[257..265].copy_from_slice(b"ustar  \0");
    for (i, (offset, length)) in pieces.iter().enumerate() {
        header[386 + i * 24..386 + (i + 1) * 24]
            .copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    header[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    seal(header);
    tar.data(data)
}

#[test]
fn sparse_bombs_and_malformed_maps_are_refused() {
    one(sparse("9000000000000000000", "1\n0\n1\n", b"a")).refused("limit");
    one(old_sparse(0o77_777_777_777, &[(0, 3)], b"abc")).refused("limit");
    one(sparse("10", "1\n8\n5\n", b"abcde")).refused("sparse");
    one(sparse("10", "99999999999\n", b"")).refused("too long");
    one(sparse("10", "x\n", b"")).refused("numbers");
    one(sparse("10", "5\n1\n", b"")).refused("sparse map");
    one(sparse("100", "2\n50\n1\n0\n1\n", b"ab")).refused("order");
    one(sparse("100", "1\n18446744073709551615\n5\n", b"abcde")).refused("order");
    one(old_sparse(100, &[(0, 50), (10, 3)], b"abc")).refused("order");
    one(old_sparse(100, &[(0, 50)], b"abc")).refused("stored data");
}

#[test]
fn truncated_archives_are_refused_wherever_they_end() {
    let whole = Tar::default().file("a", [b'x'; 2000]).file("b", "y").end();
    for length in [1, 100, 511, 513, 1000, 2600, 3000] {
        Scene::new(&Layout::new(&[whole[..length].to_vec()])).refused("cut off");
    }
    // An archive without its last blocks has lost no file.
    Scene::new(&Layout::new(&[whole[..3072 + 512].to_vec()]))
        .resolve()
        .unwrap();
}

#[test]
fn truncated_and_damaged_compression_is_refused() {
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let tar = Tar::default().file("a", noise).end();
    for pack in [gzip, zstd] {
        let blob = pack(&tar);
        for cut in [3, 12, blob.len() / 2, blob.len() - 1] {
            let mut layout = Layout::new(&[]);
            layout.layers = vec![(blob[..cut].to_vec(), tar.clone())];
            let error = Scene::new(&layout)
                .resolve()
                .expect_err("a cut blob was taken");
            assert!(error.to_string().contains("layer"), "{error}");
        }
        let mut layout = Layout::new(&[]);
        let mut damaged = blob.clone();
        damaged[blob.len() / 2] ^= 0x55;
        layout.layers = vec![(damaged, tar.clone())];
        assert!(Scene::new(&layout).resolve().is_err());
    }
}

#[test]
fn a_layer_that_is_no_archive_is_refused() {
    Scene::new(&Layout::new(&[vec![b'x'; 5000]])).refused("not a tar archive");
    let layout = Layout::packed(&[b"BZh91AY".to_vec()], <[u8]>::to_vec);
    Scene::new(&layout).refused("bzip2");
    let layout = Layout::packed(&[b"\xfd7zXZ\0\0\0".to_vec()], <[u8]>::to_vec);
    Scene::new(&layout).refused("xz");
    one(Tar::default().add(&item(b'M', "x"))).refused("type `M`");
}

#[test]
fn bombs_are_refused() {
    one(Tar::default().file("zeros", vec![0; 7 << 19])).refused("compression");
    let plain = Layout::packed(
        &[Tar::default().file("big", vec![7; 5 << 20]).end()],
        <[u8]>::to_vec,
    );
    Scene::new(&plain).refused("size");
    let mut tar = Tar::default();
    for i in 0..1100 {
        tar = tar.file(format!("f{i}"), "");
    }
    one(tar).refused("entries");
    one(Tar::default().gnu_long(b'L', "d/".repeat(70)).dir("x")).refused("depth");
    let layers: Vec<Tar> = (0..9)
        .map(|i| Tar::default().file(format!("{i}"), ""))
        .collect();
    many(&layers).refused("layers");
    let zeros = Layout::packed(
        &[Tar::default().file("zeros", vec![0; 7 << 19]).end()],
        zstd,
    );
    Scene::new(&zeros).refused("compression");
}

#[test]
fn a_pax_header_without_end_is_refused() {
    one(Tar::default()
        .add(&Item {
            data: b"99 path=x\n".to_vec(),
            ..item(b'x', "pax")
        })
        .file("x", ""))
    .refused("PAX");
    one(Tar::default()
        .add(&Item {
            data: b"12 path=etc\n".to_vec(),
            ..item(b'g', "pax")
        })
        .file("x", ""))
    .refused("global");
}
