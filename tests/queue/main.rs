//! `run --queue`: a bounded number of runs, in the order they came.

#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};

use rig::{Guard, Rig, assert_code, binary, code, describe, end, entries, pid, started, text};

/// A pool `work` of so many slots and places.
fn pool(slots: u32, queue: u32) -> Rig {
    let rig = Rig::new();
    let directory = rig.path("config/palisade/pools");
    fs::create_dir_all(&directory).unwrap();
    let numbers = format!(
        "hard-cap = {slots}\nqueue = {queue}\ncpu-factor = 100\nmemory-reserve = 0\nmemory-per-run = 1\nfallback = {slots}\n\
         fds-reserve = 0\nfds-per-run = 1\npids-reserve = 0\n"
    );
    fs::write(directory.join("work.toml"), numbers).unwrap();
    rig
}

fn queued(rig: &Rig, options: &[&str], script: &str) -> Command {
    let mut all = vec!["--queue", "work"];
    all.extend_from_slice(options);
    let mut command = rig.script(&all, script);
    command.env("XDG_CONFIG_HOME", rig.path("config"));
    command
}

/// Starts a run that has a slot until its standard input ends.
fn holder(rig: &Rig) -> Child {
    started(queued(rig, &["-i"], "echo ready; cat").stdin(Stdio::piped()))
}

/// Starts a run that has to wait, and returns when it does.
fn waiter(rig: &Rig, script: &str) -> Child {
    let mut child = queued(rig, &[], script).spawn().unwrap();
    let _guard = Guard::over(&child);
    let mut said = String::new();
    // One byte at a time: what follows stays for whoever reads the rest.
    let mut stderr = BufReader::with_capacity(1, child.stderr.as_mut().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("waiting for one of the"), "{said}");
    child
}

#[test]
fn runs_wait_their_turn_and_a_killed_holder_frees_its_slot() {
    let rig = pool(1, 2);
    let mut holder = holder(&rig);
    let order = "echo $NAME";
    let first = waiter(&rig, &order.replace("$NAME", "first"));
    let second = waiter(&rig, &order.replace("$NAME", "second"));
    let output = end(queued(&rig, &[], "true").spawn().unwrap());
    assert_eq!(code(&output), 125, "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("the pool work is full: 1 run and 2 wait"),
        "{}",
        describe(&output)
    );
    // Nobody gets to clean up.
    kill(pid(&holder), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    for (waiter, said) in [(first, "first\n"), (second, "second\n")] {
        let output = end(waiter);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout), said);
    }
    assert_eq!(
        entries(&rig.path("store/pools/work/queue")),
        Vec::<String>::new()
    );
}

#[test]
fn who_is_killed_while_waiting_holds_nobody_up() {
    let rig = pool(1, 5);
    let mut holder = holder(&rig);
    let mut lost = waiter(&rig, "echo lost");
    let next = waiter(&rig, "echo next");
    kill(pid(&lost), Signal::SIGKILL).unwrap();
    lost.wait().unwrap();
    drop(holder.stdin.take());
    assert_code(&end(holder), 0);
    let output = end(next);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "next\n");
}

#[test]
fn many_at_once_never_exceed_the_slots_and_all_get_through() {
    let rig = pool(3, 40);
    let workspace = format!("{}:/workspace", rig.path("workspace").display());
    let script = "touch /workspace/$NAME && ls /workspace | wc -l && rm /workspace/$NAME";
    let runs: Vec<Child> = (0..30)
        .map(|number| {
            let script = script.replace("$NAME", &format!("run-{number}"));
            queued(&rig, &["-q", "-v", &workspace], &script)
                .spawn()
                .unwrap()
        })
        .collect();
    for run in runs {
        let output = end(run);
        assert_code(&output, 0);
        let at_once: usize = text(&output.stdout).trim().parse().unwrap();
        assert!((1..=3).contains(&at_once), "{at_once}");
    }
}

#[test]
fn a_detached_sandbox_has_its_slot_until_it_ends() {
    let rig = pool(1, 5);
    let made = end(queued(
        &rig,
        &["-d", "--rm=false", "--name", "long"],
        "while true; do sleep 600; done",
    )
    .spawn()
    .unwrap());
    assert_code(&made, 0);
    let next = waiter(&rig, "echo next");
    let removed = Command::new(binary())
        .args(["rm", "-f", "long", "--root"])
        .arg(rig.path("store"))
        .output()
        .unwrap();
    assert_code(&removed, 0);
    assert_code(&end(next), 0);
}

#[test]
fn a_pool_that_is_not_understood_is_refused() {
    let rig = pool(1, 5);
    for name in ["../x", "", "-"] {
        let output = end(rig
            .script(&[&format!("--queue={name}")], "true")
            .spawn()
            .unwrap());
        assert_eq!(code(&output), 125, "{}", describe(&output));
    }
    fs::write(rig.path("config/palisade/pools/work.toml"), "hard_cap = 1").unwrap();
    let output = end(queued(&rig, &[], "true").spawn().unwrap());
    assert_eq!(code(&output), 125, "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("there is no key `hard_cap`"),
        "{}",
        describe(&output)
    );
}
