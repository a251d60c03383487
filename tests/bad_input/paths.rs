//! Places on the host that cannot be used.

use std::fs;
use std::os::unix::fs::symlink;

use crate::place::is_root;
use crate::refusal::assert_refused;
use crate::remains::watched;
use crate::rig::{Rig, binary, end};

#[track_caller]
fn refused(rig: &Rig, options: &[&str], words: &[&str]) {
    let output = end(watched(rig, rig.command(options, &["echo", "ran"]))
        .spawn()
        .unwrap());
    assert_refused(rig, &output, words);
}

#[test]
fn records_that_cannot_be_written_stop_the_run_beforehand() {
    let rig = Rig::new();
    let nowhere = rig.path("no/such/directory/file").display().to_string();
    let directory = rig.path("workspace").display().to_string();
    for option in ["--cidfile", "--receipt"] {
        refused(&rig, &[option, &nowhere], &[&nowhere]);
        refused(&rig, &[option, &directory], &[&directory]);
    }
}

#[test]
fn a_store_that_cannot_be_made_is_named() {
    let rig = Rig::new();
    fs::write(rig.path("file"), "").unwrap();
    let mut places = vec![
        rig.path("file"),
        rig.path("file/below"),
        "/proc/store".into(),
    ];
    if !is_root() {
        places.push("/etc".into());
        places.push("/usr/palisade-store".into());
    }
    let layout = crate::layout::write(
        &rig,
        "good.oci",
        &serde_json::json!({}),
        crate::layout::Packing::Tar,
    );
    for place in places {
        let mut command = std::process::Command::new(binary());
        command
            .args(["run", "--root"])
            .arg(&place)
            .arg(format!("oci:{}", layout.display()))
            .args(["echo", "ran"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let output = end(watched(&rig, command).spawn().unwrap());
        assert_refused(&rig, &output, &[&place.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().nth(1).unwrap().contains("--root"), "{said}");
    }
}

#[test]
fn a_source_that_cannot_be_shown_is_named() {
    let rig = Rig::new();
    symlink("loop", rig.path("loop")).unwrap();
    let looping = format!("{}:/w", rig.path("loop").display());
    refused(&rig, &["-v", &looping], &["loop"]);
    fs::write(rig.path("file"), "").unwrap();
    let below = format!("{}:/w", rig.path("file/below").display());
    refused(&rig, &["-v", &below], &["file/below"]);
    if !is_root() {
        refused(
            &rig,
            &["-v", "/no-such-directory-at-the-root:/w"],
            &["/no-such-directory-at-the-root"],
        );
    }
}

#[test]
fn a_working_directory_that_is_gone_is_said() {
    let rig = Rig::new();
    let gone = rig.path("gone");
    fs::create_dir(&gone).unwrap();
    // A shell that removes the directory it stands in.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "rmdir \"$PWD\" && exec \"$@\"", "sh"])
        .arg(binary())
        .args(["run", "host", "echo", "ran"])
        .current_dir(&gone)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = end(watched(&rig, command).spawn().unwrap());
    assert_refused(&rig, &output, &["working directory"]);
}

#[test]
fn a_file_cannot_be_the_working_directory() {
    let rig = Rig::new();
    refused(&rig, &["-w", "/bin/busybox"], &["bin/busybox"]);
}
