//! `palisade logs`.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::time::SystemTime;

use clap::ArgMatches;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_shim::log::{Growth, Line, Reader, Stream, Wanted};
use palisade_shim::monitor::Client;
use palisade_shim::time::rfc3339;

use crate::failure::{Failure, reason};
use crate::format;
use crate::sandboxes::{failure, registry};

/// Prints what a sandbox wrote: its standard output to ours, its standard error to ours.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let name = matches
        .get_one::<String>("SANDBOX")
        .cloned()
        .unwrap_or_default();
    let entry = registry.find(&name).map_err(|error| failure(&error))?;
    let directory = entry.directory.join("log");
    if !directory.exists() {
        let config = entry.config().map_err(|error| failure(&error))?;
        if config.foreground {
            return Err(Failure::new(
                format!("sandbox {name} ran in the foreground: its output went to its caller"),
                "palisade run -d, whose output is kept",
            )
            .with_code(1));
        }
        if !config.log.keep {
            return Err(Failure::new(
                format!("sandbox {name} keeps no log (--log-driver none)"),
                "a sandbox made without that",
            )
            .with_code(1));
        }
        return Ok(0);
    }
    let now = SystemTime::now();
    let time = |option: &str| {
        let typed = matches.get_one::<String>(option);
        typed
            .map(|typed| format::parse_time(&format!("--{option}"), typed, now))
            .transpose()
            .map_err(|error| Failure::new(error.message, error.remedy))
    };
    let wanted = Wanted {
        since: time("since")?,
        until: time("until")?,
    };
    let tail = tail(matches.get_one::<String>("tail").map(String::as_str))?;
    let timestamps = matches.get_flag("timestamps");
    // Connected before the log is read: what is written between the two is then seen as growth.
    let client = matches
        .get_flag("follow")
        .then(|| Client::connect(&entry))
        .transpose()
        .map_err(|error| failure(&error))?
        .flatten();
    let growth = client
        .is_some()
        .then(|| Growth::of(&directory))
        .transpose()
        .map_err(|errno| Failure::new(format!("cannot watch the log: {}", errno.desc()), ""))?;
    let mut log = Reader::open(&directory, wanted, false).map_err(|error| unreadable(&error))?;
    let mut out = Printer::new(timestamps);
    if let Some(count) = tail {
        for line in log.tail(count).map_err(|error| unreadable(&error))? {
            out.print(&line)?;
        }
    }
    out.rest(&mut log)?;
    if !entry.is_watched().map_err(|error| failure(&error))? {
        log.cut().map_err(|error| unreadable(&error))?;
        out.rest(&mut log)?;
    }
    if let (Some(client), Some(growth)) = (client, growth) {
        follow(&client, &growth, &mut log, &mut out, wanted)?;
    }
    Ok(0)
}

/// Prints the rest of a log.
pub fn copy(mut log: Reader, timestamps: bool) -> Result<(), Failure> {
    Printer::new(timestamps).rest(&mut log)
}

/// `--tail`: none for everything.
fn tail(typed: Option<&str>) -> Result<Option<usize>, Failure> {
    match typed {
        None | Some("all") => Ok(None),
        Some(typed) => match typed.parse::<i64>() {
            // docker takes any negative number for all.
            Ok(count) => Ok(usize::try_from(count).ok()),
            Err(_) => Err(Failure::new(
                format!("--tail {typed} is neither a number of lines nor all"),
                "--tail 100",
            )),
        },
    }
}

/// Prints what is added, until the sandbox's monitor ends or `--until` has come.
fn follow(
    client: &Client,
    growth: &Growth,
    log: &mut Reader,
    out: &mut Printer,
    wanted: Wanted,
) -> Result<(), Failure> {
    loop {
        let mut fds = [
            PollFd::new(client.as_fd(), PollFlags::POLLIN),
            PollFd::new(growth.as_fd(), PollFlags::POLLIN),
        ];
        let left = wanted
            .until
            .map(|until| until.duration_since(SystemTime::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(Err(_)) => return Ok(()),
            Some(Ok(left)) => {
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure::new(
                    format!("cannot wait for the log: {}", errno.desc()),
                    "",
                ));
            }
        }
        let ended = fds[0].revents().is_some_and(|events| !events.is_empty());
        let noted = growth.noted();
        noted
            .map_err(|errno| Failure::new(format!("cannot watch the log: {}", errno.desc()), ""))?;
        out.rest(log)?;
        if ended || log.is_over() {
            return Ok(());
        }
    }
}

/// Writes lines to where they came from.
struct Printer {
    out: BufWriter<io::Stdout>,
    timestamps: bool,
    /// Somebody who reads no more is no failure, but nothing is written to them.
    closed: bool,
}

impl Printer {
    fn new(timestamps: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
            timestamps,
            closed: false,
        }
    }

    fn rest(&mut self, log: &mut Reader) -> Result<(), Failure> {
        while !self.closed
            && let Some(line) = log.line().map_err(|error| unreadable(&error))?
        {
            self.print(&line)?;
        }
        let flushed = self.out.flush();
        self.written(flushed)
    }

    fn print(&mut self, line: &Line) -> Result<(), Failure> {
        let mut text = Vec::with_capacity(line.bytes.len() + 32);
        if self.timestamps && line.begins {
            text.extend(rfc3339(line.time, 9).bytes());
            text.push(b' ');
        }
        if line.stream == Stream::Note {
            text.extend(b"note: ");
        }
        text.extend(&line.bytes);
        let written = match line.stream {
            Stream::Out => self.out.write_all(&text),
            // In the order they were written, as far as one reader sees both.
            Stream::Err | Stream::Note => self
                .out
                .flush()
                .and_then(|()| io::stderr().write_all(&text)),
        };
        self.written(written)
    }

    fn written(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => {
                let why = reason(&error);
                return Err(Failure::new(format!("cannot write the log out: {why}"), ""));
            }
            Ok(()) => {}
        }
        Ok(())
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(format!("cannot read the log: {}", reason(error)), "").with_code(1)
}
