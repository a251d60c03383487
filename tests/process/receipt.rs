//! `--receipt`.

use std::fs;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::rig::{Rig, assert_code, describe, end, entries, pid, started, text};

fn read(rig: &Rig) -> Value {
    let text =
        fs::read_to_string(rig.path("workspace/receipt.json")).expect("a receipt was written");
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../docs/receipt.schema.json")).unwrap();
    check(&receipt, &schema, "receipt");
    receipt
}

/// As much of JSON Schema as ours uses.
fn check(value: &Value, schema: &Value, place: &str) {
    if let Some(expected) = schema.get("const") {
        assert_eq!(value, expected, "{place}");
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place} is {value}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let fits = |name: &&str| match *name {
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the schema says {other}"),
    };
    assert!(
        types.is_empty() || types.iter().any(fits),
        "{place} is {value}, not {types:?}"
    );
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for (name, schema) in properties {
            check(
                object
                    .get(name)
                    .unwrap_or_else(|| panic!("{place} lacks {name}")),
                schema,
                &format!("{place}.{name}"),
            );
        }
        assert_eq!(
            object.len(),
            properties.len(),
            "{place} has more than its schema"
        );
    }
    for value in value.as_array().into_iter().flatten() {
        check(value, &schema["items"], &format!("{place}[]"));
    }
}

fn options(rig: &Rig) -> Vec<String> {
    vec![
        "--receipt".into(),
        rig.path("workspace/receipt.json").display().to_string(),
    ]
}

fn run(rig: &Rig, more: &[&str], command: &[&str]) -> std::process::Output {
    let options = options(rig);
    let all: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    rig.run(&all, command)
}

#[test]
fn a_receipt_says_what_ran_what_held_it_and_how_it_ended() {
    let rig = Rig::new();
    let more = [
        "--name",
        "tester",
        "--label",
        "team=blue",
        "-e",
        "TOKEN=hunter2",
        "--timeout",
        "60s",
    ];
    assert_code(&run(&rig, &more, &["sh", "-c", "exit 4"]), 4);
    let receipt = read(&rig);
    assert_eq!(receipt["name"], "tester");
    assert_eq!(receipt["labels"], json!({"team": "blue"}));
    assert_eq!(receipt["command"]["argv"], json!(["sh", "-c", "exit 4"]));
    assert_eq!(receipt["command"]["uid"], 1000);
    assert_eq!(receipt["limits"]["timeout_milliseconds"], 60_000);
    assert_eq!(receipt["policy"]["name"], "default");
    assert_eq!(receipt["result"]["exit_code"], 4);
    assert_eq!(receipt["result"]["reason"], "exit");
    assert!(
        receipt["protections"]
            .as_object()
            .is_some_and(|held| !held.is_empty())
    );
    assert!(receipt["usage"]["memory_peak_bytes"].as_u64().unwrap() > 0);
    assert!(receipt["start"].as_str() <= receipt["end"].as_str());
    let names = receipt["command"]["env"].as_array().unwrap();
    assert!(names.contains(&json!("TOKEN")));
    let raw = fs::read_to_string(rig.path("workspace/receipt.json")).unwrap();
    assert!(!raw.contains("hunter2"), "{raw}");
    assert_eq!(entries(&rig.path("workspace")), ["receipt.json"]);
}

#[test]
fn a_signal_and_the_time_limit_are_named() {
    let rig = Rig::new();
    assert_code(&run(&rig, &[], &["sh", "-c", "kill -ABRT $$"]), 134);
    let result = &read(&rig)["result"];
    assert_eq!(
        (&result["reason"], &result["signal"], &result["signal_name"]),
        (&json!("signal"), &json!(6), &json!("SIGABRT"))
    );
    assert_code(&run(&rig, &["--timeout", "1s"], &["sleep", "1000"]), 124);
    assert_eq!(read(&rig)["result"]["reason"], "timeout");
}

#[test]
fn a_run_that_palisade_had_to_end_has_its_receipt() {
    let rig = Rig::new();
    let options = options(&rig);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let child = started(&mut rig.script(&options, "echo ready; exec sleep 1000"));
    kill(pid(&child), Signal::SIGINT).unwrap();
    assert_code(&end(child), 130);
    assert_eq!(read(&rig)["result"]["signal_name"], "SIGINT");
}

#[test]
fn a_command_that_cannot_be_run_has_its_receipt_with_the_reason() {
    let rig = Rig::new();
    assert_code(&run(&rig, &[], &["no-such-command"]), 127);
    let receipt = read(&rig);
    assert_eq!(receipt["result"]["reason"], "not-found");
    assert_eq!(receipt["result"]["exit_code"], 127);
    assert!(
        receipt["result"]["error"]
            .as_str()
            .unwrap()
            .contains("no-such-command")
    );
    assert_eq!(
        (&receipt["protections"], &receipt["usage"]),
        (&Value::Null, &Value::Null)
    );
    assert_code(&run(&rig, &[], &["/bin/not-executable"]), 126);
    assert_eq!(read(&rig)["result"]["reason"], "not-executable");
}

#[test]
fn a_receipt_on_standard_output_follows_what_the_command_wrote() {
    let rig = Rig::new();
    let output = rig.run(&["--receipt", "-"], &["echo", "first"]);
    assert_code(&output, 0);
    let said = text(&output.stdout);
    let rest = said
        .strip_prefix("first\n")
        .unwrap_or_else(|| panic!("{said}"));
    let receipt: Value = serde_json::from_str(rest).unwrap();
    assert_eq!(receipt["result"]["exit_code"], 0);
}

#[test]
fn a_receipt_that_cannot_be_written_is_an_error_before_anything_runs() {
    let rig = Rig::new();
    let volume = format!("{}:/workspace", rig.path("workspace").display());
    let path = rig.path("missing/receipt.json").display().to_string();
    let output = rig.run(
        &["-v", &volume, "--receipt", &path],
        &["touch", "/workspace/ran"],
    );
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains(&path),
        "{}",
        describe(&output)
    );
    assert!(entries(&rig.path("workspace")).is_empty());
}

#[test]
fn two_runs_of_the_same_thing_differ_in_id_times_and_usage_alone() {
    let rig = Rig::new();
    let strip = |mut receipt: Value| {
        for field in ["id", "start", "end", "usage", "digest"] {
            receipt.as_object_mut().unwrap().remove(field);
        }
        receipt
    };
    let options = ["--hostname", "same"];
    assert_code(&run(&rig, &options, &["true"]), 0);
    let first = strip(read(&rig));
    assert_code(&run(&rig, &options, &["true"]), 0);
    assert_eq!(strip(read(&rig)), first);
}
