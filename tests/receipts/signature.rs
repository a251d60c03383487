//! `--receipt-key`: receipts signed as in-toto statements.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::{Rig, assert_code, describe, text};
use crate::{assert_broken, assert_good, receipt};

/// A rig with a key `name` and its public half.
fn key(rig: &Rig, name: &str) -> (PathBuf, PathBuf) {
    let private = rig.path(name);
    assert_code(&receipt(&["keygen"], &[&private]), 0);
    (private, rig.path(&format!("{name}.pub")))
}

fn signed_run(rig: &Rig, private: &Path) -> PathBuf {
    let file = rig.path("receipt.json");
    let options = [
        format!("--receipt={}", file.display()),
        format!("--receipt-key={}", private.display()),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_code(&rig.sh(&options, "exit 3"), 3);
    file
}

fn verify_with(public: &Path) -> [String; 2] {
    ["--key".to_owned(), public.display().to_string()]
}

#[test]
fn a_signed_receipt_is_good_by_its_key_and_by_no_other() {
    let rig = Rig::new();
    let (private, public) = key(&rig, "key");
    let (_, other) = key(&rig, "other");
    let file = signed_run(&rig, &private);
    let [option, value] = verify_with(&public);
    let said = assert_good(&[&option, &value], &[&file]);
    assert!(
        said.contains("exit code 3 (exit), signed by sha256:"),
        "{said}"
    );
    let [option, value] = verify_with(&other);
    let said = assert_broken(&[&option, &value], &[&file]);
    assert!(
        said.contains("its signature is not that of sha256:"),
        "{said}"
    );
    let said = assert_good(&[], &[&file]);
    assert!(said.contains("--key FILE checks its signature"), "{said}");
}

#[test]
fn the_envelope_holds_an_in_toto_statement_about_the_receipt() {
    let rig = Rig::new();
    let (private, _) = key(&rig, "key");
    let file = signed_run(&rig, &private);
    let envelope: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let shown = receipt(&["show", "--json"], &[&file]);
    let inner: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(inner["result"]["exit_code"], 3);
    let decoded = std::process::Command::new("sh")
        .args(["-c", "jq -r .payload \"$1\" | base64 -d", "sh"])
        .arg(&file)
        .output()
        .unwrap();
    let statement: Value = serde_json::from_slice(&decoded.stdout).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicate"], inner);
    let digits = inner["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    assert_eq!(
        statement["subject"],
        json!([{"name": inner["id"], "digest": {"sha256": digits}}])
    );
}

#[test]
fn changes_of_a_signed_receipt_are_found() {
    let rig = Rig::new();
    let (private, public) = key(&rig, "key");
    let file = signed_run(&rig, &private);
    let [option, value] = verify_with(&public);
    let good = fs::read(&file).unwrap();
    for index in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_broken(&[&option, &value], &[&file]);
    }
    // Out of its envelope it is whole, and not signed.
    fs::write(&file, &good).unwrap();
    let bare = rig.path("bare.json");
    let to = format!("--receipt={}", bare.display());
    assert_code(&rig.run(&[&to], &["true"]), 0);
    let said = assert_broken(&[&option, &value], &[&bare]);
    assert!(said.contains("it is not signed"), "{said}");
}

#[test]
fn a_key_that_the_sandbox_could_read_is_refused_and_nothing_runs() {
    let rig = Rig::new();
    let (private, _) = key(&rig, "workspace/key");
    let option = format!("--receipt-key={}", private.display());
    let volume = format!("{}:/workspace:ro", rig.path("workspace").display());
    let options = ["--receipt", "-", &option, "-v", &volume];
    let output = rig.run(&options, &["echo", "ran"]);
    assert_code(&output, 125);
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).contains("below /workspace"),
        "{}",
        describe(&output)
    );
    let (private, _) = key(&rig, "image/key");
    let option = format!("--receipt-key={}", private.display());
    let output = rig.run(&["--receipt", "-", &option], &["true"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("lies in the image"),
        "{}",
        describe(&output)
    );
}

#[test]
fn what_is_no_key_is_refused_before_anything_runs() {
    let rig = Rig::new();
    let (_, public) = key(&rig, "key");
    for odd in [
        public.display().to_string(),
        "/nonexistent".into(),
        "/dev/null".into(),
    ] {
        let option = format!("--receipt-key={odd}");
        let output = rig.run(&["--receipt", "-", &option], &["echo", "ran"]);
        assert_code(&output, 125);
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).contains(&odd), "{}", describe(&output));
    }
    let option = format!("--receipt-key={}", public.display());
    let output = rig.run(&[&option], &["echo", "ran"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("try: --receipt FILE"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_signed_log_is_verified_line_by_line() {
    let rig = Rig::new();
    let (private, public) = key(&rig, "key");
    let log = rig.path("log");
    let options = [
        format!("--receipt-log={}", log.display()),
        format!("--receipt-key={}", private.display()),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    for _ in 0..3 {
        assert_code(&rig.run(&options, &["true"]), 0);
    }
    let [option, value] = verify_with(&public);
    assert_eq!(assert_good(&[&option, &value], &[&log]).lines().count(), 3);
    // Whoever has no key can append, and is found.
    assert_code(&rig.run(&options[..1], &["true"]), 0);
    let said = assert_broken(&[&option, &value], &[&log]);
    assert!(said.contains("log:4: broken: it is not signed"), "{said}");
}
