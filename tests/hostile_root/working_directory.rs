//! Working directories outside, or nowhere.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::rig::{Rig, assert_ran, assert_ran_or_refused, assert_refused, describe, text};

#[test]
fn a_descriptor_of_the_host_is_no_working_directory() {
    // CVE-2024-21626.
    let rig = Rig::new();
    for number in 0..24 {
        for process in ["self", "1", "thread-self"] {
            let directory = format!("/proc/{process}/fd/{number}");
            let output = rig.sh(
                &["-w", &directory],
                "echo ran; pwd; cat ../secret ../../../etc/hostname",
            );
            assert!(
                !text(&output.stdout).starts_with("ran"),
                "{}",
                describe(&output)
            );
            assert_refused(&output);
        }
    }
}

#[test]
fn a_link_to_a_descriptor_leads_nowhere_outside() {
    // What is open then are /proc and /dev of the sandbox itself.
    let rig = Rig::new();
    for number in 0..24 {
        let name = format!("w{number}");
        symlink(format!("/proc/self/fd/{number}"), rig.image(&name)).unwrap();
        let output = rig.sh(
            &["-w", &format!("/{name}")],
            "echo ran; pwd; cat ../secret; echo; ls ..",
        );
        assert_ran_or_refused(&output);
        let said = text(&output.stdout);
        let place = said.lines().nth(1).unwrap_or("/");
        assert!(
            ["/", "/proc", "/dev"].contains(&place),
            "{}",
            describe(&output)
        );
        assert!(!said.contains("canary"), "{}", describe(&output));
    }
}

#[test]
fn the_root_of_a_process_is_the_sandbox_own() {
    let rig = Rig::new();
    for directory in [
        "/proc/self/root",
        "/proc/self/cwd",
        "/..",
        "/../../..",
        "/bin/../..",
    ] {
        let output = rig.sh(&["-w", directory], "echo ran; pwd; ls ..");
        assert_ran_or_refused(&output);
        assert!(
            !text(&output.stdout).contains("canary"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_working_directory_through_a_link_stays_inside() {
    let rig = Rig::new();
    symlink(rig.canary(), rig.image("a")).unwrap();
    symlink(rig.relative_canary(), rig.image("b")).unwrap();
    symlink("c", rig.image("c")).unwrap();
    for directory in ["/a", "/b", "/a/inner", "/c"] {
        let output = rig.sh(&["-w", directory], "echo ran; pwd; ls; cat secret");
        assert_ran_or_refused(&output);
    }
}

#[test]
fn a_file_is_no_working_directory() {
    let rig = Rig::new();
    fs::write(rig.image("file"), "").unwrap();
    assert_refused(&rig.sh(&["-w", "/file"], "echo ran"));
    assert_refused(&rig.sh(&["-w", "/file/below"], "echo ran"));
}

#[test]
fn ten_thousand_directories_deep_nothing_breaks() {
    let rig = Rig::new();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut directory: OwnedFd = open(&rig.image(""), flags, Mode::empty()).unwrap();
    for _ in 0..10_000 {
        mkdirat(&directory, "d", Mode::from_bits_truncate(0o755)).unwrap();
        directory = openat(&directory, "d", flags, Mode::empty()).unwrap();
    }
    let outputs = [
        rig.sh(&[], "echo ran"),
        rig.sh(&["-w", &"/d".repeat(1000)], "echo ran; pwd"),
        rig.sh(&["-w", &"/d".repeat(10_000)], "echo ran"),
    ];
    // Removing it is more than the standard library's recursion can do with few descriptors.
    let removed = Command::new("rm").arg("-rf").arg(rig.image("d")).status();
    assert!(removed.unwrap().success());
    assert_ran(&outputs[0]);
    assert_ran(&outputs[1]);
    assert_refused(&outputs[2]);
}
