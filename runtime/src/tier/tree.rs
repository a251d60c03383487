//! The processes below one that has adopted them: found in /proc, held by pidfd, ended.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{SysconfVar, sysconf};

use crate::cgroup::Usage;
use crate::stat::{parent_in, ticks_in};
use crate::sys;

/// How long one round waits for what it has killed, before it looks for what has come since.
const ROUND_MILLISECONDS: u16 = 20;

/// Ends every descendant of the calling process with SIGKILL, and reaps all: when it returns there is none.
///
/// The calling process must be a subreaper: then what one of them leaves becomes its child, and the next round ends that.
pub(crate) fn end_all() {
    let own = nix::unistd::getpid().as_raw();
    loop {
        let parents = parents();
        let ours = below(own, &parents);
        let held: Vec<OwnedFd> = ours
            .iter()
            .filter_map(|pid| hold(*pid, own, &ours))
            .collect();
        for pidfd in &held {
            // One that has ended meanwhile is what was wanted.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        loop {
            match sys::wait4(-1, libc::WNOHANG) {
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Err(_) => return,
                Ok(None) => break,
            }
        }
        let mut ends: Vec<PollFd<'_>> = held
            .iter()
            .map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN))
            .collect();
        let _ = poll(&mut ends, PollTimeout::from(ROUND_MILLISECONDS));
    }
}

/// Memory that belongs to the processes below `root`, itself included: anonymous, shared in memory, and swapped out, in bytes
/// (proc_pid_status(5)). What several of them share is counted for each.
pub(crate) fn memory(root: i32) -> u64 {
    all_of(root).into_iter().filter_map(memory_of).sum()
}

fn memory_of(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parts = ["RssAnon:", "RssShmem:", "VmSwap:"];
    let kilobytes: u64 = parts.iter().filter_map(|name| field(&status, name)).sum();
    Some(kilobytes.saturating_mul(1024))
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the processes below `root`, itself included, use and have used, as far as /proc tells: memory, processor time (that of
/// ended children included, once somebody has waited for them), and how many processes and threads there are.
///
/// For a sandbox without a cgroup, by the process id of its PID 1.
pub fn usage(root: i32) -> Usage {
    let (mut memory, mut ticks, mut threads) = (0, 0, 0);
    for pid in all_of(root) {
        // One that has ended meanwhile uses nothing.
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        memory += memory_of(pid).unwrap_or(0);
        ticks += ticks_in(&stat).unwrap_or(0);
        threads += field(&status, "Threads:").unwrap_or(0);
    }
    let second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let second = second.and_then(|ticks| u64::try_from(ticks).ok());
    Usage {
        memory: Some(memory),
        cpu_time: Some(Duration::from_millis(
            ticks.saturating_mul(1000) / second.unwrap_or(100).max(1),
        )),
        pids: Some(threads),
        ..Usage::default()
    }
}

/// `root` and every process below it.
pub(crate) fn all_of(root: i32) -> Vec<i32> {
    let mut all = below(root, &parents());
    all.push(root);
    all
}

/// A hold on a process that is still below us: its number may have gone to another one meanwhile.
fn hold(pid: i32, own: i32, ours: &[i32]) -> Option<OwnedFd> {
    let pidfd = sys::pidfd_open(pid).ok()?;
    let parent = parent_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    (parent == own || ours.contains(&parent)).then_some(pidfd)
}

/// Every process that can be seen, with its parent.
fn parents() -> HashMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect()
}

/// The processes below `root`, in no order.
fn below(root: i32, parents: &HashMap<i32, i32>) -> Vec<i32> {
    let mut found = Vec::new();
    let mut from = vec![root];
    while let Some(parent) = from.pop() {
        let children = parents.iter().filter(|(_, of)| **of == parent);
        for (child, _) in children {
            // A list that was read while it changed may have a ring in it.
            if *child != root && !found.contains(child) {
                found.push(*child);
                from.push(*child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_of_all_generations_are_found_and_strangers_are_not() {
        let parents = HashMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 0), (7, 6)]);
        let mut found = below(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert!(below(4, &parents).is_empty());
    }

    #[test]
    fn a_ring_ends() {
        let parents = HashMap::from([(2, 3), (3, 2)]);
        assert_eq!(below(2, &parents), [3]);
    }

    #[test]
    fn this_process_is_counted_with_its_threads_and_its_time() {
        let used = usage(nix::unistd::getpid().as_raw());
        assert!(used.pids >= Some(1) && used.memory > Some(64 * 1024));
        assert_eq!(usage(i32::MAX).memory, Some(0));
    }

    #[test]
    fn this_processs_memory_is_more_than_none() {
        assert!(memory(nix::unistd::getpid().as_raw()) > 64 * 1024);
    }
}
