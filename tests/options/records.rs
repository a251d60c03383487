//! `--name`, `--label`, `--cidfile`, `--receipt`, `--dry-run`, `--platform`, `--quiet`, `--help`.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::layout::{self, Packing};
use crate::place::on;
use crate::rig::{Rig, assert_code, binary, describe, end, entries, text};

#[test]
fn names_and_labels_are_in_the_receipt() {
    let rig = Rig::new();
    let options = [
        "--name",
        "agent-1",
        "--label",
        "a=b=c",
        "-l",
        "bare",
        "--annotation",
        "x=y",
        "--receipt",
        "-",
    ];
    let output = rig.run(&options, &["true"]);
    let receipt: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", describe(&output)));
    assert_eq!(receipt["name"], "agent-1");
    assert_eq!(receipt["labels"], json!({"a": "b=c", "bare": ""}));
}

#[test]
fn the_id_goes_to_a_new_file_alone() {
    let rig = Rig::new();
    let file = rig.path("id");
    let option = file.display().to_string();
    assert_code(&rig.run(&["--cidfile", &option], &["true"]), 0);
    let id = fs::read_to_string(&file).unwrap();
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    let output = rig.run(&["--cidfile", &option], &["echo", "ran"]);
    assert_code(&output, 125);
    assert!(output.stdout.is_empty());
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
}

#[test]
fn a_sandbox_that_never_came_to_be_leaves_no_id() {
    let rig = Rig::new();
    let option = format!("--cidfile={}", rig.path("id").display());
    let output = rig.run(&[&option, "--user", "no-such-user"], &["true"]);
    assert_code(&output, 125);
    assert!(!rig.path("id").exists());
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let rig = Rig::new();
    let volume = format!("{}:/w", rig.path("workspace/new").display());
    let cidfile = format!("--cidfile={}", rig.path("id").display());
    let options = [
        "--dry-run",
        "-v",
        &volume,
        &cidfile,
        "--memory=64m",
        "-e",
        "A=1",
    ];
    let first = rig.run(&options, &["touch", "/w/f"]);
    assert_code(&first, 0);
    let plan: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(plan["spec"]["process"]["args"], json!(["touch", "/w/f"]));
    assert_eq!(plan["spec"]["process"]["noNewPrivileges"], json!(true));
    assert_eq!(
        plan["spec"]["linux"]["resources"]["memory"]["limit"],
        64 << 20
    );
    let env = plan["spec"]["process"]["env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")), "{env:?}");
    assert!(entries(&rig.path("workspace")).is_empty());
    assert!(!rig.path("id").exists());
    assert!(entries(&rig.path("store/sandboxes")).is_empty());
    let second = rig.run(&options, &["touch", "/w/f"]);
    assert_eq!(text(&first.stdout), text(&second.stdout));
}

#[test]
fn the_platform_asked_for_must_be_one_of_the_images() {
    let rig = Rig::new();
    let layout = layout::write(&rig, "own.oci", &json!({}), Packing::Tar);
    let image = format!("oci:{}", layout.display());
    let own = if cfg!(target_arch = "aarch64") {
        "linux/arm64"
    } else {
        "linux/amd64"
    };
    let output = end(on(&rig, &["--platform", own], &image, &["echo", "ran"])
        .spawn()
        .unwrap());
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    let output = end(on(
        &rig,
        &["--platform", "linux/s390x"],
        &image,
        &["echo", "ran"],
    )
    .spawn()
    .unwrap());
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(
        said.contains("linux/s390x") && said.contains(own) && said.contains("try: --platform"),
        "{said}"
    );
}

#[test]
fn the_help_names_every_option_that_docker_users_know() {
    let output = Command::new(binary())
        .args(["run", "--help"])
        .output()
        .unwrap();
    assert_code(&output, 0);
    let help = text(&output.stdout);
    for option in [
        "--name",
        "--rm",
        "--env",
        "--env-file",
        "--volume",
        "--mount",
        "--tmpfs",
        "--read-only",
        "--workdir",
        "--user",
        "--hostname",
        "--entrypoint",
        "--network",
        "--memory",
        "--memory-swap",
        "--cpus",
        "--cpuset-cpus",
        "--pids-limit",
        "--shm-size",
        "--ulimit",
        "--cap-add",
        "--cap-drop",
        "--security-opt",
        "--device",
        "--init",
        "--interactive",
        "--tty",
        "--stop-signal",
        "--stop-timeout",
        "--label",
        "--platform",
        "--cidfile",
        "--policy",
        "--timeout",
        "--receipt",
        "--dry-run",
    ] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn signals_and_health_words_of_docker_are_accepted() {
    let rig = Rig::new();
    let output = rig.run(
        &["--sig-proxy", "--no-healthcheck", "--init"],
        &["echo", "ran"],
    );
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
}
