//! What the verbs that act on existing sandboxes share: finding them, ending them, saying what went wrong.

use std::path::Path;
use std::time::Duration;

use clap::ArgMatches;
use palisade_shim::Error;
use palisade_shim::monitor::{Client, Request};
use palisade_shim::state::{Entry, Known, Lock, Patience, Registry};

use crate::caller::Caller;
use crate::failure::Failure;
use crate::verb::{complain, print};
use crate::{data, volume};

/// docker's exit code where a verb fails on a sandbox.
const EXIT_FAILED: u8 = 1;

/// The sandboxes of the data directory that `--root` or the environment names.
pub fn registry(matches: &ArgMatches) -> Result<Registry, Failure> {
    let caller = Caller::read(false)?;
    let root = matches
        .get_one::<std::ffi::OsString>("root")
        .map(|root| caller.absolute(Path::new(root)));
    let data = data::directory(root.as_deref(), &caller)?;
    Ok(Registry::new(&data))
}

/// The sandboxes' ids, names and beginnings of ids that a verb was given.
pub fn named(matches: &ArgMatches) -> Vec<&str> {
    matches
        .get_many::<String>("SANDBOX")
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect()
}

/// What a verb says of a failure.
pub fn failure(error: &Error) -> Failure {
    Failure::new(error.to_string(), error.advice().unwrap_or_default()).with_code(EXIT_FAILED)
}

/// Does something to each sandbox and prints its name as it was typed; goes on after a failure, as docker does.
pub fn each(
    names: &[&str],
    mut action: impl FnMut(&str) -> Result<Option<String>, Failure>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match action(name) {
            Ok(Some(line)) => print(&format!("{line}\n"))?,
            Ok(None) => {}
            Err(failure) => {
                code = failure.code();
                complain(&failure);
            }
        }
    }
    Ok(code)
}

/// A connection to the monitor of a sandbox that somebody watches; none where nobody does.
///
/// Between the lock and the socket of a start lie a few milliseconds, in which there is nobody to ask yet.
pub fn connect(entry: &Entry) -> Result<Option<Client>, Error> {
    connect_while(entry, || entry.is_watched())
}

/// The same to the monitor of a sandbox that was started. One that is kept from removing itself has a monitor that nobody can
/// ask any more.
pub fn connect_to_started(entry: &Entry) -> Result<Option<Client>, Error> {
    connect_while(entry, || Ok(entry.state()?.status.is_live()))
}

fn connect_while(
    entry: &Entry,
    may_come: impl Fn() -> Result<bool, Error>,
) -> Result<Option<Client>, Error> {
    let mut patience = Patience::default();
    loop {
        if let Some(client) = Client::connect(entry)? {
            return Ok(Some(client));
        }
        if !may_come()? {
            return Ok(None);
        }
        patience.pause(entry)?;
    }
}

/// The record of a sandbox whose monitor, the process `monitor`, has closed its connection. One that was killed may still have
/// the lock then, and its sandbox would be said to run. None where it runs again, with another monitor.
pub fn settled(entry: &Entry, monitor: Option<i32>) -> Result<Option<Known>, Error> {
    let mut patience = Patience::default();
    loop {
        let known = entry.look()?;
        let state = &known.state;
        if !state.status.is_live() {
            return Ok(Some(known));
        }
        if state.monitor.is_some() && state.monitor != monitor {
            return Ok(None);
        }
        patience.pause(entry)?;
    }
}

/// Asks a sandbox to end, by this signal and with this time for it, else by its own. Whom to wait for then; none where it does
/// not run.
pub fn ask_to_stop(
    entry: &Entry,
    signal: Option<i32>,
    timeout: Option<Duration>,
) -> Result<Option<Client>, Error> {
    let Some(client) = connect(entry)? else {
        return Ok(None);
    };
    match client.send(Request::Stop { signal, timeout }) {
        // It ended before it could be asked.
        Ok(()) | Err(Error::MonitorGone { .. }) => Ok(Some(client)),
        Err(error) => Err(error),
    }
}

/// The same, and waits until nothing of it is left.
pub fn stop(entry: &Entry, signal: Option<i32>, timeout: Option<Duration>) -> Result<(), Error> {
    if let Some(client) = ask_to_stop(entry, signal, timeout)? {
        client.wait_for_end();
    }
    Ok(())
}

/// Removes a sandbox, a running one only by force, and with it the volumes that were made for it where that is asked for.
pub fn remove(
    registry: &Registry,
    entry: &Entry,
    force: bool,
    volumes: bool,
) -> Result<(), Failure> {
    const SIGKILL: i32 = 9;
    let lock = entry.lock_unless_live();
    let lock = match lock {
        // It removed itself.
        Err(Error::NoSuchSandbox { .. }) if force => return Ok(()),
        other => other.map_err(|error| failure(&error))?,
    };
    let lock = match lock {
        Some(lock) => lock,
        None if !force => {
            return Err(Failure::new(
                format!("sandbox {} is running", entry.short()),
                "palisade stop first, or palisade rm -f",
            )
            .with_code(EXIT_FAILED));
        }
        None => {
            stop(entry, Some(SIGKILL), Some(Duration::ZERO)).map_err(|error| failure(&error))?;
            match entry.wait_for_lock() {
                Ok(lock) => lock,
                // It removed itself.
                Err(Error::NoSuchSandbox { .. }) => return Ok(()),
                Err(error) => return Err(failure(&error)),
            }
        }
    };
    let config = entry.config();
    registry
        .remove(entry, &lock)
        .map_err(|error| failure(&error))?;
    match config {
        Ok(config) if volumes => volume::remove_of(registry, &config),
        _ => Ok(()),
    }
}

/// Removes a sandbox that could not be started, as soon as its monitor is done with it.
pub fn discard(registry: &Registry, entry: &Entry) -> Result<(), Failure> {
    match entry.wait_for_lock() {
        Ok(lock) => registry
            .remove(entry, &lock)
            .map_err(|error| failure(&error)),
        Err(Error::NoSuchSandbox { .. }) => Ok(()),
        Err(error) => Err(failure(&error)),
    }
}

/// A sandbox and its lock, to start it; none where it runs.
pub fn claim(entry: &Entry) -> Result<Option<(Known, Lock)>, Error> {
    let lock = entry.lock_unless_live()?;
    lock.map(|lock| Ok((entry.look()?, lock))).transpose()
}
