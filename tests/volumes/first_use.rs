//! What a volume starts with, and whose it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::place::is_root;
use crate::rig::{Rig, assert_code, code, describe, end, entries, text};

/// An image with a directory that a volume can start with.
fn rig() -> Rig {
    let rig = Rig::new();
    let cache = rig.path("image/cache");
    fs::create_dir_all(cache.join("dir")).unwrap();
    fs::write(cache.join("dir/tool"), "#!/bin/sh\necho tool\n").unwrap();
    fs::set_permissions(cache.join("dir/tool"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(cache.join("file"), "of the image\n").unwrap();
    symlink("/etc/shadow", cache.join("link")).unwrap();
    rig
}

#[test]
fn a_new_volume_starts_with_the_images_content_and_keeps_what_is_written() {
    let rig = rig();
    let output = rig.sh(
        &["-v", "kept:/cache"],
        "cd /cache && cat file && ./dir/tool && readlink link && echo mine >file && echo new >dir/new",
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "of the image\ntool\n/etc/shadow\n");
    let output = rig.sh(
        &["--mount", "type=volume,src=kept,dst=/other"],
        "cat /other/file /other/dir/new",
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "mine\nnew\n");
    assert_eq!(
        text(fs::read(rig.path("image/cache/file")).unwrap().as_slice()),
        "of the image\n"
    );
}

#[test]
fn what_is_in_a_volume_belongs_to_the_command_inside_and_to_its_owner_on_the_disk() {
    let rig = rig();
    let output = rig.sh(
        &["-v", "kept:/cache", "-v", "bare:/not/in/the/image"],
        "stat() { ls -nd \"$1\" | tr -s ' ' | { read a b c d e; echo \"$c:$d\"; }; }; \
         for path in /cache /cache/file /not/in/the/image; do stat $path; done; touch /cache/made /not/in/the/image/made",
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "1000:1000\n1000:1000\n1000:1000\n");
    let wanted = if is_root() {
        (1000, 1000)
    } else {
        (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        )
    };
    for path in [
        "kept/_data/made",
        "kept/_data/file",
        "kept/_data",
        "bare/_data/made",
    ] {
        let made = fs::symlink_metadata(rig.path("store/volumes").join(path)).unwrap();
        assert_eq!((made.uid(), made.gid()), wanted, "{path}");
    }
    // Another user of the same volume finds it as it was left.
    let output = rig.sh(
        &["-v", "kept:/cache", "--user", "4321:4321"],
        "ls -n /cache/made | tr -s ' ' | { read a b c d; echo $c; }",
    );
    assert_code(&output, 0);
    assert_eq!(
        text(&output.stdout),
        if is_root() { "1000\n" } else { "4321\n" }
    );
}

#[test]
fn a_volume_can_be_shown_read_only_and_without_the_images_content() {
    let rig = rig();
    let output = rig.sh(
        &["-v", "kept:/cache:ro"],
        "cat /cache/file; echo x 2>/dev/null >/cache/file || echo refused",
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "of the image\nrefused\n");
    for option in [
        "bare:/cache:nocopy",
        "type=volume,src=bare,dst=/cache,volume-nocopy",
    ] {
        let flag = if option.starts_with("type") {
            "--mount"
        } else {
            "-v"
        };
        let output = rig.sh(&[flag, option], "ls -A /cache | wc -l");
        assert_eq!(text(&output.stdout).trim(), "0", "{}", describe(&output));
    }
}

#[test]
fn a_volume_inside_a_workspace_is_not_seen_in_it_on_the_host() {
    let rig = rig();
    let workspace = format!("{}:/workspace", rig.path("workspace").display());
    let inner = "modules:/workspace/project/modules";
    // Whatever the order on the line.
    for options in [
        ["-v", &workspace, "-v", inner],
        ["-v", inner, "-v", &workspace],
    ] {
        let output = rig.sh(
            &options,
            "echo deep >>/workspace/project/modules/file && echo top >/workspace/top",
        );
        assert_code(&output, 0);
    }
    assert_eq!(
        entries(&rig.path("workspace/project/modules")),
        Vec::<String>::new()
    );
    assert_eq!(
        fs::read_to_string(rig.path("workspace/top")).unwrap(),
        "top\n"
    );
    let deep = rig.path("store/volumes/modules/_data/file");
    assert_eq!(fs::read_to_string(deep).unwrap(), "deep\ndeep\n");
    let owner = |path: &str| fs::metadata(rig.path(path)).unwrap().uid();
    assert_eq!(owner("workspace/project/modules"), owner("workspace"));
}

#[test]
fn many_first_users_at_once_all_find_it_filled() {
    let rig = rig();
    for number in 0..300 {
        fs::write(rig.path("image/cache").join(format!("n{number}")), "x").unwrap();
    }
    let users: Vec<_> = (0..6)
        .map(|_| {
            rig.script(&["-v", "shared:/cache"], "ls /cache | wc -l")
                .spawn()
                .unwrap()
        })
        .collect();
    for user in users {
        let output = end(user);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout).trim(), "303");
    }
    assert_eq!(entries(&rig.path("store/volumes")), ["shared"]);
}

#[test]
fn names_that_are_none_are_refused_and_make_nothing() {
    let rig = rig();
    for option in [
        "a:/cache",
        "a/b:/cache",
        ".x:/cache",
        "ok:/cache:odd",
        "ok:relative",
    ] {
        let output = rig.sh(&["-v", option], "true");
        assert_eq!(code(&output), 125, "{option}: {}", describe(&output));
    }
    assert!(!rig.path("store/volumes").exists());
}
