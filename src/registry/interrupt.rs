//! Ctrl-C while an image is on its way: it is broken off in order, so that nothing half-made stays but what can be gone on with.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use palisade_rootfs::registry::Registries;

use crate::failure::Failure;

/// Does `work`; a signal that asks to end breaks off what the registries do, a second one ends palisade at once.
///
/// # Errors
/// Those of `work`. After a signal it fails with the exit code 128+n.
pub fn stoppable<T>(
    registries: &Registries,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    let fail = |errno: Errno| {
        Failure::new(
            format!("cannot wait for signals: {}", errno.desc()),
            "a higher limit of open files (ulimit -n)",
        )
    };
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let waiting = SignalFd::with_flags(&signals, flags).map_err(fail)?;
    let (end, ended) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(fail)?;
    let before = SigSet::thread_get_mask().map_err(fail)?;
    signals.thread_block().map_err(fail)?;
    let got = AtomicU8::new(0);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let mut fds = [
                    PollFd::new(waiting.as_fd(), PollFlags::POLLIN),
                    PollFd::new(end.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, PollTimeout::NONE) {
                    Err(Errno::EINTR) => continue,
                    Err(_) => return,
                    Ok(_) => {}
                }
                if let Ok(Some(info)) = waiting.read_signal() {
                    let number = u8::try_from(info.ssi_signo).unwrap_or(2);
                    if got.swap(number, Ordering::Relaxed) != 0 {
                        std::process::exit(128 + i32::from(number));
                    }
                    registries.stop();
                    continue;
                }
                // The work is done: its end of the pipe is closed.
                if fds[1].any().unwrap_or(true) {
                    return;
                }
            }
        });
        let result = work();
        drop(ended);
        result
    });
    before.thread_set_mask().map_err(fail)?;
    match got.into_inner() {
        0 => result,
        number => Err(
            Failure::new("interrupted", "the same again: what has arrived is kept")
                .with_code(128 + number),
        ),
    }
}
