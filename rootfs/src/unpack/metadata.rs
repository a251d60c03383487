//! Owner, mode, times and extended attributes of what is unpacked.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::fault::{Fault, system};
use super::tar::{Entry, Kind};
use crate::store::Ownership;

/// Sets metadata, and remembers what could not be set.
pub(crate) struct Metadata {
    ownership: Ownership,
    uid: u32,
    gid: u32,
    /// The process's umask may hide bits of the modes that files are made with.
    masked: bool,
    notes: BTreeMap<String, Note>,
}

struct Note {
    count: u64,
    first: Vec<u8>,
}

impl Metadata {
    pub(crate) fn new(ownership: Ownership, masked: bool) -> Self {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Self {
            ownership,
            uid,
            gid,
            masked,
            notes: BTreeMap::new(),
        }
    }

    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Whether modes given when something is made lose bits.
    pub(crate) fn is_masked(&self) -> bool {
        self.masked
    }

    /// Notes what was done otherwise than the archive asks, once per kind.
    pub(crate) fn note(&mut self, what: impl Into<String>, path: &[u8]) {
        let note = self.notes.entry(what.into()).or_insert_with(|| Note {
            count: 0,
            first: path.to_vec(),
        });
        note.count += 1;
    }

    /// The notes, in words.
    pub(crate) fn into_notes(self) -> Vec<String> {
        let word = |(what, Note { count, first }): (String, Note)| {
            let first = first.escape_ascii();
            if count == 1 {
                format!("{what}: {first}")
            } else {
                format!("{what}: {first} and {} more", count - 1)
            }
        };
        self.notes.into_iter().map(word).collect()
    }

    /// The mode an entry gets: a file that belongs to the caller must not lend the caller's rights.
    pub(crate) fn mode(&self, entry: &Entry) -> u32 {
        match (self.ownership, entry.kind) {
            (Ownership::Kept, _) => entry.mode,
            (Ownership::Caller, _) => entry.mode & 0o1777,
        }
    }

    /// Sets everything on a file just made with the permission bits of its mode, by its handle.
    pub(crate) fn finish_file(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Fault> {
        let mut mode = self.mode(entry);
        if !self.owner(entry, |uid, gid| rustix::fs::fchown(fd, uid, gid))? {
            mode &= 0o1777;
        }
        if self.masked || mode & 0o7000 != 0 {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(system("set the mode"))?;
        }
        for (name, value) in &entry.xattrs {
            let result = match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
                // An owner without write permission may not set user attributes.
                Err(Errno::ACCESS) => Self::with_write(fd, mode, name, value),
                result => result,
            };
            self.attribute(entry, name, result);
        }
        rustix::fs::futimens(fd, &times(entry.mtime)).map_err(system("set the time"))
    }

    fn with_write(
        fd: BorrowedFd<'_>,
        mode: u32,
        name: &[u8],
        value: &[u8],
    ) -> rustix::io::Result<()> {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode | 0o200))?;
        let result = rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty());
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        result
    }

    /// Sets owner and extended attributes of a directory; mode and time come last of all. Returns the mode to be set.
    pub(crate) fn start_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<u32, Fault> {
        let mut mode = self.mode(entry);
        let kept = self.owner(entry, |uid, gid| {
            rustix::fs::chownat(
                dir,
                name,
                uid,
                gid,
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
            )
        })?;
        if !kept {
            mode &= 0o1777;
        }
        self.named_attributes(dir, name, entry);
        Ok(mode)
    }

    /// Sets everything on a symbolic link, FIFO or device just made.
    pub(crate) fn finish_special(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Fault> {
        let mut mode = self.mode(entry);
        let kept = self.owner(entry, |uid, gid| {
            rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        if !kept {
            mode &= 0o1777;
        }
        if entry.kind != Kind::Symlink && (self.masked || mode & 0o7000 != 0) {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(system("set the mode"))?;
        }
        self.named_attributes(dir, name, entry);
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set the time"))
    }

    fn named_attributes(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) {
        for (attribute, value) in &entry.xattrs {
            let result =
                rustix::fs::lsetxattr(named(dir, name), attribute, value, XattrFlags::empty());
            self.attribute(entry, attribute, result);
        }
    }

    /// Gives a file to whom the archive says. False if that id does not exist here, so that the file stays the caller's.
    fn owner(
        &mut self,
        entry: &Entry,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> Result<bool, Fault> {
        if self.ownership == Ownership::Caller || (entry.uid, entry.gid) == (self.uid, self.gid) {
            return Ok(true);
        }
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Err(Fault::Archive(
                "its owner is 4294967295, which is no id".to_owned(),
            ));
        }
        match chown(
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        ) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL) => {
                self.note(
                    "owner not mapped here, given to root without setuid",
                    &entry.path,
                );
                Ok(false)
            }
            Err(errno) => Err(Fault::System(
                "change the owner (that takes root, or a mapped range of ids)",
                errno,
            )),
        }
    }

    fn attribute(&mut self, entry: &Entry, name: &[u8], result: rustix::io::Result<()>) {
        if let Err(errno) = result {
            let error = std::io::Error::from(errno);
            self.note(
                format!("attribute {} not kept ({error})", name.escape_ascii()),
                &entry.path,
            );
        }
    }

    /// Leaves out the attributes that must not or cannot be kept: overlayfs's own would let an image forge whiteouts and
    /// redirections; labels of the machine it was built on mean nothing here; capabilities and ACLs name ids.
    pub(crate) fn filter(&mut self, entry: &mut Entry) {
        if entry.xattrs.is_empty() {
            return;
        }
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        xattrs.retain(|(name, _)| {
            let kept = match &name[..] {
                b"security.capability" => self.ownership == Ownership::Kept,
                name if name.starts_with(b"security.") => false,
                name if name.starts_with(b"user.overlay.")
                    || name.starts_with(b"trusted.overlay.") =>
                {
                    false
                }
                name if name.starts_with(b"user.") => true,
                _ => self.ownership == Ownership::Kept,
            };
            if !kept {
                self.note(
                    format!("attribute {} left out", name.escape_ascii()),
                    &entry.path,
                );
            }
            kept
        });
        entry.xattrs = xattrs;
    }
}

/// A path for the calls that take no directory handle. The handle is ours and the name has no slash.
pub(crate) fn named(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// Access and modification time alike, so that unpacking twice gives the same.
pub(crate) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
