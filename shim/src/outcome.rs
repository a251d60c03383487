//! How a supervised command ended.

use std::time::{Duration, SystemTime};

use palisade_runtime::{Exit, Protections, Usage};

use crate::Error;

/// What is known after a command has ended and nothing of its sandbox is left.
#[derive(Debug)]
pub struct Outcome {
    /// What palisade ends with: the command's own 0 to 255, 128 + n after signal n, 124 after the time limit.
    pub code: u8,
    /// Why the command ended.
    pub reason: Reason,
    /// The signal that ended it.
    pub signal: Option<i32>,
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
    /// Killed by the kernel for want of memory.
    OutOfMemory,
}

impl Reason {
    /// The word for it in a receipt.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "oom",
        }
    }
}

/// The code after the time limit, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// What a shell reports for a child that died of SIGKILL.
const KILLED: u8 = 137;

/// Exit code, reason and signal of a command that ended with `exit`.
///
/// An exit code of 137 beside an out-of-memory kill is taken for it: then the command was a shell whose child was killed.
pub fn classify(exit: Exit, timed_out: bool, oom_kills: u64) -> (u8, Reason, Option<i32>) {
    let (code, signal) = match exit {
        Exit::Code(code) => (code, None),
        Exit::Signal(signal) => (u8::try_from(128 + signal).unwrap_or(u8::MAX), Some(signal)),
    };
    if timed_out {
        (TIMED_OUT, Reason::Timeout, signal)
    } else if oom_kills > 0 && code == KILLED {
        (code, Reason::OutOfMemory, signal)
    } else if signal.is_some() {
        (code, Reason::Signal, signal)
    } else {
        (code, Reason::Exit, None)
    }
}

#[cfg(test)]
mod tests {
    use palisade_runtime::Exit;

    use super::{Reason, classify};

    #[test]
    fn every_exit_code_is_passed_on_as_it_is() {
        for code in 0..=255 {
            assert_eq!(
                classify(Exit::Code(code), false, 0),
                (code, Reason::Exit, None)
            );
        }
    }

    #[test]
    fn every_signal_is_128_more() {
        for signal in 1..=64 {
            let (code, reason, named) = classify(Exit::Signal(signal), false, 0);
            assert_eq!(i32::from(code), 128 + signal);
            assert_eq!((reason, named), (Reason::Signal, Some(signal)));
        }
    }

    #[test]
    fn a_command_stopped_at_its_limit_gives_124_even_when_it_ended_well() {
        assert_eq!(
            classify(Exit::Code(0), true, 0),
            (124, Reason::Timeout, None)
        );
        assert_eq!(
            classify(Exit::Signal(9), true, 0),
            (124, Reason::Timeout, Some(9))
        );
    }

    #[test]
    fn a_kill_for_want_of_memory_is_told_from_any_other() {
        assert_eq!(classify(Exit::Signal(9), false, 1).1, Reason::OutOfMemory);
        assert_eq!(classify(Exit::Code(137), false, 1).1, Reason::OutOfMemory);
        assert_eq!(classify(Exit::Signal(9), false, 0).1, Reason::Signal);
        assert_eq!(classify(Exit::Code(0), false, 3).1, Reason::Exit);
    }
}
