//! `palisade cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

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
        ("box:/dev/null", "/tmp", "/dev/null: it is a device"),
    ] {
        let output = boxes.palisade(&["cp", from, to]);
        assert_code(&output, 1);
        assert!(text(&output.stderr).contains(said), "{}", describe(&output));
    }
}

#[test]
fn files_go_into_and_out_of_a_sandbox_that_does_not_run() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let host = |name: &str| boxes.rig.path(name).to_str().unwrap().to_owned();
    let script = "cat /etc/before; echo changed >/etc/after; exit 7";
    let volume = "kept:/data";
    let create = [
        "create",
        "--name",
        "box",
        "--read-only=false",
        "--user=0",
        "-v",
        volume,
        &image,
        "sh",
        "-c",
        script,
    ];
    boxes.says(&create);
    fs::write(boxes.rig.path("before"), "put there\n").unwrap();
    boxes.says(&["cp", &host("before"), "box:/etc/before"]);
    boxes.says(&["cp", &host("before"), "box:/data/deep"]);
    assert_eq!(boxes.states(), ["box created"]);
    boxes.says(&["start", "box"]);
    assert_eq!(boxes.says(&["wait", "box"]), "7");
    assert_eq!(boxes.says(&["logs", "box"]), "put there");
    boxes.says(&["cp", "box:/etc/after", &host("after")]);
    boxes.says(&["cp", "box:/data/deep", &host("deep")]);
    let read = |name: &str| fs::read_to_string(boxes.rig.path(name)).unwrap();
    assert_eq!(
        (read("after"), read("deep")),
        ("changed\n".into(), "put there\n".into())
    );
    // Nothing of that is a run: its exit code is as it was.
    assert_eq!(boxes.states(), ["box exited"]);
    assert_eq!(
        boxes.says(&["inspect", "-f", "{{.State.ExitCode}}", "box"]),
        "7"
    );

    let missing = boxes.palisade(&["cp", "box:/no/such", &host("x")]);
    assert_code(&missing, 1);
    boxes.says(&["rm", "box"]);
}

#[test]
fn what_would_be_lost_in_a_sandbox_that_does_not_run_is_not_copied() {
    let boxes = Sandboxes::new();
    fs::create_dir_all(boxes.rig.path("image/var")).unwrap();
    symlink("/tmp", boxes.rig.path("image/var/memory")).unwrap();
    let image = boxes.image();
    let host = |name: &str| boxes.rig.path(name).to_str().unwrap().to_owned();
    fs::write(boxes.rig.path("file"), "x").unwrap();
    for (name, option, places) in [
        ("read", "--read-only", &["/etc/file", "/tmp/file"][..]),
        ("writable", "--read-only=false", &["/tmp/file"]),
    ] {
        boxes.says(&["create", "--name", name, option, &image, "true"]);
        for place in places {
            let output = boxes.palisade(&["cp", &host("file"), &format!("{name}:{place}")]);
            assert_code(&output, 1);
            assert!(
                text(&output.stderr).contains("would be lost"),
                "{}",
                describe(&output)
            );
        }
    }
    // Where links, dots and the archive's own names lead counts, not what is typed.
    fs::create_dir_all(boxes.rig.path("tree/tmp")).unwrap();
    fs::write(boxes.rig.path("tree/tmp/file"), "x").unwrap();
    let tree = boxes.rig.path("tree");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree).args(["-c", "."]);
    let packed = tar.output().unwrap().stdout;
    for output in [
        boxes.palisade(&["cp", &host("file"), "writable:/var/memory/file"]),
        boxes.palisade(&["cp", &host("file"), "writable:/etc/../tmp/file"]),
        boxes.palisade(&["cp", &format!("{}/.", host("tree")), "writable:/"]),
        feed(boxes.command(&["cp", "-", "writable:/"]), packed),
    ] {
        assert_code(&output, 1);
        assert!(
            text(&output.stderr).contains("would be lost"),
            "{}",
            describe(&output)
        );
    }
    boxes.says(&["cp", "read:/bin/not-executable", &host("out")]);
    assert_eq!(
        fs::read_to_string(boxes.rig.path("out")).unwrap(),
        "#!/bin/sh\n"
    );
}
