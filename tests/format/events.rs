//! `events`.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::rig::{Guard, code};
use crate::sandboxes::Sandboxes;

#[test]
fn what_happened_is_told_afterwards() {
    let all = Sandboxes::new();
    all.start(&["--name", "agent", "--label", "team=a"], "exit 3");
    all.prints(&["wait", "agent"]);
    all.start(&["--name", "other"], "exit 0");
    all.prints(&["wait", "other"]);
    all.prints(&["rm", "agent", "other"]);
    let told = |more: &[&str]| {
        let mut args = vec![
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ];
        args.extend_from_slice(more);
        all.prints(&args)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(&["--filter", "container=agent"]),
        ["create agent", "start agent", "die agent", "destroy agent"]
    );
    assert_eq!(
        told(&["--filter", "event=die", "--filter", "label=team"]),
        ["die agent"]
    );
    assert_eq!(
        told(&["--filter", "event=start", "--filter", "event=create"]).len(),
        4
    );
    assert_eq!(told(&["--filter", "type=volume"]), Vec::<String>::new());
    let line = all.prints(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "json",
        "--filter",
        "event=die",
    ]);
    let event: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(event["Type"], "container");
    assert_eq!(event["Actor"]["Attributes"]["exitCode"], "3");
    assert!(event["timeNano"].as_u64().unwrap() / 1_000_000_000 == event["time"].as_u64().unwrap());
    assert_eq!(code(&all.palisade(&["events", "--since", "yesterday"])), 1);
    assert_eq!(
        code(&all.palisade(&["events", "--filter", "colour=red"])),
        1
    );
}

#[test]
fn what_happens_is_told_while_it_happens() {
    let all = Sandboxes::new();
    let mut reader = all
        .command(&["events", "--since", "1h", "--format", "{{.Action}}"])
        .spawn()
        .unwrap();
    let guard = Guard::over(&reader);
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    all.start(&["--name", "agent"], "while true; do sleep 600; done");
    assert_eq!((next(), next()), ("create".into(), "start".into()));
    all.prints(&["rm", "-f", "agent"]);
    let mut actions = vec![next()];
    while actions.last().unwrap() != "destroy" {
        actions.push(next());
    }
    assert!(actions.contains(&"die".to_owned()), "{actions:?}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    drop(guard);
}
