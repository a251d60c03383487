//! How a supervised command ended.

use std::time::{Duration, SystemTime};

use palisade_runtime::{Exit, Protections, Tier, Usage};

use crate::denials::Denials;
use crate::{Error, Stream};

/// What is known after a command has ended and nothing of its sandbox is left.
#[derive(Debug)]
pub struct Outcome {
    /// What palisade ends with: the command's own 0 to 255, 128 + n after signal n, 124 after the time limit, 137 after the
    /// output limit.
    pub code: u8,
    /// Why the command ended.
    pub reason: Reason,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// In-memory file systems that had no room left when the command failed, by mount point; `/` is the writable layer.
    pub full: Vec<String>,
    /// What passed on standard output and standard error, where it was measured.
    pub streams: [Option<Stream>; 2],
    /// What held it; none for a command that joined a sandbox, whose tier it shares.
    pub tier: Option<Tier>,
    /// What seccomp refused; none where that was not watched.
    pub denials: Option<Denials>,
    /// What was read back from the kernel before the command started.
    pub protections: Protections,
    /// What it used.
    pub usage: Usage,
    /// Protections that were asked for and not to be had, where the plan goes on without them: a sentence each.
    pub missing: Vec<String>,
    /// When palisade began to launch it.
    pub start: SystemTime,
    /// From then until it was gone.
    pub duration: Duration,
    /// What could not be done after the end, such as writing the receipt: to be told, but not the command's failure.
    pub problems: Vec<Error>,
}

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By itself.
    Exit,
    /// By a signal.
    Signal,
    /// At its time limit.
    Timeout,
    /// It, or a process of its, was killed by the kernel for want of memory.
    OutOfMemory,
    /// It failed, and the limit on processes had refused it some.
    Pids,
    /// It wrote more than it may.
    Output,
    /// It failed, and a file system in memory was full.
    Disk,
}

impl Reason {
    /// The word for it in a receipt.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "oom",
            Self::Pids => "pids",
            Self::Output => "output",
            Self::Disk => "disk",
        }
    }
}

/// A limit that makes an end of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// On its time.
    Time,
    /// On what it writes.
    Output,
}

/// What else is known when a command has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// The limit that made an end of it.
    pub stopped_by: Option<Limit>,
    /// It ended by, or as after, a signal that was passed on to it.
    pub interrupted: bool,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u64,
    /// How often a process was refused.
    pub pids_denied: u64,
    /// Whether a file system in memory was full.
    pub full: bool,
}

/// The code after the time limit, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// What a shell reports for a child that died of SIGKILL: the code of limits that kill.
const KILLED: u8 = 137;

/// Exit code, reason and signal of a command that ended with `exit`.
///
/// A command that failed is not known to have failed because of what it met: `oom`, `pids` and `disk` say that it failed and
/// met this, the first of them that holds. A command that did well, or that a signal from outside ended, has no such reason.
pub fn classify(exit: Exit, circumstances: &Circumstances) -> (u8, Reason, Option<i32>) {
    let (code, signal) = match exit {
        Exit::Code(code) => (code, None),
        Exit::Signal(signal) => (exit.status(), Some(signal)),
    };
    let failed = code != 0 && !circumstances.interrupted;
    match circumstances.stopped_by {
        Some(Limit::Time) => return (TIMED_OUT, Reason::Timeout, signal),
        Some(Limit::Output) => return (KILLED, Reason::Output, signal),
        None => {}
    }
    let reason = if failed && circumstances.oom_kills > 0 {
        Reason::OutOfMemory
    } else if failed && circumstances.pids_denied > 0 {
        Reason::Pids
    } else if failed && circumstances.full {
        Reason::Disk
    } else if signal.is_some() {
        Reason::Signal
    } else {
        Reason::Exit
    };
    (code, reason, signal)
}

#[cfg(test)]
mod tests {
    use palisade_runtime::Exit;

    use super::{Circumstances, Limit, Reason, classify};

    const PLAIN: Circumstances = Circumstances {
        stopped_by: None,
        interrupted: false,
        oom_kills: 0,
        pids_denied: 0,
        full: false,
    };

    #[test]
    fn every_exit_code_is_passed_on_as_it_is() {
        for code in 0..=255 {
            assert_eq!(
                classify(Exit::Code(code), &PLAIN),
                (code, Reason::Exit, None)
            );
        }
    }

    #[test]
    fn every_signal_is_128_more() {
        for signal in 1..=64 {
            let (code, reason, named) = classify(Exit::Signal(signal), &PLAIN);
            assert_eq!(i32::from(code), 128 + signal);
            assert_eq!((reason, named), (Reason::Signal, Some(signal)));
        }
    }

    #[test]
    fn a_command_stopped_at_a_limit_has_its_code_even_when_it_ended_well() {
        for (limit, code, reason) in [
            (Limit::Time, 124, Reason::Timeout),
            (Limit::Output, 137, Reason::Output),
        ] {
            let stopped = Circumstances {
                stopped_by: Some(limit),
                ..PLAIN
            };
            assert_eq!(classify(Exit::Code(0), &stopped), (code, reason, None));
            assert_eq!(classify(Exit::Signal(9), &stopped), (code, reason, Some(9)));
        }
    }

    #[test]
    fn what_a_failed_command_met_is_named_and_its_code_stays() {
        let oom = Circumstances {
            oom_kills: 1,
            pids_denied: 1,
            full: true,
            ..PLAIN
        };
        let pids = Circumstances {
            oom_kills: 0,
            ..oom
        };
        let disk = Circumstances {
            pids_denied: 0,
            ..pids
        };
        for (met, reason) in [
            (oom, Reason::OutOfMemory),
            (pids, Reason::Pids),
            (disk, Reason::Disk),
        ] {
            assert_eq!(classify(Exit::Code(2), &met), (2, reason, None));
            assert_eq!(classify(Exit::Signal(9), &met), (137, reason, Some(9)));
            assert_eq!(classify(Exit::Code(0), &met).1, Reason::Exit);
        }
    }

    #[test]
    fn a_command_that_was_interrupted_did_not_fail_of_what_it_met() {
        let interrupted = Circumstances {
            interrupted: true,
            pids_denied: 3,
            ..PLAIN
        };
        assert_eq!(
            classify(Exit::Signal(2), &interrupted),
            (130, Reason::Signal, Some(2))
        );
    }
}
