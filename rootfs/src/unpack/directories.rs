//! The directories of a layer being unpacked: resolved inside its root, held open, finished last.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::fault::{Fault, broken, system};
use super::limits::LONGEST_PATH;
use super::metadata::{Metadata, named, times};
use super::tar::{Entry, Kind};
use crate::merged::{Found, Merged};
use crate::store::Below;

/// Handles kept open at once.
const MOST_OPEN: usize = 200;
/// Symbolic links followed on the way to a parent directory; the kernel's own limit.
const MOST_LINKS: usize = 40;

/// A directory of the layer, by handle.
pub(crate) struct Directory {
    fd: OwnedFd,
    /// Its path without symbolic links, relative to the layer's root.
    pub path: Vec<u8>,
}

impl Directory {
    /// The path of something in it.
    pub(crate) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What lies beneath the layer.
#[derive(Clone, Copy)]
pub(crate) enum Beneath<'a> {
    /// It is the bottom layer.
    Nothing,
    /// Other layers, some of which may still be being unpacked.
    Layers(&'a Below<'a>),
}

/// A directory's mode, where it has to be set, and its time.
type Finish = (Option<u32>, (i64, u32));

pub(crate) struct Directories<'a> {
    root: OwnedFd,
    beneath: Beneath<'a>,
    /// Whether what was unpacked depends on the layers beneath.
    pub used_beneath: bool,
    open: HashMap<Vec<u8>, Rc<Directory>>,
    last: Option<(Vec<u8>, Rc<Directory>)>,
    /// Whether the handles kept open include some that a symbolic link led to.
    aliased: bool,
    /// Mode (where it has to be set) and time of each directory, by path without links.
    finish: HashMap<Vec<u8>, Finish>,
    opaque: HashSet<Vec<u8>>,
    depth: usize,
}

impl<'a> Directories<'a> {
    pub(crate) fn new(root: OwnedFd, beneath: Beneath<'a>, depth: usize) -> Self {
        Self {
            root,
            beneath,
            used_beneath: false,
            open: HashMap::new(),
            last: None,
            aliased: false,
            finish: HashMap::new(),
            opaque: HashSet::new(),
            depth,
        }
    }

    /// Opens the directory an entry's parent path leads to; makes what is missing.
    pub(crate) fn parent(
        &mut self,
        path: &[u8],
        metadata: &mut Metadata,
    ) -> Result<Rc<Directory>, Fault> {
        if let Some((known, dir)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.open.get(path) {
            Some(dir) => Rc::clone(dir),
            None => match self.open_plain(path) {
                Ok(fd) => self.keep(path, fd, path.to_vec()),
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                    let real = self.walk(path, metadata)?;
                    let fd = self
                        .open_plain(&real)
                        .map_err(system("open its parent directory"))?;
                    self.aliased |= real != path;
                    self.keep(path, fd, real)
                }
                Err(errno) => return Err(Fault::System("open its parent directory", errno)),
            },
        };
        self.last = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    /// Opens a directory whose path has no symbolic link.
    fn open_plain(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn keep(&mut self, key: &[u8], fd: OwnedFd, path: Vec<u8>) -> Rc<Directory> {
        if self.open.len() >= MOST_OPEN {
            self.forget();
        }
        let dir = Rc::new(Directory { fd, path });
        self.open.insert(key.to_vec(), Rc::clone(&dir));
        dir
    }

    /// Closes all handles: what their paths lead to may have changed.
    fn forget(&mut self) {
        self.open.clear();
        self.last = None;
        self.aliased = false;
    }

    /// To be called when a path that may be part of others has come to be: a link that led elsewhere may be hidden now.
    fn appeared(&mut self) {
        if self.aliased {
            self.forget();
        }
    }

    /// Walks to a directory, following symbolic links inside the root and making what is missing. Returns the path without links.
    fn walk(&mut self, path: &[u8], metadata: &mut Metadata) -> Result<Vec<u8>, Fault> {
        let mut todo: Vec<Vec<u8>> = reversed(path);
        let mut here: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                here.truncate(here.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            let next = join(&here, &name);
            if next.len() > LONGEST_PATH || next.split(|&b| b == b'/').count() > self.depth {
                return broken("the links in its path lead too deep");
            }
            let link = match rustix::fs::statat(&self.root, &next, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => None,
                    FileType::Symlink => Some(self.read_link(&next)?),
                    _ if is_whiteout(&stat) => {
                        rustix::fs::unlinkat(&self.root, &next, AtFlags::empty())
                            .map_err(system("replace"))?;
                        self.make(&next, 0o755)?;
                        self.set_opaque(&next, b"y")?;
                        None
                    }
                    _ => {
                        return broken(format!(
                            "its parent {} is not a directory",
                            next.escape_ascii()
                        ));
                    }
                },
                Err(Errno::NOENT) => self.imply(&next, metadata)?,
                Err(errno) => return Err(Fault::System("look at its parent directory", errno)),
            };
            match link {
                None => here = next,
                Some(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return broken("its path has a loop of symbolic links");
                    }
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    todo.extend(reversed(&target));
                }
            }
        }
        Ok(here)
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Fault> {
        let target = rustix::fs::readlinkat(&self.root, path, Vec::new())
            .map_err(system("read a link in its path"))?;
        Ok(target.into_bytes())
    }

    /// Makes a directory the layer does not list, like the one beneath if there is one. If there is a link beneath, returns its target.
    fn imply(&mut self, path: &[u8], metadata: &mut Metadata) -> Result<Option<Vec<u8>>, Fault> {
        if let Some((merged, found)) = self.beneath(path)? {
            match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Symlink => {
                    let target =
                        rustix::fs::readlinkat(merged.layer(&found), as_path(path), Vec::new());
                    return Ok(Some(
                        target.map_err(system("read a link beneath"))?.into_bytes(),
                    ));
                }
                FileType::Directory => {
                    let entry = describe(merged, &found)?;
                    self.make(path, 0o700)?;
                    let at = path.iter().rposition(|&b| b == b'/');
                    let parent = self
                        .open_plain(&path[..at.unwrap_or(0)])
                        .map_err(system("open its parent"))?;
                    let name = &path[at.map_or(0, |at| at + 1)..];
                    let mode = metadata.start_directory(parent.as_fd(), name, &entry)?;
                    self.finish.insert(path.to_vec(), (Some(mode), entry.mtime));
                    return Ok(None);
                }
                _ => {}
            }
        }
        self.make(path, 0o755)?;
        Ok(None)
    }

    fn make(&mut self, path: &[u8], mode: u32) -> Result<(), Fault> {
        rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(mode | 0o700))
            .map_err(system("make its parent directory"))?;
        self.finish.insert(path.to_vec(), (Some(mode), (0, 0)));
        self.appeared();
        Ok(())
    }

    /// What the layers beneath have at a path without links, if it shows through.
    pub(crate) fn beneath(&mut self, path: &[u8]) -> Result<Option<(&'a Merged, Found)>, Fault> {
        let ancestors = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| &path[..at]);
        if ancestors
            .chain([&b""[..]])
            .any(|dir| self.opaque.contains(dir))
        {
            return Ok(None);
        }
        // That there is nothing beneath is also something the tree depends on.
        self.used_beneath = true;
        match self.beneath {
            Beneath::Nothing => Ok(None),
            Beneath::Layers(below) => {
                let merged = below.layers()?.ok_or(Fault::NeedsLower)?;
                // A link beneath on the way there is hidden by the directory this layer has in its place.
                let found = merged.find(as_path(path), false)?;
                Ok(found
                    .filter(|found| found.path == as_path(path))
                    .map(|found| (merged, found)))
            }
        }
    }

    /// Makes or takes over the directory an entry describes.
    pub(crate) fn directory(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        metadata: &mut Metadata,
    ) -> Result<(), Fault> {
        let path = parent.join(name);
        let made = metadata.mode(entry) & 0o1777 | 0o700;
        let mut fresh = false;
        if !name.is_empty() {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(made)) {
                Ok(()) => fresh = true,
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(system("look at what it replaces"))?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        rustix::fs::unlinkat(parent, name, AtFlags::empty())
                            .map_err(system("replace"))?;
                        self.forget();
                        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(made))
                            .map_err(system("make"))?;
                        // What it replaces had hidden whatever lies beneath.
                        self.set_opaque(&path, b"y")?;
                    }
                }
                Err(errno) => return Err(Fault::System("make the directory", errno)),
            }
            self.appeared();
        }
        let wanted = metadata.start_directory(parent.as_fd(), name, entry)?;
        let as_made = fresh && wanted == made && !metadata.is_masked();
        self.finish
            .insert(path, ((!as_made).then_some(wanted), entry.mtime));
        Ok(())
    }

    /// Marks a directory as hiding what lies beneath it (`y`), or as holding whiteouts that are files (`x`).
    pub(crate) fn set_opaque(&mut self, path: &[u8], value: &[u8]) -> Result<(), Fault> {
        if !self.opaque.contains(path) {
            let dir = self
                .open_plain(path)
                .map_err(system("open the opaque directory"))?;
            let path = named(dir.as_fd(), b"");
            rustix::fs::setxattr(path, "user.overlay.opaque", value, XattrFlags::empty()).map_err(
                system(
                    "mark the directory as opaque (the store's file system needs user attributes)",
                ),
            )?;
        }
        if value == b"y" {
            self.opaque.insert(path.to_vec());
        }
        Ok(())
    }

    pub(crate) fn is_opaque(&self, path: &[u8]) -> bool {
        self.opaque.contains(path)
    }

    /// Removes whatever has a name, so that something else can have it.
    pub(crate) fn clear(&mut self, parent: &Directory, name: &[u8]) -> Result<(), Fault> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                super::remove::tree(parent.as_fd(), name)
                    .map_err(system("replace the directory"))?;
                let path = parent.join(name);
                let inside = |other: &[u8]| {
                    other.starts_with(&path)
                        && (other.len() == path.len() || other[path.len()] == b'/')
                };
                self.finish.retain(|other, _| !inside(other));
                self.opaque.retain(|other| !inside(other));
            }
            Err(errno) => return Err(Fault::System("replace", errno)),
        }
        self.forget();
        Ok(())
    }

    /// To be called when a symbolic link has been made.
    pub(crate) fn link_appeared(&mut self) {
        self.appeared();
    }

    /// Sets modes and times, now that nothing is made inside any more.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        self.forget();
        let mut all: Vec<_> = std::mem::take(&mut self.finish).into_iter().collect();
        // The deepest first: a directory may lose its search permission.
        all.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        for (path, (mode, time)) in all {
            let path: &[u8] = if path.is_empty() { b"." } else { &path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let dir = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
                .map_err(system("open a directory to finish it"))?;
            if let Some(mode) = mode {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))
                    .map_err(system("set a directory's mode"))?;
            }
            rustix::fs::futimens(&dir, &times(time)).map_err(system("set a directory's time"))?;
        }
        Ok(())
    }
}

/// An entry that describes what the layers beneath have.
pub(crate) fn describe(merged: &Merged, found: &Found) -> Result<Entry, Fault> {
    let stat = &found.stat;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::RegularFile => Kind::File,
        _ => return broken("what it links to in a lower layer is neither file nor symbolic link"),
    };
    let host = merged.host_path(found);
    let mut xattrs = Vec::new();
    let mut names = [0_u8; 4096];
    if let Ok(length) = rustix::fs::llistxattr(&host, &mut names) {
        for name in names[..length]
            .split(|&b| b == 0)
            .filter(|name| !name.is_empty())
        {
            let mut value = vec![0; 1 << 16];
            if name.starts_with(b"user.overlay.") {
                continue;
            }
            if let Ok(length) = rustix::fs::lgetxattr(&host, name, &mut value[..]) {
                value.truncate(length);
                xattrs.push((name.to_vec(), value));
            }
        }
    }
    Ok(Entry {
        path: found.path.as_os_str().as_bytes().to_vec(),
        link: Vec::new(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        pieces: None,
        xattrs,
        device: (0, 0),
    })
}

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect();
    parts.reverse();
    parts
}
