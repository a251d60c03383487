//! `palisade doctor`: what it says of a machine that gives everything, and of ones that refuse.

#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;

use std::process::{Command, Output};

use rig::{Rig, assert_code, below, binary, describe, end, text};
use serde_json::Value;

/// `palisade doctor ARGUMENTS` below another program.
fn doctor(around: &[&str], arguments: &[&str]) -> Output {
    let mut doctor = Command::new(binary());
    doctor.arg("doctor").args(arguments);
    // `env` as the program below which nothing is different.
    let around = if around.is_empty() { &["env"] } else { around };
    end(below(around, &doctor).spawn().unwrap())
}

fn report(around: &[&str]) -> Value {
    let output = doctor(around, &["--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", describe(&output)))
}

/// A user namespace whose own limit on further ones is 0.
const NO_NAMESPACES: [&str; 5] = [
    "unshare",
    "-Ur",
    "sh",
    "-c",
    "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"",
];

/// A /proc that is covered in one place.
const MASKED_PROC: [&str; 5] = [
    "unshare",
    "-Urm",
    "sh",
    "-c",
    "mount --bind /dev/null /proc/uptime && exec \"$0\" \"$@\"",
];

/// No /proc at all.
const NO_PROC: [&str; 5] = [
    "unshare",
    "-Urm",
    "sh",
    "-c",
    "mount -t tmpfs none /proc && exec \"$0\" \"$@\"",
];

fn probe<'a>(report: &'a Value, name: &str) -> &'a Value {
    let probes = report["probes"].as_array().unwrap();
    probes
        .iter()
        .find(|probe| probe["name"] == name)
        .unwrap_or_else(|| panic!("no probe {name}"))
}

#[test]
fn what_it_says_of_this_machine_is_what_a_run_then_does() {
    let report = report(&[]);
    assert_eq!(report["schema"], "palisade-doctor/1");
    assert_eq!(report["tiers"]["no-cgroup"]["available"], true);
    let output = Rig::new().run(&[], &["true"]);
    assert_eq!(rig::code(&output), 0, "{}", describe(&output));
    let limited = Rig::new().run(
        &["--memory", "64m", "--cpus", "1", "--pids-limit", "64"],
        &["true"],
    );
    let full = report["tiers"]["full"]["available"].as_bool().unwrap();
    assert_eq!(rig::code(&limited) == 0, full, "{}", describe(&limited));
    let strongest = if full { "full" } else { "no-cgroup" };
    assert_eq!(report["strongest"], strongest);
}

#[test]
fn the_exit_code_is_about_the_tier_that_is_asked_for() {
    let full = report(&[])["tiers"]["full"]["available"].as_bool().unwrap();
    assert_eq!(rig::code(&doctor(&[], &[])), i32::from(!full));
    assert_eq!(rig::code(&doctor(&[], &["--require", "no-cgroup"])), 0);
    assert_eq!(
        rig::code(&doctor(&NO_NAMESPACES, &["--require", "no-cgroup"])),
        1
    );
    assert_eq!(
        rig::code(&doctor(&NO_NAMESPACES, &["--require", "no-namespace"])),
        0
    );
    let odd = doctor(&[], &["--require", "most"]);
    assert_eq!(rig::code(&odd), 125, "{}", describe(&odd));
}

#[test]
fn a_limit_of_no_user_namespaces_is_named_with_its_cure() {
    let report = report(&NO_NAMESPACES);
    assert_eq!(report["strongest"], "no-namespace");
    let user = probe(&report, "user");
    assert_eq!(user["layer"], "namespace-limit");
    assert_eq!(user["errno"], "ENOSPC");
    assert!(
        user["cure"]
            .as_str()
            .unwrap()
            .contains("user.max_user_namespaces")
    );
    let default = &report["policies"][1];
    assert_eq!(
        (&default["name"], &default["tier"]),
        (&"default".into(), &Value::Null)
    );
}

#[test]
fn a_masked_proc_is_named_and_nothing_else_is() {
    let report = report(&MASKED_PROC);
    assert_eq!(probe(&report, "proc")["layer"], "masked-proc");
    let causes = report["tiers"]["no-cgroup"]["blocked_by"]
        .as_array()
        .unwrap();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0]["probes"], serde_json::json!(["proc"]));
}

#[test]
fn without_proc_no_tier_is_promised() {
    let report = report(&NO_PROC);
    assert_eq!(report["strongest"], Value::Null);
    assert_eq!(probe(&report, "own-proc")["layer"], "no-proc");
    for tier in ["full", "no-cgroup", "no-namespace"] {
        assert_eq!(report["tiers"][tier]["available"], false, "{tier}");
    }
}

#[test]
fn each_missing_system_call_is_seen_by_its_probe() {
    for (fault, name) in [
        ("clone3:error=ENOSYS", "clone3"),
        ("landlock_restrict_self:error=EPERM", "landlock"),
        ("landlock_create_ruleset:error=EOPNOTSUPP", "landlock"),
        ("seccomp:error=EINVAL", "seccomp"),
        ("pivot_root:error=EPERM", "pivot-root"),
        ("mount_setattr:error=ENOSYS", "read-only"),
        ("close_range:error=ENOSYS", "close-range"),
        ("pidfd_open:error=ENOSYS", "pidfd"),
    ] {
        let fault = format!("inject={fault}");
        let report = report(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &fault]);
        assert_eq!(probe(&report, name)["available"], false, "{fault}");
        assert!(
            !report["tiers"]["full"]["available"].as_bool().unwrap(),
            "{fault}"
        );
    }
}

#[test]
fn the_text_names_tiers_layers_and_cures() {
    let output = doctor(&NO_NAMESPACES, &[]);
    let said = text(&output.stdout);
    for word in [
        "no-cgroup      no",
        "no-namespace   yes",
        "blocked by user.max_user_namespaces is 0",
        "sysctl -w user.max_user_namespaces",
        "strict         does not start",
    ] {
        assert!(said.contains(word), "no `{word}`: {said}");
    }
}

#[test]
fn a_run_that_is_refused_names_the_same_layer_and_cure() {
    let rig = Rig::new();
    for (around, layer, cure) in [
        (&NO_NAMESPACES, "user.max_user_namespaces is 0", "sysctl -w"),
        (&MASKED_PROC, "/proc/uptime", "unmasked /proc"),
        (
            &NO_PROC,
            "blocked by there is no /proc",
            "as root: mount -t proc",
        ),
    ] {
        let command = rig.command(&[], &["true"]);
        let output = end(below(around, &command).spawn().unwrap());
        assert_code(&output, 125);
        let said = text(&output.stderr);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].contains(layer), "{said}");
        assert!(
            lines[1].starts_with("  try: ") && lines[1].contains(cure),
            "{said}"
        );
    }
}

#[test]
fn a_survey_leaves_no_process_and_no_control_group() {
    let output = doctor(&[], &["--json"]);
    assert!(!output.stdout.is_empty());
    let groups = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-name",
            "palisade-probe-*",
            "-newermt",
            "-1 hour",
        ])
        .output()
        .unwrap();
    // Another survey may be under way: what is left behind would still be there a while later.
    for group in text(&groups.stdout).lines() {
        let pid = group.rsplit('-').next().unwrap();
        assert!(
            std::path::Path::new("/proc").join(pid).exists(),
            "{group} was left behind"
        );
    }
}
