//! Processes: making them, holding them, what they leave open.

use std::fs::File;
use std::os::fd::AsFd as _;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::getpid;

use super::child::{Answer, Doing as _, ask};
use super::cure::finding;
use super::surroundings::Surroundings;
use super::{ALL, Group, NAMESPACED, Probe, calls};
use crate::sys;

pub(super) fn probe(around: &Surroundings) -> Vec<Probe> {
    let probe = |name, tiers, answer: Answer| {
        let blame = |failed: &_| around.refused(failed);
        Probe::new(Group::Processes, name, tiers, finding(answer, blame))
    };
    vec![
        probe("own-proc", ALL, ask(own_proc)),
        probe("clone3", NAMESPACED, ask(clone3)),
        probe("pidfd", ALL, ask(pidfd)),
        probe("close-range", ALL, ask(close_range)),
        probe("no-new-privs", ALL, ask(no_new_privileges)),
        probe("subreaper", ALL, ask(subreaper)),
        probe("rlimits", ALL, ask(rlimits)),
    ]
}

pub(super) fn clone3_works() -> bool {
    ask(clone3).is_ok()
}

/// What a run reads of itself before anything else.
fn own_proc() -> Answer {
    std::fs::metadata("/proc/self/ns/mnt").doing("look at /proc/self/ns/mnt")?;
    Ok(String::new())
}

fn clone3() -> Answer {
    calls::clone3_works().doing("make a process with clone3")?;
    Ok(String::new())
}

fn pidfd() -> Answer {
    let pidfd = sys::pidfd_open(getpid().as_raw()).doing("open a process by pidfd_open")?;
    // Signal 0 only asks whether it could be sent.
    sys::pidfd_send_signal(pidfd.as_fd(), 0).doing("signal a process by pidfd_send_signal")?;
    Ok(String::new())
}

fn close_range() -> Answer {
    let file = File::open("/").doing("open /")?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&file).unsigned_abs();
    sys::close_range(number, number, 0).doing("close descriptors by close_range")?;
    let closed = !calls::is_open(file.as_fd());
    // It is closed already.
    std::mem::forget(file);
    if closed {
        Ok(String::new())
    } else {
        Err(nix::errno::Errno::EBADF).doing("close descriptors by close_range")
    }
}

fn no_new_privileges() -> Answer {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("set no_new_privs")?;
    Ok(String::new())
}

fn subreaper() -> Answer {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).doing("become a subreaper")?;
    Ok(String::new())
}

fn rlimits() -> Answer {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).doing("lower a resource limit")?;
    match getrlimit(Resource::RLIMIT_CORE).doing("read a resource limit")? {
        (0, 0) => Ok(String::new()),
        _ => Err(nix::errno::Errno::EPERM).doing("lower a resource limit"),
    }
}
