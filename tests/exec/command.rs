//! `palisade exec`.

use nix::sys::signal::{Signal, kill};

use crate::rig::{assert_code, describe, end, feed, pid, processes_with, started, text};
use crate::sandbox::Sandboxes;

/// A sandbox called `box` that waits.
fn boxed(options: &[&str]) -> Sandboxes {
    let boxes = Sandboxes::new();
    let all = [&["--name", "box"], options].concat();
    boxes.detached(&all, "while :; do sleep 1000; done");
    boxes
}

#[test]
fn a_command_has_its_own_exit_code_streams_and_arguments() {
    let boxes = boxed(&[]);
    for code in [0, 1, 42, 124, 125, 126, 127, 255] {
        let output = boxes.palisade(&["exec", "box", "sh", "-c", &format!("exit {code}")]);
        assert_code(&output, code);
    }
    assert_code(
        &boxes.palisade(&["exec", "box", "sh", "-c", "kill -9 $$"]),
        137,
    );
    assert_code(&boxes.palisade(&["exec", "box", "no-such-command"]), 127);
    assert_code(&boxes.palisade(&["exec", "box", "not-executable"]), 126);
    assert_code(&boxes.palisade(&["exec", "nobody", "true"]), 125);
    let output = boxes.palisade(&["exec", "box", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\n".into(), "err\n".into())
    );
    // What follows the sandbox belongs to the command, byte for byte.
    let words = [
        "exec", "box", "printf", "<%s>", "-i", "", "a b", "'\"$x", "--", "-u",
    ];
    assert_eq!(boxes.says(&words), "<-i><><a b><'\"$x><--><-u>");
}

#[test]
fn standard_input_reaches_the_command_only_where_it_is_asked_for() {
    let boxes = boxed(&[]);
    let output = feed(
        boxes.command(&["exec", "-i", "box", "cat"]),
        b"to the end".to_vec(),
    );
    assert_eq!(text(&output.stdout), "to the end");
    let output = feed(boxes.command(&["exec", "box", "cat"]), b"a secret".to_vec());
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), String::new())
    );
}

#[test]
fn environment_directory_and_user_are_the_sandboxs_but_for_what_is_said() {
    let boxes = boxed(&["-e", "A=first", "-e", "B=2", "-w", "/tmp"]);
    let script = "echo $A $B; pwd; id -u";
    assert_eq!(
        boxes.says(&["exec", "box", "sh", "-c", script]),
        "first 2\n/tmp\n1000"
    );
    let said = boxes.says(&[
        "exec",
        "-e",
        "A=other",
        "-w",
        "/workspace",
        "box",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(said, "other 2\n/workspace\n1000");
    let output = boxes.palisade(&["exec", "-u", "4711", "box", "id", "-u"]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(text(&output.stdout), "4711\n", "{}", describe(&output));
    } else {
        assert_code(&output, 125);
        assert!(text(&output.stderr).contains("does not exist in this sandbox"));
    }
    assert_code(
        &boxes.palisade(&["exec", "--privileged", "box", "true"]),
        125,
    );
}

#[test]
fn the_time_limit_ends_the_whole_tree_of_the_command_and_nothing_else() {
    let boxes = boxed(&[]);
    let mark = boxes.rig.mark();
    boxes.says(&[
        "exec",
        "-d",
        "box",
        "sh",
        "-c",
        &format!(": {mark} bystander; while :; do sleep 1000; done"),
    ]);
    let script = format!(
        "trap '' TERM; (setsid sh -c ': {mark} daemon; while :; do sleep 1000; done' &); : {mark}; while :; do sleep 1000; done"
    );
    let words = [
        "exec",
        "--timeout",
        "500ms",
        "--stop-timeout",
        "0",
        "box",
        "sh",
        "-c",
        &script,
    ];
    let output = boxes.palisade(&words);
    assert_code(&output, 124);
    let left: Vec<_> = processes_with(&mark)
        .into_iter()
        .filter(|line| line.starts_with("sh "))
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains("bystander"));
}

#[test]
fn what_stays_in_the_background_holds_up_neither_the_command_nor_its_reader() {
    let boxes = boxed(&[]);
    // The reader waits for the end of the pipe, which the background holds open inside.
    let output = boxes.palisade(&["exec", "box", "sh", "-c", "sleep 1000 & echo started"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "started\n".into())
    );
    let output = boxes.palisade(&["exec", "box", "sh", "-c", "yes & exit 3"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_killed_exec_leaves_no_process_behind_and_signals_reach_the_command() {
    let boxes = boxed(&[]);
    boxes.says(&["exec", "box", "busybox", "mkfifo", "/tmp/pipe"]);
    // The reader sees the pipe's end when the last process of the tree, which holds it open, is gone.
    let reader = boxes
        .command(&["exec", "box", "cat", "/tmp/pipe"])
        .spawn()
        .unwrap();
    let script = "exec 3>/tmp/pipe; (setsid sh -c 'while :; do sleep 1000; done' &); echo ready; while :; do sleep 1000; done";
    let mut child = started(&mut boxes.command(&["exec", "box", "sh", "-c", script]));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert_code(&end(reader), 0);

    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let child = started(&mut boxes.command(&["exec", "box", "sh", "-c", script]));
    kill(pid(&child), Signal::SIGTERM).unwrap();
    assert_code(&end(child), 9);
}

#[test]
fn a_command_is_confined_as_the_sandbox_is() {
    let boxes = boxed(&["--policy", "strict"]);
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status; touch /x 2>&1; ls /proc/1/fd 2>&1; ls -l /proc/self/ns | wc -l";
    let joined = boxes.says(&["exec", "box", "sh", "-c", look]);
    let image = boxes.image();
    let run = boxes.says(&[
        "run", "--rm", "--policy", "strict", &image, "sh", "-c", look,
    ]);
    assert_eq!(joined, run);
    assert!(joined.contains("NoNewPrivs:\t1"), "{joined}");
}

#[test]
fn a_sandbox_that_ends_takes_its_commands_along_and_is_not_joined_any_more() {
    let boxes = boxed(&[]);
    let script = "echo ready; while :; do sleep 1000; done";
    let child = started(&mut boxes.command(&["exec", "box", "sh", "-c", script]));
    boxes.says(&["kill", "box"]);
    assert_code(&end(child), 137);
    boxes.says(&["wait", "box"]);
    let output = boxes.palisade(&["exec", "box", "true"]);
    assert_code(&output, 125);
    // Its monitor may be there a moment longer, and then says so itself.
    let said = text(&output.stderr);
    assert!(
        said.contains("is not running") || said.contains(" ended\n"),
        "{}",
        describe(&output)
    );
}

#[test]
fn top_shows_the_sandboxs_processes_and_nobody_elses() {
    let boxes = boxed(&[]);
    let mut child =
        started(&mut boxes.command(&["exec", "box", "sh", "-c", "echo ready; exec sleep 1234"]));
    let shown = boxes.says(&["top", "box"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("UID "), "{shown}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with("sleep 1234"))
            .count(),
        1,
        "{shown}"
    );
    // PID 1, its command with a sleep, the keeper, the command.
    assert!((5..=6).contains(&lines.len()), "{shown}");
    for options in [
        &["-o", "pid,args"][..],
        &["-o", "lstart,pid,args"],
        &["aux"],
        &["-ef"],
    ] {
        let asked = boxes.says(&[&["top", "box"], options].concat());
        let mut listed = asked.lines();
        let heading = listed.next().unwrap();
        assert!(heading.contains("PID"), "{options:?}: {asked}");
        let ours = listed.clone().filter(|line| line.ends_with("sleep 1234"));
        assert_eq!(ours.count(), 1, "{options:?}: {asked}");
        // Whether the shell of the sandbox sleeps already or not.
        assert!((4..=5).contains(&listed.count()), "{options:?}: {asked}");
    }
    let asked = boxes.says(&["top", "box", "-eo", "comm"]);
    let ours = asked.lines().filter(|line| *line == "sleep").count();
    assert!((1..=2).contains(&ours), "{asked}");
    // ps has to be asked for more here, and what is the sandbox's cannot be told then.
    for (options, word) in [
        (&["-C", "sleep", "-o", "comm"][..], "PID"),
        (&["--none-such"], "ps"),
    ] {
        let output = boxes.palisade(&[&["top", "box"], options].concat());
        assert_code(&output, 1);
        assert!(text(&output.stderr).contains(word), "{}", describe(&output));
    }
    kill(pid(&child), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}
