//! Verbs that act on a running sandbox from outside: paused, measured, limited anew.

mod pause;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../detached/sandbox.rs"]
mod sandbox;
mod stats;
mod update;

use std::fs;
use std::path::PathBuf;

use rig::until_readable;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sandbox::Sandboxes;

/// Whether a control group must be had here: for root always, for others where the machine was made so.
fn is_to_be_had() -> bool {
    nix::unistd::geteuid().is_root() || std::env::var_os("PALISADE_EXPECT_CGROUP").is_some()
}

/// The directories of a running sandbox's control group; none where it has none.
fn cgroup(boxes: &Sandboxes, id: &str) -> Option<Vec<PathBuf>> {
    let path = boxes.rig.path("store/sandboxes").join(id);
    let state = fs::read(path.join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let line = state["cgroup"].as_str().map(str::to_owned);
    let paths = line?;
    let paths = paths.split('\t').filter(|field| field.starts_with('/'));
    Some(paths.map(PathBuf::from).collect())
}

/// Ends a sandbox's monitor at once, and waits for that: the sandbox is dying then.
fn kill_monitor(boxes: &Sandboxes, id: &str) {
    let pid = Pid::from_raw(boxes.process(id, "monitor").as_raw()).unwrap();
    let monitor = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&monitor, Signal::KILL).unwrap();
    until_readable(monitor, "the monitor's end");
}
