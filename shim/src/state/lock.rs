//! Who watches a sandbox: the holder of the lock on its `lock` file.
//!
//! Open file description locks (fcntl(2)): they end with the last copy of the descriptor, so a killed monitor is seen at
//! once, and asking whether one is held takes none that somebody else could stumble over, as flock(2) would.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// An exclusive lock on a whole file, held until the last copy of its descriptor is closed.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock; none where somebody has it. The file must be open for writing.
    pub fn take(file: File) -> Result<Option<Self>, Errno> {
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the lock as soon as it is free.
    pub fn wait(file: File) -> Result<Self, Errno> {
        loop {
            match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&whole(libc::F_WRLCK))) {
                Err(Errno::EINTR) => {}
                other => return other.map(|_| Self(file)),
            }
        }
    }

    /// Whether anybody has the lock of this file.
    pub fn is_held(file: &File) -> Result<bool, Errno> {
        let mut asked = whole(libc::F_RDLCK);
        fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked))?;
        Ok(asked.l_type != kind(libc::F_UNLCK))
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn whole(typ: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind(typ),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The constants are ints, the field is a short.
#[allow(clippy::cast_possible_truncation)]
fn kind(typ: libc::c_int) -> libc::c_short {
    typ as libc::c_short
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::Lock;

    #[test]
    fn a_lock_is_seen_by_others_and_ends_with_its_last_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .unwrap()
        };
        let look = || Lock::is_held(&File::open(&path).unwrap()).unwrap();
        let held = Lock::take(open()).unwrap().unwrap();
        assert!(look());
        assert!(Lock::take(open()).unwrap().is_none());
        let copy = held.file().try_clone().unwrap();
        drop(held);
        assert!(look());
        drop(copy);
        assert!(!look());
        assert!(Lock::take(open()).unwrap().is_some());
    }
}
