//! Slots of a pool, handed out in the order of arrival, by file locks (flock(2)) that end with their holder.
//!
//! ```text
//! pools/<name>/slots/<n>       a FIFO that whoever has the slot keeps open and locked. The kernel lets the lock go before it
//!                              tells readers that the last writer is gone, so that who waits for that finds a free lock
//! pools/<name>/queue/<ticket>  one file for each that waits, locked by it; the numbers are the order
//! ```
//!
//! Whoever waits blocks on the lock of the ticket before its own, the first on the FIFOs of all slots at once. The directory
//! `queue/` is locked only to look and to add a ticket.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::fs::{FlockOperation, OFlags, flock};

/// A pool on disk.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    /// How many may run at once.
    count: u32,
    /// How many may wait.
    queue: u32,
}

/// A slot, free again when this is dropped or its process ends.
#[derive(Debug)]
pub struct Slot {
    held: OwnedFd,
}

impl From<Slot> for OwnedFd {
    /// The descriptor that has the slot for as long as any process has it open.
    fn from(slot: Slot) -> Self {
        slot.held
    }
}

/// What came of asking for a slot.
#[derive(Debug)]
pub enum Asked {
    /// There was one.
    Got(Slot),
    /// All are taken; so many wait before this one.
    Waiting(Ticket, usize),
    /// All are taken, and as many wait as may.
    Full,
}

/// A place in the queue, given up when this is dropped or its process ends.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    path: PathBuf,
    _held: File,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // One that stays is removed by the next who looks: nobody has it locked.
        let _ = fs::remove_file(&self.path);
    }
}

impl Slots {
    /// Opens a pool, making what is missing.
    pub fn open(directory: &Path, count: u32, queue: u32) -> io::Result<Self> {
        fs::create_dir_all(directory.join("slots"))?;
        fs::create_dir_all(directory.join("queue"))?;
        for number in 0..count {
            match mkfifo(
                &directory.join("slots").join(number.to_string()),
                Mode::S_IRUSR | Mode::S_IWUSR,
            ) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            count,
            queue,
        })
    }

    /// Asks for a slot, without waiting for one.
    pub fn ask(&self) -> io::Result<Asked> {
        let _looking = self.look()?;
        let waiting = self.tickets()?;
        if waiting.is_empty()
            && let Some(slot) = self.try_all()?
        {
            return Ok(Asked::Got(slot));
        }
        if waiting.len() >= self.queue as usize {
            return Ok(Asked::Full);
        }
        let number = waiting.last().map_or(1, |last| last + 1);
        let path = self.ticket(number);
        let file = File::options().create_new(true).write(true).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let ticket = Ticket {
            number,
            path,
            _held: file,
        };
        Ok(Asked::Waiting(ticket, waiting.len()))
    }

    /// Waits for the turn of a ticket and then for a slot.
    pub fn wait(&self, ticket: Ticket) -> io::Result<Slot> {
        while let Some(before) = self.before(&ticket)? {
            // Until who is before has a slot, or is gone.
            match flock(&before, FlockOperation::LockShared) {
                Ok(()) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // Opened before the locks are tried: a holder that goes in between is seen by poll.
        let bells: Vec<OwnedFd> = (0..self.count)
            .map(|number| {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(self.slot(number), flags, rustix::fs::Mode::empty())
            })
            .collect::<Result<_, _>>()?;
        loop {
            if let Some(slot) = self.try_all()? {
                // The turn of the next.
                drop(ticket);
                return Ok(slot);
            }
            let mut fds: Vec<PollFd<'_>> = bells
                .iter()
                .map(|bell| PollFd::new(bell.as_fd(), PollFlags::empty()))
                .collect();
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Locks the queue.
    fn look(&self) -> io::Result<File> {
        let queue = File::open(self.directory.join("queue"))?;
        flock(&queue, FlockOperation::LockExclusive)?;
        Ok(queue)
    }

    fn slot(&self, number: u32) -> PathBuf {
        self.directory.join("slots").join(number.to_string())
    }

    fn ticket(&self, number: u64) -> PathBuf {
        self.directory.join("queue").join(format!("{number:020}"))
    }

    fn try_all(&self) -> io::Result<Option<Slot>> {
        for number in 0..self.count {
            // Reading and writing, so that opening waits for nobody, and a reader sees that somebody has it.
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let slot = rustix::fs::open(self.slot(number), flags, rustix::fs::Mode::empty())?;
            match flock(&slot, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Slot { held: slot })),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// The tickets of those who wait, in order. Those that nobody has any more are removed. The queue must be locked.
    fn tickets(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.directory.join("queue"))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if is_held(&entry.path())?.is_some() {
                numbers.push(number);
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The ticket right before this one; none if it is the first.
    fn before(&self, ticket: &Ticket) -> io::Result<Option<File>> {
        let _looking = self.look()?;
        loop {
            let mut earlier = self.tickets()?.into_iter();
            let Some(number) = earlier.rfind(|number| *number < ticket.number) else {
                return Ok(None);
            };
            // One that was given up since the look lets the next look find the one before it.
            if let Some(held) = is_held(&self.ticket(number))? {
                return Ok(Some(held));
            }
        }
    }
}

/// The file, if somebody has it locked. A shared lock is tried: others who wait have one for moments.
fn is_held(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(file)),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn got(asked: Asked) -> Slot {
        match asked {
            Asked::Got(slot) => slot,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(asked: Asked) -> (Ticket, usize) {
        match asked {
            Asked::Waiting(ticket, before) => (ticket, before),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slots_are_handed_out_until_there_is_none_and_then_places_until_the_queue_is_full() {
        let place = tempfile::tempdir().unwrap();
        let slots = Slots::open(place.path(), 2, 2).unwrap();
        let first = got(slots.ask().unwrap());
        let second = got(slots.ask().unwrap());
        let (third, before) = waiting(slots.ask().unwrap());
        assert_eq!(before, 0);
        let (fourth, before) = waiting(slots.ask().unwrap());
        assert_eq!(before, 1);
        assert!(matches!(slots.ask().unwrap(), Asked::Full));
        // Who gives up makes room; who comes then waits behind those who wait.
        drop(third);
        let (fifth, before) = waiting(slots.ask().unwrap());
        assert_eq!(before, 1);
        drop(first);
        // A free slot is not for one who comes later than others who wait.
        assert!(matches!(slots.ask().unwrap(), Asked::Full));
        let fourth = slots.wait(fourth).unwrap();
        drop(second);
        let fifth = slots.wait(fifth).unwrap();
        drop((fourth, fifth));
        got(slots.ask().unwrap());
    }

    #[test]
    fn those_who_wait_go_on_in_the_order_they_came() {
        let place = tempfile::tempdir().unwrap();
        let slots = Slots::open(place.path(), 1, 10).unwrap();
        let running = got(slots.ask().unwrap());
        let tickets: Vec<Ticket> = (0..5).map(|_| waiting(slots.ask().unwrap()).0).collect();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for (number, ticket) in tickets.into_iter().enumerate().rev() {
                let (tell, slots) = (tell.clone(), &slots);
                scope.spawn(move || {
                    let slot = slots.wait(ticket).unwrap();
                    tell.send(number).unwrap();
                    drop(slot);
                });
            }
            drop(running);
            assert_eq!(told.iter().take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        });
    }

    #[test]
    fn never_more_run_at_once_than_there_are_slots() {
        let place = tempfile::tempdir().unwrap();
        let (running, most, done) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let slots = Slots::open(place.path(), 3, 100).unwrap();
                    for _ in 0..10 {
                        let slot = match slots.ask().unwrap() {
                            Asked::Got(slot) => slot,
                            Asked::Waiting(ticket, _) => slots.wait(ticket).unwrap(),
                            Asked::Full => panic!("full"),
                        };
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 240);
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(fs::read_dir(place.path().join("queue")).unwrap().count(), 0);
    }
}
