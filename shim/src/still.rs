//! A sandbox that does not run, set up for a moment without its command: PID 1 alone, so that files can be copied.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_runtime::{Event, Plan, Sandbox, launch};

use crate::Error;
use crate::state::{Entry, Lock};
use crate::stdio::Streams;

/// One that stands still. It ends by [`Still::end`], or with this process.
#[derive(Debug)]
pub struct Still {
    sandbox: Sandbox,
    /// Nobody starts or removes it meanwhile.
    _lock: Lock,
}

impl Still {
    /// Sets up the sandbox of a record; none where it runs.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// What kept it from being set up.
    pub fn stand(entry: &Entry) -> Result<Option<Self>, Error> {
        let Some(lock) = entry.lock_unless_live()? else {
            return Ok(None);
        };
        let plan = without_command(entry.plan()?);
        let mut sandbox = launch(&plan, Streams::none()?.handed)?;
        loop {
            let mut fds = [PollFd::new(sandbox.control(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("wait for the sandbox")(errno)),
            }
            match sandbox.event()? {
                Some(Event::Started(_)) => break,
                Some(Event::Exited(_)) => return Err(Error::NeverStarted),
                Some(Event::Terminal) | None => {}
            }
        }
        Ok(Some(Self {
            sandbox,
            _lock: lock,
        }))
    }

    /// Lets a command or service join by this connection.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn admit(&self, connection: &OwnedFd) -> Result<(), Error> {
        Ok(self.sandbox.admit(connection.as_fd())?)
    }

    /// Ends it; nothing of it is left when this returns.
    ///
    /// # Errors
    /// What could not be put away.
    pub fn end(self) -> Result<(), Error> {
        self.sandbox.kill()?;
        self.sandbox.finish()?;
        Ok(())
    }
}

/// The same sandbox with nothing to run and nothing to watch.
fn without_command(mut plan: Plan) -> Plan {
    if let Some(process) = plan.spec.process_mut() {
        process.set_args(Some(Vec::new())).set_terminal(Some(false));
    }
    plan.args = None;
    plan.timeout = None;
    plan.output_limit = None;
    plan.watch_denials = false;
    plan.interactive = false;
    plan.joinable = true;
    plan
}
