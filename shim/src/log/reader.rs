//! Reading a log, line by line, while it may still be written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::numbers;
use super::record::{HEADER, Header, Stream};

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Nothing written before.
    pub since: Option<SystemTime>,
    /// Nothing written after.
    pub until: Option<SystemTime>,
}

/// What a command wrote on one stream up to a line's end, or up to the end of a record without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub time: SystemTime,
    /// Where.
    pub stream: Stream,
    /// The bytes, the newline included where there was one.
    pub bytes: Vec<u8>,
    /// Whether it begins a line: only then a time belongs before it.
    pub begins: bool,
}

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    wanted: Wanted,
    file: Option<(u64, File)>,
    /// Position behind the last whole record that was read.
    at: u64,
    lines: VecDeque<Line>,
    /// Whether the next byte of standard output, standard error and notes begins a line.
    fresh: [bool; 3],
    record: Vec<u8>,
    over: bool,
}

impl Reader {
    /// Reads a log from its beginning, or from what will be written from now on.
    ///
    /// # Errors
    /// It cannot be read. A log that does not exist yet is empty.
    pub fn open(directory: &Path, wanted: Wanted, from_end: bool) -> io::Result<Self> {
        let mut reader = Self {
            directory: directory.to_owned(),
            wanted,
            file: None,
            at: 0,
            lines: VecDeque::new(),
            fresh: [true; 3],
            record: Vec::new(),
            over: false,
        };
        if from_end {
            while reader.advance()? {
                reader.lines.clear();
            }
        }
        Ok(reader)
    }

    /// The next line; none where nothing more is written yet.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn line(&mut self) -> io::Result<Option<Line>> {
        while self.lines.is_empty() && !self.over {
            if !self.advance()? {
                break;
            }
        }
        Ok(self.lines.pop_front())
    }

    /// The last `count` lines of what there is; what is written afterwards comes from [`line`](Self::line).
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn tail(&mut self, count: usize) -> io::Result<VecDeque<Line>> {
        let mut last = VecDeque::new();
        let mut begun = 0;
        while let Some(line) = self.line()? {
            begun += usize::from(line.begins);
            last.push_back(line);
            while begun > count
                || (count == 0 && !last.is_empty())
                || last
                    .front()
                    .is_some_and(|line| !line.begins && begun >= count)
            {
                match last.pop_front() {
                    Some(line) => begun -= usize::from(line.begins),
                    None => break,
                }
            }
        }
        Ok(last)
    }

    /// What there is of a last record that a crash cut short, as lines: for a log that nobody writes any more.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn cut(&mut self) -> io::Result<()> {
        let Some((_, file)) = &mut self.file else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = [0; HEADER];
        if !read_whole(file, &mut bytes)? {
            return Ok(());
        }
        if let Some(header) = Header::from_bytes(bytes) {
            self.record.clear();
            file.take(header.length as u64)
                .read_to_end(&mut self.record)?;
            self.take(header);
        }
        Ok(())
    }

    /// Whether everything up to `until` was read.
    pub fn is_over(&self) -> bool {
        self.over && self.lines.is_empty()
    }

    /// Reads one record into lines; false where there is none yet.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.file.is_none() && !self.open_after(None)? {
                return Ok(false);
            }
            if let Some(header) = self.read_record()? {
                self.take(header);
                return Ok(true);
            }
            // This file gets no more once there is a next one; what it got before that is read first.
            let number = self.file.as_ref().map(|(number, _)| *number);
            if !numbers(&self.directory)?
                .into_iter()
                .any(|n| Some(n) > number)
            {
                return Ok(false);
            }
            if let Some(header) = self.read_record()? {
                self.take(header);
                return Ok(true);
            }
            if !self.open_after(number)? {
                return Ok(false);
            }
        }
    }

    /// Opens the first file after `number` that is there.
    fn open_after(&mut self, number: Option<u64>) -> io::Result<bool> {
        loop {
            let found = numbers(&self.directory)?
                .into_iter()
                .find(|n| Some(*n) > number);
            let Some(next) = found else {
                return Ok(false);
            };
            match File::open(self.directory.join(next.to_string())) {
                Ok(file) => {
                    self.file = Some((next, file));
                    self.at = 0;
                    return Ok(true);
                }
                // Rotated away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_record(&mut self) -> io::Result<Option<Header>> {
        let Some((_, file)) = &mut self.file else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = [0; HEADER];
        if !read_whole(file, &mut bytes)? {
            return Ok(None);
        }
        let Some(header) = Header::from_bytes(bytes) else {
            return Ok(None);
        };
        self.record.resize(header.length, 0);
        if !read_whole(file, &mut self.record)? {
            return Ok(None);
        }
        self.at += (HEADER + header.length) as u64;
        Ok(Some(header))
    }

    fn take(&mut self, header: Header) {
        let Header { stream, time, .. } = header;
        if self.wanted.until.is_some_and(|until| time > until) {
            self.over = true;
            return;
        }
        let wanted = self.wanted.since.is_none_or(|since| time >= since);
        for bytes in self.record.split_inclusive(|byte| *byte == b'\n') {
            let fresh = &mut self.fresh[stream as usize];
            let begins = std::mem::replace(fresh, bytes.ends_with(b"\n"));
            if wanted {
                self.lines.push_back(Line {
                    time,
                    stream,
                    bytes: bytes.to_vec(),
                    begins,
                });
            }
        }
    }
}

/// Fills the buffer; false where the file ends before that.
fn read_whole(file: &mut File, mut buffer: &mut [u8]) -> io::Result<bool> {
    while !buffer.is_empty() {
        match file.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use super::{HEADER, Reader, Wanted};
    use crate::log::{Stream, Writer, size};
    use crate::state::LogOptions;

    fn all(reader: &mut Reader) -> Vec<(Stream, String)> {
        let mut lines = Vec::new();
        while let Some(line) = reader.line().unwrap() {
            lines.push((line.stream, String::from_utf8(line.bytes).unwrap()));
        }
        lines
    }

    #[test]
    fn a_log_that_is_cut_at_any_byte_keeps_every_record_before_and_takes_more() {
        let place = tempfile::tempdir().unwrap();
        let original = place.path().join("original");
        let mut writer = Writer::open(&original, LogOptions::default()).unwrap();
        writer.add(Stream::Out, b"one\n");
        let one = fs::metadata(original.join("1")).unwrap().len();
        writer.add(Stream::Err, b"two\n");
        let bytes = fs::read(original.join("1")).unwrap();
        for cut in 0..bytes.len() {
            let directory = place.path().join(cut.to_string());
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("1"), &bytes[..cut]).unwrap();
            let read = || all(&mut Reader::open(&directory, Wanted::default(), false).unwrap());
            let mut expected = vec![(Stream::Out, "one\n".to_owned())];
            expected.truncate(usize::from(cut as u64 >= one));
            assert_eq!(read(), expected, "cut at {cut}");
            // What there is of the record that was cut is kept, too.
            let (text, stream, at) = if cut as u64 >= one {
                ("two\n", Stream::Err, usize::try_from(one).unwrap())
            } else {
                ("one\n", Stream::Out, 0)
            };
            if cut > at + HEADER {
                expected.push((stream, text[..cut - at - HEADER].to_owned()));
            }
            let mut reader = Reader::open(&directory, Wanted::default(), false).unwrap();
            let mut last = all(&mut reader);
            reader.cut().unwrap();
            last.extend(all(&mut reader));
            assert_eq!(last, expected, "cut at {cut}, read to its end");
            let mut writer = Writer::open(&directory, LogOptions::default()).unwrap();
            writer.add(Stream::Out, b"more\n");
            expected.push((Stream::Out, "more\n".to_owned()));
            assert_eq!(read(), expected, "cut at {cut}, continued");
        }
    }

    #[test]
    fn a_log_never_takes_more_space_than_it_may() {
        let place = tempfile::tempdir().unwrap();
        let options = LogOptions {
            max_size: 1000,
            max_file: 3,
            ..LogOptions::default()
        };
        let mut writer = Writer::open(place.path(), options).unwrap();
        let mut follower = Reader::open(place.path(), Wanted::default(), false).unwrap();
        for count in 0..500 {
            writer.add(Stream::Out, format!("line {count}\n").as_bytes());
            assert!(size(place.path()).unwrap() <= 3000);
            // A reader that keeps up misses nothing.
            assert_eq!(
                all(&mut follower),
                [(Stream::Out, format!("line {count}\n"))]
            );
        }
        let kept = all(&mut Reader::open(place.path(), Wanted::default(), false).unwrap());
        assert_eq!(kept.last().unwrap().1, "line 499\n");
        assert!(kept.len() > 80, "{}", kept.len());
    }

    #[test]
    fn the_tail_is_of_lines_even_where_one_came_in_pieces() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        for piece in ["a\nb", "b\nc\n", "d", "d\n"] {
            writer.add(Stream::Out, piece.as_bytes());
        }
        let tail = |count| {
            let mut reader = Reader::open(place.path(), Wanted::default(), false).unwrap();
            let lines = reader.tail(count).unwrap();
            let bytes: Vec<u8> = lines.into_iter().flat_map(|line| line.bytes).collect();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "dd\n");
        assert_eq!(tail(3), "bb\nc\ndd\n");
        assert_eq!(tail(9), "a\nbb\nc\ndd\n");
    }

    #[test]
    fn what_was_written_at_another_time_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        writer.add(Stream::Out, b"early\n");
        let between = SystemTime::now();
        writer.add(Stream::Out, b"late\n");
        let read = |wanted| all(&mut Reader::open(place.path(), wanted, false).unwrap());
        let since = Wanted {
            since: Some(between),
            until: None,
        };
        let until = Wanted {
            since: None,
            until: Some(between),
        };
        assert_eq!(read(since), [(Stream::Out, "late\n".to_owned())]);
        assert_eq!(read(until), [(Stream::Out, "early\n".to_owned())]);
    }

    #[test]
    fn a_full_disk_loses_output_and_the_log_says_how_much() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
        writer.add(Stream::Out, b"before\n");
        let file = std::mem::replace(&mut writer.file, File::open("/dev/full").unwrap());
        writer.add(Stream::Out, b"lost\n");
        writer.file = file;
        writer.add(Stream::Out, b"after\n");
        let lines = all(&mut Reader::open(place.path(), Wanted::default(), false).unwrap());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].1.starts_with("5 bytes"), "{lines:?}");
        assert_eq!(lines[2].1, "after\n");
    }
}
