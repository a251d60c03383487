//! A cgroup for processes that run already: to stop them, or to limit them, when nobody thought of it at their start.

use std::collections::HashSet;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::directory::Directory;
use super::host::{Hierarchy, Host};
use super::{Cgroup, Error, Request};

impl Cgroup {
    /// Makes a cgroup without limits, named after `id`, and moves a tree of processes into it; `tree` lists them, as the
    /// caller sees them, whenever it is called. They stand still while they are moved, and the last of it stays:
    /// [`Cgroup::thaw`] lets them go on.
    ///
    /// What they have in memory already is counted where they were before.
    ///
    /// # Errors
    /// As for [`Cgroup::create`], and where not all could be moved: those that were go to the caller's own cgroup, they run,
    /// and nothing is left behind but what the kernel does not let go.
    pub fn around(id: &str, request: &Request, tree: impl Fn() -> Vec<i32>) -> Result<Self, Error> {
        let request = Request {
            always: true,
            ..request.clone()
        };
        let made = Self::create(id, &LinuxResources::default(), &request)?
            .ok_or_else(|| Error::Invalid("no cgroup was asked for".into()))?;
        match made.freeze().and_then(|()| made.take_in(&tree)) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.give_back(&tree);
                Err(error)
            }
        }
    }

    /// Moves every process of `tree` that is not here yet. A frozen cgroup stops each as it comes in, so that it has no
    /// child afterwards that was not listed.
    pub(super) fn take_in(&self, tree: impl Fn() -> Vec<i32>) -> Result<(), Error> {
        let mut moved = HashSet::new();
        // Each round moves what those of the round before had forked until they were moved.
        for _ in 0..1000 {
            let left: Vec<i32> = tree()
                .into_iter()
                .filter(|pid| !moved.contains(pid))
                .collect();
            if left.is_empty() {
                return self.freeze();
            }
            for pid in left {
                match self.join(pid) {
                    // It has ended meanwhile.
                    Err(error) if error.errno() == Some(Errno::ESRCH) => {}
                    other => other?,
                }
                moved.insert(pid);
            }
        }
        Err(Error::Blocked(
            "the sandbox makes processes faster than they can be moved into a control group".into(),
        ))
    }

    /// Undoes [`Cgroup::around`], as far as it can be: the failure that led here is the one to report.
    fn give_back(&self, tree: &impl Fn() -> Vec<i32>) {
        if let Ok(host) = Host::find() {
            let unified = [&self.leaf, &self.unified].into_iter().flatten();
            for directory in unified {
                let _ = send_home(directory, host.unified.as_ref(), tree);
            }
            for (controllers, directory) in &self.v1 {
                let _ = send_home(directory, host.v1_of(*controllers), tree);
            }
        }
        let _ = self.thaw();
        let _ = self.remove_if_empty();
    }

    /// Without waiting for processes.
    fn remove_if_empty(&self) -> Result<(), Errno> {
        let unified = [&self.leaf, &self.unified].into_iter().flatten();
        let legacy = self.v1.iter().map(|(_, directory)| directory);
        unified
            .chain(legacy)
            .map(super::Directory::remove)
            .fold(Ok(()), Result::and)
    }
}

/// Moves those processes of a directory that are in `tree` to the caller's own cgroup of the hierarchy, or to the one above
/// where that cannot be seen.
pub(super) fn send_home(
    directory: &Directory,
    hierarchy: Option<&Hierarchy>,
    tree: &impl Fn() -> Vec<i32>,
) -> Result<(), Error> {
    let own = hierarchy.and_then(|hierarchy| hierarchy.own.as_deref());
    let Some(home) = own.or(directory.path().parent()) else {
        return Ok(());
    };
    let home = Directory::open(home)?;
    // Those that were forked meanwhile come in the next round.
    for _ in 0..100 {
        let (here, tree) = (directory.read("cgroup.procs")?, tree());
        let ours = here
            .lines()
            .filter(|line| line.parse().is_ok_and(|pid: i32| tree.contains(&pid)));
        let mut moved = false;
        for pid in ours {
            moved = true;
            match home.write("cgroup.procs", pid) {
                // It has ended meanwhile.
                Err(error) if error.errno() == Some(Errno::ESRCH) => {}
                other => other?,
            }
        }
        if !moved {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::tests::alone;
    use super::*;

    #[test]
    fn what_cannot_be_moved_as_a_whole_goes_back_and_can_be_tried_again() {
        let _alone = alone();
        let id = format!("test-late-{}", std::process::id());
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let groups = || std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        // No process has the second number.
        let broken = || vec![pid, -1];
        let first = Cgroup::around(&id, &Request::default(), broken);
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let back = groups();
        let second = Cgroup::around(&id, &Request::default(), || vec![pid]);
        let again = second.as_ref().map(|made| {
            let taken = made.processes().unwrap().contains(&pid);
            made.kill().unwrap();
            taken
        });
        drop(child.stdin.take());
        child.wait().unwrap();
        if let Ok(made) = &second {
            made.remove().unwrap();
        }
        match again {
            Ok(taken) => assert!(taken),
            // Some users of some hosts can have none.
            Err(Error::Unavailable { .. }) => return,
            Err(error) => panic!("{error}"),
        }
        assert!(first.is_err());
        assert_eq!(back, own);
    }
}
