//! Everything that can go wrong in this crate.

use std::io;
use std::path::PathBuf;

/// What failed, with what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No built-in policy has this name.
    #[error("there is no built-in policy {name:?}{}; there are: {known}; a file is given by a path with a `/` or ending in .toml", suggestion(.nearest.as_deref()))]
    UnknownPolicy {
        /// What was asked for.
        name: String,
        /// The closest built-in, if one is close.
        nearest: Option<String>,
        /// The built-in names.
        known: String,
    },
    /// A policy file, a pin file or a seccomp profile says something wrong.
    #[error("{origin}:{line}:{column}: {message}{}", help.as_ref().map(|h| format!("\n  {h}")).unwrap_or_default())]
    File {
        /// The file, or what stands for it.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong, and what was expected.
        message: String,
        /// An example of how it is written.
        help: Option<String>,
    },
    /// An option would loosen a policy that says `flags = "tighten-only"`.
    #[error(
        "policy {policy:?} may only be tightened: {change}\n  leave the option out, or choose another policy"
    )]
    Loosened {
        /// The policy.
        policy: String,
        /// What would be looser.
        change: String,
    },
    /// A seccomp program is longer than the kernel takes.
    #[error(
        "the seccomp program of {origin} has {length} instructions; the kernel takes 4096 at most: use fewer argument conditions"
    )]
    ProgramTooLong {
        /// Where the rules came from.
        origin: String,
        /// Instructions.
        length: usize,
    },
}

/// Words for a suggestion, if there is one.
fn suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|s| format!(" (did you mean {s:?}?)"))
        .unwrap_or_default()
}
