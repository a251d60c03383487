//! The loop that attends to one sandbox: its events, signals, the time limit, streams, and whoever asks for something.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_runtime::{Exit, Plan, Protections, Sandbox, Tier};

use super::Options;
use super::ended::Ended;
use super::limits::Act;
use crate::Error;
use crate::console;
use crate::copies::Copies;
use crate::denials::Denials;
use crate::meter::{Gauge, Meter};
use crate::monitor::Desk;
use crate::outcome::Limit;
use crate::signals::{Signals, terminates};
use crate::stdio::{Caller, Streams};
use crate::watch::Watch;

/// Launches the Plan and stays until the sandbox is gone.
pub(super) fn attend(
    plan: &Plan,
    options: &Options,
    mut desk: Option<&mut Desk>,
) -> Result<Ended, Error> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let caller = Caller {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let terminal = plan
        .spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::terminal)
        .unwrap_or(false);
    let gauge = Gauge::new(plan.output_limit, options.digest_output);
    let streams = if let Some(desk) = desk.as_mut().filter(|desk| desk.owns_streams()) {
        desk.ends.streams(plan, terminal, gauge.as_ref())?
    } else if terminal {
        console::check(plan.interactive, caller)?;
        Streams::none()?
    } else {
        Streams::prepare(plan, caller, gauge.as_ref())?
    };
    let signals = Signals::block()?;
    let record = desk.as_ref().map(|desk| desk.exit_file()).transpose()?;
    let sandbox = palisade_runtime::launch_recorded(plan, streams.handed, record)?;
    let memory = sandbox.watched_memory().map(Watch::new);
    let mut supervisor = Supervisor {
        plan,
        copies: Copies::new(caller, plan.interactive, streams.input, streams.output),
        desk,
        sandbox,
        signals,
        gauge,
        memory,
        meters: streams.meters,
        control: true,
        started: None,
        waiting: Vec::new(),
        delivered: Vec::new(),
        next: None,
        settled: Cell::new(false),
        stopped_by: None,
        exit: None,
        denials: None,
    };
    supervisor.watch()?;
    supervisor.drain()?;
    supervisor.end()
}

/// The state of one supervised run.
pub(super) struct Supervisor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) copies: Copies<'a>,
    pub(super) desk: Option<&'a mut Desk>,
    pub(super) sandbox: Sandbox,
    signals: Signals,
    pub(super) gauge: Option<Gauge>,
    /// Where memory is limited and no control group holds that.
    pub(super) memory: Option<Watch>,
    pub(super) meters: [Option<Rc<Meter>>; 2],
    /// Whether the sandbox may still have something to say.
    control: bool,
    pub(super) started: Option<Protections>,
    /// Signals that came before there was a command to have them.
    waiting: Vec<i32>,
    /// Signals that were passed on to it.
    pub(super) delivered: Vec<i32>,
    pub(super) next: Option<Act>,
    /// Whether a quiet second has passed, and with it the memory that a start needs and waiting does not.
    settled: Cell<bool>,
    /// The limit that made an end of it.
    pub(super) stopped_by: Option<Limit>,
    pub(super) exit: Option<Exit>,
    /// What was refused; none where that was not watched.
    pub(super) denials: Option<Denials>,
}

/// What one turn of the loop is about.
enum Event {
    /// The sandbox has something to say, or will say nothing more.
    Sandbox { closed: bool },
    /// A signal for us or the command.
    Signal,
    /// It is time for the next act of a limit.
    Act,
    /// It is time to see how much memory is used.
    Look,
    /// A stream can be copied on.
    Flow,
    /// Somebody asks for something, or there is output for the log.
    Desk,
    /// A refused system call waits for its errno.
    Denial,
    /// PID 1 is gone, and everything with it.
    Gone,
}

impl Supervisor<'_> {
    /// Until PID 1 is gone.
    fn watch(&mut self) -> Result<(), Error> {
        loop {
            match self.wait()? {
                Event::Sandbox { closed } => self.listen(closed)?,
                Event::Signal => self.take_signal()?,
                Event::Act => self.enforce()?,
                Event::Look => self.look()?,
                Event::Flow => {
                    self.copy()?;
                    self.check_output()?;
                }
                Event::Desk => {
                    self.serve()?;
                    self.check_output()?;
                }
                Event::Denial => {}
                Event::Gone => break,
            }
            // Whatever else there is to do: its caller stands still meanwhile.
            self.answer()?;
        }
        self.sandbox.settle()?;
        // What PID 1 said last may have come together with its end.
        while self.exit.is_none() {
            match self.sandbox.event()? {
                Some(event) => self.happened(event)?,
                None => break,
            }
        }
        Ok(())
    }

    /// The next event, the most urgent first: what the sandbox says decides how a signal or the limit is meant.
    fn wait(&self) -> Result<Event, Error> {
        let mut fds = Vec::with_capacity(6);
        fds.push(PollFd::new(self.sandbox.pidfd(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        self.copies.interest(&mut fds);
        let relays = 2..fds.len();
        if self.control {
            fds.push(PollFd::new(self.sandbox.control(), PollFlags::POLLIN));
        }
        let asked = fds.len();
        if let Some(denials) = self.sandbox.denials() {
            fds.push(PollFd::new(denials, PollFlags::POLLIN));
        }
        let own = fds.len();
        if let Some(desk) = &self.desk {
            desk.interest(&mut fds);
        }
        loop {
            let desk = self.desk.as_ref().and_then(|desk| desk.next());
            let next = self.next.map(Act::at).into_iter().chain(desk).min();
            let next = next.map(timeout);
            let look = self.memory.as_ref().and_then(Watch::next);
            let quiet = (!self.settled.get()).then(|| PollTimeout::from(1000_u16));
            let first = next.into_iter().chain(look.map(timeout)).chain(quiet).min();
            match poll(&mut fds, first.unwrap_or(PollTimeout::NONE)) {
                Err(Errno::EINTR) => continue,
                Ok(0) if first == quiet => {
                    if self.desk.is_some() {
                        palisade_runtime::detach::release_memory();
                    } else {
                        palisade_runtime::release_program();
                    }
                    self.settled.set(true);
                }
                other => drop(other.map_err(Error::system("wait for the sandbox"))?),
            }
            let came = |fd: &PollFd| fd.revents().unwrap_or(PollFlags::empty());
            let control = self.control.then(|| &fds[relays.end]);
            if let Some(control) = control.filter(|fd| !came(fd).is_empty()) {
                let closed = came(control).intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
                return Ok(Event::Sandbox { closed });
            }
            if !came(&fds[1]).is_empty() {
                return Ok(Event::Signal);
            }
            if self.next.is_some_and(|next| next.at() <= Instant::now()) {
                return Ok(Event::Act);
            }
            if look.is_some_and(|at| at <= Instant::now()) {
                return Ok(Event::Look);
            }
            let gone = !came(&fds[0]).is_empty();
            // Without namespaces what PID 1 leaves behind lives on until it is settled, and may never stop writing.
            if gone && !self.control && self.sandbox.tier() == Tier::NoNamespace {
                return Ok(Event::Gone);
            }
            if fds[relays.clone()].iter().any(|fd| !came(fd).is_empty()) {
                return Ok(Event::Flow);
            }
            let due = desk.is_some_and(|at| at <= Instant::now());
            if due || fds[own..].iter().any(|fd| !came(fd).is_empty()) {
                return Ok(Event::Desk);
            }
            if fds[asked..own].iter().any(|fd| !came(fd).is_empty()) {
                return Ok(Event::Denial);
            }
            if gone {
                return Ok(Event::Gone);
            }
        }
    }

    fn listen(&mut self, closed: bool) -> Result<(), Error> {
        match self.sandbox.event()? {
            Some(event) => self.happened(event)?,
            // A closed socket is readable for ever (unix(7)).
            None if closed => self.control = false,
            None => {}
        }
        Ok(())
    }

    fn happened(&mut self, event: palisade_runtime::Event) -> Result<(), Error> {
        match event {
            palisade_runtime::Event::Terminal => {
                if let Some(master) = self.sandbox.terminal() {
                    let meter = self.gauge.as_ref().map(Gauge::meter);
                    match self.desk.as_mut().filter(|desk| desk.owns_streams()) {
                        Some(desk) => desk.ends.terminal(master, meter.clone())?,
                        None => self.copies.link(master, meter.clone())?,
                    }
                    self.meters = [meter, None];
                }
            }
            palisade_runtime::Event::Started(protections) => {
                if self.sandbox.denials().is_some() {
                    self.denials.get_or_insert_default();
                }
                self.started = Some(protections);
                if let Some(desk) = &mut self.desk {
                    desk.started(&self.sandbox)?;
                }
                // A limit beyond what the clock can count is none.
                let at = self
                    .plan
                    .timeout
                    .and_then(|limit| Instant::now().checked_add(limit));
                // What it wrote may have come before this, and have been too much.
                self.next = self.next.or(at.map(Act::Stop));
                for signal in std::mem::take(&mut self.waiting) {
                    self.deliver(signal)?;
                }
            }
            palisade_runtime::Event::Exited(exit) => {
                self.exit = Some(exit);
                self.next = None;
                // Nothing more is said.
                self.control = false;
            }
        }
        Ok(())
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

    /// To the command, or kept for it. A second request to end is not kept waiting for a set-up that may hang.
    pub(super) fn deliver(&mut self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL || signal == self.plan.stop_signal || terminates(signal) {
            self.wake();
        }
        if self.started.is_some() {
            self.sandbox.signal(signal)?;
            if !self.delivered.contains(&signal) {
                self.delivered.push(signal);
            }
        } else if terminates(signal) && self.waiting.contains(&signal) {
            self.sandbox.kill()?;
        } else {
            self.waiting.push(signal);
        }
        Ok(())
    }

    /// Answers one refused system call, where one waits.
    fn answer(&mut self) -> Result<(), Error> {
        let Some(denials) = self.sandbox.denials() else {
            return Ok(());
        };
        // A command may have ended, and with it the listener, before PID 1 has said that it has started.
        self.denials.get_or_insert_default();
        let mut fds = [PollFd::new(denials, PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1)) {
            return Ok(());
        }
        let came = fds[0].revents().unwrap_or(PollFlags::empty());
        if came.contains(PollFlags::POLLIN) {
            if let Some(denial) = self.sandbox.denial()? {
                self.denials.get_or_insert_default().add(denial);
            }
        } else {
            // Nobody is left who could be refused anything.
            self.sandbox.ignore_denials();
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Error> {
        match self.copies.copy()? {
            Some(signal) => Ok(self.sandbox.signal(signal)?),
            None => Ok(()),
        }
    }

    /// Copies what the command wrote before its end.
    fn drain(&mut self) -> Result<(), Error> {
        if let Some(desk) = &mut self.desk {
            desk.drain();
        }
        self.copies.drain(&self.signals)
    }
}

/// Until `at`, rounded up so that the limit is never met by asking too early, again and again.
pub(crate) fn timeout(at: Instant) -> PollTimeout {
    let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
