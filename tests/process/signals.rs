//! Signals that reach palisade.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};

use crate::rig::{Rig, assert_code, binary, describe, end, pid, said, started, text};

#[test]
fn a_signal_reaches_the_commands_own_handler() {
    let rig = Rig::new();
    for (name, signal) in [
        ("HUP", Signal::SIGHUP),
        ("INT", Signal::SIGINT),
        ("QUIT", Signal::SIGQUIT),
        ("USR1", Signal::SIGUSR1),
        ("USR2", Signal::SIGUSR2),
        ("ALRM", Signal::SIGALRM),
        ("TERM", Signal::SIGTERM),
        ("CONT", Signal::SIGCONT),
        ("WINCH", Signal::SIGWINCH),
    ] {
        let script =
            format!("trap 'echo got {name}; exit 7' {name}; echo ready; sleep 1000 & wait");
        let child = started(&mut rig.script(&[], &script));
        kill(pid(&child), signal).unwrap();
        let output = end(child);
        assert_code(&output, 7);
        assert_eq!(text(&output.stdout), format!("got {name}\n"));
    }
}

#[test]
fn a_signal_that_nobody_handles_ends_the_command_as_it_would_outside() {
    let rig = Rig::new();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
    ] {
        // No shell, as that ignores QUIT.
        let child = started(&mut rig.command(&[], &["yes", "ready"]));
        kill(pid(&child), signal).unwrap();
        assert_eq!(end(child).status.code(), Some(128 + signal as i32));
    }
}

#[test]
fn an_interrupt_of_the_whole_group_reaches_the_command_once() {
    let rig = Rig::new();
    let script = "n=0; trap 'n=$((n+1)); echo ready' INT; trap 'echo $n; exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut child = started(rig.script(&[], script).process_group(0));
    killpg(pid(&child), Signal::SIGINT).unwrap();
    assert_eq!(&said(&mut child), b"ready\n");
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let output = end(child);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "1\n");
}

#[test]
fn what_the_caller_had_ignored_for_palisade_is_not_passed_on() {
    let rig = Rig::new();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("trap '' HUP; exec \"$@\"")
        .arg("sh")
        .arg(binary())
        .args(["run", "--rm", "--root"])
        .arg(rig.path("store"))
        .arg(format!("dir:{}", rig.path("image").display()))
        .args(["sh", "-c", "trap 'echo hup' HUP; trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = started(&mut shell);
    kill(pid(&child), Signal::SIGHUP).unwrap();
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let output = end(child);
    assert_code(&output, 3);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn the_command_starts_with_no_signal_blocked_or_ignored() {
    let rig = Rig::new();
    let output = rig.run(&[], &["cat", "/proc/self/status"]);
    assert_code(&output, 0);
    for field in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        let status = text(&output.stdout);
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        let set = u64::from_str_radix(line.expect(field), 16).unwrap();
        // 32 and 33 are the C library's own, which lets nobody change them.
        assert_eq!(set & !(0b11 << 31), 0, "{field}: {}", describe(&output));
    }
}

#[test]
fn a_signal_that_comes_while_the_sandbox_is_made_is_not_lost() {
    let rig = Rig::new();
    for _ in 0..20 {
        let child = rig.command(&[], &["sleep", "1000"]).spawn().unwrap();
        // Sent at once: before palisade has looked, it ends palisade itself; after that, it is the command's.
        kill(pid(&child), Signal::SIGTERM).unwrap();
        let output = end(child);
        let ended = (
            output.status.code(),
            std::os::unix::process::ExitStatusExt::signal(&output.status),
        );
        assert!(
            matches!(ended, (Some(143), None) | (None, Some(15))),
            "{}",
            describe(&output)
        );
    }
    // Where palisade itself was ended, what it had made ends on its own.
    crate::rig::until_none_with(&rig.mark());
}
