//! `palisade stats`.

use std::io::{BufRead, BufReader};

use crate::cgroup;
use crate::rig::{Guard, assert_code, describe, end, text};
use crate::sandbox::Sandboxes;

/// One look, by a template.
#[track_caller]
fn shown(boxes: &Sandboxes, template: &str) -> String {
    boxes.says(&["stats", "--no-stream", "--format", template, "box"])
}

#[test]
fn what_a_sandbox_uses_is_shown_in_docker_s_columns() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "while :; do :; done");
    let output = boxes.palisade(&["stats", "--no-stream"]);
    assert_code(&output, 0);
    let table = text(&output.stdout);
    let columns: Vec<&str> = table.lines().next().unwrap().split("  ").collect();
    let columns: Vec<&str> = columns
        .into_iter()
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(
        columns,
        [
            "CONTAINER ID",
            "NAME",
            "CPU %",
            "MEM USAGE / LIMIT",
            "MEM %",
            "NET I/O",
            "BLOCK I/O",
            "PIDS"
        ]
    );
    assert!(
        table.lines().nth(1).unwrap().starts_with(&id[..12]),
        "{table}"
    );
    // Without a control group it is said what the figures are.
    let counted = cgroup(&boxes, &id).is_some();
    assert_eq!(
        text(&output.stderr).contains("sums over processes"),
        !counted,
        "{}",
        describe(&output)
    );
    let shown = shown(&boxes, "{{.Name}} {{.CPUPerc}} {{.PIDs}} {{.NetIO}}");
    let fields: Vec<&str> = shown.split(' ').collect();
    assert_eq!(fields[0], "box");
    assert!(
        fields[1].strip_suffix('%').unwrap().parse::<f64>().unwrap() > 0.0,
        "{shown}"
    );
    // PID 1 and the shell.
    assert_eq!(fields[2], "2", "{shown}");
    assert_eq!(fields[3..].join(" "), "0B / 0B", "{shown}");
}

#[test]
fn a_limit_on_memory_is_what_memory_is_compared_with() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let started = boxes.palisade(&[
        "run", "-d", "--name", "box", "--memory", "100m", &image, "sleep", "1000",
    ]);
    if started.status.code() != Some(0) {
        // An ordinary user without a control group, who is told so by the start.
        assert!(!crate::is_to_be_had(), "{}", describe(&started));
        return;
    }
    let shown = shown(&boxes, "{{.MemUsage}}|{{.MemPerc}}|{{.BlockIO}}");
    let (usage, rest) = shown.split_once('|').unwrap();
    let (percent, _) = rest.split_once('|').unwrap();
    assert!(
        usage.ends_with(" / 100MiB") && !usage.starts_with("0B"),
        "{shown}"
    );
    let percent: f64 = percent.strip_suffix('%').unwrap().parse().unwrap();
    assert!((0.0..100.0).contains(&percent), "{shown}");
}

#[test]
fn what_was_in_memory_before_a_pause_is_shown_after_it() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "sleep 1000 & echo ready; wait");
    boxes.until_ready("box");
    boxes.palisade(&["pause", "box"]);
    if cgroup(&boxes, &id).is_none() {
        assert!(!crate::is_to_be_had());
        return;
    }
    let shown = shown(&boxes, "{{.PIDs}}|{{.MemUsage}}");
    // PID 1, the shell and its sleep. The control group was made after they had their memory.
    let (pids, memory) = shown.split_once('|').unwrap();
    assert_eq!(pids, "3", "{shown}");
    let used = memory.split(' ').next().unwrap();
    let least = |unit, least: f64| {
        let number = used.strip_suffix(unit).map(str::parse::<f64>);
        number.is_some_and(|number| number.unwrap() >= least)
    };
    assert!(least("MiB", 0.1) || least("KiB", 100.0), "{shown}");
}

#[test]
fn one_object_has_every_field_and_what_has_ended_uses_nothing() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box"], "exit 0");
    boxes.says(&["wait", "box"]);
    let line = shown(&boxes, "{{json .}}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    let mut expected = [
        "BlockIO",
        "CPUPerc",
        "Container",
        "ID",
        "MemPerc",
        "MemUsage",
        "Name",
        "NetIO",
        "PIDs",
    ];
    expected.sort_unstable();
    let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(value["CPUPerc"], "--");
    assert_eq!(value["PIDs"], "--");
    assert_eq!(
        boxes.says(&["stats", "--no-stream", "--format", "{{.Name}}"]),
        ""
    );
    assert_eq!(
        boxes.says(&["stats", "-a", "--no-stream", "--format", "{{.Name}}"]),
        "box"
    );
}

#[test]
fn the_stream_goes_on_until_nothing_of_what_was_named_runs() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box"], "sleep 1000");
    let mut stream = boxes
        .command(&["stats", "--format", "{{.Name}}", "box"])
        .spawn()
        .unwrap();
    let _guard = Guard::over(&stream);
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap(), "box");
    }
    boxes.says(&["stop", "box"]);
    assert_code(&end(stream), 0);
}

#[test]
fn what_there_is_not_cannot_be_measured_and_a_wrong_template_is_said() {
    let boxes = Sandboxes::new();
    let output = boxes.palisade(&["stats", "--no-stream", "nobody"]);
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("nobody"));
    let output = boxes.palisade(&["stats", "--no-stream", "--format", "{{.Nothing}}"]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("Nothing"),
        "{}",
        describe(&output)
    );
}
