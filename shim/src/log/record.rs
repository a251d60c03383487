//! The header of a record.

use std::time::SystemTime;

use crate::time::{from_nanoseconds, to_nanoseconds};

/// Bytes of a header.
pub const HEADER: usize = 16;

/// More than one record ever holds: a length beyond it is none.
pub const LONGEST: usize = 1 << 20;

const MARK: [u8; 3] = *b"log";

/// Where a record was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Out,
    /// Standard error.
    Err,
    /// A word of the monitor's own, about what was lost.
    Note,
}

/// What stands before a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub stream: Stream,
    pub time: SystemTime,
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = match self.stream {
            Stream::Out => 1,
            Stream::Err => 2,
            Stream::Note => 3,
        };
        bytes[5..8].copy_from_slice(&MARK);
        bytes[8..].copy_from_slice(&to_nanoseconds(self.time).to_le_bytes());
        bytes
    }

    /// None where these bytes are no header.
    pub fn from_bytes(bytes: [u8; HEADER]) -> Option<Self> {
        let [a, b, c, d, stream, mark @ .., _, _, _, _, _, _, _, _] = bytes;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let stream = match stream {
            1 => Stream::Out,
            2 => Stream::Err,
            3 => Stream::Note,
            _ => return None,
        };
        let mut time = [0; 8];
        time.copy_from_slice(&bytes[8..]);
        (mark == MARK && (1..=LONGEST).contains(&length)).then(|| Self {
            length,
            stream,
            time: from_nanoseconds(u64::from_le_bytes(time)),
        })
    }
}
