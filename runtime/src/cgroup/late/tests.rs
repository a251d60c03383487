//! Processes that run already, on the host this runs on.

use std::cell::Cell;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::*;
use crate::cgroup::Kind;
use crate::cgroup::tests::{
    Limited, Listed, alone, end, groups, id, paths, resources, unless_refused, waiting,
};
use crate::stat::is_over;

fn beside(id: &str) -> Option<Cgroup> {
    unless_refused(Cgroup::beside(id, &Request::default()))
}

extern "C" fn wait_for_a_signal(_: *mut libc::c_void) -> *mut libc::c_void {
    loop {
        nix::unistd::pause();
    }
}

/// A process that goes on although its first thread has ended, and the number of the other. It ends with the caller.
fn without_first_thread() -> (Pid, i32) {
    // SAFETY: the child makes system calls and a thread, for which the C library is fit after a fork, and never returns.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        // SAFETY: the thread uses nothing of this one, whose end by exit(2) is the end of it alone.
        ForkResult::Child => unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let mut thread = std::mem::zeroed();
            let (attributes, argument) = (std::ptr::null(), std::ptr::null_mut());
            libc::pthread_create(&raw mut thread, attributes, wait_for_a_signal, argument);
            libc::syscall(libc::SYS_exit, 0);
            libc::_exit(1)
        },
    };
    let stat = || stat::of(child.as_raw()).unwrap();
    while !thread_is_over(&stat()) {
        std::thread::yield_now();
    }
    assert!(!is_over(&stat()));
    (child, living_thread(child.as_raw()).unwrap())
}

#[test]
fn a_process_whose_first_thread_has_ended_is_stopped_and_comes_back_too() {
    let _alone = alone();
    let id = id();
    let Some(made) = beside(&id) else { return };
    let (child, thread) = without_first_thread();
    let own = groups(thread);
    let tree = Listed(vec![child.as_raw()]);
    let taken = made.surround(&tree);
    let inside = groups(thread);
    let frozen = made.is_frozen();
    made.give_back(&tree);
    let back = groups(thread);
    let left = made
        .directories()
        .any(|directory| directory.path().exists());
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    taken.unwrap();
    assert!(thread != child.as_raw() && frozen.unwrap());
    assert!(inside.contains(&id), "{inside}");
    assert_eq!((back, left), (own, false));
}

#[test]
fn what_cannot_be_moved_as_a_whole_goes_back_and_can_be_tried_again() {
    let _alone = alone();
    let id = id();
    let Some(first) = beside(&id) else { return };
    let (child, pid) = waiting();
    let own = groups(std::process::id().try_into().unwrap());
    // No process has the second number.
    let failed = first.surround(&Listed(vec![pid, -1]));
    let back = groups(pid);
    drop(first);
    let second = beside(&id).unwrap();
    second.surround(&Listed(vec![pid])).unwrap();
    let taken = second.processes().unwrap().contains(&pid);
    second.kill().unwrap();
    end(child);
    second.remove().unwrap();
    assert!(failed.is_err() && taken);
    assert_eq!(back, own);
}

#[test]
fn a_cgroup_that_others_are_in_is_not_taken() {
    let _alone = alone();
    let id = id();
    let request = Request {
        path: Some(format!("palisade-{id}").into()),
        ..Request::default()
    };
    let Some(first) = beside(&id) else { return };
    let (child, pid) = waiting();
    first.surround(&Listed(vec![pid])).unwrap();
    first.thaw().unwrap();
    let before = groups(pid);
    let second = Cgroup::beside(&id, &request);
    let after = groups(pid);
    end(child);
    first.remove().unwrap();
    match second {
        Err(Error::Invalid(text)) => assert!(text.contains("processes of others"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(before, after);
}

/// One process whose number goes to another while it is moved.
struct Reused {
    stranger: i32,
    ended: Cell<Option<OwnedFd>>,
    asked: Cell<bool>,
}

impl Tree for Reused {
    fn processes(&self) -> Vec<i32> {
        if self.asked.replace(true) {
            Vec::new()
        } else {
            vec![self.stranger]
        }
    }

    fn hold(&self, _pid: i32) -> nix::Result<Option<OwnedFd>> {
        Ok(self.ended.take())
    }
}

#[test]
fn a_stranger_who_got_the_number_of_a_process_that_ended_stays_where_he_was() {
    let _alone = alone();
    let id = id();
    let Some(made) = beside(&id) else { return };
    let (stranger, number) = waiting();
    let (child, pid) = waiting();
    let hold = crate::sys::pidfd_open(pid).unwrap();
    end(child);
    let before = groups(number);
    let tree = Reused {
        stranger: number,
        ended: Cell::new(Some(hold)),
        asked: Cell::new(false),
    };
    let moved = made.surround(&tree);
    let after = groups(number);
    made.thaw().unwrap();
    end(stranger);
    made.remove().unwrap();
    moved.unwrap();
    assert_eq!(before, after);
}

/// A shell that runs already, in a cgroup that was made for it. It waits for a line before it goes on.
fn entered(request: &Request, script: &str) -> Option<(Limited, String, Child, i32)> {
    let id = id();
    // The process is there before the cgroup, as a sandbox's are.
    let spawned = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = spawned.expect("a shell");
    let pid = i32::try_from(child.id()).unwrap();
    let Some(made) = unless_refused(Cgroup::beside(&id, request)) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return None;
    };
    let made = Limited(made);
    made.0.surround(&Listed(vec![pid])).unwrap();
    Some((made, id, child, pid))
}

#[test]
fn what_runs_already_gets_limits_that_nobody_asked_for_at_its_start() {
    let _alone = alone();
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 >/dev/null & done";
    let entered = entered(&Request::default(), forks);
    let Some((mut limited, id, mut child, pid)) = entered else {
        return;
    };
    let leaf = limited.0.record().leaf.is_some();
    // One after the other: each wants a controller that was not needed before.
    for asked in [
        r#"{"pids":{"limit":8}}"#,
        r#"{"memory":{"limit":67108864,"swap":67108864}}"#,
    ] {
        let tree = Listed(vec![pid]);
        let changed = limited
            .0
            .change(&id, &resources(asked), &Request::default(), &tree);
        changed.unwrap();
    }
    limited.0.thaw().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(!child.wait().unwrap().success());
    let usage = limited.0.usage();
    assert!(usage.pids_denied >= Some(1), "{usage:?}");
    // systemd takes controllers back from a cgroup in the root whose children do not have them.
    let systemd = std::path::Path::new("/run/systemd/system").exists();
    assert_eq!(leaf, limited.0.kind() == Kind::V2Root && systemd);
}

#[test]
fn what_runs_already_is_limited_where_its_configuration_says() {
    let _alone = alone();
    let above = format!("palisade-{}", id());
    let request = Request {
        path: Some(format!("{above}/inner").into()),
        ..Request::default()
    };
    let Some((mut limited, id, mut child, pid)) = entered(&request, "exit 7") else {
        return;
    };
    let asked = resources(r#"{"pids":{"limit":8}}"#);
    let changed = limited.0.change(&id, &asked, &request, &Listed(vec![pid]));
    let paths = paths(&limited.0);
    let groups = groups(pid);
    limited.0.thaw().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let code = child.wait().unwrap().code();
    drop(limited);
    for path in &paths {
        // Only the last of the path is this cgroup's own.
        let above = path.ancestors().find(|path| path.ends_with(&above));
        above.map(std::fs::remove_dir);
    }
    changed.unwrap();
    assert_eq!(code, Some(7));
    let inner = format!("{above}/inner");
    assert!(
        paths.iter().any(|path| path.ends_with(&inner)) && groups.contains(&inner),
        "{paths:?} {groups}"
    );
}
