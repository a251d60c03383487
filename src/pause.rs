//! `palisade pause` and `unpause`.

use clap::ArgMatches;
use palisade_shim::Error;
use palisade_shim::monitor::Request;

use crate::failure::Failure;
use crate::sandboxes::{connect, each, failure, named, registry};

/// `palisade pause`: returns when every process has stopped.
pub fn pause(matches: &ArgMatches) -> Result<u8, Failure> {
    ask(matches, Request::Pause)
}

/// `palisade unpause`.
pub fn unpause(matches: &ArgMatches) -> Result<u8, Failure> {
    ask(matches, Request::Unpause)
}

fn ask(matches: &ArgMatches, request: Request) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    each(&named(matches), |name| {
        let done = registry.find(name).and_then(|entry| {
            let client = connect(&entry)?.ok_or_else(|| Error::NotRunning {
                id: entry.short().to_owned(),
            })?;
            match client.ask(request) {
                // It ended before it could be asked.
                Err(Error::MonitorGone { id }) => Err(Error::NotRunning { id }),
                other => other.map(drop),
            }
        });
        done.map_err(|error| failure(&error))?;
        Ok(Some(name.to_owned()))
    })
}
