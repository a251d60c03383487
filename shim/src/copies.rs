//! What is copied between a command and its caller, for a run and for a command that joins alike.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Error;
use crate::console::Console;
use crate::meter::Meter;
use crate::relay::{Flow, Relay};
use crate::signals::{Signals, stop_here, terminates};
use crate::stdio::Caller;

/// The relays between a command's streams and its caller's, and the link between their terminals.
pub struct Copies<'a> {
    caller: Caller<'a>,
    interactive: bool,
    console: Option<Console<'a>>,
    input: Option<Relay>,
    output: [Option<Relay>; 2],
    /// The keys by which the caller leaves, typed on the terminal.
    keys: Vec<u8>,
    stage: Stage,
    /// Whether the command has written anything.
    spoke: bool,
}

/// How far copying has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The caller has left.
    Left,
    /// The command has ended, and only what it wrote before that is wanted.
    Draining,
}

impl<'a> Copies<'a> {
    /// With what was prepared for the command; with a terminal, nothing until [`Copies::link`].
    pub fn new(
        caller: Caller<'a>,
        interactive: bool,
        input: Option<Relay>,
        output: [Option<Relay>; 2],
    ) -> Self {
        Self {
            caller,
            interactive,
            console: None,
            input,
            output,
            keys: Vec::new(),
            stage: Stage::Open,
            spoke: false,
        }
    }

    /// The same, where the caller may leave by typing these keys.
    pub fn leaving(mut self, keys: &[u8]) -> Self {
        self.keys = keys.to_vec();
        self
    }

    /// Whether the caller has.
    pub fn left(&self) -> bool {
        self.stage == Stage::Left
    }

    /// Whether the command has written anything that was copied.
    pub fn spoke(&self) -> bool {
        self.spoke
    }

    /// The command's terminal is there.
    pub fn link(&mut self, master: BorrowedFd, meter: Option<Rc<Meter>>) -> Result<(), Error> {
        let linked = Console::link(master, self.interactive, self.caller)?;
        self.console = Some(linked.console);
        let keys = &self.keys;
        self.input = linked.input.map(|relay| relay.leaving(keys));
        self.output = [Some(linked.output.measured(meter)), None];
        Ok(())
    }

    fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.input.iter().chain(self.output.iter().flatten())
    }

    /// What to wait for before the next [`Copies::copy`].
    pub fn interest<'b>(&'b self, fds: &mut Vec<PollFd<'b>>) {
        let wanted = self.relays().filter_map(Relay::interest);
        fds.extend(wanted.map(|(fd, flags)| PollFd::new(fd, flags)));
    }

    /// Copies what can be copied now; a signal that the command is to have, where its terminal was hung up.
    pub fn copy(&mut self) -> Result<Option<i32>, Error> {
        match self.input.as_mut().map(Relay::pump) {
            None | Some(Flow::Open) => {}
            Some(flow) => {
                if flow == Flow::Left {
                    self.stage = Stage::Left;
                }
                self.input = None;
            }
        }
        let mut hung_up = None;
        for output in &mut self.output {
            let Some(relay) = output else { continue };
            let flow = relay.pump();
            self.spoke |= relay.came();
            match flow {
                Flow::Open => {}
                Flow::Ended | Flow::Left => *output = None,
                // A pipe breaks under its writer when we close it; a terminal is hung up and takes no more.
                Flow::Broken => match &self.console {
                    None => *output = None,
                    Some(console) => {
                        let relay = output.insert(console.discard()?);
                        if self.stage == Stage::Draining {
                            relay.rest();
                        }
                        hung_up = Some(libc::SIGHUP);
                    }
                },
            }
        }
        Ok(hung_up)
    }

    /// Whether `signal` was about the size of the caller's terminal, which the command's has now.
    pub fn resized_by(&self, signal: i32) -> bool {
        match &self.console {
            Some(console) if signal == libc::SIGWINCH => {
                console.resize();
                true
            }
            _ => false,
        }
    }

    /// Stops palisade, too, at the signal that stops the command from a keyboard, until it is continued.
    pub fn suspend_at(&mut self, signal: i32) -> Result<(), Error> {
        match &mut self.console {
            _ if signal != libc::SIGTSTP => Ok(()),
            Some(console) => console.suspended(stop_here),
            None => stop_here(),
        }
    }

    /// Copies what was written before the command's end, and no more than the pipes can hold of what others go on writing.
    /// A request to end makes an end of a reader that takes nothing.
    pub fn drain(&mut self, signals: &Signals) -> Result<(), Error> {
        self.input = None;
        self.stage = Stage::Draining;
        for relay in self.output.iter_mut().flatten() {
            relay.rest();
        }
        loop {
            self.copy()?;
            let left = self.relays().count();
            if left == 0 {
                return Ok(());
            }
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            // An empty pipe gets no more: the next copy finds its end without waiting.
            let waiting = self.relays().filter_map(Relay::interest);
            let blocked = waiting.filter(|(_, flags)| flags.contains(PollFlags::POLLOUT));
            fds.extend(blocked.map(|(fd, flags)| PollFd::new(fd, flags)));
            let timeout = if fds.len() > left {
                PollTimeout::NONE
            } else {
                PollTimeout::ZERO
            };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("write out what the command wrote")(errno)),
            }
            if signals.next()?.is_some_and(terminates) {
                return Ok(());
            }
        }
    }
}
