//! `palisade policy`: what the policies crate knows, printed.

use std::fmt::Write;

use clap::ArgMatches;
use palisade_policies::{Direction, Policy};

use crate::failure::Failure;
use crate::verb::print;

const SCHEMA: &str = include_str!("../docs/policy.schema.json");

/// `list`, `show`, `check`, `diff`, `schema`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("show", matches)) => print(&named(word(matches, "POLICY"))?.to_toml()).map(|()| 0),
        Some(("check", matches)) => check(matches),
        Some(("diff", matches)) => difference(word(matches, "POLICY"), word(matches, "OTHER")),
        Some(("schema", _)) => print(SCHEMA).map(|()| 0),
        _ => print(&list()).map(|()| 0),
    }
}

fn word<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// A policy by name or path.
pub fn named(name: &str) -> Result<Policy, Failure> {
    Policy::named(name).map_err(|error| {
        Failure::new(
            error.to_string(),
            "palisade policy list; docs/policy.md describes the files",
        )
    })
}

fn list() -> String {
    let mut text = String::new();
    for (name, description) in Policy::builtins() {
        let _ = writeln!(text, "{name:<10} {description}");
    }
    text
}

fn check(matches: &ArgMatches) -> Result<u8, Failure> {
    for name in matches.get_many::<String>("POLICY").into_iter().flatten() {
        let policy = named(name)?;
        print(&format!("{name}: ok, {}\n", policy.digest()))?;
    }
    Ok(0)
}

fn difference(from: &str, to: &str) -> Result<u8, Failure> {
    let differences = named(from)?.difference(&named(to)?);
    let mut text = String::new();
    for difference in &differences {
        let direction = match difference.direction {
            Direction::Tighter => "tighter",
            Direction::Looser => "looser",
            Direction::Different => "different",
        };
        let _ = writeln!(
            text,
            "{}: {} → {} ({direction})",
            difference.key, difference.from, difference.to
        );
    }
    print(&text)?;
    Ok(u8::from(!differences.is_empty()))
}
