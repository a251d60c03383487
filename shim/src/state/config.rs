//! What a sandbox was made as: `config.json`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::time::{stored, stored_option};

/// A sandbox as it was made. Nothing here changes while it lives, but for its name (`rename`), and its limits and
/// restart policy (`update`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of the command line.
pub struct Config {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made.
    #[serde(with = "stored")]
    pub created: SystemTime,
    /// What it runs on.
    pub image: Image,
    /// The whole command line that is executed, as text; empty where PID 1 alone keeps the sandbox.
    pub args: Vec<String>,
    /// The words of the command line that made it, from `run` or `create` on; empty where one of them is no text.
    pub typed: Vec<String>,
    /// The directory that command line was typed in; empty where that is no text.
    pub made_in: String,
    /// What of [`args`](Self::args) is docker's `Entrypoint`; the rest is its `Cmd`.
    pub entrypoint: usize,
    /// The command's environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The user as asked for or as the image has it; empty for the default.
    pub user: String,
    /// Where the command starts.
    pub working_dir: String,
    /// Host name inside.
    pub hostname: String,
    /// Whether the command has a terminal.
    pub tty: bool,
    /// Whether standard input stays open for `attach` (docker's `-i`).
    pub interactive: bool,
    /// The image's labels and those of `--label`.
    pub labels: BTreeMap<String, String>,
    /// `-v`, `--mount` and `--tmpfs`, the volumes last, those that the image declares at the end.
    pub mounts: Vec<Mount>,
    /// `none` or `host`.
    pub network: String,
    /// Ports that the image says it listens on, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Limits.
    pub limits: Limits,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// The policy's name.
    pub policy: String,
    /// The policy as it was asked for: a name, or a file's path, from [`made_in`](Self::made_in) on where it is relative.
    pub policy_source: String,
    /// How ids are mapped: `single`, `range` or `host`.
    pub identity: String,
    /// Number of the signal that asks the command to stop.
    pub stop_signal: i32,
    /// How long it then has.
    pub stop_timeout: Duration,
    /// Whether it is removed when it ends (`--rm`).
    pub auto_remove: bool,
    /// Whether a caller waits for it and has its output (`run` without `-d`); then there is no log.
    pub foreground: bool,
    /// What happens when it ends.
    pub restart: Restart,
    /// How its health is checked, if it is.
    pub health: Option<Health>,
    /// How its output is kept.
    pub log: LogOptions,
    /// Time after which it is stopped and removed, from its making.
    pub ttl: Option<Duration>,
    /// The same as a point in time.
    #[serde(with = "stored_option")]
    pub expires: Option<SystemTime>,
}

/// What a sandbox runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// As it was asked for.
    pub reference: String,
    /// The manifest's digest, `sha256:…`, where the image has one.
    pub digest: Option<String>,
    /// The configuration's digest, which is docker's image id, where the image has one.
    pub id: Option<String>,
}

/// One mount that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// The volume's name, for a volume.
    pub name: Option<String>,
    /// The host's path; empty for a tmpfs.
    pub source: String,
    /// The path inside.
    pub destination: String,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it is a volume that was made for this sandbox.
    pub anonymous: bool,
}

/// Limits as docker's `HostConfig` has them; zero for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes.
    pub memory: i64,
    /// Memory and swap together, in bytes; -1 for unlimited swap.
    pub memory_swap: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Weight against 1024.
    pub cpu_shares: u64,
    /// Processors, as a list; empty for all.
    pub cpuset: String,
}

/// What happens when the command ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Nothing.
    #[default]
    No,
    /// It starts again if its exit code is not 0, at most so many times; 0 for no bound.
    OnFailure(u32),
    /// It starts again.
    Always,
    /// It starts again unless it was stopped.
    UnlessStopped,
}

/// How a sandbox's health is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is executed.
    pub test: Vec<String>,
    /// Whether [`test`](Self::test) is one line for the image's shell (docker's `CMD-SHELL`).
    pub shell: bool,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// In which failures do not count.
    pub start_period: Duration,
    /// Between checks in the start period.
    pub start_interval: Duration,
    /// Failures in a row that mean unhealthy.
    pub retries: u32,
}

/// How a sandbox's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// Whether it is kept at all (`--log-driver none`).
    pub keep: bool,
    /// Bytes of one file.
    pub max_size: u64,
    /// Files, the one being written included.
    pub max_file: u32,
    /// Bytes that may wait in memory before output is lost (`mode=non-blocking`); none where the command waits instead.
    pub buffer: Option<u64>,
}

impl Default for LogOptions {
    /// Three files of 10 MiB.
    fn default() -> Self {
        Self {
            keep: true,
            max_size: 10 << 20,
            max_file: 3,
            buffer: None,
        }
    }
}

impl Config {
    /// Whether its time to live is over.
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= SystemTime::now())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            created: SystemTime::UNIX_EPOCH,
            image: Image::default(),
            args: Vec::new(),
            typed: Vec::new(),
            made_in: String::new(),
            entrypoint: 0,
            env: Vec::new(),
            user: String::new(),
            working_dir: "/".into(),
            hostname: String::new(),
            tty: false,
            interactive: false,
            labels: BTreeMap::new(),
            mounts: Vec::new(),
            network: "none".into(),
            exposed_ports: Vec::new(),
            limits: Limits::default(),
            read_only: false,
            policy: String::new(),
            policy_source: String::new(),
            identity: String::new(),
            stop_signal: 15,
            stop_timeout: Duration::from_secs(10),
            auto_remove: false,
            foreground: false,
            restart: Restart::No,
            health: None,
            log: LogOptions::default(),
            ttl: None,
            expires: None,
        }
    }
}
