//! A policy as plain data: everything resolved, `extends` applied.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a sandbox may do and use. `docs/policy.md` describes every key of its file format.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What the policy calls itself: a built-in's name, or the file's `name`, or else the file's stem.
    pub name: String,
    /// One sentence for `palisade policy list`; may be empty.
    pub description: String,
    /// Capabilities the command keeps, as `CAP_…` names. Empty in every built-in.
    pub capabilities: Vec<String>,
    /// Time limit for the command, from its start.
    pub timeout: Option<Duration>,
    /// How long the command has between the stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// Below this tier a sandbox does not start.
    pub minimum_tier: Tier,
    /// Most bytes of standard output and standard error together that are kept or passed on; none for no cap.
    pub output_cap: Option<u64>,
    /// Whether command line options may loosen the policy.
    pub flags: Flags,
    /// The file system the command sees.
    pub filesystem: Filesystem,
    /// The network the command sees.
    pub network: Network,
    /// Which system calls are served.
    pub syscalls: Syscalls,
    /// Upper bounds on what the sandbox uses.
    pub limits: Limits,
    /// Which environment variables the command gets.
    pub environment: Environment,
}

impl Policy {
    /// A policy that allows nothing and bounds nothing: what a file starts from that extends nothing.
    pub(crate) fn blank() -> Self {
        Policy {
            name: String::new(),
            description: String::new(),
            capabilities: Vec::new(),
            timeout: None,
            stop_timeout: Duration::ZERO,
            minimum_tier: Tier::NoNamespace,
            output_cap: None,
            flags: Flags::Refine,
            filesystem: Filesystem {
                root: RootMode::ReadOnly,
                read: Vec::new(),
                write: Vec::new(),
                write_existing: Vec::new(),
                exec: Vec::new(),
                deny: Vec::new(),
                tmpfs: Vec::new(),
                scratch_size: u64::MAX,
                scratch_inodes: None,
                setuid: Setuid::Strip,
                landlock_handles: Handles::All,
                sys: Sys::None,
                masked_paths: Vec::new(),
                readonly_paths: Vec::new(),
            },
            network: Network {
                mode: NetworkMode::None,
            },
            syscalls: Syscalls {
                base: Base::Default,
                allow: Vec::new(),
                deny: Vec::new(),
            },
            limits: Limits {
                memory: None,
                swap: None,
                cpus: None,
                cpuset: None,
                pids: None,
                shm: u64::MAX,
                rlimits: BTreeMap::new(),
                io: Vec::new(),
            },
            environment: Environment {
                pass: Vec::new(),
                set: BTreeMap::new(),
            },
        }
    }
}

/// How much of the kernel's confinement is there. The order is from weakest to strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Landlock, seccomp and rlimits, without namespaces.
    NoNamespace,
    /// Everything but control groups.
    NoCgroup,
    /// Everything.
    Full,
}

/// Whether command line options may loosen the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// Options may change anything.
    Refine,
    /// An option that would loosen the policy is an error.
    TightenOnly,
}

/// The file system the command sees. Paths are absolute paths inside the sandbox; a leading `~` stands for the home
/// directory of the sandbox's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// Whether the image's files can be changed.
    pub root: RootMode,
    /// Beneath these, files can be read and directories listed.
    pub read: Vec<String>,
    /// Beneath these, files can be changed, created and removed.
    pub write: Vec<String>,
    /// Beneath these, existing files can be written (devices, `/proc` settings); nothing is created or removed.
    pub write_existing: Vec<String>,
    /// Beneath these, files can be executed.
    pub exec: Vec<String>,
    /// Beneath these, nothing is visible, whatever the other lists say.
    pub deny: Vec<String>,
    /// In-memory file systems, in mount order. What the image has at the home directory stays visible.
    pub tmpfs: Vec<Tmpfs>,
    /// Bytes of the writable layer where it is kept in memory.
    pub scratch_size: u64,
    /// Most files and directories in that layer; none for the kernel's default.
    pub scratch_inodes: Option<u64>,
    /// What happens to setuid and setgid bits of the image's files.
    pub setuid: Setuid,
    /// What Landlock is asked about.
    pub landlock_handles: Handles,
    /// What `/sys` is.
    pub sys: Sys,
    /// Hidden paths of `/proc` and `/sys` (runtime-spec's `maskedPaths`).
    pub masked_paths: Vec<String>,
    /// Read-only paths of `/proc` and `/sys` (runtime-spec's `readonlyPaths`).
    pub readonly_paths: Vec<String>,
}

/// Whether the image's files can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootMode {
    /// No: only tmpfs and mounts are writable.
    ReadOnly,
    /// Yes, in a layer in memory, of the scratch size and inodes at most, which ends with the sandbox's processes.
    InMemory,
    /// Yes, in a layer on disk that belongs to the sandbox.
    Writable,
}

/// One in-memory file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where: an absolute path, or `~`.
    pub path: String,
    /// Most bytes.
    pub size: u64,
    /// Most files and directories; none for the kernel's default.
    pub inodes: Option<u64>,
    /// Nothing on it can be executed.
    pub noexec: bool,
}

/// What happens to setuid and setgid bits of the image's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setuid {
    /// They are removed.
    Strip,
    /// They stay; without privileges to gain they do nothing.
    Keep,
}

/// Which access rights Landlock handles (landlock(7)).
///
/// At every opening of a file the kernel walks from the file towards the root until every handled right is granted. Where
/// reading and executing is granted everywhere the answer is known, and the walk costs file-heavy work up to a tenth of its
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handles {
    /// All that the kernel knows: what lies outside the sandbox's root could not even be read, if ever it came in sight.
    All,
    /// What changes files. Reading, executing and truncating by path are left to the mounts, if the policy grants reading and
    /// executing everywhere; else as [`Handles::All`].
    Changes,
}

/// What `/sys` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sys {
    /// Whatever the image has there.
    None,
    /// A read-only sysfs.
    ReadOnly,
}

/// The network the command sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Which network namespace.
    pub mode: NetworkMode,
}

/// Which network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// An own one with loopback alone.
    None,
    /// The host's.
    Host,
}

/// Which system calls are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscalls {
    /// The built-in table that is refined.
    pub base: Base,
    /// System calls served whatever their arguments, although the table refuses or restricts them.
    pub allow: Vec<String>,
    /// System calls refused although the table serves them.
    pub deny: Vec<Denied>,
}

/// A built-in system call table; `docs/policy.md` says what is in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The smallest.
    Strict,
    /// What ordinary programs need.
    Default,
    /// What Docker serves without capabilities, and debuggers need.
    Compat,
}

/// A refused system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Its name.
    pub name: String,
    /// The error the caller sees (errno(3), 1 to 4095).
    pub errno: u16,
}

/// Upper bounds. None means no bound of this kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside `memory`; 0 for none.
    pub swap: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one.
    pub cpus: Option<f64>,
    /// Processors that may be used, as a list of numbers and ranges: `0-3,6`.
    pub cpuset: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub shm: u64,
    /// Per-process bounds, sorted by name. They are ceilings: where the caller's own hard limit is lower, that one holds.
    pub rlimits: BTreeMap<String, Rlimit>,
    /// Bandwidth and operation rates per block device.
    pub io: Vec<IoLimit>,
}

/// A pair of resource limits (setrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// What is enforced; [`Rlimit::UNLIMITED`] for no bound.
    pub soft: u64,
    /// Up to where the command may raise it; at least `soft`.
    pub hard: u64,
}

impl Rlimit {
    /// No bound (`RLIM_INFINITY`).
    pub const UNLIMITED: u64 = u64::MAX;
}

/// Rates for one block device of the host; none for no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoLimit {
    /// The device on the host, as `/dev/sda`.
    pub device: PathBuf,
    /// Bytes read per second.
    pub read_bps: Option<u64>,
    /// Bytes written per second.
    pub write_bps: Option<u64>,
    /// Reads per second.
    pub read_iops: Option<u64>,
    /// Writes per second.
    pub write_iops: Option<u64>,
}

/// Which environment variables the command gets beside the image's and those given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Names of the caller's variables that pass; `*` stands for any characters.
    pub pass: Vec<String>,
    /// Variables with fixed values.
    pub set: BTreeMap<String, String>,
}

impl Environment {
    /// Whether the caller's variable `name` passes.
    #[must_use]
    pub fn passes(&self, name: &str) -> bool {
        self.pass
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Whether `name` matches `pattern`, where `*` stands for any characters.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        Some((first, rest)) => name
            .split_first()
            .is_some_and(|(n, left)| n == first && matches(rest, left)),
    }
}

/// Gives an enum its words in policy files.
macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),+ $(,)? })+) => {$(
        impl $name {
            /// The words of this key in a policy file.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in a policy file.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value that a word of a policy file stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    )+};
}

words! {
    Tier { Full = "full", NoCgroup = "no-cgroup", NoNamespace = "no-namespace" }
    Flags { TightenOnly = "tighten-only", Refine = "refine" }
    RootMode { ReadOnly = "read-only", InMemory = "in-memory", Writable = "writable" }
    Handles { All = "all", Changes = "changes" }
    Setuid { Strip = "strip", Keep = "keep" }
    Sys { None = "none", ReadOnly = "read-only" }
    NetworkMode { None = "none", Host = "host" }
    Base { Strict = "strict", Default = "default", Compat = "compat" }
}
