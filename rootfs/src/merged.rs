//! Looking into a stack of layers as an overlay would show it, without mounting it.
//!
//! Symbolic links resolve inside the stack, whiteouts and opaque directories hide what lies beneath, and nothing is
//! opened that is not a regular file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Symbolic links followed in one look-up; the kernel's own limit (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A stack of layers, held open.
#[derive(Debug)]
pub struct Merged {
    /// The topmost first.
    layers: Vec<(PathBuf, OwnedFd)>,
}

/// What a path in a stack of layers leads to.
#[derive(Debug)]
pub struct Found {
    /// The path without symbolic links, relative to the root; empty for the root.
    pub path: PathBuf,
    /// Its metadata, from the topmost layer that has it.
    pub stat: Stat,
    /// The layer that has it, counted from the top.
    pub(crate) layer: usize,
}

/// A directory of a stack of layers.
#[derive(Debug)]
pub(crate) struct MergedDirectory {
    /// What it is.
    pub(crate) found: Found,
    /// The layers that have a part of it, the topmost first.
    visible: Vec<usize>,
}

/// Something in a directory of a stack of layers.
#[derive(Debug)]
pub(crate) enum Child {
    /// A directory, to be looked into.
    Directory(MergedDirectory),
    /// Anything else.
    Other(Found),
}

impl Merged {
    /// Opens layers, given bottom first as [`crate::Image::layers`] has them.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be opened.
    pub fn open<P: AsRef<Path>>(layers: &[P]) -> Result<Self> {
        let open = |path: &P| {
            let path = path.as_ref();
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map(|fd| (path.to_owned(), fd))
            .map_err(|e| Error::io("open the layer", path, e))
        };
        Ok(Self {
            layers: layers.iter().rev().map(open).collect::<Result<_>>()?,
        })
    }

    /// Looks a path up, following symbolic links inside the stack; the last one only if `follow`. None if nothing is there.
    ///
    /// # Errors
    /// [`Error::Io`] for a link loop (`ELOOP`), a path that is too long, or a layer that cannot be read.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Option<Found>> {
        let mut todo: Vec<OsString> = components(path);
        let mut visible: Vec<usize> = (0..self.layers.len()).collect();
        let mut parents: Vec<Vec<usize>> = Vec::new();
        let mut here = PathBuf::new();
        let mut links = 0;
        let mut found = self.root()?;
        while let Some(name) = todo.pop() {
            if name == ".." {
                if let Some(above) = parents.pop() {
                    visible = above;
                    here.pop();
                }
                found = self.stat(visible[0], &here)?.unwrap_or(found);
                continue;
            }
            here.push(&name);
            let Some((below, stat)) = self.step(&visible, &here)? else {
                return Ok(None);
            };
            let layer = below[0];
            found = Found {
                path: here.clone(),
                stat,
                layer,
            };
            match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory => parents.push(std::mem::replace(&mut visible, below)),
                FileType::Symlink if follow || !todo.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::io("follow the links of", path, Errno::LOOP));
                    }
                    let (root, fd) = &self.layers[layer];
                    let target = rustix::fs::readlinkat(fd, &here, Vec::new())
                        .map_err(|e| Error::io("read the link", &root.join(&here), e))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.has_root() {
                        here = PathBuf::new();
                        if let Some(first) = parents.first() {
                            visible.clone_from(first);
                        }
                        parents.clear();
                        found = self.root()?;
                    } else {
                        here.pop();
                    }
                    todo.extend(components(&target));
                }
                _ if !todo.is_empty() => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(found))
    }

    /// The directory a path leads to, symbolic links followed inside the stack. None if nothing is there, or no directory.
    ///
    /// # Errors
    /// As [`Merged::find`].
    pub(crate) fn directory(&self, path: &Path) -> Result<Option<MergedDirectory>> {
        let Some(found) = self.find(path, true)? else {
            return Ok(None);
        };
        let mut visible: Vec<usize> = (0..self.layers.len()).collect();
        let mut here = PathBuf::new();
        for part in found.path.components() {
            here.push(part);
            let Some((below, _)) = self.step(&visible, &here)? else {
                return Ok(None);
            };
            visible = below;
        }
        let is_directory = FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory;
        Ok(is_directory.then_some(MergedDirectory { found, visible }))
    }

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// [`Error::Io`] for a layer that cannot be read.
    pub(crate) fn children(
        &self,
        directory: &MergedDirectory,
    ) -> Result<BTreeMap<OsString, Child>> {
        let mut names = BTreeSet::new();
        for &layer in &directory.visible {
            let (root, fd) = &self.layers[layer];
            let path = &directory.found.path;
            let failed = |e| Error::io("read", &root.join(path), e);
            let here: &Path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            let opened = rustix::fs::openat2(
                fd,
                here,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            )
            .map_err(failed)?;
            for entry in Dir::new(opened).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.insert(OsString::from_vec(name));
                }
            }
        }
        let mut children = BTreeMap::new();
        for name in names {
            let path = directory.found.path.join(&name);
            let Some((visible, stat)) = self.step(&directory.visible, &path)? else {
                continue;
            };
            let layer = visible[0];
            let found = Found { path, stat, layer };
            let child = match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory => Child::Directory(MergedDirectory { found, visible }),
                _ => Child::Other(found),
            };
            children.insert(name, child);
        }
        Ok(children)
    }

    /// Opens the regular file a path leads to, for reading. None if nothing is there, or no regular file.
    ///
    /// # Errors
    /// As [`Merged::find`].
    pub fn open_file(&self, path: &Path) -> Result<Option<File>> {
        match self.find(path, true)? {
            Some(found) if FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile => {
                self.open_found(&found).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Opens what was found, which must be a regular file.
    pub(crate) fn open_found(&self, found: &Found) -> Result<File> {
        let (root, fd) = &self.layers[found.layer];
        open_regular(fd, &found.path).map_err(|e| Error::io("open", &root.join(&found.path), e))
    }

    /// The path of what was found, on the host.
    pub(crate) fn host_path(&self, found: &Found) -> PathBuf {
        self.layers[found.layer].0.join(&found.path)
    }

    /// The directory handle of the layer that has what was found.
    pub(crate) fn layer(&self, found: &Found) -> &OwnedFd {
        &self.layers[found.layer].1
    }

    fn root(&self) -> Result<Found> {
        self.stat(0, Path::new(""))?
            .ok_or_else(|| Error::io("look at", Path::new("/"), Errno::NOENT))
    }

    /// Which of the `visible` layers have `path`, the topmost first, and its metadata; none if it is hidden or missing.
    fn step(&self, visible: &[usize], path: &Path) -> Result<Option<(Vec<usize>, Stat)>> {
        let mut result: Option<(Vec<usize>, Stat)> = None;
        for &layer in visible {
            let Some(Found { stat, .. }) = self.stat(layer, path)? else {
                continue;
            };
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if self.is_whiteout(layer, path, &stat) || (result.is_some() && !directory) {
                break;
            }
            result
                .get_or_insert_with(|| (Vec::new(), stat))
                .0
                .push(layer);
            if !directory || self.xattr_is(layer, path, "user.overlay.opaque", b"y") {
                break;
            }
        }
        Ok(result)
    }

    fn stat(&self, layer: usize, path: &Path) -> Result<Option<Found>> {
        let (root, fd) = &self.layers[layer];
        match rustix::fs::statat(fd, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH) {
            Ok(stat) => Ok(Some(Found {
                path: path.to_owned(),
                stat,
                layer,
            })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(Error::io("look at", &root.join(path), e)),
        }
    }

    fn is_whiteout(&self, layer: usize, path: &Path, stat: &Stat) -> bool {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0,
            FileType::RegularFile => {
                stat.st_size == 0 && self.xattr_exists(layer, path, "user.overlay.whiteout")
            }
            _ => false,
        }
    }

    fn xattr_exists(&self, layer: usize, path: &Path, name: &str) -> bool {
        // A single layer has nothing beneath to be hidden; and xattrs are asked for by path, for want of lgetxattrat.
        self.layers.len() > 1
            && rustix::fs::lgetxattr(self.layers[layer].0.join(path), name, &mut [0_u8; 8]).is_ok()
    }

    fn xattr_is(&self, layer: usize, path: &Path, name: &str, value: &[u8]) -> bool {
        let mut buffer = [0_u8; 8];
        self.layers.len() > 1
            && rustix::fs::lgetxattr(self.layers[layer].0.join(path), name, &mut buffer)
                .is_ok_and(|length| &buffer[..length] == value)
    }
}

/// Opens a regular file below `root` without following any symbolic link, and without waiting for a FIFO's writer
/// (CVE-2024-9676).
pub(crate) fn open_regular(root: &OwnedFd, path: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(File::from(fd))
}

/// The components of a path in reverse, `.` and empty ones left out.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path
        .as_os_str()
        .as_bytes()
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<OsString> = parts
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    fn layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..count).map(|i| dir.path().join(i.to_string())).collect();
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        (dir, paths)
    }

    fn read(layers: &[PathBuf], path: &str) -> Option<String> {
        let mut text = String::new();
        Merged::open(layers)
            .unwrap()
            .open_file(path.as_ref())
            .unwrap()?
            .read_to_string(&mut text)
            .unwrap();
        Some(text)
    }

    #[test]
    fn the_topmost_layer_wins_and_the_lower_ones_show_through() {
        let (_dir, layers) = layers(2);
        for (layer, name, text) in [(0, "a", "low"), (0, "b", "only"), (1, "a", "high")] {
            fs::create_dir_all(layers[layer].join("etc")).unwrap();
            fs::write(layers[layer].join("etc").join(name), text).unwrap();
        }
        assert_eq!(read(&layers, "/etc/a").as_deref(), Some("high"));
        assert_eq!(read(&layers, "etc//./b").as_deref(), Some("only"));
        assert_eq!(read(&layers, "/etc/c"), None);
        assert_eq!(read(&layers, "/etc"), None);
    }

    #[test]
    fn links_resolve_inside_the_root_across_layers() {
        let (_dir, layers) = layers(2);
        fs::create_dir_all(layers[0].join("usr/share")).unwrap();
        fs::write(layers[0].join("usr/share/x"), "below").unwrap();
        fs::create_dir(layers[1].join("etc")).unwrap();
        symlink("/usr/share", layers[1].join("etc/abs")).unwrap();
        symlink("../../../../usr/share/x", layers[1].join("etc/up")).unwrap();
        symlink("loop", layers[1].join("etc/loop")).unwrap();
        assert_eq!(read(&layers, "/etc/abs/x").as_deref(), Some("below"));
        assert_eq!(read(&layers, "/etc/up").as_deref(), Some("below"));
        assert!(
            Merged::open(&layers)
                .unwrap()
                .find("/etc/loop".as_ref(), true)
                .is_err()
        );
        assert!(
            Merged::open(&layers)
                .unwrap()
                .find("/etc/loop".as_ref(), false)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn an_absolute_link_to_a_host_file_does_not_reach_the_host() {
        let (dir, layers) = layers(1);
        fs::write(dir.path().join("secret"), "host").unwrap();
        symlink(dir.path().join("secret"), layers[0].join("passwd")).unwrap();
        symlink("../secret", layers[0].join("group")).unwrap();
        assert_eq!(read(&layers, "/passwd"), None);
        assert_eq!(read(&layers, "/group"), None);
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_beneath() {
        let (_dir, layers) = layers(3);
        fs::create_dir_all(layers[0].join("d")).unwrap();
        for name in ["gone", "d/hidden", "xgone"] {
            fs::write(layers[0].join(name), "x").unwrap();
        }
        mknodat(
            CWD,
            layers[1].join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        fs::write(layers[1].join("xgone"), "").unwrap();
        rustix::fs::lsetxattr(
            layers[1].join("xgone"),
            "user.overlay.whiteout",
            b"",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        fs::create_dir(layers[1].join("d")).unwrap();
        rustix::fs::lsetxattr(
            layers[1].join("d"),
            "user.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        for name in ["/gone", "/d/hidden", "/xgone"] {
            assert_eq!(read(&layers, name), None, "{name}");
        }
        assert_eq!(read(&layers[..1], "/d/hidden").as_deref(), Some("x"));
    }

    #[test]
    fn a_fifo_where_a_file_is_read_is_not_waited_for() {
        let (_dir, layers) = layers(1);
        mknodat(CWD, layers[0].join("passwd"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&layers, "/passwd"), None);
    }
}
