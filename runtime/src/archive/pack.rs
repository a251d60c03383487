//! From files to a tar stream.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, failed};

/// Writes `source` and everything beneath it as an archive in which it is called `name`.
///
/// Symbolic links are kept as such; `follow` follows one at `source` itself. Directories are walked by handle, so that
/// nobody can lead the walk elsewhere. Sockets and devices beneath it are left out. A file that changes meanwhile has the length that
/// it had when it was opened.
///
/// # Errors
/// What cannot be read, and what the sink says.
pub fn pack(source: &Path, name: &OsStr, follow: bool, to: impl Write) -> Result<(), ArchiveError> {
    let mut builder = Builder::new(to);
    let path = c_string(source.as_os_str())?;
    let top = Entry::open(AT_FDCWD, &path, follow).map_err(failed("read", source))?;
    if matches!(top, Entry::Other) {
        return Err(ArchiveError::Refused {
            path: source.into(),
            why: "it is a device or a socket, or hidden by the policy",
        });
    }
    let mut walk = Walk {
        builder: &mut builder,
        source: source.to_owned(),
        name: PathBuf::from(name),
    };
    walk.add(top)?;
    builder.finish().map_err(ArchiveError::Sink)
}

struct Walk<'b, W: Write> {
    builder: &'b mut Builder<W>,
    /// Where it is, for what is said about it.
    source: PathBuf,
    /// What it is called in the archive.
    name: PathBuf,
}

/// One file, opened so that it cannot become another.
enum Entry {
    File(File, FileStat),
    Directory(OwnedFd, FileStat),
    Link(CString, FileStat),
    Fifo(FileStat),
    Other,
}

impl Entry {
    fn open(dir: BorrowedFd<'_>, name: &CStr, follow: bool) -> nix::Result<Self> {
        let no_link = if follow {
            OFlag::empty()
        } else {
            OFlag::O_NOFOLLOW
        };
        let path = openat(
            dir,
            name,
            OFlag::O_PATH | OFlag::O_CLOEXEC | no_link,
            Mode::empty(),
        )?;
        let stat = fstat(&path)?;
        Ok(
            match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => {
                    // Opening a pipe that took its place would wait for a writer (CVE-2024-9676).
                    let flags =
                        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                    let file = openat(dir, name, flags | no_link, Mode::empty())?;
                    let now = fstat(&file)?;
                    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
                        return Err(Errno::ESTALE);
                    }
                    Self::File(File::from(file), now)
                }
                SFlag::S_IFDIR => {
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                    Self::Directory(openat(&path, c".", flags, Mode::empty())?, stat)
                }
                SFlag::S_IFLNK => {
                    let target = readlinkat(&path, c"")?;
                    Self::Link(
                        CString::new(target.as_bytes()).map_err(|_| Errno::EINVAL)?,
                        stat,
                    )
                }
                SFlag::S_IFIFO => Self::Fifo(stat),
                _ => Self::Other,
            },
        )
    }
}

impl<W: Write> Walk<'_, W> {
    fn add(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        match entry {
            Entry::File(file, stat) => {
                let mut header = header(&stat, EntryType::Regular);
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                header.set_size(size);
                // Never more nor less than the header says, whatever becomes of the file.
                let data = file.take(size).chain(io::repeat(0)).take(size);
                self.builder
                    .append_data(&mut header, &self.name, data)
                    .map_err(ArchiveError::Sink)
            }
            Entry::Directory(directory, stat) => {
                let mut header = header(&stat, EntryType::Directory);
                self.builder
                    .append_data(&mut header, &self.name, io::empty())
                    .map_err(ArchiveError::Sink)?;
                self.add_all(&directory)
            }
            Entry::Link(target, stat) => {
                let mut header = header(&stat, EntryType::Symlink);
                let target = OsStr::from_bytes(target.to_bytes());
                self.builder
                    .append_link(&mut header, &self.name, Path::new(target))
                    .map_err(ArchiveError::Sink)
            }
            Entry::Fifo(stat) => {
                let mut header = header(&stat, EntryType::Fifo);
                self.builder
                    .append_data(&mut header, &self.name, io::empty())
                    .map_err(ArchiveError::Sink)
            }
            Entry::Other => Ok(()),
        }
    }

    fn add_all(&mut self, directory: &OwnedFd) -> Result<(), ArchiveError> {
        for name in names(directory.as_fd()).map_err(failed("read", &self.source))? {
            let component = OsStr::from_bytes(name.to_bytes()).to_owned();
            self.source.push(&component);
            self.name.push(&component);
            match Entry::open(directory.as_fd(), &name, false) {
                Ok(entry) => self.add(entry)?,
                // It is gone, as files of a running sandbox go.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("read", &self.source)(errno)),
            }
            self.source.pop();
            self.name.pop();
        }
        Ok(())
    }
}

/// The entries of a directory in the order of their names, without `.` and `..`.
fn names(directory: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = Dir::from_fd(openat(directory, c".", flags, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn header(stat: &FileStat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

pub(super) fn c_string(path: &OsStr) -> Result<CString, ArchiveError> {
    CString::new(path.as_bytes()).map_err(|_| ArchiveError::Refused {
        path: path.into(),
        why: "it contains a NUL byte",
    })
}
