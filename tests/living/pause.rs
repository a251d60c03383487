//! `palisade pause` and `unpause`.

use std::fs;

use crate::cgroup;
use crate::rig::{assert_code, describe, text, until_none_with};
use crate::sandbox::Sandboxes;

/// Ends at SIGTERM, and says so.
const POLITE: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";

/// A sandbox called `box`, paused when its script has said `ready`, and its id; none where it cannot be paused, which is then said.
fn paused(options: &[&str], script: &str) -> Option<(Sandboxes, String)> {
    let boxes = Sandboxes::new();
    let all = [&["--name", "box"], options].concat();
    let id = boxes.detached(&all, script);
    boxes.until_ready("box");
    let output = boxes.palisade(&["pause", "box"]);
    if cgroup(&boxes, &id).is_none() {
        assert!(!crate::is_to_be_had(), "{}", describe(&output));
        assert_code(&output, 1);
        let said = text(&output.stderr);
        assert!(
            said.contains("control group") && said.contains("palisade doctor"),
            "{said}"
        );
        assert_eq!(boxes.states(), ["box running"]);
        return None;
    }
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "box\n");
    Some((boxes, id))
}

/// What the kernel says of it.
fn is_frozen(boxes: &Sandboxes, id: &str) -> bool {
    let directories = cgroup(boxes, id).unwrap();
    directories.iter().any(|directory| {
        let read = |file| fs::read_to_string(directory.join(file)).unwrap_or_default();
        read("cgroup.events").contains("frozen 1") || read("freezer.state") == "FROZEN\n"
    })
}

#[test]
fn a_paused_sandbox_stands_still_says_so_and_goes_on() {
    let Some((boxes, id)) = paused(&[], POLITE) else {
        return;
    };
    assert!(is_frozen(&boxes, &id));
    assert_eq!(boxes.states(), ["box paused"]);
    assert_eq!(
        boxes.says(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.Paused}}",
            "box"
        ]),
        "paused true"
    );
    let listed = boxes.says(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"]);
    assert!(
        listed.starts_with("Up ") && listed.ends_with("(Paused)"),
        "{listed}"
    );
    let output = boxes.palisade(&["exec", "box", "true"]);
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(
        said.contains("it is paused") && said.contains("palisade unpause"),
        "{said}"
    );
    let twice = boxes.palisade(&["pause", "box"]);
    assert_code(&twice, 1);
    assert!(text(&twice.stderr).contains("it is paused"));

    assert_eq!(boxes.says(&["unpause", "box"]), "box");
    assert!(!is_frozen(&boxes, &id));
    assert_eq!(boxes.states(), ["box running"]);
    assert_eq!(boxes.says(&["exec", "box", "echo", "on"]), "on");
    let twice = boxes.palisade(&["unpause", "box"]);
    assert_code(&twice, 1);
    assert!(
        text(&twice.stderr).contains("not paused"),
        "{}",
        describe(&twice)
    );
    let happened = boxes.says(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
    ]);
    let happened: Vec<&str> = happened.lines().collect();
    assert_eq!(happened, ["create", "start", "pause", "unpause"]);
}

/// The process and all below it that have not ended.
fn family(pid: i32) -> Vec<i32> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // Ended, or ending (`PF_EXITING`).
    let flags: Option<u64> = fields.get(6).and_then(|flags| flags.parse().ok());
    let over = fields.first() == Some(&"Z") || flags.is_none_or(|flags| flags & 4 != 0);
    let children = read(&format!("task/{pid}/children"));
    let children = children
        .split_whitespace()
        .map(|child| child.parse().unwrap());
    let below = children.flat_map(family);
    below.chain((!over).then_some(pid)).collect()
}

#[test]
fn nothing_of_a_sandbox_that_makes_processes_all_the_time_runs_on() {
    let busy = "i=0; while [ $i -lt 4 ]; do (while :; do (true; sleep 0.01 & true) & wait; done) & i=$((i+1)); done; echo ready; wait";
    let Some((boxes, id)) = paused(&[], busy) else {
        return;
    };
    let first = boxes.process(&id, "pid").as_raw();
    let all = family(first);
    assert!(all.len() > 5, "{all:?}");
    for directory in cgroup(&boxes, &id).unwrap() {
        let Ok(listed) = fs::read_to_string(directory.join("cgroup.procs")) else {
            continue;
        };
        let listed: Vec<&str> = listed.lines().collect();
        let above_leaf = directory.join("sandbox").exists();
        for pid in &all {
            assert!(
                above_leaf || listed.contains(&pid.to_string().as_str()),
                "{pid} is not in {directory:?}"
            );
        }
    }
    // Nobody has come since, nor gone.
    let (mut before, mut after) = (all, family(first));
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
    boxes.says(&["unpause", "box"]);
    assert_eq!(boxes.says(&["exec", "box", "echo", "on"]), "on");
}

#[test]
fn a_paused_sandbox_can_be_asked_to_end_and_ends_as_it_would_have() {
    let Some((boxes, _)) = paused(&[], POLITE) else {
        return;
    };
    assert_eq!(boxes.says(&["stop", "box"]), "box");
    assert_eq!(boxes.says(&["wait", "box"]), "7");
    assert_eq!(boxes.states(), ["box exited"]);
}

#[test]
fn a_paused_sandbox_can_be_killed_and_other_signals_wait_for_it() {
    let script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let Some((boxes, _)) = paused(&[], script) else {
        return;
    };
    boxes.says(&["kill", "-s", "USR1", "box"]);
    assert_eq!(boxes.states(), ["box paused"]);
    boxes.says(&["unpause", "box"]);
    assert_eq!(boxes.says(&["wait", "box"]), "9");
    boxes.says(&["start", "box"]);
    boxes.says(&["pause", "box"]);
    boxes.says(&["kill", "box"]);
    assert_eq!(boxes.says(&["wait", "box"]), "137");
}

#[test]
fn a_paused_sandbox_is_removed_by_force_with_everything_in_it() {
    let Some((boxes, _)) = paused(&[], POLITE) else {
        return;
    };
    assert_code(&boxes.palisade(&["rm", "box"]), 1);
    assert_eq!(boxes.says(&["rm", "-f", "box"]), "box");
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    until_none_with(&boxes.rig.mark());
}

#[test]
fn a_paused_sandbox_starts_again_running() {
    let Some((boxes, _)) = paused(&[], POLITE) else {
        return;
    };
    assert_eq!(boxes.says(&["restart", "box"]), "box");
    assert_eq!(boxes.states(), ["box running"]);
}

#[test]
fn the_time_limit_ends_a_paused_sandbox() {
    let Some((boxes, _)) = paused(&["--timeout", "5s"], POLITE) else {
        return;
    };
    assert_eq!(boxes.says(&["wait", "box"]), "124");
}

#[test]
fn what_does_not_run_cannot_be_paused() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "over"], "exit 0");
    boxes.says(&["wait", "over"]);
    for verb in ["pause", "unpause"] {
        let output = boxes.palisade(&[verb, "over"]);
        assert_code(&output, 1);
        assert!(text(&output.stderr).contains("is not running"));
    }
    assert_code(&boxes.palisade(&["pause", "nobody"]), 1);
}
