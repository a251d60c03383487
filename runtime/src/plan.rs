//! The one currency: everything about a sandbox, as plain data, before anything is changed on the machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::Spec;
use palisade_policies::{Program, Tier, landlock::PathRule};
use serde::{Deserialize, Serialize};

/// A sandbox to be launched: an OCI runtime [`Spec`] plus what OCI has no word for.
///
/// The launch reads from the spec: `process` (args, env, cwd, user, terminal, capabilities, rlimits, noNewPrivileges),
/// `hostname`, `mounts`, and from `linux` the namespaces, id mappings, masked and read-only paths, devices, resources.
/// What it finds there and cannot do is an error, never ignored. Where the plan is [`joinable`](Plan::joinable) and the
/// process has no args, PID 1 keeps the sandbox for those who join, until a signal ends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent decision of the user"
)]
pub struct Plan {
    /// Identifies the sandbox among this user's: 64 lower-case hexadecimal digits.
    pub id: String,
    /// The OCI runtime configuration. `root.path` is not used: see [`Plan::root`].
    pub spec: Spec,
    /// The command's arguments, byte for byte, where they are not the UTF-8 text that a [`Spec`] can hold; else the spec's.
    pub args: Option<Vec<OsString>>,
    /// How the root file system is put together.
    pub root: Root,
    /// Files written into the root before it becomes read-only, in order.
    pub files: Vec<File>,
    /// Landlock path rules, or none for no Landlock (only where the user said so).
    pub landlock: Option<Vec<PathRule>>,
    /// Whether Landlock is asked at every opening of a file, also where these rules grant reading and executing everywhere
    /// (a policy's `landlock-handles`).
    pub landlock_complete: bool,
    /// seccomp programs, loaded in order; none for no seccomp (only where the user said so).
    pub seccomp: Vec<Program>,
    /// Whether [`Plan::seccomp`] is the user's own profile: it may then forbid palisade's last look at what holds.
    pub custom_seccomp: bool,
    /// Whether the supervisor learns what seccomp refuses the first command and its descendants
    /// ([`Sandbox::denial`](crate::Sandbox::denial)).
    pub watch_denials: bool,
    /// Whether the caller's standard input reaches the command (docker's `-i`); else it reads /dev/null.
    pub interactive: bool,
    /// Time limit for the command, from its start.
    pub timeout: Option<Duration>,
    /// Most bytes that the command may write on standard output and standard error together; none for no bound. The
    /// supervisor enforces it, as it does the time limit.
    pub output_limit: Option<u64>,
    /// Signal number that asks the command to stop.
    pub stop_signal: i32,
    /// How long it then has before SIGKILL.
    pub stop_timeout: Duration,
    /// Whether further commands may join the sandbox ([`Sandbox::admit`](crate::Sandbox::admit)).
    pub joinable: bool,
    /// Which of the kernel's means hold the command: with [`Tier::Full`] there is a control group in any case, with less there
    /// is none, and with [`Tier::NoNamespace`] neither namespace nor mount. A plan in which the spec or the root asks for
    /// more than its tier has is refused.
    pub tier: Tier,
    /// Protections that cannot be had become warnings instead of errors.
    pub best_effort: bool,
}

/// How the root file system is put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// An overlay of unpacked layers.
    Overlay {
        /// Lower directories, the topmost layer first, as absolute host paths. At least one.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: Upper,
    },
    /// An empty tmpfs, filled by the spec's mounts, [`Plan::files`] and these symbolic links
    /// (`(link, target)`, absolute paths inside the sandbox).
    Tmpfs {
        /// How much it holds.
        scratch: Scratch,
        /// Links to make.
        links: Vec<(PathBuf, PathBuf)>,
    },
    /// The caller's own root, as it is: [`Tier::NoNamespace`] has no other.
    Callers {
        /// An existing host directory of the sandbox's own, which goes with it: what the command has for /tmp and a home.
        scratch: PathBuf,
    },
}

/// The writable layer of an overlay root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// In memory, gone with the sandbox.
    Tmpfs(Scratch),
    /// On disk: an existing host directory holding two existing empty directories, `upper` and `work`.
    Directory(PathBuf),
}

/// How much a file system in memory holds at most (tmpfs(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    /// Bytes.
    pub size: u64,
    /// Files and directories; none for the kernel's own bound, half the number of pages of memory.
    pub inodes: Option<u64>,
}

/// A regular file written into the root before the command starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path inside the sandbox; missing parent directories are made, symbolic links resolve inside the root.
    pub path: PathBuf,
    /// The whole content.
    pub contents: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}
