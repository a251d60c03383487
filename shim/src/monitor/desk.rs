//! What a monitor attends to beside its sandbox: requests on its socket, the log, the sandbox's record.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{pipe2, read};
use palisade_runtime::{Plan, Sandbox, Stdio};

use super::control;
use super::ready::Ready;
use super::request::{Answer, Request};
use super::socket;
use crate::Error;
use crate::health::Checks;
use crate::log::{self, Stream};
use crate::meter::{Gauge, Meter};
use crate::outcome::Outcome;
use crate::relay::capacity;
use crate::state::{Change, Exited, Known, Lock, Registry, State, Status};
use crate::stdio::{Streams, duplicate, null, set_nonblocking};

/// More connections than this wait in the listening socket.
const CLIENTS: usize = 64;

/// As much as a pipe holds.
const BUFFER: usize = 64 * 1024;

/// Full buffers of one stream in a turn: a megabyte, a millisecond's work.
const READS: usize = 16;

/// What comes from each source.
const STREAMS: [Stream; 2] = [Stream::Out, Stream::Err];

/// What a supervisor attends to for one sandbox that has a record.
#[derive(Debug)]
pub struct Desk {
    pub(super) registry: Registry,
    pub(crate) known: Known,
    pub(super) lock: Lock,
    pub(super) ready: Option<Ready>,
    listener: OwnedFd,
    clients: Vec<Client>,
    log: Option<log::Log>,
    /// Where the command's standard output and error, or its terminal, can be read.
    sources: [Option<OwnedFd>; 2],
    /// Where its standard input or its terminal can be written.
    input: Option<OwnedFd>,
    /// What counts what the command writes, where that is limited.
    meters: [Option<Rc<Meter>>; 2],
    buffer: Vec<u8>,
    pub(super) checks: Option<Checks>,
    /// The plan of the next start, where it is no longer that of this one.
    pub(super) plan: Option<Plan>,
    /// When its time to live is over.
    expires: Option<Instant>,
}

/// Somebody who is connected.
#[derive(Debug)]
struct Client {
    connection: OwnedFd,
    /// Whether it waits for the command's end.
    waiting: bool,
}

/// What a request means for the sandbox.
#[derive(Debug)]
pub enum Order {
    /// The command gets this signal.
    Signal(i32),
    /// It is asked to end by this signal, and has this time for it.
    Stop(i32, Duration),
    /// A command joins it by this connection.
    Admit(OwnedFd),
    /// Its processes are stopped, or go on. Whoever asked is told by this connection.
    Freeze(bool, OwnedFd),
    /// Its limits or restart policy become others. Whoever asked is told by this connection.
    Change(Box<Change>, OwnedFd),
}

impl Desk {
    /// Opens the socket and, for a sandbox whose output is nobody else's, the log.
    pub fn open(registry: Registry, known: Known, lock: Lock) -> Result<Self, Error> {
        let directory = &known.entry.directory;
        let listener = socket::listen_in(directory).map_err(|source| Error::State {
            action: "listen in",
            path: directory.clone(),
            source,
        })?;
        let path = directory.join("log");
        let log = if known.config.foreground || !known.config.log.keep {
            None
        } else {
            let log = log::Log::open(&path, known.config.log);
            Some(log.map_err(|source| Error::State {
                action: "open",
                path,
                source,
            })?)
        };
        // The clock that timers go by is not the one that the record has.
        let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let expires = known.config.expires;
        let expires = expires.and_then(|at| Instant::now().checked_add(left(at)));
        Ok(Self {
            registry,
            known,
            lock,
            ready: None,
            listener,
            clients: Vec::new(),
            log,
            sources: [None, None],
            input: None,
            meters: [None, None],
            buffer: Vec::new(),
            checks: None,
            plan: None,
            expires,
        })
    }

    /// Lets go of everybody who is connected, or about to be.
    pub(super) fn close(self) -> (Registry, Known, Lock) {
        (self.registry, self.known, self.lock)
    }

    /// Whether the command's streams end here, and not with a caller.
    pub fn owns_streams(&self) -> bool {
        !self.known.config.foreground
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

    /// Where PID 1 writes how the command ended; what an earlier run wrote goes.
    pub fn exit_file(&self) -> Result<OwnedFd, Error> {
        let path = self.known.entry.directory.join("exit");
        let file = File::create(&path).map_err(|source| Error::State {
            action: "make",
            path,
            source,
        })?;
        Ok(file.into())
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

    /// The command is being executed.
    pub fn started(&mut self, sandbox: &Sandbox) -> Result<(), Error> {
        let before = &self.known.state;
        self.known.state = State {
            status: Status::Running,
            pid: Some(sandbox.pid()),
            monitor: Some(nix::unistd::getpid().as_raw()),
            cgroup: sandbox.cgroup().map(|cgroup| cgroup.record().to_string()),
            started: Some(SystemTime::now()),
            exit: before.exit.clone(),
            restarts: before.restarts,
            ..State::default()
        };
        self.checks = self.known.config.health.clone().map(|how| {
            // A broken file of old checks is no reason not to check.
            Checks::new(how, self.known.entry.checks().unwrap_or_default())
        });
        self.known.state.health = self.checks.as_ref().map(|checks| checks.healthiness);
        self.save()?;
        self.record("start", &[]);
        if let Some(ready) = self.ready.take() {
            ready.started();
        }
        Ok(())
    }

    /// What to wait for. The order is that of [`Desk::turn`].
    pub fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut wait = |fd: &'a OwnedFd| fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        self.sources.iter().flatten().for_each(&mut wait);
        self.clients
            .iter()
            .map(|client| &client.connection)
            .for_each(&mut wait);
        if self.clients.len() < CLIENTS {
            wait(&self.listener);
        }
        if let Some(checks) = &self.checks {
            checks.interest(fds);
        }
    }

    /// When something is to be done, whether or not a descriptor is ready.
    pub fn next(&self) -> Option<Instant> {
        let check = self.checks.as_ref().and_then(Checks::next);
        check.into_iter().chain(self.expires).min()
    }

    /// Begins checks that are due, takes note of what they say, and ends a sandbox whose time is over.
    fn keep_time(&mut self, orders: &mut Vec<Order>) {
        let now = Instant::now();
        if self.expires.take_if(|at| *at <= now).is_some() {
            self.known.state.stopped = true;
            let config = &self.known.config;
            orders.push(Order::Stop(config.stop_signal, config.stop_timeout));
        }
        let Some(checks) = &mut self.checks else {
            return;
        };
        let mut changed = checks.turn();
        let before = self.known.state.health;
        let kept = checks.last.len();
        orders.extend(checks.begin().map(Order::Admit));
        changed |= checks.last.len() != kept;
        if !changed {
            return;
        }
        let after = checks.healthiness;
        // A full disk is no reason to end the sandbox: the next change is written then.
        let _ = self.known.entry.set_checks(&checks.last);
        self.known.state.health = Some(after);
        let _ = self.save();
        if before.map(|health| health.verdict) != Some(after.verdict) {
            self.record(&format!("health_status: {}", after.verdict.word()), &[]);
        }
    }

    /// Does what can be done now without waiting; what it means for the sandbox is the caller's to do.
    pub fn turn(&mut self) -> Vec<Order> {
        self.read_output();
        let mut orders = Vec::new();
        self.keep_time(&mut orders);
        while self.clients.len() < CLIENTS {
            // Out of descriptors: whoever waits is let in when some are free. The sandbox is not ended for that.
            let Ok(Some(connection)) = socket::accept(self.listener.as_fd()) else {
                break;
            };
            let waiting = false;
            self.clients.push(Client {
                connection,
                waiting,
            });
        }
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| self.serve(client, &mut orders));
        self.clients = clients;
        orders
    }

    /// Answers what one client asks; false when it is gone.
    fn serve(&mut self, client: &mut Client, orders: &mut Vec<Order>) -> bool {
        loop {
            let (bytes, descriptors) = match socket::receive(client.connection.as_fd()) {
                Ok(Some(received)) => received,
                Ok(None) => return false,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            let Some(request) = Request::from_bytes(&bytes) else {
                return false;
            };
            if !self.obey(request, descriptors, client, orders) {
                return false;
            }
        }
    }

    /// Does what was asked; false where the client cannot be answered.
    fn obey(
        &mut self,
        request: Request,
        mut descriptors: Vec<OwnedFd>,
        client: &mut Client,
        orders: &mut Vec<Order>,
    ) -> bool {
        let answer = |answer: &Answer, descriptors: &[BorrowedFd<'_>]| {
            let to = client.connection.as_fd();
            socket::send(to, &answer.to_bytes(), descriptors).is_ok()
        };
        match request {
            Request::Stop { signal, timeout } => {
                self.known.state.stopped = true;
                let config = &self.known.config;
                orders.push(Order::Stop(
                    signal.unwrap_or(config.stop_signal),
                    timeout.unwrap_or(config.stop_timeout),
                ));
                // Answered by the end of the connection.
                true
            }
            Request::Signal(signal) => {
                orders.push(Order::Signal(signal));
                let number = signal.to_string();
                self.record("kill", &[("signal", &number)]);
                answer(&Answer::Done, &[])
            }
            Request::Wait => {
                client.waiting = true;
                true
            }
            Request::Input => match &self.input {
                Some(input) => answer(&Answer::Done, &[input.as_fd()]),
                None => answer(
                    &Answer::refused("it has no standard input", "run -i, for one that has"),
                    &[],
                ),
            },
            Request::CloseInput => {
                if !self.known.config.tty {
                    self.input = None;
                }
                answer(&Answer::Done, &[])
            }
            Request::Join => match descriptors.pop().filter(|_| self.runs()) {
                Some(connection) => {
                    orders.push(Order::Admit(connection));
                    answer(&Answer::Done, &[])
                }
                None => answer(&self.unfit(), &[]),
            },
            Request::Update => {
                if !self.runs() && !self.is_paused() {
                    return answer(&self.unfit(), &[]);
                }
                let change = descriptors.pop().and_then(control::read);
                match (change, client.connection.try_clone()) {
                    (Some(change), Ok(asker)) => {
                        orders.push(Order::Change(Box::new(change), asker));
                        true
                    }
                    _ => answer(
                        &Answer::refused(
                            "what was to change did not reach it",
                            "palisade update once more; of another version than the sandbox's, stop it and start it again",
                        ),
                        &[],
                    ),
                }
            }
            Request::Pause | Request::Unpause => {
                let frozen = request == Request::Pause;
                let fit = if frozen {
                    self.runs()
                } else {
                    self.is_paused()
                };
                match client.connection.try_clone() {
                    Ok(asker) if fit => {
                        orders.push(Order::Freeze(frozen, asker));
                        true
                    }
                    _ => answer(&self.unfit(), &[]),
                }
            }
        }
    }

    /// Reads each stream into the log, again where its pipe was full, but not so long that others would notice.
    fn read_output(&mut self) {
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
        // What is measured has to be seen; of the rest nothing needs to pass through here.
        if self.meters[index].is_none()
            && !self.known.config.tty
            && let Some(log) = &mut self.log
            && let Ok(waiting @ 1..) = rustix::io::ioctl_fionread(source)
            && let waiting = usize::try_from(waiting).unwrap_or(BUFFER)
            && let Some(count) = log.take(STREAMS[index], source.as_fd(), waiting.min(most))
        {
            return Some(count);
        }
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        match read(source, &mut self.buffer[..most.min(BUFFER)]) {
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
                        let bytes = &self.buffer[..meter.admit(count)];
                        meter.passed(bytes);
                        bytes
                    }
                    None => &self.buffer[..count],
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
        self.checks = None;
    }

    /// Nothing of the sandbox is left: says so to the record and to whoever waits.
    pub(super) fn ended(&mut self, result: Result<&Outcome, &Error>) -> Result<(), Error> {
        let finished = SystemTime::now();
        let (code, reason) = match result {
            Ok(outcome) => (outcome.code, outcome.reason.as_str()),
            Err(error) => (error.exit_code(), "error"),
        };
        let state = &mut self.known.state;
        state.status = if state.started.is_some() || result.is_ok() {
            Status::Exited
        } else {
            Status::Created
        };
        state.pid = None;
        state.monitor = None;
        state.cgroup = None;
        state.error = result.err().map(ToString::to_string);
        state.exit = Some(Exited {
            code,
            reason: reason.to_owned(),
            finished,
        });
        let saved = self.save();
        if reason == "oom" {
            self.record("oom", &[]);
        }
        self.record("die", &[("exitCode", &code.to_string())]);
        self.tell_waiting(code);
        saved
    }

    fn tell_waiting(&mut self, code: u8) {
        let exited = Answer::Exited(code).to_bytes();
        for client in self.clients.iter_mut().filter(|client| client.waiting) {
            client.waiting = false;
            // One that went away needs no answer.
            let _ = socket::send(client.connection.as_fd(), &exited, &[]);
        }
    }

    /// Writes the record of what the sandbox is doing.
    pub(super) fn save(&self) -> Result<(), Error> {
        self.known.entry.set_state(&self.known.state)
    }

    pub(super) fn record(&self, action: &str, more: &[(&str, &str)]) {
        // Somebody may have given it another name.
        let now = self.known.entry.config();
        let config = now.as_ref().unwrap_or(&self.known.config);
        self.registry.events().record(action, config, more);
    }

    /// Attends to requests alone, for a sandbox that will be started again at `until`; true when it is to be stopped.
    pub(super) fn pause_until(&mut self, until: Instant) -> Result<bool, Error> {
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(false);
            }
            let mut fds = Vec::new();
            self.interest(&mut fds);
            match nix::poll::poll(&mut fds, crate::supervise::timeout(until)) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(Error::system("wait for the next start"))?,
            };
            drop(fds);
            for order in self.turn() {
                if matches!(order, Order::Stop(..)) {
                    return Ok(true);
                }
            }
        }
    }
}
