//! The process that stands between PID 1 and one joined command: a copy of PID 1, made for this command alone.
//!
//! It has what PID 1 has: every namespace, the cgroup, no capability (but the right to change ids, where the sandbox has
//! more than one), no_new_privs, and it is not dumpable. Unlike PID 1 it may allocate: its one thread is the only user
//! of its memory.

mod kept;
mod requested;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SignalFd, siginfo};
use nix::sys::time::TimeSpec;

use self::kept::Kept;
use self::requested::{Refusal, assume, open_terminal, prepare};
use super::request::{JoinCommand, OTHER_VERSION, OTHER_VERSION_ADVICE, Service};
use super::service::serve;
use crate::command::{self, Start};
use crate::control::{self, Kind, Record, Step};
use crate::failure::{Failure, Try};
use crate::init::{self, Inside};
use crate::prepare::Prepared;
use crate::sandbox::Stdio;
use crate::sys::{self, Stack};

/// What PID 1 keeps for the commands that join.
pub(crate) struct Door<'a> {
    prepared: &'a Prepared,
    inside: Inside,
    signals: SignalFd,
    /// Stack of a command's process until it executes.
    stack: Stack,
    /// Process ids of the keepers that live.
    keepers: Vec<i32>,
}

impl<'a> Door<'a> {
    pub(crate) fn new(
        prepared: &'a Prepared,
        inside: Inside,
        signals: SignalFd,
        stack: Stack,
    ) -> Self {
        Self {
            prepared,
            inside,
            signals,
            stack,
            keepers: Vec::new(),
        }
    }

    /// Closes every other descriptor.
    pub(crate) fn close_all_but(&self, more: BorrowedFd<'_>, record: RawFd) -> nix::Result<()> {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        sys::close_all_but(&mut [
            number(&self.inside.proc),
            number(&self.inside.outside),
            number(&self.inside.ruleset),
            self.signals.as_fd().as_raw_fd(),
            more.as_raw_fd(),
            record,
        ])
    }

    /// In PID 1: waits for a signal, and makes a keeper for each connection that the supervisor hands in meanwhile.
    /// EAGAIN after `patience`.
    pub(crate) fn next_signal(
        &mut self,
        control: BorrowedFd<'_>,
        patience: Option<TimeSpec>,
    ) -> nix::Result<i32> {
        let patience = patience.and_then(|time| PollTimeout::try_from(Duration::from(time)).ok());
        loop {
            let mut fds = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(control, PollFlags::POLLIN),
            ];
            if poll(&mut fds, patience.unwrap_or(PollTimeout::NONE))? == 0 {
                return Err(Errno::EAGAIN);
            }
            let came = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (signal, handed) = (came(&fds[0]), came(&fds[1]));
            if handed {
                match control::receive(control) {
                    Ok(Some((record, Some(connection)))) if record.kind == Kind::Join => {
                        self.keep(&connection);
                    }
                    // The supervisor is gone, and its death signal under way.
                    Ok(None) | Err(Errno::ECONNRESET) => sys::exit_now(125),
                    _ => {}
                }
            }
            if signal && let Some(info) = self.signals.read_signal()? {
                return Ok(number(&info));
            }
        }
    }

    fn keep(&mut self, connection: &OwnedFd) {
        match sys::clone3(0, None) {
            Ok(sys::Cloned::Child) => {
                let _guard = NeverReturns;
                self.live(connection)
            }
            Ok(sys::Cloned::Parent { pid, .. }) => self.keepers.push(pid),
            Err(errno) => {
                let record = Record::failed(Step::Fork, errno, b"");
                let _ = control::send(connection.as_fd(), &record, None);
            }
        }
    }

    /// In PID 1: takes note of what became of a child; true where it was a keeper and somebody stopped or killed it. In a
    /// sandbox with a single id its command may, and would go on without a time limit. A keeper never does so by itself, but
    /// where it cannot end its tree ([`Kept::end_all`]).
    pub(crate) fn lost_keeper(&mut self, pid: i32, status: i32) -> bool {
        let Some(index) = self.keepers.iter().position(|keeper| *keeper == pid) else {
            return false;
        };
        if libc::WIFSTOPPED(status) {
            return true;
        }
        self.keepers.swap_remove(index);
        libc::WIFSIGNALED(status)
    }

    /// The whole life of a keeper.
    fn live(&mut self, connection: &OwnedFd) -> ! {
        let Ok(connection) = above_standard(connection) else {
            sys::exit_now(125)
        };
        let kept = self
            .close_all_but(connection.as_fd(), -1)
            .and_then(|()| occupy_standard(connection.as_fd()))
            .or_fail(Step::Stdio, c"(close the rest)")
            .map_err(Refusal::from)
            .and_then(|()| self.start(connection.as_fd()));
        match kept {
            Ok(started) => self.watch(started, connection),
            Err(refusal) => {
                let _ = control::send(connection.as_fd(), &refusal.0, None);
                sys::exit_now(125)
            }
        }
    }

    /// Reads the request and starts the command as PID 1 started the first.
    fn start(&mut self, connection: BorrowedFd<'_>) -> Result<Kept, Refusal> {
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
            .or_fail(Step::ProcessFlags, c"(child subreaper)")?;
        let mut received = [const { None }; 4];
        loop {
            match sys::receive_go(connection, &mut received) {
                Err(Errno::EINTR) => {}
                result => break result.map(drop).or_fail(Step::Sync, c"(request)")?,
            }
        }
        let [Some(request), Some(input), Some(output), Some(errors)] = received else {
            Err(Errno::EBADMSG).or_fail(Step::Sync, c"(request)")?
        };
        let mut stdio = Stdio {
            stdin: input,
            stdout: output,
            stderr: errors,
        };
        let request = match JoinCommand::read(request.as_fd()) {
            Err(Errno::EPROTONOSUPPORT) => {
                let text = format!("{OTHER_VERSION}\n{OTHER_VERSION_ADVICE}");
                return Err(Refusal::because(&text));
            }
            read => read.or_fail(Step::Sync, c"(request)")?,
        };
        let prepared = self.prepared;
        let command = prepare(prepared, &request)?;
        assume(prepared, request.user.as_ref())?;
        init::enter_working_directory(&command.cwd).map_err(Refusal::from)?;
        if command.terminal {
            stdio = open_terminal(&command, connection)?;
        }
        let start = Start {
            prepared,
            command: &command,
            stdio: &stdio,
            ruleset: self.inside.ruleset.as_ref().map(AsFd::as_fd),
            proc: self.inside.proc.as_ref().map(AsFd::as_fd),
            outside: self.inside.outside.as_ref().map(AsFd::as_fd),
            root: Some(self.inside.root),
            groups: (request.user.as_ref()).map_or(&prepared.identity.groups, |user| &user.groups),
            control: None,
            bound: false,
        };
        if let Some(service) = request.service {
            return Ok(serve_in_child(&start, service, &request, connection)?);
        }
        // A session of its own, so that what is sent to PID 1's group is not meant for it.
        nix::unistd::setsid().or_fail(Step::ProcessFlags, c"(session)")?;
        let started = command::start(&start, &mut self.stack)?;
        if started.record.kind != Kind::Started {
            return Err(Refusal(Box::new(started.record)));
        }
        // The keeper holds no end of a pipe open: a reader of the command's output sees its end.
        drop(stdio);
        // A caller who is gone by now is noticed next, when the command has somebody to end it.
        let _ = control::send(connection, &started.record, None);
        Ok(Kept::new(started.pid, &request))
    }

    /// Until the command has ended.
    fn watch(&self, mut kept: Kept, connection: OwnedFd) -> ! {
        let mut connection = Some(connection);
        loop {
            // Before waiting: a child may have ended before.
            while let Ok(Some((pid, status, usage))) = sys::wait4(-1, libc::WNOHANG) {
                kept.reaped(pid, status, &usage);
            }
            if kept.ended.is_some() {
                break;
            }
            match self.wait(&kept, connection.as_ref()) {
                Event::Signal => {
                    if let Ok(Some(info)) = self.signals.read_signal() {
                        kept.pass_on(number(&info));
                    }
                }
                Event::Limit => kept.enforce(self.proc(), &self.signals),
                Event::Caller => {
                    let said = connection
                        .as_ref()
                        .map_or(Ok(None), |c| control::receive(c.as_fd()));
                    match said {
                        Ok(Some((record, _))) if record.kind == Kind::Signal => {
                            kept.pass_on(record.value);
                        }
                        Ok(Some((record, _))) if record.kind == Kind::Kill => {
                            kept.end_all(self.proc(), &self.signals);
                        }
                        Ok(Some(_)) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                        // The caller is gone.
                        _ if kept.detached => connection = None,
                        _ => {
                            kept.end_all(self.proc(), &self.signals);
                            sys::exit_now(0);
                        }
                    }
                }
            }
        }
        if kept.timed_out {
            // What the command left in the background had its time as well.
            kept.end_all(self.proc(), &self.signals);
        }
        if let (Some(connection), Some((status, usage))) = (&connection, &kept.ended) {
            let record = Record::new(Kind::Exited, kept.timed_out.into(), *status, usage);
            let _ = control::send(connection.as_fd(), &record, None);
        }
        sys::exit_now(0)
    }

    fn wait(&self, kept: &Kept, connection: Option<&OwnedFd>) -> Event {
        let signals = self.signals.as_fd();
        let caller = connection.map_or(signals, AsFd::as_fd);
        let mut fds = [
            PollFd::new(signals, PollFlags::POLLIN),
            PollFd::new(caller, PollFlags::POLLIN),
        ];
        let fds = &mut fds[..=usize::from(connection.is_some())];
        loop {
            let timeout = kept.limit.map_or(PollTimeout::NONE, |(at, _)| left(at));
            let polled = poll(fds, timeout);
            let came = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            if polled.is_ok() {
                if came(&fds[0]) {
                    return Event::Signal;
                }
                if fds.get(1).is_some_and(came) {
                    return Event::Caller;
                }
            }
            if kept.limit.is_some_and(|(at, _)| at <= Instant::now()) {
                return Event::Limit;
            }
        }
    }

    fn proc(&self) -> Option<BorrowedFd<'_>> {
        self.inside.proc.as_ref().map(AsFd::as_fd)
    }
}

/// The same descriptor under a number that no standard stream has.
fn above_standard(connection: &OwnedFd) -> nix::Result<OwnedFd> {
    let number = fcntl(connection, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    Ok(sys::received_descriptor(number))
}

/// Nothing that is opened from here on has the number of a standard stream, which the command's will take the place of.
fn occupy_standard(connection: BorrowedFd<'_>) -> nix::Result<()> {
    (0..3).try_for_each(|number| sys::onto_standard(connection, number))
}

/// Turns a panic into an exit: unwinding would go on as PID 1.
struct NeverReturns;

impl Drop for NeverReturns {
    fn drop(&mut self) {
        sys::exit_now(125)
    }
}

/// Does a service in a child that is confined as a command is. The child tells its end itself, by the connection, which
/// is its standard error: it keeps no other descriptor.
fn serve_in_child(
    start: &Start<'_>,
    service: Service,
    request: &JoinCommand,
    connection: BorrowedFd<'_>,
) -> Result<Kept, Failure<'static>> {
    let streams = || -> std::io::Result<Stdio> {
        Ok(Stdio {
            stdin: start.stdio.stdin.try_clone()?,
            stdout: start.stdio.stdout.try_clone()?,
            stderr: connection.try_clone_to_owned()?,
        })
    };
    let streams = streams()
        .map_err(|_| Errno::EMFILE)
        .or_fail(Step::Stdio, c"")?;
    let start = Start {
        stdio: &streams,
        ..*start
    };
    match sys::clone3(0, None).or_fail(Step::Fork, c"")? {
        sys::Cloned::Child => {
            let record = match command::confine(&start) {
                Ok(_) => match serve(service, request) {
                    Ok(()) => Record::new(Kind::Exited, 0, 0, b""),
                    Err(error) => Refusal::because(&error.to_string()).into(),
                },
                Err(record) => record,
            };
            let _ = control::send(std::io::stderr().as_fd(), &record, None);
            sys::exit_now(0)
        }
        sys::Cloned::Parent { pid, .. } => {
            while let Err(Errno::EINTR) = sys::wait4(pid, 0) {}
            sys::exit_now(0)
        }
    }
}

/// What a keeper has to do next.
enum Event {
    Signal,
    Limit,
    Caller,
}

/// How long poll(2) may wait for `at`.
fn left(at: Instant) -> PollTimeout {
    let left = at.saturating_duration_since(Instant::now());
    // Rounded up, or the last millisecond would be spent looking.
    let milliseconds = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

fn number(info: &siginfo) -> i32 {
    info.ssi_signo.try_into().unwrap_or_default()
}
