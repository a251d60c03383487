//! Denied system calls are counted, named and explained, and fail as they do where nobody watches.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::rig::{
    Guard, Rig, assert_code, binary, describe, end, pid, processes_with, started, text,
};

/// Five refused calls of one kind, and one of another, by busybox.
const SIX: &str = "i=0; while [ $i -lt 5 ]; do busybox chroot / true; i=$((i + 1)); done; busybox mount -t tmpfs x /tmp";

fn receipt(rig: &Rig) -> Value {
    serde_json::from_slice(&fs::read(rig.path("receipt.json")).unwrap()).unwrap()
}

fn receipt_option(rig: &Rig) -> String {
    format!("--receipt={}", rig.path("receipt.json").display())
}

/// The names and counts of what was refused.
fn counted(denials: &Value) -> Vec<(String, u64)> {
    denials["system_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| {
            let name = refused["name"].as_str().unwrap().to_owned();
            (name, refused["count"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn each_refused_call_is_counted_once_and_named_with_its_process() {
    let rig = Rig::new();
    assert_code(&rig.sh(&[&receipt_option(&rig)], SIX), 1);
    let denials = &receipt(&rig)["denials"];
    assert_eq!(denials["total"], 6, "{denials}");
    assert_eq!(
        counted(denials),
        [("chroot".to_owned(), 5), ("mount".to_owned(), 1)]
    );
    let chroot = &denials["system_calls"][0];
    assert_eq!(chroot["errno"], "EPERM");
    let processes = chroot["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 5);
    for process in processes {
        assert_eq!(
            (process["name"].as_str(), process["count"].as_u64()),
            (Some("busybox"), Some(1))
        );
        assert!(
            process["pid"]
                .as_u64()
                .is_some_and(|pid| (2..1000).contains(&pid))
        );
    }
}

#[test]
fn a_run_without_refusals_has_an_empty_list_and_one_without_a_filter_none() {
    let rig = Rig::new();
    let option = receipt_option(&rig);
    assert_code(&rig.run(&[&option], &["true"]), 0);
    let denials = &receipt(&rig)["denials"];
    assert_eq!(
        (denials["total"].as_u64(), counted(denials).len()),
        (Some(0), 0)
    );
    let unfiltered = [&option, "--security-opt", "seccomp=unconfined"];
    assert_code(&rig.run(&unfiltered, &["true"]), 0);
    assert!(receipt(&rig)["denials"].is_null());
}

#[test]
fn a_refused_call_fails_as_it_does_where_nobody_watches() {
    let rig = Rig::new();
    let policy = rig.path("errnos.toml");
    let deny = r#"deny = [{ name = "symlink", errno = "EBUSY" }, { name = "mkdir", errno = "EROFS" }, "sync"]"#;
    fs::write(&policy, format!("[syscalls]\n{deny}\n")).unwrap();
    let policy = format!("--policy={}", policy.display());
    let script = "busybox ln -s a /tmp/b; busybox mkdir /tmp/d; busybox sync; busybox chroot / true; busybox unshare -n true; \
                  busybox mount -t tmpfs x /tmp; echo $?";
    let unwatched = rig.sh(&["-q", &policy], script);
    let watched = rig.sh(&["-q", &policy, &receipt_option(&rig)], script);
    assert!(
        text(&unwatched.stderr).contains("Read-only file system"),
        "{}",
        describe(&unwatched)
    );
    assert_eq!(text(&unwatched.stderr), text(&watched.stderr));
    assert_eq!(unwatched.stdout, watched.stdout);
    assert!(receipt(&rig)["denials"]["total"].as_u64().unwrap() >= 5);
}

#[test]
fn where_a_policy_forbids_to_hand_the_listener_over_nothing_hangs_and_the_list_is_absent() {
    let rig = Rig::new();
    let policy = rig.path("mute.toml");
    fs::write(&policy, "[syscalls]\ndeny = [\"sendmsg\"]\n").unwrap();
    let policy = format!("--policy={}", policy.display());
    let output = rig.sh(
        &[&policy, &receipt_option(&rig), "--explain"],
        "busybox chroot / true; echo on",
    );
    assert_eq!(text(&output.stdout), "on\n", "{}", describe(&output));
    assert!(receipt(&rig)["denials"].is_null());
    assert!(text(&output.stderr).contains("denied system calls were not watched"));
}

#[test]
fn explain_names_the_rule_and_what_would_allow_it() {
    let rig = Rig::new();
    let policy = rig.path("own.toml");
    fs::write(&policy, "[syscalls]\ndeny = [\"sync\"]\n").unwrap();
    let option = format!("--policy={}", policy.display());
    let output = rig.sh(
        &[&option, "--explain"],
        "busybox chroot / true; busybox chroot / true; busybox sync",
    );
    let said = text(&output.stderr);
    for line in [
        "denied: sync was denied once, with EPERM: busybox (pid ".to_owned(),
        format!(
            "denied:   rule: syscalls.deny names it (policy {})",
            policy.display()
        ),
        "denied:   to allow it: a policy whose syscalls.deny does not name it".to_owned(),
        "denied: chroot was denied twice, with EPERM: busybox (pid ".to_owned(),
        "denied:   rule: syscalls.base = \"default\" refuses it".to_owned(),
        "denied:   to allow it: --cap-add SYS_CHROOT, or syscalls.allow = [\"chroot\"]".to_owned(),
        "denied: what is allowed so, the kernel may still refuse: it asks for a capability"
            .to_owned(),
    ] {
        assert!(said.contains(&line), "no {line:?} in: {said}");
    }
    let output = rig.run(&["--explain"], &["true"]);
    let said = text(&output.stderr);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "denied: no system call was denied");
    // What nobody can know is not passed over in silence, nor claimed.
    assert!(
        lines.len() == 2
            && lines[1].starts_with("denied: not counted")
            && said.contains("Landlock"),
        "{said}"
    );
}

#[test]
fn what_is_explained_as_allowed_is_allowed() {
    let rig = Rig::new();
    let policy = rig.path("allows.toml");
    fs::write(&policy, "[syscalls]\nallow = [\"chroot\"]\n").unwrap();
    let option = format!("--policy={}", policy.display());
    // The kernel itself still wants a capability for it: that is not the filter's refusal.
    let output = rig.sh(&[&option, "--explain"], "busybox chroot / true");
    let said = text(&output.stderr);
    assert!(said.contains("denied: no system call was denied"), "{said}");
    // The way that is named first has what the kernel asks for, too.
    let output = rig.sh(&["--explain"], "busybox unshare -n true; echo $?");
    let said = text(&output.stderr);
    assert!(
        said.contains("to allow it: --cap-add SYS_ADMIN, or"),
        "{said}"
    );
    let output = rig.sh(
        &["--cap-add", "SYS_ADMIN"],
        "busybox unshare -n true; echo $?",
    );
    assert_eq!(text(&output.stdout), "0\n", "{}", describe(&output));
}

#[test]
fn threads_that_are_refused_at_once_are_all_answered_and_counted() {
    let rig = Rig::new();
    // 4 threads, 100 refused calls each: system call 161 is chroot.
    let script = "import ctypes, threading\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  wrong = []\n\
                  def work():\n\
                  \x20for _ in range(100):\n\
                  \x20 if libc.syscall(161, b'/') != -1 or ctypes.get_errno() != 1: wrong.append(1)\n\
                  threads = [threading.Thread(target=work) for _ in range(4)]\n\
                  [thread.start() for thread in threads]; [thread.join() for thread in threads]\n\
                  print(len(wrong))";
    let mut palisade = Command::new(binary());
    palisade
        .arg("run")
        .arg("--rm")
        .arg("--root")
        .arg(rig.path("store"));
    palisade.args([
        &receipt_option(&rig),
        "host",
        "/usr/bin/python3",
        "-c",
        script,
    ]);
    palisade
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = end(palisade.spawn().unwrap());
    assert_eq!(text(&output.stdout), "0\n", "{}", describe(&output));
    let denials = &receipt(&rig)["denials"];
    assert!(
        counted(denials).contains(&("chroot".to_owned(), 400)),
        "{denials}"
    );
}

#[test]
fn signals_that_arrive_meanwhile_neither_hang_nor_count_twice() {
    let rig = Rig::new();
    let script = "trap : USR1; i=0; (while kill -USR1 $$ 2>/dev/null; do :; done) & \
                  while [ $i -lt 50 ]; do busybox chroot / true 2>/dev/null; i=$((i + 1)); done; kill $!; exit 0";
    let output = rig.sh(&[&receipt_option(&rig)], script);
    assert_code(&output, 0);
    assert_eq!(
        counted(&receipt(&rig)["denials"]),
        [("chroot".to_owned(), 50)]
    );
}

#[test]
fn when_palisade_is_killed_nobody_waits_for_its_answer() {
    let rig = Rig::new();
    let mark = rig.mark();
    let script = format!("echo ready; while :; do busybox chroot /{mark} true 2>/dev/null; done");
    let mut child = started(&mut rig.script(&[&receipt_option(&rig)], &script));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    let _guard = Guard::over(&child);
    // The end of the pipe is the end of the last process that held it.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    child.wait().unwrap();
    let left: Vec<_> = processes_with(&mark)
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(left, [""; 0]);
}
