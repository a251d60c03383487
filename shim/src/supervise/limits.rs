//! The limits that the supervisor holds: of time, of output, and of memory where there is no control group.

use std::time::Instant;

use super::supervisor::Supervisor;
use crate::Error;
use crate::meter::Gauge;
use crate::outcome::Limit;

/// The next thing a limit does, and when.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Send the stop signal, as the time is over.
    Stop(Instant),
    /// End everything.
    Kill(Instant),
}

impl Act {
    pub(super) fn at(self) -> Instant {
        match self {
            Self::Stop(at) | Self::Kill(at) => at,
        }
    }
}

impl Supervisor<'_> {
    pub(super) fn enforce(&mut self) -> Result<(), Error> {
        match self.next.take() {
            Some(Act::Stop(_)) => self.stop(Limit::Time),
            Some(Act::Kill(_)) => {
                self.wake();
                Ok(self.sandbox.kill()?)
            }
            None => Ok(()),
        }
    }

    /// Makes an end of the command: first by the stop signal, then for good.
    fn stop(&mut self, limit: Limit) -> Result<(), Error> {
        self.wake();
        self.stopped_by.get_or_insert(limit);
        self.sandbox.signal(self.plan.stop_signal)?;
        self.hasten(Instant::now().checked_add(self.plan.stop_timeout));
        Ok(())
    }

    /// Ends everything at `kill`, if no limit does before: whoever stops a sandbox gives it no time that its limits do not.
    pub(super) fn hasten(&mut self, kill: Option<Instant>) {
        let Some(kill) = kill else { return };
        let limit = match self.next {
            Some(Act::Stop(at)) => at.checked_add(self.plan.stop_timeout),
            Some(Act::Kill(at)) => Some(at),
            None => None,
        };
        if limit.is_none_or(|limit| kill < limit) {
            self.next = Some(Act::Kill(kill));
        }
    }

    pub(super) fn check_output(&mut self) -> Result<(), Error> {
        if self.stopped_by.is_none() && self.exit.is_none() && self.wrote_too_much() {
            self.stop(Limit::Output)?;
        }
        Ok(())
    }

    /// Ends everything that takes more memory together than it may, where no control group does that.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        let used = self.sandbox.memory();
        if self.memory.as_mut().is_some_and(|watch| watch.look(used)) {
            self.sandbox.kill()?;
        }
        Ok(())
    }

    pub(super) fn wrote_too_much(&self) -> bool {
        self.gauge.as_ref().is_some_and(Gauge::exceeded)
    }
}
