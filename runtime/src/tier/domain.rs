//! A Landlock domain around everything of the sandbox, so that all of it can be ended in one step.
//!
//! A domain that scopes signals is to kill(2) what a PID namespace is: `kill(-1)` reaches those in it and nobody else. The
//! kernel goes through its list of processes under a lock that fork(2) needs too, and a fork whose caller has a signal
//! pending fails: so none is born that it misses, however fast they fork.

use std::os::fd::AsFd as _;

use nix::errno::Errno;

use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::landlock::SCOPE_SIGNAL;
use crate::sys::{self, LandlockRuleset};

/// The calling process is in a domain of its own, out of which it sends no signal, and so are all that it makes. Only
/// [`Domain::enter`] makes one.
pub(super) struct Domain(());

impl Domain {
    /// Enters it, for good. The caller must have no descendants yet, and no_new_privs (`landlock_restrict_self(2)`).
    pub(super) fn enter() -> Result<Self, Failure<'static>> {
        let subject = c"(the scope of signals)";
        let ruleset = LandlockRuleset {
            handled_access_fs: 0,
            handled_access_net: 0,
            scoped: SCOPE_SIGNAL,
        };
        let ruleset = sys::landlock_create_ruleset(&ruleset, size_of::<LandlockRuleset>())
            .or_fail(Step::Landlock, subject)?;
        sys::landlock_restrict_self(ruleset.as_fd()).or_fail(Step::Landlock, subject)?;
        // The parent is outside: as the same user it could be signalled but for the domain.
        match sys::may_signal(nix::unistd::getppid().as_raw()) {
            Err(Errno::EPERM) => Ok(Self(())),
            other => Err(Failure {
                step: Step::Landlock,
                errno: other.err().unwrap_or(Errno::ENOTSUP),
                subject,
            }),
        }
    }

    /// Ends every other process of the domain with SIGKILL. When it returns there is none, as the caller is a subreaper.
    pub(super) fn end_all(&self) {
        let _ = self.end_all_and_see(0);
    }

    /// The same, where the wait status of `child` is of interest; none if there was no such child.
    #[allow(
        clippy::unused_self,
        reason = "without the domain that it stands for, every process of the caller's would be ended"
    )]
    pub(super) fn end_all_and_see(&self, child: i32) -> Option<i32> {
        sys::kill(-1, libc::SIGKILL);
        let mut seen = None;
        loop {
            match sys::wait4(-1, 0) {
                Ok(Some((pid, status, _))) if pid == child => seen = Some(status),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Runs `body` in a process of its own, and returns what it says.
    fn apart(body: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls the kernel alone and ends without unwinding.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                let code = body();
                sys::exit_now(code)
            }
            ForkResult::Parent { child } => match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn everything_below_ends_and_nothing_beside() {
        let beside = apart_forever();
        let code = apart(|| {
            let ready = sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
                .and_then(|_| sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0));
            let Ok(domain) = Domain::enter() else {
                return 2;
            };
            if ready.is_err() {
                return 3;
            }
            // A grandchild that its parent leaves, and a child.
            if let Ok(None) = sys::fork() {
                if let Ok(None) = sys::fork() {
                    forever();
                }
                sys::exit_now(0);
            }
            let Ok(Some(child)) = sys::fork() else {
                forever();
            };
            match domain.end_all_and_see(child) {
                Some(libc::SIGKILL) => i32::from(sys::wait4(-1, 0) != Err(Errno::ECHILD)),
                _ => 4,
            }
        });
        let alive = sys::may_signal(beside);
        sys::kill(beside, libc::SIGKILL);
        let _ = sys::wait4(beside, 0);
        assert_eq!(code, 0);
        assert_eq!(alive, Ok(()));
    }

    /// A process that waits until it is killed.
    fn apart_forever() -> i32 {
        match sys::fork().expect("fork") {
            None => forever(),
            Some(pid) => pid,
        }
    }

    fn forever() -> ! {
        loop {
            nix::unistd::pause();
        }
    }
}
