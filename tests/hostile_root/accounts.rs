//! User tables made to be read for ever, or from somewhere else.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::rig::{Rig, assert_ran_or_refused, assert_refused, fifo};

/// Runs as the default user, by number, and by names that only the table could resolve.
fn each(make: impl Fn(&Rig, &Path)) {
    for name in ["passwd", "group"] {
        let rig = Rig::new();
        fs::create_dir(rig.image("etc")).unwrap();
        make(&rig, &rig.image("etc").join(name));
        let script = "echo ran; cat /etc/passwd /etc/group >/dev/null; id";
        assert_ran_or_refused(&rig.sh(&[], script));
        assert_ran_or_refused(&rig.sh(&["--user", "0"], script));
        assert_refused(&rig.sh(&["--user", "somebody"], script));
        assert_refused(&rig.sh(&["--user", "1000:somebody"], script));
    }
}

#[test]
fn a_table_that_is_a_link_to_the_process_is_not_read() {
    each(|_, path| symlink("/proc/self/environ", path).unwrap());
}

#[test]
fn a_table_that_is_a_link_to_the_host_is_not_read() {
    each(|rig, path| symlink(rig.canary().join("passwd"), path).unwrap());
    each(|rig, path| symlink(rig.relative_canary().join("passwd"), path).unwrap());
}

#[test]
fn a_table_that_is_a_device_of_the_host_is_not_read() {
    each(|_, path| symlink("/dev/zero", path).unwrap());
}

#[test]
fn a_table_that_is_a_directory_is_no_table() {
    each(|_, path| fs::create_dir(path).unwrap());
}

#[test]
fn a_table_that_is_a_fifo_blocks_nobody() {
    each(|_, path| fifo(path));
}

#[test]
fn a_table_of_a_hundred_megabytes_is_not_read_whole() {
    each(|_, path| File::create(path).unwrap().set_len(100 << 20).unwrap());
}

#[test]
fn a_table_of_broken_lines_gives_nobody_an_id() {
    each(|_, path| {
        fs::write(
            path,
            b"somebody\nsomebody:x\nsomebody:x:-1:-1::/:\nsomebody:x:99999999999:0::/:/\n\xff\0:::::\n",
        )
        .unwrap();
    });
}

#[test]
fn a_home_directory_of_a_table_leads_nowhere_outside() {
    for home in [
        "../../../..",
        "/proc/self/root",
        "/dev",
        "/..",
        "relative",
        "",
    ] {
        let rig = Rig::new();
        fs::create_dir(rig.image("etc")).unwrap();
        let line = format!("somebody:x:1000:1000::{home}:/bin/sh\n");
        fs::write(rig.image("etc/passwd"), line).unwrap();
        assert_ran_or_refused(
            &rig.sh(&["--user", "somebody"], "echo ran; echo made >~/made; true"),
        );
    }
}
