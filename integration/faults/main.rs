//! A sample of `integration/faults/run`, which needs python3 and does the rest when called by hand.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const PARTS: [(&str, &str); 4] = [
    ("run", include_str!("run")),
    ("pretended", include_str!("pretended")),
    ("tracer.py", include_str!("tracer.py")),
    ("probe.sh", include_str!("probe.sh")),
];

#[test]
fn no_failing_call_weakens_hangs_or_litters() {
    python(&["run", "--quick"]);
}

#[test]
fn a_protection_that_only_seems_to_be_set_up_stops_the_run() {
    python(&["pretended"]);
}

fn python(arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in PARTS {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let palisade = std::env::var_os("PALISADE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_palisade").into(), PathBuf::from);
    let mut python = Command::new("python3");
    python.arg(directory.path().join(arguments[0]));
    python.args(&arguments[1..]);
    python.env("PALISADE_BIN", palisade);
    let output = python.output().expect("python3 is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
}
