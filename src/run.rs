//! `palisade run`.

use std::ffi::OsString;

use crate::cli::{self, render};
use crate::failure::Failure;
use crate::verb::print;

/// Runs a command in a new sandbox and returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let arguments = cli::run::parse(args)?;
    if arguments.help {
        print(&render::run_verb().bin_name("palisade run").render_long_help().to_string())?;
        return Ok(0);
    }
    Ok(0)
}
