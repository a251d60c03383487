//! `--policy`, `--network`, `--cap-add`, `--cap-drop`, `--security-opt`.

use std::fs;

use crate::place::is_root;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, text};

/// The value of one line of the command's /proc/self/status.
fn status(rig: &Rig, options: &[&str], field: &str) -> String {
    let script = format!(
        "while read -r name value; do [ $name = {field}: ] && echo $value; done </proc/self/status; :"
    );
    let output = run_without_remains(rig, options, &["sh", "-c", &script]);
    assert_code(&output, 0);
    text(&output.stdout).trim_end().to_owned()
}

#[test]
fn a_command_has_no_capability_unless_one_is_added() {
    let rig = Rig::new();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&rig, &[], set), "0000000000000000", "{set}");
        // CAP_NET_BIND_SERVICE is number 10.
        for name in ["NET_BIND_SERVICE", "cap_net_bind_service"] {
            assert_eq!(
                status(&rig, &["--cap-add", name], set),
                "0000000000000400",
                "{set}"
            );
        }
    }
}

#[test]
fn a_capability_that_is_dropped_is_gone_whatever_was_added() {
    let rig = Rig::new();
    let options = [
        "--cap-add",
        "CHOWN",
        "--cap-add",
        "KILL",
        "--cap-drop",
        "CHOWN",
    ];
    assert_eq!(status(&rig, &options, "CapEff"), "0000000000000020");
    let options = ["--cap-drop", "ALL", "--cap-add", "KILL"];
    assert_eq!(status(&rig, &options, "CapEff"), "0000000000000020");
    let all = u64::from_str_radix(&status(&rig, &["--cap-add", "ALL"], "CapEff"), 16).unwrap();
    assert_eq!(all & 0xff_ffff_ffff, 0xff_ffff_ffff);
}

#[test]
fn root_inside_has_no_capability_either() {
    let rig = Rig::new();
    assert_eq!(status(&rig, &["--user", "0"], "CapEff"), "0000000000000000");
    assert_eq!(status(&rig, &["--user", "0"], "CapBnd"), "0000000000000000");
}

#[test]
fn no_new_privileges_holds_with_and_without_the_option() {
    let rig = Rig::new();
    for options in [
        &[][..],
        &["--security-opt", "no-new-privileges"],
        &["--security-opt", "no-new-privileges:true"],
        &["--security-opt", "seccomp=unconfined"],
    ] {
        assert_eq!(status(&rig, options, "NoNewPrivs"), "1", "{options:?}");
    }
}

#[test]
fn system_calls_are_filtered_unless_that_is_taken_away() {
    let rig = Rig::new();
    assert_eq!(status(&rig, &[], "Seccomp"), "2");
    let options = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(status(&rig, &options, "Seccomp"), "0");
    let output = rig.run(&options, &["true"]);
    assert!(
        text(&output.stderr).contains("note: no system call is filtered"),
        "{}",
        describe(&output)
    );
    assert!(
        rig.run(&["-q", options[0], options[1]], &["true"])
            .stderr
            .is_empty()
    );
}

#[test]
fn a_profile_of_dockers_form_is_the_filter() {
    let rig = Rig::new();
    let profile = rig.path("profile.json");
    fs::write(
        &profile,
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#,
    )
    .unwrap();
    let option = format!("seccomp={}", profile.display());
    let output = run_without_remains(&rig, &["--security-opt", &option], &["mkdir", "/tmp/d"]);
    assert_code(&output, 1);
    assert!(
        text(&output.stderr).contains("No space left"),
        "{}",
        describe(&output)
    );
    assert_code(&rig.run(&[], &["mkdir", "/tmp/d"]), 0);
}

#[test]
fn every_built_in_policy_runs_a_command() {
    let rig = Rig::new();
    for policy in ["strict", "default", "compat", "task"] {
        // Only root can surely have the limits of `task`.
        if policy == "task" && !is_root() {
            continue;
        }
        let output = run_without_remains(&rig, &["--policy", policy], &["echo", "ran"]);
        assert_eq!(
            text(&output.stdout),
            "ran\n",
            "{policy}: {}",
            describe(&output)
        );
    }
}

#[test]
fn a_policy_file_refines_a_built_in_one() {
    let rig = Rig::new();
    let file = rig.path("policy.toml");
    fs::write(
        &file,
        "name = \"mine\"\nextends = \"default\"\n\n[filesystem]\ndeny = [\"/bin/not-executable\"]\n\n\
         [environment.set]\nFROM_POLICY = \"yes\"\n",
    )
    .unwrap();
    let option = file.display().to_string();
    let script = "echo $FROM_POLICY; cat /bin/not-executable 2>/dev/null";
    let output = run_without_remains(&rig, &["--policy", &option], &["sh", "-c", script]);
    assert_eq!(text(&output.stdout), "yes\n", "{}", describe(&output));
    let output = rig.run(&[], &["cat", "/bin/not-executable"]);
    assert_eq!(text(&output.stdout), "#!/bin/sh\n", "{}", describe(&output));
}

#[test]
fn no_network_means_loopback_alone_and_up() {
    let rig = Rig::new();
    let script = "while read -r name rest; do case $name in *:*) echo ${name%%:*};; esac; done </proc/net/dev; \
                  busybox ping -c 1 127.0.0.1 >/dev/null 2>&1; busybox nc -w 1 127.0.0.1 1 </dev/null";
    let output = run_without_remains(&rig, &["--network", "none"], &["sh", "-c", script]);
    assert_eq!(text(&output.stdout), "lo\n", "{}", describe(&output));
    // A loopback that is down says that the network is unreachable.
    assert!(
        text(&output.stderr).contains("refused"),
        "{}",
        describe(&output)
    );
}

#[test]
fn the_hosts_network_is_the_hosts() {
    let rig = Rig::new();
    let link = ["busybox", "readlink", "/proc/self/ns/net"];
    let host = fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    for option in ["--network=host", "--net=host"] {
        let output = run_without_remains(&rig, &[option], &link);
        assert_eq!(
            text(&output.stdout).trim_end(),
            host,
            "{}",
            describe(&output)
        );
    }
    let output = run_without_remains(&rig, &[], &link);
    assert_code(&output, 0);
    assert_ne!(text(&output.stdout).trim_end(), host);
}
