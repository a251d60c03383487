//! System call filters: rules, and their compilation to short tree-shaped programs.
//!
//! A [`Table`] holds rules for system calls as one filter would. [`compile`] takes tables as the kernel would have taken
//! filters, one after another, and makes a single program that answers as all of them together: the most restrictive
//! action, and on a tie the newest errno (seccomp(2)). One program is loaded and run in place of several.

mod assemble;
mod bases;
mod decision;
mod refusal;
mod rule;
mod shared;
pub mod x86_64;

use std::borrow::Cow;

pub use bases::tables;
pub use refusal::{Refusal, explain, telling_arguments};
pub use rule::{Action, Comparison, Condition, Rule, Table, Width};
pub use shared::shared;

use crate::error::Error;
use crate::program::Program;

/// Most instructions of a program (`BPF_MAXINSNS`, `linux/bpf_common.h`).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// One program for `tables`, the first as the oldest filter. `origin` names them in errors.
///
/// The program kills a process that makes a system call of another architecture; x32 calls are refused with ENOSYS, or
/// more severely where the tables' default is more severe.
///
/// # Errors
/// [`Error::ProgramTooLong`] beyond [`MOST_INSTRUCTIONS`].
pub fn compile(tables: &[Table], origin: &str) -> Result<Program, Error> {
    let program = assemble::assemble(&decision::Decision::of(tables));
    if program.len() > MOST_INSTRUCTIONS {
        return Err(Error::ProgramTooLong {
            origin: origin.to_owned(),
            length: program.len(),
        });
    }
    Ok(Program(Cow::Owned(program)))
}
