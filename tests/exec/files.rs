//! `palisade cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::rig::{assert_code, describe, feed, text};
use crate::sandbox::Sandboxes;

fn boxed() -> Sandboxes {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box"], "while :; do sleep 1000; done");
    boxes
}

#[test]
fn files_and_directories_go_in_and_come_back() {
    let boxes = boxed();
    let host = |name: &str| boxes.rig.path(name).to_str().unwrap().to_owned();
    fs::create_dir_all(boxes.rig.path("tree/deep")).unwrap();
    fs::write(boxes.rig.path("tree/deep/file"), "content").unwrap();
    fs::set_permissions(
        boxes.rig.path("tree/deep/file"),
        fs::Permissions::from_mode(0o750),
    )
    .unwrap();
    symlink("deep/file", boxes.rig.path("tree/link")).unwrap();

    boxes.says(&["cp", &host("tree"), "box:/tmp"]);
    let look =
        "cat /tmp/tree/deep/file; echo; [ -x /tmp/tree/deep/file ] && readlink /tmp/tree/link";
    assert_eq!(
        boxes.says(&["exec", "box", "sh", "-c", look]),
        "content\ndeep/file"
    );
    boxes.says(&["cp", &host("tree/deep/file"), "box:/tmp/renamed"]);
    boxes.says(&["exec", "box", "sh", "-c", "echo more >> /tmp/renamed"]);
    boxes.says(&["cp", "box:/tmp/renamed", &host("back")]);
    assert_eq!(
        fs::read_to_string(boxes.rig.path("back")).unwrap(),
        "contentmore\n"
    );
    assert_eq!(
        fs::metadata(boxes.rig.path("back")).unwrap().mode() & 0o777,
        0o750
    );

    fs::create_dir(boxes.rig.path("out")).unwrap();
    boxes.says(&["cp", "box:/tmp/tree/.", &host("out")]);
    assert_eq!(
        fs::read_to_string(boxes.rig.path("out/link")).unwrap(),
        "content"
    );
    boxes.says(&["cp", "-L", "box:/tmp/tree/link", &host("followed")]);
    assert!(!boxes.rig.path("followed").is_symlink());
}

#[test]
fn a_tar_stream_goes_both_ways() {
    let boxes = boxed();
    boxes.says(&["exec", "box", "sh", "-c", "mkdir /tmp/d; echo a > /tmp/d/f"]);
    let output = boxes.palisade(&["cp", "box:/tmp/d", "-"]);
    assert_code(&output, 0);
    boxes.says(&["exec", "box", "mkdir", "/tmp/e"]);
    let sent = feed(boxes.command(&["cp", "-", "box:/tmp/e"]), output.stdout);
    assert_code(&sent, 0);
    assert_eq!(boxes.says(&["exec", "box", "cat", "/tmp/e/d/f"]), "a");
}

#[test]
fn a_link_inside_leads_nowhere_on_the_host() {
    let boxes = boxed();
    let secret = boxes.rig.path("secret");
    fs::write(&secret, "of the host").unwrap();
    let secret = secret.to_str().unwrap();
    let make = format!(
        "ln -s {secret} /tmp/link; ln -s {} /tmp/dir",
        boxes.rig.path("").display()
    );
    boxes.says(&["exec", "box", "sh", "-c", &make]);
    let copied = boxes.rig.path("copied");
    let copied = copied.to_str().unwrap();
    let output = boxes.palisade(&["cp", "-L", "box:/tmp/link", copied]);
    assert_code(&output, 1);
    assert!(!boxes.rig.path("copied").exists());
    let output = boxes.palisade(&["cp", secret, "box:/tmp/dir/planted"]);
    assert_code(&output, 1);
    assert!(!boxes.rig.path("planted").exists(), "{}", describe(&output));
}

#[test]
fn what_cannot_be_copied_is_said_in_a_line() {
    let boxes = boxed();
    for (from, to, said) in [
        (
            "box:/no/such",
            "/tmp",
            "/no/such: No such file or directory",
        ),
        (
            "box:/etc",
            "box:/tmp",
            "one of the two is a path of this machine",
        ),
        (
            "/etc/hostname",
            "box:/no/such/place",
            "there is no such directory",
        ),
        ("/etc/hostname", "nobody:/tmp", "no sandbox is named nobody"),
    ] {
        let output = boxes.palisade(&["cp", from, to]);
        assert_code(&output, 1);
        assert!(text(&output.stderr).contains(said), "{}", describe(&output));
    }
}
