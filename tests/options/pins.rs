//! `/etc/palisade/policy.d`: what an administrator pins holds against every option.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::place::is_root;
use crate::rig::{Rig, assert_code, below, describe, end, text};

/// `command` on a machine whose administrator has put `pins` into /etc.
fn pinned(rig: &Rig, pins: &str, command: &Command) -> Output {
    let directory = rig.path("pins/palisade/policy.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("10-site.toml"), pins).unwrap();
    // Read-only and of two layers: the machine's own /etc stays beneath.
    let script = format!(
        "mount -t overlay overlay -o lowerdir={}:/etc /etc && exec \"$@\"",
        rig.path("pins").display()
    );
    let apart = if is_root() { "--mount" } else { "-rm" };
    let outer = ["unshare", apart, "sh", "-c", &script, "sh"];
    end(below(&outer, command).spawn().unwrap())
}

fn run(rig: &Rig, pins: &str, options: &[&str], script: &str) -> Output {
    pinned(rig, pins, &rig.script(options, script))
}

#[test]
fn no_option_gives_a_command_more_than_the_pins() {
    let rig = Rig::new();
    let pins = "timeout = \"1h\"\noutput-cap = \"1KiB\"\n[limits]\nshm = \"1MiB\"\n[limits.rlimits]\nnofile = 64\n";
    let output = run(&rig, pins, &["--ulimit", "nofile=99:99"], "ulimit -n");
    assert_eq!(text(&output.stdout), "64\n", "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("10-site.toml pins it"),
        "{}",
        describe(&output)
    );
    for option in [
        &["--shm-size", "1g"][..],
        &["--tmpfs", "/dev/shm:size=1g"],
        &["--mount", "type=tmpfs,dst=/dev/shm,tmpfs-size=1g"],
        &["--tmpfs", "/dev/shm"],
    ] {
        let script = "while read -r what place kind options rest; do \
                      [ $place = /dev/shm ] && echo $options; done </proc/mounts; :";
        let output = run(&rig, pins, option, script);
        let options = text(&output.stdout);
        assert!(
            !options.is_empty() && options.lines().all(|line| line.contains("size=1024k")),
            "{option:?}: {}",
            describe(&output)
        );
    }
    let output = run(&rig, pins, &["--output-limit", "1m"], "yes");
    assert_code(&output, 137);
    assert_eq!(output.stdout.len(), 1024, "{}", describe(&output));
}

#[test]
fn a_pinned_time_limit_ends_a_command_whatever_time_it_is_given_to_end() {
    let rig = Rig::new();
    let output = run(
        &rig,
        "timeout = \"500ms\"\nstop-timeout = \"0s\"\n",
        &["--timeout", "1h", "--stop-timeout", "86400"],
        "trap '' TERM; while :; do sleep 0.05; done",
    );
    assert_code(&output, 124);
}

#[test]
fn what_would_be_run_is_within_the_pins_whichever_option_asks_for_more() {
    let rig = Rig::new();
    let pins = "timeout = \"60s\"\nminimum-tier = \"no-cgroup\"\n[limits]\nmemory = \"64MiB\"\nswap = 0\ncpus = 1\npids = 32\ncpuset = \"0\"\n";
    for options in [
        &[][..],
        &["--policy", "compat"],
        &["--policy", "task", "--cpus", "2", "--pids-limit", "-1"],
        &["--memory", "1g", "--memory-swap", "-1"],
        &["--memory", "1g", "--memory-swap", "2g"],
        &["--cpu-quota", "900000", "--cpu-period", "100000"],
        &["--pids-limit", "4194304", "--cpuset-cpus", ""],
        &["--timeout", "10h", "--stop-timeout", "10000"],
        &["--require", "no-namespace"],
    ] {
        let mut all = vec!["--dry-run"];
        all.extend(options);
        let output = run(&rig, pins, &all, "true");
        assert_code(&output, 0);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let resources = &plan["spec"]["linux"]["resources"];
        for (pointer, most) in [
            ("/memory/limit", 64 << 20),
            ("/memory/swap", 64 << 20),
            ("/cpu/quota", 100_000),
            ("/pids/limit", 32),
        ] {
            let held = resources.pointer(pointer).and_then(Value::as_i64);
            assert!(
                held.is_some_and(|held| (1..=most).contains(&held)),
                "{options:?} {pointer}: {resources}"
            );
        }
        assert_eq!(resources["cpu"]["cpus"], "0", "{options:?}");
        assert_ne!(plan["tier"], "no-namespace", "{options:?}");
        let seconds = |key: &str| {
            plan[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key}: {plan}"))
        };
        assert!(seconds("timeoutSeconds") <= 60.0, "{options:?}");
        assert!(seconds("stopTimeoutSeconds") <= 10.0, "{options:?}");
    }
}

#[test]
fn a_pin_that_is_wrong_lets_nothing_run() {
    let rig = Rig::new();
    for pins in [
        "[limits]\nmemry = 1\n",
        "timeout = \n",
        "[network]\nmode = \"none\"\n",
    ] {
        let output = run(&rig, pins, &[], "true");
        assert_code(&output, 125);
        assert!(
            text(&output.stderr).contains("10-site.toml:"),
            "{}",
            describe(&output)
        );
    }
}
