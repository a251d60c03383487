//! The end of a supervised run: how it came, and what it leaves.

use nix::libc;
use palisade_runtime::{Exit, Protections, Tier, Usage};

use super::supervisor::Supervisor;
use crate::Error;
use crate::denials::Denials;
use crate::meter::Stream;
use crate::outcome::{Circumstances, Limit};

/// What a sandbox leaves behind.
pub(super) struct Ended {
    pub exit: Exit,
    pub denials: Option<Denials>,
    pub stopped_by: Option<Limit>,
    pub interrupted: bool,
    pub full: Vec<String>,
    pub streams: [Option<Stream>; 2],
    pub tier: Tier,
    pub protections: Protections,
    pub usage: Usage,
    pub missing: Vec<String>,
    /// What went wrong after the end.
    pub problem: Option<palisade_runtime::Error>,
}

impl Ended {
    /// What bears on the reason of its end.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances {
            stopped_by: self.stopped_by,
            interrupted: self.interrupted,
            oom_kills: self.usage.oom_kills,
            pids_denied: self.usage.pids_denied,
            full: !self.full.is_empty(),
        }
    }
}

impl Supervisor<'_> {
    pub(super) fn end(self) -> Result<Ended, Error> {
        // The last of it may have been too much.
        let late = self.wrote_too_much().then_some(Limit::Output);
        let stopped_by = self.stopped_by.or(late);
        // PID 1 always says how the command ended, unless it was itself killed: before that, and the command with it, or after
        // it wrote down how that was.
        let recorded = || self.desk.as_ref()?.known.entry.recorded_exit();
        let exit = self.exit.or_else(recorded);
        let exit = exit.unwrap_or(Exit::Signal(libc::SIGKILL));
        let interrupted = self
            .delivered
            .iter()
            .any(|&signal| exit.status() == Exit::Signal(signal).status());
        let streams = self.meters.map(|meter| meter.map(|meter| meter.read()));
        // The caller's terminal is given back before anything is waited for.
        drop(self.copies);
        let missing = self.sandbox.missing().to_vec();
        let full = self.sandbox.full().to_vec();
        let tier = self.sandbox.tier();
        let finished = self.sandbox.finish();
        let Some(protections) = self.started else {
            finished?;
            return Err(Error::NeverStarted);
        };
        let (mut usage, problem) = match finished {
            Ok(usage) => (usage, None),
            Err(error) => (Usage::default(), Some(error)),
        };
        usage.oom_kills += u64::from(self.memory.is_some_and(|watch| watch.exceeded()));
        Ok(Ended {
            exit,
            denials: self.denials,
            stopped_by,
            interrupted,
            full,
            streams,
            tier,
            protections,
            usage,
            missing,
            problem,
        })
    }
}
