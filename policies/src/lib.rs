//! What is allowed: policy files and their compilation to Landlock rules, seccomp programs, capability sets and limits.
//!
//! A [`Policy`] is plain data. It is built in ([`Policy::builtin`], which parses nothing), read from a file
//! ([`Policy::load`]), or made from another one by changing its fields; [`Policy::check_refined`] and
//! [`Policy::pinned_by`] then say whether that was allowed. [`Policy::path_rules`], [`Policy::masked_paths`] and
//! [`Policy::seccomp`] are what the runtime enforces.
//!
//! ```
//! use palisade_policies::{Pins, Policy};
//! use std::path::Path;
//!
//! let policy = Policy::builtin("default").expect("it is built in");
//! let mut refined = policy.clone();
//! refined.limits.memory = Some(512 << 20);
//! policy.check_refined(&refined)?;
//! let (refined, lowered) = refined.pinned_by(&Pins::load(Path::new(Pins::DIRECTORY))?);
//! for change in &lowered {
//!     println!("{change}");
//! }
//! assert_eq!(refined.seccomp()?.len(), 1);
//! # Ok::<(), palisade_policies::Error>(())
//! ```

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "there is a system call table for x86_64 alone: add one beside src/filter/x86_64.rs"
);

mod builtin;
mod canonical;
mod difference;
mod encoding;
mod error;
mod file;
mod filter;
mod format;
mod keys;
pub mod landlock;
mod nearest;
mod pins;
mod policy;
mod profile;
mod program;
mod quantity;
mod reader;
mod value;

use std::borrow::Cow;

pub use difference::{Difference, Direction};
pub use error::Error;
pub use keys::{KEYS, Key};
pub use pins::{Lowered, Pins, processors};
pub use policy::{
    Base, Denied, Environment, Filesystem, Flags, Handles, IoLimit, Limits, Network, NetworkMode,
    Policy, Rlimit, RootMode, Setuid, Sys, Syscalls, Tier, Tmpfs,
};
pub use program::{Instruction, Program, SystemCall};
pub use quantity::{format_duration, format_size, parse_duration, parse_size};
pub use value::{CAPABILITIES, MOST_PROCESSES, is_processor_list};

/// System call filters: tables of rules, their compilation, and seccomp profiles of users.
pub mod seccomp {
    pub use crate::filter::{
        Action, Comparison, Condition, MOST_INSTRUCTIONS, Refusal, Rule, Table, Width, compile,
        explain, shared, tables, telling_arguments, x86_64,
    };
    pub use crate::profile::from_json;
}

impl Policy {
    /// The seccomp programs to load, in this order. There is one. It is static data unless the policy refines its base
    /// or keeps capabilities, which add what Docker's profile adds for them.
    ///
    /// # Errors
    /// [`Error::ProgramTooLong`].
    pub fn seccomp(&self) -> Result<Vec<Program>, Error> {
        let syscalls = &self.syscalls;
        if syscalls.allow.is_empty() && syscalls.deny.is_empty() && self.capabilities.is_empty() {
            return Ok(vec![Program(Cow::Borrowed(builtin::program(
                syscalls.base,
            )))]);
        }
        let tables = seccomp::tables(syscalls, &self.capabilities);
        seccomp::compile(&tables, &format!("policy {:?}", self.name)).map(|program| vec![program])
    }

    /// The same where the command shares the caller's namespaces: one program that also refuses what [`seccomp::shared`] does.
    ///
    /// # Errors
    /// [`Error::ProgramTooLong`].
    pub fn seccomp_shared(&self) -> Result<Vec<Program>, Error> {
        let syscalls = &self.syscalls;
        let network = self.network.mode;
        if syscalls.allow.is_empty() && syscalls.deny.is_empty() && self.capabilities.is_empty() {
            let program = builtin::shared_program(syscalls.base, network == NetworkMode::Host);
            return Ok(vec![Program(Cow::Borrowed(program))]);
        }
        let mut tables = vec![seccomp::shared(network)];
        tables.extend(seccomp::tables(syscalls, &self.capabilities));
        seccomp::compile(&tables, &format!("policy {:?}", self.name)).map(|program| vec![program])
    }
}
