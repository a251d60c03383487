//! Who uses a layer: whoever holds the shared lock of its directory (flock(2)). A layer in use is not removed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::lock::flock;

/// Keeps the layers of an image from being removed, for as long as it or a clone of it lives, also in a process that was
/// forked meanwhile. The descriptors close on execution.
#[derive(Clone, Debug, Default)]
pub struct Hold(Vec<Arc<OwnedFd>>);

/// What is held says nothing of what an image is.
impl PartialEq for Hold {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hold {}

impl Hold {
    /// Holds one more layer; false if it is not there. Waits for a removal that is under way.
    pub(crate) fn add(&mut self, layer: &Path) -> bool {
        open(layer).is_ok_and(|fd| {
            let locked = flock(&fd, FlockOperation::LockShared).is_ok();
            // It may have been moved away and removed meanwhile.
            let same = locked && is_at(&fd, layer).unwrap_or(false);
            if same {
                self.0.push(Arc::new(fd));
            }
            same
        })
    }
}

/// Takes a layer for its removal; none if somebody uses it.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn seize(layer: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    let fd = open(layer)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::AGAIN) => Ok(None),
        Err(e) => Err(e),
    }
}

fn open(layer: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(layer, flags, Mode::empty())
}

fn is_at(fd: &OwnedFd, path: &Path) -> rustix::io::Result<bool> {
    let (held, named) = (rustix::fs::fstat(fd)?, rustix::fs::lstat(path)?);
    Ok((held.st_dev, held.st_ino) == (named.st_dev, named.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_seized_only_when_nobody_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut hold = Hold::default();
        assert!(hold.add(dir.path()));
        let second = hold.clone();
        drop(hold);
        assert!(seize(dir.path()).unwrap().is_none());
        drop(second);
        // A child of another test has a copy of the descriptor for as long as it takes to execute.
        let mut tries = std::iter::repeat_with(|| seize(dir.path()).unwrap()).take(1_000_000);
        assert!(tries.any(|seized| seized.is_some()));
        assert!(!Hold::default().add(&dir.path().join("missing")));
    }
}
