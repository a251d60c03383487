//! Reading events as they are written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Event, Events};

/// A reader of events that goes on where it stopped, also into the file that takes the place of a full one.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    watch: Inotify,
    file: Option<File>,
    /// What was read of a line that is not whole yet.
    rest: Vec<u8>,
    /// The full file before the current one has been read.
    past: bool,
}

impl Events {
    /// Follows the events from the oldest that is kept.
    ///
    /// # Errors
    /// The directory cannot be made or watched (inotify(7)).
    pub fn follow(&self) -> io::Result<Follower> {
        let path = self.path().to_owned();
        let directory = path.parent().unwrap_or(std::path::Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // Before the first look: what is written after it is seen.
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        watch.add_watch(directory, what)?;
        Ok(Follower {
            path,
            watch,
            file: None,
            rest: Vec::new(),
            past: false,
        })
    }
}

impl Follower {
    /// What was written since the last call; a line that is cut is left for the next.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        if !self.past {
            self.past = true;
            if let Some(mut full) = open(&self.path.with_extension("1"))? {
                self.take(&mut full, &mut events)?;
            }
        }
        loop {
            if let Some(mut file) = self.file.take() {
                self.take(&mut file, &mut events)?;
                self.file = Some(file);
            }
            let Some(now) = open(&self.path)? else {
                return Ok(events);
            };
            let number = |file: &File| file.metadata().map(|metadata| metadata.ino());
            match &self.file {
                Some(file) if number(file)? == number(&now)? => return Ok(events),
                // A full file got another name: its last lines were read above.
                _ => self.file = Some(now),
            }
        }
    }

    /// Waits until something may have been written, or until a point in time; none for as long as it takes.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left.min(Duration::from_hours(1))).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.watch.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn take(&mut self, file: &mut File, events: &mut Vec<Event>) -> io::Result<()> {
        file.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let whole: Vec<u8> = self.rest.drain(..end.map_or(0, |end| end + 1)).collect();
        let lines = whole.split(|byte| *byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        Ok(())
    }
}

fn open(path: &std::path::Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Config;

    #[test]
    fn events_are_read_once_each_also_over_the_change_of_a_full_file() {
        let place = tempfile::tempdir().unwrap();
        let events = Events::new(place.path().join("data/events"));
        let mut follower = events.follow().unwrap();
        assert_eq!(follower.read().unwrap(), []);
        let actions = |follower: &mut Follower| -> Vec<String> {
            let events = follower.read().unwrap();
            events.into_iter().map(|event| event.action).collect()
        };
        let config = Config::default();
        events.record("create", &config, &[]);
        follower.wait(None).unwrap();
        assert_eq!(actions(&mut follower), ["create"]);
        events.record("start", &config, &[]);
        std::fs::rename(events.path(), events.path().with_extension("1")).unwrap();
        events.record("die", &config, &[]);
        assert_eq!(actions(&mut follower), ["start", "die"]);
        assert_eq!(actions(&mut follower), Vec::<String>::new());
        // Whoever comes later reads all that is kept.
        assert_eq!(
            actions(&mut events.follow().unwrap()),
            ["create", "start", "die"]
        );
    }

    #[test]
    fn a_line_that_is_not_whole_yet_is_left_for_later() {
        use std::io::Write;
        let place = tempfile::tempdir().unwrap();
        let events = Events::new(place.path().join("events"));
        events.record("create", &Config::default(), &[]);
        let line = std::fs::read(events.path()).unwrap();
        std::fs::write(events.path(), &line[..10]).unwrap();
        let mut follower = events.follow().unwrap();
        assert_eq!(follower.read().unwrap(), []);
        let mut file = File::options().append(true).open(events.path()).unwrap();
        file.write_all(&line[10..]).unwrap();
        assert_eq!(follower.read().unwrap().len(), 1);
    }
}
