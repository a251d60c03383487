//! What is left when a process of palisade's is killed, and what is said about it.

use std::fs;
use std::os::fd::OwnedFd;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::remains::cgroups_of;
use crate::rig::{end, processes_with, until_readable};
use crate::sandbox::Sandboxes;

/// A process that is not the test's child, to be waited for.
fn open(pid: Pid) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

#[test]
fn a_sandbox_whose_monitor_was_killed_is_dead_and_nothing_of_it_runs() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], "exec sleep 1000");
    let follower = boxes.command(&["logs", "-f", "web"]).spawn().unwrap();
    let pid_1 = open(boxes.process(&id, "pid"));
    kill(boxes.process(&id, "monitor"), Signal::SIGKILL).unwrap();
    // Ends with the monitor, as its connection does.
    end(follower);
    until_readable(pid_1, "the end of PID 1");
    assert_eq!(boxes.states(), ["web dead"]);
    assert_eq!(boxes.says(&["wait", "web"]), "137");
    assert!(processes_with(&boxes.rig.mark()).is_empty());
    boxes.says(&["start", "web"]);
    assert_eq!(boxes.states(), ["web running"]);
    boxes.says(&["rm", "-f", "web"]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    assert!(cgroups_of(&id).is_empty());
}

#[test]
fn a_paused_sandbox_ends_with_its_monitor_too() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], "exec sleep 1000");
    let output = boxes.palisade(&["pause", "web"]);
    assert!(output.status.success() || !nix::unistd::geteuid().is_root());
    let pid_1 = open(boxes.process(&id, "pid"));
    let monitor = open(boxes.process(&id, "monitor"));
    kill(boxes.process(&id, "monitor"), Signal::SIGKILL).unwrap();
    until_readable(monitor, "the monitor's end");
    // Under v1 alone it is the next command that thaws what is left, once it is ten seconds old.
    until_readable(pid_1, "the end of PID 1");
    assert_eq!(boxes.states(), ["web dead"]);
    assert!(processes_with(&boxes.rig.mark()).is_empty());
}

#[test]
fn a_sandbox_that_goes_with_its_end_goes_when_its_monitor_was_killed_too() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--rm", "--read-only=false"], "exec sleep 1000");
    let monitor = open(boxes.process(&id, "monitor"));
    kill(boxes.process(&id, "monitor"), Signal::SIGKILL).unwrap();
    until_readable(monitor, "the monitor's end");
    assert!(boxes.states().is_empty());
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn the_end_of_pid_1_is_an_exit_like_any_other() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], "exec sleep 1000");
    kill(boxes.process(&id, "pid"), Signal::SIGKILL).unwrap();
    assert_eq!(boxes.says(&["wait", "web"]), "137");
    assert_eq!(boxes.says(&["ps", "-q"]), "");
}

#[test]
fn an_exit_is_kept_though_the_monitor_is_killed_before_it_hears_of_it() {
    let boxes = Sandboxes::new();
    let workspace = boxes.rig.path("workspace");
    let volume = format!("{}:/workspace", workspace.display());
    let script = "while [ ! -e /workspace/go ]; do sleep 0.02; done; exit 42";
    let id = boxes.detached(&["--name", "web", "-v", &volume], script);
    let monitor = boxes.process(&id, "monitor");
    let over = open(monitor);
    // It hears nothing from now on.
    kill(monitor, Signal::SIGSTOP).unwrap();
    let record = boxes.rig.path("store/sandboxes").join(&id).join("exit");
    let inotify = Inotify::init(InitFlags::empty()).unwrap();
    inotify
        .add_watch(&record, AddWatchFlags::IN_MODIFY)
        .unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    until_readable(&inotify, "the record of the exit");
    inotify.read_events().unwrap();
    kill(monitor, Signal::SIGKILL).unwrap();
    until_readable(over, "the monitor's end");
    assert_eq!(
        boxes.says(&["ps", "-a", "--format", "{{.State}}"]),
        "exited"
    );
    assert_eq!(boxes.says(&["wait", "web"]), "42");
}
