//! Kills palisade's processes at one system call after the other of each verb, and asserts that nothing is left and no exit
//! is lost once the next command has run.
//!
//! strace(1) delivers the SIGKILL: one call of one process is never made. A run without a kill lists the calls that a verb makes
//! its processes do, and a seed says at which of them a kill comes: in the command line and all that it forks, in a monitor that is
//! at work already, or in PID 1 and the keepers of joined commands.
//! `PALISADE_KILLS` says how many (60 where it is not set), `PALISADE_SEED` which ones, and `PALISADE_KILL` repeats the one that a
//! failure names.

mod left;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/process/rig.rs"]
mod rig;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../../tests/detached/sandbox.rs"]
mod sandbox;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use rig::{Guard, binary, pid, text};
use sandbox::Sandboxes;
use verbs::Before;

/// Whose calls are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// The command line, and the monitor and the sandbox that it makes.
    Caller,
    /// The monitor that is at work already.
    Monitor,
    /// PID 1 and the keepers it makes.
    Init,
}

/// One kill: the call `name` is made `when - 1` times by a process of the victim's, and not again.
#[derive(Clone, Debug)]
struct Kill {
    verb: usize,
    victim: Victim,
    name: String,
    when: usize,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = verbs::VERBS[self.verb].words.join(" ");
        let Self {
            verb,
            victim,
            name,
            when,
        } = self;
        write!(
            f,
            "PALISADE_KILL='{verb} {victim:?} {name} {when}' ({words})"
        )
    }
}

impl Kill {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [verb, victim, name, when] = words[..] else {
            panic!("PALISADE_KILL={text}")
        };
        let victims = [Victim::Caller, Victim::Monitor, Victim::Init];
        Self {
            verb: verb.parse().expect("a number"),
            victim: victims
                .into_iter()
                .find(|one| format!("{one:?}") == victim)
                .expect("a victim"),
            name: name.to_owned(),
            when: when.parse().expect("a number"),
        }
    }
}

/// Steele and Vigna's splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn a_kill_at_any_step_of_any_verb_leaves_nothing_and_loses_no_exit() {
    let boxes = Sandboxes::new();
    for place in ["tmp", "run", "home"] {
        fs::create_dir(boxes.rig.path(place)).unwrap();
    }
    fs::write(boxes.rig.path("file"), "copied").unwrap();
    let (seed, count) = (
        number("PALISADE_SEED").unwrap_or(1),
        number("PALISADE_KILLS").unwrap_or(60),
    );
    println!("PALISADE_SEED={seed} PALISADE_KILLS={count}");
    let one = std::env::var("PALISADE_KILL")
        .ok()
        .map(|text| Kill::parse(&text));
    let (mut random, mut known, mut struck) = (Random(seed), BTreeMap::new(), 0);
    for _ in 0..count {
        let kill = one
            .clone()
            .unwrap_or_else(|| choose(&boxes, &mut random, &mut known));
        println!("{kill}");
        let trace = strike(&boxes, kill.verb, kill.victim, Some(&kill));
        // Its last line: the call that was not made has no result.
        struck += u64::from(trace.lines().any(|line| line.contains("= ?")));
    }
    println!("{struck} of {count} were reached by their kill");
    assert!(struck > 0, "no kill reached any process");
}

/// The calls of a verb's processes, each with how often its process had made it then.
type Calls = BTreeMap<(usize, Victim), Vec<(String, usize)>>;

fn choose(boxes: &Sandboxes, random: &mut Random, known: &mut Calls) -> Kill {
    loop {
        let verb = random.below(verbs::VERBS.len());
        let victim = random.pick(match verbs::VERBS[verb].before {
            Before::Running | Before::Paused => &[Victim::Caller, Victim::Monitor, Victim::Init],
            Before::Nothing | Before::Made => &[Victim::Caller],
        });
        let calls = known
            .entry((verb, victim))
            .or_insert_with(|| calls(&strike(boxes, verb, victim, None)));
        // Each kind of call as often as another, however often it is made.
        let names: BTreeSet<&str> = calls.iter().map(|(name, _)| &**name).collect();
        let names = Vec::from_iter(names);
        // A verb that does not concern PID 1 leaves it asleep.
        if !names.is_empty() {
            let name = random.pick(&names).to_owned();
            let whens = calls.iter().filter(|(one, _)| *one == name);
            let whens: Vec<usize> = whens.map(|(_, when)| *when).collect();
            let when = random.pick(&whens);
            return Kill {
                verb,
                victim,
                name,
                when,
            };
        }
    }
}

/// What a trace lists: `PID NAME(…`, and lines about signals and ends that name no call.
fn calls(trace: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let named = trace.lines().filter_map(|line| {
        let (pid, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        let word = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        word.then_some((pid, name))
    });
    let counted = named.map(|(pid, name)| {
        let count = counts.entry((pid, name)).or_default();
        *count += 1;
        (name.to_owned(), *count)
    });
    counted.collect()
}

/// Does one verb with one kill in it, or with none; what strace saw.
fn strike(boxes: &Sandboxes, verb: usize, victim: Victim, kill: Option<&Kill>) -> String {
    let verb = verbs::VERBS[verb];
    let what = kill.map_or_else(
        || format!("{:?} without a kill", verb.words),
        Kill::to_string,
    );
    match verb.before {
        Before::Nothing => {}
        Before::Made => prepare(boxes, verbs::MAKE, &what),
        Before::Running => prepare(boxes, verbs::STAY, &what),
        Before::Paused => {
            prepare(boxes, verbs::STAY, &what);
            // Where nothing can be frozen it runs on, and unpausing it is refused.
            let _ = boxes.palisade(verbs::PAUSE);
        }
    }
    let trace = boxes.rig.path("trace");
    let _ = fs::remove_file(&trace);
    let output = |name: &str| File::create(boxes.rig.path(name)).unwrap();
    let (strace, mut own) = if victim == Victim::Caller {
        let mut traced = strace(&trace, kill);
        // The monitor stays traced when the command line has ended.
        traced
            .arg("-D")
            .arg(binary())
            .args(typed(boxes, verb.words));
        (None, traced)
    } else {
        let id = boxes.says(&["ps", "-q", "--no-trunc"]);
        let field = if victim == Victim::Monitor {
            "monitor"
        } else {
            "pid"
        };
        let strace = attach(strace(&trace, kill), boxes.process(&id, field));
        let mut own = Command::new(binary());
        own.args(typed(boxes, verb.words));
        (Some(strace), own)
    };
    // Files, and no pipes: a strace that goes on has them open too.
    let mut child = placed(boxes, &mut own)
        .stdout(output("out"))
        .stderr(output("err"))
        .spawn()
        .expect("strace is installed");
    let guard = Guard::over(&child);
    if let Some(words) = verb.meanwhile {
        // Whatever the verb has come to by then.
        let _ = boxes.palisade(&["ps"]);
        let _ = boxes.palisade(words);
    }
    let status = child.wait().unwrap();
    drop(guard);
    if let Some(mut strace) = strace {
        // Those that still live go on without it.
        let _ = signal::kill(pid(&strace), Signal::SIGTERM);
        strace.wait().unwrap();
    }
    if let Some(code) = status
        .code()
        .filter(|_| verb.words[0] == "exec" && verb.words[1] != "-d")
    {
        // The command's own, or one that says that nobody knows it.
        assert!(
            [verbs::SEVEN, 125, 137, 143].contains(&code),
            "{what}: exit code {code} of an exec"
        );
    }
    left::check(boxes, &what);
    // Only now: the monitor went on until its sandbox was removed.
    fs::read_to_string(&trace).unwrap_or_default()
}

fn prepare(boxes: &Sandboxes, words: &[&str], what: &str) {
    let mut command = Command::new(binary());
    let output = placed(boxes, command.args(typed(boxes, words)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{what}: {}", text(&output.stderr));
}

/// The words with what they stand for.
fn typed(boxes: &Sandboxes, words: &[&str]) -> Vec<String> {
    let path = |name: &str| boxes.rig.path(name).display().to_string();
    let long = left::long();
    let word = |word: &&str| match *word {
        verbs::IMAGE => boxes.image(),
        verbs::FILE => path("file"),
        verbs::COPIES => path("copies"),
        verbs::ARCHIVE => path("archive.tar"),
        other => other.replace(verbs::LONG, &long),
    };
    words.iter().map(word).collect()
}

/// strace(1), which kills whatever it traces at one call.
fn strace(trace: &Path, kill: Option<&Kill>) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "0", "-o"]).arg(trace);
    if let Some(Kill { name, when, .. }) = kill {
        strace.args(["-e", &format!("trace={name}")]);
        strace.args(["-e", &format!("inject={name}:signal=KILL:when={when}")]);
    }
    strace
}

/// Attached to a running process before this returns; where that is not allowed, the process is killed here and now.
fn attach(mut strace: Command, to: Pid) -> Child {
    let mut child = strace
        .args(["-p", &to.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed");
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains(" attached") {
        if stderr.read_line(&mut said).unwrap() == 0 {
            let _ = signal::kill(to, Signal::SIGKILL);
            break;
        }
    }
    // It may have more to say, which nobody reads.
    child.stderr = Some(stderr.into_inner());
    child
}

/// Everything that palisade may write to lies in places of the test's own.
fn placed<'a>(boxes: &Sandboxes, command: &'a mut Command) -> &'a mut Command {
    for (variable, place) in [
        ("TMPDIR", "tmp"),
        ("XDG_RUNTIME_DIR", "run"),
        ("HOME", "home"),
    ] {
        command.env(variable, boxes.rig.path(place));
    }
    command
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env("PALISADE_ROOT", boxes.rig.path("store"))
        .stdin(Stdio::null())
}
