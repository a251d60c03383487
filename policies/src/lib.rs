//! What is allowed: policy files and their compilation to Landlock rules, seccomp programs, capability sets and limits.
//!
//! A [`Policy`] is plain data. It is built in ([`Policy::builtin`], which parses nothing), read from a file
//! ([`Policy::load`]), or made from another one by changing its fields; [`Policy::check_refined`] and
//! [`Policy::pinned_by`] then say whether that was allowed. [`Policy::path_rules`] and [`Policy::seccomp`] are what the
//! runtime enforces.

mod error;
pub mod landlock;
mod policy;
mod program;
pub mod seccomp;

pub use error::Error;
pub use policy::{
    Base, Denied, Environment, Filesystem, Flags, IoLimit, Limits, Network, NetworkMode, Policy,
    Rlimit, RootMode, Setuid, Sys, Syscalls, Tier, Tmpfs,
};
pub use program::{Instruction, Program};

// API sketch: bodies follow.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_variables)]
mod sketch {
    use super::*;
    use std::path::Path;
    impl Policy {
        /// Built-in by name; microseconds.
        pub fn builtin(name: &str) -> Option<Policy> {
            todo!()
        }
        /// (name, description) of the built-ins, strictest first.
        pub fn builtins() -> &'static [(&'static str, &'static str)] {
            todo!()
        }
        /// What `--policy` takes: a built-in's name, else a file (has a '/' or ends in .toml).
        pub fn named(name_or_path: &str) -> Result<Policy, Error> {
            todo!()
        }
        pub fn load(path: &Path) -> Result<Policy, Error> {
            todo!()
        }
        pub fn parse(text: &str, origin: &str) -> Result<Policy, Error> {
            todo!()
        }
        /// The complete resolved policy as TOML: canonical, reparsable; `policy show`.
        pub fn to_toml(&self) -> String {
            todo!()
        }
        /// "sha256:…" of to_toml().
        pub fn digest(&self) -> String {
            todo!()
        }
        /// Landlock rules, home = home directory inside the sandbox. Caller adds its mounts.
        pub fn path_rules(&self, home: &Path) -> Vec<landlock::PathRule> {
            todo!()
        }
        /// masked-paths and deny, `~` expanded; runtime-spec's maskedPaths.
        pub fn masked_paths(&self, home: &Path) -> Vec<std::path::PathBuf> {
            todo!()
        }
        /// Programs to load in order (one). Static data unless allow/deny/capabilities change the base.
        pub fn seccomp(&self) -> Result<Vec<Program>, Error> {
            todo!()
        }
        /// `flags = "tighten-only"`: error if `refined` is looser than self.
        pub fn check_refined(&self, refined: &Policy) -> Result<(), Error> {
            todo!()
        }
        /// Applies the administrator's pins: lowers what exceeds them; says what it lowered.
        pub fn pinned_by(self, pins: &Pins) -> (Policy, Vec<Lowered>) {
            todo!()
        }
        pub fn difference(&self, other: &Policy) -> Vec<Difference> {
            todo!()
        }
    }
    /// Display: "limits.memory: 1GiB → 512MiB (tighter)".
    pub struct Difference {
        pub key: String,
        pub from: String,
        pub to: String,
        pub direction: Direction,
    }
    pub enum Direction {
        Tighter,
        Looser,
        Different,
    }
    /// What administrators pin.
    pub struct Pins {}
    impl Pins {
        pub const DIRECTORY: &'static str = "/etc/palisade/policy.d";
        /// Missing directory: no pins. Never fails open: an unreadable or wrong file is an error.
        pub fn load(directory: &Path) -> Result<Pins, Error> {
            todo!()
        }
    }
    /// A limit which a pin lowered. Display is a sentence.
    pub struct Lowered {
        pub key: String,
        pub from: String,
        pub to: String,
        pub origin: String,
    }
    /// "120s", "2m", "1h30m", "500ms" and plain seconds.
    pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
        todo!()
    }
    /// Docker style: "512m", "512MiB", "1g", plain bytes.
    pub fn parse_size(text: &str) -> Option<u64> {
        todo!()
    }
}
pub use sketch::*;
