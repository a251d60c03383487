//! docker's two modes of a log: the command waits while its output is written, or what finds no room in memory is lost.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use super::{Stream, Writer};
use crate::state::LogOptions;

/// A log, in one of both modes.
#[derive(Debug)]
pub enum Log {
    /// What is added is written at once.
    Blocking(Writer),
    /// What is added waits in memory.
    NonBlocking(Queue),
}

impl Log {
    /// Opens a sandbox's log as its options say.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(directory: &Path, options: LogOptions) -> io::Result<Self> {
        let writer = Writer::open(directory, options)?;
        Ok(match options.buffer {
            None => Self::Blocking(writer),
            Some(room) => Self::NonBlocking(Queue {
                room,
                writer: Some(writer),
                busy: None,
            }),
        })
    }

    /// Adds what was just read from a stream.
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) {
        match self {
            Self::Blocking(writer) => writer.add(stream, bytes),
            Self::NonBlocking(queue) => queue.add(stream, bytes),
        }
    }

    /// Moves what waits in a pipe into the log ([`Writer::take`]); none where it has to be read and added.
    pub fn take(&mut self, stream: Stream, pipe: BorrowedFd<'_>, most: usize) -> Option<usize> {
        match self {
            Self::Blocking(writer) => writer.take(stream, pipe, most),
            Self::NonBlocking(_) => None,
        }
    }

    /// Returns when all that was added is written or lost. No thread is left then.
    pub fn finish(&mut self) {
        if let Self::NonBlocking(queue) = self {
            queue.finish();
        }
    }
}

/// Output that waits for a thread to write it. The thread is there from the first output of a run to its end: whoever
/// starts a sandbox has one thread.
#[derive(Debug)]
pub struct Queue {
    /// Bytes that may wait.
    room: u64,
    /// The log, as long as no thread has it.
    writer: Option<Writer>,
    busy: Option<Busy>,
}

#[derive(Debug)]
struct Busy {
    shared: Arc<Shared>,
    thread: JoinHandle<Option<Writer>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

/// What waits, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: u64,
    over: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Record {
    Output(Stream, Vec<u8>),
    /// So many bytes found no room here.
    Lost(u64),
}

/// What output that waits takes of the room: many small pieces are more than their bytes.
fn taken(bytes: &[u8]) -> u64 {
    // The last is what an allocation takes besides.
    (bytes.len() + size_of::<Record>() + 32) as u64
}

impl Waiting {
    /// As docker has it: what does not fit is lost, but for what comes when nothing waits.
    fn add(&mut self, stream: Stream, bytes: &[u8], room: u64) {
        let (count, taken) = (bytes.len() as u64, taken(bytes));
        if self.bytes == 0 || self.bytes + taken <= room {
            self.bytes += taken;
            self.records
                .push_back(Record::Output(stream, bytes.to_vec()));
        } else if let Some(Record::Lost(lost)) = self.records.back_mut() {
            *lost += count;
        } else {
            self.records.push_back(Record::Lost(count));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it can panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes until it is over.
    fn write_out(&self, mut writer: Writer) -> Writer {
        loop {
            let mut waiting = self.lock();
            while waiting.records.is_empty() && !waiting.over {
                waiting = self
                    .more
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let Some(record) = waiting.records.pop_front() else {
                return writer;
            };
            drop(waiting);
            match record {
                Record::Output(stream, bytes) => {
                    writer.add(stream, &bytes);
                    // Room is what is not written yet.
                    self.lock().bytes -= taken(&bytes);
                }
                Record::Lost(count) => writer.lose(count),
            }
        }
    }
}

impl Queue {
    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(writer) = self.writer.take() {
            let shared = Arc::new(Shared::default());
            let theirs = Arc::clone(&shared);
            let (hand, handed) = mpsc::sync_channel::<Writer>(1);
            let spawned = thread::Builder::new()
                .spawn(move || handed.recv().ok().map(|writer| theirs.write_out(writer)));
            match spawned {
                Ok(thread) => {
                    // It takes it at once, as nothing comes before.
                    let _ = hand.send(writer);
                    self.busy = Some(Busy { shared, thread });
                }
                // Rather written late than lost.
                Err(_) => self.writer = Some(writer),
            }
        }
        if let Some(writer) = &mut self.writer {
            writer.add(stream, bytes);
        } else if let Some(busy) = &self.busy {
            busy.shared.lock().add(stream, bytes, self.room);
            busy.shared.more.notify_one();
        }
    }

    fn finish(&mut self) {
        if let Some(Busy { shared, thread }) = self.busy.take() {
            shared.lock().over = true;
            shared.more.notify_one();
            self.writer = thread.join().ok().flatten();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Reader, Wanted, lost};

    #[test]
    fn what_finds_no_room_is_counted_where_it_would_have_been() {
        let mut waiting = Waiting::default();
        let room = 2 * taken(b"12345");
        waiting.add(Stream::Out, &[b'0'; 1000], room);
        waiting.add(Stream::Err, b"12345", room);
        waiting.add(Stream::Out, b"123", room);
        waiting.bytes = taken(b"12345");
        waiting.add(Stream::Out, b"12345", room);
        waiting.add(Stream::Out, b"1", room);
        let records: Vec<Record> = waiting.records.into();
        assert_eq!(
            records,
            [
                Record::Output(Stream::Out, vec![b'0'; 1000]),
                Record::Lost(8),
                Record::Output(Stream::Out, b"12345".to_vec()),
                Record::Lost(1),
            ]
        );
    }

    #[test]
    fn many_small_pieces_take_no_more_memory_than_there_is_room() {
        let mut waiting = Waiting::default();
        let room = 1 << 16;
        for _ in 0..room {
            waiting.add(Stream::Out, b"1", room);
        }
        let held = waiting.records.len() * (size_of::<Record>() + 1);
        assert!(held as u64 <= room, "{held}");
    }

    #[test]
    fn all_that_was_added_is_in_the_log_when_it_is_finished_and_again_after_that() {
        let place = tempfile::tempdir().unwrap();
        let options = LogOptions {
            buffer: Some(1 << 20),
            ..LogOptions::default()
        };
        let mut log = Log::open(place.path(), options).unwrap();
        for round in 0..2 {
            for number in 0..1000 {
                log.add(Stream::Out, format!("{round} {number}\n").as_bytes());
            }
            log.finish();
            let mut reader = Reader::open(place.path(), Wanted::default(), false).unwrap();
            let mut lines = 0;
            while let Some(line) = reader.line().unwrap() {
                let number = format!("{} {}\n", lines / 1000, lines % 1000);
                assert_eq!(line.bytes, number.as_bytes());
                lines += 1;
            }
            assert_eq!(lines, (round + 1) * 1000);
        }
        assert_eq!(lost(place.path()), 0);
    }

    #[test]
    fn what_was_lost_is_said_in_the_log_and_summed_up_across_runs() {
        let place = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut writer = Writer::open(place.path(), LogOptions::default()).unwrap();
            writer.add(Stream::Out, b"before\n");
            writer.lose(70_000);
            writer.add(Stream::Out, b"after\n");
        }
        assert_eq!(lost(place.path()), 140_000);
        let mut reader = Reader::open(place.path(), Wanted::default(), false).unwrap();
        let mut notes = 0;
        while let Some(line) = reader.line().unwrap() {
            if line.stream == Stream::Note {
                notes += 1;
                assert!(line.bytes.starts_with(b"70000 bytes of output were lost"));
            }
        }
        assert_eq!(notes, 2);
    }
}
