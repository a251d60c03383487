//! The file a receipt ends up in: claimed before the command runs, filled in one step after it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, openat, renameat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::To;
use super::log::whole;
use crate::Error;

/// Where a receipt will be written, known to be possible.
#[derive(Debug)]
pub struct Place(Kind);

#[derive(Debug)]
enum Kind {
    Stdout,
    /// Written into as it is.
    Open {
        file: File,
        path: PathBuf,
    },
    /// Replaced in one step.
    Replaced(Replaced),
}

/// A name in a directory that was opened once: a command that may write there cannot lead the receipt elsewhere later.
#[derive(Debug)]
struct Replaced {
    directory: OwnedFd,
    name: OsString,
    path: PathBuf,
    /// Made when the place was claimed, for the first text.
    fresh: Option<Fresh>,
    /// What has the name now, locked as long as this palisade lives.
    begun: Option<File>,
}

/// A new file that nobody sees yet.
#[derive(Debug)]
struct Fresh {
    file: File,
    /// Its name, where the file system knows no file without one (open(2), `O_TMPFILE`).
    name: Option<OsString>,
}

impl Place {
    /// Opens what the receipt will be written to, so that a wrong path fails before the command runs, not after.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`] where no file can be made there.
    pub fn reserve(to: &To) -> Result<Self, Error> {
        let To::File(path) = to else {
            return Ok(Self(Kind::Stdout));
        };
        reserve(path)
            .map(Self)
            .map_err(|source| failed(path, source))
    }

    /// Puts the receipt of a run that is about to begin there, locked until this palisade ends. What is no file of its
    /// own has to wait for the end.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`]; what was at the path before is then still there.
    pub fn begin(&mut self, text: &str) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Stdout | Kind::Open { .. } => Ok(()),
            Kind::Replaced(replaced) => replaced
                .put(text, true)
                .map_err(|source| failed(&replaced.path, source)),
        }
    }

    /// Writes the receipt and gives it its name.
    ///
    /// # Errors
    ///
    /// [`Error::Receipt`]; what was at the path before is then still there.
    pub fn fill(self, text: &str) -> Result<(), Error> {
        match self.0 {
            Kind::Stdout => {
                let mut stdout = io::stdout();
                stdout
                    .write_all(text.as_bytes())
                    .and_then(|()| stdout.flush())
                    .map_err(|source| failed(Path::new("-"), source))
            }
            Kind::Open { mut file, path } => file
                .write_all(text.as_bytes())
                .map_err(|source| failed(&path, source)),
            Kind::Replaced(mut replaced) => replaced
                .put(text, false)
                .map_err(|source| failed(&replaced.path, source)),
        }
    }
}

impl Replaced {
    fn put(&mut self, text: &str, begun: bool) -> io::Result<()> {
        let fresh = match self.fresh.take() {
            Some(fresh) => fresh,
            None => Fresh::make(&self.directory, &self.name)?,
        };
        let written = (&fresh.file).write_all(text.as_bytes());
        if begun {
            // Before it can be seen. A file system without locks cannot tell a killed run from one that goes on.
            let _ = fcntl(&fresh.file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK)));
        }
        let file = written.and_then(|()| fresh.publish(&self.directory, &self.name))?;
        self.begun = begun.then_some(file);
        Ok(())
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some(fresh) = self.fresh.take() {
            fresh.discard(&self.directory);
        }
    }
}

impl Fresh {
    fn make(directory: &OwnedFd, beside: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        match openat(directory, ".", flags | OFlag::O_TMPFILE, mode) {
            Ok(file) => Ok(Self {
                file: file.into(),
                name: None,
            }),
            // EISDIR is how kernels and file systems without O_TMPFILE may put it.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
                let name = unused(beside);
                let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL;
                let file = openat(directory, name.as_os_str(), flags, mode)?.into();
                Ok(Self {
                    file,
                    name: Some(name),
                })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives it `name`, in place of what has that.
    fn publish(mut self, directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
        if self.name.is_none() {
            let beside = unused(name);
            let handle = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(
                AT_FDCWD,
                handle.as_str(),
                directory,
                beside.as_os_str(),
                follow,
            )?;
            self.name = Some(beside);
        }
        let beside = self.name.clone().unwrap_or_default();
        if let Err(errno) = renameat(directory, beside.as_os_str(), directory, name) {
            self.discard(directory);
            return Err(errno.into());
        }
        Ok(self.file)
    }

    fn discard(self, directory: &OwnedFd) {
        if let Some(name) = &self.name {
            let _ = unlinkat(directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn reserve(path: &Path) -> io::Result<Kind> {
    if let Ok(metadata) = fs::metadata(path) {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_fifo() || kind.is_char_device() || kind.is_socket() || kind.is_block_device() {
            let file = File::options().write(true).open(path)?;
            return Ok(Kind::Open {
                file,
                path: path.into(),
            });
        }
        if is_descriptor(path) {
            // After what the command writes there: `--receipt /dev/stdout > file`.
            let file = File::options().append(true).open(path)?;
            return Ok(Kind::Open {
                file,
                path: path.into(),
            });
        }
    }
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::IsADirectory)?
        .to_owned();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(directory(path), flags, Mode::empty())?;
    let fresh = Fresh::make(&directory, &name)?;
    Ok(Kind::Replaced(Replaced {
        directory,
        name,
        path: path.into(),
        fresh: Some(fresh),
        begun: None,
    }))
}

/// Whether a path names an open descriptor, as /dev/stdout and /dev/fd/3 do (proc_pid_fd(5)): no file that could be replaced.
fn is_descriptor(path: &Path) -> bool {
    let among_descriptors = |path: &Path| {
        directory(path)
            .canonicalize()
            .is_ok_and(|path| path.starts_with("/proc") && path.ends_with("fd"))
    };
    among_descriptors(path) || fs::read_link(path).is_ok_and(|target| among_descriptors(&target))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A hidden name in the same directory that nobody can foresee.
fn unused(beside: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    name.push(beside);
    name.push(format!(".{:016x}", RandomState::new().hash_one(0)));
    name
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Receipt {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::{Place, To};
    use crate::receipt::log::is_locked;

    fn entries(directory: &tempfile::TempDir) -> Vec<PathBuf> {
        fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn an_old_receipt_stays_until_the_new_one_is_complete_and_nothing_else_appears() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("receipt.json");
        fs::write(&path, "old").unwrap();
        let place = Place::reserve(&To::File(path.clone())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        place.fill("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(entries(&directory), [path]);
    }

    #[test]
    fn a_receipt_that_was_begun_is_locked_until_its_palisade_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("receipt.json");
        let mut place = Place::reserve(&To::File(path.clone())).unwrap();
        place.begin("begun").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "begun");
        let begun = fs::File::open(&path).unwrap();
        assert!(is_locked(&begun));
        place.fill("ended").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ended");
        assert!(!is_locked(&begun));
        assert!(!is_locked(fs::File::open(&path).unwrap()));
        assert_eq!(entries(&directory), [path]);
    }

    #[test]
    fn a_link_put_in_the_way_of_the_directory_does_not_lead_the_receipt_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (inner, moved) = (
            directory.path().join("inner"),
            directory.path().join("moved"),
        );
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(&inner).unwrap();
        let place = Place::reserve(&To::File(inner.join("receipt.json"))).unwrap();
        fs::rename(&inner, &moved).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &inner).unwrap();
        place.fill("{}").unwrap();
        assert!(entries(&elsewhere).is_empty());
        assert_eq!(
            fs::read_to_string(moved.join("receipt.json")).unwrap(),
            "{}"
        );
    }

    #[test]
    fn a_place_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(Place::reserve(&To::File(directory.path().join("receipt.json"))).unwrap());
        assert!(entries(&directory).is_empty());
    }

    #[test]
    fn a_directory_that_does_not_exist_is_refused_at_once_by_name() {
        let error = Place::reserve(&To::File("/nonexistent/receipt.json".into())).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/receipt.json"),
            "{error}"
        );
        assert!(error.advice().is_some());
        assert!(Place::reserve(&To::File("/".into())).is_err());
    }

    #[test]
    fn a_file_that_is_open_can_be_named_by_its_descriptor_and_is_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("both");
        let mut file = fs::File::create(&path).unwrap();
        let named = format!("/dev/fd/{}", file.as_raw_fd());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&named, &link).unwrap();
        for to in [PathBuf::from(named), link.clone()] {
            let place = Place::reserve(&To::File(to)).unwrap();
            file.write_all(b"said ").unwrap();
            place.fill("{} ").unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "said {} said {} ");
        assert!(link.is_symlink());
    }

    #[test]
    fn an_open_descriptor_can_be_named() {
        let (mut read, write) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", write.as_raw_fd());
        let place = Place::reserve(&To::File(path.into())).unwrap();
        drop(write);
        place.fill("{}").unwrap();
        let mut got = String::new();
        read.read_to_string(&mut got).unwrap();
        assert_eq!(got, "{}");
    }
}
