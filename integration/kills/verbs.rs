//! What is done to a sandbox while its processes are killed: the verbs, and what must be there before.

/// What is done to the sandbox `web`, and what must be there before.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    pub words: &'static [&'static str],
    pub before: Before,
    /// What is done while a verb that would go on for ever is at it.
    pub meanwhile: Option<&'static [&'static str]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Before {
    Nothing,
    Made,
    Running,
    Paused,
}

/// Words that stand for others: the image, a time to sleep that no other test's sleep has, places on the host.
pub const IMAGE: &str = "IMAGE";
pub const LONG: &str = "LONG";
pub const FILE: &str = "FILE";
pub const COPIES: &str = "COPIES";
pub const ARCHIVE: &str = "ARCHIVE";

const SPEAK: &str = "echo up; exec sleep LONG";
pub const STAY: &[&str] = &["run", "-d", "--name", "web", IMAGE, "sh", "-c", SPEAK];
pub const MAKE: &[&str] = &["create", "--name", "web", IMAGE, "sh", "-c", "exit 42"];
pub const PAUSE: &[&str] = &["pause", "web"];
const KILL: &[&str] = &["kill", "web"];

/// Exit code of the command of every `exec`: what it says, nothing else may say by accident.
pub const SEVEN: i32 = 7;

const fn verb(before: Before, words: &'static [&'static str]) -> Verb {
    Verb {
        words,
        before,
        meanwhile: None,
    }
}

const fn ended_by_kill(words: &'static [&'static str]) -> Verb {
    Verb {
        words,
        before: Before::Running,
        meanwhile: Some(KILL),
    }
}

pub const VERBS: &[Verb] = &[
    verb(Before::Nothing, STAY),
    verb(
        Before::Nothing,
        &[
            "run",
            "-d",
            "--rm",
            "--name",
            "web",
            "--read-only=false",
            IMAGE,
            "sleep",
            LONG,
        ],
    ),
    verb(
        Before::Nothing,
        &[
            "run",
            "-d",
            "--name",
            "web",
            "--memory",
            "64m",
            "--pids-limit",
            "50",
            IMAGE,
            "sleep",
            LONG,
        ],
    ),
    verb(
        Before::Nothing,
        &["run", "-d", "--name", "web", IMAGE, "sh", "-c", "exit 42"],
    ),
    verb(
        Before::Nothing,
        &["run", "--name", "web", IMAGE, "sh", "-c", "exit 42"],
    ),
    verb(
        Before::Running,
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
    ),
    verb(Before::Nothing, MAKE),
    verb(Before::Made, &["start", "web"]),
    verb(Before::Made, &["start", "-a", "web"]),
    verb(Before::Running, &["stop", "-t", "1", "web"]),
    verb(Before::Running, &["restart", "-t", "1", "web"]),
    verb(Before::Running, &["rm", "-f", "web"]),
    verb(Before::Made, &["rm", "web"]),
    verb(Before::Made, &["rename", "web", "www"]),
    verb(Before::Running, KILL),
    verb(Before::Running, &["exec", "web", "sh", "-c", "exit 7"]),
    verb(
        Before::Running,
        &[
            "exec",
            "--timeout",
            "20s",
            "web",
            "sh",
            "-c",
            "sleep LONG & exit 7",
        ],
    ),
    verb(Before::Running, &["exec", "-d", "web", "sleep", LONG]),
    verb(Before::Running, &["cp", "web:/bin", COPIES]),
    verb(Before::Running, &["cp", FILE, "web:/tmp/file"]),
    verb(Before::Running, &["top", "web"]),
    verb(Before::Running, &["export", "-o", ARCHIVE, "web"]),
    verb(Before::Made, &["commit", "web", "kept:1"]),
    verb(Before::Running, PAUSE),
    verb(Before::Paused, &["unpause", "web"]),
    verb(Before::Paused, &["rm", "-f", "web"]),
    verb(
        Before::Running,
        &["update", "--memory", "200m", "--pids-limit", "60", "web"],
    ),
    ended_by_kill(&["logs", "-f", "web"]),
    ended_by_kill(&["attach", "web"]),
    ended_by_kill(&["wait", "web"]),
];
