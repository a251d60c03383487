//! `palisade volume`.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::rig::{Rig, assert_code, binary, code, describe, end, entries, started, text};

fn volume(rig: &Rig, args: &[&str]) -> Output {
    Command::new(binary())
        .arg("volume")
        .args(args)
        .arg("--root")
        .arg(rig.path("store"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn prints(rig: &Rig, args: &[&str], expected: &str) {
    let output = volume(rig, args);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), expected, "{args:?}");
}

#[test]
fn volumes_are_made_listed_shown_and_removed() {
    let rig = Rig::new();
    prints(&rig, &["ls"], "DRIVER    VOLUME NAME\n");
    prints(
        &rig,
        &["create", "--label", "team=a", "npm-cache"],
        "npm-cache\n",
    );
    prints(&rig, &["create", "npm-cache"], "npm-cache\n");
    prints(&rig, &["create", "venv"], "venv\n");
    let random = text(&volume(&rig, &["create"]).stdout).trim().to_owned();
    assert_eq!(random.len(), 64);
    prints(&rig, &["rm", &random], &format!("{random}\n"));
    prints(
        &rig,
        &["ls"],
        "DRIVER    VOLUME NAME\nlocal     npm-cache\nlocal     venv\n",
    );
    prints(&rig, &["ls", "-q", "--filter", "name=^venv$"], "venv\n");
    prints(&rig, &["ls", "-q", "-f", "label=team=a"], "npm-cache\n");
    prints(&rig, &["ls", "-q", "-f", "dangling=false"], "");
    prints(
        &rig,
        &["ls", "--format", "{{.Name}} {{.Label \"team\"}}|"],
        "npm-cache a|\nvenv |\n",
    );
    prints(
        &rig,
        &[
            "inspect",
            "-f",
            "{{.Name}} {{.Labels.team}} {{.Driver}}",
            "npm-cache",
        ],
        "npm-cache a local\n",
    );
    let inspected: Value =
        serde_json::from_slice(&volume(&rig, &["inspect", "venv"]).stdout).unwrap();
    let place = rig.path("store/volumes/venv/_data");
    assert_eq!(inspected[0]["Mountpoint"], place.to_str().unwrap());
    prints(&rig, &["rm", "venv", "npm-cache"], "venv\nnpm-cache\n");
    prints(&rig, &["rm", "-f", "venv"], "");
    assert_eq!(entries(&rig.path("store/volumes")), Vec::<String>::new());
}

#[test]
fn what_cannot_be_done_says_why() {
    let rig = Rig::new();
    for (args, words) in [
        (&["rm", "none"][..], "there is no such volume"),
        (&["inspect", "none"], "there is no volume none"),
        (&["create", "a/b"], "a name has"),
        (&["create", "--label", "=x", "ab"], "has no name"),
        (&["ls", "--filter", "colour=red"], "no filter `colour`"),
        (&["ls", "--format", "{{.Colour}}"], "no field .Colour"),
        (&["prune"], "no terminal to ask on"),
    ] {
        let output = volume(&rig, args);
        assert_eq!(code(&output), 1, "{args:?}: {}", describe(&output));
        assert!(
            text(&output.stderr).contains(words),
            "{args:?}: {}",
            describe(&output)
        );
    }
}

#[test]
fn a_volume_that_a_sandbox_uses_stays() {
    let rig = Rig::new();
    let mut command = rig.script(&["-i", "-v", "busy:/data"], "echo ready; cat");
    let mut user = started(command.stdin(Stdio::piped()));
    prints(&rig, &["create", "idle"], "idle\n");
    let output = volume(&rig, &["rm", "busy"]);
    assert_eq!(code(&output), 1, "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("a running sandbox uses it"),
        "{}",
        describe(&output)
    );
    prints(
        &rig,
        &["prune", "-a", "-f"],
        "Deleted Volumes:\nidle\n\nTotal reclaimed space: 0B\n",
    );
    drop(user.stdin.take());
    assert_code(&end(user), 0);
    prints(&rig, &["rm", "busy"], "busy\n");
}

#[test]
fn a_volume_of_a_sandbox_that_has_a_record_stays_until_that_is_removed() {
    let rig = Rig::new();
    let made = end(rig
        .command(
            &["-d", "--rm=false", "--name", "holder", "-v", "held:/data"],
            &["true"],
        )
        .spawn()
        .unwrap());
    assert_code(&made, 0);
    let palisade = |args: &[&str]| {
        let output = Command::new(binary())
            .args(args)
            .arg("--root")
            .arg(rig.path("store"))
            .output()
            .unwrap();
        assert_code(&output, 0);
        text(&output.stdout)
    };
    palisade(&["wait", "holder"]);
    let output = volume(&rig, &["rm", "held"]);
    assert_eq!(code(&output), 1, "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("belongs to the sandbox holder"),
        "{}",
        describe(&output)
    );
    prints(&rig, &["ls", "-q", "-f", "dangling=false"], "held\n");
    prints(&rig, &["prune", "-af"], "Total reclaimed space: 0B\n");
    palisade(&["start", "holder"]);
    palisade(&["wait", "holder"]);
    palisade(&["rm", "holder"]);
    prints(&rig, &["rm", "held"], "held\n");
}
