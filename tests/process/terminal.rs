//! `-t`: a terminal of the command's own, and the caller's, which it never gets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{OFlag, open};
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use palisade_runtime::terminal::set_window_size;

use crate::rig::{Guard, Rig, assert_code, binary, describe, end, feed, text};

/// The caller's terminal as whoever sits at it sees it, with palisade run there by a shell.
struct Screen {
    master: File,
    shell: Child,
    seen: String,
    _guard: Guard,
}

impl Screen {
    fn new(rig: &Rig, size: (u16, u16), options: &[&str], command: &[&str]) -> Self {
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
            .args(["run", "--rm", "--root"])
            .arg(rig.path("store"))
            .args(options)
            .arg(format!("dir:{}", rig.path("image").display()))
            .args(command)
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
    fn until(&mut self, text: &str) {
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

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for palisade's end and returns its exit code; what was on the screen before it is in `seen`.
    #[track_caller]
    fn wait(&mut self) -> i32 {
        self.until("[ended ");
        self.until("]\r\n");
        let (seen, rest) = self.seen.rsplit_once("[ended ").unwrap();
        let code = rest.split(']').next().unwrap().parse().unwrap();
        self.seen = seen.to_owned();
        code
    }

    /// Everything on the screen, and the exit code.
    #[track_caller]
    fn end(mut self) -> (String, i32) {
        let code = self.wait();
        self.press("\n");
        self.shell.wait().unwrap();
        (self.seen, code)
    }

    /// The palisade that the shell runs.
    fn palisade(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = std::fs::read_to_string(children).unwrap();
        Pid::from_raw(children.trim().parse().expect("one child"))
    }
}

/// Both sides of a new terminal. Neither passes to what other tests start at the same time, as those of openpty(3) would.
fn pty() -> (File, File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname_r(&master).unwrap();
    let slave = open(path.as_str(), flags, Mode::empty()).unwrap();
    (OwnedFd::from(master).into(), slave.into())
}

fn resize(master: impl AsFd, (ws_row, ws_col): (u16, u16)) {
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

fn flags(termios: &Termios) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        termios.input_flags,
        termios.output_flags,
        termios.control_flags,
        termios.local_flags,
    )
}

#[test]
fn all_three_streams_are_one_terminal_of_the_sandboxs_own() {
    let rig = Rig::new();
    let screen = Screen::new(
        &rig,
        (24, 80),
        &["-it"],
        &[
            "sh",
            "-c",
            "test -t 0 && test -t 1 && test -t 2 && tty && exit 8",
        ],
    );
    let (seen, code) = screen.end();
    assert_eq!(code, 8, "{seen}");
    assert!(
        seen.contains("/dev/pts/0") || seen.contains("/dev/console"),
        "{seen}"
    );
}

#[test]
fn the_size_is_right_from_the_start_and_follows_the_callers() {
    let rig = Rig::new();
    let script =
        "trap 'stty size' WINCH; stty size; echo ready; while :; do read line && exit 0; done";
    let mut screen = Screen::new(&rig, (33, 111), &["-it"], &["sh", "-c", script]);
    screen.until("ready");
    assert!(screen.seen.contains("33 111"), "{}", screen.seen);
    resize(&screen.master, (44, 99));
    // The handler runs when `read` is interrupted or done.
    screen.until("44 99");
    screen.press("\n");
    let (seen, code) = screen.end();
    assert_eq!(code, 0, "{seen}");
}

#[test]
fn control_c_interrupts_the_foreground_command() {
    let rig = Rig::new();
    let mut screen = Screen::new(
        &rig,
        (24, 80),
        &["-it"],
        &["sh", "-c", "echo ready; exec sleep 1000"],
    );
    screen.until("ready");
    screen.press("\u{3}");
    let (seen, code) = screen.end();
    assert_eq!(code, 130, "{seen}");
}

#[test]
fn control_d_ends_the_input_and_control_z_is_the_commands() {
    let rig = Rig::new();
    let script = "trap 'echo stopped by key' TSTP; echo ready; cat; echo end of input";
    let mut screen = Screen::new(&rig, (24, 80), &["-it"], &["sh", "-c", script]);
    screen.until("ready");
    screen.press("typed\n");
    screen.until("typed");
    screen.press("\u{4}");
    screen.until("end of input");
    assert_eq!(screen.end().1, 0);
}

#[test]
fn an_interactive_shell_has_job_control() {
    let rig = Rig::new();
    let mut screen = Screen::new(&rig, (24, 80), &["-it"], &["sh", "-i"]);
    // A prompt means that the caller's terminal is raw by now and passes every key on.
    screen.until("$ ");
    // A key before the job is in the foreground would be the shell's; what is typed does not read "running".
    screen.press("sh -c 'echo run\"\"ning; exec sleep 1000'\n");
    screen.until("running");
    screen.press("\u{1a}");
    screen.until("Stopped");
    screen.press("kill -9 %1\nexit 5\n");
    // The shell refuses once where it has not yet noticed the end of its job.
    screen.press("exit 5\n");
    let (seen, code) = screen.end();
    assert_eq!(code, 5, "{seen}");
    assert!(!seen.contains("job control turned off"), "{seen}");
}

#[test]
fn the_callers_terminal_is_raw_meanwhile_and_restored_after_every_end() {
    let rig = Rig::new();
    let (_master, untouched) = pty();
    let before = flags(&tcgetattr(&untouched).unwrap());
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGHUP)] {
        let mut screen = Screen::new(
            &rig,
            (24, 80),
            &["-it"],
            &["sh", "-c", "stty -echo; echo ready; exec cat"],
        );
        screen.until("ready");
        let during = tcgetattr(&screen.master).unwrap();
        assert!(
            !during
                .local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        );
        match signal {
            Some(signal) => kill(screen.palisade(), signal).unwrap(),
            None => screen.press("\u{4}"),
        }
        assert_eq!(
            screen.wait(),
            signal.map_or(0, |signal| 128 + signal as i32)
        );
        assert_eq!(
            flags(&tcgetattr(&screen.master).unwrap()),
            before,
            "{signal:?}"
        );
        screen.press("\n");
        screen.shell.wait().unwrap();
    }
}

#[test]
fn without_t_the_callers_terminal_is_not_handed_in_and_output_still_arrives() {
    let rig = Rig::new();
    let script = "for n in 0 1 2; do test -t $n && echo \"$n is a terminal\"; done; echo out; echo err >&2; echo again; exit 3";
    for options in [&["-i"][..], &[]] {
        let screen = Screen::new(&rig, (24, 80), options, &["sh", "-c", script]);
        let (seen, code) = screen.end();
        assert_eq!((seen.as_str(), code), ("out\r\nerr\r\nagain\r\n", 3));
    }
}

#[test]
fn without_t_what_is_typed_reaches_an_interactive_command() {
    let rig = Rig::new();
    let mut screen = Screen::new(
        &rig,
        (24, 80),
        &["-i"],
        &[
            "sh",
            "-c",
            "echo ready; read line; echo \"<$line>\"; cat; exit 2",
        ],
    );
    screen.until("ready");
    screen.press("hello\n");
    screen.until("<hello>");
    screen.press("\u{4}");
    assert_eq!(screen.end().1, 2);
}

#[test]
fn a_large_output_reaches_the_screen_complete() {
    let rig = Rig::new();
    for options in [&["-t"][..], &["-it"], &[]] {
        let mut screen = Screen::new(
            &rig,
            (24, 80),
            options,
            &[
                "sh",
                "-c",
                "yes 0123456789abcde | head -c 1600000; echo; echo 'the last line'",
            ],
        );
        screen.until("the last line");
        let lines = screen.seen.matches("0123456789abcde\r").count();
        assert_eq!(lines, 100_000, "{options:?}");
        assert_eq!(screen.end().1, 0);
    }
}

#[test]
fn an_interactive_terminal_without_one_to_type_on_is_refused() {
    let rig = Rig::new();
    let output = feed(rig.command(&["-it"], &["echo", "ran"]), Vec::new());
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("not a TTY"),
        "{}",
        describe(&output)
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_terminal_can_be_shown_through_a_pipe() {
    let rig = Rig::new();
    let output = rig.sh(&["-t"], "test -t 1 && echo yes; echo also >&2; exit 6");
    assert_code(&output, 6);
    assert_eq!(text(&output.stdout), "yes\r\nalso\r\n");
}

#[test]
fn a_reader_of_a_terminal_that_goes_away_hangs_it_up() {
    let rig = Rig::new();
    let mut child = rig.command(&["-t"], &["yes"]).spawn().unwrap();
    let _guard = Guard::over(&child);
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 3];
    stdout.read_exact(&mut line).unwrap();
    drop(stdout);
    let output = end(child);
    assert_eq!(output.status.code(), Some(128 + 1), "{}", describe(&output));
}
