//! The processes below one that has adopted them: found in /proc, held by pidfd, ended.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{SysconfVar, sysconf};

use crate::cgroup::{Tree, Usage};
use crate::stat::{self, is_over, parent_in, ticks_in};
use crate::sys;

/// How long one round waits for what it has killed, before it looks for what has come since.
const ROUND_MILLISECONDS: u16 = 20;

/// Ends every descendant of the calling process with SIGKILL, and reaps all: when it returns there is none.
///
/// The calling process must be a subreaper: then what one of them leaves becomes its child, and the next round ends that.
pub(crate) fn end_all() {
    let own = nix::unistd::getpid().as_raw();
    loop {
        let ours = below(own, children());
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
    let all = all_of(root).into_iter();
    all.map(|pid| memory_in(&status_of(pid))).sum()
}

/// /proc/PID/status; empty for one that has ended, which uses nothing.
fn status_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn memory_in(status: &str) -> u64 {
    let parts = ["RssAnon:", "RssShmem:", "VmSwap:"];
    let kilobytes: u64 = parts.iter().filter_map(|name| field(status, name)).sum();
    kilobytes.saturating_mul(1024)
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
        let status = status_of(pid);
        memory += memory_in(&status);
        ticks += stat::of(pid).and_then(|stat| ticks_in(&stat)).unwrap_or(0);
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
fn all_of(root: i32) -> Vec<i32> {
    let mut all = below(root, children());
    all.push(root);
    all
}

/// A process and all that descend from it. Its number must not become another's: it is a child nobody has waited for yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family(pub i32);

impl Tree for Family {
    fn processes(&self) -> Vec<i32> {
        let mut all = all_of(self.0);
        all.retain(|pid| stat::of(*pid).is_some_and(|stat| !is_over(&stat)));
        all
    }

    fn hold(&self, pid: i32) -> nix::Result<Option<OwnedFd>> {
        let held = match sys::pidfd_open(pid) {
            // EINVAL: it has become the number of a thread.
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            other => other?,
        };
        let line = self.line_to(pid);
        // A parent that ends is replaced in its children before its number is free: what is read twice was so between.
        Ok((line.is_some() && line == self.line_to(pid)).then_some(held))
    }
}

impl Family {
    /// The parents of a process up to the family's first; none where they do not lead there.
    fn line_to(self, pid: i32) -> Option<Vec<i32>> {
        let mut line = vec![pid];
        let mut from = pid;
        while from != self.0 {
            from = parent_in(&stat::of(from)?)?;
            if from <= 0 || line.contains(&from) {
                return None;
            }
            line.push(from);
        }
        Some(line)
    }
}

/// A hold on a process that is still below us: its number may have gone to another one meanwhile.
fn hold(pid: i32, own: i32, ours: &[i32]) -> Option<OwnedFd> {
    let pidfd = sys::pidfd_open(pid).ok()?;
    let parent = parent_in(&stat::of(pid)?)?;
    (parent == own || ours.contains(&parent)).then_some(pidfd)
}

/// Every process that can be seen, by its parent.
fn children() -> HashMap<i32, Vec<i32>> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in pids {
        if let Some(parent) = stat::of(pid).as_deref().and_then(parent_in) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The processes below `root`, in no order.
fn below(root: i32, mut children: HashMap<i32, Vec<i32>>) -> Vec<i32> {
    let mut found = Vec::new();
    // What is taken out is not found again: a list that was read while it changed may have a ring in it.
    let mut from = children.remove(&root).unwrap_or_default();
    while let Some(one) = from.pop() {
        if one != root {
            found.push(one);
            from.extend(children.remove(&one).unwrap_or_default());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn descendants_of_all_generations_are_found_and_strangers_are_not() {
        let children = HashMap::from([
            (0, vec![6]),
            (1, vec![2, 5]),
            (2, vec![3]),
            (3, vec![4]),
            (6, vec![7]),
        ]);
        let mut found = below(2, children.clone());
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert!(below(4, children).is_empty());
    }

    #[test]
    fn a_ring_ends() {
        let children = HashMap::from([(2, vec![3]), (3, vec![2])]);
        assert_eq!(below(2, children), [3]);
    }

    #[test]
    fn of_a_family_only_those_that_belong_to_it_are_held_and_what_has_ended_is_left_out() {
        use std::io::Read as _;
        use std::process::{Command, Stdio};
        // A program, a child of it that waits for the end of its input, and one that ends and is not waited for: a shell would.
        let script = "exec 3<&0; cat <&3 >/dev/null & sleep 1000 & echo $!; exec cat";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut byte = [0];
        while byte != *b"\n" {
            shell
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut byte)
                .unwrap();
            said.push(char::from(byte[0]));
        }
        let ended: i32 = said.trim().parse().unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let family = Family(root);
        while std::fs::read_to_string(format!("/proc/{root}/comm")).unwrap() != "cat\n" {
            std::thread::yield_now();
        }
        nix::sys::signal::kill(Pid::from_raw(ended), Signal::SIGKILL).unwrap();
        while !stat::of(ended).is_some_and(|stat| is_over(&stat)) {
            std::thread::yield_now();
        }
        let all = family.processes();
        let held: Vec<bool> = all
            .iter()
            .map(|pid| family.hold(*pid).unwrap().is_some())
            .collect();
        let own = nix::unistd::getpid().as_raw();
        let strangers = [own, nix::unistd::getppid().as_raw(), i32::MAX];
        let strange: Vec<bool> = strangers
            .iter()
            .map(|pid| family.hold(*pid).unwrap().is_some())
            .collect();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.contains(&root) && !all.contains(&ended), "{all:?}");
        assert_eq!((held, strange), (vec![true; 2], vec![false; 3]));
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
