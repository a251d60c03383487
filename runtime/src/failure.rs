//! A failed step of the set-up, in a form that needs no memory: it goes over the control socket as it is.

use std::ffi::CStr;

use nix::errno::Errno;

use crate::control::{Record, Step};

/// Which step failed on what, and what the kernel said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    pub(crate) subject: &'a CStr,
}

impl From<Failure<'_>> for Record {
    fn from(failure: Failure<'_>) -> Self {
        Self::failed(failure.step, failure.errno, failure.subject.to_bytes())
    }
}

/// Names the step that a system call belonged to.
pub(crate) trait Try<T> {
    fn or_fail(self, step: Step, subject: &CStr) -> Result<T, Failure<'_>>;
}

impl<T> Try<T> for nix::Result<T> {
    fn or_fail(self, step: Step, subject: &CStr) -> Result<T, Failure<'_>> {
        self.map_err(|errno| Failure {
            step,
            errno,
            subject,
        })
    }
}
