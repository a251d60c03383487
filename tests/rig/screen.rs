//! A terminal with somebody at it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{OFlag, open};
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use palisade_runtime::terminal::set_window_size;

use crate::rig::{Guard, binary};

/// The caller's terminal as whoever sits at it sees it, with palisade run there by a shell.
pub struct Screen {
    pub master: File,
    pub shell: Child,
    pub seen: String,
    _guard: Guard,
}

impl Screen {
    /// A terminal of this many rows and columns.
    pub fn new(size: (u16, u16), arguments: &[&str], root: &Path) -> Self {
        let (master, slave) = pty();
        resize(&master, size);
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // setsid(1) makes the terminal the controlling one of a new session, as a terminal emulator does. The shell stays,
        // as the end of a session's leader may throw away what is still on its way to the screen.
        let shell = Command::new("setsid")
            .args([
                "--ctty",
                "sh",
                "-c",
                "\"$@\"; echo \"[ended $?]\"; read -r key",
                "sh",
            ])
            .arg(binary())
            .args(arguments)
            .env("PALISADE_ROOT", root)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let guard = Guard::over(&shell);
        Self {
            master,
            shell,
            seen: String::new(),
            _guard: guard,
        }
    }

    /// Reads the screen until `text` is on it.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        let mut from = 0;
        while !self.seen[from..].contains(text) {
            from = self
                .seen
                .floor_char_boundary(self.seen.len().saturating_sub(text.len()));
            match self.master.read(&mut buffer) {
                Ok(count) if count > 0 => self
                    .seen
                    .push_str(&String::from_utf8_lossy(&buffer[..count])),
                other => panic!("{text:?} never appeared ({other:?}): {}", self.seen),
            }
        }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for palisade's end and returns its exit code; what was on the screen before it is in `seen`.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        self.until("[ended ");
        self.until("]\r\n");
        let (seen, rest) = self.seen.rsplit_once("[ended ").unwrap();
        let code = rest.split(']').next().unwrap().parse().unwrap();
        self.seen = seen.to_owned();
        code
    }

    /// Everything on the screen, and the exit code.
    #[track_caller]
    pub fn end(mut self) -> (String, i32) {
        let code = self.wait();
        self.press("\n");
        self.shell.wait().unwrap();
        (self.seen, code)
    }

    /// The palisade that the shell runs.
    pub fn palisade(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = std::fs::read_to_string(children).unwrap();
        Pid::from_raw(children.trim().parse().expect("one child"))
    }
}

/// Both sides of a new terminal. Neither passes to what other tests start at the same time, as those of openpty(3) would.
pub fn pty() -> (File, File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname_r(&master).unwrap();
    let slave = open(path.as_str(), flags, Mode::empty()).unwrap();
    (OwnedFd::from(master).into(), slave.into())
}

/// Gives it another size.
pub fn resize(master: impl AsFd, (ws_row, ws_col): (u16, u16)) {
    set_window_size(
        master,
        &Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
}
