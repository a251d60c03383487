//! A cgroup for processes that run already: to stop them, or to limit them, when nobody thought of it at their start.
//!
//! The kernel takes processes by their numbers alone, and a number goes to another process once its own has ended. So each
//! process is held by a descriptor (pidfd_open(2)) while it is looked at and moved: one that has not ended after the move was
//! the one that was moved. If it has, and the number was somebody else's, that process is put back.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::LinuxResources;

use super::directory::Directory;
use super::host::Host;
use super::systemd::Manager;
use super::{Cgroup, Error, Limits, Request, place};
use crate::stat::{self, parent_in, thread_is_over};

/// Processes that belong together, and come and go.
pub(crate) trait Tree {
    /// Those that have not ended, as the caller sees their numbers, in no order.
    fn processes(&self) -> Vec<i32>;

    /// A hold on one of them, a pidfd; none where the number is no longer, or not, one of theirs.
    ///
    /// # Errors
    /// What the kernel says when it gives no descriptor.
    fn hold(&self, pid: i32) -> nix::Result<Option<OwnedFd>>;
}

/// How long processes are moved that make others all the time, and how often all of them at least, however slow the machine
/// and its service manager are: two rounds suffice where those that fork are moved in the first.
const PATIENCE: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 8;

impl Cgroup {
    /// Makes an empty cgroup without limits, named after `id`, for [`Cgroup::surround`].
    ///
    /// # Errors
    /// As for [`Cgroup::create`], and where `request` names a cgroup that has processes: they would be stopped and limited.
    pub(crate) fn beside(id: &str, request: &Request) -> Result<Self, Error> {
        let request = Request {
            always: true,
            ..request.clone()
        };
        let limits = Limits::new(&LinuxResources::default())?;
        let made = place::make(id, &limits, &request, Duration::ZERO)?;
        let taken = made
            .directories()
            .find(|directory| has_processes(directory));
        if let Some(path) = taken.map(|directory| directory.path().to_owned()) {
            made.remove_if_empty();
            return Err(Error::Invalid(format!(
                "the control group {} has processes of others, who would be stopped and limited as well",
                path.display()
            )));
        }
        Ok(made)
    }

    /// Moves a tree of processes into it. They stand still while they are moved, and the last of it stays:
    /// [`Cgroup::thaw`] lets them go on.
    ///
    /// What they have in memory already is counted where they were before.
    ///
    /// # Errors
    /// Where not all could be moved: those that were go to the caller's own cgroup, they run, and nothing is left behind but
    /// what the kernel does not let go.
    pub(crate) fn surround(&self, tree: &impl Tree) -> Result<(), Error> {
        let taken = self.freeze().and_then(|()| self.take_in(tree));
        if taken.is_err() {
            self.give_back(tree);
        }
        taken
    }

    /// Moves every process of `tree` that is not in all of its directories. A frozen cgroup stops each as it comes in, so that
    /// it has no child afterwards that was not listed.
    pub(super) fn take_in(&self, tree: &impl Tree) -> Result<(), Error> {
        let directories: Vec<&Directory> = self.entered().collect();
        let until = Instant::now() + PATIENCE;
        let mut manager = None;
        // Each round moves what those of the round before had forked until they were moved.
        let mut rounds = 0;
        while rounds < ROUNDS || Instant::now() < until {
            rounds += 1;
            let here = directories
                .iter()
                .map(|directory| directory.threads())
                .collect::<Result<Vec<HashSet<i32>>, Error>>()?;
            let mut left = false;
            for pid in tree.processes() {
                let thread = living_thread(pid);
                let absent = here.iter().zip(&directories);
                let absent: Vec<&Directory> = absent
                    .filter(|(here, _)| thread.is_none_or(|thread| !here.contains(&thread)))
                    .map(|(_, directory)| *directory)
                    .collect();
                if !absent.is_empty() {
                    left = true;
                    move_to(&absent, pid, tree, &mut manager)?;
                }
            }
            if !left {
                return self.freeze();
            }
        }
        Err(Error::Blocked(
            "the sandbox makes processes faster than they can be moved into a control group".into(),
        ))
    }

    /// Undoes [`Cgroup::surround`], as far as it can be: the failure that led here is the one to report.
    fn give_back(&self, tree: &impl Tree) {
        if let Ok(host) = Host::find() {
            for directory in self.directories() {
                let _ = send_home(directory, &host, tree);
            }
        }
        let _ = self.thaw();
        self.remove_if_empty();
    }

    /// Without waiting for processes: what cannot be removed is swept once it is empty.
    fn remove_if_empty(&self) {
        for directory in self.directories() {
            let _ = directory.remove();
        }
    }

    /// Those that processes join.
    fn entered(&self) -> impl Iterator<Item = &Directory> {
        let v1 = self.v1.iter().map(|(_, directory)| directory);
        self.joined().into_iter().chain(v1)
    }

    /// All of them, what is below before what it is in.
    fn directories(&self) -> impl Iterator<Item = &Directory> {
        let unified = [&self.leaf, &self.unified].into_iter().flatten();
        unified.chain(self.v1.iter().map(|(_, directory)| directory))
    }
}

/// Moves a process of `tree`, and nobody else. One that ends meanwhile need not be moved.
fn move_to(
    directories: &[&Directory],
    pid: i32,
    tree: &impl Tree,
    manager: &mut Option<Manager>,
) -> Result<(), Error> {
    let Some(hold) = held(tree, pid)? else {
        return Ok(());
    };
    let written = directories
        .iter()
        .try_for_each(|directory| write(directory, pid, &hold, manager));
    if has_ended(&hold) {
        return put_back(directories, pid, tree);
    }
    written
}

fn held(tree: &impl Tree, pid: i32) -> Result<Option<OwnedFd>, Error> {
    tree.hold(pid)
        .map_err(|errno| Error::system("hold", format!("/proc/{pid}"), errno))
}

fn write(
    directory: &Directory,
    pid: i32,
    hold: &OwnedFd,
    manager: &mut Option<Manager>,
) -> Result<(), Error> {
    let error = match directory.write("cgroup.procs", &pid.to_string()) {
        // It has ended meanwhile.
        Err(error) if error.errno() == Some(Errno::ESRCH) => return Ok(()),
        Err(error) => error,
        Ok(()) => return Ok(()),
    };
    // An ordinary user may move nothing out of a session's scope into one that was delegated; the manager of both may.
    if !matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) {
        return Err(error);
    }
    if manager.is_none() {
        *manager = Manager::connect().ok();
    }
    match manager {
        // The manager moves what an ordinary user could not put back: the number is looked at once more.
        Some(_) if has_ended(hold) => Ok(()),
        Some(manager) => manager.attach(directory.path(), pid),
        None => Err(error),
    }
}

/// The thread that tells where a process is: its first, or another where that one has ended, which stays where it was and is
/// not moved with the others. None where nothing of it runs.
fn living_thread(pid: i32) -> Option<i32> {
    let runs = |path: String| std::fs::read(path).is_ok_and(|stat| !thread_is_over(&stat));
    if runs(format!("/proc/{pid}/stat")) {
        return Some(pid);
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads
        .flatten()
        .filter_map(|thread| thread.file_name().to_str()?.parse().ok())
        .find(|thread: &i32| runs(format!("/proc/{pid}/task/{thread}/stat")))
}

fn has_ended(hold: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(hold.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO) != Ok(0)
}

/// The number may have become another process's before it was used: then that one goes to where its parent is, as whoever has
/// just been made is where its parent is.
fn put_back(directories: &[&Directory], pid: i32, tree: &impl Tree) -> Result<(), Error> {
    if held(tree, pid)?.is_some() {
        return Ok(());
    }
    let Some(parent) = stat::of(pid).as_deref().and_then(parent_in) else {
        return Ok(());
    };
    for directory in directories {
        let here = directory.threads()?;
        if !living_thread(pid).is_some_and(|thread| here.contains(&thread)) {
            continue;
        }
        let host = Host::of(parent)?;
        let home = host.own_in_hierarchy_of(directory.path());
        let home = home.ok_or_else(|| {
            Error::Blocked(format!(
                "process {pid} was moved into {} by mistake, and where it was cannot be seen",
                directory.path().display()
            ))
        })?;
        match Directory::open(home)?.write("cgroup.procs", &pid.to_string()) {
            // It has ended by now.
            Err(error) if error.errno() == Some(Errno::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether it, or one below it, has a process.
fn has_processes(directory: &Directory) -> bool {
    // What cannot be read cannot be used either, which is said then.
    directory.threads().is_ok_and(|all| !all.is_empty())
        || directory.children().iter().any(has_processes)
}

/// Moves those processes of a directory that are in `tree` to the caller's own cgroup of the hierarchy, or to the one above
/// where that cannot be seen.
pub(super) fn send_home(directory: &Directory, host: &Host, tree: &impl Tree) -> Result<(), Error> {
    let own = host.own_in_hierarchy_of(directory.path());
    let Some(home) = own.or(directory.path().parent()) else {
        return Ok(());
    };
    let home = Directory::open(home)?;
    let mut manager = None;
    // Those that were forked meanwhile come in the next round.
    for _ in 0..100 {
        let (here, tree_now) = (directory.threads()?, tree.processes());
        let is_here = |pid: &i32| living_thread(*pid).is_some_and(|thread| here.contains(&thread));
        let mut moved = false;
        for pid in tree_now.into_iter().filter(is_here) {
            moved = true;
            move_to(&[&home], pid, tree, &mut manager)?;
        }
        if !moved {
            break;
        }
    }
    Ok(())
}
