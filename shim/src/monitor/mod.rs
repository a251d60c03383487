//! The process that stays with a detached sandbox: supervises it, keeps its log and its record, answers on its socket.
//!
//! It is forked off by the command line that starts the sandbox and never executes anything. When it is killed, the
//! sandbox ends with it, and its lock is free: whoever looks next sees that.

mod attach;
mod client;
mod control;
mod desk;
mod ends;
mod ready;
mod request;
mod socket;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use palisade_runtime::Plan;
use palisade_runtime::detach::{Side, detach, exit_now};

pub use attach::{Attachment, LEAVE, Left};
pub use client::Client;
pub use desk::{Desk, Order};
pub use ready::Refusal;
pub use request::{Answer, Request};

use crate::outcome::Outcome;
use crate::state::{Known, Lock, Registry, Status};
use crate::supervise::{self, Options};
use crate::{Error, receipt, restart};

/// Starts a sandbox whose lock the caller has, with a monitor of its own, and returns when its command is being executed.
///
/// The calling process must have one thread.
///
/// # Errors
/// Why it could not be started; nothing of it runs then.
pub fn start(
    registry: &Registry,
    known: Known,
    lock: Lock,
    plan: &Plan,
    options: &Options,
) -> Result<Result<(), Refusal>, Error> {
    let (ready, expected) = ready::pair()?;
    let mut kept = vec![lock.file().as_fd(), ready.as_fd()];
    kept.extend(options.hold.as_ref().map(AsFd::as_fd));
    let side = detach(&kept)?;
    if let Side::Caller(_) = side {
        // The monitor alone holds the lock and its end of the pair now.
        drop(lock);
        drop(ready);
        return Ok(expected.wait());
    }
    // What the caller had open is closed; nothing of it may be dropped here.
    std::mem::forget(expected);
    let mut desk = match Desk::open(registry.clone(), known, lock) {
        Ok(desk) => desk,
        Err(error) => {
            ready.failed(&error);
            exit_now(125);
        }
    };
    desk.ready = Some(ready);
    let code = watch(desk, plan, options);
    exit_now(code)
}

/// Supervises a registered sandbox in the foreground, with the caller's streams.
///
/// # Errors
/// What kept the command from running, or its record from being written.
pub fn attend(
    registry: &Registry,
    known: Known,
    lock: Lock,
    plan: &Plan,
    options: &Options,
) -> Result<Outcome, Error> {
    let mut desk = Desk::open(registry.clone(), known, lock)?;
    let result = supervise::run_at(plan, options, Some(&mut desk));
    let ended = desk.ended(result.as_ref());
    let removed = desk.leave();
    let mut outcome = result?;
    outcome.problems.extend(ended.err());
    outcome.problems.extend(removed.err());
    Ok(outcome)
}

/// The life of a monitor: run, and run again as the policy says.
fn watch(mut desk: Desk, plan: &Plan, options: &Options) -> u8 {
    let mut backoff = restart::Backoff::default();
    let later = Options {
        receipt: options
            .receipt
            .as_ref()
            .and_then(receipt::Request::of_later_runs),
        digest_output: options.digest_output,
        ..Options::default()
    };
    let mut options = options;
    let mut changed: Option<Plan> = None;
    loop {
        let begun = Instant::now();
        let plan = changed.as_ref().unwrap_or(plan);
        let result = supervise::run_at(plan, options, Some(&mut desk));
        let next = desk.plan.take();
        options = &later;
        let code = match &result {
            Ok(outcome) => outcome.code,
            Err(error) => error.exit_code(),
        };
        if desk.ended(result.as_ref()).is_err() {
            return 125;
        }
        if let (Err(error), Some(ready)) = (&result, desk.ready.take()) {
            // The record says it too, before anybody is told.
            let _ = desk.leave_after_failure();
            ready.failed(error);
            return code;
        }
        changed = next.or(changed);
        let state = &desk.known.state;
        let again = restart::again(
            desk.known.config.restart,
            code,
            state.restarts,
            state.stopped,
        );
        if !again || desk.known.config.is_expired() {
            break;
        }
        let pause = backoff.next(begun.elapsed());
        match desk.restart_after(pause) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return 125,
        }
    }
    let code = desk.known.exit_code();
    let _ = desk.leave();
    code
}

impl Desk {
    /// Waits before the next start; false where somebody stopped it meanwhile.
    fn restart_after(&mut self, pause: Duration) -> Result<bool, Error> {
        self.known.state.status = Status::Restarting;
        self.known.state.restarts += 1;
        self.save()?;
        let stopped = self.pause_until(Instant::now() + pause)?;
        if stopped {
            self.known.state.status = Status::Exited;
            self.save()?;
        }
        Ok(!stopped)
    }

    /// Puts the sandbox away after its last end: removed where that was asked for.
    fn leave(self) -> Result<(), Error> {
        let passing = self.known.config.auto_remove || self.known.config.is_expired();
        if passing && !self.known.entry.is_restarting() {
            if self
                .registry
                .remove_unless_kept(&self.known.entry, &self.lock)?
            {
                return Ok(());
            }
            // Whoever keeps it sees the end by the closed socket, reads the exit code, and lets it go.
            let (registry, known, lock) = self.close();
            return registry.remove(&known.entry, &lock);
        }
        let _ = std::fs::remove_file(self.known.entry.directory.join("control"));
        Ok(())
    }

    /// The same where it never ran.
    fn leave_after_failure(&self) -> Result<(), Error> {
        // Whoever keeps it from being removed waits for the word that comes after this, and removes it.
        if self.known.config.auto_remove
            && self
                .registry
                .remove_unless_kept(&self.known.entry, &self.lock)?
        {
            return Ok(());
        }
        let _ = std::fs::remove_file(self.known.entry.directory.join("control"));
        Ok(())
    }
}
