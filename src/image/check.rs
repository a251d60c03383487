//! `palisade store check`: every digest verified, what is missing and what is left over.

use std::fmt::Write as _;

use clap::ArgMatches;

use super::{Place, failed};
use crate::failure::Failure;
use crate::format::size;
use crate::verb::print;

/// `store check`. The exit code is 1 if something is wrong that was not repaired.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let findings = place.store.check().map_err(|e| failed(&e))?;
    let mut text: String = findings
        .problems
        .iter()
        .flat_map(|problem| [problem.to_string(), "\n".to_owned()])
        .collect();
    let _ = writeln!(
        text,
        "{} blobs read, {} images whole, {} problems",
        findings.blobs,
        findings.images,
        findings.problems.len()
    );
    print(&text)?;
    if !matches.get_flag("repair") || findings.problems.is_empty() {
        return Ok(u8::from(!findings.problems.is_empty()));
    }
    let (_, keep) = place.sandboxes()?;
    let removed = place
        .store
        .repair(&findings, &keep)
        .map_err(|e| failed(&e))?;
    let left = place.store.check().map_err(|e| failed(&e))?;
    let lost = if findings
        .problems
        .iter()
        .any(palisade_rootfs::Problem::is_damage)
    {
        "; pull or load again what was damaged"
    } else {
        ""
    };
    print(&format!("repaired: {} freed{lost}\n", size(removed.bytes)))?;
    Ok(u8::from(!left.problems.is_empty()))
}
