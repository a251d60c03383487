//! Files in a bind-mounted workspace belong to the caller, whoever that is and whoever the command is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, text};

#[track_caller]
fn assert_callers(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid()),
        (geteuid().as_raw(), getegid().as_raw()),
        "{}",
        path.display()
    );
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_callers(&entry.unwrap().path());
        }
    }
}

fn mount(rig: &Rig) -> String {
    format!("{}:/w", rig.path("workspace").display())
}

#[test]
fn what_any_user_writes_belongs_to_the_caller() {
    for user in [
        "1000",
        "1000:1000",
        "10001",
        "10001:10001",
        "0",
        "0:0",
        "65534:65534",
        "65535:65535",
    ] {
        let rig = Rig::new();
        let workspace = mount(&rig);
        let script = "umask 022; touch file && mkdir -p a/b && echo x >a/b/c && busybox ln -s nowhere link && busybox mkfifo pipe \
                      && busybox ln file hard && busybox mv file moved && echo done";
        let options = ["-v", &workspace, "-w", "/w", "--user", user];
        let output = run_without_remains(&rig, &options, &["sh", "-c", script]);
        assert_eq!(
            text(&output.stdout),
            "done\n",
            "{user}: {}",
            describe(&output)
        );
        assert_callers(&rig.path("workspace"));
    }
}

#[test]
fn the_callers_files_belong_to_the_command_inside() {
    for user in ["1000:1000", "10001:10001", "0:0"] {
        let rig = Rig::new();
        fs::create_dir(rig.path("workspace/private")).unwrap();
        fs::write(rig.path("workspace/private/secret"), "mine").unwrap();
        for (path, mode) in [
            ("workspace/private", 0o700),
            ("workspace/private/secret", 0o600),
        ] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(rig.path(path), mode).unwrap();
        }
        let workspace = mount(&rig);
        let script = "cat private/secret && busybox chmod 640 private/secret && busybox stat -c ' %u:%g' . private private/secret";
        let output = run_without_remains(
            &rig,
            &["-v", &workspace, "-w", "/w", "-u", user],
            &["sh", "-c", script],
        );
        let owner = format!(" {user}\n").repeat(3);
        assert_eq!(
            text(&output.stdout),
            format!("mine{owner}"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn no_file_changes_its_owner_because_it_was_shown() {
    let rig = Rig::new();
    fs::write(rig.path("workspace/before"), "").unwrap();
    let before = fs::metadata(rig.path("workspace/before")).unwrap();
    let workspace = mount(&rig);
    for user in ["1000", "10001", "0"] {
        let output = run_without_remains(&rig, &["-v", &workspace, "-u", user], &["ls", "/w"]);
        assert_code(&output, 0);
    }
    let after = fs::metadata(rig.path("workspace/before")).unwrap();
    // The time of the last change would tell of a chown that was undone.
    assert_eq!(
        (
            before.uid(),
            before.gid(),
            before.ctime(),
            before.ctime_nsec()
        ),
        (after.uid(), after.gid(), after.ctime(), after.ctime_nsec())
    );
}

#[test]
fn a_writable_root_file_system_works_for_every_user() {
    for user in ["1000:1000", "10001:10001", "0:0"] {
        let rig = Rig::new();
        let script = "echo x >~/f && cat ~/f && echo y >/tmp/f && cat /tmp/f && echo z >/run/f && cat /run/f";
        let output = run_without_remains(
            &rig,
            &["--read-only=false", "-u", user],
            &["sh", "-c", script],
        );
        assert_eq!(
            text(&output.stdout),
            "x\ny\nz\n",
            "{user}: {}",
            describe(&output)
        );
    }
}
