//! From a directory of an image to a volume: by handles, following no link, keeping owners, modes, times, attributes, links.
//!
//! A regular file is made beside the volume and gets its name when it is whole, so that a copy that was broken off can be
//! gone on with: what has a name is complete, and directories are looked into again.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Content, DATA, PART};
use crate::merged::{Child, Found, Merged, MergedDirectory};
use crate::store::Ownership;
use crate::unpack::directories::describe;
use crate::unpack::fault::{Fault, system};
use crate::unpack::metadata::{Metadata, times};
use crate::unpack::tar::Entry;

/// Copies what is in `source` to `_data` of the volume's directory and returns what was done otherwise.
pub(super) fn tree(
    merged: &Merged,
    source: &MergedDirectory,
    volume: &impl AsFd,
    content: &Content<'_>,
) -> Result<Vec<String>, Fault> {
    let mut copy = Copy {
        merged,
        volume: volume.as_fd(),
        content,
        metadata: Metadata::new(content.ownership, true),
        links: HashMap::new(),
    };
    let data = open_directory(volume.as_fd(), DATA.as_bytes())?;
    let entry = copy.entry(&source.found)?;
    let mode = copy.metadata.start_directory(data.as_fd(), b"", &entry)?;
    copy.directory(source, &data, Path::new(""))?;
    finish(&data, mode, &entry)?;
    Ok(copy.metadata.into_notes())
}

struct Copy<'a> {
    merged: &'a Merged,
    volume: BorrowedFd<'a>,
    content: &'a Content<'a>,
    metadata: Metadata,
    /// Files with several names that have been copied: by device and number, their path below `_data`.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// What is to be made of something, with the owner it has here.
    fn entry(&mut self, found: &Found) -> Result<Entry, Fault> {
        let mut entry = describe(self.merged, found)?;
        if self.content.ownership == Ownership::Kept && self.content.root_is_owner {
            if entry.uid == 0 {
                entry.uid = self.content.owner.0;
            }
            if entry.gid == 0 {
                entry.gid = self.content.owner.1;
            }
        }
        self.metadata.filter(&mut entry);
        Ok(entry)
    }

    fn directory(
        &mut self,
        source: &MergedDirectory,
        target: &OwnedFd,
        path: &Path,
    ) -> Result<(), Fault> {
        for (name, child) in self.merged.children(source)? {
            let path = path.join(&name);
            match child {
                Child::Directory(inner) => {
                    let entry = self.entry(&inner.found)?;
                    match rustix::fs::mkdirat(target, &name, Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(Fault::System("make the directory", errno)),
                    }
                    let inside = open_directory(target.as_fd(), name.as_bytes())?;
                    let mode = self.metadata.start_directory(inside.as_fd(), b"", &entry)?;
                    self.directory(&inner, &inside, &path)?;
                    finish(&inside, mode, &entry)?;
                }
                Child::Other(found) => self.other(&found, target, &name, &path)?,
            }
        }
        Ok(())
    }

    fn other(
        &mut self,
        found: &Found,
        target: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), Fault> {
        let there = rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::RegularFile => {
                let several = found.stat.st_nlink > 1;
                let key = (found.stat.st_dev, found.stat.st_ino);
                if let Some(first) = self.links.get(&key).filter(|_| several && !there) {
                    let data = open_directory(self.volume, DATA.as_bytes())?;
                    rustix::fs::linkat(&data, first, target, name, AtFlags::empty())
                        .map_err(system("link"))?;
                    return Ok(());
                }
                if !there {
                    self.file(found, target, name)?;
                }
                if several {
                    self.links.insert(key, path.to_owned());
                }
            }
            FileType::Symlink if !there => {
                let entry = self.entry(found)?;
                let link =
                    rustix::fs::readlinkat(self.merged.layer(found), &found.path, Vec::new())
                        .map_err(system("read the link"))?;
                rustix::fs::symlinkat(link.as_c_str(), target, name)
                    .map_err(system("make the link"))?;
                self.metadata
                    .finish_special(target.as_fd(), name.as_bytes(), &entry)?;
            }
            FileType::Symlink => {}
            _ => self.metadata.note(
                "neither file nor directory nor link, not copied",
                path.as_os_str().as_bytes(),
            ),
        }
        Ok(())
    }

    fn file(&mut self, found: &Found, target: &OwnedFd, name: &OsStr) -> Result<(), Fault> {
        let entry = self.entry(found)?;
        let mut source = self.merged.open_found(found)?;
        match rustix::fs::unlinkat(self.volume, PART, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Fault::System("remove what a broken copy left", errno)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let part = rustix::fs::openat(self.volume, PART, flags, Mode::RUSR | Mode::WUSR)
            .map_err(system("make the file"))?;
        let mut part = File::from(part);
        io::copy(&mut source, &mut part)?;
        self.metadata.finish_file(part.as_fd(), &entry)?;
        rustix::fs::renameat(self.volume, PART, target, name).map_err(system("name the file"))
    }
}

/// Mode and times of a directory that nothing is put into any more.
fn finish(directory: &OwnedFd, mode: u32, entry: &Entry) -> Result<(), Fault> {
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode)).map_err(system("set the mode"))?;
    rustix::fs::futimens(directory, &times(entry.mtime)).map_err(system("set the time"))
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(system("open the directory"))
}

/// Bytes that the files below a directory take on the disk.
pub(super) fn size(path: &Path) -> rustix::io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    size_of(&rustix::fs::open(path, flags, Mode::empty())?)
}

fn size_of(directory: &OwnedFd) -> rustix::io::Result<u64> {
    let mut total = 0;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Somebody works in it.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::ACCESS) => {}
                other => total += size_of(&other?)?,
            }
        }
    }
    Ok(total)
}
