//! `--memory`, `--memory-swap`, `--cpus`, `--cpuset-cpus`, `--pids-limit`, `--ulimit`. Root always gets what it asks for;
//! an ordinary user whom the host gives no cgroup gets an error, or a run without.

use std::fs;

use serde_json::Value;

use crate::place::is_root;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, text};

/// Whether this caller can have limits, with the proof that it is told so if not.
fn limits_can_be_had(rig: &Rig) -> bool {
    let output = run_without_remains(rig, &["--pids-limit", "100"], &["true"]);
    match output.status.code() {
        Some(0) => true,
        _ if is_root() => panic!("root cannot limit: {}", describe(&output)),
        _ => {
            assert_code(&output, 125);
            let said = text(&output.stderr);
            assert!(said.contains("cannot limit pids"), "{said}");
            false
        }
    }
}

#[test]
fn a_command_that_outgrows_its_memory_is_137_and_the_receipt_says_why() {
    let rig = Rig::new();
    if !limits_can_be_had(&rig) {
        return;
    }
    let receipt = rig.path("receipt.json");
    let option = format!("--receipt={}", receipt.display());
    let options = ["--memory", "32m", "--memory-swap", "32m", &option];
    // tail keeps in memory what it has to be able to show.
    let command = ["busybox", "tail", "-c", "300000000", "/dev/zero"];
    assert_code(&run_without_remains(&rig, &options, &command), 137);
    let receipt: Value = serde_json::from_slice(&fs::read(receipt).unwrap()).unwrap();
    assert_eq!(receipt["result"]["reason"], "oom");
    assert_eq!(receipt["limits"]["memory_bytes"], 32 << 20);
    assert!(receipt["usage"]["memory_peak_bytes"].as_u64().unwrap() <= 32 << 20);
    assert!(receipt["usage"]["oom_kills"].as_u64().unwrap() >= 1);
}

#[test]
fn files_in_memory_count_as_memory() {
    let rig = Rig::new();
    if !limits_can_be_had(&rig) {
        return;
    }
    let options = ["--memory", "32m", "--memory-swap", "32m"];
    let command = ["dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=200"];
    assert_code(&run_without_remains(&rig, &options, &command), 137);
}

#[test]
fn no_more_processes_than_asked_for_can_be_made() {
    let rig = Rig::new();
    if !limits_can_be_had(&rig) {
        return;
    }
    let script = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i + 1)); done; echo all";
    let output = run_without_remains(&rig, &["--pids-limit", "20"], &["sh", "-c", script]);
    assert_ne!(text(&output.stdout), "all\n");
    assert!(
        text(&output.stderr).contains("can't fork"),
        "{}",
        describe(&output)
    );
    for enough in ["100", "-1"] {
        let output = run_without_remains(&rig, &["--pids-limit", enough], &["sh", "-c", script]);
        assert_eq!(text(&output.stdout), "all\n", "{}", describe(&output));
    }
}

#[test]
fn a_sandbox_has_the_processors_asked_for() {
    let rig = Rig::new();
    if !limits_can_be_had(&rig) {
        return;
    }
    let output = run_without_remains(&rig, &["--cpuset-cpus", "0"], &["busybox", "nproc"]);
    assert_eq!(text(&output.stdout), "1\n", "{}", describe(&output));
}

#[test]
fn processor_time_is_limited_in_the_cgroup_and_named_in_the_receipt() {
    let rig = Rig::new();
    if !limits_can_be_had(&rig) {
        return;
    }
    let receipt = rig.path("receipt.json");
    let option = format!("--receipt={}", receipt.display());
    assert_code(
        &run_without_remains(&rig, &["--cpus", "0.5", &option], &["true"]),
        0,
    );
    let receipt: Value = serde_json::from_slice(&fs::read(receipt).unwrap()).unwrap();
    assert_eq!(receipt["limits"]["cpu_quota_microseconds"], 50_000);
    assert_eq!(receipt["limits"]["cpu_period_microseconds"], 100_000);
}

#[test]
fn where_no_limit_can_be_had_best_effort_goes_on() {
    let rig = Rig::new();
    let options = [
        "--best-effort",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "--cpus",
        "1",
    ];
    let output = run_without_remains(&rig, &options, &["echo", "ran"]);
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    assert_code(&output, 0);
    let said = text(&output.stderr);
    let warned = said.contains("warning: limits by cgroup: ");
    assert_eq!(warned, !limits_can_be_had(&rig), "{said}");
}

#[test]
fn an_ordinary_user_without_a_cgroup_is_told_what_is_missing_and_how_to_go_on() {
    let rig = Rig::new();
    if limits_can_be_had(&rig) {
        return;
    }
    for options in [
        ["--memory", "64m"],
        ["--pids-limit", "9"],
        ["--cpus", "1"],
        ["--cpuset-cpus", "0"],
    ] {
        let output = run_without_remains(&rig, &options, &["echo", "ran"]);
        assert_code(&output, 125);
        assert!(output.stdout.is_empty());
        let said = text(&output.stderr);
        assert!(
            said.contains("cannot limit") && said.contains("--best-effort"),
            "{said}"
        );
    }
}

#[test]
fn limits_of_each_process_are_soft_and_hard_as_asked_for() {
    let rig = Rig::new();
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let output = rig.sh(
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        script,
    );
    assert_eq!(
        text(&output.stdout),
        "100\n200\n0\n0\n",
        "{}",
        describe(&output)
    );
    let output = rig.sh(&["--ulimit", "nofile=64"], "ulimit -Sn; ulimit -Hn");
    assert_eq!(text(&output.stdout), "64\n64\n", "{}", describe(&output));
}

#[test]
fn a_fork_bomb_is_bounded_without_any_cgroup() {
    let rig = Rig::new();
    let script = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i + 1)); done; echo all";
    let output = run_without_remains(&rig, &["--ulimit", "nproc=30"], &["sh", "-c", script]);
    assert_ne!(text(&output.stdout), "all\n", "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("can't fork"),
        "{}",
        describe(&output)
    );
}
