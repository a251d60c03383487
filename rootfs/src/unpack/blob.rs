//! Reading a layer's blob: from disk, checked, and inflated.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes read from the file at once: few calls, and the buffer stays in the second-level cache.
const READ: usize = 256 << 10;

/// A blob that is to be read from its first byte to its last.
pub(crate) struct Blob<'a> {
    pub source: Box<dyn Read + 'a>,
    /// Bytes it must have.
    pub length: u64,
    /// What the bytes must hash to; none where the source promises nothing (docker archives).
    pub digest: Option<Digest>,
}

/// A part of a file, read by position: an archive is read in place by several threads.
pub(crate) struct Section {
    pub file: File,
    pub offset: u64,
    pub length: u64,
}

impl Read for Section {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length).unwrap_or(usize::MAX);
        let most = most.min(out.len());
        let count = self.file.read_at(&mut out[..most], self.offset)?;
        self.offset += count as u64;
        self.length -= count as u64;
        Ok(count)
    }
}

/// The bytes of a blob, hashed as they pass.
pub(crate) struct Bytes<'a> {
    blob: Blob<'a>,
    read: u64,
    /// Of the buffer, `position..filled` is still to be consumed.
    buffer: Vec<u8>,
    position: usize,
    filled: usize,
    hasher: Option<Sha256>,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(blob: Blob<'a>) -> Self {
        Self {
            read: 0,
            buffer: Vec::new(),
            position: 0,
            filled: 0,
            hasher: blob.digest.map(|_| Sha256::new()),
            blob,
        }
    }

    /// Bytes of the blob that have been read.
    pub(crate) fn consumed(&self) -> u64 {
        self.read
    }

    /// Reads everything; its digest.
    pub(crate) fn digest(mut self) -> io::Result<Digest> {
        let mut hasher = Sha256::new();
        loop {
            let chunk = self.fill_buf()?;
            if chunk.is_empty() {
                return Ok(Digest::finish(hasher));
            }
            hasher.update(chunk);
            self.position = self.filled;
        }
    }

    /// Reads what is left and checks length and digest.
    pub(crate) fn finish(mut self) -> Result<()> {
        let read_error = |e| Error::io("read the blob in", "the image".as_ref(), e);
        while !self.fill_buf().map_err(read_error)?.is_empty() {
            self.position = self.filled;
        }
        if self.read != self.blob.length {
            return Err(Error::SizeMismatch {
                what: "layer's blob".to_owned(),
                expected: self.blob.length,
                found: self.read,
            });
        }
        if let (Some(expected), Some(hasher)) = (self.blob.digest, self.hasher) {
            let found = Digest::finish(hasher);
            if found != expected {
                return Err(Error::DigestMismatch {
                    what: "layer's blob".to_owned(),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(out.len());
        out[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Bytes<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.filled {
            if self.buffer.is_empty() {
                let length = usize::try_from(self.blob.length).unwrap_or(READ);
                // At least one byte, to see a blob that is longer than it should be.
                self.buffer.resize(READ.min(length.saturating_add(1)), 0);
            }
            (self.position, self.filled) = (0, 0);
            let count = loop {
                match self.blob.source.read(&mut self.buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            self.filled = count;
            self.read += count as u64;
            if self.read > self.blob.length {
                return Err(io::Error::other("it is longer than the image says"));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer[..count]);
            }
        }
        Ok(&self.buffer[self.position..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// The tar stream in a blob, whatever its compression; told by the first bytes, as media types are often wrong.
pub(crate) enum Stream<'a> {
    Plain(Box<Bytes<'a>>),
    Gzip(Box<MultiGzDecoder<Bytes<'a>>>),
    Zstd(Box<zstd::Decoder<'static, Bytes<'a>>>),
}

impl<'a> Stream<'a> {
    pub(crate) fn new(blob: Blob<'a>) -> Result<Self> {
        let read_error = |e| Error::io("read the blob in", "the image".as_ref(), e);
        let mut bytes = Bytes::new(blob);
        let unsupported = |name: &str| {
            Err(Error::Unsupported {
                what: format!("a layer compressed with {name}"),
                remedy: ": convert the image to gzip or zstd (`skopeo copy --dest-compress-format`)",
            })
        };
        match bytes.fill_buf().map_err(read_error)? {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(bytes)))),
            // The second form is a skippable frame, with which zstd:chunked and pzstd files may start.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                zstd::Decoder::with_buffer(bytes)
                    .map(|decoder| Self::Zstd(Box::new(decoder)))
                    .map_err(read_error)
            }
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            _ => Ok(Self::Plain(Box::new(bytes))),
        }
    }

    pub(crate) fn blob(&self) -> &Bytes<'a> {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    pub(crate) fn into_blob(self) -> Bytes<'a> {
        match self {
            Self::Plain(bytes) => *bytes,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bytes) => bytes.read(out),
            Self::Gzip(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}
