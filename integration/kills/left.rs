//! What may be left when a verb's process was killed and the next command has run: nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::remains::cgroups_of;
use crate::rig::{entries, text, until_none_with};
use crate::sandbox::Sandboxes;

/// Seconds to sleep that no other test's processes have among their words.
pub fn long() -> String {
    format!("1000{}", std::process::id())
}

/// The next command has to find everything in order; then all is removed, and nothing may be left.
#[track_caller]
pub fn check(boxes: &Sandboxes, what: &str) {
    age_cgroups(boxes);
    // What goes with its end (`--rm`) may be going just now: then the next look says how it stands.
    let end = Instant::now() + Duration::from_mins(1);
    let ids = loop {
        let directories = directories(boxes);
        if let Some(ids) = listed(boxes, what)
            && ids == directories
        {
            break ids;
        }
        assert!(
            Instant::now() < end,
            "{what}: an exit was lost, or {directories:?} is not what ps lists"
        );
    };
    for id in &ids {
        boxes.says(&["rm", "-f", id]);
    }
    // A killed process is gone when the kernel gets to it, and its control group after that.
    for mark in [boxes.rig.mark(), long()] {
        until_none_with(&mark);
    }
    age_cgroups(boxes);
    boxes.says(&["ps"]);
    assert!(boxes.left().is_empty(), "{what}: {:?}", boxes.left());
    for place in ["tmp", "run", "store/tmp", "store/partial"] {
        let left = entries(&boxes.rig.path(place));
        assert!(left.is_empty(), "{what}: {place} holds {left:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&boxes.rig.mark()),
        "{what}: a mount is left"
    );
    for id in made(boxes) {
        let left = cgroups_of(&id);
        assert!(left.is_empty(), "{what}: {left:?}");
    }
    // Its next ids are those of the next verb alone.
    let _ = fs::remove_file(boxes.rig.path("store/events"));
}

fn directories(boxes: &Sandboxes) -> BTreeSet<String> {
    entries(&boxes.rig.path("store/sandboxes"))
        .into_iter()
        .collect()
}

/// How a sandbox ended; none where it is gone by now.
#[track_caller]
fn waited(boxes: &Sandboxes, name: &str, what: &str) -> Option<String> {
    let output = boxes.palisade(&["wait", name]);
    let complaint = text(&output.stderr);
    assert!(
        output.status.success() || complaint.contains("no sandbox is named"),
        "{what}: {complaint}"
    );
    output
        .status
        .success()
        .then(|| text(&output.stdout).trim().to_owned())
}

/// What `ps` lists after the kill; no exit that PID 1 wrote down may be missing or told otherwise. None where one went meanwhile.
#[track_caller]
fn listed(boxes: &Sandboxes, what: &str) -> Option<BTreeSet<String>> {
    let format = "{{.ID}} {{.Names}} {{.State}}";
    let listed = boxes.palisade(&["ps", "-a", "--no-trunc", "--format", format]);
    let complaint = text(&listed.stderr);
    assert!(
        listed.status.success() && complaint.is_empty(),
        "{what}: {complaint}"
    );
    let mut ids = BTreeSet::new();
    for line in text(&listed.stdout).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, name, state] = words[..] else {
            panic!("{what}: {line}")
        };
        assert!(name == "web" || name == "www", "{what}: {line}");
        let found = boxes.says(&["ps", "-a", "-q", "-f", &format!("name=^{name}$")]);
        if found.is_empty() {
            return None;
        }
        assert_eq!(found, id[..12], "{what}: {line}");
        let record = fs::read(boxes.rig.path("store/sandboxes").join(id).join("exit"));
        let record: Option<[u8; 4]> = record.ok().and_then(|bytes| bytes.try_into().ok());
        if let Some(status) = record.filter(|_| matches!(state, "exited" | "dead")) {
            let status = i32::from_ne_bytes(status);
            let signal = status & 0x7f;
            let code = if signal == 0 {
                status >> 8 & 0xff
            } else {
                128 + signal
            };
            if state == "dead" {
                // PID 1 may have written it between the two looks; one that stays dead fails the whole.
                return None;
            }
            let told = waited(boxes, name, what)?;
            assert_eq!(told, code.to_string(), "{what}: not the exit that was");
        } else if state == "exited" {
            // 125 is a start that the kill made fail; 137 is PID 1 itself, killed before it could write; 143 is the run before a
            // restart, which came no further.
            let code = waited(boxes, name, what)?;
            assert!(
                ["125", "137", "143"].contains(&code.as_str()),
                "{what}: exit code {code}"
            );
        }
        ids.insert(id.to_owned());
    }
    Some(ids)
}

/// The ids of all sandboxes that were made since the last look.
fn made(boxes: &Sandboxes) -> BTreeSet<String> {
    let events = fs::read_to_string(boxes.rig.path("store/events")).unwrap_or_default();
    let lines = events
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter_map(|event| event["id"].as_str().map(str::to_owned))
        .collect()
}

/// A cgroup that nobody holds is left alone for some seconds, in which its maker may be about to hold it: makes them older.
fn age_cgroups(boxes: &Sandboxes) {
    let past = SystemTime::now() - Duration::from_mins(1);
    for path in made(boxes).iter().flat_map(|id| cgroups_of(id)) {
        age(&path, past);
    }
}

fn age(path: &Path, past: SystemTime) {
    // One that went meanwhile needs none of this; one of another user's cannot be changed.
    if let Ok(directory) = File::open(path)
        && directory
            .metadata()
            .is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw())
    {
        let _ = directory.set_modified(past);
    }
}
