//! The receipt of a command that joins.

use std::fs;

use crate::rig::{assert_code, describe, text};
use crate::sandbox::Sandboxes;

#[test]
fn a_command_that_joins_leaves_a_receipt_of_its_own() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "while :; do sleep 1000; done");
    let path = boxes.rig.path("receipt.json");
    let file = path.to_str().unwrap();
    let output = boxes.palisade(&[
        "exec",
        "--receipt",
        file,
        "-e",
        "A=secret",
        "-w",
        "/tmp",
        "box",
        "sh",
        "-c",
        "echo said; exit 3",
    ]);
    assert_code(&output, 3);
    assert_eq!(text(&output.stdout), "said\n");
    let written = fs::read_to_string(&path).unwrap();
    assert!(!written.contains("secret"), "{written}");
    let receipt: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(receipt["id"], id);
    assert_eq!(receipt["name"], "box");
    assert_eq!(receipt["result"]["exit_code"], 3, "{written}");
    assert_eq!(receipt["command"]["argv"][2], "echo said; exit 3");
    assert_eq!(receipt["command"]["cwd"], "/tmp");
    // What was read back of this command, not of the sandbox's first one.
    assert!(written.contains("NoNewPrivs"), "{written}");
    let checked = boxes.palisade(&["receipt", "verify", file]);
    assert_code(&checked, 0);

    for refused in [
        &["-u", "nobody-there", "box", "true"][..],
        &["no-such-box", "true"],
    ] {
        let output = boxes.palisade(&[&["exec", "--receipt", file], refused].concat());
        assert_code(&output, 125);
        let receipt: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(receipt["result"]["reason"], "setup", "{refused:?}");
        assert!(receipt["result"]["error"].is_string(), "{receipt}");
        assert_code(&boxes.palisade(&["receipt", "verify", file]), 0);
        fs::remove_file(&path).unwrap();
    }

    let output = boxes.palisade(&["exec", "--receipt", file, "box", "no-such-command"]);
    assert_code(&output, 127);
    let receipt: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(receipt["result"]["exit_code"], 127);
}

#[test]
fn a_command_that_joins_and_meets_a_limit_of_its_sandbox_ends_with_that_reason() {
    if !nix::unistd::geteuid().is_root() {
        // There is no control group to be had without further ado.
        return;
    }
    let options = ["--name", "box", "--memory", "64m", "--memory-swap", "64m"];
    for (script, reason) in [
        ("exit 3", "exit"),
        (
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; exit 4",
            "pids",
        ),
        ("exec dd if=/dev/zero of=/dev/null bs=200M", "oom"),
    ] {
        // Each has one of its own: the others' processes count in it, and at the end of memory the kernel ends all of it.
        let boxes = Sandboxes::new();
        boxes.detached(
            &[&options[..], &["--pids-limit", "8"]].concat(),
            "while :; do sleep 1000; done",
        );
        let path = boxes.rig.path("receipt.json");
        let file = path.to_str().unwrap();
        let output = boxes.palisade(&["exec", "--receipt", file, "box", "sh", "-c", script]);
        assert_ne!(output.status.code(), Some(0), "{}", describe(&output));
        let receipt: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(receipt["result"]["reason"], reason, "{receipt}");
        assert_eq!(
            text(&output.stderr).contains("note: the command failed"),
            reason != "exit",
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_receipt_that_cannot_be_had_is_said_before_anything_runs() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box"], "while :; do sleep 1000; done");
    let output = boxes.palisade(&["exec", "-d", "--receipt", "-", "box", "true"]);
    assert_code(&output, 125);
    assert!(text(&output.stderr).contains("-d"), "{}", describe(&output));
    let output = boxes.palisade(&[
        "exec",
        "--receipt",
        "/nonexistent/receipt.json",
        "box",
        "sh",
        "-c",
        "echo ran",
    ]);
    assert_code(&output, 125);
    assert!(output.stdout.is_empty(), "{}", describe(&output));
}
