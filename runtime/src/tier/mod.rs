//! The tier without namespaces: Landlock, seccomp, resource limits and no new privileges around a process of the caller's
//! own, for where namespaces are refused.
//!
//! There is no PID namespace to end everything at once: an init process of the sandbox's own adopts what the command leaves
//! (PR_SET_CHILD_SUBREAPER), and a Landlock domain around both lets it end all of that in one step. Should that process be killed
//! itself, the supervisor adopts what is left and ends it one by one.

mod domain;
mod init;
mod tree;

pub(crate) use init::run;
pub use tree::usage;
pub(crate) use tree::{Family, end_all, memory};

use nix::errno::Errno;

use crate::sys::{self, Cloned};

/// A process of the sandbox's own, made by fork(2): filters that refuse namespaces often have no clone3(2) either.
pub(crate) fn start() -> nix::Result<Cloned> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    let Some(pid) = sys::fork()? else {
        return Ok(Cloned::Child);
    };
    match sys::pidfd_open(pid) {
        Ok(pidfd) => Ok(Cloned::Parent { pid, pidfd }),
        Err(errno) => {
            // Nobody could wait for it without a hold on it.
            sys::kill(pid, libc::SIGKILL);
            while let Err(Errno::EINTR) = sys::wait4(pid, 0) {}
            Err(errno)
        }
    }
}
