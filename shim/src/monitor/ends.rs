//! The monitor's ends of a command's streams, and the log that its output goes to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use palisade_runtime::{Plan, Stdio};

use crate::Error;
use crate::log::{Log, Stream};
use crate::meter::{Gauge, Meter};
use crate::relay::capacity;
use crate::stdio::{Streams, duplicate, null, set_nonblocking};

/// As much as a pipe holds.
const BUFFER: usize = 64 * 1024;

/// Enough to learn whether a stream in which nothing waits is over.
const SMALL: usize = 256;

/// Full buffers of one stream in a turn: a megabyte, a millisecond's work.
const READS: usize = 16;

/// What comes from each source.
const STREAMS: [Stream; 2] = [Stream::Out, Stream::Err];

/// What the monitor has of a command's streams while it runs.
#[derive(Debug)]
pub struct Ends {
    /// None where nothing is kept.
    log: Option<Log>,
    /// Whether the command has a terminal.
    terminal: bool,
    /// Where the command's standard output and error, or its terminal, can be read.
    sources: [Option<OwnedFd>; 2],
    /// Where its standard input or its terminal can be written.
    input: Option<OwnedFd>,
    /// What counts what the command writes, where that is limited.
    meters: [Option<Rc<Meter>>; 2],
    /// There from the first output that has to be read.
    buffer: Vec<u8>,
}

impl Ends {
    pub fn new(log: Option<Log>) -> Self {
        Self {
            log,
            terminal: false,
            sources: [None, None],
            input: None,
            meters: [None, None],
            buffer: Vec::new(),
        }
    }

    /// The command's streams, where they end here.
    pub fn streams(
        &mut self,
        plan: &Plan,
        terminal: bool,
        gauge: Option<&Gauge>,
    ) -> Result<Streams, Error> {
        self.sources = [None, None];
        self.input = None;
        self.terminal = terminal;
        self.meters = [gauge.map(Gauge::meter), gauge.map(Gauge::meter)];
        if terminal {
            return Streams::none();
        }
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"));
        let stdin = if plan.interactive {
            let (theirs, ours) = pipe()?;
            // Whoever is attached writes what fits, and waits for nobody who does not read.
            set_nonblocking(&ours).map_err(Error::system("make a pipe"))?;
            self.input = Some(ours);
            theirs
        } else {
            null()?
        };
        let (stdout, stderr) = if self.log.is_some() {
            let (out, stdout) = pipe()?;
            let (err, stderr) = pipe()?;
            for ours in [&out, &err] {
                set_nonblocking(ours).map_err(Error::system("make a pipe"))?;
            }
            self.sources = [Some(out), Some(err)];
            (stdout, stderr)
        } else {
            (null()?, null()?)
        };
        Ok(Streams {
            handed: Stdio {
                stdin,
                stdout,
                stderr,
            },
            input: None,
            output: [None, None],
            meters: self.meters.clone(),
        })
    }

    /// The command's terminal is there.
    pub fn terminal(
        &mut self,
        master: BorrowedFd<'_>,
        meter: Option<Rc<Meter>>,
    ) -> Result<(), Error> {
        self.meters = [meter, None];
        set_nonblocking(master).map_err(Error::system("prepare the terminal"))?;
        self.sources = [Some(duplicate(master)?), None];
        self.input = Some(duplicate(master)?);
        Ok(())
    }

    /// What can be read, where it is not closed.
    pub fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sources.iter().flatten()
    }

    /// Where standard input can be written.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// The command reads the end of its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Reads each stream into the log, again where its pipe was full, but not so long that others would notice.
    pub fn read(&mut self) {
        for index in 0..self.sources.len() {
            for _ in 0..READS {
                if self.read_source(index, BUFFER) != Some(BUFFER) {
                    break;
                }
            }
        }
    }

    /// Reads at most so many bytes, and says how many; none where there is no more now.
    fn read_source(&mut self, index: usize, most: usize) -> Option<usize> {
        let source = self.sources[index].as_ref()?;
        let mut quiet = false;
        // What is measured has to be seen; of the rest nothing needs to pass through here.
        if self.meters[index].is_none()
            && !self.terminal
            && let Some(log) = &mut self.log
            && let Ok(waiting) = rustix::io::ioctl_fionread(source)
        {
            let waiting = usize::try_from(waiting).unwrap_or(BUFFER);
            if let Some(count) = log.take(STREAMS[index], source.as_fd(), waiting.min(most)) {
                return Some(count);
            }
            quiet = waiting == 0;
        }
        let mut small = [0; SMALL];
        let buffer = if quiet {
            &mut small[..]
        } else {
            self.buffer.resize(BUFFER, 0);
            &mut self.buffer[..]
        };
        let most = most.min(buffer.len());
        match read(source, &mut buffer[..most]) {
            Err(Errno::EINTR) => Some(0),
            Err(Errno::EAGAIN) => None,
            // EIO is how a terminal says that nobody has its other side open.
            Ok(0) | Err(_) => {
                self.sources[index] = None;
                None
            }
            Ok(count) => {
                // What is beyond the limit on output is read and dropped until the command has ended.
                let bytes = match &self.meters[index] {
                    Some(meter) => {
                        let bytes = &buffer[..meter.admit(count)];
                        meter.passed(bytes);
                        bytes
                    }
                    None => &buffer[..count],
                };
                if let Some(log) = &mut self.log {
                    log.add(STREAMS[index], bytes);
                }
                Some(count)
            }
        }
    }

    /// Reads what the command wrote before its end, and no more than its streams can hold of what others go on writing.
    pub fn drain(&mut self) {
        for index in 0..self.sources.len() {
            let mut rest = self.sources[index].as_ref().map_or(0, capacity);
            while rest > 0
                && let Some(count) = self.read_source(index, rest)
            {
                rest -= count;
            }
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.sources = [None, None];
        self.input = None;
        self.buffer = Vec::new();
    }
}
