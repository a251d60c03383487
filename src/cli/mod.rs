//! The command line, as typed.

pub mod control;
pub mod exec;
pub mod life;
pub mod look;
pub mod options;
pub mod receipt;
pub mod registry;
pub mod render;
pub mod run;
mod unavailable;
