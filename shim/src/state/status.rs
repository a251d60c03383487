//! What a sandbox is doing: `state.json`, rewritten by rename at each transition.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::outcome::Reason;
use crate::time::{stored, stored_option};

/// What is known of a sandbox's life so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it stands.
    pub status: Status,
    /// PID 1 of the sandbox, as the host numbers it, while it runs.
    pub pid: Option<i32>,
    /// The process that watches it, while there is one.
    pub monitor: Option<i32>,
    /// Its cgroup while it runs, as a line that [`palisade_runtime::cgroup::Record`] is read from; none where it has none.
    pub cgroup: Option<String>,
    /// Whether that was made when it ran already: then what it had in memory before is not counted there.
    pub entered_late: bool,
    /// When the command was last started.
    #[serde(with = "stored_option")]
    pub started: Option<SystemTime>,
    /// How it ended the last time.
    pub exit: Option<Exited>,
    /// Why it could not be started the last time, in a sentence.
    pub error: Option<String>,
    /// How often the restart policy started it again.
    pub restarts: u32,
    /// Whether somebody asked for its end: then `unless-stopped` leaves it.
    pub stopped: bool,
    /// Its health, where that is checked.
    pub health: Option<Healthiness>,
}

/// Where a sandbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Made, never started.
    #[default]
    Created,
    /// The command runs.
    Running,
    /// It runs, and its cgroup is frozen.
    Paused,
    /// It ended, and its monitor will start it again.
    Restarting,
    /// It ended.
    Exited,
    /// It was running, and nobody watches it any more: its monitor was killed, or the machine stopped. Never written;
    /// found by asking who holds the lock. Nothing of it runs, because PID 1 ends with its monitor.
    Dead,
}

impl Status {
    /// docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether a monitor must be there.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// 0 to 255; 128 + n for signal n; 124 at the time limit; 125 to 127 where it could not be started.
    pub code: u8,
    /// `exit`, `signal`, `timeout`, `oom`, as in a receipt.
    pub reason: String,
    /// When.
    #[serde(with = "stored")]
    pub finished: SystemTime,
}

impl Exited {
    /// Whether the kernel killed it, or a process of it, for want of memory.
    #[must_use]
    pub fn was_out_of_memory(&self) -> bool {
        self.reason == Reason::OutOfMemory.as_str()
    }
}

/// What the health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No check has succeeded yet, and the failures do not count or are too few.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks in a row failed.
    Unhealthy,
}

impl Verdict {
    /// docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A sandbox's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthiness {
    /// What the checks say.
    pub verdict: Verdict,
    /// Failures in a row.
    pub failing: u32,
}

/// One check and what came of it: `health.json` holds the last five, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it began.
    #[serde(with = "stored")]
    pub start: SystemTime,
    /// When it ended.
    #[serde(with = "stored")]
    pub end: SystemTime,
    /// Its exit code; -1 where it could not be run or was ended at its limit.
    pub code: i32,
    /// What it wrote, the first 4096 bytes.
    pub output: String,
}
