//! Options with values that cannot be.

use std::panic::catch_unwind;

use crate::refusal::assert_refused;
use crate::remains::watched;
use crate::rig::{Rig, describe, end};

/// Every line is an option and a value that it cannot have.
const WRONG: &str = "\
--no-such-option x
--memory abc
--memory 1
--memory -1
--memory 1.5.2g
--memory 99999999999999999999g
--memory-swap abc
--cpus abc
--cpus -1
--cpus nan
--cpus inf
--cpus 100000
--cpuset-cpus x
--cpuset-cpus 1-
--cpuset-cpus 3-1
--cpuset-cpus 999999
--pids-limit x
--pids-limit 1.5
--shm-size x
--ulimit nofile
--ulimit nofile=x
--ulimit nofile=2:1
--ulimit nosuch=1
--ulimit nofile=99999999999
--cap-add NOSUCH
--cap-drop NOSUCH
--security-opt nosuch
--security-opt seccomp=
--security-opt seccomp=/no/such/file
--security-opt no-new-privileges:false
--security-opt no-new-privileges:maybe
--device relative
--device /dev/no-such-device
--device /etc/passwd
--device /dev/null:/dev/x:q
--network bridge
--network container:x
--network no-such-network
--hostname a b
--hostname -a
--stop-signal NOSUCH
--stop-signal 65
--stop-timeout x
--stop-timeout -5
--timeout soon
--timeout -1s
--timeout 5parsecs
--label =x
--name -x
--name a/b
--platform linux
--platform plan9/amd64
--platform linux/no-such/x/y
--policy no-such-policy
--policy /no/such/policy.toml
--policy ./policy.txt
--userns nosuch
--user no-such-user
--group-add no-such-group
--env =x
--env-file /no/such/file
--workdir relative
--workdir /a/../b
--tmpfs relative
--tmpfs /
--tmpfs /proc
--tmpfs /dev
--tmpfs /c:size=x
--tmpfs /c:nosuch
--tmpfs /c:mode=999
--mount nonsense
--mount type=nfs,src=/a,dst=/b
--mount type=bind,dst=/b
--mount type=bind,src=/tmp
--mount type=bind,src=/no/such/source,dst=/b
--mount type=bind,src=/tmp,dst=/b,nosuch=1
--mount type=tmpfs,dst=/b,tmpfs-size=x
--volume na$med:/b
--volume /tmp:relative
--volume /tmp:/
--volume /tmp:/proc
--volume /tmp:/proc/sys
--volume /tmp:/dev
--volume /tmp:/a/../b
--volume /tmp:/b:wo
--volume /a:/b:ro:x
--volume :/b
--oom-score-adj 5000
--cpu-shares x
--init=maybe";

#[test]
fn every_value_that_cannot_be_is_refused_with_its_option_and_a_way_out() {
    let rig = Rig::new();
    let mut wrong = Vec::new();
    for line in WRONG.lines() {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        let given = if value.is_empty() {
            vec![option]
        } else {
            vec![option, value]
        };
        let output = end(watched(&rig, rig.command(&given, &["echo", "ran"]))
            .spawn()
            .unwrap());
        if catch_unwind(|| assert_refused(&rig, &output, &[])).is_err() {
            wrong.push(format!("{line}: {}", describe(&output)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_option_of_dockers_that_is_not_here_says_what_is() {
    let rig = Rig::new();
    for (options, instead) in [
        (&["--privileged"][..], "--policy"),
        (&["-P"], "--network host"),
        (&["-p", "8080:80"], "--network host"),
        (&["--publish", "8080:80"], "--network host"),
        (&["--interactiv"], "--interactive"),
        (&["--memmory=1g"], "--memory"),
    ] {
        let output = end(watched(&rig, rig.command(options, &["echo", "ran"]))
            .spawn()
            .unwrap());
        assert_refused(&rig, &output, &["has no option"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().nth(1).unwrap().contains(instead), "{said}");
    }
}

#[test]
fn an_option_without_its_value_and_a_run_without_an_image_are_refused() {
    let rig = Rig::new();
    for arguments in [
        &["run"][..],
        &["run", "--rm"],
        &["run", "--env"],
        &["run", "-e"],
        &["run", "-q", "--memory"],
    ] {
        let mut command = std::process::Command::new(crate::rig::binary());
        command
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let output = end(watched(&rig, command).spawn().unwrap());
        assert_refused(&rig, &output, &[]);
    }
}

#[test]
fn two_mounts_on_one_place_are_refused() {
    let rig = Rig::new();
    let volume = format!("{}:/w", rig.path("workspace").display());
    let output = end(watched(
        &rig,
        rig.command(&["-v", &volume, "--tmpfs", "/w/"], &["true"]),
    )
    .spawn()
    .unwrap());
    assert_refused(&rig, &output, &["two mounts on /w"]);
}
