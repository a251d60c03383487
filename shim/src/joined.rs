//! A command in a running sandbox, from its request to its end: `palisade exec`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{pipe2, read};
use palisade_runtime::detach::{Side, detach, exit_now};
use palisade_runtime::{
    Exit, JoinCommand, JoinEvent, Joined, Plan, Protections, Service, Stdio, Usage,
};

use crate::Error;
use crate::console;
use crate::copies::Copies;
use crate::outcome::{Circumstances, Limit, Outcome, classify};
use crate::receipt::{self, Ending, Recorder};
use crate::signals::Signals;
use crate::state::Entry;
use crate::stdio::{Caller, Streams, null};

/// Runs `command` in the sandbox `entry` with the caller's standard streams until it has ended. `hand_in` gives the descriptor to whoever holds
/// the sandbox, for [`Sandbox::admit`](palisade_runtime::Sandbox::admit).
///
/// None where the keys `leave` were typed on its terminal: then the command goes on, and a process of this one's stays to read
/// what it writes there. The calling process must have one thread.
///
/// What the command leaves in the background goes on in the sandbox. When this process is killed, the command's whole tree
/// ends. Signals that reach it go to the command, and stay blocked afterwards.
///
/// # Errors
/// What kept the command from running.
pub fn run(
    command: &JoinCommand,
    interactive: bool,
    leave: &[u8],
    entry: &Entry,
    hand_in: impl FnOnce(OwnedFd) -> Result<(), Error>,
) -> Result<Option<Outcome>, Error> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let caller = Caller {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let streams = if command.terminal.is_some() {
        console::check(interactive, caller)?;
        Streams::none()?
    } else {
        Streams::join(interactive, caller)?
    };
    let signals = Signals::block()?;
    let (start, clock) = (SystemTime::now(), Instant::now());
    let (joined, theirs) = Joined::new(command, &streams.handed)?;
    drop(streams.handed);
    let before = entry.struck();
    hand_in(theirs)?;
    let mut watch = Watch {
        copies: Copies::new(caller, interactive, streams.input, streams.output).leaving(leave),
        joined,
        signals,
        started: None,
        waiting: Vec::new(),
    };
    let Some(ended) = watch.until_end()? else {
        watch.leave()?;
        return Ok(None);
    };
    watch.copies.drain(&watch.signals)?;
    let mut usage = ended.usage;
    if ended.exit != Exit::Code(0) {
        let after = entry.struck();
        // The sandbox's other commands are counted there, too: one that was not killed was not killed for its memory.
        if ended.exit.status() == Exit::Signal(libc::SIGKILL).status() {
            // Where all of the sandbox was killed (memory.oom.group), its record has what nothing counts any more.
            usage.oom_kills = match after.0.saturating_sub(before.0) {
                0 => u64::from(entry.ended_for_memory(start)),
                kills => kills,
            };
        }
        usage.pids_denied = after.1.saturating_sub(before.1);
    }
    let circumstances = Circumstances {
        stopped_by: ended.timed_out.then_some(Limit::Time),
        oom_kills: usage.oom_kills,
        pids_denied: usage.pids_denied,
        ..Circumstances::default()
    };
    let (code, reason, signal) = classify(ended.exit, &circumstances);
    Ok(Some(Outcome {
        denials: None,
        code,
        reason,
        signal,
        tier: None,
        full: Vec::new(),
        streams: [None, None],
        protections: watch.started.unwrap_or_default(),
        usage,
        missing: Vec::new(),
        start,
        duration: clock.elapsed(),
        problems: Vec::new(),
    }))
}

/// What `run` does, with a receipt of it. `plan` is the sandbox's, with the command in the place of its first one.
///
/// # Errors
/// What kept the command from running; what is wrong with the receipt, before anything runs, or after it.
pub fn recorded(
    request: &receipt::Request,
    plan: &Plan,
    run: impl FnOnce() -> Result<Option<Outcome>, Error>,
) -> Result<Option<Outcome>, Error> {
    let start = SystemTime::now();
    let recorder = Recorder::begin(request, plan, start)?;
    let mut result = run();
    if let Ok(Some(outcome)) = &mut result {
        outcome.tier = Some(plan.tier);
    }
    let ending = match &result {
        Ok(Some(outcome)) => Ending::ran(outcome),
        Ok(None) => Ending::failed(125, "its caller left it, and nobody saw its end"),
        Err(error) => Ending::failed(error.exit_code(), error),
    };
    let written = recorder.finish(Some(plan), &[], SystemTime::now(), &ending);
    match (result, written) {
        (Ok(Some(mut outcome)), Err(problem)) => {
            outcome.problems.push(problem);
            Ok(Some(outcome))
        }
        (Ok(None), Err(problem)) => Err(problem),
        (Err(error), Err(problem)) => Err(error.and(problem)),
        (result, Ok(())) => result,
    }
}

/// Starts `command` with nothing on its standard streams and leaves it alone.
///
/// # Errors
/// What kept the command from running.
pub fn leave(
    command: &JoinCommand,
    hand_in: impl FnOnce(OwnedFd) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut joined, theirs) = Joined::new(command, &Streams::none()?.handed)?;
    hand_in(theirs)?;
    loop {
        match next(&mut joined)? {
            JoinEvent::Started(_) => return Ok(()),
            JoinEvent::Closed | JoinEvent::Exited { .. } => return Err(Error::NeverStarted),
            JoinEvent::Terminal => {}
        }
    }
}

/// Files on their way between a sandbox and this process.
#[derive(Debug)]
pub struct Transfer {
    joined: Joined,
}

impl Transfer {
    /// Begins one that `command`'s service does in the sandbox. The stream is to be read, where the service packs, or to be
    /// written, and closed.
    ///
    /// # Errors
    /// What could not be prepared or handed in.
    pub fn begin(
        command: &JoinCommand,
        hand_in: impl FnOnce(OwnedFd) -> Result<(), Error>,
    ) -> Result<(Self, File), Error> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
        let (input, output, ours) = match command.service {
            Some(Service::Unpack { .. }) => (read, null()?, write),
            _ => (null()?, write, read),
        };
        let handed = Stdio {
            stdin: input,
            stdout: output,
            stderr: null()?,
        };
        let (joined, theirs) = Joined::new(command, &handed)?;
        drop(handed);
        hand_in(theirs)?;
        Ok((Self { joined }, File::from(ours)))
    }

    /// Waits for the other side's end.
    ///
    /// # Errors
    /// What went wrong there.
    pub fn finish(mut self) -> Result<(), Error> {
        loop {
            match next(&mut self.joined)? {
                JoinEvent::Exited { .. } => return Ok(()),
                JoinEvent::Closed => return Err(Error::NeverStarted),
                JoinEvent::Started(_) | JoinEvent::Terminal => {}
            }
        }
    }
}

/// Waits for the next event.
fn next(joined: &mut Joined) -> Result<JoinEvent, Error> {
    loop {
        let mut fds = [PollFd::new(joined.control(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for the command")(errno)),
        }
        if let Some(event) = joined.event()? {
            return Ok(event);
        }
    }
}

/// Reads some of what was written to a terminal that nobody looks at; false where there is nothing to wait for any more.
fn drop_output(master: BorrowedFd<'_>) -> bool {
    // A master whose other side nobody has open is ready for ever and fails with EIO; the command may live on without it.
    match read(master, &mut [0; 4096]) {
        Ok(count) => count > 0,
        Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
    }
}

struct Watch<'a> {
    copies: Copies<'a>,
    joined: Joined,
    signals: Signals,
    started: Option<Protections>,
    /// Signals that came before there was a command to have them.
    waiting: Vec<i32>,
}

struct Ended {
    exit: Exit,
    timed_out: bool,
    usage: Usage,
}

/// What one turn of the loop is about.
enum Turn {
    Keeper,
    Signal,
    Flow,
}

impl Watch<'_> {
    /// None where the caller wants to leave.
    fn until_end(&mut self) -> Result<Option<Ended>, Error> {
        loop {
            match self.wait()? {
                Turn::Keeper => {
                    if let Some(ended) = self.listen()? {
                        return Ok(Some(ended));
                    }
                }
                Turn::Signal => self.take_signal()?,
                Turn::Flow => self.copy()?,
            }
            if self.copies.left() {
                return Ok(None);
            }
        }
    }

    /// Leaves a process behind that holds the command's terminal and reads it until the command has ended.
    fn leave(mut self) -> Result<(), Error> {
        let Some(terminal) = self.joined.terminal() else {
            return Ok(());
        };
        if let Side::Caller(_) = detach(&[self.joined.control(), terminal])? {
            return Ok(());
        }
        // Whoever wants an end of this process may have it; the command ends with it then. What the terminal that was left says
        // of its own end came before this process had left it, too.
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGHUP);
        let _ = blocked.thread_set_mask();
        let mut open = true;
        loop {
            let mut fds = vec![PollFd::new(self.joined.control(), PollFlags::POLLIN)];
            let terminal = self.joined.terminal().filter(|_| open);
            fds.extend(terminal.map(|terminal| PollFd::new(terminal, PollFlags::POLLIN)));
            let _ = poll(&mut fds, PollTimeout::NONE);
            let came = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
            if let Some(terminal) = terminal.filter(|_| came(&fds[1])) {
                open = drop_output(terminal);
            }
            match self.joined.event() {
                Ok(Some(JoinEvent::Exited { .. } | JoinEvent::Closed)) | Err(_) => exit_now(0),
                Ok(_) => {}
            }
        }
    }

    fn wait(&self) -> Result<Turn, Error> {
        let mut fds = Vec::with_capacity(5);
        fds.push(PollFd::new(self.joined.control(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        self.copies.interest(&mut fds);
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("wait for the command")(errno)),
                Ok(_) => {
                    let came = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
                    return Ok(if came(&fds[0]) {
                        Turn::Keeper
                    } else if came(&fds[1]) {
                        Turn::Signal
                    } else {
                        Turn::Flow
                    });
                }
            }
        }
    }

    fn listen(&mut self) -> Result<Option<Ended>, Error> {
        match self.joined.event()? {
            None => {}
            Some(JoinEvent::Terminal) => {
                if let Some(master) = self.joined.terminal() {
                    self.copies.link(master, None)?;
                }
            }
            Some(JoinEvent::Started(protections)) => {
                self.started = Some(protections);
                for signal in std::mem::take(&mut self.waiting) {
                    self.joined.signal(signal)?;
                }
            }
            Some(JoinEvent::Exited {
                exit,
                timed_out,
                usage,
            }) => {
                return Ok(Some(Ended {
                    exit,
                    timed_out,
                    usage,
                }));
            }
            Some(JoinEvent::Closed) if self.started.is_none() && !self.spoke()? => {
                return Err(Error::NeverStarted);
            }
            // The sandbox has ended, and the command with it.
            Some(JoinEvent::Closed) => {
                return Ok(Some(Ended {
                    exit: Exit::Signal(libc::SIGKILL),
                    timed_out: false,
                    usage: Usage::default(),
                }));
            }
        }
        Ok(None)
    }

    /// Whether the command has written anything: then it ran, though its keeper had no time to say so.
    fn spoke(&mut self) -> Result<bool, Error> {
        self.copy()?;
        Ok(self.copies.spoke())
    }

    fn take_signal(&mut self) -> Result<(), Error> {
        let Some(signal) = self.signals.next()? else {
            return Ok(());
        };
        if self.copies.resized_by(signal) {
            return Ok(());
        }
        self.deliver(signal)?;
        self.copies.suspend_at(signal)
    }

    fn deliver(&mut self, signal: i32) -> Result<(), Error> {
        if self.started.is_some() {
            self.joined.signal(signal)?;
        } else {
            self.waiting.push(signal);
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Error> {
        match self.copies.copy()? {
            Some(signal) => Ok(self.joined.signal(signal)?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::drop_output;
    use crate::stdio::set_nonblocking;

    #[test]
    fn a_terminal_that_was_left_is_read_until_nobody_has_its_other_side_open() {
        let pty = nix::pty::openpty(None, None).unwrap();
        set_nonblocking(&pty.master).unwrap();
        assert!(drop_output(pty.master.as_fd()), "it may be written to yet");
        let mut command = File::from(pty.slave);
        command.write_all(b"unread").unwrap();
        assert!(drop_output(pty.master.as_fd()), "there may be more");
        drop(command);
        assert!(!drop_output(pty.master.as_fd()), "it was closed");
    }
}
