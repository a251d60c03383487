//! What a command does to the process that keeps its time limit.

use crate::rig::{assert_code, code, describe, processes_with, until_none_with};
use crate::sandbox::Sandboxes;

fn boxed(options: &[&str]) -> Sandboxes {
    let boxes = Sandboxes::new();
    let all = [&["--name", "box"], options].concat();
    boxes.detached(&all, "while :; do sleep 1000; done");
    boxes
}

/// The sandbox ends when a command does this to its parent, and everything that the command has started with it.
#[track_caller]
fn ends_the_sandbox(attack: &str) {
    let boxes = boxed(&[]);
    // The monitor's words have the rig's own mark, and it may be on its way to its end yet.
    let mark = format!("{}-joined", boxes.rig.mark());
    let script = format!(
        "(setsid sh -c ': {mark}; while :; do sleep 1000; done' &); {attack}; : {mark}; while :; do sleep 1000; done"
    );
    let output = boxes.palisade(&["exec", "--timeout", "1000s", "box", "sh", "-c", &script]);
    // 125 where the attack was faster than the keeper's word that the command runs.
    assert!([125, 137].contains(&code(&output)), "{}", describe(&output));
    assert_eq!(boxes.says(&["wait", "box"]), "137");
    assert_eq!(boxes.states(), ["box exited"]);
    let left = processes_with(&mark);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_that_kills_its_keeper_does_not_outlive_it() {
    ends_the_sandbox("kill -9 $PPID");
}

#[test]
fn a_command_that_stops_its_keeper_does_not_escape_its_time_limit() {
    ends_the_sandbox("kill -STOP $PPID");
}

#[test]
fn signals_that_do_not_kill_reach_the_command_by_its_keeper() {
    let boxes = boxed(&[]);
    let script = "trap 'exit 9' USR1; kill -USR1 $PPID; while :; do sleep 0.01; done";
    assert_code(&boxes.palisade(&["exec", "box", "sh", "-c", script]), 9);
    // A command that dies of a signal itself, or that leaves something behind, is no loss of its keeper.
    assert_code(
        &boxes.palisade(&["exec", "box", "sh", "-c", "sleep 1000 & kill -9 $$"]),
        137,
    );
    assert_code(
        &boxes.palisade(&["exec", "-d", "box", "sh", "-c", "kill -9 $$"]),
        0,
    );
    assert_eq!(boxes.says(&["exec", "box", "echo", "on"]), "on");
    assert_eq!(boxes.states(), ["box running"]);
}

#[test]
fn a_fork_bomb_is_ended_at_its_time_limit() {
    let boxes = boxed(&["--ulimit", "nproc=64"]);
    let mark = format!("{}-bomb", boxes.rig.mark());
    // The first shell makes one process only, or it would end with the first fork that is refused.
    let script = format!(
        "b() {{ : {mark}; while :; do (b) & done; }}; (b) 2>/dev/null & while :; do :; done"
    );
    let output = boxes.palisade(&[
        "exec",
        "--timeout",
        "500ms",
        "--stop-timeout",
        "0",
        "box",
        "sh",
        "-c",
        &script,
    ]);
    // What forks faster than it is killed costs the sandbox.
    assert!([124, 137].contains(&code(&output)), "{}", describe(&output));
    until_none_with(&mark);
}
