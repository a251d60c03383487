//! Who watches a sandbox: supervision, terminal, time limit, receipts.
//!
//! [`supervise::run`] launches a [`Plan`](palisade_runtime::Plan) and stays with it until nothing of the sandbox is left:
//! one poll loop over the sandbox's events, the signals that reach palisade, the time limit, and the streams that cannot be
//! handed to the command directly. Its [`Outcome`] holds the exit code and what a [`receipt`] says about the run.

mod cleanup;
mod console;
mod copies;
mod denials;
mod error;
mod health;
pub mod joined;
pub mod log;
pub mod measure;
mod meter;
pub mod monitor;
mod outcome;
pub mod receipt;
mod relay;
mod restart;
#[cfg(test)]
mod sample;
mod signals;
pub mod state;
mod stdio;
pub mod still;
pub mod supervise;
pub mod time;
mod watch;

pub use denials::{Argument, Denials, Refused};
pub use error::Error;
pub use meter::Stream;
pub use outcome::{Outcome, Reason};
