//! Being attached to a detached sandbox: its log as it grows, the caller's keys and signals, until it ends.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_runtime::terminal::{set_window_size, window_size};

use super::client::Client;
use super::request::{Answer, Request};
use crate::Error;
use crate::console::RawMode;
use crate::log::{Growth, Reader, Stream};
use crate::relay::{Flow, Relay, Sink};
use crate::signals::Signals;
use crate::state::Known;
use crate::stdio::{duplicate, source};

/// docker's keys that leave a sandbox running: control-p, control-q.
pub const LEAVE: [u8; 2] = [16, 17];

/// How being attached ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The command ended with this exit code; none where nobody saw its end.
    Ended(Option<u8>),
    /// The caller went away; the command goes on.
    Detached,
    /// A signal of this number ended the caller's interest; the command goes on.
    Interrupted(i32),
}

/// What to be attached to.
#[derive(Debug)]
pub struct Attachment<'a> {
    /// The sandbox.
    pub known: &'a Known,
    /// A connection to its monitor.
    pub client: &'a Client,
    /// Its log, read up to where the output shall begin.
    pub log: Reader,
    /// Whether the caller's standard input goes to the command.
    pub input: bool,
    /// The keys that leave it running, typed one after the other on a terminal.
    pub leave: &'a [u8],
    /// Whether the caller's signals go to the command; else they end being attached, and the command goes on.
    pub signals: bool,
}

impl Attachment<'_> {
    /// Stays until the command ends or the caller leaves.
    ///
    /// # Errors
    /// The caller's streams or the log fail.
    pub fn run(mut self) -> Result<Left, Error> {
        let growth = Growth::of(&self.known.entry.directory.join("log"))
            .map_err(Error::system("watch the log"))?;
        let mut input = None;
        if self.input {
            match self.client.ask(Request::Input) {
                Ok(mut descriptors) => input = descriptors.pop(),
                Err(Error::MonitorGone { .. }) => return self.over(),
                Err(error) => return Err(error),
            }
        }
        let signals = Signals::block()?;
        let stdin = io::stdin();
        let terminal = self.known.config.tty && nix::unistd::isatty(stdin.as_fd()).unwrap_or(false);
        let _raw = (terminal && input.is_some())
            .then(|| RawMode::enter(stdin.as_fd()))
            .transpose()?;
        if let Some(input) = &input {
            resize(input);
        }
        let mut keys = input
            .as_ref()
            .map(|input| {
                let sink = Sink::unblocking(duplicate(input.as_fd())?);
                let keys = if terminal { self.leave } else { &[] };
                Ok::<_, Error>(Relay::new(source(stdin.as_fd())?, sink).leaving(keys))
            })
            .transpose()?;
        match self.client.send(Request::Wait) {
            Err(Error::MonitorGone { .. }) => return self.over(),
            other => other?,
        }
        loop {
            growth.noted().map_err(Error::system("watch the log"))?;
            self.show()?;
            let mut fds = vec![
                PollFd::new(self.client.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(growth.as_fd(), PollFlags::POLLIN),
            ];
            if let Some((fd, flags)) = keys.as_ref().and_then(Relay::interest) {
                fds.push(PollFd::new(fd, flags));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(Error::system("wait for the sandbox"))?,
            };
            let came = |index: usize| {
                let fd: Option<&PollFd<'_>> = fds.get(index);
                fd.and_then(PollFd::revents)
                    .is_some_and(|events| !events.is_empty())
            };
            let (answered, signalled, typed) = (came(0), came(1), came(3));
            if typed && let Some(relay) = &mut keys {
                match relay.pump() {
                    Flow::Open => {}
                    Flow::Left => return Ok(Left::Detached),
                    Flow::Ended | Flow::Broken => {
                        keys = None;
                        if !terminal {
                            input = None;
                        }
                        // The command reads the end of its input, as it would from a pipe of the caller's.
                        self.client.ask_quietly(Request::CloseInput);
                    }
                }
            }
            if signalled && let Some(signal) = signals.next()? {
                match (&input, signal) {
                    (Some(input), libc::SIGWINCH) if terminal => resize(input),
                    (_, libc::SIGWINCH | libc::SIGTSTP | libc::SIGCONT) if !self.signals => {}
                    (_, libc::SIGWINCH | libc::SIGTSTP) => {}
                    _ if !self.signals => return Ok(Left::Interrupted(signal)),
                    _ => self.client.ask_quietly(Request::Signal(signal)),
                }
            }
            if answered {
                match self.client.receive() {
                    Ok(Some((Answer::Exited(code), _))) => {
                        self.show()?;
                        return Ok(Left::Ended(Some(code)));
                    }
                    // An answer to a signal that was passed on.
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        self.show()?;
                        return Ok(Left::Ended(None));
                    }
                }
            }
        }
    }

    /// It ended before anybody could be asked: what it wrote is in its log.
    fn over(&mut self) -> Result<Left, Error> {
        self.show()?;
        Ok(Left::Ended(None))
    }

    /// Writes what the log has that was not shown yet.
    fn show(&mut self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::System {
            action: "write out what the command wrote",
            errno: Errno::try_from(error).unwrap_or(Errno::UnknownErrno),
        };
        loop {
            let line = self.log.line().map_err(|source| Error::State {
                action: "read the log in",
                path: self.known.entry.directory.clone(),
                source,
            })?;
            let Some(line) = line else {
                return Ok(());
            };
            let written = match line.stream {
                Stream::Out => io::stdout()
                    .write_all(&line.bytes)
                    .and_then(|()| io::stdout().flush()),
                Stream::Err | Stream::Note => io::stderr().write_all(&line.bytes),
            };
            match written {
                // A reader that went away does not end the sandbox.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other.map_err(failed)?,
            }
        }
    }
}

/// The size of the caller's terminal becomes that of the command's.
fn resize(master: &OwnedFd) {
    let size = window_size(io::stdout()).or_else(|_| window_size(io::stdin()));
    if let Ok(size) = size {
        // A pipe has no size.
        let _ = set_window_size(master, &size);
    }
}
