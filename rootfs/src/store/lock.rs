//! File locks by which processes that do the same work agree (flock(2)).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::give;
use crate::error::{Error, Result};

/// The lock of one piece of work, held until dropped. A file `.NAME.lock` stands for it.
pub(crate) struct Lock {
    file: String,
    _fd: OwnedFd,
}

impl Lock {
    /// Takes the lock `name` in a directory, given as a handle and as its path.
    pub(crate) fn take(
        dir: &OwnedFd,
        path: &Path,
        name: &str,
        how: FlockOperation,
    ) -> Result<Self> {
        Self::acquire(dir, path, name, |fd| flock(fd, how))
    }

    /// Takes the lock for oneself, however long that takes; `waiting` is called if it does not come at once.
    pub(crate) fn wait(dir: &OwnedFd, path: &Path, name: &str, waiting: impl Fn()) -> Result<Self> {
        Self::acquire(dir, path, name, |fd| {
            match flock(fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    waiting();
                    flock(fd, FlockOperation::LockExclusive)
                }
                result => result,
            }
        })
    }

    fn acquire(
        dir: &OwnedFd,
        path: &Path,
        name: &str,
        flock: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
    ) -> Result<Self> {
        let file = format!(".{name}.lock");
        let fail = |e: Errno| Error::io("take the lock", &path.join(&file), e);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let fd =
                rustix::fs::openat(dir, &file, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
            flock(&fd).map_err(fail)?;
            let held = rustix::fs::fstat(&fd).map_err(fail)?;
            // Who held it before has removed it: then others may already wait for another file of that name.
            match rustix::fs::statat(dir, &file, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => {
                    give(&path.join(&file), path).map_err(fail)?;
                    return Ok(Self { file, _fd: fd });
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// Removes the file while the lock is held, and lets go.
    pub(crate) fn remove(self, dir: &OwnedFd) {
        let _ = rustix::fs::unlinkat(dir, &self.file, AtFlags::empty());
    }
}

/// flock(2), begun again when a signal interrupts it.
pub(crate) fn flock(fd: &OwnedFd, how: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(fd, how) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
