//! What a detached sandbox wrote.

use std::fs;
use std::io::{BufRead, BufReader, Read};

use nix::sys::signal::{Signal, kill};

use crate::rig::{Guard, assert_code, describe, end, text};
use crate::sandbox::Sandboxes;

#[test]
fn the_two_streams_stay_apart_and_have_times() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "two"],
        "echo out; echo err >&2; printf 'no newline'",
    );
    boxes.says(&["wait", "two"]);
    let output = boxes.palisade(&["logs", "two"]);
    assert_eq!(text(&output.stdout), "out\nno newline");
    assert_eq!(text(&output.stderr), "err\n");
    let stamped = text(&boxes.palisade(&["logs", "-t", "two"]).stdout);
    let (time, rest) = stamped.split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z'), "{stamped}");
    assert!(rest.starts_with("out\n"), "{stamped}");
}

#[test]
fn tail_since_and_until_choose_lines() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "many"], "for i in 1 2 3 4 5; do echo $i; done");
    boxes.says(&["wait", "many"]);
    assert_eq!(boxes.says(&["logs", "--tail", "2", "many"]), "4\n5");
    assert_eq!(boxes.says(&["logs", "-n", "0", "many"]), "");
    assert_eq!(
        boxes
            .says(&["logs", "--tail", "all", "many"])
            .lines()
            .count(),
        5
    );
    assert_eq!(
        boxes
            .says(&["logs", "--since", "1h", "many"])
            .lines()
            .count(),
        5
    );
    assert_eq!(boxes.says(&["logs", "--until", "1h", "many"]), "");
    assert_code(&boxes.palisade(&["logs", "--tail", "some", "many"]), 1);
    assert_code(
        &boxes.palisade(&["logs", "--since", "yesterday", "many"]),
        1,
    );
}

#[test]
fn a_flood_arrives_complete_and_in_order() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "flood", "--log-opt", "max-size=1g"],
        "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; dd if=/dev/zero bs=1M count=32 2>/dev/null",
    );
    boxes.says(&["wait", "flood"]);
    let output = boxes.palisade(&["logs", "flood"]);
    assert_code(&output, 0);
    let numbers: Vec<String> = (0..20000).map(|i: u32| i.to_string()).collect();
    let expected = numbers.join("\n") + "\n";
    assert!(output.stdout.starts_with(expected.as_bytes()));
    let rest = &output.stdout[expected.len()..];
    assert!(
        rest.len() == 32 << 20 && rest.iter().all(|byte| *byte == 0),
        "{}",
        rest.len()
    );
}

#[test]
fn a_log_takes_no_more_space_than_its_options_say() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(
        &["--log-opt", "max-size=100k", "--log-opt", "max-file=2"],
        "yes | head -c 5000000; echo the end",
    );
    boxes.says(&["wait", &id]);
    let directory = boxes.rig.path("store/sandboxes").join(&id).join("log");
    let sizes: Vec<u64> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert!(
        sizes.len() <= 2 && sizes.iter().all(|size| *size <= 102_400),
        "{sizes:?}"
    );
    assert_eq!(boxes.says(&["logs", "--tail", "1", &id]), "the end");
}

#[test]
fn without_a_log_there_is_a_word_about_it() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "mute", "--log-driver", "none"], "echo unheard");
    assert_eq!(boxes.says(&["wait", "mute"]), "0");
    let output = boxes.palisade(&["logs", "mute"]);
    assert_code(&output, 1);
    assert!(
        text(&output.stderr).contains("keeps no log"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_log_that_nobody_waits_for_is_complete_where_there_is_room_and_says_what_it_lost() {
    let boxes = Sandboxes::new();
    let options = [
        "--name",
        "app",
        "--log-opt",
        "mode=non-blocking",
        "--log-opt",
        "max-buffer-size=64m",
    ];
    boxes.detached(
        &options,
        "for n in 0 1 2 3 4 5 6 7 8 9; do echo line $n; echo err $n >&2; done",
    );
    boxes.says(&["wait", "app"]);
    let logs = boxes.says(&["logs", "app"]);
    assert_eq!(logs.lines().count(), 10, "{logs}");
    let shown = "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}} {{.Palisade.LogLost}}";
    assert_eq!(
        boxes.says(&["inspect", "-f", shown, "app"]),
        r#"local {"max-buffer-size":"67108864","max-file":"3","max-size":"10485760","mode":"non-blocking"} 0"#
    );
    // Again, with a monitor that has written before.
    boxes.says(&["start", "app"]);
    boxes.says(&["wait", "app"]);
    assert_eq!(boxes.says(&["logs", "app"]).lines().count(), 20);
}

#[test]
fn a_monitor_killed_in_a_flood_leaves_what_was_written_without_a_gap() {
    let boxes = Sandboxes::new();
    let count = "i=0; while :; do echo $i; i=$((i+1)); done";
    let id = boxes.detached(&["--name", "flood", "--log-opt", "max-size=1g"], count);
    let lines = || text(&boxes.palisade(&["logs", "flood"]).stdout);
    // It has written so much, and goes on.
    let follow = || boxes.command(&["logs", "-f", "flood"]).spawn().unwrap();
    let mut follower = follow();
    let guard = Guard::over(&follower);
    let mut begun = vec![0; 200_000];
    let stdout = follower.stdout.as_mut().unwrap();
    stdout.read_exact(&mut begun).unwrap();
    drop(guard);
    let before = lines();
    kill(boxes.process(&id, "monitor"), Signal::SIGKILL).unwrap();
    // Its lock is free and PID 1 on its way to its end: nothing writes any more.
    assert_eq!(boxes.says(&["wait", "flood"]), "137");
    assert_eq!(boxes.states(), ["flood dead"]);
    end(follower);
    let after = lines();
    // What was in the log stays, and what came before the kill is there up to some byte.
    let shown = before.rfind('\n').unwrap();
    assert!(after.starts_with(&before[..=shown]));
    let (whole, _) = after.rsplit_once('\n').unwrap();
    for (expected, line) in whole.lines().enumerate() {
        assert_eq!(line, expected.to_string());
    }
    // The next run goes on behind it.
    boxes.says(&["start", "flood"]);
    let mut follower = follow();
    let guard = Guard::over(&follower);
    let mut seen = String::new();
    let mut stdout = BufReader::new(follower.stdout.take().unwrap());
    while seen.len() < whole.len() || !seen[whole.len()..].contains("0\n1\n2\n") {
        assert_ne!(stdout.read_line(&mut seen).unwrap(), 0, "it never came");
    }
    drop(guard);
    let _ = follower.kill();
    follower.wait().unwrap();
    boxes.says(&["rm", "-f", "flood"]);
}
