//! `palisade attach`, and `start -a`.

use std::ffi::OsString;

use clap::ArgMatches;
use palisade_shim::log::{Reader, Wanted};
use palisade_shim::monitor::{Attachment, LEAVE, Left};
use palisade_shim::state::Entry;

use crate::failure::{Failure, reason};
use crate::request;
use crate::sandboxes::{connect, failure, registry};

/// Shows a running sandbox's output, and passes on keys and signals, until it ends.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let name = matches
        .get_one::<String>("SANDBOX")
        .cloned()
        .unwrap_or_default();
    let entry = registry.find(&name).map_err(|error| failure(&error))?;
    let state = entry.state().map_err(|error| failure(&error))?;
    if !state.status.is_live() {
        return Err(Failure::new(
            format!("sandbox {name} is not running"),
            format!("palisade start -a {name}, or palisade logs {name}"),
        )
        .with_code(1));
    }
    let leave = keys(matches)?;
    around(&entry, !matches.get_flag("no-stdin"), &leave, || Ok(()))
}

/// `--detach-keys`, else docker's.
pub fn keys(matches: &ArgMatches) -> Result<Vec<u8>, Failure> {
    let typed = matches.get_one::<OsString>("detach-keys");
    let keys = typed.map(|typed| request::detach_keys("--detach-keys", typed));
    let keys = keys.transpose().map_err(|failure| failure.with_code(1))?;
    Ok(keys.flatten().unwrap_or_else(|| LEAVE.to_vec()))
}

/// Attaches to a sandbox that `start` brings up, so that nothing it writes is missed.
pub fn around(
    entry: &Entry,
    input: bool,
    leave: &[u8],
    start: impl FnOnce() -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let directory = entry.directory.join("log");
    let unreadable = |error: std::io::Error| {
        let why = reason(&error);
        Failure::new(
            format!("cannot read the log of {}: {why}", entry.short()),
            "",
        )
        .with_code(1)
    };
    let log = Reader::open(&directory, Wanted::default(), true).map_err(unreadable)?;
    // Until its exit code is known, even if it removes itself.
    let _held = entry.hold().map_err(|error| failure(&error))?;
    start()?;
    let known = entry.look().map_err(|error| failure(&error))?;
    if !directory.exists() {
        return Err(Failure::new(
            format!("sandbox {} keeps no log, which attach shows", entry.short()),
            "a sandbox made with -d and without --log-driver none",
        )
        .with_code(1));
    }
    let Some(client) = connect(entry).map_err(|error| failure(&error))? else {
        // It has ended already: what it wrote is in its log.
        return crate::logs::copy(log, false).map(|()| known.exit_code());
    };
    let input = input && known.config.interactive;
    let attachment = Attachment {
        known: &known,
        client: &client,
        log,
        input,
        leave,
    };
    match attachment.run().map_err(|error| failure(&error))? {
        Left::Ended(Some(code)) => Ok(code),
        Left::Ended(None) => {
            let known = entry.look().map_err(|error| failure(&error))?;
            Ok(known.exit_code())
        }
        Left::Detached => Ok(0),
    }
}
