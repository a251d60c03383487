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

/// Where a blob lies: a whole file, or a part of an archive that is read in place.
#[derive(Debug)]
pub(crate) struct Blob {
    pub file: File,
    pub offset: u64,
    pub length: u64,
    /// What the bytes must hash to; none where the source promises nothing (docker archives).
    pub digest: Option<Digest>,
}

/// The bytes of a blob, hashed as they pass.
pub(crate) struct Bytes<'a> {
    blob: &'a Blob,
    read: u64,
    buffer: Vec<u8>,
    position: usize,
    hasher: Option<Sha256>,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(blob: &'a Blob) -> Self {
        Self {
            blob,
            read: 0,
            buffer: Vec::new(),
            position: 0,
            hasher: blob.digest.map(|_| Sha256::new()),
        }
    }

    /// Bytes of the blob that have been read.
    pub(crate) fn consumed(&self) -> u64 {
        self.read
    }

    /// Reads what is left and checks length and digest.
    pub(crate) fn finish(mut self) -> Result<()> {
        let read_error = |e| Error::io("read the blob in", "the image".as_ref(), e);
        while !self.fill_buf().map_err(read_error)?.is_empty() {
            let rest = self.buffer.len() - self.position;
            self.consume(rest);
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
        if self.position == self.buffer.len() {
            let left = usize::try_from(self.blob.length - self.read).unwrap_or(READ);
            self.buffer.resize(READ.min(left), 0);
            self.position = 0;
            let count = loop {
                match self
                    .blob
                    .file
                    .read_at(&mut self.buffer, self.blob.offset + self.read)
                {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            self.buffer.truncate(count);
            self.read += count as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer);
            }
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// The tar stream in a blob, whatever its compression; told by the first bytes, as media types are often wrong.
pub(crate) enum Stream<'a> {
    Plain(Bytes<'a>),
    Gzip(Box<MultiGzDecoder<Bytes<'a>>>),
    Zstd(Box<zstd::Decoder<'static, Bytes<'a>>>),
}

impl<'a> Stream<'a> {
    pub(crate) fn new(blob: &'a Blob) -> Result<Self> {
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
            _ => Ok(Self::Plain(bytes)),
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
            Self::Plain(bytes) => bytes,
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
