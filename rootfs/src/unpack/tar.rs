//! A streaming reader of tar archives: V7, ustar, PAX (POSIX.1-2001 `pax`), GNU long names and sparse files.
//!
//! It reads forwards only, allocates nothing per plain entry, and trusts no number it is given.

use std::io::{self, BufRead};

use super::fault::{Fault, broken};
use super::limits::{LONGEST_HEADER, LONGEST_PATH};
use super::number;
use super::pax::Extended;
use super::sparse::{self, Piece};

/// Size of a header, and what data is padded to.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Hardlink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry of an archive. Reused from entry to entry.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, 0..=07777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Length of the file, holes included.
    pub size: u64,
    /// Where the stored data belongs; none for a file without holes.
    pub pieces: Option<Vec<Piece>>,
    /// Extended attributes in archive order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number.
    pub device: (u32, u32),
}

/// A source that can also leave bytes out.
pub(crate) trait Input: BufRead {
    /// Passes over `count` bytes.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let here = self.fill_buf()?.len();
            if here == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).map_or(here, |count| here.min(count));
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

impl Input for &[u8] {}

/// Reads an archive entry by entry.
pub(crate) struct Reader<R> {
    input: R,
    /// Data of the current entry not yet read, and the padding after it.
    data: u64,
    padding: u64,
    /// Bytes of input consumed: where the next read starts.
    position: u64,
    global: Extended,
    local: Extended,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Input> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            data: 0,
            padding: 0,
            position: 0,
            global: Extended::default(),
            local: Extended::default(),
            long_path: None,
            long_link: None,
        }
    }

    /// The input, to read what follows the archive.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// Where in the input the unread data of the current entry starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the current entry's data that are still unread.
    pub(crate) fn remaining(&self) -> u64 {
        self.data
    }

    /// Reads the next entry's header. False at the end of the archive.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool, Fault> {
        entry.path.clear();
        self.local.clear();
        self.long_path = None;
        self.long_link = None;
        loop {
            self.skip(self.data + self.padding)?;
            (self.data, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(false);
            };
            let size = number::field(&header[124..136]).and_then(|size| u64::try_from(size).ok());
            let Some(size) = size else {
                return broken("its size is not a number, or negative");
            };
            match header[156] {
                b'x' => {
                    let text = self.body(size)?;
                    self.local.read(&text, false)?;
                }
                b'g' => {
                    let text = self.body(size)?;
                    self.global.read(&text, true)?;
                }
                b'L' => self.long_path = Some(trim(self.body(size)?)),
                b'K' => self.long_link = Some(trim(self.body(size)?)),
                // A volume label says nothing about files.
                b'V' => self.set_data(size)?,
                _ => {
                    self.describe(&header, size, entry)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The next piece of the current entry's data, at most as much as is at hand; empty at its end.
    pub(crate) fn chunk(&mut self) -> Result<&[u8], Fault> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let chunk = self.input.fill_buf()?;
        if chunk.is_empty() {
            return Err(ended());
        }
        let length = usize::try_from(self.data).map_or(chunk.len(), |data| data.min(chunk.len()));
        Ok(&chunk[..length])
    }

    /// Marks `count` bytes of [`Reader::chunk`] as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.data -= count as u64;
        self.position += count as u64;
    }

    /// A header block with a right checksum; none at the archive's end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let Some(header) = self.block(true)? else {
            return Ok(None);
        };
        if is_zero(&header) {
            // Two zero blocks end an archive; a writer that was content with one is forgiven if nothing follows.
            return match self.block(true)? {
                Some(next) if !is_zero(&next) => broken("an empty header is followed by data"),
                _ => Ok(None),
            };
        }
        let stored = number::field(&header[148..156]);
        let (unsigned, signed) = sums(&header);
        if stored != Some(unsigned) && stored != Some(signed) {
            return broken(
                "the header's checksum is wrong: this is not a tar archive, or it is damaged",
            );
        }
        Ok(Some(header))
    }

    fn block(&mut self, may_end: bool) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return if filled == 0 && may_end {
                    Ok(None)
                } else {
                    Err(ended())
                };
            }
            let step = chunk.len().min(BLOCK - filled);
            block[filled..filled + step].copy_from_slice(&chunk[..step]);
            self.input.consume(step);
            filled += step;
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    fn skip(&mut self, count: u64) -> Result<(), Fault> {
        if count > 0 {
            self.input.skip(count)?;
            self.position += count;
        }
        Ok(())
    }

    fn set_data(&mut self, size: u64) -> Result<(), Fault> {
        if size > i64::MAX as u64 - BLOCK as u64 {
            return broken("its size is out of range");
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The whole data of a header that only describes another.
    fn body(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > LONGEST_HEADER {
            return broken("an extended header is longer than 1 MiB");
        }
        self.set_data(size)?;
        let mut text = Vec::new();
        while self.data > 0 {
            let chunk = self.chunk()?;
            text.extend_from_slice(chunk);
            let count = chunk.len();
            self.consume(count);
        }
        Ok(text)
    }

    fn describe(
        &mut self,
        header: &[u8; BLOCK],
        stored: u64,
        entry: &mut Entry,
    ) -> Result<(), Fault> {
        self.name(header, entry);
        let (global, local) = (&mut self.global, &mut self.local);
        let number = |value: Option<u64>, at: std::ops::Range<usize>, what: &str| match value {
            Some(value) => u32::try_from(value)
                .map_err(|_| Fault::Archive(format!("its {what} is out of range"))),
            None => number::field(&header[at])
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| {
                    Fault::Archive(format!("its {what} is not a number, or out of range"))
                }),
        };
        entry.mode = number(None, 100..108, "mode")? & 0o7777;
        entry.uid = number(local.uid.or(global.uid), 108..116, "user id")?;
        entry.gid = number(local.gid.or(global.gid), 116..124, "group id")?;
        entry.mtime = match local.mtime.or(global.mtime) {
            Some(time) => time,
            None => match number::field(&header[136..148]) {
                Some(seconds) => (seconds, 0),
                None => return broken("its time is not a number"),
            },
        };
        entry.xattrs.clear();
        entry.xattrs.append(&mut local.xattrs);
        entry.device = (0, 0);
        entry.pieces = None;
        entry.kind = match header[156] {
            b'0' | 0 | b'7' if entry.path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return broken(format!(
                    "entries of type `{}` are not supported",
                    other.escape_ascii()
                ));
            }
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = (
                number(None, 329..337, "device number")?,
                number(None, 337..345, "device number")?,
            );
        }
        let stored = self.local.size.unwrap_or(stored);
        // Only files carry data; some writers leave the size of a link's target in its header.
        self.set_data(if entry.kind == Kind::File { stored } else { 0 })?;
        entry.size = self.data;
        if entry.kind == Kind::File {
            self.holes(header, entry)?;
        }
        if entry.path.len() > LONGEST_PATH || entry.link.len() > LONGEST_PATH {
            return broken("its path is longer than 4095 bytes");
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return broken("its path holds a NUL byte");
        }
        if entry.path.is_empty() {
            return broken("it has no name");
        }
        Ok(())
    }

    /// Path and link target: PAX before GNU long name before the header's own.
    fn name(&mut self, header: &[u8; BLOCK], entry: &mut Entry) {
        entry.path.clear();
        entry.link.clear();
        if let Some(path) = self
            .local
            .sparse
            .name
            .as_ref()
            .or(self.local.path.as_ref())
            .or(self.long_path.as_ref())
        {
            entry.path.extend_from_slice(path);
        } else {
            // "ustar\0" has a prefix field; "ustar  \0" (GNU) keeps other things there.
            if &header[257..263] == b"ustar\0" && header[345] != 0 {
                // star ends its header with "tar\0" and has a shorter prefix, with times after it.
                let end = if &header[508..512] == b"tar\0" {
                    476
                } else {
                    500
                };
                entry.path.extend_from_slice(until_nul(&header[345..end]));
                entry.path.push(b'/');
            }
            entry.path.extend_from_slice(until_nul(&header[..100]));
        }
        let link = self.local.link.as_ref().or(self.long_link.as_ref());
        entry
            .link
            .extend_from_slice(link.map_or_else(|| until_nul(&header[157..257]), Vec::as_slice));
    }

    /// Reads the map of a sparse file, in whichever of its forms.
    fn holes(&mut self, header: &[u8; BLOCK], entry: &mut Entry) -> Result<(), Fault> {
        let (size, pieces) = if header[156] == b'S' {
            let mut map = sparse::Old::new(header)?;
            while map.continues {
                let Some(block) = self.block(false)? else {
                    return Err(ended());
                };
                map.extend(&block)?;
            }
            (map.size, map.pieces)
        } else if self.local.sparse.is_version_1() {
            let mut text = sparse::Map1::default();
            while !text.is_complete()? {
                if self.data < BLOCK as u64 {
                    return broken("its sparse map is cut off");
                }
                let Some(block) = self.block(false)? else {
                    return Err(ended());
                };
                self.data -= BLOCK as u64;
                text.extend(&block)?;
            }
            (self.local.sparse.real_size()?, text.pieces()?)
        } else if let Some(pieces) = self.local.sparse.take_map()? {
            (self.local.sparse.real_size()?, pieces)
        } else {
            return Ok(());
        };
        sparse::check(&pieces, size, self.data)?;
        entry.size = size;
        entry.pieces = Some(pieces);
        Ok(())
    }
}

fn ended() -> Fault {
    Fault::Input(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the archive is cut off",
    ))
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&b| b == 0)
}

/// The checksum as POSIX has it, and as old writers with a signed char computed it.
fn sums(header: &[u8; BLOCK]) -> (i64, i64) {
    let blanks = 8 * i64::from(b' ');
    let (mut unsigned, mut signed) = (0_u32, 0_i32);
    for &byte in header[..148].iter().chain(&header[156..]) {
        unsigned += u32::from(byte);
        signed += i32::from(byte.cast_signed());
    }
    (i64::from(unsigned) + blanks, i64::from(signed) + blanks)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len())]
}

fn trim(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(until_nul(&text).len());
    text
}
