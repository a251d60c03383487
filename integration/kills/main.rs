//! Kills palisade's processes at one system call after the other of each verb, and asserts that nothing is left and no exit
//! is lost once the next command has run.
//!
//! strace(1) delivers the SIGKILL: the n-th call of one kind, in the command line, the monitor it forks or PID 1, is never
//! made.
//! Which verb and which call come from a seed. `PALISADE_KILLS` says how many (60 where it is not set), `PALISADE_SEED`
//! which ones.

#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/process/rig.rs"]
mod rig;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/detached/sandbox.rs"]
mod sandbox;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use rig::{Guard, binary, processes_with, text};
use sandbox::Sandboxes;

/// What is done to the sandbox `web`, and whether it must exist and run before.
#[derive(Clone, Copy, Debug)]
struct Verb {
    words: &'static [&'static str],
    before: Before,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    Made,
    Running,
}

const IMAGE: &str = "IMAGE";
const STAY: &[&str] = &["run", "-d", "--name", "web", IMAGE, "sleep", "1000"];
const MAKE: &[&str] = &["create", "--name", "web", IMAGE, "sh", "-c", "exit 42"];

/// What changes something that others see, or waits for them.
const CALLS: [&str; 34] = [
    "accept4",
    "bind",
    "clone",
    "clone3",
    "close",
    "close_range",
    "connect",
    "dup2",
    "execve",
    "exit_group",
    "fcntl",
    "flock",
    "fork",
    "fsopen",
    "getdents64",
    "ioctl",
    "listen",
    "mkdir",
    "move_mount",
    "openat",
    "poll",
    "prctl",
    "read",
    "recvmsg",
    "rename",
    "sendmsg",
    "setsid",
    "signalfd4",
    "socket",
    "socketpair",
    "symlink",
    "unlink",
    "wait4",
    "write",
];

const fn verb(words: &'static [&'static str], before: Before) -> Verb {
    Verb { words, before }
}

const VERBS: [Verb; 12] = [
    verb(STAY, Before::Nothing),
    verb(
        &[
            "run",
            "-d",
            "--rm",
            "--name",
            "web",
            "--read-only=false",
            IMAGE,
            "sleep",
            "1000",
        ],
        Before::Nothing,
    ),
    verb(
        &["run", "-d", "--name", "web", IMAGE, "sh", "-c", "exit 42"],
        Before::Nothing,
    ),
    verb(
        &["run", "--name", "web", IMAGE, "sh", "-c", "exit 42"],
        Before::Nothing,
    ),
    verb(
        &[
            "run",
            "-d",
            "--name",
            "web",
            "--replace",
            IMAGE,
            "sh",
            "-c",
            "exit 42",
        ],
        Before::Running,
    ),
    verb(MAKE, Before::Nothing),
    verb(&["start", "web"], Before::Made),
    verb(&["stop", "-t", "1", "web"], Before::Running),
    verb(&["restart", "-t", "1", "web"], Before::Running),
    verb(&["rm", "-f", "web"], Before::Running),
    verb(&["rename", "web", "www"], Before::Made),
    verb(&["kill", "web"], Before::Running),
];

/// Steele and Vigna's splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_kill_at_any_step_of_any_verb_leaves_nothing_and_loses_no_exit() {
    let boxes = Sandboxes::new();
    let seed = number("PALISADE_SEED", 1);
    let mut random = Random(seed);
    for round in 0..number("PALISADE_KILLS", 60) {
        let verb = VERBS[usize::try_from(random.below(VERBS.len() as u64)).unwrap()];
        let name = CALLS[usize::try_from(random.below(CALLS.len() as u64)).unwrap()];
        // Half of them at one of the first three.
        let bound = if random.below(2) == 0 { 3 } else { 30 };
        let call = format!("{name}:signal=KILL:when={}", 1 + random.below(bound));
        let monitor_too = random.below(4) == 0;
        let what = format!(
            "seed {seed}, round {round}: {:?} killed at {call}",
            verb.words
        );
        strike(&boxes, verb, &call, monitor_too, &what);
    }
}

fn strike(boxes: &Sandboxes, verb: Verb, call: &str, monitor_too: bool, what: &str) {
    let image = boxes.image();
    let typed = |words: &[&'static str]| -> Vec<String> {
        let word = |word: &&str| {
            if *word == IMAGE {
                image.clone()
            } else {
                (*word).to_owned()
            }
        };
        words.iter().map(word).collect()
    };
    let owned = typed(if verb.before == Before::Made {
        MAKE
    } else {
        STAY
    });
    if verb.before != Before::Nothing {
        let words: Vec<&str> = owned.iter().map(String::as_str).collect();
        boxes.says(&words);
    }
    let words = typed(verb.words);
    let monitor = (verb.before == Before::Running && monitor_too).then(|| {
        let id = boxes.says(&["ps", "-q", "--no-trunc"]);
        boxes.process(&id, "monitor")
    });
    let (out, err) = (boxes.rig.path("out"), boxes.rig.path("err"));
    let mut traced = Command::new("strace");
    traced
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={call}"))
        .arg(binary())
        .args(&words)
        .env("PALISADE_ROOT", boxes.rig.path("store"))
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let mut child = traced.spawn().expect("strace is installed");
    if let Some(monitor) = monitor {
        // Whenever it comes: the monitor may be anywhere in what it does.
        let _ = kill(monitor, Signal::SIGKILL);
    }
    let guard = Guard::over(&child);
    child.wait().unwrap();
    drop(guard);
    check(boxes, what);
}

/// The next command has to find everything in order; then all is removed, and nothing may be left.
#[track_caller]
fn check(boxes: &Sandboxes, what: &str) {
    let listed = boxes.palisade(&[
        "ps",
        "-a",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Names}} {{.State}}",
    ]);
    assert!(
        listed.status.success() && listed.stderr.is_empty(),
        "{what}: {}",
        text(&listed.stderr)
    );
    let mut ids = BTreeSet::new();
    for line in text(&listed.stdout).lines() {
        let mut words = line.split(' ').map(str::to_owned);
        let (id, name, state) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        assert!(name == "web" || name == "www", "{what}: {line}");
        let found = boxes.says(&["ps", "-a", "-q"]);
        assert!(found.contains(&id[..12]), "{what}: {line}");
        // 125 is a start that the kill made fail.
        if state == "exited" {
            let code = boxes.says(&["wait", &name]);
            assert!(
                ["42", "125", "137", "143"].contains(&code.as_str()),
                "{what}: exit code {code}"
            );
        }
        let record = fs::read(boxes.rig.path("store/sandboxes").join(&id).join("exit"));
        if state == "dead" {
            assert_ne!(
                record.map(|bytes| bytes.len()).ok(),
                Some(4),
                "{what}: an exit was lost"
            );
        }
        ids.insert(id);
    }
    let directories: BTreeSet<String> = boxes
        .left()
        .iter()
        .filter(|path| path.parent().unwrap().ends_with("sandboxes"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(directories, ids, "{what}: directories and what ps lists");
    for id in &ids {
        boxes.says(&["rm", "-f", id]);
    }
    assert!(boxes.left().is_empty(), "{what}: {:?}", boxes.left());
    let mark = boxes.rig.mark();
    // A killed process is gone when the kernel gets to it.
    let end = Instant::now() + Duration::from_mins(1);
    while !processes_with(&mark).is_empty() {
        assert!(Instant::now() < end, "{what}: {:?}", processes_with(&mark));
        std::thread::yield_now();
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&mark), "{what}: a mount is left");
}
