//! The few calls about terminals and the signals they send that have no safe wrapper elsewhere.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use nix::errno::Errno;
use nix::pty::Winsize;

mod ioctl {
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// The size of a terminal in rows and columns (`TIOCGWINSZ`, see `ioctl_tty(2)`).
///
/// # Errors
///
/// `ENOTTY` when `terminal` is none.
pub fn window_size(terminal: impl AsFd) -> Result<Winsize, Errno> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the length of the call and `size` is a writable winsize.
    unsafe { ioctl::window_size(terminal.as_fd().as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Gives a terminal a size; where it differs, its foreground process group gets SIGWINCH (`TIOCSWINSZ`).
///
/// # Errors
///
/// `ENOTTY` when `terminal` is none.
pub fn set_window_size(terminal: impl AsFd, size: &Winsize) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the length of the call and `size` is a readable winsize.
    unsafe { ioctl::set_window_size(terminal.as_fd().as_raw_fd(), size) }?;
    Ok(())
}

/// Whether this process was started with `signal` ignored, as nohup(1) does with SIGHUP and a shell does with SIGINT and
/// SIGQUIT for what it runs in the background. False for a number that is no signal.
pub fn ignores(signal: i32) -> bool {
    let mut action = MaybeUninit::<nix::libc::sigaction>::zeroed();
    // SAFETY: with a null new action sigaction(2) changes nothing and only writes the old one, for which there is room.
    let result = unsafe { nix::libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a valid sigaction, and the call above overwrote them when it succeeded.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == nix::libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::{ignores, set_window_size, window_size};

    #[test]
    fn a_size_that_was_set_is_read_back_on_the_other_side() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut size = window_size(&pty.master).unwrap();
        size.ws_row = 33;
        size.ws_col = 111;
        set_window_size(&pty.master, &size).unwrap();
        let seen = window_size(&pty.slave).unwrap();
        assert_eq!((seen.ws_row, seen.ws_col), (33, 111));
    }

    #[test]
    fn what_is_no_terminal_has_no_size() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(window_size(&file).unwrap_err(), nix::errno::Errno::ENOTTY);
    }

    #[test]
    fn an_ignored_signal_is_told_from_one_that_is_not() {
        assert!(
            ignores(nix::libc::SIGPIPE),
            "Rust programs start with SIGPIPE ignored"
        );
        assert!(!ignores(nix::libc::SIGUSR2));
        assert!(!ignores(4096));
    }
}
