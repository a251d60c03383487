//! How a sandboxed process behaves, seen from outside: exit codes, streams, signals, terminal, end, receipt.

mod denials;
mod ending;
mod exit;
mod receipt;
#[allow(dead_code)] // Each suite uses its part of the rig.
mod rig;
#[path = "../rig/screen.rs"]
mod screen;
mod signals;
mod streams;
mod terminal;
