//! A sample of `integration/faults/run`, which needs python3 and does the rest when called by hand.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const PARTS: [(&str, &str); 3] = [
    ("run", include_str!("run")),
    ("tracer.py", include_str!("tracer.py")),
    ("probe.sh", include_str!("probe.sh")),
];

#[test]
fn no_failing_call_weakens_hangs_or_litters() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in PARTS {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let palisade = std::env::var_os("PALISADE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_palisade").into(), PathBuf::from);
    let mut python = Command::new("python3");
    python.arg(directory.path().join("run")).arg("--quick");
    python.env("PALISADE_BIN", palisade);
    let output = python.output().expect("python3 is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
}
