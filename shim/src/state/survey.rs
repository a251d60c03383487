//! Looking at all sandboxes at once, and removing what killed commands left of others.
//!
//! Hundreds may live: what is looked at for each of them is two files and a lock, and a look that finds everything in order
//! asks nothing twice.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use nix::fcntl::FlockArg;
use palisade_runtime::cgroup;

use super::{ID_DIGITS, Known, PASSING, Registry, Status, failed, flock};
use crate::{Error, cleanup};

/// Every sandbox, the newest first, and why some could not be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that could be read.
    pub sandboxes: Vec<Known>,
    /// What was wrong with the others.
    pub problems: Vec<Error>,
}

impl Registry {
    /// Every sandbox, the newest first. Those that go with their end (`--rm`) and whose monitor was killed are removed.
    ///
    /// # Errors
    /// The directory of the sandboxes cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.entry(&id).known() {
                Ok(Some(known)) if known.is_over() => {
                    // Whoever is faster removes it.
                    if let Err(error) = self.remove_dead(&known) {
                        listing.problems.push(error);
                    }
                }
                Ok(Some(known)) => listing.sandboxes.push(known),
                // Gone meanwhile, or the writable layer of a run that nobody registered.
                Ok(None) => {}
                Err(error) => listing.problems.push(error),
            }
        }
        listing
            .sandboxes
            .sort_by_key(|known| std::cmp::Reverse(known.config.created));
        Ok(listing)
    }

    fn remove_dead(&self, known: &Known) -> Result<(), Error> {
        match known.entry.lock()? {
            Some(lock) => self.remove(&known.entry, &lock),
            None => Ok(()),
        }
    }

    /// The same once what killed commands left is removed, as [`Registry::sweep`] does, without asking about each sandbox anew
    /// what the list just told: names that some sandbox has, and control groups of those that are watched, are not looked at.
    ///
    /// # Errors
    /// The directory of the sandboxes cannot be read.
    pub fn survey(&self) -> Result<Listing, Error> {
        // What cannot be removed is not the list's failure.
        let _ = self.sweep_directories();
        let listing = self.list()?;
        let names: BTreeSet<&str> = listing.sandboxes.iter().map(|k| &*k.config.name).collect();
        if self.has_names_beside(&names) {
            let _ = self.sweep_names();
        }
        for known in &listing.sandboxes {
            // A start that has the lock makes its own where this one was. Without need nobody finds it taken.
            if known.state.status == Status::Dead
                && known.entry.has_cgroup()
                && let Ok(Some(lock)) = known.entry.lock()
            {
                known.entry.remove_cgroup(&lock, Duration::ZERO);
            }
        }
        let live = listing
            .sandboxes
            .iter()
            .filter(|k| k.state.status.is_live());
        let live: BTreeSet<&str> = live.map(|known| &*known.config.id).collect();
        let _ = cgroup::remove_abandoned_but(|id| live.contains(id));
        Ok(listing)
    }

    /// Removes what killed commands left: directories, names, control groups. It looks at every sandbox, so it is for
    /// commands that look around and not for a start.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn sweep(&self) -> Result<(), Error> {
        self.sweep_directories()?;
        self.sweep_names()?;
        // What cannot be removed or is not old enough is the next one's.
        let _ = cgroup::remove_abandoned();
        Ok(())
    }

    /// Removes half-made and half-removed directories.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn sweep_directories(&self) -> Result<(), Error> {
        let parent = self.sandboxes();
        let Ok(looking) = flock(&parent, FlockArg::LockExclusiveNonblock) else {
            // There is none yet, or somebody makes one just now: another time.
            return Ok(());
        };
        let mut left = Vec::new();
        for entry in parent.read_dir().map_err(failed("read", &parent))? {
            let path = entry.map_err(failed("read", &parent))?.path();
            let passing = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(PASSING.as_bytes()));
            if passing && let Ok(lock) = flock(&path, FlockArg::LockExclusiveNonblock) {
                left.push((path, lock));
            }
        }
        drop(looking);
        for (path, _lock) in left {
            cleanup::remove(&path).map_err(|errno| Error::Cleanup {
                path: path.clone(),
                source: errno.into(),
            })?;
        }
        Ok(())
    }

    /// The ids of the directories there are; some may be no sandbox's.
    pub(super) fn ids(&self) -> Result<Vec<String>, Error> {
        let parent = self.sandboxes();
        let entries = match parent.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &parent))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &parent))?.file_name();
            if let Ok(id) = name.into_string()
                && id.len() == ID_DIGITS
                && !id.contains('-')
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}
