//! Programs that are not what they seem.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::rig::{Rig, assert_ran, assert_refused, describe, fifo, text};

fn executable(rig: &Rig, name: &str, content: &[u8]) {
    fs::write(rig.image(name), content).unwrap();
    fs::set_permissions(rig.image(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_setuid_program_gives_no_other_user() {
    let rig = Rig::new();
    fs::copy("/bin/busybox", rig.image("bin/become")).unwrap();
    fs::set_permissions(rig.image("bin/become"), fs::Permissions::from_mode(0o6755)).unwrap();
    for options in [&[][..], &["--policy", "compat"], &["--user", "65534"]] {
        let script = "echo ran; become grep -E '^(Uid|Gid|CapEff|CapPrm)' /proc/self/status";
        let output = rig.sh(options, script);
        assert_ran(&output);
        for line in text(&output.stdout).lines().skip(1) {
            let values: Vec<_> = line.split_whitespace().skip(1).collect();
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{line}");
            assert_ne!(values[0], "0", "{line}");
            assert!(
                !line.starts_with("Cap") || values == ["0000000000000000"],
                "{line}"
            );
        }
    }
}

#[test]
fn a_missing_interpreter_is_named() {
    let rig = Rig::new();
    executable(&rig, "bin/script", b"#!/opt/missing/interpreter\n");
    let output = rig.run(&[], &["script"]);
    assert_eq!(output.status.code(), Some(127), "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("/opt/missing/interpreter"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_script_that_interprets_itself_ends() {
    let rig = Rig::new();
    executable(&rig, "bin/script", b"#!/bin/script\n");
    assert_refused(&rig.run(&[], &["script"]));
}

#[test]
fn an_interpreter_with_an_endless_name_is_refused() {
    let rig = Rig::new();
    executable(
        &rig,
        "bin/script",
        &[b"#!/", "x".repeat(100_000).as_bytes()].concat(),
    );
    assert_refused(&rig.run(&[], &["script"]));
}

#[test]
fn a_program_of_another_architecture_cannot_be_run() {
    let rig = Rig::new();
    let mut program = fs::read("/bin/busybox").unwrap();
    // e_machine (elf(5)): one that nobody emulates.
    program[18..20].copy_from_slice(&0x1234_u16.to_le_bytes());
    executable(&rig, "bin/foreign", &program);
    let output = rig.run(&[], &["foreign"]);
    assert_eq!(output.status.code(), Some(126), "{}", describe(&output));
    assert_refused(&output);
}

#[test]
fn a_damaged_program_cannot_be_run() {
    let whole = fs::read("/bin/busybox").unwrap();
    for content in [
        &whole[..4],
        &whole[..100],
        b"\x7fELF",
        b"\0\0\0\0",
        b"#!",
        b"#!\n",
    ] {
        let rig = Rig::new();
        executable(&rig, "bin/damaged", content);
        let output = rig.run(&[], &["/bin/damaged"]);
        assert!(output.stdout.is_empty(), "{}", describe(&output));
        assert_ne!(output.status.code(), Some(0), "{}", describe(&output));
    }
}

#[test]
fn a_fifo_or_directory_cannot_be_run() {
    let rig = Rig::new();
    fifo(&rig.image("bin/pipe"));
    fs::create_dir(rig.image("bin/directory")).unwrap();
    for name in ["/bin/pipe", "/bin/directory", "pipe", "directory"] {
        assert_refused(&rig.run(&[], &[name]));
    }
}

#[test]
fn a_program_is_looked_for_inside_alone() {
    let rig = Rig::new();
    fs::copy("/bin/busybox", rig.canary().join("outside")).unwrap();
    symlink(rig.canary(), rig.image("link")).unwrap();
    symlink(rig.canary().join("outside"), rig.image("bin/outside")).unwrap();
    let relative = rig.relative_canary().display().to_string();
    let absolute = rig.canary().display().to_string();
    for path in [
        "",
        ":",
        ".",
        "/link",
        "/bin",
        &relative,
        &absolute,
        "/proc/self/fd",
    ] {
        let output = rig.run(&["-e", &format!("PATH={path}")], &["outside"]);
        assert_refused(&output);
    }
    for program in [format!("{absolute}/outside"), format!("{relative}/outside")] {
        assert_refused(&rig.run(&[], &[&program]));
    }
}

#[test]
fn libraries_and_preloads_of_the_image_reach_no_part_of_palisade() {
    let rig = Rig::new();
    executable(&rig, "bin/evil.so", SCRIPT);
    let options = [
        "-e",
        "LD_PRELOAD=/bin/evil.so",
        "-e",
        "LD_LIBRARY_PATH=/bin",
    ];
    assert_ran(&rig.sh(&options, "echo ran"));
}

const SCRIPT: &[u8] = b"#!/bin/sh\necho evil\n";
