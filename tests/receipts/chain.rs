//! `--receipt-log` and the chain it makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use crate::rig::{Rig, assert_code, describe, end, text};
use crate::{assert_broken, assert_good, receipt};

fn log(rig: &Rig) -> PathBuf {
    rig.path("receipts.jsonl")
}

fn option(rig: &Rig) -> String {
    format!("--receipt-log={}", log(rig).display())
}

/// A log of three runs, which also have receipts of their own.
fn three() -> (Rig, Vec<PathBuf>) {
    let rig = Rig::new();
    let mut files = Vec::new();
    for code in ["0", "1", "2"] {
        let file = rig.path(code);
        let to = format!("--receipt={}", file.display());
        let output = rig.sh(&[&option(&rig), &to], &format!("exit {code}"));
        assert_code(&output, code.parse().unwrap());
        files.push(file);
    }
    (rig, files)
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

#[test]
fn runs_are_chained_in_the_log_and_in_files_of_their_own() {
    let (rig, files) = three();
    let said = assert_good(&[], &[&log(&rig)]);
    assert_eq!(said.lines().count(), 3);
    assert!(
        said.contains("receipts.jsonl:3: good, number 3, exit code 2 (exit), not signed"),
        "{said}"
    );
    assert_good(&[], &paths(&files));
    assert_good(&[], &paths(&files[1..2]));
    let shown = receipt(&["show", "--json"], &[&files[1]]);
    let second: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let first: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(second["chain"]["previous"], first["digest"]);
}

#[test]
fn a_digest_is_what_jq_and_sha256sum_make_of_the_receipt() {
    let (_rig, files) = three();
    let receipt: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "jq -cjS 'del(.digest)' \"$1\" | sha256sum",
            "sh",
            &files[0].display().to_string(),
        ])
        .output()
        .unwrap();
    let expected = format!("sha256:{}", text(&output.stdout[..64]));
    assert_eq!(receipt["digest"], expected, "{}", describe(&output));
}

#[test]
fn a_removed_or_moved_receipt_is_found_and_named() {
    let (rig, files) = three();
    let said = assert_broken(&[], &[&files[0], &files[2]]);
    assert!(
        said.contains("2: broken: 1 receipt before it are missing") || said.contains("missing"),
        "{said}"
    );
    let said = assert_broken(&[], &[&files[1], &files[0], &files[2]]);
    assert!(said.contains("out of order"), "{said}");
    assert_broken(&[], &[&files[1], &files[2]]);
    let lines = fs::read_to_string(log(&rig)).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    for order in [&[0, 2][..], &[1, 2], &[0, 2, 1], &[1, 0, 2]] {
        let text: String = order.iter().flat_map(|&n| [lines[n], "\n"]).collect();
        fs::write(log(&rig), text).unwrap();
        let said = assert_broken(&[], &[&log(&rig)]);
        assert!(said.contains("receipts.jsonl:"), "{said}");
    }
}

#[test]
fn what_was_removed_from_the_end_is_found_by_the_last_digest() {
    let (rig, files) = three();
    let last: Value = serde_json::from_slice(&fs::read(&files[2]).unwrap()).unwrap();
    let head = last["digest"].as_str().unwrap();
    assert_good(&["--head", head], &[&log(&rig)]);
    let said = assert_broken(&["--head", head], &paths(&files[..2]));
    assert!(said.contains("what follows it is missing"), "{said}");
    let first: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    let after = first["digest"].as_str().unwrap();
    assert_good(&["--after", after, "--head", head], &paths(&files[1..]));
    assert_broken(&["--after", head], &paths(&files[1..]));
}

#[test]
fn a_changed_letter_is_found() {
    let (rig, files) = three();
    let good = fs::read_to_string(&files[1]).unwrap();
    for (from, to) in [
        ("\"exit_code\": 1", "\"exit_code\": 0"),
        ("\n", "\n "),
        ("\"sequence\": 2", "\"sequence\": 3"),
        ("palisade-receipt/1", "palisade-receipt/2"),
    ] {
        fs::write(&files[1], good.replacen(from, to, 1)).unwrap();
        let said = assert_broken(&[], &paths(&files));
        assert!(said.contains("/1: broken: "), "{said}");
    }
    let line = fs::read_to_string(log(&rig)).unwrap();
    fs::write(log(&rig), line.replacen("exit 1", "exit 7", 1)).unwrap();
    let said = assert_broken(&[], &[&log(&rig)]);
    assert!(said.contains("receipts.jsonl:2: broken"), "{said}");
    assert!(said.contains("receipts.jsonl:3: good"), "{said}");
}

#[test]
fn runs_at_the_same_time_share_a_log() {
    let rig = Rig::new();
    let children: Vec<Child> = (0..12)
        .map(|n| {
            rig.command(&[&option(&rig)], &["sh", "-c", &format!("exit {n}")])
                .spawn()
                .unwrap()
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        assert_code(&end(child), i32::try_from(n).unwrap());
    }
    assert_eq!(assert_good(&[], &[&log(&rig)]).lines().count(), 12);
}

#[test]
fn a_record_that_a_killed_palisade_began_is_cut_off_by_the_next() {
    let (rig, _) = three();
    let good = fs::read_to_string(log(&rig)).unwrap();
    let torn = &good[..good.len() - 100];
    fs::write(log(&rig), torn).unwrap();
    assert_broken(&[], &[&log(&rig)]);
    assert_code(&rig.run(&[&option(&rig)], &["true"]), 0);
    assert_eq!(assert_good(&[], &[&log(&rig)]).lines().count(), 3);
}

#[test]
fn a_log_that_was_changed_takes_no_more_and_nothing_runs() {
    let (rig, _) = three();
    let changed = fs::read_to_string(log(&rig))
        .unwrap()
        .replace("exit 2", "exit 9");
    fs::write(log(&rig), &changed).unwrap();
    let output = rig.run(&[&option(&rig)], &["echo", "ran"]);
    assert_code(&output, 125);
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).contains("receipts.jsonl"),
        "{}",
        describe(&output)
    );
    assert_eq!(fs::read_to_string(log(&rig)).unwrap(), changed);
}

#[test]
fn a_log_that_the_sandbox_could_rewrite_is_refused() {
    let rig = Rig::new();
    let log = rig.path("workspace/log");
    let option = format!("--receipt-log={}", log.display());
    let volume = format!("{}:/workspace", rig.path("workspace").display());
    let output = rig.run(&[&option, "-v", &volume], &["true"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("below /workspace"),
        "{}",
        describe(&output)
    );
    assert_code(
        &rig.run(&[&option, "-v", &format!("{volume}:ro")], &["true"]),
        0,
    );
}

#[test]
fn runs_that_never_began_are_in_the_log_too() {
    let rig = Rig::new();
    assert_code(&rig.run(&[&option(&rig)], &["no-such-command"]), 127);
    assert_code(
        &rig.run(&[&option(&rig), "--user", "nobody-there"], &["true"]),
        125,
    );
    let said = assert_good(&[], &[&log(&rig)]);
    assert!(said.contains("exit code 127 (not-found)"), "{said}");
    assert!(said.contains("exit code 125 (setup)"), "{said}");
}
