//! Limits on every kind of host: cgroup v2 as root, delegated or through systemd, cgroup v1, hybrid.
//!
//! [`Cgroup::create`] tries the ways in that order by using them, and makes nothing when nothing is limited. The command
//! joins before its first instruction: by `CLONE_INTO_CGROUP` with [`Cgroup::directory`], and by [`Cgroup::join_v1`]
//! while it waits where a v1 hierarchy is involved. Without any cgroup, [`fallback_rlimits`] is what is left.

mod abandoned;
mod bus;
mod change;
mod controllers;
mod directory;
mod error;
mod fallback;
mod host;
mod late;
mod legacy;
mod limits;
mod place;
mod record;
mod settings;
mod shown;
mod systemd;
mod unified;
mod usage;
pub mod view;
mod xattr;

#[cfg(test)]
mod tests;

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

pub use abandoned::{remove_abandoned, remove_abandoned_but};
pub use error::{Error, Obstacle};
pub use fallback::{Rlimit, fallback_rlimits};
pub use host::layout;
pub(crate) use late::Tree;
pub use limits::Limits;
pub use record::Record;
pub use usage::Usage;

use controllers::{Controller, Controllers};
use directory::Directory;
use settings::Setting;

/// How limits are had on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// cgroup v2, in the hierarchy's root, as root.
    V2Root,
    /// cgroup v2, below the caller's own cgroup, which was delegated to it.
    V2Delegated,
    /// cgroup v2, in a transient scope that the service manager made and delegated.
    Systemd,
    /// cgroup v1: one directory per controller that is needed.
    V1,
    /// cgroup v1 for the limits, and a cgroup v2 without controllers for joining at clone, freezing and killing.
    Hybrid,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::V2Root,
        Self::V2Delegated,
        Self::Systemd,
        Self::V1,
        Self::Hybrid,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2Root => "cgroup v2",
            Self::V2Delegated => "delegated cgroup v2",
            Self::Systemd => "cgroup v2 by systemd",
            Self::V1 => "cgroup v1",
            Self::Hybrid => "cgroup v1 with v2",
        })
    }
}

/// Whether the service manager may be asked for a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Systemd {
    /// Where no other cgroup v2 works, and where the path asks for it (`slice:prefix:name`).
    #[default]
    Auto,
    /// Never.
    No,
}

/// Where and how a cgroup is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// OCI's `linux.cgroupsPath`: absolute, below each hierarchy's root; relative, below the place palisade finds;
    /// `slice:prefix:name`, a systemd scope.
    pub path: Option<PathBuf>,
    /// Whether systemd may be asked.
    pub systemd: Systemd,
    /// A cgroup is wanted even when nothing is limited: to freeze, to kill and to count.
    pub always: bool,
}

/// A cgroup of one sandbox: one directory in cgroup v2, or one in each v1 hierarchy that is needed, or both.
///
/// Dropping it changes nothing on the host; [`Cgroup::remove`] does.
#[derive(Debug)]
pub struct Cgroup {
    kind: Kind,
    /// The cgroup v2 that carries the limits, if any.
    unified: Option<Directory>,
    /// The leaf of `unified` that processes join, where it is not `unified` itself.
    leaf: Option<Directory>,
    v1: Vec<(Controllers, Directory)>,
}

impl Cgroup {
    /// Makes a cgroup with the limits of `resources`, named after `id`, in the first way that works.
    /// None when nothing is limited and [`Request::always`] is not set.
    ///
    /// Through systemd, and in a delegated cgroup that has processes, the calling process is moved into a leaf named
    /// `palisade-caller`, because a cgroup v2 has either processes or limited children.
    ///
    /// # Errors
    /// [`Error::Invalid`] for contradicting resources, [`Error::Unavailable`] when no way works, and what the kernel says about
    /// a value. Nothing is left behind.
    pub fn create(
        id: &str,
        resources: &LinuxResources,
        request: &Request,
    ) -> Result<Option<Self>, Error> {
        let limits = Limits::new(resources)?;
        if limits.is_empty() && !request.always {
            return Ok(None);
        }
        place::make(id, &limits, request, place::DYING).map(Some)
    }

    /// How the limits are had.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The cgroup v2 directory for clone3's `CLONE_INTO_CGROUP`; none under [`Kind::V1`].
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.joined().map(Directory::fd)
    }

    /// Moves a process that was cloned into [`Cgroup::directory`] into the remaining, v1, directories.
    ///
    /// # Errors
    /// What the kernel says about the write to `cgroup.procs`.
    pub fn join_v1(&self, pid: i32) -> Result<(), Error> {
        if self.v1.is_empty() {
            return Ok(());
        }
        let pid = pid.to_string();
        self.v1
            .iter()
            .try_for_each(|(_, directory)| directory.write("cgroup.procs", &pid))
    }

    /// Whether a process must be moved by [`Cgroup::join_v1`] after it was cloned into [`Cgroup::directory`].
    pub fn needs_join(&self) -> bool {
        !self.v1.is_empty()
    }

    /// Kills every process in it.
    ///
    /// # Errors
    /// What the kernel says about the write, or the reading of the list of processes.
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(unified) = &self.unified {
            match unified.write("cgroup.kill", "1") {
                // cgroup.kill exists since Linux 5.14.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                other => return other,
            }
        }
        self.kill_each()
    }

    fn kill_each(&self) -> Result<(), Error> {
        if let Some(pids) = self.v1_of(Controller::Pids) {
            // No process more than those that will be killed.
            let _ = pids.write("pids.max", "0");
        }
        let Some(list) = self
            .v1
            .first()
            .map(|(_, directory)| directory)
            .or(self.joined())
        else {
            return Ok(());
        };
        // A frozen process of v1 does not die of SIGKILL.
        let _ = self.thaw();
        // Each round kills what the one before had forked; without forks the second finds nobody alive.
        for _ in 0..100 {
            let pids: Vec<i32> = list
                .read("cgroup.procs")?
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect();
            let mut killed = false;
            for pid in pids.into_iter().filter(|pid| *pid > 0) {
                killed |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
            }
            if !killed {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Stops every process in it until [`Cgroup::thaw`]; returns when they are stopped.
    ///
    /// # Errors
    /// [`Error::NoSuchLimit`] where neither cgroup v2 nor the v1 freezer is part of this cgroup.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// As for [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        if let Some(unified) = &self.unified {
            unified.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
            return wait_for_event(unified, if frozen { "frozen 1" } else { "frozen 0" }, 5000);
        }
        let Some(freezer) = self.v1_of(Controller::Freezer) else {
            return Err(Error::NoSuchLimit {
                what: "when processes run (freeze)",
                file: "freezer.state".into(),
                advice: "start the sandbox with a cgroup wanted for control",
            });
        };
        let state = if frozen { "FROZEN" } else { "THAWED" };
        freezer.write("freezer.state", state)?;
        // FREEZING becomes FROZEN when read after the last process has stopped; a second write helps those that forked.
        for _ in 0..1000 {
            if freezer.read("freezer.state")?.trim() == state {
                return Ok(());
            }
            freezer.write("freezer.state", state)?;
            std::thread::yield_now();
        }
        Err(Error::system("freeze", freezer.path(), Errno::EBUSY))
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// What the kernel says about reading the state.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if let Some(unified) = &self.unified {
            return Ok(unified
                .read("cgroup.events")?
                .lines()
                .any(|line| line == "frozen 1"));
        }
        match self.v1_of(Controller::Freezer) {
            Some(freezer) => Ok(freezer.read("freezer.state")?.trim() != "THAWED"),
            None => Ok(false),
        }
    }

    /// What its processes have used, and how often a limit was in their way. Read it before [`Cgroup::remove`].
    pub fn usage(&self) -> Usage {
        usage::read(self)
    }

    /// How many processes the kernel killed for want of memory, and how many forks the limit on processes refused.
    pub fn struck(&self) -> (u64, u64) {
        usage::struck(self)
    }

    fn apply(&self, limits: &Limits) -> Result<(), Error> {
        let settings = if self.v1.is_empty() {
            limits.v2()?
        } else {
            limits.v1()?
        };
        self.write_all(&settings)
    }

    /// Where the limits of a controller are.
    fn directory_of(&self, controller: Controller) -> Option<&Directory> {
        if self.v1.is_empty() {
            self.unified.as_ref()
        } else {
            self.v1_of(controller)
        }
    }

    /// Writes settings in their order.
    fn write_all(&self, settings: &[Setting]) -> Result<(), Error> {
        let mut postponed: Option<&Setting> = None;
        for setting in settings {
            let Some(directory) = self.directory_of(setting.controller) else {
                return Err(Error::NoSuchLimit {
                    what: setting.what,
                    file: setting.file.to_string().into(),
                    advice: "start the sandbox with a limit of this kind, so that it can be changed later",
                });
            };
            match place::set(directory, setting) {
                // Memory may not be above memory plus swap, at no moment: raising needs the second file first.
                Err(error)
                    if setting.file == "memory.limit_in_bytes"
                        && error.errno() == Some(Errno::EINVAL) =>
                {
                    postponed = Some(setting);
                }
                other => other?,
            }
            if setting.file == "memory.memsw.limit_in_bytes"
                && let Some(limit) = postponed.take()
            {
                place::set(directory, limit)?;
            }
        }
        match postponed {
            Some(setting) => self
                .v1_of(setting.controller)
                .map_or(Ok(()), |directory| place::set(directory, setting)),
            None => Ok(()),
        }
    }

    /// Removes its directories, waiting for dying processes to be gone.
    ///
    /// # Errors
    /// [`Error::System`] with `EBUSY` when a process is still in it after two seconds: kill first.
    pub fn remove(&self) -> Result<(), Error> {
        let unified = [&self.leaf, &self.unified].into_iter().flatten();
        let legacy = self.v1.iter().map(|(_, directory)| directory);
        // One that cannot be removed is no reason to leave the others.
        unified
            .map(|directory| remove_directory(directory, true))
            .chain(legacy.map(|directory| remove_directory(directory, false)))
            .fold(Ok(()), Result::and)
    }

    /// Plain data from which [`Cgroup::open`] finds it again.
    pub fn record(&self) -> Record {
        let path = |directory: &Option<Directory>| {
            directory
                .as_ref()
                .map(|directory| directory.path().to_owned())
        };
        let names = |controllers: &Controllers| {
            controllers
                .iter()
                .map(Controller::v1_name)
                .collect::<Vec<_>>()
                .join(",")
        };
        Record {
            kind: self.kind,
            unified: path(&self.unified),
            leaf: path(&self.leaf),
            v1: self
                .v1
                .iter()
                .map(|(controllers, directory)| (names(controllers), directory.path().to_owned()))
                .collect(),
        }
    }

    /// Opens a cgroup that another process made.
    ///
    /// # Errors
    /// [`Error::System`] with `ENOENT` when it is gone.
    pub fn open(record: &Record) -> Result<Self, Error> {
        let directory = |path: &Option<PathBuf>| path.as_deref().map(Directory::open).transpose();
        let v1 = record
            .v1
            .iter()
            .map(|(names, path)| Ok((Controllers::of_v1_list(names), Directory::open(path)?)));
        Ok(Self {
            kind: record.kind,
            unified: directory(&record.unified)?,
            leaf: directory(&record.leaf)?,
            v1: v1.collect::<Result<_, Error>>()?,
        })
    }

    /// The cgroup v2 directory that processes join.
    fn joined(&self) -> Option<&Directory> {
        self.leaf.as_ref().or(self.unified.as_ref())
    }

    fn v1_of(&self, controller: Controller) -> Option<&Directory> {
        self.v1
            .iter()
            .find(|(controllers, _)| controllers.contains(controller))
            .map(|(_, directory)| directory)
    }
}

/// Removes one cgroup and those that the sandbox made below it.
fn remove_directory(directory: &Directory, unified: bool) -> Result<(), Error> {
    let mut result = directory.remove();
    if result == Err(Errno::EBUSY) {
        for child in directory.children() {
            remove_directory(&child, unified)?;
        }
        if unified {
            wait_for_event(directory, "populated 0", 2000)
                .map_err(|_| Error::system("remove", directory.path(), Errno::EBUSY))?;
        }
        retry(Instant::now() + place::DYING, || {
            result = directory.remove();
            result != Err(Errno::EBUSY)
        });
    }
    result.map_err(|errno| Error::system("remove", directory.path(), errno))
}

/// Tries until it succeeds, or the time is up: v1 tells nobody when the last process is gone, which is a matter of the time an
/// exit takes.
fn retry(until: Instant, mut attempt: impl FnMut() -> bool) -> bool {
    let mut pause = Duration::from_micros(50);
    loop {
        if attempt() {
            return true;
        }
        if Instant::now() + pause > until {
            return false;
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// Waits until `cgroup.events` has this line; the kernel reports changes of the file to poll(2).
fn wait_for_event(directory: &Directory, line: &str, milliseconds: u16) -> Result<(), Error> {
    let file = directory.open_file("cgroup.events")?;
    let fail = |errno| Error::system("wait for", directory.path().join("cgroup.events"), errno);
    let mut buffer = [0; 256];
    loop {
        let length = nix::sys::uio::pread(&file, &mut buffer, 0).map_err(fail)?;
        if buffer[..length]
            .split(|byte| *byte == b'\n')
            .any(|found| found == line.as_bytes())
        {
            return Ok(());
        }
        let mut waiting = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut waiting, PollTimeout::from(milliseconds)) {
            Ok(0) => return Err(fail(Errno::ETIMEDOUT)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
}
