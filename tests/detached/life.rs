//! From `run -d` or `create` to `rm`.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use palisade_shim::state::Lock;

use crate::rig::{
    Guard, assert_code, describe, end, pid, said, text, until_none_with, until_readable,
};
use crate::sandbox::Sandboxes;

/// Waits in a loop that SIGTERM ends, and says so.
const POLITE: &str = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.05; done";

#[test]
fn a_detached_sandbox_runs_on_until_it_is_stopped_and_its_exit_code_is_kept() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], POLITE);
    assert_eq!(boxes.states(), ["web running"]);
    let mut follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    assert_eq!(&said(&mut follower), b"up\n");
    assert_eq!(boxes.says(&["stop", "web"]), "web");
    assert_eq!(boxes.states(), ["web exited"]);
    assert_eq!(boxes.says(&["wait", &id[..12]]), "7");
    // The follower has seen the end.
    let output = end(follower);
    assert_eq!(text(&output.stdout), "asked\n", "{}", describe(&output));
    assert_eq!(boxes.says(&["rm", "web"]), "web");
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    until_none_with(&boxes.rig.mark());
}

#[test]
fn whoever_stops_a_sandbox_gives_it_no_time_beyond_its_limit() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "deaf", "--timeout", "5s", "--stop-timeout", "0"],
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    boxes.until_ready("deaf");
    boxes.says(&["stop", "-t", "86400", "deaf"]);
    assert_eq!(boxes.says(&["wait", "deaf"]), "124");
}

#[test]
fn a_sandbox_that_takes_no_notice_is_killed_after_its_time() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "deaf"],
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    boxes.until_ready("deaf");
    boxes.says(&["stop", "-t", "0", "deaf"]);
    assert_eq!(boxes.says(&["wait", "deaf"]), "137");
}

#[test]
fn stop_waits_for_several_and_is_content_with_what_has_ended() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "one"], "sleep 1000");
    boxes.detached(&["--name", "two"], "sleep 1000");
    boxes.detached(&["--name", "over"], "exit 3");
    assert_eq!(boxes.says(&["wait", "over"]), "3");
    assert_eq!(
        boxes.says(&["stop", "one", "two", "over"]),
        "one\ntwo\nover"
    );
    assert_eq!(boxes.states(), ["over exited", "two exited", "one exited"]);
    assert_eq!(boxes.says(&["wait", "one", "two"]), "143\n143");
}

#[test]
fn create_makes_and_start_starts_as_often_as_one_likes() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let id = boxes.says(&[
        "create",
        "--name",
        "again",
        &image,
        "sh",
        "-c",
        "echo ran; exit 4",
    ]);
    assert_eq!(id.len(), 64);
    assert_eq!(boxes.states(), ["again created"]);
    for runs in 1..=3 {
        boxes.says(&["start", "again"]);
        assert_eq!(boxes.says(&["wait", "again"]), "4");
        assert_eq!(boxes.says(&["logs", "again"]).lines().count(), runs);
    }
}

#[test]
fn what_a_sandbox_wrote_to_its_writable_layer_is_there_when_it_starts_again() {
    let boxes = Sandboxes::new();
    let kept = boxes.rig.path("image/kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o777)).unwrap();
    let script = "echo x >> /kept/count; wc -l < /kept/count";
    boxes.detached(&["--name", "keeps", "--read-only=false"], script);
    boxes.says(&["wait", "keeps"]);
    boxes.says(&["start", "keeps"]);
    boxes.says(&["wait", "keeps"]);
    assert_eq!(boxes.says(&["logs", "keeps"]), "1\n2");
    boxes.says(&["rm", "keeps"]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn what_has_just_ended_is_removed_though_its_monitor_is_not_quite_gone() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "over"], "exit 3");
    // Ends with the monitor.
    boxes.palisade(&["logs", "-f", "over"]);
    assert_eq!(boxes.says(&["wait", "over"]), "3");
    let path = boxes.rig.path("store/sandboxes").join(id).join("lock");
    // As its monitor has it until its very end.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let lock = Lock::wait(file).unwrap();
    let inotify = Inotify::init(InitFlags::empty()).unwrap();
    inotify.add_watch(&path, AddWatchFlags::IN_OPEN).unwrap();
    let remover = boxes.command(&["rm", "over"]).spawn().unwrap();
    // It wants the lock, and wants it again.
    let mut wanted = 0;
    while wanted < 3 {
        until_readable(&inotify, "another look at the lock");
        wanted += inotify.read_events().unwrap().len();
    }
    drop(lock);
    assert_code(&end(remover), 0);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn start_attached_shows_the_output_and_ends_with_the_exit_code() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.says(&[
        "create",
        "--name",
        "shown",
        &image,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 9",
    ]);
    let output = boxes.palisade(&["start", "-a", "shown"]);
    assert_code(&output, 9);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\n".into(), "err\n".into())
    );
}

#[test]
fn attach_passes_input_on_and_its_end_too() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["-i", "--name", "echo"],
        "read line; echo \"got $line\"; cat; exit 5",
    );
    let mut child = boxes
        .command(&["attach", "echo"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a line\nand the rest").unwrap();
    drop(stdin);
    let output = end(child);
    assert_code(&output, 5);
    assert_eq!(text(&output.stdout), "got a line\nand the rest");
}

#[test]
fn without_the_signal_proxy_a_signal_ends_the_attachment_alone() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "web"],
        "trap 'echo asked; exit 7' TERM; while :; do echo up; sleep 0.02; done",
    );
    for (option, code, state) in [
        ("--sig-proxy=false", 143, "running"),
        ("--sig-proxy", 7, "exited"),
    ] {
        let arguments = ["attach", option, "web"];
        let mut attached = boxes.command(&arguments).spawn().unwrap();
        said::<3>(&mut attached);
        kill(pid(&attached), Signal::SIGTERM).unwrap();
        assert_code(&end(attached), code);
        assert_eq!(boxes.states(), [format!("web {state}")], "{option}");
    }
}

#[test]
fn a_signal_reaches_the_command_and_nothing_else_happens_to_the_sandbox() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "web"],
        "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done",
    );
    let mut follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    said::<3>(&mut follower);
    assert_eq!(boxes.says(&["kill", "-s", "HUP", "web"]), "web");
    assert_eq!(&said(&mut follower), b"hup\n");
    assert_eq!(boxes.states(), ["web running"]);
    boxes.says(&["kill", "web"]);
    assert_eq!(boxes.says(&["wait", "web"]), "137");
    end(follower);
    assert_code(&boxes.palisade(&["kill", "web"]), 1);
}

#[test]
fn with_rm_nothing_is_left_of_it_when_it_ends() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--rm"], "sleep 1000");
    boxes.says(&["stop", &id]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    let output = boxes.palisade(&["stop", &id]);
    assert_code(&output, 1);
    assert!(
        text(&output.stderr).contains("no sandbox"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_command_that_cannot_be_run_is_told_at_once_and_leaves_nothing() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    for (command, expected) in [("/bin/missing", 127), ("/bin/not-executable", 126)] {
        let output = boxes.palisade(&["run", "-d", "--name", "odd", &image, command]);
        assert_code(&output, expected);
        assert!(output.stdout.is_empty(), "{}", describe(&output));
        assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    }
}

#[test]
fn an_ended_sandbox_is_started_again_as_its_policy_says() {
    let boxes = Sandboxes::new();
    boxes.detached(
        &["--name", "tries", "--restart", "on-failure:2"],
        "echo try; exit 3",
    );
    // The monitor ends when it tries no more.
    let output = boxes.palisade(&["logs", "-f", "tries"]);
    assert_eq!(
        text(&output.stdout),
        "try\ntry\ntry\n",
        "{}",
        describe(&output)
    );
    assert_eq!(boxes.states(), ["tries exited"]);
    assert_eq!(boxes.says(&["wait", "tries"]), "3");
    boxes.detached(
        &["--name", "stays", "--restart", "always"],
        "echo up; exec sleep 1000",
    );
    boxes.says(&["stop", "stays"]);
    assert_eq!(boxes.states(), ["stays exited", "tries exited"]);
}

#[test]
fn a_run_that_changes_its_images_files_on_disk_is_found_when_it_has_ended_unless_it_goes() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let command = [&image, "sh", "-c", "echo x >>/file; cat /file"];
    let writable = ["run", "-u0", "--read-only=false"];
    boxes.says(&[&writable[..], &["--rm"], &command].concat());
    boxes.says(&["run", &image, "true"]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    assert_eq!(boxes.says(&[&writable[..], &command].concat()), "x");
    let id = boxes.says(&["ps", "-aq", "-f", "status=exited"]);
    assert_eq!(boxes.says(&["start", "-a", &id]), "x\nx");
    boxes.says(&["rm", &id]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_run_in_the_foreground_says_that_it_is_not_started_again() {
    let boxes = Sandboxes::new();
    for name in [&["--name", "box"][..], &[]] {
        let options = [&["run", "--restart", "always"], name].concat();
        let image = boxes.image();
        let output = boxes.palisade(&[&options[..], &[&image, "sh", "-c", "echo once"]].concat());
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout), "once\n");
        let said = text(&output.stderr);
        assert!(said.contains("--restart") && said.contains("-d"), "{said}");
    }
    let image = boxes.image();
    let line = ["run", "-d", "--restart", "always", &image, "sleep", "1000"];
    let output = boxes.palisade(&line);
    assert_code(&output, 0);
    assert!(output.stderr.is_empty(), "{}", describe(&output));
}

#[test]
fn what_is_killed_is_not_started_again_and_other_signals_change_nothing() {
    let boxes = Sandboxes::new();
    let script = "trap 'echo hup; exit 3' HUP; echo up; while :; do sleep 0.02; done";
    for (signal, code) in [("KILL", "137"), ("TERM", "143")] {
        boxes.detached(&["--name", signal, "--restart", "always"], script);
        assert_eq!(boxes.says(&["kill", "-s", signal, signal]), signal);
        assert_eq!(boxes.says(&["wait", signal]), code);
        // The monitor ends when it tries no more.
        boxes.palisade(&["logs", "-f", signal]);
        assert_eq!(boxes.says(&["ps", "-aq", "-f", "status=running"]), "");
    }
    boxes.detached(&["--name", "web", "--restart", "always"], script);
    let mut follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    said::<3>(&mut follower);
    boxes.says(&["kill", "-s", "HUP", "web"]);
    assert_eq!(&said(&mut follower), b"hup\nup\n");
    boxes.says(&["stop", "web"]);
    end(follower);
}

#[test]
fn what_was_killed_is_gone_when_kill_returns() {
    let boxes = Sandboxes::new();
    for _ in 0..20 {
        boxes.detached(&["--name", "web"], "exec sleep 1000");
        boxes.says(&["kill", "web"]);
        assert_eq!(boxes.states(), ["web exited"]);
        boxes.says(&["rm", "web"]);
    }
}

#[test]
fn a_sandbox_that_starts_again_has_a_receipt_of_each_run() {
    let boxes = Sandboxes::new();
    let (file, log) = (boxes.rig.path("receipt.json"), boxes.rig.path("log"));
    let (file, log) = (file.to_str().unwrap(), log.to_str().unwrap());
    let options = ["--receipt", file, "--receipt-log", log];
    boxes.detached(
        &[
            &options[..],
            &["--name", "tries", "--restart", "on-failure:2"],
        ]
        .concat(),
        "exit 3",
    );
    // The monitor ends when it tries no more.
    boxes.says(&["logs", "-f", "tries"]);
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 3);
    let said = boxes.says(&["receipt", "verify", log]);
    assert!(said.contains("number 3, exit code 3"), "{said}");
    assert!(fs::read_to_string(file).unwrap().contains("\"ended\""));

    let image = boxes.image();
    let output = boxes.palisade(&["create", "--receipt", file, &image, "true"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("create runs nothing"),
        "{}",
        describe(&output)
    );
}

#[test]
fn restart_begins_a_sandbox_anew() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], "echo up; exec sleep 1000");
    let before = boxes.process(&id, "monitor");
    boxes.says(&["restart", "-t", "1", "web"]);
    assert_eq!(boxes.states(), ["web running"]);
    assert_ne!(before, boxes.process(&id, "monitor"));
}

#[test]
fn restart_keeps_what_is_to_be_removed_at_its_end() {
    let boxes = Sandboxes::new();
    let script = "while :; do echo up; sleep 0.02; done";
    let id = boxes.detached(&["--rm", "--name", "web"], script);
    let mut attached = boxes.command(&["attach", "web"]).spawn().unwrap();
    said::<3>(&mut attached);
    let before = boxes.process(&id, "monitor");
    assert_eq!(boxes.says(&["restart", "-t", "1", "web"]), "web");
    assert_eq!(boxes.states(), ["web running"]);
    assert_ne!(before, boxes.process(&id, "monitor"));
    // Whoever was attached has seen its end, and waits for no other.
    assert_code(&end(attached), 143);
    boxes.says(&["stop", "web"]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_restart_that_is_given_up_keeps_nothing() {
    let boxes = Sandboxes::new();
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done";
    boxes.detached(&["--rm", "--name", "web"], script);
    let mut follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    said::<3>(&mut follower);
    let mut restart = boxes
        .command(&["restart", "-t", "600", "web"])
        .spawn()
        .unwrap();
    said::<6>(&mut follower);
    restart.kill().unwrap();
    restart.wait().unwrap();
    boxes.says(&["stop", "-t", "0", "web"]);
    end(follower);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn whoever_is_attached_gets_the_exit_code_though_it_runs_again_by_then() {
    let boxes = Sandboxes::new();
    let workspace = boxes.rig.path("workspace");
    let volume = format!("{}:/workspace", workspace.display());
    let script = "mkdir /workspace/first || { echo again; exec sleep 1000; }
        while [ ! -e /workspace/go ]; do echo up; sleep 0.02; done; exit 3";
    boxes.detached(
        &["--name", "web", "--restart", "always", "-v", &volume],
        script,
    );
    let mut attached = boxes.command(&["attach", "web"]).spawn().unwrap();
    said::<3>(&mut attached);
    kill(pid(&attached), Signal::SIGSTOP).unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    let mut follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    let guard = Guard::over(&follower);
    let lines = BufReader::new(follower.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "again"));
    drop(guard);
    kill(pid(&attached), Signal::SIGCONT).unwrap();
    assert_code(&end(attached), 3);
    boxes.says(&["stop", "-t", "0", "web"]);
    end(follower);
}

#[test]
fn the_time_to_live_ends_and_removes_a_sandbox() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--ttl", "300ms"], "exec sleep 1000");
    // Ends when its monitor does, or finds it gone already from among the names, and not yet from the disk.
    boxes.palisade(&["logs", "-f", &id]);
    until_none_with(&boxes.rig.mark());
    assert!(boxes.states().is_empty());
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_detached_terminal_is_one() {
    let boxes = Sandboxes::new();
    boxes.detached(&["-t", "--name", "screen"], "tty; echo done");
    boxes.says(&["wait", "screen"]);
    assert_eq!(boxes.says(&["logs", "screen"]), "/dev/pts/0\r\ndone\r");
}

#[test]
fn without_a_command_pid_1_alone_keeps_the_sandbox_until_it_is_stopped() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let id = boxes.says(&["run", "-d", "--name", "idle", &image]);
    let pid = boxes.process(&id, "pid");
    assert_eq!(boxes.says(&["exec", "idle", "echo", "joined"]), "joined");
    // What looked at it last, and what joined, ends and is reaped.
    let children = format!("/proc/{pid}/task/{pid}/children");
    let until = Instant::now() + Duration::from_mins(1);
    while !fs::read_to_string(&children).unwrap().is_empty() {
        assert!(Instant::now() < until, "PID 1 keeps a child");
        sleep(Duration::from_millis(5));
    }
    // Nothing in the sandbox would take notice of the time that stop gives.
    boxes.says(&["stop", "-t", "-1", "idle"]);
    assert_eq!(boxes.says(&["wait", "idle"]), "143");
}

#[test]
fn the_monitor_keeps_nothing_of_its_caller() {
    let boxes = Sandboxes::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let image = boxes.image();
    let mut command = boxes.command(&["run", "-d", "--name", "held", &image, "sleep", "1000"]);
    let child = command.stderr(writer).spawn().unwrap();
    drop(command);
    end(child);
    // Would wait for ever if anything of the sandbox held the caller's standard error.
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(boxes.states(), ["held running"], "{said}");
}
