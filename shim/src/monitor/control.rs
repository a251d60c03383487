//! What is done to a running sandbox because somebody asks for it: it is paused, or gets other limits.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use palisade_runtime::cgroup::Cgroup;

use super::desk::Desk;
use super::request::Answer;
use super::socket;
use crate::Error;
use crate::state::{Change, Changed, Status};

/// A change, as `update` hands it over.
pub(super) fn read(file: OwnedFd) -> Option<Change> {
    use std::io::{Read, Seek};
    /// Plans are far shorter.
    const LONGEST: u64 = 16 << 20;
    let mut file = File::from(file);
    file.rewind().ok()?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Desk {
    /// Whether its processes run.
    pub(super) fn runs(&self) -> bool {
        self.known.state.status == Status::Running
    }

    /// Whether its processes are stopped.
    pub fn is_paused(&self) -> bool {
        self.known.state.status == Status::Paused
    }

    /// Why it does not do what only one in another state can.
    pub(super) fn unfit(&self) -> Answer {
        let id = self.known.entry.short();
        match self.known.state.status {
            Status::Paused => Answer::refused("it is paused", format!("palisade unpause {id}")),
            Status::Running => Answer::refused("it is not paused", "palisade ps shows its status"),
            _ => Answer::refused("it is not running", format!("palisade start {id}")),
        }
    }

    /// Its processes were stopped or go on, or that could not be done: for the record, the checks, and whoever asked.
    pub fn froze(&mut self, frozen: bool, result: Result<(), Error>, asker: Option<&OwnedFd>) {
        let answer = match result {
            Ok(()) => self.note_frozen(frozen),
            Err(error) if !frozen => Answer::refused(
                format!("its processes could not be let go on: {error}"),
                "palisade unpause once more; palisade kill ends it",
            ),
            Err(error) => Answer::refused(
                format!("it cannot be paused without a control group: {error}"),
                "palisade doctor, which says how to get a control group here; palisade stop ends it",
            ),
        };
        if let Some(asker) = asker {
            // One that went away needs no answer.
            let _ = socket::send(asker.as_fd(), &answer.to_bytes(), &[]);
        }
    }

    /// Writes down which cgroup a sandbox is in, or about to be, that was started without. Where it cannot be written, it is to
    /// have none.
    pub fn note_cgroup(&mut self, cgroup: Option<&Cgroup>) -> Result<(), Error> {
        self.known.state.cgroup = cgroup.map(|cgroup| cgroup.record().to_string());
        self.known.state.entered_late = cgroup.is_some();
        self.save().inspect_err(|_| {
            self.known.state.cgroup = None;
            self.known.state.entered_late = false;
        })
    }

    fn note_frozen(&mut self, frozen: bool) -> Answer {
        if let Some(checks) = &mut self.checks {
            checks.suspend(frozen);
        }
        self.known.state.status = if frozen {
            Status::Paused
        } else {
            Status::Running
        };
        self.record(if frozen { "pause" } else { "unpause" }, &[]);
        match self.save() {
            Ok(()) => Answer::Done,
            Err(error) => Answer::refused(
                format!("it was done, but could not be written down: {error}"),
                "palisade unpause, when there is room",
            ),
        }
    }

    /// Writes a change into the record, before it is made.
    pub fn note_change(&mut self, change: &Change) -> Result<Changed, Error> {
        self.registry.change(&self.known.entry, change)
    }

    /// The change was made, or not: then the record is as it was. Whoever asked is told.
    pub fn changed(
        &mut self,
        change: Change,
        result: Result<Changed, Error>,
        cgroup: Option<&Cgroup>,
        asker: &OwnedFd,
    ) {
        let answer = match result {
            Ok(changed) => {
                self.known.config = changed.config;
                self.plan = Some(change.plan);
                self.known.state.cgroup = cgroup.map(|cgroup| cgroup.record().to_string());
                self.record("update", &[]);
                // What `stats` reads of it is written with the next state, where that cannot be done now.
                let _ = self.save();
                Answer::Done
            }
            Err(error) => Answer::refused(
                format!("its limits are what they were: {error}"),
                "palisade inspect, which shows them; palisade doctor, which limits can be had here",
            ),
        };
        // One that went away needs no answer.
        let _ = socket::send(asker.as_fd(), &answer.to_bytes(), &[]);
    }

    /// Takes back what [`Desk::note_change`] wrote.
    pub fn take_back(&self, changed: &Changed) {
        // What could be written a moment ago can be written again.
        let _ = self.registry.take_back(&self.known.entry, changed);
    }
}
