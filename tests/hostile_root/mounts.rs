//! Mount targets that lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use crate::rig::{
    Rig, assert_ran, assert_ran_or_refused, assert_refused, describe, fifo, is_refused, text,
};

/// Mounts the workspace on `target`, and writes in it.
fn mounted(rig: &Rig, target: &str) -> std::process::Output {
    let volume = format!("{}:{target}", rig.path("workspace").display());
    rig.sh(
        &["-v", &volume],
        &format!("echo ran; echo made >{target}/made; ls {target}"),
    )
}

#[test]
fn a_target_below_an_absolute_link_stays_inside() {
    let rig = Rig::new();
    symlink(rig.canary(), rig.image("a")).unwrap();
    assert_ran_or_refused(&mounted(&rig, "/a/b"));
    assert_ran_or_refused(&mounted(&rig, "/a"));
}

#[test]
fn a_target_below_a_relative_link_stays_inside() {
    let rig = Rig::new();
    symlink(rig.relative_canary(), rig.image("a")).unwrap();
    assert_ran_or_refused(&mounted(&rig, "/a/b"));
    assert_ran_or_refused(&mounted(&rig, "/a/inner"));
}

#[test]
fn a_target_through_proc_stays_inside() {
    let rig = Rig::new();
    symlink("/proc/self/root", rig.image("a")).unwrap();
    symlink("/proc/1/root", rig.image("b")).unwrap();
    symlink("/proc/self/fd", rig.image("c")).unwrap();
    for target in ["/a/x", "/b/x", "/c/3", "/c/0"] {
        assert_ran_or_refused(&mounted(&rig, target));
    }
}

#[test]
fn a_target_that_is_a_link_to_itself_is_refused() {
    let rig = Rig::new();
    symlink("a", rig.image("a")).unwrap();
    assert_refused(&mounted(&rig, "/a/b"));
}

#[test]
fn a_target_below_a_file_or_fifo_is_refused() {
    let rig = Rig::new();
    fs::write(rig.image("a"), "a file").unwrap();
    fifo(&rig.image("b"));
    for target in ["/a/x", "/a", "/b/x", "/b"] {
        assert_refused(&mounted(&rig, target));
    }
}

#[test]
fn the_workspace_cannot_take_the_place_of_what_protects() {
    for target in [
        "/",
        "/..",
        "/../..",
        "/proc",
        "/proc/sys",
        "/dev/..",
        ".",
        "",
    ] {
        let rig = Rig::new();
        fs::write(rig.path("workspace/keys"), "forged").unwrap();
        let output = mounted(&rig, target);
        assert_refused(&output);
    }
}

#[test]
fn a_mount_within_proc_leaves_masks_in_place() {
    for target in [
        "/proc/self",
        "/proc/keys",
        "/proc/1",
        "/proc/self/fd/0",
        "/proc/new",
    ] {
        let rig = Rig::new();
        let volume = format!("{}:{target}", rig.path("workspace").display());
        let output = rig.sh(
            &["-v", &volume],
            "echo ran; cat /proc/kallsyms /proc/timer_list",
        );
        assert_ran_or_refused(&output);
        assert!(text(&output.stdout).len() < 5, "{}", describe(&output));
    }
}

#[test]
fn a_link_of_the_image_leads_no_mount_onto_the_sandboxs_own_proc_or_dev() {
    // With a network of its own a thread masks /proc meanwhile; with the host's, /proc is masked before other mounts.
    for options in [&[][..], &["--network=host", "--best-effort"]] {
        assert_ran(&Rig::new().sh(options, "echo ran"));
        for (link, below) in [
            ("/proc", ""),
            ("/proc/sys", ""),
            ("/proc", "/sys/kernel"),
            ("proc/keys", ""),
            ("/proc/acpi", ""),
            ("/dev", ""),
            ("/dev/pts", ""),
            ("/dev/pts/ptmx", ""),
            ("/dev/mqueue", "/deep"),
            ("run/../dev", "/deep/er"),
            ("/dev/null", ""),
        ] {
            let rig = Rig::new();
            symlink(link, rig.image("a")).unwrap();
            fs::write(rig.path("workspace/file"), "forged").unwrap();
            let target = format!("/a{below}");
            let run = |option: &str, mount: &str| {
                let output = rig.sh(&[options, &[option, mount]].concat(), "echo ran");
                assert!(is_refused(&output), "{link}: {}", describe(&output));
                let said = text(&output.stderr);
                assert!(said.contains(&target), "{link}: {said}");
            };
            for source in ["workspace", "workspace/file"] {
                run("-v", &format!("{}:{target}", rig.path(source).display()));
            }
            run("--tmpfs", &target);
        }
    }
}

#[test]
fn a_link_to_another_place_of_the_sandbox_is_followed() {
    let rig = Rig::new();
    symlink("/run", rig.image("a")).unwrap();
    symlink("../dev/shm", rig.image("b")).unwrap();
    for target in ["/a/x", "/b/x"] {
        let output = mounted(&rig, target);
        assert_ran(&output);
    }
    assert!(rig.path("workspace/made").exists());
}

#[test]
fn a_mount_in_dev_or_tmp_is_a_mount_as_any() {
    for target in ["/dev/shm/deep", "/tmp/deep/er", "/run/x"] {
        let rig = Rig::new();
        let output = mounted(&rig, target);
        assert_ran(&output);
        assert!(rig.path("workspace/made").exists(), "{}", describe(&output));
    }
}

#[test]
fn a_tmpfs_on_a_link_stays_inside() {
    let rig = Rig::new();
    symlink(rig.canary(), rig.image("a")).unwrap();
    symlink("../../../proc", rig.image("b")).unwrap();
    for target in ["/a", "/a/b", "/b", "/b/sys"] {
        let script = format!("echo ran; echo made >{target}/made; cat /proc/kallsyms");
        let output = rig.sh(&["--tmpfs", target], &script);
        assert_ran_or_refused(&output);
    }
}
