//! What programs read about the machine, made to agree with the limits: text in, text out.
//!
//! node, python, java and make size themselves by /proc/meminfo, /proc/cpuinfo, /proc/stat, /sys/devices/system/cpu and the
//! affinity mask. Processor numbers stay the host's, because `sched_getaffinity(2)` tells those and the files must agree with it.

use std::fmt::{self, Write as _};

use oci_spec::runtime::{LinuxCpu, LinuxResources};

/// Processor numbers, ascending, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(Vec<u32>);

/// No kernel is built for more (`NR_CPUS`).
const MOST_CPUS: u32 = 8192;

impl Cpus {
    /// Reads the form of cpuset(7): `0-3,8`. None for anything else.
    pub fn parse(list: &str) -> Option<Self> {
        let mut numbers = Vec::new();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (first, end): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
            if first > end || end >= MOST_CPUS {
                return None;
            }
            numbers.extend(first..=end);
        }
        Some(Self::from(numbers))
    }

    /// The numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `number` is among them.
    pub fn contains(&self, number: u32) -> bool {
        self.0.binary_search(&number).is_ok()
    }
}

impl From<Vec<u32>> for Cpus {
    fn from(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        Self(numbers)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some(first) = rest.first().copied() {
            let run = (first..)
                .zip(rest)
                .take_while(|(expected, found)| expected == *found)
                .count();
            let separator = if rest.len() == self.0.len() { "" } else { "," };
            match rest[run - 1] {
                last if last == first => write!(f, "{separator}{first}")?,
                last => write!(f, "{separator}{first}-{last}")?,
            }
            rest = &rest[run..];
        }
        Ok(())
    }
}

/// The processors for a command limited by `cpu`: those of its cpuset that are in `available`, and of these no more than
/// the quota needs, rounded up. None when the limits leave all of `available`.
///
/// `seed` decides which: sandboxes with different seeds spread over the machine. Setting the affinity to this makes
/// nproc, `os.availableParallelism()` and Go's `GOMAXPROCS` agree with a limit in cpus.
pub fn cpus_for(cpu: &LinuxCpu, available: &Cpus, seed: u64) -> Option<Cpus> {
    let set = cpu.cpus().as_deref().and_then(Cpus::parse);
    let candidates: Vec<u32> = match &set {
        Some(set) => available
            .iter()
            .filter(|number| set.contains(*number))
            .collect(),
        None => available.0.clone(),
    };
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
    let quota = cpu
        .quota()
        .and_then(|quota| u64::try_from(quota).ok())
        .filter(|quota| *quota > 0);
    let count = quota.map_or(candidates.len(), |quota| {
        usize::try_from(quota.div_ceil(period))
            .unwrap_or(usize::MAX)
            .min(candidates.len())
    });
    if count == 0 || count == available.len() {
        return None;
    }
    let start = usize::try_from(seed % candidates.len() as u64).unwrap_or(0);
    let chosen: Vec<u32> = candidates
        .iter()
        .copied()
        .cycle()
        .skip(start)
        .take(count)
        .collect();
    Some(Cpus::from(chosen))
}

/// The files of /proc that must not be the host's, with their contents: none where nothing of theirs is limited.
///
/// `cpus` is what [`cpus_for`] chose; `read` reads a host file, such as `/proc/meminfo`. A file that cannot be read is an
/// error, as a program would else see the host's numbers. A memory limit above what the host has changes nothing.
pub fn files(
    resources: &LinuxResources,
    cpus: Option<&Cpus>,
    read: impl Fn(&str) -> std::io::Result<String>,
) -> std::io::Result<Vec<(&'static str, String)>> {
    let mut files = Vec::new();
    if let Some(limits) = MemoryLimits::of(resources) {
        let host = read("/proc/meminfo")?;
        if limits.below(&host) {
            files.push((
                "/proc/meminfo",
                meminfo(&host, limits, MemoryUse::default()),
            ));
        }
    }
    if let Some(cpus) = cpus {
        files.push(("/proc/cpuinfo", cpuinfo(&read("/proc/cpuinfo")?, cpus)));
        files.push(("/proc/stat", stat(&read("/proc/stat")?, cpus)));
    }
    if !files.is_empty() {
        files.push(("/proc/loadavg", loadavg().to_owned()));
    }
    Ok(files)
}

/// Bytes that a sandbox may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Of memory.
    pub memory: u64,
    /// Of swap beside it; none for no limit.
    pub swap: Option<u64>,
}

/// Bytes that a sandbox uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Of memory, the page cache included.
    pub memory: u64,
    /// Of these, page cache that can be had back.
    pub cache: u64,
    /// Of swap.
    pub swap: u64,
}

impl MemoryLimits {
    /// Those of `resources`, where they limit memory.
    pub fn of(resources: &LinuxResources) -> Option<Self> {
        let bytes = |value: Option<i64>| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .filter(|value| *value > 0)
        };
        let limits = resources.memory().as_ref()?;
        let memory = bytes(limits.limit())?;
        // The runtime configuration counts both together.
        let swap = bytes(limits.swap()).map(|total| total.saturating_sub(memory));
        Some(Self { memory, swap })
    }

    /// Whether the host of this /proc/meminfo has more.
    fn below(self, host: &str) -> bool {
        let amount = |name| host.lines().find_map(|line| kibibytes(line, name));
        let less = |limit: u64, name| amount(name).is_none_or(|total| limit / 1024 < total);
        less(self.memory, "MemTotal") || self.swap.is_some_and(|swap| less(swap, "SwapTotal"))
    }
}

/// The amount in a line of /proc/meminfo, `name:   amount kB`.
fn kibibytes(line: &str, name: &str) -> Option<u64> {
    let amount = line.strip_prefix(name)?.strip_prefix(':')?;
    amount.trim().strip_suffix(" kB")?.parse().ok()
}

/// /proc/meminfo of a machine that has as much as `limits` and of which this much is `used`.
///
/// Lines that would tell what the host's other processes do are zero; what is no amount of memory stays the host's.
pub fn meminfo(host: &str, limits: MemoryLimits, used: MemoryUse) -> String {
    let mut text = String::with_capacity(host.len());
    let total = |name, limit: Option<u64>| {
        let host = host.lines().find_map(|line| kibibytes(line, name));
        host.unwrap_or(u64::MAX)
            .min(limit.map_or(u64::MAX, |limit| limit / 1024))
    };
    let memory = total("MemTotal", Some(limits.memory));
    let swap = total("SwapTotal", limits.swap);
    let free = memory.saturating_sub(used.memory / 1024);
    let cache = (used.cache.min(used.memory) / 1024).min(memory);
    for line in host.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let Some(amount) = kibibytes(line, name) else {
            let _ = writeln!(text, "{line}");
            continue;
        };
        let shown = match name {
            "MemTotal" => memory,
            "MemFree" => free,
            "MemAvailable" => free + cache,
            "Cached" | "Inactive" | "Inactive(file)" => cache,
            "Active" | "Active(anon)" | "AnonPages" => {
                (used.memory / 1024).min(memory).saturating_sub(cache)
            }
            "SwapTotal" => swap,
            "SwapFree" => swap.saturating_sub(used.swap / 1024),
            "CommitLimit" => amount.min(memory.saturating_add(swap)),
            "VmallocTotal" | "VmallocChunk" | "Hugepagesize" => amount,
            _ if name.starts_with("DirectMap") => amount.min(memory),
            _ => 0,
        };
        let label = format!("{name}:");
        let _ = writeln!(text, "{label:<15} {shown:>8} kB");
    }
    text
}

/// /proc/cpuinfo with the processors of `cpus` alone.
pub fn cpuinfo(host: &str, cpus: &Cpus) -> String {
    let mut text = String::new();
    for block in host.split("\n\n") {
        let Some(number) = block
            .lines()
            .find_map(|line| value_of(line, "processor")?.parse().ok())
        else {
            continue;
        };
        if !cpus.contains(number) {
            continue;
        }
        for line in block.lines() {
            let counted = ["siblings", "cpu cores"]
                .iter()
                .find_map(|key| value_of(line, key));
            match counted.and_then(|count| count.parse::<usize>().ok()) {
                Some(count) => {
                    let label = line.split(':').next().unwrap_or_default();
                    let _ = writeln!(text, "{label}: {}", count.min(cpus.len()));
                }
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text.push('\n');
    }
    text
}

/// The value in a line of /proc/cpuinfo, `key\t: value`.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim_end() == key).then(|| value.trim())
}

/// /proc/stat with the processors of `cpus` alone, their sum in the first line, and no interrupt numbers of the host.
pub fn stat(host: &str, cpus: &Cpus) -> String {
    let mut sum: Vec<u64> = Vec::new();
    let mut processors = String::new();
    let mut rest = String::new();
    for line in host.lines() {
        let (name, values) = line.split_once(' ').unwrap_or((line, ""));
        match name.strip_prefix("cpu").map(str::parse::<u32>) {
            Some(Ok(number)) if cpus.contains(number) => {
                for (index, value) in values.split_ascii_whitespace().enumerate() {
                    if sum.len() <= index {
                        sum.push(0);
                    }
                    sum[index] += value.parse::<u64>().unwrap_or(0);
                }
                let _ = writeln!(processors, "{line}");
            }
            Some(_) => {}
            // One number for each interrupt of the host follows the total.
            None if name == "intr" || name == "softirq" => {
                let _ = writeln!(rest, "{name} {}", values.split(' ').next().unwrap_or("0"));
            }
            None => {
                let _ = writeln!(rest, "{line}");
            }
        }
    }
    let sum = sum.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    format!("cpu  {sum}\n{processors}{rest}")
}

/// /proc/loadavg of a sandbox that starts: no load, its init alone.
pub fn loadavg() -> &'static str {
    "0.00 0.00 0.00 1/1 1\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> Cpus {
        Cpus::parse(list).unwrap()
    }

    fn cpu(json: &str) -> LinuxCpu {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn cpu_lists_are_read_and_written_in_the_kernels_form() {
        for list in ["0", "0-3", "0-3,8", "1,3,5-7", ""] {
            assert_eq!(cpus(list).to_string(), list);
        }
        assert_eq!(cpus("3,1,2,2\n").to_string(), "1-3");
        for broken in ["a", "3-1", "0-", "-1", "0-99999999", "1;2"] {
            assert_eq!(Cpus::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_limit_in_cpus_is_rounded_up_to_whole_processors() {
        let available = cpus("0-7");
        let count = |json| cpus_for(&cpu(json), &available, 0).map(|cpus| cpus.len());
        assert_eq!(count(r#"{"quota":100000,"period":100000}"#), Some(1));
        assert_eq!(count(r#"{"quota":150000}"#), Some(2));
        assert_eq!(count(r#"{"quota":1000}"#), Some(1));
        assert_eq!(count(r#"{"quota":900000}"#), None);
        assert_eq!(count(r#"{"quota":-1}"#), None);
        assert_eq!(count("{}"), None);
    }

    #[test]
    fn a_limit_stays_in_the_cpuset_and_seeds_spread_over_it() {
        let available = cpus("0-7");
        let limited = cpu(r#"{"quota":200000,"cpus":"2-4,9"}"#);
        let chosen: Vec<String> = (0..3)
            .map(|seed| cpus_for(&limited, &available, seed).unwrap().to_string())
            .collect();
        assert_eq!(chosen, ["2-3", "3-4", "2,4"]);
        assert_eq!(
            cpus_for(&cpu(r#"{"cpus":"2-4"}"#), &available, 5).unwrap(),
            cpus("2-4")
        );
        assert_eq!(cpus_for(&cpu(r#"{"cpus":"20"}"#), &available, 5), None);
    }

    const MEMINFO: &str = "MemTotal:       24684096 kB\nMemFree:        16824688 kB\nMemAvailable:   23704704 kB\n\
        Buffers:             100 kB\nSwapTotal:       2097152 kB\nSwapFree:        2000000 kB\n\
        VmallocTotal:   34359738367 kB\nHugePages_Total:       0\nDirectMap1G:    25165824 kB\n";

    const MEBIBYTE: u64 = 1 << 20;

    #[test]
    fn memory_is_the_limit_and_tells_nothing_of_the_host() {
        let limits = MemoryLimits {
            memory: 512 * MEBIBYTE,
            swap: Some(MEBIBYTE),
        };
        assert_eq!(
            meminfo(MEMINFO, limits, MemoryUse::default()),
            "MemTotal:         524288 kB\nMemFree:          524288 kB\nMemAvailable:     524288 kB\n\
             Buffers:               0 kB\nSwapTotal:          1024 kB\nSwapFree:           1024 kB\n\
             VmallocTotal:   34359738367 kB\nHugePages_Total:       0\nDirectMap1G:      524288 kB\n"
        );
    }

    #[test]
    fn what_is_used_is_not_free_and_cache_is_available() {
        let limits = MemoryLimits {
            memory: 100 * MEBIBYTE,
            swap: Some(10 * MEBIBYTE),
        };
        let used = MemoryUse {
            memory: 60 * MEBIBYTE,
            cache: 20 * MEBIBYTE,
            swap: 4 * MEBIBYTE,
        };
        let text = meminfo(MEMINFO, limits, used);
        let amount = |name| text.lines().find_map(|line| kibibytes(line, name)).unwrap() / 1024;
        assert_eq!(amount("MemFree"), 40);
        assert_eq!(amount("MemAvailable"), 60);
        assert_eq!(amount("SwapFree"), 6);
        let more = MemoryUse {
            memory: 200 * MEBIBYTE,
            ..used
        };
        assert!(meminfo(MEMINFO, limits, more).contains("MemFree:               0 kB\n"));
    }

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: X: Y\nsiblings\t: 4\ncpu cores\t: 4\n\n\
        processor\t: 1\nmodel name\t: X: Y\nsiblings\t: 4\ncpu cores\t: 4\n\n";

    #[test]
    fn cpuinfo_has_the_chosen_processors_alone() {
        assert_eq!(
            cpuinfo(CPUINFO, &cpus("1")),
            "processor\t: 1\nmodel name\t: X: Y\nsiblings\t: 1\ncpu cores\t: 1\n\n"
        );
        assert_eq!(cpuinfo(CPUINFO, &cpus("0-3")), CPUINFO);
    }

    #[test]
    fn stat_sums_the_chosen_processors() {
        let host = "cpu  16 26 36\ncpu0 1 2 3\ncpu1 5 6 7\ncpu2 10 18 26\nintr 99 1 2 3\nctxt 5\nbtime 7\nsoftirq 8 1 1\n";
        assert_eq!(
            stat(host, &cpus("0,2")),
            "cpu  11 20 29\ncpu0 1 2 3\ncpu2 10 18 26\nintr 99\nctxt 5\nbtime 7\nsoftirq 8\n"
        );
    }

    #[test]
    fn only_files_about_what_is_limited_are_replaced() {
        let read = |path: &str| {
            Ok(match path {
                "/proc/meminfo" => MEMINFO,
                "/proc/cpuinfo" => CPUINFO,
                _ => "cpu  1\ncpu0 1\n",
            }
            .to_owned())
        };
        let names = |json: &str, cpus: Option<&Cpus>| -> Vec<&str> {
            let resources = super::super::tests::resources(json);
            files(&resources, cpus, read)
                .unwrap()
                .into_iter()
                .map(|(path, _)| path)
                .collect()
        };
        assert!(names(r#"{"pids":{"limit":5}}"#, None).is_empty());
        assert_eq!(
            names(r#"{"memory":{"limit":1048576}}"#, None),
            ["/proc/meminfo", "/proc/loadavg"]
        );
        assert_eq!(
            names("{}", Some(&cpus("0"))),
            ["/proc/cpuinfo", "/proc/stat", "/proc/loadavg"]
        );
        let more_than_there_is = r#"{"memory":{"limit":1125899906842624,"swap":2251799813685248}}"#;
        assert!(names(more_than_there_is, None).is_empty());
        let unreadable = |_: &str| Err(std::io::Error::other("no"));
        assert!(
            files(
                &super::super::tests::resources(r#"{"memory":{"limit":1}}"#),
                None,
                unreadable
            )
            .is_err()
        );
    }

    #[test]
    fn this_hosts_own_files_are_understood() {
        let host = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let all = cpus(&std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap());
        let processors = |text: &str| {
            text.lines()
                .filter(|line| value_of(line, "processor").is_some())
                .count()
        };
        assert_eq!(processors(&cpuinfo(&host, &all)), all.len());
        let first = cpus(&all.iter().next().unwrap().to_string());
        assert_eq!(processors(&cpuinfo(&host, &first)), 1);
        let limits = MemoryLimits {
            memory: 1 << 24,
            swap: Some(0),
        };
        let host = std::fs::read_to_string("/proc/meminfo").unwrap();
        let meminfo = meminfo(&host, limits, MemoryUse::default());
        assert!(
            meminfo.starts_with("MemTotal:          16384 kB\n"),
            "{meminfo}"
        );
    }
}
