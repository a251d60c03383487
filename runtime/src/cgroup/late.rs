//! A cgroup for processes that run already: to stop them, or to limit them, when nobody thought of it at their start.

use std::collections::HashSet;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::{Cgroup, Error, Request};

impl Cgroup {
    /// Makes a cgroup without limits, named after `id`, and moves a tree of processes into it; `tree` lists them, as the
    /// caller sees them, whenever it is called. They stand still while they are moved, and the last of it stays:
    /// [`Cgroup::thaw`] lets them go on.
    ///
    /// What they have in memory already is counted where they were before.
    ///
    /// # Errors
    /// As for [`Cgroup::create`], and where not all could be moved: nothing is left behind, and they run.
    pub fn around(id: &str, request: &Request, tree: impl Fn() -> Vec<i32>) -> Result<Self, Error> {
        let request = Request {
            always: true,
            ..request.clone()
        };
        let made = Self::create(id, &LinuxResources::default(), &request)?
            .ok_or_else(|| Error::Invalid("no cgroup was asked for".into()))?;
        match made.freeze().and_then(|()| made.take_in(tree)) {
            Ok(()) => Ok(made),
            Err(error) => {
                // Those that were moved cannot go back: the directories go with them, by whoever sweeps next.
                let _ = made.thaw();
                let _ = made.remove_if_empty();
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
