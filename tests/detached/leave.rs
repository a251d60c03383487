//! Keys that leave a terminal without ending what runs there.

use crate::rig::{text, until_none_with};
use crate::sandbox::Sandboxes;
use crate::screen::Screen;

const SIZE: (u16, u16) = (24, 80);

/// Says what it reads, and goes on when it reads nothing.
const ECHO: &str = "echo ready; while read -r line; do echo \"<$line>\"; done";

fn screen(boxes: &Sandboxes, arguments: &[&str]) -> Screen {
    Screen::new(SIZE, arguments, &boxes.rig.path("store"))
}

/// What a cat in the sandbox is to be known by.
fn command(boxes: &Sandboxes) -> String {
    format!(": {}; {ECHO}", boxes.rig.mark())
}

#[test]
fn a_run_that_was_given_keys_is_left_by_them_and_attached_to_again() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let keys = "ctrl-a,x";
    let mut first = screen(
        &boxes,
        &[
            "run",
            "-it",
            "--name",
            "app",
            "--detach-keys",
            keys,
            &image,
            "sh",
            "-c",
            ECHO,
        ],
    );
    first.until("ready");
    // What only begins like the keys is passed on, whole.
    first.press("one\u{1}y\n");
    first.until("<one\u{1}y>");
    first.press("\u{1}x");
    let (seen, code) = first.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(boxes.states(), ["app running"]);

    let mut second = screen(&boxes, &["attach", "app"]);
    second.press("two\n");
    second.until("<two>");
    second.press("\u{10}\u{11}");
    let (seen, code) = second.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(boxes.states(), ["app running"]);

    let mut third = screen(&boxes, &["attach", "--detach-keys", "q", "app"]);
    third.press("q");
    assert_eq!(third.end().1, 0);
    boxes.says(&["stop", "-t", "0", "app"]);
    let mut again = screen(&boxes, &["start", "-ai", "--detach-keys=ctrl-a", "app"]);
    again.until("ready");
    again.press("\u{1}");
    assert_eq!(again.end().1, 0);
    assert_eq!(boxes.states(), ["app running"]);
}

#[test]
fn a_run_that_can_be_left_has_its_commands_exit_code_and_goes_with_rm() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    for script in ["echo done; exit 9", "exit 9"] {
        let run = [
            "run",
            "--rm",
            "-it",
            "--detach-keys",
            "ctrl-a",
            &image,
            "sh",
            "-c",
            script,
        ];
        let (seen, code) = screen(&boxes, &run).end();
        assert_eq!(code, 9, "{seen}");
    }
    let missing = [
        "run",
        "--rm",
        "-it",
        "--detach-keys",
        "ctrl-a",
        &image,
        "no-such-program",
    ];
    let (seen, code) = screen(&boxes, &missing).end();
    assert_eq!(code, 127, "{seen}");
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_command_that_joined_goes_on_when_it_is_left_and_ends_with_its_sandbox() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "app"], "while :; do sleep 0.05; done");
    let script = command(&boxes);
    let mut joined = screen(&boxes, &["exec", "-it", "app", "sh", "-c", &script]);
    joined.until("ready");
    joined.press("here\n");
    joined.until("<here>");
    joined.press("\u{10}\u{11}");
    let (seen, code) = joined.end();
    assert_eq!(code, 0, "{seen}");
    let listed = boxes.says(&["top", "app"]);
    assert!(listed.contains(&boxes.rig.mark()), "{listed}");
    boxes.says(&["rm", "-f", "app"]);
    // The process that held its terminal ends with it, too.
    until_none_with(&boxes.rig.mark());
}

#[test]
fn keys_that_are_none_are_refused() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.detached(&["--name", "app"], "sleep 1000");
    for (arguments, expected) in [
        (
            &["run", "-it", "--detach-keys", "ctrl-", &image, "true"][..],
            125,
        ),
        (&["exec", "-it", "--detach-keys", "ab", "app", "true"], 125),
        (&["attach", "--detach-keys", "a,,b", "app"], 1),
        (&["start", "-ai", "--detach-keys", "ctrl-A", "app"], 1),
    ] {
        let output = boxes.palisade(arguments);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("is no list of keys"), "{arguments:?}: {said}");
    }
}
