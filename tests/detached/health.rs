//! Health checks as a user sees them.

use crate::rig::until_readable;
use crate::sandbox::Sandboxes;

/// Follows the record's changes until `ps` shows `word`.
#[track_caller]
pub fn until(boxes: &Sandboxes, id: &str, word: &str) -> String {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let directory = boxes.rig.path("store/sandboxes").join(id);
    let inotify = Inotify::init(InitFlags::empty()).unwrap();
    inotify
        .add_watch(&directory, AddWatchFlags::IN_MOVED_TO)
        .unwrap();
    loop {
        let shown = boxes.says(&["ps", "-a", "--format", "{{.Status}}"]);
        if shown.contains(word) {
            return shown;
        }
        assert!(shown.starts_with("Up"), "{shown}");
        until_readable(&inotify, &format!("a change of {shown}"));
        inotify.read_events().unwrap();
    }
}

fn checks(boxes: &Sandboxes, id: &str) -> Vec<serde_json::Value> {
    let path = boxes
        .rig
        .path("store/sandboxes")
        .join(id)
        .join("health.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_check_joins_the_sandbox_and_its_verdict_follows_what_it_finds() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(
        &[
            "--health-cmd",
            "echo looked; test -e /tmp/well",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
        ],
        "trap 'touch /tmp/well' USR1; echo ready; while :; do sleep 0.05; done",
    );
    boxes.until_ready(&id);
    until(&boxes, &id, "(unhealthy)");
    let last = checks(&boxes, &id).pop().unwrap();
    assert_eq!(
        (last["code"].as_i64(), last["output"].as_str()),
        (Some(1), Some("looked\n"))
    );
    boxes.says(&["kill", "-s", "USR1", &id]);
    until(&boxes, &id, "(healthy)");
}

#[test]
fn a_check_that_takes_too_long_fails_and_is_ended() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(
        &[
            "--health-cmd",
            "sleep 1000",
            "--health-interval",
            "100ms",
            "--health-timeout",
            "200ms",
            "--health-retries",
            "1",
        ],
        "exec sleep 999",
    );
    until(&boxes, &id, "(unhealthy)");
    let last = checks(&boxes, &id).remove(0);
    assert_eq!(last["code"].as_i64(), Some(-1));
    assert!(
        last["output"].as_str().unwrap().contains("took longer"),
        "{last}"
    );
}

#[test]
fn a_check_whose_program_is_not_in_the_image_says_so_in_words() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(
        &[
            "--health-cmd",
            "pgrep agent",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
        ],
        "exec sleep 1000",
    );
    until(&boxes, &id, "(unhealthy)");
    let last = checks(&boxes, &id).remove(0);
    assert!(
        last["output"]
            .as_str()
            .unwrap()
            .contains("not in the image"),
        "{last}"
    );
}

#[test]
fn without_a_check_there_is_no_health() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--no-healthcheck"], "exec sleep 1000");
    let shown = boxes.says(&["ps", "--format", "{{.Status}}"]);
    assert!(!shown.contains('('), "{shown}");
}

#[test]
fn a_sandbox_without_a_command_has_its_health_checked_too() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let health = ["--health-cmd", "true", "--health-interval", "100ms"];
    let id = boxes.says(&[&["run", "-d"], &health[..], &[&image]].concat());
    until(&boxes, &id, "(healthy)");
}
