//! `palisade attach`, and `start -a`.

use std::ffi::OsString;

use clap::ArgMatches;
use palisade_runtime::Exit;
use palisade_shim::log::{Reader, Wanted};
use palisade_shim::monitor::{Attachment, LEAVE, Left};
use palisade_shim::state::{Entry, Hold, Known};

use crate::failure::{Failure, reason};
use crate::request;
use crate::sandboxes::{connect_to_started, failure, registry, settled};

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
    let caller = Caller {
        input: !matches.get_flag("no-stdin"),
        leave: &leave,
        signals: matches.get_flag("sig-proxy"),
    };
    around(&entry, &caller, || Ok(()))
}

/// What of the caller's is connected.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Whether standard input goes to the command, where that has one.
    pub input: bool,
    /// The keys that leave the command running.
    pub leave: &'a [u8],
    /// Whether signals go to the command (`--sig-proxy`).
    pub signals: bool,
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
    caller: &Caller<'_>,
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
    let held = entry.hold().map_err(|error| failure(&error))?;
    start()?;
    let known = entry.look().map_err(|error| failure(&error))?;
    if !directory.exists() {
        return Err(Failure::new(
            format!("sandbox {} keeps no log, which attach shows", entry.short()),
            "a sandbox made with -d and without --log-driver none",
        )
        .with_code(1));
    }
    let Some(client) = connect_to_started(entry).map_err(|error| failure(&error))? else {
        // It has ended already: what it wrote is in its log.
        crate::logs::copy(log, false)?;
        return ended(entry, &known, held, None);
    };
    let attachment = Attachment {
        known: &known,
        client: &client,
        log,
        input: caller.input && known.config.interactive,
        leave: caller.leave,
        signals: caller.signals,
    };
    match attachment.run().map_err(|error| failure(&error))? {
        Left::Ended(code) => ended(entry, &known, held, code),
        Left::Detached => Ok(0),
        Left::Interrupted(signal) => Ok(Exit::Signal(signal).status()),
    }
}

/// The exit code of one that has ended, and that was `before` when it ran; its monitor may have said `code`. One that removes
/// itself is gone when this returns.
fn ended(entry: &Entry, before: &Known, held: Hold, code: Option<u8>) -> Result<u8, Failure> {
    // One that restarts may run again by now, with the same monitor.
    let settled = match code {
        Some(_) => None,
        None => settled(entry, before.state.monitor).map_err(|error| failure(&error))?,
    };
    let known = match settled {
        Some(known) => known,
        None => entry.look().map_err(|error| failure(&error))?,
    };
    // What is being started again is not waited for.
    let over = !entry.is_restarting() && !known.state.status.is_live();
    if known.config.auto_remove && over {
        held.let_go();
    }
    Ok(code.unwrap_or_else(|| known.exit_code()))
}
