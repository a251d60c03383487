//! One directory of a cgroup hierarchy, held open: every later step goes through its descriptor.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, read, unlinkat, write};

use super::Error;

/// An open cgroup directory, with its path for messages and records.
///
/// A shared lock is held as long as it is open: a cgroup that nobody holds open and that has no process is abandoned.
#[derive(Debug)]
pub(super) struct Directory {
    fd: File,
    path: PathBuf,
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

impl Directory {
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::lock(path, File::try_lock_shared)
    }

    /// Opens a cgroup that nobody else holds open; none when somebody does.
    pub fn open_abandoned(path: &Path) -> Option<Self> {
        Self::lock(path, File::try_lock).ok()
    }

    fn lock(
        path: &Path,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, Error> {
        let fail = |errno| Error::system("open", path, errno);
        let fd = File::from(open(path, DIRECTORY, Mode::empty()).map_err(fail)?);
        lock(&fd).map_err(|error| match error {
            TryLockError::WouldBlock => fail(Errno::EWOULDBLOCK),
            TryLockError::Error(error) => {
                fail(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
            }
        })?;
        Ok(Self {
            fd,
            path: path.into(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes a cgroup; with `shared`, one that exists already is as good.
    pub fn make(path: &Path, shared: bool) -> Result<(), Error> {
        match mkdir(path, Mode::from_bits_truncate(0o755)) {
            Err(Errno::EEXIST) if shared => Ok(()),
            other => other.map_err(|errno| Error::system("make", path, errno)),
        }
    }

    /// Writes a control file. The kernel takes the value whole or refuses it.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        let fail =
            |errno| Error::system(format!("write {value:?} to"), self.path.join(file), errno);
        let fd = openat(
            &self.fd,
            file,
            OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
        .map_err(fail)?;
        write(&fd, value.as_bytes()).map_err(fail)?;
        Ok(())
    }

    /// Reads a control file.
    pub fn read(&self, file: &str) -> Result<String, Error> {
        let fail = |errno| Error::system("read", self.path.join(file), errno);
        let fd = openat(
            &self.fd,
            file,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
        .map_err(fail)?;
        read_whole(&fd).map_err(fail)
    }

    /// The threads in it, as the caller sees their numbers: cgroup.procs tells of a process whose first thread has ended only
    /// where that one was.
    pub fn threads(&self) -> Result<HashSet<i32>, Error> {
        let listed = match self.read("cgroup.threads") {
            // Its name in v1.
            Err(error) if error.errno() == Some(Errno::ENOENT) => self.read("tasks")?,
            other => other?,
        };
        Ok(listed
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }

    /// Opens a control file for reading, to be polled.
    pub fn open_file(&self, file: &str) -> Result<OwnedFd, Error> {
        openat(
            &self.fd,
            file,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|errno| Error::system("open", self.path.join(file), errno))
    }

    /// Removes this directory, by its path: a cgroup has no other handle for that.
    pub fn remove(&self) -> Result<(), Errno> {
        match unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The child cgroups.
    pub fn children(&self) -> Vec<Self> {
        let entries = std::fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| Self::open(&entry.path()).ok())
            .collect()
    }
}

/// Reads a small kernel file to its end.
pub(super) fn read_whole(fd: &OwnedFd) -> Result<String, Errno> {
    let mut contents = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => break,
            Ok(length) => contents.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Control files are ASCII; paths in /proc files may be anything.
    Ok(OsString::from_vec(contents)
        .into_string()
        .unwrap_or_else(|bytes| bytes.to_string_lossy().into_owned()))
}

/// Reads a small kernel file by its path.
pub(super) fn read_path(path: &str) -> Result<String, Error> {
    let fail = |errno| Error::system("read", path, errno);
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
    read_whole(&fd).map_err(fail)
}
