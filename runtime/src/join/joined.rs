//! A joined command, seen from whoever wants it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::request::JoinCommand;
use crate::control::{self, Kind, Record};
use crate::sandbox::{self, Exit, Protections, Stdio, Usage};
use crate::{Error, sys};

/// A command that has joined a sandbox, or is about to. Dropping it ends the command's whole tree, unless that was
/// detached.
#[derive(Debug)]
pub struct Joined {
    control: OwnedFd,
    terminal: Option<OwnedFd>,
    program: PathBuf,
}

/// Something that happened to a joined command.
#[derive(Debug)]
pub enum JoinEvent {
    /// The terminal is there: [`Joined::terminal`].
    Terminal,
    /// The command is confined and has been executed.
    Started(Protections),
    /// The command ended. What it left running in the background goes on, unless its time was up.
    Exited {
        /// How.
        exit: Exit,
        /// Whether its time limit had come.
        timed_out: bool,
        /// What it used, together with those of its children that it waited for.
        usage: Usage,
    },
    /// The connection is closed: nothing more comes.
    Closed,
}

impl Joined {
    /// Prepares `command` with these descriptors as 0, 1 and 2 (with a terminal of its own it does not use them). The
    /// second value goes to [`Sandbox::admit`](crate::Sandbox::admit), in whichever process holds the sandbox.
    ///
    /// # Errors
    /// What could not be prepared, such as a string with a NUL byte.
    pub fn new(command: &JoinCommand, stdio: &Stdio) -> Result<(Self, OwnedFd), Error> {
        let failed = |errno| Error::Launch {
            action: "pass the command on".into(),
            errno,
        };
        let request = command.file()?;
        let (control, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(failed)?;
        let descriptors = [&request, &stdio.stdin, &stdio.stdout, &stdio.stderr];
        sys::send_go(control.as_fd(), &descriptors.map(AsRawFd::as_raw_fd)).map_err(failed)?;
        let joined = Self {
            control,
            terminal: None,
            program: command.args.first().map(Into::into).unwrap_or_default(),
        };
        Ok((joined, theirs))
    }

    /// Readable when [`Joined::event`] has something to say.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The master side of the command's terminal, after [`JoinEvent::Terminal`].
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// The next event, without waiting; none when there is none now.
    ///
    /// # Errors
    /// What kept the command from running; nothing of it remains.
    pub fn event(&mut self) -> Result<Option<JoinEvent>, Error> {
        let received = match control::receive(self.control.as_fd()) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(Errno::ECONNRESET) => None,
            Err(errno) => {
                return Err(Error::Launch {
                    action: "read from the command's keeper".into(),
                    errno,
                });
            }
        };
        let Some((record, descriptor)) = received else {
            return Ok(Some(JoinEvent::Closed));
        };
        match record.kind {
            Kind::Terminal => {
                self.terminal = descriptor;
                Ok(Some(JoinEvent::Terminal))
            }
            Kind::Started => Ok(Some(JoinEvent::Started(Protections::parse(record.text())))),
            Kind::Exited => Ok(Some(JoinEvent::Exited {
                exit: Exit::from_wait_status(record.value),
                timed_out: record.step != 0,
                usage: usage(record.text()),
            })),
            _ => Err(sandbox::failure(&self.program, &record)),
        }
    }

    /// Sends `signal` to the command.
    ///
    /// # Errors
    /// Never because it has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.tell(Kind::Signal, signal)
    }

    /// Ends the command's whole tree with SIGKILL, what it left in the background included.
    ///
    /// # Errors
    /// As for [`Joined::signal`].
    pub fn kill(&self) -> Result<(), Error> {
        self.tell(Kind::Kill, 0)
    }

    fn tell(&self, kind: Kind, value: i32) -> Result<(), Error> {
        match control::send(
            self.control.as_fd(),
            &Record::new(kind, 0, value, b""),
            None,
        ) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::Launch {
                action: format!("send signal {value} to the command"),
                errno,
            }),
        }
    }
}

/// The numbers that [`usage_text`] wrote.
fn usage(text: &[u8]) -> Usage {
    let mut numbers = text
        .chunks_exact(8)
        .map(|bytes| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default());
    Usage {
        cpu: Duration::from_micros(numbers.next().unwrap_or_default()),
        memory_peak: numbers.next().unwrap_or_default(),
        ..Usage::default()
    }
}

/// CPU time in microseconds and peak memory in bytes.
pub(crate) fn usage_text(rusage: &libc::rusage) -> [u8; 16] {
    let micros = |t: libc::timeval| t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_usec.unsigned_abs();
    let cpu = micros(rusage.ru_utime) + micros(rusage.ru_stime);
    let memory = rusage.ru_maxrss.unsigned_abs() * 1024;
    let mut text = [0; 16];
    text[..8].copy_from_slice(&cpu.to_ne_bytes());
    text[8..].copy_from_slice(&memory.to_ne_bytes());
    text
}
