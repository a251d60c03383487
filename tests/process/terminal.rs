//! `-t`: a terminal of the command's own, and the caller's, which it never gets.

use std::io::Read;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use crate::rig::{Guard, Rig, assert_code, describe, end, feed, text};
use crate::screen::{Screen, pty, resize};

/// A terminal with `palisade run` on it.
fn screen(rig: &Rig, size: (u16, u16), options: &[&str], command: &[&str]) -> Screen {
    let image = format!("dir:{}", rig.path("image").display());
    let mut arguments = vec!["run", "--rm"];
    arguments.extend_from_slice(options);
    arguments.push(&image);
    arguments.extend_from_slice(command);
    Screen::new(size, &arguments, &rig.path("store"))
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
    let screen = self::screen(
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
    let mut screen = self::screen(&rig, (33, 111), &["-it"], &["sh", "-c", script]);
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
    let mut screen = self::screen(
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
    let mut screen = self::screen(&rig, (24, 80), &["-it"], &["sh", "-c", script]);
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
    let mut screen = self::screen(&rig, (24, 80), &["-it"], &["sh", "-i"]);
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
        let mut screen = self::screen(
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
        let screen = self::screen(&rig, (24, 80), options, &["sh", "-c", script]);
        let (seen, code) = screen.end();
        assert_eq!((seen.as_str(), code), ("out\r\nerr\r\nagain\r\n", 3));
    }
}

#[test]
fn without_t_what_is_typed_reaches_an_interactive_command() {
    let rig = Rig::new();
    let mut screen = self::screen(
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
        let mut screen = self::screen(
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
