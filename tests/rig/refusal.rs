//! What a refusal looks like: exit 125, one line that says what, one that says what to do, and nothing half-made.

use std::process::Output;

use crate::remains::assert_nothing_remains;
use crate::rig::{Rig, code, describe, entries, text};

/// Asserts all of it, and that the first line has every one of `words`.
#[track_caller]
pub fn assert_refused(rig: &Rig, output: &Output, words: &[&str]) {
    assert_eq!(code(output), 125, "{}", describe(output));
    assert!(output.stdout.is_empty(), "{}", describe(output));
    let said = text(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{}", describe(output));
    assert!(lines[0].starts_with("error: "), "{}", describe(output));
    assert!(
        lines[1].starts_with("  try: ") && lines[1].len() > 10,
        "{}",
        describe(output)
    );
    for word in words {
        assert!(lines[0].contains(word), "no `{word}`: {}", describe(output));
    }
    assert_nothing_remains(rig, "");
}

/// Asserts that the store has neither a layer nor a part of one.
#[track_caller]
pub fn assert_store_empty(rig: &Rig) {
    for place in ["layers", "layers-kept", "records"] {
        let held = entries(&rig.path("store").join(place));
        assert!(held.is_empty(), "{place} holds {held:?}");
    }
}
