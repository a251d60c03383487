//! The signals that reach palisade, read from a descriptor instead of interrupting it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Error;

/// What stays with its default action: faults of palisade itself, its children's news, its own broken pipes, and being
/// stopped for touching a terminal from the background.
const LEFT_ALONE: [Signal; 12] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGCHLD,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
];

/// Signals that the caller may have ignored for us, as nohup(1) does.
const MAYBE_IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];

/// Every signal meant for the command, blocked in this thread and waiting to be read.
///
/// They stay blocked when this is dropped: one that arrives while the sandbox is being put away must not end palisade
/// before it has reported the command's own exit.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks and collects from now on; what arrives between this and the first [`next`](Self::next) is not lost.
    pub fn block() -> Result<Self, Error> {
        let mut set = SigSet::all();
        for signal in LEFT_ALONE {
            set.remove(signal);
        }
        for signal in MAYBE_IGNORED {
            // A blocked signal is queued even where it is ignored (signal(7)), so it has to be left out here.
            if palisade_runtime::terminal::ignores(signal as i32) {
                set.remove(signal);
            }
        }
        set.thread_block().map_err(Error::system("block signals"))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(Error::system("open a signalfd"))?;
        Ok(Self(fd))
    }

    /// The number of the next signal that has arrived; never blocks. A number, as real-time signals have no name.
    pub fn next(&self) -> Result<Option<i32>, Error> {
        let info = self
            .0
            .read_signal()
            .map_err(Error::system("read a signal"))?;
        Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `signal` asks a program to end, so that a second one means it.
pub fn terminates(signal: i32) -> bool {
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(&signal)
}

/// Stops palisade as SIGTSTP would have and returns when it is continued; at once where the kernel finds nobody who could
/// continue it (an orphaned process group, see setpgid(2)).
pub fn stop_here() -> Result<(), Error> {
    let failed = Error::system("stop at SIGTSTP");
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None).map_err(&failed)?;
    let raised = raise(Signal::SIGTSTP);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(&failed)?;
    raised.map_err(&failed)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::Signals;

    #[test]
    fn signals_that_arrive_before_anyone_reads_are_all_there_afterwards() {
        let signals = Signals::block().unwrap();
        raise(Signal::SIGTERM).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        let mut seen = [
            signals.next().unwrap().unwrap(),
            signals.next().unwrap().unwrap(),
        ];
        seen.sort_unstable();
        assert_eq!(seen, [Signal::SIGUSR1 as i32, Signal::SIGTERM as i32]);
        assert_eq!(signals.next().unwrap(), None);
    }
}
