//! Where palisade keeps things.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use palisade_shim::state::PASSING;

use crate::caller::Caller;
use crate::failure::{Failure, reason};

/// The data directory: `--root`, else `$PALISADE_ROOT`, else /var/lib/palisade for the host's root, else
/// `$XDG_DATA_HOME/palisade`, else `~/.local/share/palisade`.
pub fn directory(option: Option<&Path>, caller: &Caller) -> Result<PathBuf, Failure> {
    // The XDG base directory specification: a relative path is to be ignored.
    let variable = |name: &str| {
        caller
            .variable(OsStr::new(name))
            .map(Path::new)
            .filter(|path| path.is_absolute())
    };
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    if let Some(path) = caller
        .variable(OsStr::new("PALISADE_ROOT"))
        .filter(|path| !path.is_empty())
    {
        return Ok(caller.absolute(Path::new(path)));
    }
    if caller.is_real_root() {
        return Ok("/var/lib/palisade".into());
    }
    if let Some(path) = variable("XDG_DATA_HOME") {
        return Ok(path.join("palisade"));
    }
    variable("HOME")
        .map(|home| home.join(".local/share/palisade"))
        .ok_or_else(|| {
            Failure::new(
                "there is no place for images: HOME and XDG_DATA_HOME are not set",
                "--root DIR, or set HOME",
            )
        })
}

/// The directory of a sandbox without a record. It goes with the sandbox, and says so by its name, for whoever finds it after a
/// crash.
pub fn sandbox(data: &Path, id: &str) -> PathBuf {
    data.join("sandboxes").join(format!("{PASSING}{id}"))
}

/// An empty writable layer on disk.
#[derive(Debug, Default)]
pub struct WritableLayer {
    /// Directories to remove with it: its own, and what crashed runs left.
    pub remove: Vec<PathBuf>,
    /// Held as long as the directories are in use or being removed (flock(2)).
    locks: Vec<Flock<File>>,
}

impl WritableLayer {
    /// Makes a sandbox's directory with an empty layer in it, for its owner alone, and looks for what crashed runs left.
    pub fn make(directory: &Path) -> Result<Self, Failure> {
        let mut layer = Self::default();
        layer.fill(directory).map_err(|error| {
            Failure::new(
                format!(
                    "cannot make {} for the writable layer: {}",
                    directory.display(),
                    reason(&error)
                ),
                "--root DIR with a directory you may write to, or --read-only",
            )
        })?;
        Ok(layer)
    }

    fn fill(&mut self, directory: &Path) -> io::Result<()> {
        let make =
            |path: &Path, mode: u32| DirBuilder::new().recursive(true).mode(mode).create(path);
        let parent = directory.parent().unwrap_or(Path::new("/"));
        make(parent, 0o700)?;
        // Nobody looks for what is left while a directory is there and not yet locked.
        let making = lock(parent, FlockArg::LockShared)?;
        make(directory, 0o700)?;
        self.locks
            .push(lock(directory, FlockArg::LockExclusiveNonblock)?);
        self.remove.push(directory.to_owned());
        drop(making);
        make(&directory.join("upper"), 0o755)?;
        make(&directory.join("work"), 0o755)?;
        self.find_abandoned(parent)
    }

    /// Directories that go with their sandbox and that no running palisade has locked. Whoever is first has them.
    fn find_abandoned(&mut self, parent: &Path) -> io::Result<()> {
        let Ok(_looking) = lock(parent, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        for entry in parent.read_dir()? {
            let path = entry?.path();
            if passing(&path)
                && let Ok(lock) = lock(&path, FlockArg::LockExclusiveNonblock)
            {
                self.locks.push(lock);
                self.remove.push(path);
            }
        }
        Ok(())
    }
}

fn passing(directory: &Path) -> bool {
    directory
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(PASSING.as_bytes()))
}

fn lock(directory: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(File::open(directory)?, how).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, variables: &[(&str, &str)]) -> Caller {
        let environment = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Caller {
            uid,
            environment,
            cwd: "/w".into(),
            initial_user_namespace: true,
            ..Caller::default()
        }
    }

    #[test]
    fn the_data_directory_is_the_option_then_the_variable_then_the_users() {
        let of = |uid, variables: &[(&str, &str)]| directory(None, &caller(uid, variables)).ok();
        assert_eq!(
            directory(
                Some(Path::new("/o")),
                &caller(0, &[("PALISADE_ROOT", "/v")])
            )
            .unwrap(),
            Path::new("/o")
        );
        assert_eq!(of(0, &[("PALISADE_ROOT", "v")]).unwrap(), Path::new("/w/v"));
        assert_eq!(
            of(0, &[("HOME", "/root")]).unwrap(),
            Path::new("/var/lib/palisade")
        );
        let nested = Caller {
            initial_user_namespace: false,
            ..caller(0, &[("HOME", "/root")])
        };
        assert_eq!(
            directory(None, &nested).unwrap(),
            Path::new("/root/.local/share/palisade")
        );
        assert_eq!(
            of(7, &[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).unwrap(),
            Path::new("/x/palisade")
        );
        assert_eq!(
            of(7, &[("HOME", "/h"), ("XDG_DATA_HOME", "x")]).unwrap(),
            Path::new("/h/.local/share/palisade")
        );
        assert_eq!(of(7, &[]), None);
    }

    #[test]
    fn what_a_crashed_run_left_is_found_once_and_what_is_in_use_or_kept_is_not() {
        let data = tempfile::tempdir().unwrap();
        let place = |id: &str| sandbox(data.path(), id);
        std::fs::create_dir_all(data.path().join("sandboxes/kept/upper")).unwrap();
        let crashed = WritableLayer::make(&place("crashed")).unwrap();
        let running = WritableLayer::make(&place("running")).unwrap();
        assert_eq!(running.remove, [place("running")]);
        drop(crashed);
        let next = WritableLayer::make(&place("next")).unwrap();
        assert_eq!(next.remove, [place("next"), place("crashed")]);
        let after = WritableLayer::make(&place("after")).unwrap();
        assert_eq!(after.remove, [place("after")]);
        assert!(place("after").join("upper").is_dir());
    }
}
