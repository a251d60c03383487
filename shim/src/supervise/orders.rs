//! What is asked of a sandbox with a record while it runs: to end, to stand still, to have other limits.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::supervisor::Supervisor;
use crate::Error;
use crate::monitor::Order;
use crate::state::Change;

impl Supervisor<'_> {
    /// What is asked of a sandbox with a record.
    pub(super) fn serve(&mut self) -> Result<(), Error> {
        let Some(desk) = &mut self.desk else {
            return Ok(());
        };
        for order in desk.turn() {
            match order {
                Order::Signal(signal) => self.deliver(signal)?,
                Order::Admit(connection) => self.sandbox.admit(connection.as_fd())?,
                Order::Freeze(frozen, asker) => {
                    let result = if frozen { self.enclose() } else { Ok(false) }
                        .and_then(|_| Ok(self.sandbox.freeze(frozen)?));
                    if let Some(desk) = &mut self.desk {
                        desk.froze(frozen, result, Some(&asker));
                    }
                }
                Order::Change(change, asker) => self.change(*change, &asker),
                Order::Stop(signal, patience) => {
                    self.wake();
                    self.deliver(signal)?;
                    self.hasten(Instant::now().checked_add(patience));
                }
            }
        }
        Ok(())
    }

    /// Gives the sandbox other limits: its record first, which can be taken back.
    fn change(&mut self, change: Change, asker: &OwnedFd) {
        let Some(desk) = &mut self.desk else { return };
        let noted = desk.note_change(&change);
        let result = noted.and_then(|changed| match self.limit(&change) {
            Ok(()) => Ok(changed),
            Err(error) => {
                if let Some(desk) = &self.desk {
                    desk.take_back(&changed);
                }
                Err(error)
            }
        });
        let Some(desk) = &mut self.desk else { return };
        let resources = change.resources.as_ref();
        let memory = resources.is_some_and(|resources| resources.memory().is_some());
        if result.is_ok() && memory {
            // The kernel holds the limit now.
            self.memory = None;
        }
        let cgroup = self.sandbox.cgroup();
        desk.changed(change, result, cgroup, asker);
        if !desk.is_paused() && cgroup.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)) {
            // It was stopped to be moved, and does not go on: that is what the state says, so that it can be unpaused.
            desk.froze(true, Ok(()), None);
        }
    }

    /// Does what a change says of limits.
    fn limit(&mut self, change: &Change) -> Result<(), Error> {
        let Some(resources) = &change.resources else {
            return Ok(());
        };
        let stopped = self.enclose()?;
        let limited = self.sandbox.limit(self.plan, resources);
        if stopped {
            // Whether it goes on says nothing about the limits: who asks for the state is told what the kernel says.
            let _ = self.sandbox.freeze(false);
        }
        Ok(limited?)
    }

    /// Puts the sandbox into a cgroup where it is in none, and leaves it frozen: true then. It is written down before anything
    /// is in it, so that it can be found whatever happens to this process.
    fn enclose(&mut self) -> Result<bool, Error> {
        if self.sandbox.cgroup().is_some() {
            return Ok(false);
        }
        self.sandbox.make_cgroup(self.plan)?;
        if let Some(desk) = &mut self.desk
            && let Err(error) = desk.note_cgroup(self.sandbox.cgroup())
        {
            self.sandbox.drop_cgroup();
            return Err(error);
        }
        let entered = self.sandbox.enter_cgroup();
        if entered.is_err()
            && let Some(desk) = &mut self.desk
        {
            // What could be written a moment ago can be written again.
            let _ = desk.note_cgroup(None);
        }
        entered?;
        Ok(true)
    }

    /// Lets a paused sandbox go on that is to end: what is stopped cannot. Killing does without, where this fails.
    pub(super) fn wake(&mut self) {
        if let Some(desk) = self.desk.as_mut().filter(|desk| desk.is_paused()) {
            let result = self.sandbox.freeze(false).map_err(Error::from);
            desk.froze(false, result, None);
        }
    }
}
