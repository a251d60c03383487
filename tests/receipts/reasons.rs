//! Why a command ended, on standard error and in the receipt.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::place::is_root;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, code, describe, end, text};

/// Runs a script and returns its exit code, the receipt's result, and what palisade said.
fn run(rig: &Rig, options: &[&str], script: &str) -> (i32, Value, String) {
    let path = rig.path("receipt.json");
    let receipt = format!("--receipt={}", path.display());
    let mut all = vec![receipt.as_str()];
    all.extend(options);
    let output = run_without_remains(rig, &all, &["sh", "-c", script]);
    let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(receipt["result"]["exit_code"], code(&output));
    (code(&output), receipt, text(&output.stderr))
}

#[test]
fn a_command_that_failed_on_a_full_file_system_says_which_one() {
    let rig = Rig::new();
    let options = ["--tmpfs", "/small:size=64k", "--tmpfs", "/other:size=64k"];
    let script = "head -c 100000 /dev/zero >/small/file || exit 3";
    let (code, receipt, said) = run(&rig, &options, script);
    assert_eq!(code, 3);
    assert_eq!(receipt["result"]["reason"], "disk");
    assert_eq!(receipt["result"]["full"], serde_json::json!(["/small"]));
    assert!(said.contains("no room left in /small\n"), "{said}");
}

#[test]
fn a_file_system_without_inodes_is_full() {
    let rig = Rig::new();
    let script = "i=0; while touch /small/$i; do i=$((i + 1)); done; exit 4";
    let (code, receipt, _) = run(&rig, &["--tmpfs", "/small:nr_inodes=10"], script);
    assert_eq!((code, &receipt["result"]["reason"]), (4, &"disk".into()));
}

#[test]
fn a_writable_layer_in_memory_takes_no_more_than_its_size_and_its_files() {
    let rig = Rig::new();
    let policy = rig.path("few.toml");
    fs::write(
        &policy,
        "[filesystem]\nroot = \"in-memory\"\nscratch-inodes = 40\n",
    )
    .unwrap();
    let policy = format!("--policy={}", policy.display());
    let large = "echo x >/file && head -c 2000000 /dev/zero >/large || exit 3";
    let many = "i=0; while touch /$i; do i=$((i + 1)); done; exit 4";
    for (options, script, expected) in [
        (&["--storage-opt", "size=1m"][..], large, 3),
        (&[&policy], many, 4),
    ] {
        let options = [&["--user", "0"], options].concat();
        let (code, receipt, said) = run(&rig, &options, script);
        assert_eq!(
            (code, &receipt["result"]["reason"]),
            (expected, &"disk".into()),
            "{said}"
        );
        assert_eq!(receipt["result"]["full"], serde_json::json!(["/"]));
        assert!(said.contains("no room left in /\n"), "{said}");
    }
}

#[test]
fn the_writable_layer_is_full_where_the_images_directory_is_written_to() {
    let rig = Rig::new();
    let policy = rig.path("small.toml");
    fs::write(&policy, "[filesystem]\nscratch-size = \"1MiB\"\n").unwrap();
    // The image's /tmp has something: it stays part of the writable layer.
    fs::write(rig.path("image/tmp/file"), "").unwrap();
    let everybodys = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(rig.path("image/tmp"), everybodys).unwrap();
    let policy = policy.display().to_string();
    let script = "head -c 2000000 /dev/zero >/tmp/big";
    let (_, receipt, said) = run(&rig, &["--policy", &policy], script);
    assert_eq!(receipt["result"]["reason"], "disk");
    assert!(said.contains("no room left in /tmp"), "{said}");
}

#[test]
fn a_command_that_did_well_on_a_full_file_system_ended_by_itself() {
    let rig = Rig::new();
    let script = "head -c 100000 /dev/zero >/small/file; exit 0";
    let (code, receipt, said) = run(&rig, &["--tmpfs", "/small:size=64k"], script);
    assert_eq!(code, 0);
    assert_eq!(receipt["result"]["reason"], "exit");
    assert!(!said.contains("note:"), "{said}");
}

#[test]
fn what_was_full_and_has_room_again_is_not_blamed() {
    let rig = Rig::new();
    let script = "head -c 100000 /dev/zero >/small/file; rm /small/file; exit 5";
    let (_, receipt, _) = run(&rig, &["--tmpfs", "/small:size=64k"], script);
    assert_eq!(receipt["result"]["reason"], "exit");
}

#[test]
fn a_link_in_the_way_of_a_full_file_system_leads_nowhere() {
    let rig = Rig::new();
    // The command cannot move a mount point, but what lies above one.
    let options = [
        "--tmpfs",
        "/tmp:size=1m",
        "--tmpfs",
        "/tmp/a/small:size=64k",
    ];
    let script = "head -c 100000 /dev/zero >/tmp/a/small/file; mv /tmp/a /tmp/b && \
                  busybox ln -s /tmp/b /tmp/a && exit 6";
    let (code, receipt, _) = run(&rig, &options, script);
    assert_eq!((code, &receipt["result"]["reason"]), (6, &"exit".into()));
}

#[test]
fn a_command_that_was_refused_processes_and_failed_says_how_many() {
    let rig = Rig::new();
    if !is_root() {
        // Who has no cgroup is told so before anything runs: tests/options/limits.rs.
        return;
    }
    let script =
        "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & exit 0";
    let (code, receipt, said) = run(&rig, &["--pids-limit", "5"], script);
    assert_ne!(code, 0);
    assert_eq!(receipt["result"]["reason"], "pids");
    assert!(receipt["usage"]["pids_denied"].as_u64().unwrap() >= 1);
    assert!(
        said.contains("note: the command failed, and the limit of 5 processes had refused it"),
        "{said}"
    );
}

#[test]
fn a_child_killed_for_want_of_memory_is_named_when_its_parent_fails() {
    let rig = Rig::new();
    if !is_root() {
        return;
    }
    let options = ["--memory", "32m", "--memory-swap", "32m"];
    let script = "busybox tail -c 300000000 /dev/zero || exit 7";
    let (code, receipt, said) = run(&rig, &options, script);
    assert_eq!(receipt["result"]["reason"], "oom");
    // With cgroup v2 the whole sandbox ends, with v1 the largest process.
    assert!([7, 137].contains(&code), "{code}");
    assert!(said.contains("the memory limit"), "{said}");
}

#[test]
fn what_a_caller_interrupts_did_not_fail_of_a_full_file_system() {
    use nix::sys::signal::{Signal, kill};
    let rig = Rig::new();
    let path = rig.path("receipt.json");
    let receipt = format!("--receipt={}", path.display());
    let options = [receipt.as_str(), "--tmpfs", "/small:size=64k"];
    let script = "head -c 100000 /dev/zero >/small/file; echo ready; exec sleep 1000";
    let child = crate::rig::started(&mut rig.script(&options, script));
    kill(crate::rig::pid(&child), Signal::SIGTERM).unwrap();
    let output = end(child);
    assert_code(&output, 143);
    let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(
        receipt["result"]["reason"],
        "signal",
        "{}",
        describe(&output)
    );
}
