//! `palisade update`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Output;

use crate::rig::{Guard, assert_code, describe, end, text};
use crate::sandbox::Sandboxes;
use crate::{cgroup, kill_monitor};

/// What the first of these files of a sandbox's control group holds.
#[track_caller]
fn held(boxes: &Sandboxes, id: &str, files: &[&str]) -> String {
    let directories = cgroup(boxes, id).expect("a control group");
    let found = directories
        .iter()
        .flat_map(|directory| files.iter().map(|file| directory.join(file)));
    let texts: Vec<String> = found
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    texts.first().expect("one of the files").trim().to_owned()
}

fn memory(boxes: &Sandboxes, id: &str) -> String {
    held(boxes, id, &["memory.limit_in_bytes", "memory.max"])
}

fn pids(boxes: &Sandboxes, id: &str) -> String {
    held(boxes, id, &["pids.max"])
}

/// The limits as `inspect` shows them.
#[track_caller]
fn shown(boxes: &Sandboxes) -> String {
    boxes.says(&[
        "inspect", "-f",
        "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}",
        "box",
    ])
}

/// Whether limits can be had here: see [`crate::is_to_be_had`]. Where not, the verb says so, and nothing is other than it was.
#[track_caller]
fn can_limit(boxes: &Sandboxes, output: &Output) -> bool {
    if output.status.success() {
        return true;
    }
    assert!(!crate::is_to_be_had(), "{}", describe(output));
    assert_code(output, 1);
    let said = text(&output.stderr);
    assert!(
        said.contains("its limits are what they were") && said.contains("cgroup"),
        "{said}"
    );
    assert_eq!(shown(boxes), "0 0 0 0");
    false
}

#[test]
fn a_running_sandbox_gets_limits_and_keeps_them_when_it_starts_again() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "while :; do sleep 1000; done");
    let first = boxes.palisade(&["update", "--memory", "200m", "--pids-limit", "60", "box"]);
    if !can_limit(&boxes, &first) {
        return;
    }
    assert_eq!(text(&first.stdout), "box\n");
    // What is mounted inside cannot follow, and that is said.
    assert!(
        text(&first.stderr).contains("/proc/meminfo"),
        "{}",
        describe(&first)
    );
    assert_eq!(
        (memory(&boxes, &id), pids(&boxes, &id)),
        ("209715200".into(), "60".into())
    );
    assert_eq!(shown(&boxes), "209715200 419430400 0 60");
    // A share below a hundredth is kept in the period it was asked for in.
    let line = ["--cpu-quota", "1000", "--cpu-period", "1000000"];
    boxes.says(&[&["update"], &line[..], &["box"]].concat());
    let quota = held(&boxes, &id, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        ["1000", "1000 1000000"].contains(&quota.as_str()),
        "{quota}"
    );
    assert_eq!(shown(&boxes), "209715200 419430400 1000000 60");
    // A controller that was not needed before; the rest stays.
    boxes.says(&["update", "--cpus", "1.5", "--cpu-shares", "512", "box"]);
    let quota = held(&boxes, &id, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        ["150000", "150000 100000"].contains(&quota.as_str()),
        "{quota}"
    );
    assert_eq!(shown(&boxes), "209715200 419430400 1500000000 60");
    // PID 1, its shell and the shell's sleep are held by it, and what joins is as well.
    assert_eq!(boxes.says(&["exec", "box", "echo", "on"]), "on");
    // Up and down again, in whichever order the kernel wants it.
    boxes.says(&["update", "--memory", "900m", "box"]);
    boxes.says(&["update", "--memory", "100m", "box"]);
    assert_eq!(memory(&boxes, &id), "104857600");
    boxes.says(&["update", "--pids-limit", "-1", "box"]);
    assert_eq!(pids(&boxes, &id), "max");

    boxes.says(&["restart", "-t", "0", "box"]);
    assert_eq!(memory(&boxes, &id), "104857600");
    assert_eq!(shown(&boxes), "104857600 209715200 1500000000 -1");
    let read = boxes.says(&["exec", "box", "head", "-n", "1", "/proc/meminfo"]);
    assert!(read.contains(" 102400 kB"), "{read}");
    let happened = boxes.says(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=update",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(happened.lines().count(), 6);
}

#[test]
fn limits_that_cannot_all_be_had_leave_all_as_they_were() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "while :; do sleep 1000; done");
    let first = boxes.palisade(&["update", "--memory", "100m", "--cpuset-cpus", "0", "box"]);
    if !can_limit(&boxes, &first) {
        return;
    }
    let before = (shown(&boxes), memory(&boxes, &id));
    for wrong in [
        &["--memory", "150m", "--cpuset-cpus", "4000"][..],
        // Less than PID 1 and its shell take.
        &["--memory", "6m", "--memory-swap", "1m"],
    ] {
        let all = [&["update"], wrong, &["box"]].concat();
        let output = boxes.palisade(&all);
        assert!(!output.status.success(), "{wrong:?}: {}", describe(&output));
        assert_eq!((shown(&boxes), memory(&boxes, &id)), before, "{wrong:?}");
    }
    // The next start is as the last good change said.
    boxes.says(&["restart", "-t", "0", "box"]);
    assert_eq!(memory(&boxes, &id), before.1);
}

#[test]
fn a_change_that_fails_leaves_no_control_group_that_nobody_knows_of() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "box"], "exec sleep 1000");
    let output = boxes.palisade(&["update", "--cpuset-cpus", "4000", "box"]);
    assert_code(&output, 1);
    let Some(directories) = cgroup(&boxes, &id) else {
        assert!(!crate::is_to_be_had(), "{}", describe(&output));
        return;
    };
    // It was made for the change, and the sandbox stays in it.
    let first = boxes.process(&id, "pid").to_string();
    let holds = |directory: &PathBuf| {
        let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
        listed.lines().any(|line| line == first)
    };
    assert!(directories.iter().any(holds), "{directories:?}");
    kill_monitor(&boxes, &id);
    boxes.says(&["rm", "box"]);
    let left: Vec<&PathBuf> = directories.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_limited_sandbox_starts_again_at_once_when_its_monitor_was_killed() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let create = [
        "create",
        "--name",
        "box",
        "--pids-limit",
        "70",
        &image,
        "sleep",
        "1000",
    ];
    let id = boxes.says(&create);
    let started = boxes.palisade(&["start", "box"]);
    if !started.status.success() {
        assert!(!crate::is_to_be_had(), "{}", describe(&started));
        return;
    }
    kill_monitor(&boxes, &id);
    boxes.says(&["start", "box"]);
    assert_eq!(pids(&boxes, &id), "70");
}

#[test]
fn a_sandbox_that_does_not_run_gets_its_limits_at_the_next_start() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.says(&["create", "--name", "box", &image, "sleep", "1000"]);
    let output = boxes.palisade(&["update", "--pids-limit", "70", "box"]);
    assert_code(&output, 0);
    assert!(output.stderr.is_empty(), "{}", describe(&output));
    assert_eq!(shown(&boxes), "0 0 0 70");
    let started = boxes.palisade(&["start", "box"]);
    if started.status.success() {
        let id = boxes.says(&["inspect", "-f", "{{.Id}}", "box"]);
        assert_eq!(pids(&boxes, &id), "70");
    } else {
        assert!(!crate::is_to_be_had(), "{}", describe(&started));
    }
}

#[test]
fn a_limit_of_the_policy_can_be_tightened_and_not_loosened() {
    let boxes = Sandboxes::new();
    let policy = boxes.rig.path("tight.toml");
    let rules =
        "name = \"tight\"\nextends = \"default\"\nflags = \"tighten-only\"\n[limits]\npids = 40\n";
    fs::write(&policy, rules).unwrap();
    let policy = policy.to_str().unwrap();
    let image = boxes.image();
    boxes.says(&[
        "create", "--name", "box", "--policy", policy, &image, "sleep", "1000",
    ]);
    for looser in ["41", "-1"] {
        let output = boxes.palisade(&["update", "--pids-limit", looser, "box"]);
        assert_code(&output, 1);
        assert!(
            text(&output.stderr).contains("tight"),
            "{}",
            describe(&output)
        );
        assert_eq!(shown(&boxes), "0 0 0 40");
    }
    boxes.says(&["update", "--pids-limit", "39", "box"]);
    assert_eq!(shown(&boxes), "0 0 0 39");
}

#[test]
fn another_restart_policy_holds_at_the_next_end() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box"], "exec sleep 1000");
    boxes.says(&["update", "--restart", "on-failure:1", "box"]);
    let policy =
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(
        boxes.says(&["inspect", "-f", policy, "box"]),
        "on-failure 1"
    );
    let mut events = boxes
        .command(&[
            "events",
            "--since",
            "1h",
            "--filter",
            "event=start",
            "--format",
            "{{.Action}}",
        ])
        .spawn()
        .unwrap();
    let _guard = Guard::over(&events);
    // Neither SIGKILL nor the stop signal, which would be meant to end it for good.
    boxes.says(&["kill", "-s", "USR1", "box"]);
    let mut starts = BufReader::new(events.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(starts.next().unwrap().unwrap(), "start");
    }
    events.kill().unwrap();
    let _ = end(events);
    assert_eq!(
        boxes.says(&["inspect", "-f", "{{.RestartCount}}", "box"]),
        "1"
    );
}

#[test]
fn what_cannot_be_changed_is_said() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "box", "--rm"], "exec sleep 1000");
    let refused = [
        (&["update", "box"][..], "something to change"),
        (&["update", "--restart", "always", "box"], "--rm"),
        (&["update", "--restart", "daily", "box"], "daily"),
        (&["update", "--memory", "much", "box"], "much"),
        (&["update", "--memory", "64m", "nobody"], "nobody"),
    ];
    for (words, said) in refused {
        let output = boxes.palisade(words);
        assert!(!output.status.success(), "{words:?}");
        assert!(
            text(&output.stderr).contains(said),
            "{words:?}: {}",
            describe(&output)
        );
    }
}
