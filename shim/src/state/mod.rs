//! The sandboxes there are: a directory each, and nothing else that knows of them.
//!
//! ```text
//! <data>/sandboxes/<id>/config.json   what it was made as: [`Config`]
//!                       plan.json     the [`Plan`] that `start` launches
//!                       state.json    what it is doing: [`State`], rewritten by rename at each transition
//!                       health.json   the last five health checks: [`Check`]
//!                       lock          locked by whoever watches it: [`Lock`]
//!                       control       that process's socket
//!                       restart       locked by whoever stops it to start it again
//!                       exit          the command's wait status, written by PID 1 itself
//!                       log           its output, in numbered files
//!                       upper, work   its writable layer, where that is on disk
//! <data>/names/<name>                 a symbolic link whose target is the id: making it claims the name
//! <data>/events                       what happened, one JSON object a line
//! ```
//!
//! A directory appears and goes by rename; before and after that its name begins with `passing-`, and whoever finds such a
//! directory unlocked may remove it. Everything lives on the same file system, so that two shells with different
//! environments cannot disagree on what runs.

mod change;
mod config;
mod entry;
mod events;
mod follow;
mod lock;
mod names;
mod status;
mod survey;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use palisade_runtime::Plan;
use serde::Serialize;

pub use change::{Change, Changed};
pub use config::{Config, Health, Image, Limits, LogOptions, Mount, Restart};
pub use entry::{Entry, Hold, Patience};
pub use events::{Event, Events};
pub use follow::Follower;
pub use lock::Lock;
pub use status::{Check, Exited, Healthiness, State, Status, Verdict};
pub use survey::Listing;

use crate::{Error, cleanup};

/// What the names of directories begin with that nobody will miss.
pub const PASSING: &str = "passing-";

/// Digits of a whole id.
const ID_DIGITS: usize = 64;

/// All sandboxes below one data directory.
#[derive(Clone, Debug)]
pub struct Registry {
    data: PathBuf,
}

/// A sandbox as `ps` sees it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which one.
    pub entry: Entry,
    /// What it was made as.
    pub config: Config,
    /// What it is doing.
    pub state: State,
}

impl Registry {
    /// The sandboxes below a data directory, which need not exist yet.
    pub fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the sandbox `id` lies, whether it exists or not.
    pub fn directory(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    /// What happens to sandboxes.
    pub fn events(&self) -> Events {
        Events::new(self.data.join("events"))
    }

    fn sandboxes(&self) -> PathBuf {
        self.data.join("sandboxes")
    }

    /// Makes a sandbox and locks it for the caller. Its name is `config.name`, or where that is empty one that nobody has.
    ///
    /// A plan whose writable layer is on disk must name [`Registry::directory`] of this id; its two directories are made.
    ///
    /// # Errors
    /// [`Error::NameTaken`], and what could not be written. Nothing of the sandbox exists then.
    pub fn create(&self, mut config: Config, plan: &Plan) -> Result<(Known, Lock), Error> {
        let parent = self.sandboxes();
        make(&parent, 0o700)?;
        make(&self.names(), 0o700)?;
        // Nobody looks for what is left while a directory is there and not yet locked.
        let making = flock(&parent, FlockArg::LockShared)?;
        let passing = parent.join(format!("{PASSING}{}", config.id));
        make(&passing, 0o700)?;
        let held = flock(&passing, FlockArg::LockExclusive)?;
        drop(making);
        let mut made = Made(Some(&passing));
        if let palisade_runtime::Root::Overlay {
            upper: palisade_runtime::Upper::Directory(_),
            ..
        } = plan.root
        {
            make(&passing.join("upper"), 0o755)?;
            make(&passing.join("work"), 0o755)?;
        }
        write(&passing, "plan.json", plan)?;
        write(&passing, "state.json", &State::default())?;
        let lock = Lock::take(open_lock(&passing, true)?)
            .map_err(|errno| failed("lock", &passing)(errno.into()))?
            .ok_or_else(|| Error::Busy {
                id: config.id.clone(),
            })?;
        let directory = self.directory(&config.id);
        self.claim(&mut config, |config| {
            write(&passing, "config.json", config)?;
            fs::rename(&passing, &directory).map_err(failed("make", &directory))
        })?;
        made.0 = None;
        drop(held);
        let entry = Entry {
            id: config.id.clone(),
            directory,
        };
        self.events().record("create", &config, &[]);
        let state = State::default();
        let known = Known {
            entry,
            config,
            state,
        };
        Ok((known, lock))
    }

    /// The sandbox with this id, name, or beginning of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchSandbox`], or [`Error::Ambiguous`] for a beginning that several have.
    pub fn find(&self, what: &str) -> Result<Entry, Error> {
        let hexadecimal = !what.is_empty()
            && what
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hexadecimal && what.len() == ID_DIGITS {
            let entry = self.entry(what);
            if entry.exists() {
                return Ok(entry);
            }
        }
        if let Some(id) = self.id_of(what) {
            let entry = self.entry(&id);
            if entry.exists() {
                return Ok(entry);
            }
        }
        let missing = || Error::NoSuchSandbox { what: what.into() };
        if !hexadecimal || what.len() >= ID_DIGITS {
            return Err(missing());
        }
        let mut found = None;
        for id in self.ids()?.into_iter().filter(|id| id.starts_with(what)) {
            let entry = self.entry(&id);
            if entry.exists() && found.replace(entry).is_some() {
                return Err(Error::Ambiguous { what: what.into() });
            }
        }
        found.ok_or_else(missing)
    }

    /// Removes a sandbox whose lock the caller has: its name is free and it is nowhere listed when this returns.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self, entry: &Entry, lock: &Lock) -> Result<(), Error> {
        let held = flock(&entry.directory, FlockArg::LockExclusive)?;
        self.remove_held(entry, lock, held)
    }

    /// The same, unless somebody has it by [`Entry::hold`]: then nothing is done, and the result is false.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_unless_kept(&self, entry: &Entry, lock: &Lock) -> Result<bool, Error> {
        let directory = File::open(&entry.directory).map_err(failed("open", &entry.directory))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(held) => self.remove_held(entry, lock, held).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn remove_held(&self, entry: &Entry, lock: &Lock, held: Flock<File>) -> Result<(), Error> {
        let config = entry.config();
        entry.remove_cgroup(lock, Duration::from_secs(2));
        let passing = self.sandboxes().join(format!("{PASSING}{}", entry.id));
        match fs::rename(&entry.directory, &passing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed("remove", &entry.directory))?,
        }
        if let Ok(config) = &config {
            self.release(&config.name, &entry.id)?;
            self.events().record("destroy", config, &[]);
        }
        cleanup::remove(&passing).map_err(|errno| Error::Cleanup {
            path: passing.clone(),
            source: errno.into(),
        })?;
        drop(held);
        Ok(())
    }

    fn entry(&self, id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            directory: self.directory(id),
        }
    }
}

impl Known {
    /// Whether it should have been removed at its end, and its monitor did not get to it.
    fn is_over(&self) -> bool {
        let ended = matches!(self.state.status, Status::Dead | Status::Exited);
        ((self.config.auto_remove && ended)
            || (self.config.is_expired() && !self.state.status.is_live()))
            && !self.entry.is_watched().unwrap_or(true)
            && !self.entry.is_restarting()
    }

    /// The exit code to report: of a sandbox whose end nobody saw, that of SIGKILL.
    pub fn exit_code(&self) -> u8 {
        match (&self.state.exit, self.state.status) {
            (Some(exit), _) => exit.code,
            (None, Status::Dead) => 137,
            (None, _) => 0,
        }
    }
}

/// A directory that goes again unless it is published.
struct Made<'a>(Option<&'a Path>);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // What stays is removed by the next sweep.
            let _ = cleanup::remove(path);
        }
    }
}

fn make(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed("make", path))
}

fn flock(directory: &Path, how: FlockArg) -> Result<Flock<File>, Error> {
    let file = File::open(directory).map_err(failed("open", directory))?;
    Flock::lock(file, how).map_err(|(_, errno)| failed("lock", directory)(errno.into()))
}

fn open_lock(directory: &Path, create: bool) -> Result<File, Error> {
    let path = directory.join("lock");
    File::options()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(&path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoSuchSandbox {
                what: directory
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            },
            _ => failed("open", &path)(error),
        })
}

/// Writes a document so that a reader sees the old or the new one, whole.
fn write(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let path = directory.join(name);
    let text = serde_json::to_vec(value).map_err(|error| Error::Broken {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let beside = directory.join(format!("{name}.new"));
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(failed("write", &path))
}

/// For `map_err`: what was being done, to what.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
