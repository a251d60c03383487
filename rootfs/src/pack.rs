//! Writing a tree as an archive: the files that a stack of layers shows, or what one writable layer changed.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Directories inside one another that are followed.
const DEEPEST: usize = 1024;

/// A layer, and who its files belong to in the archive.
pub struct Source<'a> {
    /// The directory.
    pub path: PathBuf,
    /// From a file's owner and group on disk to those in the archive.
    pub owners: &'a dyn Fn(u32, u32) -> (u32, u32),
    /// What of it is not written.
    pub without: &'a [Without],
}

/// Something in a layer that is nobody's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Without {
    /// Its path below the layer.
    pub path: PathBuf,
    /// The content that it must have to be left out; none where it is left out whatever became of it.
    pub content: Option<Vec<u8>>,
}

/// What an archive is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything that the layers show when they lie upon one another: `docker export`.
    Merged,
    /// What the one layer has, with whiteouts for what it removes: a layer of an image (OCI image-spec, layer.md).
    Changes,
}

/// Writes layers, given bottom first, as a tar archive. Names are in order, so that the same tree makes the same archive.
///
/// Everything is opened below its layer's handle, following no link; a file that vanishes meanwhile is left out. Sockets are left out,
/// for archives have no word for them.
///
/// # Errors
/// [`Error::Io`]; [`Error::Limit`] for a tree that is too deep.
pub fn archive(layers: &[Source<'_>], what: What, out: &mut dyn Write) -> Result<()> {
    let open = |layer: &Source<'_>| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&layer.path, flags, Mode::empty())
            .map_err(|e| Error::io("open the layer", &layer.path, e))
    };
    let mut packer = Packer {
        handles: layers.iter().rev().map(open).collect::<Result<_>>()?,
        layers: layers.iter().rev().collect(),
        what,
        out: tar::Builder::new(out),
        links: HashMap::new(),
    };
    let all: Vec<usize> = (0..layers.len()).collect();
    packer.directory(Path::new(""), &all, 0)?;
    packer.out.finish().map_err(writing)
}

struct Packer<'a, 'o> {
    /// The topmost first.
    layers: Vec<&'a Source<'a>>,
    handles: Vec<OwnedFd>,
    what: What,
    out: tar::Builder<&'o mut dyn Write>,
    /// Where a file with several names was written first.
    links: HashMap<(usize, u64, u64), PathBuf>,
}

/// Something in a layer, held open without access to its content.
struct Node {
    fd: OwnedFd,
    stat: Stat,
    kind: FileType,
}

impl Node {
    /// Its path for calls that take no descriptor of this kind.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    fn has(&self, attribute: &str, value: Option<&[u8]>) -> bool {
        let mut buffer = [0_u8; 8];
        rustix::fs::getxattr(self.path(), attribute, &mut buffer)
            .is_ok_and(|length| value.is_none_or(|value| &buffer[..length] == value))
    }

    fn is_whiteout(&self) -> bool {
        match self.kind {
            FileType::CharacterDevice => self.stat.st_rdev == 0,
            FileType::RegularFile => {
                self.stat.st_size == 0 && self.has("user.overlay.whiteout", None)
            }
            _ => false,
        }
    }

    fn is_opaque(&self) -> bool {
        self.has("user.overlay.opaque", Some(b"y"))
            || self.has("trusted.overlay.opaque", Some(b"y"))
    }
}

impl Packer<'_, '_> {
    /// Writes what is in a directory that several layers have, the topmost first.
    fn directory(&mut self, path: &Path, layers: &[usize], depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::limit(
                "the depth of the tree",
                format!("{DEEPEST} directories"),
            ));
        }
        let mut names = BTreeSet::new();
        for &layer in layers {
            names.extend(self.names(layer, path)?);
        }
        for name in names {
            let path = path.join(std::ffi::OsStr::from_bytes(&name));
            let mut here: Vec<usize> = Vec::new();
            let mut top: Option<(usize, Node)> = None;
            for &layer in layers {
                let Some(node) = self.open(layer, &path)? else {
                    continue;
                };
                if self.is_left_out(layer, &path, &node)? {
                    continue;
                }
                if node.is_whiteout() {
                    if self.what == What::Changes && top.is_none() {
                        self.whiteout(&path)?;
                    }
                    break;
                }
                let directory = node.kind == FileType::Directory;
                if top.is_some() && !directory {
                    break;
                }
                let last = !directory || node.is_opaque();
                here.push(layer);
                top.get_or_insert((layer, node));
                if last {
                    break;
                }
            }
            let Some((layer, node)) = top else {
                continue;
            };
            self.write(layer, &path, &node)?;
            if node.kind == FileType::Directory {
                if self.what == What::Changes && node.is_opaque() {
                    self.empty(&path.join(".wh..wh..opq"))?;
                }
                drop(node);
                self.directory(&path, &here, depth + 1)?;
            }
        }
        Ok(())
    }

    fn is_left_out(&self, layer: usize, path: &Path, node: &Node) -> Result<bool> {
        let mut listed = self.layers[layer].without.iter();
        let Some(without) = listed.find(|without| without.path == path) else {
            return Ok(false);
        };
        let Some(expected) = &without.content else {
            return Ok(true);
        };
        let size = u64::try_from(node.stat.st_size).unwrap_or(0);
        if node.kind != FileType::RegularFile || size != expected.len() as u64 {
            return Ok(false);
        }
        // A regular file, held by a handle: opening it again waits for nobody.
        let mut content = Vec::new();
        File::open(node.path())
            .and_then(|file| file.take(size + 1).read_to_end(&mut content))
            .map_err(|e| Error::io("read", path, e))?;
        Ok(content == *expected)
    }

    fn names(&self, layer: usize, path: &Path) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |e: Errno| Error::io("read", &self.layers[layer].path.join(path), e);
        let dir = match self.open_at(layer, path, flags) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(Vec::new()),
            Err(e) => return Err(fail(e)),
        };
        let mut names = Vec::new();
        for entry in Dir::new(dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, layer: usize, path: &Path) -> Result<Option<Node>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fail = |e: Errno| Error::io("open", &self.layers[layer].path.join(path), e);
        match self.open_at(layer, path, flags) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(fail)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok(Some(Node { fd, stat, kind }))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(e) => Err(fail(e)),
        }
    }

    fn open_at(&self, layer: usize, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        // The last component may be a link that is to be described, never followed.
        let resolve = if flags.contains(OFlags::NOFOLLOW) {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
        } else {
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS
        };
        loop {
            match rustix::fs::openat2(&self.handles[layer], path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
    }

    fn write(&mut self, layer: usize, path: &Path, node: &Node) -> Result<()> {
        let fail = |e: Errno| Error::io("read", path, e);
        let mut header = tar::Header::new_ustar();
        let (uid, gid) = (self.layers[layer].owners)(node.stat.st_uid, node.stat.st_gid);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mode(node.stat.st_mode & 0o7777);
        header.set_mtime(u64::try_from(node.stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        let mut records = attributes(node);
        let mut target: Option<Vec<u8>> = None;
        let mut content: Option<File> = None;
        let kind = match node.kind {
            FileType::Directory => tar::EntryType::Directory,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&node.fd, "", Vec::new()).map_err(fail)?;
                target = Some(link.into_bytes());
                tar::EntryType::Symlink
            }
            FileType::RegularFile => {
                let key = (layer, node.stat.st_dev, node.stat.st_ino);
                let first = self.links.get(&key);
                if let (true, Some(first)) = (node.stat.st_nlink > 1, first) {
                    target = Some(first.as_os_str().as_bytes().to_vec());
                    tar::EntryType::Link
                } else {
                    self.links.insert(key, path.to_owned());
                    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let opened = rustix::fs::open(node.path(), flags, Mode::empty());
                    content = Some(File::from(opened.map_err(fail)?));
                    header.set_size(u64::try_from(node.stat.st_size).unwrap_or(0));
                    tar::EntryType::Regular
                }
            }
            FileType::Fifo => tar::EntryType::Fifo,
            FileType::CharacterDevice | FileType::BlockDevice => {
                let set = |e: std::io::Error| Error::io("describe", path, e);
                header
                    .set_device_major(rustix::fs::major(node.stat.st_rdev))
                    .map_err(set)?;
                header
                    .set_device_minor(rustix::fs::minor(node.stat.st_rdev))
                    .map_err(set)?;
                if node.kind == FileType::BlockDevice {
                    tar::EntryType::Block
                } else {
                    tar::EntryType::Char
                }
            }
            _ => return Ok(()),
        };
        header.set_entry_type(kind);
        if node.stat.st_mtime < 0 || node.stat.st_mtime_nsec != 0 {
            let time = format!("{}.{:09}", node.stat.st_mtime, node.stat.st_mtime_nsec);
            records.push(("mtime".to_owned(), time.into_bytes()));
        }
        let mut name = path.as_os_str().as_bytes().to_vec();
        if node.kind == FileType::Directory {
            name.push(b'/');
        }
        let size = header.size().map_err(writing)?;
        match content {
            // A file that shrinks meanwhile is filled up: the archive stays one.
            Some(file) => {
                let mut data = file.chain(std::io::repeat(0)).take(size);
                self.append(&mut header, &name, target.as_deref(), records, &mut data)
            }
            None => self.append(
                &mut header,
                &name,
                target.as_deref(),
                records,
                &mut std::io::empty(),
            ),
        }
    }

    /// The mark of something that was removed.
    fn whiteout(&mut self, path: &Path) -> Result<()> {
        let mut name = b".wh.".to_vec();
        name.extend(path.file_name().unwrap_or_default().as_bytes());
        self.empty(&path.with_file_name(std::ffi::OsStr::from_bytes(&name)))
    }

    fn empty(&mut self, path: &Path) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(0);
        let name = path.as_os_str().as_bytes();
        self.append(&mut header, name, None, Vec::new(), &mut std::io::empty())
    }

    /// Writes an entry; what the old header has no room for goes before it (pax(1), "pax Header Block").
    fn append(
        &mut self,
        header: &mut tar::Header,
        name: &[u8],
        target: Option<&[u8]>,
        mut records: Vec<(String, Vec<u8>)>,
        data: &mut dyn Read,
    ) -> Result<()> {
        const ROOM: usize = 100;
        if name.len() > ROOM {
            records.push(("path".to_owned(), name.to_vec()));
        }
        if let Some(target) = target.filter(|target| target.len() > ROOM) {
            records.push(("linkpath".to_owned(), target.to_vec()));
        }
        if !records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &records {
                record(&mut body, key, value);
            }
            let mut extended = tar::Header::new_ustar();
            extended.set_entry_type(tar::EntryType::XHeader);
            extended.set_mode(0o644);
            extended.set_mtime(0);
            extended.set_size(body.len() as u64);
            extended.set_cksum();
            self.out.append(&extended, &body[..]).map_err(writing)?;
        }
        let old = header.as_old_mut();
        fill(&mut old.name, name);
        fill(&mut old.linkname, target.unwrap_or_default());
        header.set_cksum();
        self.out.append(header, data).map_err(writing)
    }
}

fn fill(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(body: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    body.extend(format!("{length} {key}=").into_bytes());
    body.extend(value);
    body.push(b'\n');
}

/// The extended attributes that belong to a file, and not to the overlay it lies in.
fn attributes(node: &Node) -> Vec<(String, Vec<u8>)> {
    let path = node.path();
    // Links have none that an ordinary user may set.
    if node.kind == FileType::Symlink {
        return Vec::new();
    }
    let mut names = vec![0_u8; 64 << 10];
    let Ok(length) = rustix::fs::listxattr(&path, &mut names) else {
        return Vec::new();
    };
    let mut records = Vec::new();
    for name in names[..length].split(|&b| b == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let kept = (name.starts_with("user.") && !name.starts_with("user.overlay."))
            || name == "security.capability";
        let mut value = vec![0_u8; 64 << 10];
        if kept && let Ok(length) = rustix::fs::getxattr(&path, name, &mut value) {
            value.truncate(length);
            records.push((format!("SCHILY.xattr.{name}"), value));
        }
    }
    records.sort();
    records
}

fn writing(error: std::io::Error) -> Error {
    Error::io("write", Path::new("the archive"), error)
}
