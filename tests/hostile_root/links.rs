//! Directories that a sandbox needs, as something else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::rig::{Rig, assert_ran, assert_ran_or_refused, assert_refused, binary, fifo, text};

const NEEDED: [&str; 8] = ["dev", "etc", "home", "proc", "run", "sys", "tmp", "var"];

/// Runs a script that reads and writes in each needed directory, of which one is what `make` made of it.
fn each(make: impl Fn(&Rig, &Path)) {
    for name in NEEDED {
        let rig = Rig::new();
        make(&rig, &rig.image(name));
        let script = format!(
            "echo ran; ls -la /{name}/ /{name}/inner; cat /{name}/secret; echo made >/{name}/made; \
             echo made >/{name}/null; cat /dev/null; true"
        );
        assert_ran_or_refused(&rig.sh(&[], &script));
        // With everything writable that can be.
        assert_ran_or_refused(&rig.sh(&["--read-only=false"], &script));
    }
}

#[test]
fn an_absolute_link_leads_nowhere_outside() {
    each(|rig, path| symlink(rig.canary(), path).unwrap());
}

#[test]
fn a_relative_link_leads_nowhere_outside() {
    each(|rig, path| symlink(rig.relative_canary(), path).unwrap());
}

#[test]
fn a_link_to_above_the_root_stays_in_the_root() {
    each(|_, path| symlink("../../..", path).unwrap());
}

#[test]
fn a_dangling_link_is_no_place() {
    each(|_, path| symlink("/missing/place", path).unwrap());
}

#[test]
fn a_link_to_itself_ends() {
    each(|_, path| symlink(path.file_name().unwrap(), path).unwrap());
}

#[test]
fn a_link_into_proc_is_not_followed_to_the_host() {
    each(|_, path| symlink("/proc/self/root", path).unwrap());
    each(|_, path| symlink("/proc/1/cwd", path).unwrap());
    each(|_, path| symlink("/proc/self/fd/3", path).unwrap());
}

#[test]
fn a_fifo_in_place_of_a_directory_blocks_nobody() {
    each(|_, path| fifo(path));
}

#[test]
fn a_file_in_place_of_a_directory_is_not_written() {
    each(|_, path| fs::write(path, "a file").unwrap());
}

#[test]
fn a_null_device_of_the_image_masks_nothing() {
    // CVE-2025-31133: masks come from the host's device, whatever the image has there.
    let rig = Rig::new();
    fs::create_dir(rig.image("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", rig.image("dev/null")).unwrap();
    let output = rig.sh(
        &[],
        "echo ran; stat -c %t:%T /dev/null; cat /proc/keys /proc/kallsyms /proc/timer_list",
    );
    assert_ran(&output);
    assert_eq!(text(&output.stdout), "ran\n1:3\n");
}

#[test]
fn a_null_device_of_the_host_that_is_another_device_masks_nothing() {
    // CVE-2025-31133, from the other side.
    for other in ["/dev/zero", "a file"] {
        let rig = Rig::new();
        let file = rig.path("workspace/file").display().to_string();
        fs::write(&file, "read by everybody").unwrap();
        let other = if other == "a file" { &file } else { other };
        let output = Command::new("unshare")
            .args(["-Urm", "sh", "-c"])
            .arg(format!(
                "mount --bind {other} /dev/null && exec \"$0\" \"$@\""
            ))
            .arg(binary())
            .args(["run", "--rm", "--root"])
            .arg(rig.path("store"))
            .arg(format!("dir:{}", rig.path("image").display()))
            .args(["sh", "-c", "echo ran"])
            .output()
            .unwrap();
        assert_refused(&output);
        let said = text(&output.stderr);
        assert!(said.contains("not the null device"), "{said}");
    }
}

#[test]
fn a_terminal_device_of_the_image_is_not_used() {
    // CVE-2025-52565.
    let rig = Rig::new();
    fs::create_dir_all(rig.image("dev/pts")).unwrap();
    symlink(rig.canary().join("null"), rig.image("dev/pts/ptmx")).unwrap();
    symlink(rig.canary().join("null"), rig.image("dev/console")).unwrap();
    symlink(rig.canary().join("null"), rig.image("dev/ptmx")).unwrap();
    let output = rig.sh(&[], "echo ran; readlink /dev/ptmx; ls /dev/console");
    assert_ran(&output);
    assert_eq!(text(&output.stdout), "ran\npts/ptmx\n");
}

#[test]
fn there_is_nothing_above_the_root() {
    for options in [&[][..], &["--read-only=false"], &["--user", "0"]] {
        for landlock in [&[][..], &["--security-opt", "landlock=unconfined"]] {
            let rig = Rig::new();
            let options = [options, landlock].concat();
            let output = rig.sh(&options, "echo ran; stat -c %d:%i / /.. /../..; ls -a /..");
            assert_ran(&output);
            let said = text(&output.stdout);
            let lines: Vec<_> = said.lines().collect();
            assert_eq!([lines[1], lines[1]], [lines[2], lines[3]], "{options:?}");
            assert!(
                !said.contains("work\n") && !said.contains("usr\n"),
                "{said}"
            );
        }
    }
}
