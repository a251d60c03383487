//! The caller's terminal while the command has one of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::isatty;
use palisade_runtime::terminal::{set_window_size, window_size};

use crate::Error;
use crate::relay::{Relay, Sink};
use crate::stdio::{Caller, duplicate, null, set_nonblocking, sink, source};

/// The link between the caller's terminal and the command's: sizes, and raw mode for as long as this lives.
#[derive(Debug)]
pub struct Console<'a> {
    caller: Caller<'a>,
    master: OwnedFd,
    raw: Option<RawMode>,
}

/// A console and the two directions of copying that go with it.
pub struct Linked<'a> {
    /// The link.
    pub console: Console<'a>,
    /// From the caller to the command, where the command is interactive.
    pub input: Option<Relay>,
    /// From the command to the caller.
    pub output: Relay,
}

/// Refuses `-t -i` where standard input cannot be a terminal's keyboard, as docker does.
pub fn check(interactive: bool, caller: Caller) -> Result<(), Error> {
    if interactive && !isatty(caller.stdin).unwrap_or(false) {
        return Err(Error::NotATerminal);
    }
    Ok(())
}

impl<'a> Console<'a> {
    /// Links the caller's standard streams to `master`, the command's terminal.
    pub fn link(
        master: BorrowedFd,
        interactive: bool,
        caller: Caller<'a>,
    ) -> Result<Linked<'a>, Error> {
        set_nonblocking(master).map_err(Error::system("prepare the terminal"))?;
        let input = if interactive {
            let keyboard = source(caller.stdin)?;
            let sink = Sink::unblocking(duplicate(master)?);
            Some(Relay::new(keyboard, sink))
        } else {
            None
        };
        let output = Relay::new(duplicate(master)?, sink(caller.stdout)?);
        let console = Self {
            caller,
            master: duplicate(master)?,
            raw: interactive
                .then(|| RawMode::enter(caller.stdin))
                .transpose()?,
        };
        console.resize();
        Ok(Linked {
            console,
            input,
            output,
        })
    }

    /// Gives the command's terminal the size of the caller's, where the caller has one.
    pub fn resize(&self) {
        let size = window_size(self.caller.stdout)
            .or_else(|_| window_size(self.caller.stdin))
            .or_else(|_| window_size(self.caller.stderr));
        if let Ok(size) = size {
            // A terminal that is gone needs no size.
            let _ = set_window_size(&self.master, &size);
        }
    }

    /// Reads what the command goes on writing when nobody sees it any more, so that it does not wait for ever.
    pub fn discard(&self) -> Result<Relay, Error> {
        let master = duplicate(self.master.as_fd())?;
        Ok(Relay::new(master, Sink::unblocking(null()?)))
    }

    /// Gives the caller's terminal back while `pause` lasts, then takes it again.
    pub fn suspended(&mut self, pause: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let was_raw = self.raw.take().is_some();
        pause()?;
        if was_raw {
            self.raw = Some(RawMode::enter(self.caller.stdin)?);
        }
        self.resize();
        Ok(())
    }
}

/// What the caller's terminal was set to before, for whoever gets to restore it: the guard, or a panic that aborts.
static BEFORE: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The caller's terminal in raw mode (termios(3)), until dropped.
#[derive(Debug)]
pub struct RawMode;

impl RawMode {
    /// Sets the mode.
    pub fn enter(terminal: BorrowedFd) -> Result<Self, Error> {
        let failed = Error::system("set the terminal to raw mode");
        let before = tcgetattr(terminal).map_err(&failed)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((duplicate(terminal)?, before));
        // The released program aborts on a panic, and no guard is dropped then.
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        tcsetattr(terminal, SetArg::TCSANOW, &raw).map_err(&failed)?;
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((terminal, before)) = before {
        // A terminal that was hung up cannot be restored and need not be.
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &before);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::{LocalFlags, tcgetattr};
    use palisade_runtime::terminal::{set_window_size, window_size};

    use super::{Console, check};
    use crate::Error;
    use crate::relay::Relay;
    use crate::stdio::Caller;

    #[test]
    fn keys_and_output_pass_between_two_terminals_and_the_callers_is_as_before() {
        // The caller's terminal, of which a test is the screen, and the command's, of which it is the program.
        let screen = openpty(None, None).unwrap();
        let program = openpty(None, None).unwrap();
        let caller = Caller {
            stdin: screen.slave.as_fd(),
            stdout: screen.slave.as_fd(),
            stderr: screen.slave.as_fd(),
        };
        let size = |ws_row, ws_col| Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        set_window_size(&screen.master, &size(40, 132)).unwrap();
        let before = tcgetattr(&screen.slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON));

        let mut linked = Console::link(program.master.as_fd(), true, caller).unwrap();
        assert_eq!(window_size(&program.slave).unwrap(), size(40, 132));
        let raw = tcgetattr(&screen.slave).unwrap();
        assert!(
            !raw.local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::ECHO)
        );

        set_window_size(&screen.master, &size(10, 20)).unwrap();
        linked.console.resize();
        assert_eq!(window_size(&program.slave).unwrap(), size(10, 20));

        let mut typed = File::from(screen.master.try_clone().unwrap());
        let mut heard = File::from(program.slave.try_clone().unwrap());
        typed.write_all(b"ls\n").unwrap();
        turn(linked.input.as_mut().unwrap());
        let mut line = [0; 3];
        heard.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ls\n");

        // The program's terminal echoes, as the caller's does not any more.
        turn(&mut linked.output);
        let mut echo = [0; 4];
        typed.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ls\r\n");

        linked
            .console
            .suspended(|| {
                let during = tcgetattr(&screen.slave).unwrap();
                assert!(during.local_flags.contains(LocalFlags::ICANON));
                Ok(())
            })
            .unwrap();
        assert!(
            !tcgetattr(&screen.slave)
                .unwrap()
                .local_flags
                .contains(LocalFlags::ICANON)
        );
        drop(linked.console);
        let after = tcgetattr(&screen.slave).unwrap();
        assert_eq!(
            (after.local_flags, after.input_flags, after.output_flags),
            (before.local_flags, before.input_flags, before.output_flags)
        );
    }

    /// Waits for the relay's source and copies what it has.
    fn turn(relay: &mut Relay) {
        use nix::poll::{PollFd, PollTimeout, poll};
        let (fd, flags) = relay.interest().unwrap();
        poll(&mut [PollFd::new(fd, flags)], PollTimeout::NONE).unwrap();
        assert_eq!(relay.pump(), crate::relay::Flow::Open);
    }

    #[test]
    fn a_pipe_cannot_drive_a_terminal() {
        let (read, write) = std::io::pipe().unwrap();
        let caller = Caller {
            stdin: read.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        };
        assert!(matches!(check(true, caller), Err(Error::NotATerminal)));
        assert!(check(false, caller).is_ok());
    }
}
