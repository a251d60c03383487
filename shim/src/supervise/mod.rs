//! The foreground supervisor: from a Plan to the end of the last process of its sandbox.

mod ended;
mod limits;
mod orders;
mod supervisor;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use palisade_runtime::Plan;

pub(crate) use supervisor::timeout;

use crate::Error;
use crate::cleanup;
use crate::monitor::Desk;
use crate::outcome::{Outcome, classify};
use crate::receipt::{self, Ending, Recorder};
use supervisor::attend;

/// What a supervisor does beside running the Plan.
#[derive(Debug, Default)]
pub struct Options {
    /// A receipt to write, whether the run succeeds or not.
    pub receipt: Option<receipt::Request>,
    /// Directories that end with the sandbox, such as the one of its writable layer.
    pub remove: Vec<PathBuf>,
    /// Whether output passes through palisade to be hashed.
    pub digest_output: bool,
    /// A descriptor that the supervising process keeps open to its end: a lock, which others wait for.
    pub hold: Option<OwnedFd>,
}

/// Launches `plan` with the caller's standard streams and stays until nothing of the sandbox is left.
///
/// Signals that reach palisade go to the command; they stay blocked in the calling thread afterwards, so that a late one
/// cannot replace the exit code. Meant for a process with one thread that ends soon after.
///
/// # Errors
///
/// What kept the command from running. Nothing of the sandbox remains then, and the receipt, where one was asked for, says so.
pub fn run(plan: &Plan, options: &Options) -> Result<Outcome, Error> {
    run_at(plan, options, None)
}

/// The same for a sandbox that has a record, and perhaps no caller: `desk` is attended to beside it.
pub(crate) fn run_at(
    plan: &Plan,
    options: &Options,
    desk: Option<&mut Desk>,
) -> Result<Outcome, Error> {
    let start = SystemTime::now();
    let recorder = match &options.receipt {
        Some(request) => match Recorder::begin(request, plan, start) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                // The error says more than what is left would.
                for path in &options.remove {
                    let _ = cleanup::remove(path);
                }
                return Err(error);
            }
        },
        None => None,
    };
    let clock = Instant::now();
    let mut result = attend(plan, options, desk);
    let duration = clock.elapsed();

    let mut problems = Vec::new();
    if let Ok(ended) = &mut result {
        problems.extend(ended.problem.take().map(Error::Runtime));
    }
    for path in &options.remove {
        if let Err(errno) = cleanup::remove(path) {
            let path = path.clone();
            let source = errno.into();
            problems.push(Error::Cleanup { path, source });
        }
    }
    let result = result.map(|ended| {
        let (code, reason, signal) = classify(ended.exit, &ended.circumstances());
        Outcome {
            denials: ended.denials,
            code,
            reason,
            signal,
            full: ended.full,
            streams: ended.streams,
            tier: Some(ended.tier),
            protections: ended.protections,
            usage: ended.usage,
            missing: ended.missing,
            start,
            duration,
            problems: Vec::new(),
        }
    });
    if let Some(recorder) = recorder {
        let (ending, missing) = match &result {
            Ok(outcome) => (Ending::ran(outcome), outcome.missing.as_slice()),
            Err(error) => (Ending::failed(error.exit_code(), error), &[][..]),
        };
        if let Err(error) = recorder.finish(Some(plan), missing, start + duration, &ending) {
            problems.push(error);
        }
    }
    match result {
        Ok(outcome) => Ok(Outcome {
            problems,
            ..outcome
        }),
        Err(error) => Err(problems.into_iter().fold(error, Error::and)),
    }
}
