//! Writing a log as fast as the command writes, within the space it may take.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::numbers;
use super::record::{HEADER, Header, LONGEST, Stream};
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
    /// What records from a pipe go by.
    between: Option<Between>,
}

impl Writer {
    /// Opens a sandbox's log to add to it. Of a record that a crash cut short, what there is of it stays.
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
        let size = size + keep_cut(&file, size)?;
        file.set_len(size)?;
        file.seek(SeekFrom::Start(size))?;
        Ok(Self {
            directory: directory.to_owned(),
            options,
            number,
            file,
            size,
            lost: 0,
            between: None,
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
                self.lost += count(bytes.len());
                return;
            }
            self.lost = 0;
        }
        if self.write(stream, bytes).is_err() {
            self.lost += count(bytes.len());
        }
    }

    /// Moves up to `most` bytes that wait in a pipe into the log, as one record, without their passing through this process
    /// (splice(2)). None where the caller has to read them: a source that is no pipe, a disk that is full.
    ///
    /// They go by a pipe between: a move into a file holds the pipe that it is from until the file has all, and the command
    /// would wait for that.
    ///
    /// `most` must not be more than the pipe holds now.
    pub fn take(&mut self, stream: Stream, pipe: BorrowedFd<'_>, most: usize) -> Option<usize> {
        let room = usize::try_from(self.options.max_size).unwrap_or(usize::MAX);
        let length = most.min(LONGEST).min(room.saturating_sub(HEADER));
        if length == 0 || self.lost > 0 {
            return None;
        }
        self.make_room(length).ok()?;
        let between = match self.between.take() {
            Some(between) => between,
            None => Between::new().ok()?,
        };
        let taken = self.take_by(&between, stream, pipe, length);
        self.between = Some(between);
        taken
    }

    fn take_by(
        &mut self,
        between: &Between,
        stream: Stream,
        pipe: BorrowedFd<'_>,
        length: usize,
    ) -> Option<usize> {
        let header = Header {
            length,
            stream,
            time: SystemTime::now(),
        };
        between.begin(&header.to_bytes()).ok()?;
        let held = shift(pipe, &between.into, length);
        let whole = HEADER + length;
        let moved = if held == length {
            shift(between.out.as_fd(), &self.file, whole)
        } else {
            0
        };
        if moved == whole {
            self.size += count(whole);
            return Some(length);
        }
        // Less came than was promised, or the disk is full: the rest is written as what is read is, or counted.
        let rest = between.rest(HEADER + held - moved);
        let written = moved.saturating_sub(HEADER);
        let mended = self.mend(Header {
            length: written,
            ..header
        });
        let rest = rest.get(HEADER.saturating_sub(moved)..).unwrap_or_default();
        if mended.is_ok() {
            self.add(stream, rest);
        } else {
            // Only a disk that fails: the next to open the log cuts off what is not whole.
            self.lost += count(rest.len());
        }
        (held > 0).then_some(held)
    }

    /// A record that became shorter than its header says: it gets the header it should have, or goes.
    fn mend(&mut self, header: Header) -> io::Result<()> {
        if header.length > 0 {
            self.file.write_all_at(&header.to_bytes(), self.size)?;
            self.size += count(HEADER + header.length);
        }
        self.cut()
    }

    /// Cuts off what is not whole.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.seek(SeekFrom::Start(self.size))?;
        Ok(())
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
        // The note is what counts: what it says is not said again because the sum could not be written.
        let _ = fs::write(self.directory.join(super::LOST), sum.to_string());
        Ok(())
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let whole = count(HEADER + bytes.len());
        self.make_room(bytes.len())?;
        let header = Header {
            length: bytes.len(),
            stream,
            time: SystemTime::now(),
        };
        let header = header.to_bytes();
        let written = write_both(&mut self.file, &header, bytes);
        if written.is_err() {
            // Half a record would hide what comes after it.
            self.cut()?;
        } else {
            self.size += whole;
        }
        written
    }

    /// Begins the next file where a record of this length has no room in this one.
    fn make_room(&mut self, length: usize) -> io::Result<()> {
        if self.size > 0 && self.size + (HEADER + length) as u64 > self.options.max_size {
            self.rotate()?;
        }
        Ok(())
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

fn count(bytes: usize) -> u64 {
    bytes as u64
}

fn open(directory: &Path, number: u64) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(number.to_string()))
}

/// A pipe that is empty but while a record goes through it.
#[derive(Debug)]
struct Between {
    out: OwnedFd,
    into: OwnedFd,
}

impl Between {
    /// With room for a header and what waits in another pipe, however many pieces that was written in.
    fn new() -> rustix::io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user who has too many (pipe(7), pipe-user-pages-soft) has less room: what does not fit is read.
        let _ = fcntl_setpipe_size(&into, 2 * 64 * 1024);
        Ok(Self { out, into })
    }

    fn begin(&self, header: &[u8]) -> rustix::io::Result<()> {
        // Into an empty pipe so little goes at once (pipe(7), PIPE_BUF).
        rustix::io::write(&self.into, header).map(drop)
    }

    /// Takes out so many bytes, or what there is.
    fn rest(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match rustix::io::read(&self.out, &mut bytes[read..]) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        bytes.truncate(read);
        bytes
    }
}

/// Moves bytes that wait in a pipe without copying them, where both sides are pipes; how many they were.
fn shift(pipe: BorrowedFd<'_>, to: impl AsFd, length: usize) -> usize {
    let mut moved = 0;
    while moved < length {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(pipe, None, &to, None, length - moved, flags) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => break,
            Ok(count) => moved += count,
        }
    }
    moved
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

/// Makes a whole record of one at `at` that a crash cut short; its size, 0 where there is nothing of it to keep.
fn keep_cut(file: &File, at: u64) -> io::Result<u64> {
    let left = file.metadata()?.len().saturating_sub(at);
    let mut header = [0; HEADER];
    if left <= HEADER as u64 {
        return Ok(0);
    }
    file.read_exact_at(&mut header, at)?;
    let length = usize::try_from(left).unwrap_or(usize::MAX) - HEADER;
    match Header::from_bytes(header) {
        Some(header) if length < header.length => {
            file.write_all_at(&Header { length, ..header }.to_bytes(), at)?;
            Ok(left)
        }
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::AsFd;

    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

    use super::Writer;
    use crate::log::{Reader, Stream, Wanted, size};
    use crate::state::LogOptions;

    fn read(place: &std::path::Path) -> Vec<u8> {
        let mut reader = Reader::open(place, Wanted::default(), false).unwrap();
        let lines = std::iter::from_fn(|| reader.line().unwrap());
        lines.flat_map(|line| line.bytes).collect()
    }

    #[test]
    fn what_waits_in_a_pipe_is_moved_in_order_beside_what_was_read() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        let (out, mut theirs) = pipe().unwrap();
        theirs.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 4), Some(4));
        writer.add(Stream::Out, b"between\n");
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 4), Some(4));
        assert_eq!(read(place.path()), b"one\nbetween\ntwo\n");
    }

    #[test]
    fn a_pipe_that_holds_less_than_was_promised_leaves_a_record_of_what_it_held() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        let (out, mut theirs) = pipe().unwrap();
        theirs.write_all(b"short\n").unwrap();
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 100), Some(6));
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 100), None);
        writer.add(Stream::Out, b"more\n");
        assert_eq!(read(place.path()), b"short\nmore\n");
    }

    #[test]
    fn what_was_written_in_more_pieces_than_a_pipe_has_room_for_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        // In packet mode each write is a piece of its own (pipe(7), O_DIRECT).
        let (out, theirs) = pipe_with(PipeFlags::DIRECT | PipeFlags::NONBLOCK).unwrap();
        fcntl_setpipe_size(&theirs, 1 << 20).unwrap();
        let mut sent = Vec::<u8>::new();
        for round in 0..3 {
            let begun = sent.len();
            for number in 0..100 {
                let piece = format!("{round} {number}\n");
                rustix::io::write(&theirs, piece.as_bytes()).unwrap();
                sent.extend(piece.as_bytes());
            }
            let mut left = sent.len() - begun;
            while left > 0 {
                left -= writer.take(Stream::Out, out.as_fd(), left).unwrap();
            }
        }
        assert_eq!(read(place.path()), sent);
    }

    #[test]
    fn a_log_that_takes_from_a_pipe_keeps_within_its_space() {
        let place = tempfile::tempdir().unwrap();
        let options = LogOptions {
            max_size: 1000,
            max_file: 2,
            ..LogOptions::default()
        };
        let mut writer = Writer::open(place.path(), options).unwrap();
        let (out, mut theirs) = pipe().unwrap();
        for _ in 0..50 {
            theirs.write_all(&[b'a'; 3000]).unwrap();
            let mut left = 3000;
            while left > 0 {
                left -= writer.take(Stream::Out, out.as_fd(), left).unwrap();
                assert!(size(place.path()).unwrap() <= 2000);
            }
        }
    }

    #[test]
    fn a_source_that_is_no_pipe_is_left_to_the_caller_and_what_a_full_disk_does_not_take_is_counted()
     {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(writer.take(Stream::Out, directory.as_fd(), 4), None);
        let file = std::mem::replace(
            &mut writer.file,
            std::fs::File::create("/dev/full").unwrap(),
        );
        let (out, mut theirs) = pipe().unwrap();
        theirs.write_all(b"gone").unwrap();
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 4), Some(4));
        writer.file = file;
        theirs.write_all(b"kept").unwrap();
        assert_eq!(writer.take(Stream::Out, out.as_fd(), 4), None);
        writer.add(Stream::Out, b"kept");
        let note = "4 bytes of output were lost: no space for the log\n";
        assert_eq!(read(place.path()), [note, "kept"].concat().as_bytes());
    }
}
