//! The network namespace, made on another CPU while PID 1 puts the root together.
//!
//! A network namespace takes the kernel longer than anything else that a sandbox is made of, and nothing needs it before
//! the end of the set-up. So a thread of PID 1 makes it, opens it and ends; PID 1 enters it before it leaves the host's tree.
//! Where there can be no thread, PID 1 makes it itself.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::sys;

/// Bytes of stack for the thread, which calls nothing but the kernel.
const STACK: usize = 16 * 1024;

/// The making of a network namespace. Lies at one address from [`Network::begin`] to [`Network::enter`].
pub(crate) struct Network {
    stack: Vec<u8>,
    /// What the thread and PID 1 both see.
    shared: Shared,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has happened, or no thread could be had.
    New,
    /// The thread has begun.
    Begun,
    /// PID 1 is in the namespace.
    Entered,
}

/// Written by the thread and the kernel, read by PID 1.
#[derive(Default)]
pub(crate) struct Shared {
    /// Not 0 while the thread runs; the kernel clears it (set_tid_address(2)).
    pub(crate) running: AtomicU32,
    /// A descriptor of the namespace, or a negative errno.
    pub(crate) result: AtomicI32,
}

impl Network {
    /// Takes the memory that is needed, before PID 1 is cloned.
    pub(crate) fn new() -> Self {
        Self {
            stack: vec![0; STACK],
            shared: Shared::default(),
            state: State::New,
        }
    }

    /// Starts the making, if it can be done beside other things.
    pub(crate) fn begin(&mut self) {
        self.shared.running.store(1, Ordering::Release);
        if sys::make_network_aside(&mut self.stack, &self.shared).is_ok() {
            self.state = State::Begun;
        }
    }

    /// Waits for the namespace and enters it, with loopback up; once.
    pub(crate) fn enter(&mut self) -> Result<(), Failure<'static>> {
        let state = std::mem::replace(&mut self.state, State::Entered);
        if state == State::Entered {
            return Ok(());
        }
        if state == State::New {
            unshare(CloneFlags::CLONE_NEWNET).or_fail(Step::NetworkNamespace, c"")?;
            // A sandbox without network is whole even where loopback cannot be brought up.
            let _ = sys::loopback_up();
            return Ok(());
        }
        sys::wait_until_cleared(&self.shared.running);
        let result = self.shared.result.load(Ordering::Acquire);
        if result < 0 {
            return Err(Failure {
                step: Step::NetworkNamespace,
                errno: Errno::from_raw(-result),
                subject: c"",
            });
        }
        let namespace = sys::received_descriptor(result);
        setns(&namespace, CloneFlags::CLONE_NEWNET).or_fail(Step::NetworkNamespace, c"")
    }
}
