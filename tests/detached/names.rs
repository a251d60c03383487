//! Finding sandboxes, and names as locks.

use crate::rig::{assert_code, describe, text};
use crate::sandbox::Sandboxes;

#[test]
fn a_name_in_use_is_refused_with_who_has_it_and_how_to_replace_it() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "web"], "sleep 1000");
    let image = boxes.image();
    let output = boxes.palisade(&["run", "-d", "--name", "web", &image, "true"]);
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(
        said.contains(&id[..12]) && said.contains("--replace"),
        "{said}"
    );
    let second = boxes.detached(&["--name", "web", "--replace"], "sleep 1000");
    assert_ne!(id, second);
    assert_eq!(boxes.states(), ["web running"]);
}

#[test]
fn of_many_that_want_a_name_at_once_one_gets_it() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let children: Vec<_> = (0..12)
        .map(|_| {
            boxes
                .command(&["create", "--name", "only", &image, "true"])
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(crate::rig::end).collect();
    let made = outputs
        .iter()
        .filter(|output| output.status.success())
        .count();
    assert_eq!(made, 1, "{outputs:?}");
    assert_eq!(boxes.states(), ["only created"]);
}

#[test]
fn a_renamed_sandbox_is_found_by_its_new_name_alone() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "old"], "sleep 1000");
    boxes.says(&["rename", "old", "new"]);
    assert_eq!(boxes.states(), ["new running"]);
    assert_code(&boxes.palisade(&["stop", "old"]), 1);
    boxes.says(&["stop", "-t", "1", "new"]);
    assert_code(&boxes.palisade(&["rename", "new", "no/name"]), 1);
}

#[test]
fn a_running_sandbox_is_removed_only_by_force_and_one_that_is_gone_without_complaint() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "web"], "sleep 1000");
    let output = boxes.palisade(&["rm", "web"]);
    assert_code(&output, 1);
    assert!(
        text(&output.stderr).contains("rm -f"),
        "{}",
        describe(&output)
    );
    boxes.says(&["rm", "-f", "web"]);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
    // As docker has it: no failure, and no word on standard output that it had been there.
    let output = boxes.palisade(&["rm", "-f", "web"]);
    assert_code(&output, 0);
    assert!(output.stdout.is_empty(), "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("no sandbox is named web"),
        "{}",
        describe(&output)
    );
}

#[test]
fn what_there_is_not_has_dockers_exit_codes() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    for verb in [
        "attach", "export", "inspect", "kill", "logs", "pause", "port", "restart", "rm", "start",
        "stats", "stop", "top", "unpause", "wait",
    ] {
        let output = boxes.palisade(&[verb, "nobody"]);
        assert_code(&output, 1);
        let said = text(&output.stderr);
        assert!(said.contains("nobody"), "{verb}: {said}");
    }
    for arguments in [
        &["rename", "nobody", "somebody"][..],
        &["cp", "nobody:/x", "/nowhere"],
        &["commit", "nobody", "new"],
        &["generate", "systemd", "nobody"],
        &["rmi", "nobody"],
        &["tag", "nobody", "somebody"],
        &["history", "nobody"],
        &["volume", "rm", "nobody"],
        &["container", "inspect", "nobody"],
        &["image", "inspect", "nobody"],
        &["ps", "--filter", "colour=red"],
    ] {
        assert_code(&boxes.palisade(arguments), 1);
    }
    for arguments in [
        &["exec", "nobody", "true"][..],
        &["run", "--memory", "x", &image, "true"],
        &["create", "--name", "no/name", &image],
        &["ps", "--no-such-option"],
        &["no-such-verb"],
    ] {
        assert_code(&boxes.palisade(arguments), 125);
    }
}

#[test]
fn events_after_a_renaming_have_the_new_name() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "old"], "sleep 1000");
    boxes.says(&["rename", "old", "new"]);
    boxes.says(&["stop", "-t", "0", "new"]);
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let events = boxes.says(&[
        "events", "--since", "1h", "--until", "0s", "--format", format,
    ]);
    let events: Vec<&str> = events.lines().collect();
    assert!(events.contains(&"start old"), "{events:?}");
    assert!(events.contains(&"rename new"), "{events:?}");
    assert!(events.contains(&"die new"), "{events:?}");
}

#[test]
fn a_run_in_the_foreground_with_a_name_is_seen_and_stopped_by_others() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let script = "echo ready; exec sleep 1000";
    let mut command = boxes.command(&["run", "--rm", "--name", "fore", &image, "sh", "-c", script]);
    let child = crate::rig::started(&mut command);
    // The command may be faster than the word that it runs.
    let states = boxes.states();
    assert!(
        states == ["fore running"] || states == ["fore created"],
        "{states:?}"
    );
    boxes.says(&["stop", "-t", "5", "fore"]);
    let output = crate::rig::end(child);
    assert_code(&output, 143);
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_plain_run_leaves_no_record() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.says(&["run", "--rm", &image, "true"]);
    assert!(boxes.states().is_empty());
}

#[test]
fn names_without_a_request_are_made_up_and_differ() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    for _ in 0..3 {
        boxes.says(&["create", &image, "true"]);
    }
    let mut names = boxes.states();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}
