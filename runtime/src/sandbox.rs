//! A running sandbox, seen from its supervisor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use palisade_policies::{Program, Tier};

use crate::cgroup::{self, Cgroup};
use crate::control::{self, Kind, Record, Step};
use crate::denials::{Denial, Listener};
use crate::{Error, Plan, full, sys, tier};

/// Descriptors that become 0, 1 and 2 of the command. Where the plan asks for a terminal they are not used.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Something that happened in the sandbox.
#[derive(Debug)]
pub enum Event {
    /// The terminal is there: [`Sandbox::terminal`].
    Terminal,
    /// Everything is set up and the command is being executed.
    Started(Protections),
    /// The command ended. PID 1 ends now as well, and the kernel ends whatever else ran in the sandbox.
    Exited(Exit),
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// From a raw wait status (wait(2)).
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
        }
    }

    /// The exit status that a shell would show: the code, or 128 + the signal's number.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => {
                u8::try_from(signal).map_or(u8::MAX, |number| 128_u8.saturating_add(number))
            }
        }
    }
}

/// What the kernel said of the command's process just before it executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protections {
    /// Lines `name value`, such as `NoNewPrivs 1`, as read back.
    pub lines: Vec<(String, String)>,
}

/// What a sandbox used, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system CPU time of every process that was waited for, or of the cgroup.
    pub cpu: Duration,
    /// Peak memory in bytes: of the cgroup where there is one, else of the largest single process.
    pub memory_peak: u64,
    /// How often the kernel's out-of-memory killer struck in the cgroup.
    pub oom_kills: u64,
    /// Peak number of processes, where a cgroup counted them.
    pub pids_peak: Option<u64>,
    /// How often a process was refused because of the limit on their number.
    pub pids_denied: u64,
    /// Bytes read from block devices, where a cgroup counted them.
    pub io_read: Option<u64>,
    /// Bytes written to block devices, where a cgroup counted them.
    pub io_written: Option<u64>,
}

/// A sandbox after its PID 1 has been made. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Sandbox {
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: i32,
    pub(crate) control: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) program: std::path::PathBuf,
    /// What PID 1 and its children used, once it has been waited for.
    pub(crate) reaped: Option<libc::rusage>,
    /// Whether the command is being executed.
    pub(crate) started: bool,
    pub(crate) missing: Vec<String>,
    pub(crate) full: Vec<String>,
    /// Whether there is no PID namespace: then what the command leaves is looked for, and ended, one by one.
    pub(crate) without_namespaces: bool,
    /// Whether its cgroup was made after its start: then nothing was limited until then.
    pub(crate) entered_late: bool,
    pub(crate) watched_memory: Option<u64>,
    pub(crate) listener: Option<Listener>,
    /// The program that the listener answers for, until there is one.
    pub(crate) filter: Option<Program>,
}

impl Sandbox {
    /// Readable when PID 1 has ended (pidfd_open(2)).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Process id of PID 1 as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when [`Sandbox::event`] has something to say.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The master side of the command's terminal, after [`Event::Terminal`].
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// What holds the command.
    pub fn tier(&self) -> Tier {
        if self.without_namespaces {
            Tier::NoNamespace
        } else if self.cgroup.is_some() && !self.entered_late {
            Tier::Full
        } else {
            Tier::NoCgroup
        }
    }

    /// Protections that were asked for and not to be had, where the plan goes on without them: a sentence each.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Mount points of in-memory file systems, and `/` for the writable layer, that had no room left when the command
    /// failed; empty before [`Event::Exited`], and for a command that did not fail.
    pub fn full(&self) -> &[String] {
        &self.full
    }

    /// The limit on memory, in bytes, that nobody holds but whoever looks at [`Sandbox::memory`]: there is no cgroup for it.
    pub fn watched_memory(&self) -> Option<u64> {
        self.watched_memory
    }

    /// The memory of its processes in bytes, as far as /proc tells: what several share is counted for each.
    pub fn memory(&self) -> u64 {
        tier::memory(self.pid)
    }

    /// The limits' cgroup, where there is one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// The next event, without waiting; none when there is none now, or none to come.
    ///
    /// # Errors
    /// What kept the command from running; the sandbox is then ending by itself.
    pub fn event(&mut self) -> Result<Option<Event>, Error> {
        let received = match control::receive(self.control.as_fd()) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => None,
            Err(errno) => {
                return Err(Error::Launch {
                    action: "read from the sandbox's init process".into(),
                    errno,
                });
            }
        };
        let Some((record, descriptor)) = received else {
            return Ok(None);
        };
        match record.kind {
            Kind::Terminal => {
                self.terminal = descriptor;
                Ok(Some(Event::Terminal))
            }
            Kind::Listener => {
                self.listener = descriptor
                    .zip(self.filter.take())
                    .map(|(descriptor, filter)| Listener::new(descriptor, filter));
                self.event()
            }
            Kind::Started => {
                self.started = true;
                Ok(Some(Event::Started(Protections::parse(record.text()))))
            }
            Kind::Exited => {
                self.full = full::names(record.text());
                Ok(Some(Event::Exited(Exit::from_wait_status(record.value))))
            }
            _ => Err(failure(&self.program, &record)),
        }
    }

    /// Readable when [`Sandbox::denial`] has something to say; none where denials are not watched. Once it is hung up there
    /// are no more.
    pub fn denials(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(Listener::as_fd)
    }

    /// Closes the listener. Calls that would have been told of fail with ENOSYS from now on.
    pub fn ignore_denials(&mut self) {
        self.listener = None;
    }

    /// Answers the next refused system call, and tells of it; none where its caller has died meanwhile. The call fails with
    /// the errno that the filter has for it. Waits where [`Sandbox::denials`] is not readable.
    ///
    /// # Errors
    /// What the kernel says about the listener; the calls that wait for it then fail as well, as it is closed.
    pub fn denial(&mut self) -> Result<Option<Denial>, Error> {
        let Some(listener) = &self.listener else {
            return Ok(None);
        };
        listener.answer().map_err(|errno| {
            self.listener = None;
            Error::Launch {
                action: "answer a refused system call".into(),
                errno,
            }
        })
    }

    /// Lets a command join: `connection` is what [`Joined::new`](crate::Joined::new) made for it, here or in another
    /// process that is trusted as much as this one. Only after [`Event::Started`], and where the plan is joinable.
    ///
    /// # Errors
    /// Never because the sandbox has ended: the connection is closed then.
    pub fn admit(&self, connection: BorrowedFd<'_>) -> Result<(), Error> {
        let record = Record::new(Kind::Join, 0, 0, b"");
        match control::send(self.control.as_fd(), &record, Some(connection)) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::Launch {
                action: "pass a command on to the sandbox".into(),
                errno,
            }),
        }
    }

    /// Sends `signal` to PID 1, which passes it on to the command.
    ///
    /// # Errors
    /// Never because the sandbox has already ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        match sys::pidfd_send_signal(self.pidfd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::Launch {
                action: format!("send signal {signal} to the sandbox"),
                errno,
            }),
        }
    }

    /// Ends every process of the sandbox with SIGKILL.
    ///
    /// # Errors
    /// As for [`Sandbox::signal`].
    pub fn kill(&self) -> Result<(), Error> {
        if self.without_namespaces && self.started {
            // Its init process can do that in one step, unless somebody stopped it, and nobody can in its place.
            let record = Record::new(Kind::Kill, 0, 0, b"");
            if control::send(self.control.as_fd(), &record, None).is_ok() {
                return self.signal(libc::SIGCONT);
            }
        }
        // PID 1 dies in any case, and takes the rest along; the cgroup is thawed first, as nothing frozen dies of it in v1.
        let group = self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill);
        self.signal(libc::SIGKILL)?;
        group.map_err(Error::from)
    }

    /// Stops every process of the sandbox, or lets them go on. Returns when the kernel says that it is so.
    ///
    /// # Errors
    /// It has no cgroup ([`Sandbox::make_cgroup`]), or not all have stopped within some seconds: then they go on.
    pub fn freeze(&mut self, frozen: bool) -> Result<(), Error> {
        match &self.cgroup {
            Some(cgroup) if frozen => cgroup.freeze().map_err(|error| {
                let _ = cgroup.thaw();
                error.into()
            }),
            Some(cgroup) => Ok(cgroup.thaw()?),
            None if frozen => Err(without_cgroup()),
            None => Ok(()),
        }
    }

    /// Changes the limits that `resources` names, of a sandbox of this Plan.
    ///
    /// # Errors
    /// It has no cgroup ([`Sandbox::make_cgroup`]), or not all can be had. The limits are what they were then.
    pub fn limit(
        &mut self,
        plan: &Plan,
        resources: &oci_spec::runtime::LinuxResources,
    ) -> Result<(), Error> {
        let tree = tier::Family(self.pid);
        let cgroup = self.cgroup.as_mut().ok_or_else(without_cgroup)?;
        Ok(cgroup.change(&plan.id, resources, &request(plan), &tree)?)
    }

    /// Makes a cgroup without limits for a sandbox of this Plan that was started without one, and has none. Nobody is in it
    /// until [`Sandbox::enter_cgroup`].
    ///
    /// # Errors
    /// There can be none.
    pub fn make_cgroup(&mut self, plan: &Plan) -> Result<(), Error> {
        if self.without_namespaces {
            return Err(Error::Unsupported {
                what: "a control group".into(),
                why: format!("the tier {} has none", Tier::NoNamespace.word()),
            });
        }
        self.cgroup = Some(Cgroup::beside(&plan.id, &request(plan))?);
        self.entered_late = true;
        Ok(())
    }

    /// Moves every process of the sandbox into the cgroup that [`Sandbox::make_cgroup`] made, and leaves them frozen.
    ///
    /// # Errors
    /// It has none, or not all can be moved. Then it has none any more.
    pub fn enter_cgroup(&mut self) -> Result<(), Error> {
        let cgroup = self.cgroup.take().ok_or_else(without_cgroup)?;
        cgroup.surround(&tier::Family(self.pid))?;
        self.cgroup = Some(cgroup);
        Ok(())
    }

    /// Removes a cgroup that nobody has entered.
    pub fn drop_cgroup(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            // It is empty; what cannot be removed is swept.
            let _ = cgroup.remove();
        }
    }

    /// Waits for the end of PID 1, and with it of every process of the sandbox, and removes the cgroup.
    ///
    /// # Errors
    /// The sandbox's processes are gone even if the cgroup could not be removed.
    pub fn finish(mut self) -> Result<Usage, Error> {
        let rusage = self.reap()?;
        let seconds = |t: libc::timeval| {
            Duration::from_secs(t.tv_sec.unsigned_abs())
                + Duration::from_micros(t.tv_usec.unsigned_abs())
        };
        let mut usage = Usage {
            cpu: seconds(rusage.ru_utime) + seconds(rusage.ru_stime),
            memory_peak: rusage.ru_maxrss.unsigned_abs() * 1024,
            ..Usage::default()
        };
        if let Some(cgroup) = self.cgroup.take() {
            let counted = cgroup.usage();
            if self.entered_late {
                // What was used before is counted by the kernel's sums over processes alone.
                usage.memory_peak = usage.memory_peak.max(counted.memory_peak.unwrap_or(0));
                usage.cpu = usage.cpu.max(counted.cpu_time.unwrap_or_default());
            } else {
                usage.memory_peak = counted.memory_peak.unwrap_or(usage.memory_peak);
                usage.cpu = counted.cpu_time.unwrap_or(usage.cpu);
            }
            usage.oom_kills = counted.oom_kills.unwrap_or(0);
            usage.pids_peak = counted.pids_peak;
            usage.pids_denied = counted.pids_denied.unwrap_or(0);
            usage.io_read = counted.io_read;
            usage.io_written = counted.io_written;
            // Once more: nobody else would remove it before the next limited run.
            let removed = cgroup.remove().or_else(|_| cgroup.remove());
            drop(cgroup);
            // What a killed palisade left goes now that nobody waits; what cannot be removed is not this run's failure.
            let _ = crate::cgroup::remove_abandoned();
            removed?;
        }
        Ok(usage)
    }

    /// Ends what is left of the sandbox once PID 1 has ended: nothing, where that had namespaces. Then no process of it can
    /// write any more.
    ///
    /// # Errors
    /// As for [`Sandbox::finish`].
    pub fn settle(&mut self) -> Result<(), Error> {
        if self.without_namespaces {
            self.reap()?;
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<libc::rusage, Error> {
        loop {
            if let Some(usage) = self.reaped {
                return Ok(usage);
            }
            match sys::wait4(self.pid, 0) {
                Ok(Some((_, _, usage))) => {
                    if self.without_namespaces {
                        // Nothing, unless somebody killed the process that looks after it.
                        tier::end_all();
                    }
                    self.reaped = Some(usage);
                }
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Launch {
                        action: "wait for the sandbox's end".into(),
                        errno,
                    });
                }
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            let _ = self.kill();
            let _ = self.reap();
        }
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
    }
}

impl Protections {
    /// From lines `name value` separated by newlines.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let lines = String::from_utf8_lossy(text)
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { lines }
    }
}

/// Where the cgroup of a sandbox is wanted that runs.
fn request(plan: &Plan) -> cgroup::Request {
    let linux = plan.spec.linux().as_ref();
    cgroup::Request {
        path: linux.and_then(|linux| linux.cgroups_path().clone()),
        ..cgroup::Request::default()
    }
}

fn without_cgroup() -> Error {
    Error::Unsupported {
        what: "to stop or limit what runs".into(),
        why: "the sandbox has no control group".into(),
    }
}

/// What a record says that tells of no success.
pub(crate) fn failure(program: &Path, record: &Record) -> Error {
    let errno = Errno::from_raw(record.value);
    let subject = text(record);
    match record.kind {
        Kind::Differs => return Error::NotAsPlanned(subject),
        Kind::Refused => return Error::Refused(subject),
        _ => {}
    }
    match Step::from_number(record.step) {
        Some(Step::Exec) if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) => Error::NotFound {
            program: program.to_owned(),
            interpreter: Some(subject).filter(|s| !s.is_empty()),
        },
        Some(Step::Exec) => Error::NotExecutable {
            program: program.to_owned(),
            errno,
        },
        Some(step) => Error::Setup {
            subject: step.shown(subject),
            step,
            errno,
        },
        None => Error::InitLost(format!("it reported an unknown step {}", record.step)),
    }
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.text()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_shows_as_128_plus_its_number() {
        assert_eq!(Exit::from_wait_status(libc::SIGKILL).status(), 137);
        assert_eq!(Exit::from_wait_status(3 << 8).status(), 3);
        assert_eq!(Exit::from_wait_status(255 << 8).status(), 255);
    }
}
