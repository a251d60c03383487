//! Writing a log as fast as the command writes, within the space it may take.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::numbers;
use super::record::{HEADER, Header, Stream};
use crate::state::LogOptions;

/// A log that is being written.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    options: LogOptions,
    number: u64,
    pub(super) file: File,
    size: u64,
    /// Bytes that the disk did not take since it last took some.
    lost: u64,
}

impl Writer {
    /// Opens a sandbox's log to add to it. What a crash cut off at its end goes.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(directory: &Path, options: LogOptions) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let number = numbers(directory)?.last().copied().unwrap_or(1);
        let mut file = open(directory, number)?;
        let size = whole(&mut file)?;
        file.set_len(size)?;
        file.seek(SeekFrom::Start(size))?;
        Ok(Self {
            directory: directory.to_owned(),
            options,
            number,
            file,
            size,
            lost: 0,
        })
    }

    /// Adds what was just read from a stream. What the disk does not take is counted, and said in the log as soon as the
    /// disk takes something again; the command never waits for that.
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.lost > 0 {
            if self.note(self.lost, "no space for the log").is_err() {
                self.lost += count(bytes);
                return;
            }
            self.lost = 0;
        }
        if self.write(stream, bytes).is_err() {
            self.lost += count(bytes);
        }
    }

    /// Says in the log that so many bytes never came here.
    pub fn lose(&mut self, bytes: u64) {
        if self
            .note(bytes, "the log was behind (mode=non-blocking)")
            .is_err()
        {
            self.lost += bytes;
        }
    }

    fn note(&mut self, lost: u64, why: &str) -> io::Result<()> {
        let note = format!("{lost} bytes of output were lost: {why}\n");
        self.write(Stream::Note, note.as_bytes())?;
        let sum = super::lost(&self.directory) + lost;
        fs::write(self.directory.join(super::LOST), sum.to_string())
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let whole = count(bytes) + HEADER as u64;
        if self.size > 0 && self.size + whole > self.options.max_size {
            self.rotate()?;
        }
        let header = Header {
            length: bytes.len(),
            stream,
            time: SystemTime::now(),
        };
        let header = header.to_bytes();
        let written = write_both(&mut self.file, &header, bytes);
        if written.is_err() {
            // Half a record would hide what comes after it.
            self.file.set_len(self.size)?;
            self.file.seek(SeekFrom::Start(self.size))?;
        } else {
            self.size += whole;
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = open(&self.directory, self.number + 1)?;
        self.number += 1;
        self.file = next;
        self.size = 0;
        let kept = u64::from(self.options.max_file.max(1));
        for number in numbers(&self.directory)? {
            if number + kept <= self.number {
                fs::remove_file(self.directory.join(number.to_string()))?;
            }
        }
        Ok(())
    }
}

fn count(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

fn open(directory: &Path, number: u64) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(number.to_string()))
}

/// Header and bytes with one call where the disk takes them at once.
fn write_both(file: &mut File, header: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut slices: &mut [IoSlice<'_>] = &mut [IoSlice::new(header), IoSlice::new(bytes)];
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How much of a file is whole records.
fn whole(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut reader = io::BufReader::new(file);
    let mut at = 0;
    let mut header = [0; HEADER];
    loop {
        match reader.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(at),
            other => other?,
        }
        let Some(Header { length: bytes, .. }) = Header::from_bytes(header) else {
            return Ok(at);
        };
        let end = at + (HEADER + bytes) as u64;
        if end > length {
            return Ok(at);
        }
        reader.seek_relative(i64::try_from(bytes).unwrap_or(i64::MAX))?;
        at = end;
    }
}
