//! What a monitor attends to beside its sandbox: requests on its socket, the log, the sandbox's record.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use palisade_runtime::{Plan, Sandbox};

use super::control;
use super::ends::Ends;
use super::ready::Ready;
use super::request::{Answer, Request};
use super::socket;
use crate::Error;
use crate::health::Checks;
use crate::log;
use crate::outcome::Outcome;
use crate::state::{Change, Exited, Known, Lock, Registry, State, Status};

/// More connections than this wait in the listening socket.
const CLIENTS: usize = 64;

/// What a supervisor attends to for one sandbox that has a record.
#[derive(Debug)]
pub struct Desk {
    pub(super) registry: Registry,
    pub(crate) known: Known,
    pub(super) lock: Lock,
    pub(super) ready: Option<Ready>,
    listener: OwnedFd,
    clients: Vec<Client>,
    pub(crate) ends: Ends,
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
            ends: Ends::new(log),
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

    /// Reads what the command wrote before its end, and no more than its streams can hold of what others go on writing.
    pub fn drain(&mut self) {
        self.ends.drain();
        self.checks = None;
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
        self.ends.sources().for_each(&mut wait);
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
        self.ends.read();
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
                let answer = Answer::other_version().to_bytes();
                let _ = socket::send(client.connection.as_fd(), &answer, &[]);
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
                // As with docker: what is killed, or sent its stop signal, was meant to end.
                let ends = [libc::SIGKILL, self.known.config.stop_signal].contains(&signal);
                self.known.state.stopped |= ends;
                orders.push(Order::Signal(signal));
                let number = signal.to_string();
                self.record("kill", &[("signal", &number)]);
                answer(&Answer::Done, &[])
            }
            Request::Wait => {
                client.waiting = true;
                true
            }
            Request::Input => match self.ends.input() {
                Some(input) => answer(&Answer::Done, &[input.as_fd()]),
                None => answer(
                    &Answer::refused("it has no standard input", "run -i, for one that has"),
                    &[],
                ),
            },
            Request::CloseInput => {
                if !self.known.config.tty {
                    self.ends.close_input();
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
            let orders = self.turn();
            let ended = |order: &Order| matches!(order, Order::Stop(..) | Order::Signal(_));
            if self.known.state.stopped && orders.iter().any(ended) {
                return Ok(true);
            }
        }
    }
}
