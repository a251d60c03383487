//! Turning the entries of a layer into files, so that an overlay shows them as the archive means them.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::directories::{Beneath, Directories, Directory, describe, is_whiteout};
use super::fault::{Fault, broken, system};
use super::limits::Limits;
use super::metadata::{Metadata, named};
use super::tar::{Entry, Input, Kind, Reader};
use crate::store::Ownership;

/// Prefix of entries that say what a layer removes (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of what AUFS kept for itself; `.wh..wh..opq` is the one of them with a meaning here.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

pub(crate) struct Tree<'a> {
    directories: Directories<'a>,
    metadata: Metadata,
    limits: Limits,
    entries: u64,
    bytes: u64,
}

/// An entry's path, taken apart.
struct Place {
    parent: Vec<u8>,
    name: Vec<u8>,
}

impl<'a> Tree<'a> {
    /// Starts to fill the directory `root`, which is empty. `masked` tells that the thread's umask is not zero.
    pub(crate) fn new(
        root: OwnedFd,
        beneath: Beneath<'a>,
        ownership: Ownership,
        limits: Limits,
        masked: bool,
    ) -> Self {
        Self {
            directories: Directories::new(root, beneath, limits.depth),
            metadata: Metadata::new(ownership, masked),
            limits,
            entries: 0,
            bytes: 0,
        }
    }

    /// Makes what one entry describes; reads its data.
    pub(crate) fn add<R: Input>(
        &mut self,
        entry: &mut Entry,
        archive: &mut Reader<R>,
    ) -> Result<(), Fault> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.entries > self.limits.entries {
            return Err(Fault::Limit(
                "the number of entries",
                self.limits.entries.to_string(),
            ));
        }
        if self.bytes > self.limits.layer_bytes {
            return Err(Fault::Limit(
                "the size of the files",
                format!("{} bytes", self.limits.layer_bytes),
            ));
        }
        let Some(place) = place(&entry.path, self.limits.depth)? else {
            if entry.kind != Kind::Directory {
                return broken("it would replace the root directory");
            }
            let root = self.directories.parent(b"", &mut self.metadata)?;
            self.metadata.filter(entry);
            return self
                .directories
                .directory(&root, b"", entry, &mut self.metadata);
        };
        if place.name.starts_with(WHITEOUT) {
            return self.whiteout(&place);
        }
        if place
            .parent
            .split(|&b| b == b'/')
            .any(|part| part.starts_with(WHITEOUT))
        {
            return if place
                .parent
                .split(|&b| b == b'/')
                .any(|part| part.starts_with(AUFS))
            {
                Ok(())
            } else {
                broken("it lies below a whiteout")
            };
        }
        self.metadata.filter(entry);
        let parent = self.directories.parent(&place.parent, &mut self.metadata)?;
        let name = &place.name[..];
        match entry.kind {
            Kind::File => self.file(&parent, name, entry, archive),
            Kind::Directory => self
                .directories
                .directory(&parent, name, entry, &mut self.metadata),
            Kind::Hardlink => self.hardlink(&parent, name, entry),
            Kind::Symlink => self.symlink(&parent, name, entry),
            Kind::Fifo => self.node(&parent, name, entry, FileType::Fifo),
            Kind::CharDevice => self.node(&parent, name, entry, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(&parent, name, entry, FileType::BlockDevice),
        }
    }

    /// Bytes of the files made so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Finishes the tree. Returns the notes, and whether the tree depends on the layers beneath.
    pub(crate) fn finish(mut self) -> Result<(Vec<String>, bool), Fault> {
        self.directories.finish()?;
        Ok((self.metadata.into_notes(), self.directories.used_beneath))
    }

    fn create(&mut self, parent: &Directory, name: &[u8], mode: u32) -> Result<OwnedFd, Fault> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode & 0o777));
        match open() {
            Err(Errno::EXIST) => {
                self.directories.clear(parent, name)?;
                open().map_err(system("make the file"))
            }
            result => result.map_err(system("make the file")),
        }
    }

    fn file<R: Input>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<(), Fault> {
        let fd = self.create(parent, name, entry.mode)?;
        if let Some(pieces) = &entry.pieces {
            for &(offset, length) in pieces {
                piece(&fd, offset, length, archive)?;
            }
            rustix::fs::ftruncate(&fd, entry.size).map_err(system("make room in the file"))?;
        } else {
            loop {
                let chunk = archive.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                let count = rustix::io::write(&fd, chunk).map_err(system("write the file"))?;
                archive.consume(count);
            }
        }
        self.metadata.finish_file(fd.as_fd(), entry)
    }

    fn symlink(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        if entry.link.is_empty() {
            return broken("it is a symbolic link to nothing");
        }
        let make = || rustix::fs::symlinkat(&entry.link[..], parent, name);
        match make() {
            Err(Errno::EXIST) => {
                self.directories.clear(parent, name)?;
                make().map_err(system("make the link"))?;
            }
            result => result.map_err(system("make the link"))?,
        }
        self.directories.link_appeared();
        self.metadata.finish_special(parent.as_fd(), name, entry)
    }

    fn node(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        kind: FileType,
    ) -> Result<(), Fault> {
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        if kind != FileType::Fifo {
            if self.metadata.ownership() == Ownership::Caller {
                self.metadata
                    .note("device left out (only root makes devices)", &entry.path);
                return Ok(());
            }
            if device == 0 {
                // To an overlay this is not a device but a whiteout.
                self.metadata.note("device 0:0 left out", &entry.path);
                return Ok(());
            }
        }
        let make = || {
            rustix::fs::mknodat(
                parent,
                name,
                kind,
                Mode::from_raw_mode(entry.mode & 0o777),
                device,
            )
        };
        let result = match make() {
            Err(Errno::EXIST) => {
                self.directories.clear(parent, name)?;
                make()
            }
            result => result,
        };
        match result {
            Ok(()) => self.metadata.finish_special(parent.as_fd(), name, entry),
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.metadata
                    .note("device left out (only root makes devices)", &entry.path);
                Ok(())
            }
            Err(errno) => Err(Fault::System("make the device or FIFO", errno)),
        }
    }

    fn hardlink(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let Some(target) = place(&entry.link, self.limits.depth)? else {
            return broken("it is a hard link to the root directory");
        };
        let from = self
            .directories
            .parent(&target.parent, &mut self.metadata)?;
        let same = from.path == parent.path && target.name == name;
        match rustix::fs::statat(&*from, &target.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return broken(format!(
                    "it is a hard link to a directory, {}",
                    entry.link.escape_ascii()
                ));
            }
            Ok(stat) if is_whiteout(&stat) => {
                return broken(format!(
                    "it is a hard link to {}, which the layer removes",
                    entry.link.escape_ascii()
                ));
            }
            Ok(_) if same => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOENT) => {
                self.copy_up(&from, &target.name, &entry.link)?;
                if same {
                    return Ok(());
                }
            }
            Err(errno) => return Err(Fault::System("look at what it links to", errno)),
        }
        let link = || rustix::fs::linkat(&*from, &target.name[..], parent, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                self.directories.clear(parent, name)?;
                link().map_err(system("make the hard link"))
            }
            result => result.map_err(system("make the hard link")),
        }
    }

    /// Brings a file of the layers beneath into this one, as an overlay does before it makes a link to it.
    fn copy_up(&mut self, parent: &Rc<Directory>, name: &[u8], shown: &[u8]) -> Result<(), Fault> {
        let path = parent.join(name);
        let Some((merged, found)) = self.directories.beneath(&path)? else {
            return broken(format!(
                "it is a hard link to {}, which is not there",
                shown.escape_ascii()
            ));
        };
        let mut entry = describe(merged, &found)?;
        match entry.kind {
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(merged.layer(&found), &found.path, Vec::new());
                entry.link = target.map_err(system("read a link beneath"))?.into_bytes();
                self.symlink(parent, name, &entry)
            }
            Kind::File => {
                self.bytes = self.bytes.saturating_add(entry.size);
                if self.bytes > self.limits.layer_bytes {
                    return Err(Fault::Limit(
                        "the size of the files",
                        format!("{} bytes", self.limits.layer_bytes),
                    ));
                }
                let source = merged.open_found(&found)?;
                let mut copy = std::fs::File::from(self.create(parent, name, entry.mode)?);
                std::io::copy(&mut source.take(entry.size), &mut copy)?;
                copy.flush()?;
                self.metadata.finish_file(copy.as_fd(), &entry)
            }
            _ => broken(format!(
                "it is a hard link to a directory, {}",
                shown.escape_ascii()
            )),
        }
    }

    /// Hides something of the layers beneath. What this layer has itself is not touched by its own whiteouts.
    fn whiteout(&mut self, place: &Place) -> Result<(), Fault> {
        if place.name.starts_with(AUFS) && place.name != OPAQUE {
            return Ok(());
        }
        if place
            .parent
            .split(|&b| b == b'/')
            .any(|part| part.starts_with(WHITEOUT))
        {
            return broken("it lies below a whiteout");
        }
        let parent = self.directories.parent(&place.parent, &mut self.metadata)?;
        if place.name == OPAQUE {
            return self.directories.set_opaque(&parent.path, b"y");
        }
        let name = &place.name[WHITEOUT.len()..];
        if matches!(name, b"" | b"." | b"..") {
            return broken("it is a whiteout of nothing that could be removed");
        }
        match rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return self.directories.set_opaque(&parent.join(name), b"y");
            }
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Fault::System("look at what it hides", errno)),
        }
        if self.directories.is_opaque(&parent.path) {
            return Ok(());
        }
        match rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS) => {
                // Linux 6.7 and later take this form too (kernel, filesystems/overlayfs, "Whiteouts and opaque directories").
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                rustix::fs::openat(&*parent, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(system("make the whiteout"))?;
                rustix::fs::lsetxattr(
                    named(parent.as_fd(), name),
                    "user.overlay.whiteout",
                    b"y",
                    XattrFlags::empty(),
                )
                .map_err(system("mark the whiteout"))?;
                self.directories.set_opaque(&parent.path, b"x")
            }
            result => result.map_err(system("make the whiteout")),
        }
    }
}

/// Writes one piece of a sparse file.
fn piece<R: Input>(
    fd: &OwnedFd,
    mut offset: u64,
    mut length: u64,
    archive: &mut Reader<R>,
) -> Result<(), Fault> {
    while length > 0 {
        let chunk = archive.chunk()?;
        if chunk.is_empty() {
            return broken("its data ends before its sparse map does");
        }
        let chunk =
            &chunk[..usize::try_from(length).map_or(chunk.len(), |length| length.min(chunk.len()))];
        let count = rustix::io::pwrite(fd, chunk, offset).map_err(system("write the file"))?;
        archive.consume(count);
        offset += count as u64;
        length -= count as u64;
    }
    Ok(())
}

/// Takes a path apart. None for the root. A path that leads upwards is refused: no tool that makes layers writes one.
fn place(path: &[u8], depth: usize) -> Result<Option<Place>, Fault> {
    let mut parent = Vec::with_capacity(path.len());
    let mut name: &[u8] = b"";
    let mut parts = 0;
    for part in path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
    {
        if part == b".." {
            return broken("its path leads upwards (`..`)");
        }
        if part.len() > 255 {
            return broken("a name in its path is longer than 255 bytes");
        }
        if !name.is_empty() {
            if !parent.is_empty() {
                parent.push(b'/');
            }
            parent.extend_from_slice(name);
        }
        name = part;
        parts += 1;
    }
    if parts > depth {
        return Err(Fault::Limit(
            "the depth of a path",
            format!("{depth} directories"),
        ));
    }
    Ok((parts > 0).then(|| Place {
        parent,
        name: name.to_vec(),
    }))
}
