//! The file a receipt ends up in: claimed before the command runs, filled in one step after it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::linkat;

use super::To;
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
    /// A file without a name yet (open(2), `O_TMPFILE`): a palisade that is killed leaves nothing.
    Unnamed {
        file: File,
        path: PathBuf,
    },
    /// A file beside `path`, where the file system knows none without a name.
    Beside {
        file: File,
        beside: PathBuf,
        path: PathBuf,
    },
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
            Kind::Unnamed { mut file, path } => {
                let beside = beside(&path);
                let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
                file.write_all(text.as_bytes())
                    .and_then(|()| {
                        linkat(
                            AT_FDCWD,
                            handle.as_str(),
                            AT_FDCWD,
                            &beside,
                            AtFlags::AT_SYMLINK_FOLLOW,
                        )
                        .map_err(io::Error::from)
                    })
                    .and_then(|()| rename(&beside, &path))
                    .map_err(|source| failed(&path, source))
            }
            Kind::Beside {
                mut file,
                beside,
                path,
            } => file
                .write_all(text.as_bytes())
                .and_then(|()| rename(&beside, &path))
                .inspect_err(|_| drop(fs::remove_file(&beside)))
                .map_err(|source| failed(&path, source)),
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
    }
    let unnamed = File::options()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o644)
        .open(directory(path));
    match unnamed {
        Ok(file) => Ok(Kind::Unnamed {
            file,
            path: path.into(),
        }),
        // EISDIR is how kernels and file systems without O_TMPFILE may put it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let beside = beside(path);
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&beside)?;
            Ok(Kind::Beside {
                file,
                beside,
                path: path.into(),
            })
        }
        Err(error) => Err(error),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name in the same directory that no other palisade running now takes.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", process::id()));
    directory(path).join(name)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).inspect_err(|_| drop(fs::remove_file(from)))
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
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::{Place, To};

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
