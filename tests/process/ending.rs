//! What is left when a command has ended, or palisade was killed: nothing.

use std::fs;
use std::io::Read;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

use crate::rig::{Guard, Rig, assert_code, describe, end, entries, pid, processes_with, started};

/// A process that stays whatever happens to it, and carries the mark in its command line.
fn stubborn(mark: &str) -> String {
    format!("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' {mark}")
}

#[test]
fn what_the_command_left_running_ends_with_it() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let script = format!(
        "{stays} & setsid {stays} & (setsid {stays} &) ; nohup {stays} >/dev/null 2>&1 & exit 4"
    );
    assert_code(&rig.sh(&[], &script), 4);
    assert_eq!(processes_with(&rig.mark()), [""; 0]);
}

#[test]
fn the_time_limit_ends_the_whole_tree() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let options = ["--timeout", "1s", "--stop-timeout", "1"];
    assert_code(&rig.sh(&options, &format!("setsid {stays} & {stays}")), 124);
    assert_eq!(processes_with(&rig.mark()), [""; 0]);
}

#[test]
fn when_palisade_is_killed_everything_in_the_sandbox_dies() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let mut child = started(&mut rig.script(&[], &format!("setsid {stays} & echo ready; {stays}")));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    let _guard = Guard::over(&child);
    // The end of the pipe is the end of the last process that held it.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    child.wait().unwrap();
    let left: Vec<_> = processes_with(&rig.mark())
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_fork_bomb_of_orphans_is_reaped_and_ended() {
    let rig = Rig::new();
    let output = rig.sh(
        &[],
        "i=0; while [ $i -lt 100 ]; do (sleep 0 &); i=$((i+1)); done; exit 6",
    );
    assert_code(&output, 6);
}

#[test]
fn nothing_remains_on_the_host() {
    let rig = Rig::new();
    let volume = format!("{}:/workspace", rig.path("workspace").display());
    let id_file = rig.path("id");
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let options = [
        "-v",
        &volume,
        "--cidfile",
        id_file.to_str().unwrap(),
        "--read-only=false",
    ];
    let output = rig.sh(
        &options,
        "echo changed >/etc/new || true; echo temporary >/tmp/file; cd /workspace && ls -a",
    );
    assert_code(&output, 0);
    assert!(
        entries(&rig.path("workspace")).is_empty(),
        "{}",
        describe(&output)
    );
    let id = fs::read_to_string(id_file).unwrap().trim().to_owned();
    assert_eq!(id.len(), 64);
    let left: Vec<_> = mounts()
        .lines()
        .filter(|line| line.contains(&id) || line.contains(&rig.mark()))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        left,
        before
            .lines()
            .filter(|line| line.contains(&rig.mark()))
            .collect::<Vec<_>>()
    );
    assert!(
        !contains_name(Path::new("/sys/fs/cgroup"), &id[..12], 6),
        "a cgroup is left"
    );
    assert!(
        !contains_name(&rig.path("store"), &id[..12], 4),
        "a directory of the sandbox is left"
    );
    assert!(
        !rig.path("image/etc/new").exists(),
        "the image was written to"
    );
}

/// Whether a name with `part` in it exists beneath `directory`, at most `depth` levels down.
fn contains_name(directory: &Path, part: &str, depth: u32) -> bool {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            entry.file_name().to_string_lossy().contains(part)
                || depth > 0
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && contains_name(&entry.path(), part, depth - 1)
        })
}

#[test]
fn a_failed_start_leaves_nothing_either() {
    let rig = Rig::new();
    let id_file = rig.path("id");
    let output = rig.run(
        &["--cidfile", id_file.to_str().unwrap()],
        &["/bin/no-such-command"],
    );
    assert_code(&output, 127);
    if let Ok(id) = fs::read_to_string(id_file) {
        assert!(
            !contains_name(Path::new("/sys/fs/cgroup"), &id[..12], 6),
            "a cgroup is left"
        );
        assert!(
            !contains_name(&rig.path("store"), &id[..12], 4),
            "a directory of the sandbox is left"
        );
    }
}

#[test]
fn many_short_runs_all_come_back() {
    let rig = Rig::new();
    for _ in 0..100 {
        assert_code(&rig.run(&[], &["true"]), 0);
    }
}

#[test]
fn runs_side_by_side_do_not_disturb_each_other() {
    let rig = Rig::new();
    let children: Vec<_> = (0..24)
        .map(|number| {
            rig.script(&[], &format!("sleep 0.2; exit {number}"))
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in (0..).zip(children) {
        assert_code(&end(child), number);
    }
}
