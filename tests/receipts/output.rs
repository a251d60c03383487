//! `--output-limit`, `--receipt-output` and a policy's `output-cap`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, end, said, text};

fn receipt(rig: &Rig) -> Value {
    serde_json::from_slice(&fs::read(rig.path("receipt.json")).unwrap()).unwrap()
}

fn option(rig: &Rig) -> String {
    format!("--receipt={}", rig.path("receipt.json").display())
}

fn sha256(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bytes");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    format!("sha256:{}", text(&output.stdout[..64]))
}

#[track_caller]
fn assert_cut(output: &Output) {
    assert_code(output, 137);
    let said = text(&output.stderr);
    assert!(said.contains("note: the output limit of"), "{said}");
}

#[test]
fn a_flood_is_cut_at_the_byte_and_ended_with_everything_in_it() {
    let rig = Rig::new();
    let receipt_option = option(&rig);
    let options = ["--output-limit", "100000", &receipt_option];
    let output = run_without_remains(&rig, &options, &["sh", "-c", "yes & yes"]);
    assert_cut(&output);
    assert_eq!(output.stdout.len(), 100_000);
    let receipt = receipt(&rig);
    assert_eq!(receipt["result"]["reason"], "output");
    assert_eq!(receipt["limits"]["output_bytes"], 100_000);
    assert_eq!(receipt["output"]["stdout"]["bytes"], 100_000);
    assert_eq!(
        receipt["output"]["stdout"]["sha256"],
        sha256(&output.stdout)
    );
}

#[test]
fn both_streams_share_the_limit() {
    let rig = Rig::new();
    let output = rig.sh(
        &["--output-limit", "10"],
        "echo 12345; echo 678901 >&2; exit 0",
    );
    assert_cut(&output);
    assert_eq!(text(&output.stdout), "12345\n");
    assert!(
        text(&output.stderr).starts_with("6789note:"),
        "{}",
        describe(&output)
    );
}

#[test]
fn output_up_to_the_limit_passes_and_leaves_the_exit_code_alone() {
    let rig = Rig::new();
    let output = rig.sh(
        &["--output-limit", "12"],
        "echo 12345; echo 67890 >&2; exit 3",
    );
    assert_code(&output, 3);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("12345\n".into(), "67890\n".into())
    );
}

#[test]
fn who_ignores_the_stop_signal_is_killed() {
    let rig = Rig::new();
    let options = ["--output-limit", "1k", "--stop-timeout", "1"];
    let output = run_without_remains(&rig, &options, &["sh", "-c", "trap '' TERM; yes"]);
    assert_cut(&output);
    assert_eq!(output.stdout.len(), 1024);
}

#[test]
fn a_command_may_put_its_things_away_after_the_limit() {
    let rig = Rig::new();
    let volume = format!("{}:/workspace", rig.path("workspace").display());
    let options = ["--output-limit", "1k", "-v", &volume];
    let script = "trap 'echo tidy >/workspace/state; exit 0' TERM; while :; do echo flood; done";
    assert_cut(&rig.sh(&options, script));
    let state = fs::read_to_string(rig.path("workspace/state")).unwrap();
    assert_eq!(state, "tidy\n");
}

#[test]
fn a_policy_limits_output_too() {
    let rig = Rig::new();
    let policy = rig.path("capped.toml");
    fs::write(&policy, "output-cap = \"1KiB\"\n").unwrap();
    let output = rig.run(&["--policy", &policy.display().to_string()], &["yes"]);
    assert_cut(&output);
    assert_eq!(output.stdout.len(), 1024);
}

#[test]
fn the_limit_holds_for_a_terminal() {
    let rig = Rig::new();
    let receipt_option = option(&rig);
    let output = rig.sh(&["-t", "--output-limit", "1000", &receipt_option], "yes");
    assert_cut(&output);
    assert_eq!(output.stdout.len(), 1000);
    let output = &receipt(&rig)["output"];
    assert_eq!(
        (&output["stdout"]["bytes"], &output["stderr"]),
        (&json!(1000), &Value::Null)
    );
}

#[test]
fn size_and_digest_of_each_stream_are_in_the_receipt_on_request() {
    let rig = Rig::new();
    let receipt_option = option(&rig);
    let script = "head -c 3000000 /dev/zero; echo err >&2";
    let output = rig.sh(&["--receipt-output", &receipt_option], script);
    assert_code(&output, 0);
    let expected = json!({
        "stdout": {"bytes": 3_000_000, "sha256": sha256(&output.stdout)},
        "stderr": {"bytes": 4, "sha256": sha256(b"err\n")},
    });
    assert_eq!(receipt(&rig)["output"], expected);
    assert_code(&rig.run(&[&receipt_option], &["true"]), 0);
    assert_eq!(receipt(&rig)["output"], Value::Null);
}

#[test]
fn both_streams_into_one_file_keep_their_order_and_count_as_one() {
    let rig = Rig::new();
    let receipt_option = option(&rig);
    let path = rig.path("both");
    let file = File::create(&path).unwrap();
    let script =
        "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i + 1)); echo $i >&2; i=$((i + 1)); done";
    let mut command = rig.script(&["--receipt-output", &receipt_option], script);
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert_code(&end(command.spawn().unwrap()), 0);
    let numbers: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let expected = numbers.join("\n") + "\n";
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
    assert_eq!(
        receipt(&rig)["output"],
        json!({"stdout": {"bytes": expected.len(), "sha256": sha256(expected.as_bytes())}, "stderr": null})
    );
}

#[test]
fn a_socket_gets_all_that_was_written_however_slowly_it_is_read() {
    let rig = Rig::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = rig.script(&["--output-limit", "100m"], "head -c 20000000 /dev/zero");
    command.stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let child = command.spawn().unwrap();
    // The command's own copy keeps the socket open.
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut ours = ours;
        ours.read_to_end(&mut got).unwrap();
        got
    });
    assert_code(&end(child), 0);
    assert_eq!(reader.join().unwrap().len(), 20_000_000);
}

#[test]
fn a_reader_that_goes_away_breaks_the_pipe_under_the_command_as_without_a_limit() {
    let rig = Rig::new();
    let mut child = rig
        .command(&["--output-limit", "1g"], &["yes"])
        .spawn()
        .unwrap();
    said::<10>(&mut child);
    drop(child.stdout.take());
    assert_code(&end(child), 141);
}
