//! A command that runs: signals to it, its time limit, and the end of its tree.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;

use crate::join::joined::usage_text;
use crate::join::request::JoinCommand;
use crate::stat::parent_in;
use crate::sys;

/// How long a keeper tries to end its tree.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits for the end of what it has killed before it looks again.
const ROUND_MILLISECONDS: u16 = 20;

/// What the time limit does next.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Send this signal to the command, and give it so long.
    Stop(i32, Duration),
    /// End its tree.
    Kill,
}

/// A command that runs.
pub(super) struct Kept {
    pid: i32,
    pub(super) detached: bool,
    pub(super) limit: Option<(Instant, Act)>,
    pub(super) timed_out: bool,
    /// Its wait status and what it used.
    pub(super) ended: Option<(i32, [u8; 16])>,
}

impl Kept {
    /// The command that was asked for, from the moment it runs.
    pub(super) fn new(pid: i32, request: &JoinCommand) -> Self {
        let at = request
            .timeout
            .and_then(|limit| Instant::now().checked_add(limit));
        Self {
            pid,
            detached: request.detached,
            limit: at.map(|at| (at, Act::Stop(request.stop_signal, request.stop_timeout))),
            timed_out: false,
            ended: None,
        }
    }

    pub(super) fn reaped(&mut self, pid: i32, status: i32, usage: &libc::rusage) {
        if pid == self.pid {
            self.ended = Some((status, usage_text(usage)));
            self.limit = None;
        }
    }

    /// A signal for the command; what a terminal sends to its foreground group reaches the command's group.
    pub(super) fn pass_on(&self, signal: i32) {
        match signal {
            libc::SIGCHLD => {}
            libc::SIGINT | libc::SIGQUIT => sys::kill(-self.pid, signal),
            signal => sys::kill(self.pid, signal),
        }
    }

    pub(super) fn enforce(&mut self, proc: Option<BorrowedFd<'_>>, signals: &SignalFd) {
        self.timed_out = true;
        match self.limit.take() {
            Some((_, Act::Stop(signal, patience))) => {
                sys::kill(self.pid, signal);
                let at = Instant::now().checked_add(patience);
                self.limit = at.map(|at| (at, Act::Kill));
            }
            _ => self.end_all(proc, signals),
        }
    }

    /// Ends every descendant, also those that made themselves daemons: a child that dies leaves its own children to the
    /// keeper, which is their reaper. Only children are killed, whose process ids nobody else can have got meanwhile.
    ///
    /// Where that does not come to an end, as with what forks faster than it is killed, or where the children cannot be
    /// listed, the keeper kills itself: PID 1 ends the sandbox then.
    pub(super) fn end_all(&mut self, proc: Option<BorrowedFd<'_>>, signals: &SignalFd) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if self.ended.is_none() {
                sys::kill(self.pid, libc::SIGKILL);
            }
            match proc.map(children) {
                Some(Ok(children)) => {
                    for child in children {
                        sys::kill(child, libc::SIGKILL);
                    }
                }
                Some(Err(_)) => break,
                // Nothing tells who the others are.
                None if self.ended.is_some() => return,
                None => {}
            }
            loop {
                match sys::wait4(-1, libc::WNOHANG) {
                    Ok(Some((pid, status, usage))) => self.reaped(pid, status, &usage),
                    Err(Errno::EINTR) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            if Instant::now() >= give_up {
                break;
            }
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            // The end of a child is a signal; what was killed may leave children without one.
            let _ = poll(&mut fds, PollTimeout::from(ROUND_MILLISECONDS));
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        sys::kill(nix::unistd::getpid().as_raw(), libc::SIGKILL);
    }
}

/// Process ids of this process's children, from the sandbox's own procfs (proc_pid_stat(5)).
///
/// An error where they cannot be listed, for want of descriptors, as somebody inside can bring about (prlimit(2)).
fn children(proc: BorrowedFd<'_>) -> nix::Result<Vec<i32>> {
    let own = nix::unistd::getpid().as_raw();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = openat(proc, c".", flags, Mode::empty()).and_then(Dir::from_fd)?;
    let mut found = Vec::new();
    for entry in entries.iter() {
        let name = entry?.file_name().to_str().map(str::parse::<i32>);
        if let Ok(Ok(pid)) = name
            && parent(proc, pid)? == Some(own)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// None for one that has ended meanwhile.
fn parent(proc: BorrowedFd<'_>, pid: i32) -> nix::Result<Option<i32>> {
    let path = format!("{pid}/stat");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = match openat(proc, path.as_str(), flags, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        file => file?,
    };
    let mut buffer = [0; 512];
    match nix::unistd::read(&file, &mut buffer) {
        Err(Errno::ESRCH) => Ok(None),
        length => Ok(parent_in(&buffer[..length?])),
    }
}
