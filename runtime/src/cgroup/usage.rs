//! What the processes of a cgroup have used, and how often a limit stopped them.

use std::time::Duration;

use super::Cgroup;
use super::controllers::Controller;
use super::directory::Directory;

/// Counters of a cgroup. None: this kernel, or this cgroup's controllers, do not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use now, page cache included.
    pub memory: Option<u64>,
    /// Of which the page cache could give back at once: files nobody has used for a while.
    pub memory_inactive: Option<u64>,
    /// The most bytes in use at once.
    pub memory_peak: Option<u64>,
    /// Processor time of all its processes, ended ones included.
    pub cpu_time: Option<Duration>,
    /// Of which in user mode.
    pub cpu_user: Option<Duration>,
    /// Of which in the kernel.
    pub cpu_system: Option<Duration>,
    /// Time that processes could have run and were not allowed to by the cpu limit.
    pub cpu_throttled: Option<Duration>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// The most processes and threads at once.
    pub pids_peak: Option<u64>,
    /// Processes that the kernel killed because memory ran out.
    pub oom_kills: Option<u64>,
    /// Forks refused by the limit on processes.
    pub pids_denied: Option<u64>,
    /// Bytes read from block devices.
    pub io_read: Option<u64>,
    /// Bytes written to block devices.
    pub io_written: Option<u64>,
}

/// Reads every counter there is.
pub(super) fn read(cgroup: &Cgroup) -> Usage {
    let counted = match &cgroup.unified {
        Some(unified) if cgroup.v1.is_empty() => v2(unified),
        _ => v1(cgroup),
    };
    Usage {
        oom_kills: oom_kills(cgroup),
        pids_denied: pids_denied(cgroup),
        ..counted
    }
}

/// How often the limits on memory and on processes have struck: `oom_kills` and `pids_denied` of [`Usage`], without the rest.
pub(super) fn struck(cgroup: &Cgroup) -> (u64, u64) {
    (
        oom_kills(cgroup).unwrap_or(0),
        pids_denied(cgroup).unwrap_or(0),
    )
}

fn oom_kills(cgroup: &Cgroup) -> Option<u64> {
    let file = if cgroup.v1.is_empty() {
        "memory.events"
    } else {
        "memory.oom_control"
    };
    keyed(cgroup.directory_of(Controller::Memory)?, file, "oom_kill")
}

fn pids_denied(cgroup: &Cgroup) -> Option<u64> {
    // Before Linux 6.11 a refusal is counted where the process is, since then where the limit is.
    let counting = [cgroup.directory_of(Controller::Pids), cgroup.leaf.as_ref()];
    let denied = |directory| keyed(directory, "pids.events", "max");
    counting.into_iter().flatten().filter_map(denied).max()
}

fn v2(directory: &Directory) -> Usage {
    let cpu = directory.read("cpu.stat").unwrap_or_default();
    let microseconds = |key| flat(&cpu, key).map(Duration::from_micros);
    let io = directory.read("io.stat").ok();
    Usage {
        memory: number(directory, "memory.current"),
        memory_inactive: keyed(directory, "memory.stat", "inactive_file"),
        memory_peak: number(directory, "memory.peak"),
        cpu_time: microseconds("usage_usec"),
        cpu_user: microseconds("user_usec"),
        cpu_system: microseconds("system_usec"),
        cpu_throttled: microseconds("throttled_usec"),
        pids: number(directory, "pids.current"),
        pids_peak: number(directory, "pids.peak"),
        io_read: io.as_deref().map(|stat| nested(stat, "rbytes=")),
        io_written: io.as_deref().map(|stat| nested(stat, "wbytes=")),
        ..Usage::default()
    }
}

fn v1(cgroup: &Cgroup) -> Usage {
    let mut usage = Usage::default();
    if let Some(memory) = cgroup.v1_of(Controller::Memory) {
        usage.memory = number(memory, "memory.usage_in_bytes");
        usage.memory_inactive = keyed(memory, "memory.stat", "total_inactive_file");
        usage.memory_peak = number(memory, "memory.max_usage_in_bytes");
    }
    if let Some(pids) = cgroup.v1_of(Controller::Pids) {
        usage.pids = number(pids, "pids.current");
        usage.pids_peak = number(pids, "pids.peak");
    }
    if let Some(cpuacct) = cgroup.v1_of(Controller::Cpuacct) {
        usage.cpu_time = number(cpuacct, "cpuacct.usage").map(Duration::from_nanos);
        usage.cpu_user = number(cpuacct, "cpuacct.usage_user").map(Duration::from_nanos);
        usage.cpu_system = number(cpuacct, "cpuacct.usage_sys").map(Duration::from_nanos);
    } else if let Some(unified) = &cgroup.unified {
        // cpu.stat of cgroup v2 counts without any controller.
        let stat = unified.read("cpu.stat").unwrap_or_default();
        let microseconds = |key| flat(&stat, key).map(Duration::from_micros);
        usage.cpu_time = microseconds("usage_usec");
        usage.cpu_user = microseconds("user_usec");
        usage.cpu_system = microseconds("system_usec");
    }
    if let Some(cpu) = cgroup.v1_of(Controller::Cpu) {
        usage.cpu_throttled = keyed(cpu, "cpu.stat", "throttled_time").map(Duration::from_nanos);
    }
    if let Some(io) = cgroup.v1_of(Controller::Io)
        && let Ok(stat) = io.read("blkio.throttle.io_service_bytes")
    {
        let sum = |word| {
            stat.lines()
                .filter_map(|line| line.split_once(word)?.1.trim().parse::<u64>().ok())
                .sum()
        };
        usage.io_read = Some(sum(" Read "));
        usage.io_written = Some(sum(" Write "));
    }
    usage
}

fn number(directory: &Directory, file: &str) -> Option<u64> {
    directory.read(file).ok()?.trim().parse().ok()
}

fn keyed(directory: &Directory, file: &str, key: &str) -> Option<u64> {
    flat(&directory.read(file).ok()?, key)
}

/// The value of `key` in lines of `key value`.
fn flat(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// The sum of `key` over lines of `device key=value key=value`.
fn nested(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_matched_whole() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(flat(events, "oom_kill"), Some(2));
        assert_eq!(flat(events, "oom"), Some(3));
        assert_eq!(flat(events, "kill"), None);
    }

    #[test]
    fn io_is_summed_over_devices() {
        let stat = "8:0 rbytes=100 wbytes=5 rios=1\n8:16 rbytes=11 wbytes=6\n";
        assert_eq!(
            (nested(stat, "rbytes="), nested(stat, "wbytes=")),
            (111, 11)
        );
    }
}
