//! What a receipt says while the run goes on, when palisade is killed, and of runs that never began.

use std::fs;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::rig::{Rig, assert_code, end, entries, pid, started};
use crate::{assert_broken, assert_good, receipt};

fn read(path: &PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn place(rig: &Rig) -> (PathBuf, String) {
    let path = rig.path("workspace/receipt.json");
    let option = format!("--receipt={}", path.display());
    (path, option)
}

#[test]
fn a_receipt_says_that_the_run_goes_on_until_it_has_ended() {
    let rig = Rig::new();
    let (path, option) = place(&rig);
    let child = started(&mut rig.script(&[&option], "echo ready; exec sleep 1000"));
    let begun = read(&path);
    assert_eq!(
        (&begun["state"], &begun["result"], &begun["end"]),
        (&"running".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(begun["command"]["argv"][0], "sh");
    let said = assert_broken(&[], &[&path]);
    assert!(said.contains("the run has not ended yet"), "{said}");
    kill(pid(&child), Signal::SIGTERM).unwrap();
    assert_code(&end(child), 143);
    let ended = read(&path);
    assert_eq!(ended["state"], "ended");
    assert_eq!(ended["result"]["signal_name"], "SIGTERM");
    assert_eq!(
        (&ended["id"], &ended["start"]),
        (&begun["id"], &begun["start"])
    );
    assert_good(&[], &[&path]);
}

/// A killed palisade's sandbox dies a moment later, and with it the last holder of the receipt's lock.
fn wait_for_its_sandbox(receipt: &PathBuf) {
    let lock = nix::libc::flock {
        l_type: i16::try_from(nix::libc::F_RDLCK).unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let file = fs::File::open(receipt).unwrap();
    fcntl(file, FcntlArg::F_OFD_SETLKW(&lock)).unwrap();
}

#[test]
fn a_palisade_that_was_killed_leaves_a_receipt_that_says_so() {
    let rig = Rig::new();
    let (path, option) = place(&rig);
    let mut child = started(&mut rig.script(&[&option], "echo ready; exec sleep 1000"));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    wait_for_its_sandbox(&path);
    assert_eq!(read(&path)["state"], "running");
    let said = assert_broken(&[], &[&path]);
    assert!(
        said.contains("the run never ended: palisade was killed"),
        "{said}"
    );
    let shown = receipt(&["show"], &[&path]);
    assert!(crate::rig::text(&shown.stdout).contains("result       running\n"));
    // The next run takes its place.
    assert_code(&rig.run(&[&option], &["true"]), 0);
    assert_good(&[], &[&path]);
    assert_eq!(entries(&rig.path("workspace")), ["receipt.json"]);
}

#[test]
fn every_run_that_fails_before_its_command_has_a_receipt() {
    let rig = Rig::new();
    let (path, option) = place(&rig);
    let cidfile = rig.path("taken");
    fs::write(&cidfile, "").unwrap();
    let taken = format!("--cidfile={}", cidfile.display());
    let loose = rig.path("loose.toml");
    fs::write(&loose, "no-such-key = 1\n").unwrap();
    let policy = format!("--policy={}", loose.display());
    for refused in [
        taken.as_str(),
        &policy,
        "--user=nobody-there",
        "--policy=none-such",
    ] {
        assert_code(&rig.run(&[&option, refused], &["true"]), 125);
        let receipt = read(&path);
        assert_eq!(receipt["result"]["reason"], "setup", "{refused}");
        assert!(receipt["result"]["error"].is_string());
        assert_good(&[], &[&path]);
        fs::remove_file(&path).unwrap();
    }
    let missing = crate::place::on(&rig, &[&option], "oci:/nonexistent/image", &["true"]);
    let mut missing = missing;
    assert_code(&end(missing.spawn().unwrap()), 125);
    assert_eq!(read(&path)["image"]["reference"], "oci:/nonexistent/image");
}

#[test]
fn two_runs_of_the_same_thing_differ_in_id_times_and_usage_alone() {
    let rig = Rig::new();
    let (path, option) = place(&rig);
    let same = |script: &str| {
        // Where no control group can be had, what is missing is said without the sandbox's id.
        let limited = ["--best-effort", "--memory", "64m"];
        let options = [option.as_str(), "--hostname", "same", "--receipt-output"];
        rig.sh(&[&options[..], &limited].concat(), script);
        let mut receipt = read(&path);
        for field in ["id", "start", "end", "usage", "digest"] {
            receipt.as_object_mut().unwrap().remove(field).unwrap();
        }
        receipt
    };
    for script in ["echo out; echo err >&2", "exit 3", "kill -9 $$"] {
        assert_eq!(same(script), same(script));
    }
}

#[test]
fn a_receipt_that_could_not_be_written_in_the_end_is_told_and_the_exit_code_stays() {
    let rig = Rig::new();
    let directory = rig.path("gone");
    fs::create_dir(&directory).unwrap();
    let option = format!("--receipt={}", directory.join("receipt.json").display());
    let volume = format!("{}:/gone", rig.path("").display());
    // The command takes away the place.
    let output = rig.sh(&[&option, "-v", &volume], "rm -r /gone/gone; exit 3");
    assert_code(&output, 3);
    let said = crate::rig::text(&output.stderr);
    assert!(said.contains("warning: write the receipt"), "{said}");
    assert!(!said.contains("os error"), "{said}");
}
