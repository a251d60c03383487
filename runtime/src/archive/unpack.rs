//! From a tar stream to files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, fstat, futimens, mkdirat, stat, utimensat};
use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, mkfifoat, symlinkat, unlinkat,
};
use tar::{Archive, Entry, EntryType};

use super::{ArchiveError, failed};
use crate::Lasting;

/// Of linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Who writes, and to whom what is written could be a danger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In a sandbox: symbolic links lead where they lead for its commands.
    Sandbox,
    /// On the host: no symbolic link is followed, and nothing becomes setuid.
    Host,
}

/// How an archive is unpacked.
#[derive(Clone, Debug)]
pub struct Unpacking {
    /// Who writes.
    pub place: Where,
    /// An existing directory, which everything goes into.
    pub directory: PathBuf,
    /// What the archive's one top entry is called there; an empty name puts its content into the directory itself. None
    /// leaves all names as they are.
    pub top: Option<OsString>,
    /// Keep the owners that the archive says, as far as may be.
    pub owners: bool,
    /// What outlasts the sandbox that this is in: nothing is written into other directories. None for no such condition.
    pub lasting: Option<Lasting>,
}

/// Unpacks an archive. Regular files replace what is there; directories are joined with those that are there.
///
/// # Errors
/// A stream that is no archive, a name that leaves the directory, and what the kernel says.
pub fn unpack(from: impl Read, how: &Unpacking) -> Result<(), ArchiveError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base =
        open(&how.directory, flags, Mode::empty()).map_err(failed("open", &how.directory))?;
    let mut unpacker = Unpacker {
        how,
        base,
        directories: Vec::new(),
    };
    let mut archive = Archive::new(from);
    for entry in archive.entries().map_err(ArchiveError::Stream)? {
        unpacker.add(entry.map_err(ArchiveError::Stream)?)?;
    }
    // What was written into them has changed their times, and a mode without write permission would have been in the way.
    for directory in std::mem::take(&mut unpacker.directories).iter().rev() {
        unpacker.finish(directory)?;
    }
    // What follows the archive's end is read as well: whoever writes it waits for that.
    io::copy(&mut archive.into_inner(), &mut io::sink())
        .map(drop)
        .map_err(ArchiveError::Stream)
}

struct Unpacker<'a> {
    how: &'a Unpacking,
    base: OwnedFd,
    directories: Vec<Made>,
}

/// A directory that was made.
struct Made {
    path: PathBuf,
    metadata: Metadata,
}

#[derive(Clone, Copy)]
struct Metadata {
    mode: Mode,
    modified: TimeSpec,
    owner: Option<(Uid, Gid)>,
}

impl Unpacker<'_> {
    fn add(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let typed = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let path = self.place(&typed)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The directory itself.
            return Ok(());
        };
        let shown = self.how.directory.join(&path);
        let write = failed("write", &shown);
        let parent = self.parent(parent)?;
        self.lasts(&parent, &shown)?;
        let metadata = self.metadata(&entry)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            return match mkdirat(&parent, name, Mode::S_IRWXU) {
                Ok(()) => {
                    self.directories.push(Made { path, metadata });
                    Ok(())
                }
                // One that is there stays as it is; what else is there is met by what goes into it.
                Err(Errno::EEXIST) => self.directory(&path).map(drop),
                Err(errno) => Err(write(errno)),
            };
        }
        if !matches!(
            kind,
            EntryType::Regular
                | EntryType::Continuous
                | EntryType::GNUSparse
                | EntryType::Symlink
                | EntryType::Link
                | EntryType::Fifo
        ) {
            // Device nodes, and what the format holds beside files.
            return Ok(());
        }
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(write(errno)),
        }
        match kind {
            EntryType::Symlink => {
                let target = link_target(&entry, &shown)?;
                symlinkat(target.as_os_str(), &parent, name).map_err(&write)?;
                if let Some((uid, gid)) = metadata.owner {
                    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                    allowed(fchownat(&parent, name, Some(uid), Some(gid), flags))
                        .map_err(&write)?;
                }
                let times = (&metadata.modified, &metadata.modified);
                utimensat(
                    &parent,
                    name,
                    times.0,
                    times.1,
                    UtimensatFlags::NoFollowSymlink,
                )
                .map_err(&write)
            }
            EntryType::Link => {
                let target = self.place(&link_target(&entry, &shown)?)?;
                let old = self.parent(target.parent().unwrap_or(Path::new("")))?;
                let old_name = target.file_name().unwrap_or_default();
                linkat(&old, old_name, &parent, name, AtFlags::empty()).map_err(&write)
            }
            EntryType::Fifo => mkfifoat(&parent, name, metadata.mode).map_err(&write),
            _ => {
                let flags = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let file =
                    openat(&parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(&write)?;
                let mut file = File::from(file);
                io::copy(&mut entry, &mut file).map_err(|source| ArchiveError::Io {
                    action: "write",
                    path: shown.clone(),
                    source,
                })?;
                set(&file, &metadata).map_err(&write)
            }
        }
    }

    /// Where an entry goes, below the directory.
    fn place(&self, typed: &Path) -> Result<PathBuf, ArchiveError> {
        let mut path = PathBuf::new();
        for component in typed.components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(ArchiveError::Refused {
                        path: typed.to_owned(),
                        why: "a name in the archive leads out of the directory",
                    });
                }
            }
        }
        let Some(top) = &self.how.top else {
            return Ok(path);
        };
        let mut components = path.components();
        components.next();
        let below = components.as_path();
        Ok(match (top.is_empty(), below.as_os_str().is_empty()) {
            (true, _) => below.to_owned(),
            (false, true) => PathBuf::from(top),
            (false, false) => Path::new(top).join(below),
        })
    }

    /// Refuses a directory whose files go with the sandbox. By the opened directory: whatever links and `..` lead to counts.
    fn lasts(&self, directory: &OwnedFd, shown: &Path) -> Result<(), ArchiveError> {
        let Some(lasting) = &self.how.lasting else {
            return Ok(());
        };
        let look = failed("look at", shown);
        let device = fstat(directory).map_err(&look)?.st_dev;
        let kept = if device == stat("/").map_err(&look)?.st_dev {
            lasting.root
        } else if lasting.devices.contains(&device) {
            true
        } else {
            let kind = fstatfs(directory).map_err(&look)?.filesystem_type();
            kind != TMPFS_MAGIC && kind != RAMFS_MAGIC && kind != OVERLAYFS_SUPER_MAGIC
        };
        if kept {
            return Ok(());
        }
        Err(ArchiveError::Refused {
            path: shown.to_owned(),
            why: "this is memory of a sandbox that does not run, and what is written there would be lost",
        })
    }

    /// The directory that an entry goes into, made where it is missing.
    fn parent(&self, path: &Path) -> Result<OwnedFd, ArchiveError> {
        match self.open(path) {
            Err(Errno::ENOENT) => {
                let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                let mode = Mode::from_bits_truncate(0o755);
                match mkdirat(&above, name, mode) {
                    Ok(()) | Err(Errno::EEXIST) => self.directory(path),
                    Err(errno) => Err(failed("make", &self.how.directory.join(path))(errno)),
                }
            }
            opened => opened.map_err(|errno| self.not_open(path, errno)),
        }
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd, ArchiveError> {
        self.open(path).map_err(|errno| self.not_open(path, errno))
    }

    fn not_open(&self, path: &Path, errno: Errno) -> ArchiveError {
        let path = self.how.directory.join(path);
        match errno {
            Errno::ELOOP => ArchiveError::Refused {
                path,
                why: "a symbolic link is in the way, and none is followed here",
            },
            errno => failed("open", &path)(errno),
        }
    }

    fn open(&self, path: &Path) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = match self.how.place {
            Where::Sandbox => ResolveFlag::RESOLVE_NO_MAGICLINKS,
            Where::Host => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
        };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(resolve);
        openat2(self.base.as_fd(), path, how)
    }

    fn metadata(&self, entry: &Entry<'_, impl Read>) -> Result<Metadata, ArchiveError> {
        let header = entry.header();
        let number = |number: io::Result<u64>| number.map_err(ArchiveError::Stream);
        let mode = header.mode().map_err(ArchiveError::Stream)?;
        let mode = match self.how.place {
            Where::Sandbox => mode & 0o7777,
            // What a sandbox made setuid would be so for whoever unpacks it.
            Where::Host => mode & 0o1777,
        };
        let owner = if self.how.owners {
            let id = |id: u64| {
                u32::try_from(id)
                    .map_err(|_| ArchiveError::Stream(io::ErrorKind::InvalidData.into()))
            };
            let (uid, gid) = (id(number(header.uid())?)?, id(number(header.gid())?)?);
            Some((Uid::from_raw(uid), Gid::from_raw(gid)))
        } else {
            None
        };
        let seconds = i64::try_from(number(header.mtime())?).unwrap_or(i64::MAX);
        Ok(Metadata {
            mode: Mode::from_bits_truncate(mode),
            modified: TimeSpec::new(seconds, 0),
            owner,
        })
    }

    fn finish(&self, made: &Made) -> Result<(), ArchiveError> {
        let directory = self.directory(&made.path)?;
        set(&directory, &made.metadata)
            .map_err(failed("write", &self.how.directory.join(&made.path)))
    }
}

/// Owner before mode, as a change of owner clears bits of it (chown(2)).
fn set(file: impl AsFd, metadata: &Metadata) -> nix::Result<()> {
    if let Some((uid, gid)) = metadata.owner {
        allowed(fchown(file.as_fd(), Some(uid), Some(gid)))?;
    }
    fchmod(file.as_fd(), metadata.mode)?;
    futimens(file.as_fd(), &metadata.modified, &metadata.modified)
}

/// An owner that may not be given stays the one who unpacks, as with tar(1) of an ordinary user.
fn allowed(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        other => other,
    }
}

fn link_target(entry: &Entry<'_, impl Read>, shown: &Path) -> Result<PathBuf, ArchiveError> {
    entry
        .link_name_bytes()
        .map(|target| PathBuf::from(OsStr::from_bytes(&target)))
        .ok_or_else(|| ArchiveError::Refused {
            path: shown.to_owned(),
            why: "a link in the archive has no target",
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use tar::{Builder, Header};

    use super::super::pack;
    use super::*;

    fn onto(directory: &Path, top: &str) -> Unpacking {
        Unpacking {
            place: Where::Host,
            directory: directory.to_owned(),
            top: Some(top.into()),
            owners: false,
            lasting: None,
        }
    }

    #[test]
    fn a_tree_comes_back_as_it_was_but_for_what_would_be_a_danger() {
        let place = tempfile::tempdir().expect("a directory");
        let source = place.path().join("source");
        fs::create_dir_all(source.join("deep/er")).expect("made");
        fs::write(source.join("deep/er/file"), vec![7; 100_000]).expect("written");
        fs::write(source.join("setuid"), "").expect("written");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        };
        mode(&source.join("setuid"), 0o6755);
        symlink("/etc/passwd", source.join("link")).expect("linked");
        let long = "x".repeat(200);
        fs::write(source.join(&long), "long").expect("written");
        mode(&source.join("deep"), 0o555);
        let mut stream = Vec::new();
        pack(&source, OsStr::new("any"), false, &mut stream).expect("packed");
        let out = place.path().join("out");
        fs::create_dir(&out).expect("made");
        unpack(stream.as_slice(), &onto(&out, "copy")).expect("unpacked");
        let copy = out.join("copy");
        assert_eq!(
            fs::read(copy.join("deep/er/file")).expect("there"),
            vec![7; 100_000]
        );
        assert_eq!(
            fs::metadata(copy.join("setuid")).expect("there").mode() & 0o7777,
            0o755
        );
        assert_eq!(
            fs::metadata(copy.join("deep")).expect("there").mode() & 0o7777,
            0o555
        );
        assert_eq!(
            fs::read_link(copy.join("link")).expect("there"),
            Path::new("/etc/passwd")
        );
        assert_eq!(fs::read(copy.join(&long)).expect("there"), b"long");
        let time = |path: PathBuf| fs::metadata(path).expect("there").mtime();
        assert_eq!(time(copy.join("deep")), time(source.join("deep")));
        // Once more, over what is there, the content alone.
        unpack(stream.as_slice(), &onto(&copy, "")).expect("unpacked");
        mode(&source.join("deep"), 0o755);
        mode(&copy.join("deep"), 0o755);
    }

    /// An archive of entries (kind, name, link target).
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, target) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            // The crate would refuse the names that this is about.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            let field = &mut header.as_old_mut().linkname;
            field[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, io::empty()).expect("appended");
        }
        builder.into_inner().expect("finished")
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let place = tempfile::tempdir().expect("a directory");
        let inside = place.path().join("inside");
        fs::create_dir(&inside).expect("made");
        fs::write(place.path().join("secret"), "secret").expect("written");
        for entries in [
            &[(Regular, "top/../../x", "")][..],
            &[(Symlink, "top/l", ".."), (Regular, "top/l/x", "")],
            &[(Symlink, "top/l", "/"), (Directory, "top/l/x", "")],
            &[(Symlink, "top", ".."), (Regular, "top/x", "")],
            &[(Link, "top/hard", "top/../../secret")],
            &[(Symlink, "top/l", ".."), (Link, "top/hard", "top/l/secret")],
            &[
                (Symlink, "top/l", "../.."),
                (Directory, "top/l", ""),
                (Regular, "top/l/x", ""),
            ],
        ] {
            unpack(archive(entries).as_slice(), &onto(&inside, "copy"))
                .expect_err("it leads outside");
            let there: Vec<_> = fs::read_dir(place.path())
                .expect("read")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            assert_eq!(there.len(), 2, "{there:?}");
            fs::remove_dir_all(&inside).expect("removed");
            fs::create_dir(&inside).expect("made");
        }
        // An absolute name is one below the directory.
        let absolute = archive(&[(Regular, "/top/x", "")]);
        unpack(absolute.as_slice(), &onto(&inside, "copy")).expect("unpacked");
        assert!(inside.join("copy/x").exists());
    }

    #[test]
    fn an_archive_that_is_cut_is_an_error() {
        let place = tempfile::tempdir().expect("a directory");
        let mut stream = Vec::new();
        fs::write(place.path().join("file"), vec![1; 5000]).expect("written");
        pack(
            &place.path().join("file"),
            OsStr::new("f"),
            false,
            &mut stream,
        )
        .expect("packed");
        let cut = &stream[..3000];
        unpack(cut, &onto(place.path(), "copy")).expect_err("cut");
    }
}
