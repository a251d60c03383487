//! The process between the supervisor and the command, where there is no PID 1.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use super::domain::Domain;
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
    let started = set_up(&init).and_then(|inside| {
        let start = Start {
            prepared: init.prepared,
            command: &init.prepared.command,
            stdio: &init.stdio,
            ruleset: inside.ruleset.as_ref().map(AsFd::as_fd),
            proc: Some(inside.proc.as_fd()),
            outside: None,
            root: None,
            groups: &[],
            control: (init.prepared.listening.as_ref()).map(|_| init.control.as_fd()),
            bound: false,
        };
        let command = command::start(&start, &mut init.stack)?;
        Ok((command, inside.domain))
    });
    let (command, domain) = match started {
        Ok(started) => started,
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
    supervise(init.control.as_fd(), command.pid, &domain)
}

/// What the command is started with, and ended by.
struct Inside {
    /// The caller's /proc.
    proc: OwnedFd,
    /// Its Landlock rules.
    ruleset: Option<OwnedFd>,
    domain: Domain,
}

/// Everything that is done before the command's process exists.
fn set_up<'p>(init: &Init<'p>) -> Result<Inside, Failure<'p>> {
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
    Ok(Inside {
        proc,
        ruleset,
        domain: Domain::enter()?,
    })
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

/// Reaps what ends and passes on every signal until the command has ended, the supervisor has, or it asks for the end. Then it
/// ends what is left, and says so when nothing is.
fn supervise(control: BorrowedFd<'_>, command: i32, domain: &Domain) -> ! {
    let Ok(signals) = SignalFd::with_flags(
        &SigSet::all(),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    ) else {
        domain.end_all();
        sys::exit_now(125);
    };
    loop {
        // Before waiting: a child may have ended before the first wait.
        loop {
            match sys::wait4(-1, libc::WNOHANG) {
                Ok(Some((pid, status, _))) if pid == command => {
                    domain.end_all();
                    report(control, status);
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
        let came = ready[1].revents().unwrap_or(PollFlags::empty());
        // The supervisor has something to say, or was killed: what it watched over ends with it.
        if !came.is_empty() || waited.is_err_and(|errno| errno != Errno::EINTR) {
            match domain.end_all_and_see(command) {
                Some(status) => report(control, status),
                None => sys::exit_now(125),
            }
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

/// The last word: how the command ended, when nothing else of the sandbox is left.
fn report(control: BorrowedFd<'_>, status: i32) -> ! {
    let _ = control::send(control, &Record::new(Kind::Exited, 0, status, b""), None);
    sys::exit_now(0)
}
