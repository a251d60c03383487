//! `--memory`, `--cpus` and the other limits, with docker's units and ranges.

use std::ffi::{OsStr, OsString};

use palisade_policies::{MOST_PROCESSES, Rlimit, is_processor_list, parse_size};

use super::text;
use crate::failure::Failure;

/// Limits as asked for; none where nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Swap.
    pub swap: Option<Swap>,
    /// Bytes of memory that are reclaimed last.
    pub memory_reservation: Option<u64>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// Weight against 1024.
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds in each period.
    pub cpu_quota: Option<i64>,
    /// Processors that may be used.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Bytes of /dev/shm.
    pub shm: Option<u64>,
    /// Bytes of a writable layer in memory.
    pub layer: Option<u64>,
    /// Bytes on standard output and standard error together.
    pub output: Option<u64>,
    /// `--ulimit`, by name as policies have them.
    pub ulimits: Vec<(String, Rlimit)>,
}

/// `--pids-limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pids {
    /// At most so many.
    Most(u64),
    /// No bound.
    Unlimited,
}

/// `--memory-swap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Memory and swap together, in bytes.
    Total(u64),
    /// No bound.
    Unlimited,
}

/// The same as typed.
#[derive(Default)]
#[allow(missing_docs)] // One field per option.
pub struct Typed {
    pub memory: Option<OsString>,
    pub memory_swap: Option<OsString>,
    pub memory_reservation: Option<OsString>,
    pub cpus: Option<OsString>,
    pub cpu_shares: Option<OsString>,
    pub cpu_period: Option<OsString>,
    pub cpu_quota: Option<OsString>,
    pub cpuset_cpus: Option<OsString>,
    pub cpuset_mems: Option<OsString>,
    pub pids: Option<OsString>,
    pub shm: Option<OsString>,
    pub layer: Option<OsString>,
    pub output: Option<OsString>,
    pub ulimits: Vec<OsString>,
}

/// docker's lower bound: below it nothing starts and the reason is hard to see.
const LEAST_MEMORY: u64 = 6 << 20;

/// Names of resource limits, as in docker's `--ulimit` and in policies.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads all limits. Zero asks for nothing, as docker has it.
pub fn understand(typed: Typed) -> Result<Limits, Failure> {
    let memory = size("--memory", typed.memory)?.filter(|&n| n > 0);
    if let Some(memory) = memory.filter(|&n| n < LEAST_MEMORY) {
        return Err(Failure::new(
            format!("--memory {memory} is less than 6m, in which nothing starts"),
            "--memory 64m",
        ));
    }
    let swap = match typed.memory_swap {
        None => None,
        Some(typed) if typed == "-1" => Some(Swap::Unlimited),
        Some(typed) => size("--memory-swap", Some(typed))?
            .filter(|&n| n > 0)
            .map(Swap::Total),
    };
    match (memory, swap) {
        (None, Some(Swap::Total(_))) => {
            return Err(Failure::new(
                "--memory-swap needs --memory",
                "--memory 512m --memory-swap 1g",
            ));
        }
        (Some(memory), Some(Swap::Total(total))) if total < memory => {
            return Err(Failure::new(
                "--memory-swap is memory and swap together, and less than --memory",
                format!("--memory-swap {memory} for no swap"),
            ));
        }
        _ => {}
    }
    let cpus = cpus(typed.cpus)?;
    let cpu_period =
        number("--cpu-period", typed.cpu_period, 1000..=1_000_000)?.map(i64::unsigned_abs);
    let cpu_quota = number("--cpu-quota", typed.cpu_quota, 1000..=i64::MAX)?;
    if cpus.is_some() && (cpu_period.is_some() || cpu_quota.is_some()) {
        return Err(Failure::new(
            "--cpus says the same as --cpu-quota and --cpu-period",
            "--cpus alone",
        ));
    }
    Ok(Limits {
        memory,
        swap,
        memory_reservation: size("--memory-reservation", typed.memory_reservation)?
            .filter(|&n| n > 0),
        cpus,
        cpu_shares: number("--cpu-shares", typed.cpu_shares, 2..=262_144)?.map(i64::unsigned_abs),
        cpu_period,
        cpu_quota,
        cpuset_cpus: list("--cpuset-cpus", typed.cpuset_cpus)?,
        cpuset_mems: list("--cpuset-mems", typed.cpuset_mems)?,
        pids: pids(typed.pids)?,
        shm: size("--shm-size", typed.shm)?.filter(|&n| n > 0),
        layer: typed.layer.as_deref().map(layer).transpose()?,
        output: size("--output-limit", typed.output)?.filter(|&n| n > 0),
        ulimits: typed
            .ulimits
            .into_iter()
            .map(ulimit)
            .collect::<Result<_, _>>()?,
    })
}

/// docker's `--storage-opt size=SIZE`.
fn layer(typed: &OsStr) -> Result<u64, Failure> {
    let size = typed.to_str().and_then(|text| text.strip_prefix("size="));
    size.and_then(parse_size)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| {
            wrong(
                "--storage-opt",
                typed,
                "a size of the writable layer",
                "--storage-opt size=2g",
            )
        })
}

fn wrong(option: &str, typed: &OsStr, expected: &str, example: &str) -> Failure {
    Failure::new(
        format!("{option} {} is not {expected}", typed.display()),
        example,
    )
}

/// A size with docker's units.
fn size(option: &str, typed: Option<OsString>) -> Result<Option<u64>, Failure> {
    typed
        .map(|typed| {
            typed.to_str().and_then(parse_size).ok_or_else(|| {
                wrong(
                    option,
                    &typed,
                    "a size",
                    &format!("{option} 512m or {option} 2g"),
                )
            })
        })
        .transpose()
}

/// A whole number in a range; 0 asks for nothing.
fn number(
    option: &str,
    typed: Option<OsString>,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<i64>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    match typed.to_str().and_then(|text| text.parse().ok()) {
        Some(0) => Ok(None),
        Some(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let expected = if *range.end() == i64::MAX {
                format!("a number from {}", range.start())
            } else {
                format!("a number from {} to {}", range.start(), range.end())
            };
            Err(wrong(
                option,
                &typed,
                &expected,
                &format!("{option} {}", (*range.start()).max(1024)),
            ))
        }
    }
}

fn cpus(typed: Option<OsString>) -> Result<Option<f64>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    // Digits and a point alone: Rust would take `inf`, `nan` and `1e3` for numbers too.
    let plain = typed
        .to_str()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match plain.and_then(|text| text.parse::<f64>().ok()) {
        Some(0.0) => Ok(None),
        Some(cpus) if (0.01..=65_536.0).contains(&cpus) => Ok(Some(cpus)),
        _ => Err(wrong(
            "--cpus",
            &typed,
            "a number of processors from 0.01",
            "--cpus 1.5",
        )),
    }
}

fn pids(typed: Option<OsString>) -> Result<Option<Pids>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    match typed.to_str().and_then(|text| text.parse::<i64>().ok()) {
        Some(-1 | 0) => Ok(Some(Pids::Unlimited)),
        Some(number) if number > 0 && number.unsigned_abs() <= MOST_PROCESSES => {
            Ok(Some(Pids::Most(number.unsigned_abs())))
        }
        _ => Err(wrong(
            "--pids-limit",
            &typed,
            &format!("a number of processes up to {MOST_PROCESSES}, or -1"),
            "--pids-limit 256",
        )),
    }
}

/// A list of processors or memory nodes.
fn list(option: &str, typed: Option<OsString>) -> Result<Option<String>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    match typed.to_str() {
        Some("") => Ok(None),
        Some(text) if is_processor_list(text) => Ok(Some(text.to_owned())),
        _ => Err(wrong(
            option,
            &typed,
            "a list of numbers and ranges",
            &format!("{option} 0-3,6"),
        )),
    }
}

fn ulimit(typed: OsString) -> Result<(String, Rlimit), Failure> {
    let typed = text::utf8("--ulimit", typed)?;
    let wrong = |why: &str| {
        Failure::new(
            format!("--ulimit {typed}: {why}"),
            "--ulimit nofile=1024:4096",
        )
    };
    let (name, values) = typed.split_once('=').ok_or_else(|| wrong("no = in it"))?;
    if !ULIMITS.contains(&name) {
        return Err(wrong(&format!("the limits are {}", ULIMITS.join(", "))));
    }
    let value = |text: &str| match text {
        "-1" | "unlimited" => Some(Rlimit::UNLIMITED),
        text => text
            .parse::<u64>()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit())),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    match (value(soft), value(hard)) {
        (Some(soft), Some(hard)) if soft <= hard => Ok((name.to_owned(), Rlimit { soft, hard })),
        (Some(_), Some(_)) => Err(wrong("the soft limit is above the hard one")),
        _ => Err(wrong("a limit is a number, -1 or unlimited")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: impl FnOnce(&mut Typed)) -> Result<Limits, Failure> {
        let mut typed = Typed::default();
        set(&mut typed);
        understand(typed)
    }

    #[test]
    fn sizes_are_dockers() {
        let limits = with(|t| t.memory = Some("512m".into())).unwrap();
        assert_eq!(limits.memory, Some(512 << 20));
        assert_eq!(with(|t| t.memory = Some("0".into())).unwrap().memory, None);
        for odd in ["", "m", "-1", "5m", "1e9", "512q", "99999999999999999999g"] {
            assert!(with(|t| t.memory = Some(odd.into())).is_err(), "{odd}");
        }
    }

    #[test]
    fn memory_and_swap_together_are_not_less_than_memory() {
        let both = |swap: &str| {
            with(|t| {
                t.memory = Some("64m".into());
                t.memory_swap = Some(swap.into());
            })
        };
        assert_eq!(both("128m").unwrap().swap, Some(Swap::Total(128 << 20)));
        assert_eq!(both("-1").unwrap().swap, Some(Swap::Unlimited));
        assert!(both("32m").is_err());
        assert!(with(|t| t.memory_swap = Some("1g".into())).is_err());
    }

    #[test]
    fn a_size_is_all_that_a_writable_layer_can_be_given() {
        let layer = |typed: &str| with(|t| t.layer = Some(typed.into()));
        assert_eq!(layer("size=1g").unwrap().layer, Some(1 << 30));
        for odd in ["1g", "size=", "size=0", "size=x", "dm.basesize=1g"] {
            assert!(layer(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn processors_are_counted_in_plain_decimals() {
        assert_eq!(
            with(|t| t.cpus = Some("1.5".into())).unwrap().cpus,
            Some(1.5)
        );
        for odd in ["", ".", "-1", "nan", "inf", "1e3", "0.001", "two"] {
            assert!(with(|t| t.cpus = Some(odd.into())).is_err(), "{odd}");
        }
    }

    #[test]
    fn lists_of_processors_are_checked() {
        assert!(with(|t| t.cpuset_cpus = Some("0-3,6".into())).is_ok());
        for odd in ["a", "1-", "-1", "3-1", "1,,2", "1, 2", "+1", "0-70000"] {
            assert!(with(|t| t.cpuset_cpus = Some(odd.into())).is_err(), "{odd}");
        }
    }

    #[test]
    fn ulimits_have_a_known_name_and_a_soft_limit_below_the_hard_one() {
        let limits =
            with(|t| t.ulimits = vec!["nofile=1:2".into(), "core=-1".into(), "cpu=5".into()])
                .unwrap();
        assert_eq!(
            limits.ulimits[0],
            ("nofile".to_owned(), Rlimit { soft: 1, hard: 2 })
        );
        assert_eq!(limits.ulimits[1].1.hard, Rlimit::UNLIMITED);
        assert_eq!(limits.ulimits[2].1, Rlimit { soft: 5, hard: 5 });
        for odd in [
            "nofile",
            "nofile=",
            "nofile=2:1",
            "files=1",
            "nofile=1:2:3",
            "nofile=+1",
            "nofile=unlimited:5",
        ] {
            assert!(with(|t| t.ulimits = vec![odd.into()]).is_err(), "{odd}");
        }
    }
}
