//! Other limits for a sandbox that exists: its record, from one state to another and back.

use std::fs::File;

use nix::fcntl::Flock;
use oci_spec::runtime::LinuxResources;
use palisade_runtime::Plan;
use serde::{Deserialize, Serialize};

use super::{Config, Entry, Limits, Registry, Restart, write};
use crate::Error;

/// What is to change: from `update` to whoever has the sandbox's lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The limits that become others; none where none does.
    pub resources: Option<LinuxResources>,
    /// The plan as it will be.
    pub plan: Plan,
    /// All limits as `inspect` will show them.
    pub limits: Limits,
    /// The restart policy, where it becomes another.
    pub restart: Option<Restart>,
}

/// A record that was changed, and what it was before.
#[derive(Debug)]
pub struct Changed {
    /// The configuration as it is now.
    pub config: Config,
    before: (Config, Plan),
}

impl Entry {
    /// Keeps other changes waiting until it is dropped: what is changed is read first.
    ///
    /// # Errors
    /// It is gone, or cannot be written.
    pub fn wait_to_change(&self) -> Result<Flock<File>, Error> {
        self.lock_file("change")
    }
}

impl Registry {
    /// Writes a change into a sandbox's record. For whoever has the sandbox's lock.
    ///
    /// # Errors
    /// It is gone, or cannot be written: then it is as it was.
    pub fn change(&self, entry: &Entry, change: &Change) -> Result<Changed, Error> {
        // Its name is in the same file, and may become another meanwhile.
        let _names = self.hold_names()?;
        let before = (entry.config()?, entry.plan()?);
        let mut config = before.0.clone();
        config.limits = change.limits.clone();
        config.restart = change.restart.unwrap_or(config.restart);
        let changed = Changed { config, before };
        let written = write(&entry.directory, "plan.json", &change.plan)
            .and_then(|()| write(&entry.directory, "config.json", &changed.config));
        match written {
            Ok(()) => Ok(changed),
            Err(error) => {
                // The first failure is the one to report.
                let _ = restore(entry, &changed);
                Err(error)
            }
        }
    }

    /// Writes what was before; a name that it was given since is kept.
    ///
    /// # Errors
    /// It is gone, or cannot be written.
    pub fn take_back(&self, entry: &Entry, changed: &Changed) -> Result<(), Error> {
        let _names = self.hold_names()?;
        restore(entry, changed)
    }
}

fn restore(entry: &Entry, changed: &Changed) -> Result<(), Error> {
    let (before, plan) = &changed.before;
    let planned = write(&entry.directory, "plan.json", plan);
    let mut config = entry.config()?;
    config.limits = before.limits.clone();
    config.restart = before.restart;
    planned.and(write(&entry.directory, "config.json", &config))
}
