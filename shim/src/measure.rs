//! What a sandbox uses at one moment: for `stats`.

use std::fs;
use std::time::{Duration, Instant};

use palisade_runtime::cgroup::{Cgroup, Usage};

use crate::state::{Known, Status};

/// One look at a sandbox that runs.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// What its processes use. Memory and processor time are the sums over its processes where [`Sample::counted`] is not set.
    pub usage: Usage,
    /// Whether a control group counted: what ended is counted too, and what several processes share is counted once.
    pub counted: bool,
    /// Bytes received and sent by its own network interfaces, without the loopback; none where it has the host's.
    pub network: Option<(u64, u64)>,
}

impl Sample {
    /// Looks at a sandbox; none where it does not run.
    pub fn of(known: &Known) -> Option<Self> {
        let live = matches!(known.state.status, Status::Running | Status::Paused);
        let pid = known.state.pid.filter(|_| live)?;
        let record = known.state.cgroup.as_deref();
        let cgroup = record.and_then(|record| Cgroup::open(&record.parse().ok()?).ok());
        let own_network = known.config.network != "host";
        let interfaces = || fs::read_to_string(format!("/proc/{pid}/net/dev")).ok();
        Some(Self {
            at: Instant::now(),
            usage: match &cgroup {
                Some(cgroup) if known.state.entered_late => completed(&cgroup.usage(), pid),
                Some(cgroup) => cgroup.usage(),
                None => palisade_runtime::usage_below(pid),
            },
            counted: cgroup.is_some(),
            network: own_network
                .then(interfaces)
                .flatten()
                .map(|text| traffic(&text)),
        })
    }

    /// Bytes of memory in use, without what the kernel keeps of files that nobody has used for a while: docker's figure.
    pub fn memory(&self) -> Option<u64> {
        let usage = self.usage;
        Some(
            usage
                .memory?
                .saturating_sub(usage.memory_inactive.unwrap_or(0)),
        )
    }

    /// Processors in use since an earlier look: 1.5 for one and a half.
    pub fn processors(&self, before: &Self) -> Option<f64> {
        let time = self.at.saturating_duration_since(before.at);
        // A process that ends takes its time out of a sum over processes.
        let used = self.usage.cpu_time?.saturating_sub(before.usage.cpu_time?);
        (time > Duration::ZERO).then(|| used.as_secs_f64() / time.as_secs_f64())
    }
}

/// What a cgroup that was made late has counted, with what it could not: what was in memory before, and what it has no
/// controller for.
fn completed(counted: &Usage, pid: i32) -> Usage {
    let sums = palisade_runtime::usage_below(pid);
    let inactive = counted.memory_inactive.unwrap_or(0);
    let in_use = counted.memory.map(|all| all.saturating_sub(inactive));
    Usage {
        memory: in_use.max(sums.memory),
        memory_inactive: None,
        pids: counted.pids.or(sums.pids),
        ..*counted
    }
}

/// Bytes received and sent, from the lines of /proc/net/dev (proc_pid_net(5)), whose first and ninth numbers they are.
fn traffic(text: &str) -> (u64, u64) {
    let numbers = |line: &str| -> Option<(u64, u64)> {
        let (name, numbers) = line.split_once(':')?;
        if name.trim() == "lo" {
            return None;
        }
        let mut numbers = numbers.split_ascii_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.nth(7)?.ok()?))
    };
    text.lines()
        .filter_map(numbers)
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Bytes of memory that this machine has (proc_meminfo(5)); none where it does not say.
pub fn memory_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_interfaces_but_the_loopback_carry_is_summed() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  \
                    eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1:11 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(text), (111, 23));
        assert_eq!(traffic(""), (0, 0));
    }

    #[test]
    fn processors_are_time_used_by_time_gone() {
        let sample = |at, milliseconds| Sample {
            at,
            usage: Usage {
                cpu_time: Some(Duration::from_millis(milliseconds)),
                memory: Some(10),
                memory_inactive: Some(4),
                ..Usage::default()
            },
            counted: true,
            network: None,
        };
        let start = Instant::now();
        let (before, after) = (
            sample(start, 1000),
            sample(start + Duration::from_secs(2), 4000),
        );
        assert_eq!(after.processors(&before), Some(1.5));
        assert_eq!(before.processors(&after), None);
        assert_eq!(after.memory(), Some(6));
        assert!(memory_of_machine() > Some(1 << 20));
    }
}
