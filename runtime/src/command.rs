//! The command's process, from its creation to execve(2).
//!
//! Until then it shares PID 1's memory while PID 1 stands still (vfork(2)): it leaves word of a failure in that memory,
//! so that it can report even after its own filters forbid it to talk.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;

use crate::control::{self, Kind, Record, Step};
use crate::failure::{Failure, Try};
use crate::prepare::{Prepared, PreparedCommand};
use crate::readback::{self, Look};
use crate::sandbox::Stdio;
use crate::sys::{self, Stack};
use crate::{interpreter, landlock};

/// The command's process once it has executed, or the record of why it could not.
pub(crate) struct Command {
    pub(crate) pid: i32,
    pub(crate) record: Record,
}

/// What a command's process is made from.
pub(crate) struct Start<'a> {
    /// What holds for every command of the sandbox.
    pub(crate) prepared: &'a Prepared,
    /// What this one is.
    pub(crate) command: &'a PreparedCommand,
    pub(crate) stdio: &'a Stdio,
    /// The Landlock rules, where there are any.
    pub(crate) ruleset: Option<BorrowedFd<'a>>,
    /// The sandbox's own procfs.
    pub(crate) proc: Option<BorrowedFd<'a>>,
    /// From [`readback::outside`]: a file system that is mounted nowhere, so that no Landlock rule reaches it.
    pub(crate) outside: Option<BorrowedFd<'a>>,
    /// The sandbox's root, where that is known.
    pub(crate) root: Option<readback::Place>,
    /// The supplementary groups that it has.
    pub(crate) groups: &'a [u32],
    /// Where the listener for refused system calls goes, where there is to be one.
    pub(crate) control: Option<BorrowedFd<'a>>,
    /// The calling process has made sure that it dies with its supervisor.
    pub(crate) bound: bool,
}

/// Starts the command on `stack`, and returns when it has executed or could not.
pub(crate) fn start(start: &Start<'_>, stack: &mut Stack) -> Result<Command, Failure<'static>> {
    // What stands here if the process is killed before it can say anything.
    // A Cell, as what the child writes is read by its parent after an execve(2) that does not return.
    let record = Cell::new(Record::failed(
        Step::Fork,
        Errno::ECHILD,
        b"(killed while it was being confined)",
    ));
    let mut body = || {
        match confine(start) {
            Ok(held) => {
                record.set(held);
                execute(start, &record);
            }
            Err(why) => record.set(why),
        }
        125
    };
    let pid = sys::vfork(stack, &mut body).or_fail(Step::Fork, c"")?;
    debug_assert!(stack.sufficed());
    Ok(Command {
        pid,
        record: record.get(),
    })
}

/// Everything between the new process and its execve(2); seccomp last, as it may forbid what comes before. Returns the
/// record of what holds.
#[allow(
    clippy::result_large_err,
    reason = "a box would be an allocation between clone and exec"
)]
pub(crate) fn confine(start: &Start<'_>) -> Result<Record, Record> {
    prepare(start)?;
    let mut look = Look::open(start.proc)?;
    if let Some(ruleset) = start.ruleset {
        if start.prepared.shares_proc {
            landlock::add_own_proc(ruleset)?;
        }
        landlock::restrict(ruleset)?;
    }
    look.before_filters(start)?;
    load_filters(start)?;
    look.after_filters(start.prepared)
}

fn load_filters(start: &Start<'_>) -> Result<(), Failure<'static>> {
    let Some((last, others)) = start.prepared.seccomp.split_last() else {
        return Ok(());
    };
    for program in others {
        sys::seccomp_load(&program.0).or_fail(Step::Seccomp, c"")?;
    }
    if let (Some(listening), Some(control)) = (&start.prepared.listening, start.control) {
        match sys::seccomp_load_listening(&listening.0) {
            Ok(listener) => {
                let record = Record::new(Kind::Listener, 0, 0, b"");
                return control::send(control, &record, Some(listener.as_fd()))
                    .or_fail(Step::Seccomp, c"(listener)");
            }
            // Whoever runs palisade listens already, and there can be one listener only: the filter refuses by itself.
            Err(Errno::EBUSY) => {}
            Err(errno) => Err(errno).or_fail(Step::Seccomp, c"(listener)")?,
        }
    }
    sys::seccomp_load(&last.0).or_fail(Step::Seccomp, c"")
}

/// What the process is but for what confines it.
fn prepare<'s>(start: &Start<'s>) -> Result<(), Failure<'s>> {
    let Start {
        prepared,
        command,
        stdio,
        ..
    } = *start;
    nix::unistd::setsid().or_fail(Step::Fork, c"(session)")?;
    if prepared.keeps_right_to_change_ids() {
        // PID 1 has kept it for commands that join.
        sys::capset(prepared.capabilities.sets).or_fail(Step::Credentials, c"(capset)")?;
    }
    if command.terminal {
        sys::control_terminal(stdio.stdin.as_fd())
            .or_fail(Step::Terminal, c"(controlling terminal)")?;
    }
    for (number, descriptor) in [(0, &stdio.stdin), (1, &stdio.stdout), (2, &stdio.stderr)] {
        sys::onto_standard(descriptor.as_fd(), number).or_fail(Step::Stdio, c"")?;
    }
    // No descriptor of the host crosses (CVE-2024-21626): all but these three close at execve.
    sys::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
        .or_fail(Step::Stdio, c"(close the rest)")?;
    for (limit, name) in &prepared.rlimits {
        sys::setrlimit(*limit).or_fail(Step::Rlimit, name)?;
    }
    for signal in &prepared.ignored_signals {
        sys::reset_signal(*signal).or_fail(Step::ProcessFlags, c"(signal actions)")?;
    }
    SigSet::empty()
        .thread_set_mask()
        .or_fail(Step::ProcessFlags, c"(signal mask)")
}

/// Executes the first candidate that exists; where there is none, PID 1 alone keeps the sandbox, now that what holds in it
/// has been seen. `record` says why not, where it does not execute.
fn execute(start: &Start<'_>, record: &Cell<Record>) {
    let command = start.command;
    let Some(candidates) = &command.candidates else {
        return;
    };
    let mut refused = None;
    let mut missing = b"".as_slice();
    let mut head = [0_u8; interpreter::HEAD];
    for candidate in candidates {
        match sys::execve(candidate, &command.argv, &command.envp) {
            Errno::ENOENT | Errno::ENOTDIR => {
                // The file is there: then what is missing is the interpreter it names.
                if missing.is_empty()
                    && let Ok(file) = open(
                        candidate.as_c_str(),
                        OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK,
                        Mode::empty(),
                    )
                {
                    missing = interpreter::named_by(file.as_fd(), &mut head);
                    break;
                }
            }
            Errno::EACCES => refused = Some(Errno::EACCES),
            errno => {
                refused = Some(errno);
                break;
            }
        }
    }
    record.set(Record::failed(
        Step::Exec,
        refused
            .filter(|_| missing.is_empty())
            .unwrap_or(Errno::ENOENT),
        missing,
    ));
}
