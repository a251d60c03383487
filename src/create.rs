//! `palisade create`, and what `run` does for a sandbox that has a record.

use std::ffi::OsString;
use std::io;

use palisade_shim::state::{Known, Lock, Registry};
use palisade_shim::{Error, monitor, supervise};

use crate::caller::Caller;
use crate::cli::{self, render};
use crate::failure::Failure;
use crate::request::Request;
use crate::run::{Cidfile, Ready, prepare};
use crate::sandboxes;
use crate::verb::{print, tell};
use crate::{attach, diagnosis, dry_run, record, volume};

/// Makes a sandbox without starting it and prints its id.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let arguments = cli::run::parse("create", args)?;
    if arguments.help {
        let help = render::create_verb()
            .bin_name("palisade create")
            .render_help();
        return print(&help.to_string()).map(|()| 0);
    }
    let ranges =
        arguments.userns.is_some() || arguments.user.is_some() || !arguments.group_add.is_empty();
    let caller = Caller::read(ranges)?;
    let mut request = Request::new(arguments, &caller)?;
    request.life.detach = true;
    if request.receipt.is_asked_for() {
        return Err(Failure::new(
            "palisade create runs nothing, and a receipt is of a run",
            "palisade run -d with --receipt or --receipt-log",
        ));
    }
    let ready = prepare(&request, caller)?;
    if request.dry_run {
        return print(&dry_run::text(&ready.resolved)?).map(|()| 0);
    }
    if !request.quiet {
        tell("note", &ready.notes());
    }
    let cidfile = Cidfile::write(request.cidfile.as_deref(), &ready.resolved.plan.id)?;
    let (known, _lock) = register(&request, &ready)?;
    cidfile.keep();
    print(&format!("{}\n", known.entry.id)).map(|()| 0)
}

/// Makes the sandbox's record and locks it.
pub fn register(request: &Request, ready: &Ready) -> Result<(Known, Lock), Failure> {
    let registry = Registry::new(&ready.data);
    // From here to the record, which says that the sandbox has them.
    let volumes = ready.make_sources(request.quiet)?;
    // What a killed command left is nobody's: it goes, and what cannot be removed is not this command's failure.
    let _ = registry.sweep_directories();
    if request.life.replace {
        let Some(name) = &request.name else {
            return Err(Failure::new(
                "--replace needs the name of what it replaces",
                "--name NAME --replace",
            ));
        };
        if let Some(entry) = registry.named(name).map_err(|error| failed(&error))? {
            sandboxes::remove(&registry, &entry, true, false)?;
        }
    }
    let config = record::config(
        request,
        &ready.policy.name,
        ready.image.as_ref(),
        &ready.resolved,
    );
    let made = registry.create(config, &ready.resolved.plan);
    let (known, lock) = made.map_err(|error| {
        drop(volumes);
        volume::forget(&ready.resolved.volumes);
        failed(&error)
    })?;
    if let Err(failure) = ready.make_volumes(request.quiet) {
        registry
            .remove(&known.entry, &lock)
            .map_err(|error| failed(&error))?;
        return Err(failure);
    }
    Ok((known, lock))
}

/// Starts a registered sandbox with a monitor of its own and prints its id.
pub fn detach(
    request: &Request,
    ready: &Ready,
    options: &supervise::Options,
) -> Result<u8, Failure> {
    use std::io::Write;
    let (known, lock) = register(request, ready)?;
    let registry = Registry::new(&ready.data);
    let entry = known.entry.clone();
    // What is written later would be written by two processes.
    let _ = io::stdout().flush();
    let started = monitor::start(&registry, known, lock, &ready.resolved.plan, options)
        .map_err(|error| failed(&error))?;
    match started {
        Ok(()) => print(&format!("{}\n", entry.id)).map(|()| 0),
        Err(refusal) => {
            // A sandbox that never ran is no use to anybody.
            sandboxes::discard(&registry, &entry)?;
            volume::forget(&ready.resolved.volumes);
            Err(Failure::new(refusal.message, refusal.advice).with_code(refusal.code))
        }
    }
}

/// Starts a registered sandbox with a monitor of its own and attaches to it, so that it can be left (`--detach-keys`).
pub fn attach(
    request: &Request,
    ready: &Ready,
    options: &supervise::Options,
    leave: &[u8],
) -> Result<u8, Failure> {
    let (known, lock) = register(request, ready)?;
    let registry = Registry::new(&ready.data);
    let entry = known.entry.clone();
    let mut refused = false;
    let caller = attach::Caller {
        input: true,
        leave,
        signals: true,
    };
    let result = attach::around(&entry, &caller, || {
        monitor::start(&registry, known, lock, &ready.resolved.plan, options)
            .map_err(|error| failed(&error))?
            .map_err(|refusal| {
                refused = true;
                Failure::new(refusal.message, refusal.advice).with_code(refusal.code)
            })
    });
    if refused {
        sandboxes::discard(&registry, &entry)?;
        volume::forget(&ready.resolved.volumes);
    }
    result
}

fn failed(error: &Error) -> Failure {
    diagnosis::failure(error)
}
