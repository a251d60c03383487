//! What palisade says of a run after it: the reason of its end, the cap on its output, and its receipt.

mod chain;
mod output;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
mod reasons;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod signature;
mod state;

use std::path::Path;
use std::process::{Command, Output};

/// `palisade receipt ARGUMENTS`.
fn receipt(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(rig::binary())
        .arg("receipt")
        .args(arguments)
        .args(files)
        .output()
        .unwrap()
}

/// Asserts that `palisade receipt verify` finds nothing wrong, and returns what it says.
#[track_caller]
fn assert_good(arguments: &[&str], files: &[&Path]) -> String {
    let all: Vec<&str> = ["verify"].iter().chain(arguments).copied().collect();
    let output = receipt(&all, files);
    rig::assert_code(&output, 0);
    rig::text(&output.stdout)
}

/// Asserts that it finds something wrong, and returns what it says.
#[track_caller]
fn assert_broken(arguments: &[&str], files: &[&Path]) -> String {
    let all: Vec<&str> = ["verify"].iter().chain(arguments).copied().collect();
    let output = receipt(&all, files);
    rig::assert_code(&output, 1);
    rig::text(&output.stdout)
}
