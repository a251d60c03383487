//! What is made on another CPU while PID 1 puts the root together: the network namespace, and what a new /proc hides.
//!
//! The one takes the kernel longer than anything else that a sandbox is made of, the other is some thirty mounts; nothing
//! needs either before the end of the set-up. So a thread of PID 1 makes them and ends; PID 1 waits for it before it leaves the
//! host's tree. Where there can be no thread, PID 1 makes them itself.
//!
//! The thread shares PID 1's thread-local storage, and so the C library's errno: it calls the kernel directly and nothing else.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::mount::{NewFilesystem, Unhidden};
use crate::sys::{self, Stack};

/// Bytes of stack for the thread.
const STACK: usize = 32 * 1024;

/// The thread's work. Lies at one address from [`Aside::begin`] to [`Aside::finish`].
pub(crate) struct Aside<'p> {
    stack: Stack,
    shared: Shared<'p>,
    network: Network,
    /// A new /proc has been left to the thread.
    hides: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    /// The sandbox has the host's, or PID 1 is in its own.
    Settled,
    /// To be made by PID 1.
    Wanted,
    /// The thread makes it.
    Begun,
}

/// What the thread and PID 1 both see.
pub(crate) struct Shared<'p> {
    /// Not 0 while the thread runs; the kernel clears it (set_tid_address(2)).
    pub(crate) running: AtomicU32,
    makes_network: bool,
    /// 0 until the network namespace is there, then 1.
    network_is_there: AtomicU32,
    /// A descriptor of the namespace, or a negative errno.
    network: AtomicI32,
    /// What a new /proc is to hide, where there is one.
    proc: Option<&'p NewFilesystem>,
    /// 0 until PID 1 has mounted it, then 1.
    proc_is_there: AtomicU32,
    /// Its descriptor, or -1 if there is nothing to do.
    proc_descriptor: AtomicI32,
    /// What could not be hidden: an errno, 0 for none, and an index into both lists of [`NewFilesystem`].
    unhidden: (AtomicI32, AtomicU32),
}

impl Shared<'_> {
    /// The thread's life.
    pub(crate) fn work(&self) {
        if self.makes_network {
            self.network
                .store(sys::direct::network_namespace(), Ordering::Relaxed);
            sys::direct::set_and_wake(&self.network_is_there);
        }
        let Some(new) = self.proc else { return };
        sys::direct::wait_while(&self.proc_is_there, 0);
        let proc = self.proc_descriptor.load(Ordering::Relaxed);
        if proc < 0 {
            return;
        }
        let hidden = match sys::direct::fchdir(proc) {
            0 => new.hide_below_here(),
            errno => Err(Unhidden { index: 0, errno }),
        };
        if let Err(Unhidden { index, errno }) = hidden {
            self.unhidden.1.store(index, Ordering::Relaxed);
            self.unhidden.0.store(errno, Ordering::Relaxed);
        }
    }
}

impl<'p> Aside<'p> {
    /// Takes the memory that is needed, before PID 1 is cloned. `proc` is the one new /proc that hides something.
    pub(crate) fn new(own_network: bool, proc: Option<&'p NewFilesystem>) -> Self {
        Self {
            stack: Stack::new(STACK),
            shared: Shared {
                running: AtomicU32::new(0),
                makes_network: own_network,
                network_is_there: AtomicU32::new(0),
                network: AtomicI32::new(-libc::EIO),
                proc,
                proc_is_there: AtomicU32::new(0),
                proc_descriptor: AtomicI32::new(-1),
                unhidden: (AtomicI32::new(0), AtomicU32::new(0)),
            },
            network: if own_network {
                Network::Wanted
            } else {
                Network::Settled
            },
            hides: false,
        }
    }

    /// Starts the thread, if there can be one.
    pub(crate) fn begin(&mut self) {
        if !self.shared.makes_network {
            // Hiding alone is done before a thread would be there.
            return;
        }
        self.shared.running.store(1, Ordering::Release);
        if sys::direct::start_thread(&mut self.stack, &self.shared).is_ok() {
            self.network = Network::Begun;
        } else {
            self.shared.running.store(0, Ordering::Release);
        }
    }

    /// Leaves it to the thread to hide what `new`, mounted at `proc`, is not to show. False if there is none: then it is the
    /// caller's to do.
    pub(crate) fn hides(&mut self, new: &NewFilesystem, proc: BorrowedFd<'_>) -> bool {
        let mine = self.shared.proc.is_some_and(|mine| std::ptr::eq(mine, new));
        if !mine || self.shared.running.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.shared
            .proc_descriptor
            .store(proc.as_raw_fd(), Ordering::Relaxed);
        sys::direct::set_and_wake(&self.shared.proc_is_there);
        self.hides = true;
        true
    }

    /// Enters the network namespace, with loopback up; once.
    pub(crate) fn enter_network(&mut self) -> Result<(), Failure<'static>> {
        match std::mem::replace(&mut self.network, Network::Settled) {
            Network::Settled => Ok(()),
            Network::Wanted => {
                unshare(CloneFlags::CLONE_NEWNET).or_fail(Step::NetworkNamespace, c"")?;
                // A sandbox without network is whole even where loopback cannot be brought up.
                let _ = sys::loopback_up();
                Ok(())
            }
            Network::Begun => {
                sys::direct::wait_while(&self.shared.network_is_there, 0);
                let result = self.shared.network.load(Ordering::Relaxed);
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
    }

    /// Waits for the end of the thread; all that was left to it is then done.
    pub(crate) fn finish(&mut self) -> Result<(), Failure<'p>> {
        self.enter_network()?;
        if !self.hides {
            // There may be no /proc at all.
            sys::direct::set_and_wake(&self.shared.proc_is_there);
        }
        sys::direct::wait_until_ended(&self.shared.running);
        match (
            self.shared.unhidden.0.load(Ordering::Relaxed),
            self.shared.proc,
        ) {
            (0, _) | (_, None) => Ok(()),
            (errno, Some(new)) => Err(new.failure(&Unhidden {
                index: self.shared.unhidden.1.load(Ordering::Relaxed),
                errno,
            })),
        }
    }
}
