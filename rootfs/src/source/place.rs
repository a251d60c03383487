//! Where an image's files lie: in a directory, or in a tar file that is read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::manifest::LONGEST_DOCUMENT;
use crate::merged::open_regular;
use crate::unpack::Limits;
use crate::unpack::tar::{Entry, Input, Kind, Reader};

/// The most files an archive of an image may hold.
const MOST_MEMBERS: usize = 100_000;
/// Links followed inside an archive; what docker writes has one.
const MOST_LINKS: usize = 8;

/// A directory or archive with an image's files.
#[derive(Debug)]
pub(crate) enum Place {
    Directory {
        path: PathBuf,
        fd: OwnedFd,
    },
    Archive {
        path: PathBuf,
        file: File,
        members: HashMap<Vec<u8>, Member>,
    },
}

/// What an archive has under a name.
#[derive(Debug)]
pub(crate) enum Member {
    File { offset: u64, length: u64 },
    Link(Vec<u8>),
}

/// A file of the image: a part of an open file.
#[derive(Debug)]
pub(crate) struct Part {
    pub file: File,
    pub offset: u64,
    pub length: u64,
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. } | Self::Archive { path, .. } => path,
        }
    }

    pub(crate) fn directory(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| Error::io("open the image layout", path, e))?;
        Ok(Self::Directory {
            path: path.to_owned(),
            fd,
        })
    }

    /// Indexes an archive. One that is compressed is first inflated into a nameless file in `temporary`.
    pub(crate) fn archive(
        path: &Path,
        file: File,
        temporary: &Path,
        limits: &Limits,
    ) -> Result<Self> {
        let not = |reason: String| Error::NotAnImage {
            path: path.to_owned(),
            kind: "an image archive",
            reason,
        };
        let read_error = |e: io::Error| Error::io("read", path, e);
        let mut reader = BufReader::new(file.try_clone().map_err(read_error)?);
        let file = match reader.fill_buf().map_err(read_error)? {
            [0x1f, 0x8b, ..] => inflate(MultiGzDecoder::new(reader), path, temporary, limits)?,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::Decoder::with_buffer(reader).map_err(read_error)?;
                inflate(decoder, path, temporary, limits)?
            }
            _ => file,
        };
        let length = file.metadata().map_err(read_error)?.len();
        let mut archive = Reader::new(Seekable {
            file: file.try_clone().map_err(read_error)?,
            at: 0,
            length,
            buffer: Vec::new(),
            position: 0,
        });
        let mut members = HashMap::new();
        let mut entry = Entry::default();
        loop {
            match archive.next(&mut entry) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => {
                    return Err(not(fault
                        .at("of the archive itself", &entry.path)
                        .to_string()));
                }
            }
            let member = match entry.kind {
                Kind::File if entry.pieces.is_none() => Member::File {
                    offset: archive.position(),
                    length: archive.remaining(),
                },
                Kind::Symlink | Kind::Hardlink => {
                    let base: &[u8] = if entry.kind == Kind::Hardlink {
                        b""
                    } else {
                        &entry.path
                    };
                    Member::Link(inside(base, &entry.link))
                }
                _ => continue,
            };
            if members.len() == MOST_MEMBERS {
                return Err(Error::limit(
                    "the number of files in the image archive",
                    MOST_MEMBERS.to_string(),
                ));
            }
            members.insert(inside(b"", &entry.path), member);
        }
        Ok(Self::Archive {
            path: path.to_owned(),
            file,
            members,
        })
    }

    /// Opens a file of the image; none if there is no such file. What is neither a regular file nor, in an archive, a link to one, is refused.
    pub(crate) fn open(&self, name: &str) -> Result<Option<Part>> {
        match self {
            Self::Directory { path, fd } => match open_regular(fd, name.as_ref()) {
                Ok(file) => {
                    let length = file
                        .metadata()
                        .map_err(|e| Error::io("look at", &path.join(name), e))?
                        .len();
                    Ok(Some(Part {
                        file,
                        offset: 0,
                        length,
                    }))
                }
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(Errno::INVAL | Errno::LOOP | Errno::XDEV | Errno::NXIO) => {
                    Err(Error::NotAnImage {
                        path: path.join(name),
                        kind: "a regular file inside the layout",
                        reason: "links, FIFOs and devices are not read".to_owned(),
                    })
                }
                Err(e) => Err(Error::io("open", &path.join(name), e)),
            },
            Self::Archive {
                path,
                file,
                members,
            } => {
                let mut key = inside(b"", name.as_bytes());
                for _ in 0..MOST_LINKS {
                    match members.get(&key) {
                        None => return Ok(None),
                        Some(Member::Link(target)) => key.clone_from(target),
                        Some(&Member::File { offset, length }) => {
                            let file = file.try_clone().map_err(|e| Error::io("read", path, e))?;
                            return Ok(Some(Part {
                                file,
                                offset,
                                length,
                            }));
                        }
                    }
                }
                Err(Error::NotAnImage {
                    path: path.clone(),
                    kind: "an image archive",
                    reason: format!("`{}` is a chain of links", name.escape_debug()),
                })
            }
        }
    }

    /// Reads a small file of the image whole.
    pub(crate) fn read(&self, name: &str, what: &'static str) -> Result<Option<Vec<u8>>> {
        let Some(part) = self.open(name)? else {
            return Ok(None);
        };
        if part.length > LONGEST_DOCUMENT {
            return Err(Error::limit(
                format!("the size of the image's {what}"),
                "4 MiB",
            ));
        }
        let mut text = vec![0; usize::try_from(part.length).unwrap_or(0)];
        part.file
            .read_exact_at(&mut text, part.offset)
            .map_err(|e| Error::io("read the image's files in", self.path(), e))?;
        Ok(Some(text))
    }
}

/// Inflates an archive into a file without a name, which is gone when it is closed.
fn inflate(source: impl Read, path: &Path, temporary: &Path, limits: &Limits) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| Error::io("make a temporary file in", temporary, e))?;
    let mut file = File::from(file);
    let count = io::copy(&mut source.take(limits.layer_bytes + 1), &mut file).map_err(|e| {
        Error::NotAnImage {
            path: path.to_owned(),
            kind: "an image archive",
            reason: format!("it cannot be inflated: {e}"),
        }
    })?;
    if count > limits.layer_bytes {
        return Err(Error::limit(
            "the size of the inflated image archive",
            format!("{} bytes", limits.layer_bytes),
        ));
    }
    Ok(file)
}

/// The path a name or link leads to inside an archive, `..` never above its root.
fn inside(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if !name.starts_with(b"/") {
        parts.extend(base.split(|&b| b == b'/'));
        parts.pop();
    }
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !matches!(*part, b"" | b"."));
    parts.join(&b'/')
}

/// A file that is passed over by position, so that an index reads only headers.
struct Seekable {
    file: File,
    at: u64,
    length: u64,
    buffer: Vec<u8>,
    position: usize,
}

impl Read for Seekable {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(out.len());
        out[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Seekable {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() {
            self.buffer.resize(4096, 0);
            let count = self.file.read_at(&mut self.buffer, self.at)?;
            self.buffer.truncate(count);
            self.at += count as u64;
            self.position = 0;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Input for Seekable {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let here = (self.buffer.len() - self.position) as u64;
        if count <= here {
            self.position += usize::try_from(count).unwrap_or(0);
            return Ok(());
        }
        self.at = self.at.saturating_add(count - here);
        self.buffer.clear();
        self.position = 0;
        if self.at > self.length {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn links_in_an_archive_never_lead_above_its_root() {
        assert_eq!(
            inside(b"abc/layer.tar", b"../def/layer.tar"),
            b"def/layer.tar"
        );
        assert_eq!(inside(b"./a/b", b"../../../etc/passwd"), b"etc/passwd");
        assert_eq!(inside(b"a/b", b"/c"), b"c");
        assert_eq!(inside(b"", b"./a//b/."), b"a/b");
    }
}
