//! Seen denials: what the filter refuses is told to the supervisor, which answers with the errno that the filter had for it.
//!
//! The kernel asks through a listener (seccomp_unotify(2)) only where the plain program refuses with an errno: calls that are
//! served cost what they always do. The answer is never to go on with the call. Without a supervisor it is ENOSYS.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use palisade_policies::{Program, SystemCall};

use crate::sys;

/// A system call that the filter refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its number, in the table of x86_64 (with the x32 bit, where that was set).
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The errno it failed with.
    pub errno: i32,
    /// Name of the thread that called (proc_pid_comm(5)); empty where that cannot be read.
    pub name: String,
    /// Its process id inside the sandbox.
    pub pid: Option<i32>,
}

/// Where the kernel asks about refused calls.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
    program: Program,
}

impl Listener {
    /// `program` is the one that refuses by itself.
    pub(crate) fn new(descriptor: OwnedFd, program: Program) -> Self {
        Self {
            descriptor,
            program,
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Answers the next question; none when there is none any more, or its asker has died. Call it when the descriptor is
    /// readable: else it waits.
    pub(crate) fn answer(&self) -> nix::Result<Option<Denial>> {
        let question = match sys::seccomp_receive(self.as_fd()) {
            Ok(question) => question,
            Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let call = SystemCall {
            number: question.data.nr.cast_unsigned(),
            arch: question.data.arch,
            arguments: question.data.args,
        };
        // The kernel asks only where the program has an errno; whatever it asked, it is not let through.
        let errno = self.program.errno(&call).map_or(libc::EPERM, i32::from);
        let pid = i32::try_from(question.pid).unwrap_or(0);
        // Its process stands still until it is answered: the process id is nobody else's.
        let (name, pid) = process(pid);
        match sys::seccomp_answer(self.as_fd(), question.id, errno) {
            Ok(()) => Ok(Some(Denial {
                number: call.number,
                arguments: call.arguments,
                errno,
                name,
                pid,
            })),
            // It was killed, or a signal made it call again.
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Name, and process id in the innermost namespace, of a thread (proc_pid_status(5)).
fn process(pid: i32) -> (String, Option<i32>) {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    of_status(&String::from_utf8_lossy(&status))
}

fn of_status(status: &str) -> (String, Option<i32>) {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let name = field("Name").map(str::trim).unwrap_or_default().to_owned();
    let pid = field("NStgid").and_then(|pids| pids.split_ascii_whitespace().last()?.parse().ok());
    (name, pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_name_and_innermost_id() {
        let status = "Name:\tnode main\nTgid:\t4711\nNStgid:\t4711\t12\nNSpid:\t4712\t13\n";
        assert_eq!(of_status(status), ("node main".to_owned(), Some(12)));
        assert_eq!(of_status(""), (String::new(), None));
    }
}
