//! The process between the supervisor and the command, where there is no PID 1.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use super::tree;
use crate::command::{self, Start};
use crate::control::{self, Kind, Record, Step};
use crate::failure::{Failure, Try};
use crate::init::{Init, enter_working_directory};
use crate::landlock::PreparedLandlock;
use crate::prepare::Prepared;
use crate::sys;

/// The whole life of that process.
pub(crate) fn run(mut init: Init<'_>) -> ! {
    let control = init.control.as_raw_fd();
    let started = set_up(&init).and_then(|(proc, ruleset)| {
        let start = Start {
            prepared: init.prepared,
            command: &init.prepared.command,
            stdio: &init.stdio,
            ruleset: ruleset.as_ref().map(AsFd::as_fd),
            proc: Some(proc.as_fd()),
            outside: None,
            root: None,
            groups: &[],
            control: (init.prepared.listening.as_ref()).map(|_| init.control.as_fd()),
            bound: false,
        };
        command::start(&start, &mut init.stack)
    });
    let command = match started {
        Ok(command) => command,
        Err(failure) => {
            let _ = control::send(init.control.as_fd(), &failure.into(), None);
            sys::exit_now(125);
        }
    };
    let _ = control::send(init.control.as_fd(), &command.record, None);
    if command.record.kind != Kind::Started {
        sys::exit_now(125);
    }
    // No end of a pipe stays open here: a reader of the command's output sees its end.
    let _ = sys::close_all_but(&mut [control]);
    supervise(init.control.as_fd(), command.pid)
}

/// Everything that is done before the command's process exists. Returns the caller's /proc, and the Landlock rules.
fn set_up<'p>(init: &Init<'p>) -> Result<(OwnedFd, Option<OwnedFd>), Failure<'p>> {
    let prepared = init.prepared;
    sys::block_all_signals().or_fail(Step::ProcessFlags, c"(signal mask)")?;
    nix::unistd::setsid().or_fail(Step::ProcessFlags, c"(session)")?;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).or_fail(Step::ProcessFlags, c"(subreaper)")?;
    enter_working_directory(&prepared.command.cwd)?;
    umask(Mode::from_bits_truncate(prepared.umask));
    drop_privileges(prepared)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open(c"/proc", flags, Mode::empty()).or_fail(Step::ReadBack, c"/proc")?;
    let ruleset = prepared
        .landlock
        .as_ref()
        .map(PreparedLandlock::ruleset)
        .transpose()?;
    Ok((proc, ruleset))
}

/// The ids stay the caller's own: no other can be had. Where the caller has capabilities, they go, and the way back to them.
fn drop_privileges(prepared: &Prepared) -> Result<(), Failure<'_>> {
    let capabilities = &prepared.capabilities;
    if prepared.drops_bounding {
        capabilities.drop_bounding()?;
        capabilities.lock_securebits()?;
    }
    capabilities.apply(capabilities.sets)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).or_fail(Step::ProcessFlags, c"(no_new_privs)")?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)
        .map(drop)
        .or_fail(Step::ProcessFlags, c"(dumpable)")
}

/// Reaps what ends and passes on every signal until the command, or the supervisor, has ended. Then it ends what is left.
fn supervise(control: BorrowedFd<'_>, command: i32) -> ! {
    let Ok(signals) = SignalFd::with_flags(
        &SigSet::all(),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    ) else {
        tree::end_all();
        sys::exit_now(125);
    };
    loop {
        // Before waiting: a child may have ended before the first wait.
        loop {
            match sys::wait4(-1, libc::WNOHANG) {
                Ok(Some((pid, status, _))) if pid == command => {
                    let record = Record::new(Kind::Exited, 0, status, b"");
                    let _ = control::send(control, &record, None);
                    tree::end_all();
                    sys::exit_now(0);
                }
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Ok(None) => break,
                Err(_) => sys::exit_now(125),
            }
        }
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(control, PollFlags::POLLIN),
        ];
        let waited = poll(&mut ready, PollTimeout::NONE);
        let gone = ready[1]
            .revents()
            .is_some_and(|came| came.intersects(PollFlags::POLLHUP | PollFlags::POLLERR));
        if gone || waited.is_err_and(|errno| errno != Errno::EINTR) {
            // The supervisor was killed: what it watched over ends with it.
            tree::end_all();
            sys::exit_now(125);
        }
        while let Ok(Some(came)) = signals.read_signal() {
            match i32::try_from(came.ssi_signo).unwrap_or(libc::SIGCHLD) {
                libc::SIGCHLD => {}
                // What a terminal sends to its foreground group reaches the command's group.
                signal @ (libc::SIGINT | libc::SIGQUIT) => sys::kill(-command, signal),
                signal => sys::kill(command, signal),
            }
        }
    }
}
