//! Waiting for more of a log without asking again and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Readable when a log may have grown (inotify(7)).
#[derive(Debug)]
pub struct Growth(Inotify);

impl Growth {
    /// Watches a log directory, which must exist.
    ///
    /// # Errors
    /// The directory is missing, or the user has no watch left.
    pub fn of(directory: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        inotify.add_watch(directory, what)?;
        Ok(Self(inotify))
    }

    /// Takes note of the growth so far, so that only more of it is told.
    ///
    /// # Errors
    /// The watch cannot be read.
    pub fn noted(&self) -> Result<(), Errno> {
        loop {
            match self.0.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Growth {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
