//! The `palisade` command.
#![cfg_attr(not(test), no_main)]

use std::ffi::{c_char, c_int};
use std::io::Write as _;

mod attach;
mod caller;
mod cli;
mod confirm;
mod container;
mod cp;
mod create;
mod data;
mod diagnosis;
mod doctor;
mod dry_run;
mod events;
mod exec;
mod explain;
mod failure;
mod format;
mod generate;
mod image;
mod inspect;
mod life;
mod logs;
mod manual;
mod pause;
mod policy;
mod port;
mod ps;
mod queue;
mod receipt;
mod record;
mod registry;
mod request;
mod resolve;
mod run;
mod sandboxes;
mod selection;
mod stats;
mod top;
mod update;
mod verb;
mod volume;

/// Where the C library's start ends. Rust's own would read /proc/self/maps and set up a signal stack first, a fiftieth of the
/// time of a whole sandbox; of what it does palisade needs two things, which [`palisade_runtime::begin`] does.
// SAFETY: no other symbol of this name is linked: Rust's own is left out by `no_main`.
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, expect(dead_code))]
extern "C" fn main_of_c(_count: c_int, _words: *const *const c_char) -> c_int {
    palisade_runtime::begin();
    // The standard library has the words from the C library's start.
    let code = verb::dispatch(std::env::args_os().skip(1).collect());
    // Nobody else does it when a program ends this way; what cannot be written now could not be before.
    let _ = std::io::stdout().flush();
    code.into()
}
