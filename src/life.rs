//! `palisade start`, `stop`, `restart`, `kill`, `wait`, `rm` and `rename`: the life of a sandbox that has a record.

use std::ffi::OsString;
use std::time::Duration;

use clap::ArgMatches;
use palisade_shim::monitor::{self, Answer, Client, Request};
use palisade_shim::state::{Entry, Registry};
use palisade_shim::{Error, supervise};

use crate::attach;
use crate::failure::Failure;
use crate::request;
use crate::sandboxes::{self, ask_to_stop, claim, connect, each, failure, named, registry};
use crate::verb::{complain, tell};

/// `palisade start`.
pub fn start(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let names = named(matches);
    let attached = matches.get_flag("attach") || matches.get_flag("interactive");
    if let ([name], true) = (names.as_slice(), attached) {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        let leave = attach::keys(matches)?;
        let input = matches.get_flag("interactive");
        let passing = entry.config().is_ok_and(|config| config.auto_remove);
        let mut refused = false;
        let caller = attach::Caller {
            input,
            leave: &leave,
            signals: matches.get_flag("sig-proxy"),
        };
        let result = attach::around(&entry, &caller, || {
            launch(&registry, &entry).inspect_err(|_| refused = true)
        });
        if refused && passing {
            sandboxes::discard(&registry, &entry)?;
        }
        return result;
    }
    if attached {
        return Err(Failure::new(
            "start -a shows the output of one sandbox",
            "palisade start -a NAME",
        ));
    }
    each(&names, |name| {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        launch(&registry, &entry)?;
        Ok(Some(name.to_owned()))
    })
}

/// Starts a sandbox that has a record, unless it runs.
pub fn launch(registry: &Registry, entry: &Entry) -> Result<(), Failure> {
    let Some((mut known, lock)) = claim(entry).map_err(|error| failure(&error))? else {
        return Ok(());
    };
    let plan = entry.plan().map_err(|error| failure(&error))?;
    known.config.foreground = false;
    let options = supervise::Options::default();
    monitor::start(registry, known, lock, &plan, &options)
        .map_err(|error| failure(&error))?
        .map_err(|refusal| Failure::new(refusal.message, refusal.advice).with_code(refusal.code))
}

/// `-t` or `--time`: how long the command has between the stop signal and SIGKILL.
fn patience(matches: &ArgMatches) -> Result<Option<Duration>, Failure> {
    matches
        .get_one::<OsString>("time")
        .map(|typed| request::stop_timeout("--time", typed))
        .transpose()
}

/// `-s` or `--signal`.
fn signal(matches: &ArgMatches) -> Result<Option<i32>, Failure> {
    let Some(typed) = matches.get_one::<String>("signal") else {
        return Ok(None);
    };
    let number = request::signal(typed).ok_or_else(|| {
        Failure::new(
            format!("--signal {typed} is no signal"),
            "--signal TERM, or a number from 1 to 64",
        )
    })?;
    Ok(Some(number))
}

/// `palisade stop`. All are asked first and waited for then.
pub fn stop(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let (timeout, signal) = (patience(matches)?, signal(matches)?);
    let mut asked: Vec<(&str, Option<Client>)> = Vec::new();
    let mut code = 0;
    for name in named(matches) {
        let entry = registry.find(name);
        match entry.and_then(|entry| ask_to_stop(&entry, signal, timeout)) {
            Ok(client) => asked.push((name, client)),
            Err(error) => {
                let failure = failure(&error);
                code = failure.code();
                complain(&failure);
            }
        }
    }
    for (name, client) in asked {
        if let Some(client) = client {
            client.wait_for_end();
        }
        crate::verb::print(&format!("{name}\n"))?;
    }
    Ok(code)
}

/// `palisade restart`.
pub fn restart(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let (timeout, signal) = (patience(matches)?, signal(matches)?);
    each(&named(matches), |name| {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        // What is to be removed at its end stays for this one, as with docker.
        let restarting = entry.restarting().map_err(|error| failure(&error))?;
        sandboxes::stop(&entry, signal, timeout).map_err(|error| failure(&error))?;
        launch(&registry, &entry)?;
        drop(restarting);
        if let Ok(config) = entry.config() {
            registry.events().record("restart", &config, &[]);
        }
        Ok(Some(name.to_owned()))
    })
}

/// `palisade kill`.
pub fn kill(matches: &ArgMatches) -> Result<u8, Failure> {
    const SIGKILL: i32 = 9;
    let registry = registry(matches)?;
    let signal = signal(matches)?.unwrap_or(SIGKILL);
    each(&named(matches), |name| {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        let client = connect(&entry).map_err(|error| failure(&error))?;
        let Some(client) = client else {
            return Err(Failure::new(
                format!("sandbox {name} is not running"),
                "palisade ps -a, which says how it ended",
            )
            .with_code(1));
        };
        client
            .ask(Request::Signal(signal))
            .map_err(|error| failure(&error))?;
        if signal == SIGKILL {
            // As with docker, it is gone when this returns.
            client.wait_for_end();
        }
        Ok(Some(name.to_owned()))
    })
}

/// `palisade wait`.
pub fn wait(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    each(&named(matches), |name| {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        let code = end_of(&entry).map_err(|error| failure(&error))?;
        Ok(Some(code.to_string()))
    })
}

/// Waits for the end of a sandbox's command and returns its exit code.
pub fn end_of(entry: &Entry) -> Result<u8, Error> {
    loop {
        let monitor = entry.state()?.monitor;
        let Some(client) = connect(entry)? else {
            return Ok(entry.look()?.exit_code());
        };
        match client.send(Request::Wait).and_then(|()| client.receive()) {
            Ok(Some((Answer::Exited(code), _))) => return Ok(code),
            // Its monitor ended or was killed: the record says how it came out.
            Ok(_) | Err(Error::MonitorGone { .. }) => {
                if let Some(known) = sandboxes::settled(entry, monitor)? {
                    return Ok(known.exit_code());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// `palisade rm`.
pub fn remove(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let (force, volumes) = (matches.get_flag("force"), matches.get_flag("volumes"));
    let _ = registry.sweep();
    each(&named(matches), |name| {
        match registry.find(name) {
            Ok(entry) => sandboxes::remove(&registry, &entry, force, volumes)?,
            // docker's `rm -f` is content with what is gone already, and says so.
            Err(error @ Error::NoSuchSandbox { .. }) if force => {
                tell("note", &[error.to_string()]);
                return Ok(None);
            }
            Err(error) => return Err(failure(&error)),
        }
        Ok(Some(name.to_owned()))
    })
}

/// `palisade rename`.
pub fn rename(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let name = request::sandbox_name("the new name", text("NAME").into())?;
    let entry = registry
        .find(&text("SANDBOX"))
        .map_err(|error| failure(&error))?;
    registry
        .rename(&entry, &name)
        .map_err(|error| match &error {
            Error::NameTaken { name, .. } => Failure::new(
                error.to_string(),
                format!("another name, or palisade rm -f {name} before"),
            )
            .with_code(1),
            _ => failure(&error),
        })?;
    Ok(0)
}
