//! The sandboxes there are: a directory each, and nothing else that knows of them.
//!
//! ```text
//! <data>/sandboxes/<id>/config.json   what it was made as: [`Config`]
//!                       plan.json     the [`Plan`] that `start` launches
//!                       state.json    what it is doing: [`State`], rewritten by rename at each transition
//!                       health.json   the last five health checks: [`Check`]
//!                       lock          locked by whoever watches it: [`Lock`]
//!                       control       that process's socket
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
mod events;
mod follow;
mod lock;
mod names;
mod status;
mod survey;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use palisade_runtime::{Exit, Plan};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use change::{Change, Changed};
pub use config::{Config, Health, Image, Limits, LogOptions, Mount, Restart};
pub use events::{Event, Events};
pub use follow::Follower;
pub use lock::Lock;
pub use status::{Check, Exited, Healthiness, State, Status, Verdict};
pub use survey::Listing;

use crate::outcome;
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

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its directory.
    pub directory: PathBuf,
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
    pub fn remove(&self, entry: &Entry, _lock: &Lock) -> Result<(), Error> {
        let held = flock(&entry.directory, FlockArg::LockExclusive)?;
        self.remove_held(entry, held)
    }

    /// The same, unless somebody has it by [`Entry::hold`]: then nothing is done, and the result is false.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_unless_kept(&self, entry: &Entry, _lock: &Lock) -> Result<bool, Error> {
        let directory = File::open(&entry.directory).map_err(failed("open", &entry.directory))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(held) => self.remove_held(entry, held).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn remove_held(&self, entry: &Entry, held: Flock<File>) -> Result<(), Error> {
        let config = entry.config();
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

impl Entry {
    fn exists(&self) -> bool {
        self.directory.join("config.json").exists()
    }

    /// The first twelve digits of the id, as it is shown.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// What it was made as.
    ///
    /// # Errors
    /// It is gone, or the file is broken.
    pub fn config(&self) -> Result<Config, Error> {
        self.read("config.json")?.ok_or_else(|| self.gone())
    }

    /// What `start` launches.
    ///
    /// # Errors
    /// It is gone, or the file is broken.
    pub fn plan(&self) -> Result<Plan, Error> {
        self.read("plan.json")?.ok_or_else(|| self.gone())
    }

    /// What it is doing, with a monitor that was killed seen through: then the status is [`Status::Dead`], or
    /// [`Status::Exited`] where PID 1 could still write down how the command ended.
    ///
    /// # Errors
    /// It is gone, or a file is broken.
    pub fn state(&self) -> Result<State, Error> {
        let mut state: State = self.read("state.json")?.ok_or_else(|| self.gone())?;
        if state.status.is_live() && !self.is_watched()? {
            // The monitor may have written its last words between the two looks.
            state = self.read("state.json")?.ok_or_else(|| self.gone())?;
            if state.status.is_live() {
                self.bury(&mut state);
            }
        }
        Ok(state)
    }

    /// What is left to say of a sandbox whose monitor was killed.
    fn bury(&self, state: &mut State) {
        state.pid = None;
        state.monitor = None;
        state.cgroup = None;
        state.exit = self.last_exit();
        state.status = match state.exit {
            Some(_) => Status::Exited,
            None => Status::Dead,
        };
        if state.exit.is_none() {
            state.error = Some(
                "its monitor was killed or the machine stopped; nothing of it runs any more".into(),
            );
        }
    }

    /// The wait status that PID 1 wrote, where it got to.
    pub(crate) fn recorded_exit(&self) -> Option<Exit> {
        let bytes = fs::read(self.directory.join("exit")).ok()?;
        let status = i32::from_ne_bytes(bytes.try_into().ok()?);
        Some(Exit::from_wait_status(status))
    }

    /// The same as a state has it.
    fn last_exit(&self) -> Option<Exited> {
        let exit = self.recorded_exit()?;
        let path = self.directory.join("exit");
        let finished = path.metadata().and_then(|file| file.modified());
        let (code, reason, _) = outcome::classify(exit, &outcome::Circumstances::default());
        Some(Exited {
            code,
            reason: reason.as_str().to_owned(),
            finished: finished.unwrap_or_else(|_| SystemTime::now()),
        })
    }

    /// Whether somebody holds its lock: a monitor, or a command that starts or removes it.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_watched(&self) -> Result<bool, Error> {
        let path = self.directory.join("lock");
        match File::open(&path) {
            Ok(file) => {
                Lock::is_held(&file).map_err(|errno| failed("look at", &path)(errno.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Takes its lock; none where somebody has it.
    ///
    /// # Errors
    /// It is gone, or cannot be locked.
    pub fn lock(&self) -> Result<Option<Lock>, Error> {
        let lock = Lock::take(open_lock(&self.directory, false)?)
            .map_err(|errno| failed("lock", &self.directory)(errno.into()))?;
        lock.map(|lock| self.still_there(lock)).transpose()
    }

    /// Keeps it from being removed, by itself too.
    ///
    /// # Errors
    /// It is gone.
    pub fn hold(&self) -> Result<Hold, Error> {
        let watched = open_lock(&self.directory, false)?;
        let kept = flock(&self.directory, FlockArg::LockShared).map_err(|_| self.gone())?;
        Ok(Hold { kept, watched })
    }

    /// Takes its lock as soon as it is free.
    ///
    /// # Errors
    /// It is gone, or cannot be locked.
    pub fn wait_for_lock(&self) -> Result<Lock, Error> {
        let lock = Lock::wait(open_lock(&self.directory, false)?)
            .map_err(|errno| failed("lock", &self.directory)(errno.into()))?;
        self.still_there(lock)
    }

    /// A lock is worth nothing if its sandbox was removed before it was had.
    fn still_there(&self, lock: Lock) -> Result<Lock, Error> {
        let path = self.directory.join("lock");
        let named = path.metadata().map_err(|_| self.gone())?;
        let held = lock.file().metadata().map_err(failed("look at", &path))?;
        if (named.dev(), named.ino()) == (held.dev(), held.ino()) {
            Ok(lock)
        } else {
            Err(self.gone())
        }
    }

    /// Writes what it is doing. For whoever has the lock.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_state(&self, state: &State) -> Result<(), Error> {
        write(&self.directory, "state.json", state)
    }

    /// The last health checks, the oldest first.
    ///
    /// # Errors
    /// The file is broken.
    pub fn checks(&self) -> Result<Vec<Check>, Error> {
        Ok(self.read("health.json")?.unwrap_or_default())
    }

    /// Writes the last health checks. For whoever has the lock.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_checks(&self, checks: &[Check]) -> Result<(), Error> {
        write(&self.directory, "health.json", &checks)
    }

    /// Configuration and state; none where there is no such sandbox.
    fn known(&self) -> Result<Option<Known>, Error> {
        let Some(config) = self.read("config.json")? else {
            return Ok(None);
        };
        let state = match self.state() {
            Err(Error::NoSuchSandbox { .. }) => return Ok(None),
            other => other?,
        };
        let entry = self.clone();
        Ok(Some(Known {
            entry,
            config,
            state,
        }))
    }

    /// Configuration and state.
    ///
    /// # Errors
    /// It is gone, or a file is broken.
    pub fn look(&self) -> Result<Known, Error> {
        self.known()?.ok_or_else(|| self.gone())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.directory.join(name);
        let bytes = match contents(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed("read", &path))?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Error::Broken {
                path,
                reason: error.to_string(),
            }),
        }
    }

    fn gone(&self) -> Error {
        Error::NoSuchSandbox {
            what: self.short().to_owned(),
        }
    }
}

/// A sandbox that is not removed as long as this lives.
#[derive(Debug)]
pub struct Hold {
    kept: Flock<File>,
    watched: File,
}

impl Hold {
    /// Lets it go, and waits until whoever watches it, or removes it now, is done.
    pub fn let_go(self) {
        drop(self.kept);
        // What keeps this from being waited for is not worth a word: it has ended.
        let _ = Lock::wait(self.watched);
    }
}

impl Known {
    /// Whether it should have been removed at its end, and its monitor did not get to it.
    fn is_over(&self) -> bool {
        let ended = matches!(self.state.status, Status::Dead | Status::Exited);
        ((self.config.auto_remove && ended)
            || (self.config.is_expired() && !self.state.status.is_live()))
            && !self.entry.is_watched().unwrap_or(true)
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

/// All of a file. One read is enough for most: of a regular file a short one is the last (read(2)). That is two calls less a
/// file than to ask for its size and read to its end, and a list reads two files a sandbox.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; 4096];
    let count = file.read(&mut bytes)?;
    bytes.truncate(count);
    if count == 4096 {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
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
