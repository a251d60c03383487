//! The processes below one that has adopted them: found in /proc, held by pidfd, ended.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::stat::parent_in;
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
    let parents = parents();
    let kilobytes = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    below(root, &parents)
        .into_iter()
        .chain([root])
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .flat_map(|status| {
            ["RssAnon:", "RssShmem:", "VmSwap:"].map(|name| kilobytes(&status, name).unwrap_or(0))
        })
        .sum::<u64>()
        .saturating_mul(1024)
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
    fn this_processs_memory_is_more_than_none() {
        assert!(memory(nix::unistd::getpid().as_raw()) > 64 * 1024);
    }
}
