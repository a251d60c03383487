//! Kernels, and what lies around palisade, that refuse something it needs.

use std::process::{Command, Output, Stdio};

use crate::place::is_root;
use crate::refusal::assert_refused;
use crate::remains::{assert_nothing_remains, watched};
use crate::rig::{Rig, assert_code, below, describe, end, text};

/// `palisade run OPTIONS image echo ran` below another program, to its end.
fn run_below(outer: &[&str], rig: &Rig, options: &[&str]) -> Output {
    let command = below(outer, &rig.command(options, &["echo", "ran"]));
    let child = watched(rig, command).spawn();
    end(child.unwrap_or_else(|_| panic!("{} is installed", outer[0])))
}

/// Runs with a system call that fails each time.
fn with_fault(rig: &Rig, fault: &str, options: &[&str]) -> Output {
    let fault = format!("inject={fault}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &fault];
    run_below(&strace, rig, options)
}

#[test]
fn no_user_namespaces_is_an_error_that_names_the_switches() {
    let rig = Rig::new();
    // Root of a user namespace may set that namespace's own limit.
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
    let output = run_below(&["unshare", "-Ur", "sh", "-c", script, "sh"], &rig, &[]);
    assert_refused(&rig, &output, &["namespaces"]);
    assert!(
        text(&output.stderr).contains("max_user_namespaces"),
        "{}",
        describe(&output)
    );
}

#[test]
fn namespaces_that_a_filter_refuses_are_an_error() {
    let rig = Rig::new();
    for errno in ["EPERM", "ENOSPC", "EUSERS"] {
        let output = with_fault(&rig, &format!("clone3:error={errno}"), &[]);
        assert_refused(&rig, &output, &["namespaces"]);
    }
}

#[test]
fn no_landlock_is_an_error_and_best_effort_goes_on_without() {
    let rig = Rig::new();
    for errno in ["ENOSYS", "EOPNOTSUPP"] {
        let fault = format!("landlock_create_ruleset:error={errno}");
        let output = with_fault(&rig, &fault, &[]);
        assert_refused(&rig, &output, &["Landlock"]);
        assert!(
            text(&output.stderr).contains("--best-effort"),
            "{}",
            describe(&output)
        );
        let output = with_fault(&rig, &fault, &["--best-effort"]);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout), "ran\n");
        assert_nothing_remains(&rig, "");
    }
}

#[test]
fn no_system_call_filter_is_an_error_even_with_best_effort() {
    let rig = Rig::new();
    for errno in ["ENOSYS", "EINVAL", "EACCES"] {
        for options in [&[][..], &["--best-effort"]] {
            let output = with_fault(&rig, &format!("seccomp:error={errno}"), options);
            assert_refused(&rig, &output, &["seccomp"]);
        }
    }
}

#[test]
fn a_root_that_cannot_be_changed_to_is_an_error() {
    let rig = Rig::new();
    for fault in [
        "pivot_root:error=EPERM",
        "move_mount:error=EPERM",
        "mount_setattr:error=ENOSYS",
        "fsopen:error=EPERM",
        "fsopen:error=ENOSYS",
        "openat2:error=ENOSYS",
        "sethostname:error=EPERM",
        "close_range:error=ENOSYS",
    ] {
        let output = with_fault(&rig, fault, &[]);
        assert_refused(&rig, &output, &[]);
    }
}

#[test]
fn root_of_a_user_namespace_is_an_ordinary_user_to_palisade() {
    let rig = Rig::new();
    let output = run_below(&["unshare", "-Urm"], &rig, &["--user", "1000"]);
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    assert_nothing_remains(&rig, "");
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    if !is_root() {
        // Only root can mount the small file system that is full.
        return;
    }
    let rig = Rig::new();
    let layout = crate::layout::write(
        &rig,
        "good.oci",
        &serde_json::json!({}),
        crate::layout::Packing::Tar,
    );
    let store = rig.path("store");
    std::fs::create_dir(&store).unwrap();
    // The mount is in a namespace of its own and goes with the last process.
    let script = "mount -t tmpfs -o size=256k,mode=700 tmpfs \"$0\" && { \"$@\"; code=$?; ls -A \"$0\"/layers*/ \"$0\"/records >&2; exit $code; }";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .arg(&store)
        .arg(crate::rig::binary())
        .args(["run", "--rm", "--root"])
        .arg(&store)
        .arg(format!("oci:{}", layout.display()))
        .args(["echo", "ran"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = end(watched(&rig, command).spawn().unwrap());
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(said.contains("No space left"), "{said}");
    // The names of two empty directories and nothing else.
    let listed: Vec<&str> = said.lines().filter(|line| line.len() == 64).collect();
    assert!(listed.is_empty(), "{said}");
}
