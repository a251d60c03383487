//! Names: a symbolic link each, whose target is the sandbox's id. Making one claims the name; a link whose sandbox is gone
//! or has another name is left over from a crash, and whoever wants the name replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

use super::{Config, Entry, Registry, failed, flock, write};
use crate::Error;

const FIRST: [&str; 32] = [
    "amber", "brave", "brisk", "calm", "clear", "coastal", "copper", "early", "eastern", "fair",
    "fresh", "gentle", "golden", "grand", "green", "hidden", "high", "humble", "inner", "late",
    "light", "lively", "mellow", "misty", "noble", "northern", "quiet", "silver", "steady",
    "swift", "warm", "wide",
];

const SECOND: [&str; 32] = [
    "acorn", "anchor", "badger", "beacon", "birch", "bridge", "brook", "cedar", "cliff", "comet",
    "falcon", "fern", "field", "garden", "harbor", "heron", "island", "lantern", "maple", "meadow",
    "mill", "orchard", "otter", "pebble", "pine", "river", "sparrow", "stone", "thicket", "valley",
    "willow", "wren",
];

impl Registry {
    pub(super) fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// Keeps names, and with them the files that hold them, as they are until it is dropped.
    pub(super) fn hold_names(&self) -> Result<Flock<File>, Error> {
        flock(&self.names(), FlockArg::LockExclusive)
    }

    /// The id behind a name.
    pub(super) fn id_of(&self, name: &str) -> Option<String> {
        if name.contains('/') || name.starts_with('.') {
            return None;
        }
        let target = fs::read_link(self.names().join(name)).ok()?;
        target.into_os_string().into_string().ok()
    }

    /// The sandbox that has a name now.
    ///
    /// # Errors
    /// Its configuration cannot be read.
    pub fn named(&self, name: &str) -> Result<Option<Entry>, Error> {
        let Some(id) = self.id_of(name) else {
            return Ok(None);
        };
        let entry = self.entry(&id);
        match entry.config() {
            Ok(config) if config.name == name => Ok(Some(entry)),
            Ok(_) | Err(Error::NoSuchSandbox { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Claims `config.name`, or a name made up for it where it has none, and publishes the sandbox under it.
    pub(super) fn claim(
        &self,
        config: &mut Config,
        publish: impl FnOnce(&Config) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _lock = self.hold_names()?;
        if config.name.is_empty() {
            config.name = self.fresh_name(&config.id)?;
        } else if let Some(holder) = self.named(&config.name)? {
            return Err(Error::NameTaken {
                name: config.name.clone(),
                id: holder.short().to_owned(),
            });
        }
        self.link(&config.name, &config.id)?;
        publish(config)
    }

    /// Gives a sandbox another name.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or what could not be written.
    pub fn rename(&self, entry: &Entry, name: &str) -> Result<(), Error> {
        // What is asked of a monitor meanwhile reads the record first.
        let _alone = entry.wait_to_change()?;
        let _lock = self.hold_names()?;
        if let Some(holder) = self.named(name)? {
            return Err(Error::NameTaken {
                name: name.to_owned(),
                id: holder.short().to_owned(),
            });
        }
        let mut config = entry.config()?;
        self.link(name, &entry.id)?;
        let old = std::mem::replace(&mut config.name, name.to_owned());
        write(&entry.directory, "config.json", &config)?;
        self.unlink(&old)?;
        self.events()
            .record("rename", &config, &[("oldName", &old)]);
        Ok(())
    }

    /// Frees the name of a sandbox that is gone, unless somebody else has it by now.
    pub(super) fn release(&self, name: &str, id: &str) -> Result<(), Error> {
        let _lock = self.hold_names()?;
        match self.id_of(name) {
            Some(holder) if holder == id => self.unlink(name),
            _ => Ok(()),
        }
    }

    /// Whether there is a name that is none of these.
    pub(super) fn has_names_beside(&self, held: &BTreeSet<&str>) -> bool {
        let Ok(entries) = self.names().read_dir() else {
            return false;
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .into_iter()
            .any(|name| !name.to_str().is_some_and(|name| held.contains(name)))
    }

    /// Removes names whose sandbox never came to be, is gone, or has another one.
    pub(super) fn sweep_names(&self) -> Result<(), Error> {
        let names = self.names();
        // Who makes or renames a sandbox just now knows what it does.
        let Ok(_lock) = flock(&names, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in names.read_dir().map_err(failed("read", &names))? {
            let name = entry.map_err(failed("read", &names))?.file_name();
            if let Ok(name) = name.into_string()
                && let Some(id) = self.id_of(&name)
            {
                holders.entry(id).or_default().push(name);
            }
        }
        for (id, names) in holders {
            let gone = !self.directory(&id).exists();
            let several = names.len() > 1;
            for name in names {
                // A rename that was killed half-way leaves two: the record says which one holds.
                if gone || (several && self.named(&name)?.is_none()) {
                    self.unlink(&name)?;
                }
            }
        }
        Ok(())
    }

    fn link(&self, name: &str, id: &str) -> Result<(), Error> {
        let path = self.names().join(name);
        self.unlink(name)?;
        symlink(id, &path).map_err(failed("make", &path))
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        let path = self.names().join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", &path)),
        }
    }

    /// Two words chosen by the id, which is random; with a number where the names run out.
    fn fresh_name(&self, id: &str) -> Result<String, Error> {
        let random = usize::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or_default();
        let mut count = 0;
        loop {
            let pick = random + count;
            let (first, second) = (FIRST[pick % 32], SECOND[pick / 32 % 32]);
            let mut name = format!("{first}_{second}");
            if count >= 8 {
                name = format!("{name}{count}");
            }
            if self.named(&name)?.is_none() {
                return Ok(name);
            }
            count += 1;
        }
    }
}
