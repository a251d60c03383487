//! One sandbox's directory: what it says, and the locks in it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use palisade_runtime::cgroup::{Cgroup, Record};
use palisade_runtime::{Exit, Plan};
use serde::de::DeserializeOwned;

use super::{Check, Config, Exited, Known, Lock, State, Status, failed, flock, open_lock, write};
use crate::{Error, outcome};

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its directory.
    pub directory: PathBuf,
}

impl Entry {
    pub(super) fn exists(&self) -> bool {
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

    /// How many processes of it the kernel has killed for want of memory, and how many forks its limit has refused; nothing where
    /// no control group counts.
    pub(crate) fn struck(&self) -> (u64, u64) {
        let cgroup = self.cgroup().and_then(|record| Cgroup::open(&record).ok());
        cgroup.map_or((0, 0), |cgroup| cgroup.struck())
    }

    /// Whether it ended for its memory since then, and what counted that with it. Waits for the record of an end that is under
    /// way.
    pub(crate) fn ended_for_memory(&self, since: SystemTime) -> bool {
        let mut patience = Patience::default();
        while !self.has_cgroup()
            && let Ok(Known { state, .. }) = self.look()
        {
            let exit = state.exit.filter(|exit| exit.finished >= since);
            let ends = state.status.is_live() && state.cgroup.is_some();
            if exit.is_some() || !ends || patience.pause(self).is_err() {
                return exit.is_some_and(|exit| exit.was_out_of_memory());
            }
        }
        false
    }

    /// Removes the cgroup that a killed monitor left, wherever that is. What is in use then stays. For whoever has the lock: a
    /// start makes it anew.
    pub(super) fn remove_cgroup(&self, _lock: &Lock, patience: Duration) {
        if let Some(record) = self.cgroup() {
            record.remove_abandoned(&self.id, patience);
        }
    }

    /// Whether something is there of the cgroup that was last written down.
    pub(super) fn has_cgroup(&self) -> bool {
        self.cgroup().is_some_and(|record| record.is_left(&self.id))
    }

    fn cgroup(&self) -> Option<Record> {
        let state: Option<State> = self.read("state.json").ok().flatten();
        state?.cgroup?.parse().ok()
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

    /// Takes its lock where it does not run; none where it does.
    ///
    /// Between the word that a sandbox has ended and the end of its monitor, and between the lock and the first state of a start,
    /// lie moments in which somebody has the lock of what does not run: these are waited for.
    ///
    /// # Errors
    /// It is gone, cannot be locked, or somebody has held it for very long.
    pub fn lock_unless_live(&self) -> Result<Option<Lock>, Error> {
        let mut patience = Patience::default();
        loop {
            if let Some(lock) = self.lock()? {
                return Ok(Some(lock));
            }
            if self.state()?.status.is_live() {
                return Ok(None);
            }
            patience.pause(self)?;
        }
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

    /// Says that it is about to be started again after its end, as long as this lives: what is to be removed at its end stays for
    /// that. Waits for others who do the same.
    ///
    /// # Errors
    /// It is gone, or cannot be locked.
    pub fn restarting(&self) -> Result<Flock<File>, Error> {
        self.lock_file(RESTART)
    }

    /// Whether somebody says so.
    pub fn is_restarting(&self) -> bool {
        File::open(self.directory.join(RESTART))
            .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
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

    /// Locks a file of its directory, which is made where there is none.
    pub(super) fn lock_file(&self, name: &str) -> Result<Flock<File>, Error> {
        let path = self.directory.join(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.gone(),
                _ => failed("make", &path)(error),
            })?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &path)(errno.into()))
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
    pub(super) fn known(&self) -> Result<Option<Known>, Error> {
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

/// How long another command may take to start or remove a sandbox before this one says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest of its pauses.
const PAUSE: Duration = Duration::from_millis(10);

/// Waiting for what another process is about to do with a sandbox, and tells nobody of: a little longer each time.
#[derive(Debug, Default)]
pub struct Patience {
    next: Duration,
    waited: Duration,
}

impl Patience {
    /// Waits before the next look.
    ///
    /// # Errors
    /// [`Error::Busy`] where it has been looked at for twenty seconds.
    pub fn pause(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.waited >= PATIENCE {
            return Err(Error::Busy {
                id: entry.short().to_owned(),
            });
        }
        self.next = (self.next * 2).clamp(Duration::from_micros(100), PAUSE);
        thread::sleep(self.next);
        self.waited += self.next;
        Ok(())
    }
}

/// The file that is locked by whoever starts a sandbox again.
const RESTART: &str = "restart";

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
