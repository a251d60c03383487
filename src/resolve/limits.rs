//! Limits: what a control group counts, and what each process may have.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};
use palisade_policies::{IoLimit, Policy, Rlimit};

use crate::caller::Caller;
use crate::failure::Failure;
use crate::request::{Limits, Mount, Pids, Request, Swap};

/// Microseconds in which `cpus` is counted.
pub const PERIOD: u64 = 100_000;

/// Where shared memory is.
pub const SHM: &str = "/dev/shm";

/// What a control group has to enforce; none if nothing.
pub fn resources(request: &Request, policy: &Policy) -> Result<Option<LinuxResources>, Failure> {
    let (asked, limits) = (&request.limits, &policy.limits);
    let mut resources = LinuxResources::default();
    let mut any = false;
    if limits.memory.is_some() || asked.memory_reservation.is_some() || asked.swap.is_some() {
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(limits.memory.map(signed))
            .set_swap(memory_and_swap(request, policy))
            .set_reservation(asked.memory_reservation.map(signed));
        resources.set_memory(Some(memory));
        any = true;
    }
    // Processors are counted in our own period, unless it is a quota that was asked for, and holds.
    let (quota, period) = match (limits.cpus, asked_quota(asked)) {
        // Not lowered by a pin meanwhile.
        (Some(cpus), Some((same, quota, period))) if cpus >= same => (Some(quota), period),
        (cpus, _) => (cpus.map(microseconds), PERIOD),
    };
    if quota.is_some()
        || asked.cpu_shares.is_some()
        || limits.cpuset.is_some()
        || asked.cpuset_mems.is_some()
    {
        limits.cpuset.as_deref().map_or(Ok(()), check_processors)?;
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(quota)
            .set_period(quota.map(|_| period))
            .set_shares(asked.cpu_shares)
            .set_cpus(limits.cpuset.clone())
            .set_mems(asked.cpuset_mems.clone());
        resources.set_cpu(Some(cpu));
        any = true;
    }
    if let Some(limit) = limits.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(signed(limit));
        resources.set_pids(Some(pids));
        any = true;
    }
    if !limits.io.is_empty() {
        resources.set_block_io(Some(block_io(&limits.io)?));
        any = true;
    }
    Ok(any.then_some(resources))
}

pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Time in each period; at least what the kernel takes.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // At most 65536 processors.
pub fn microseconds(cpus: f64) -> i64 {
    ((cpus * PERIOD as f64).round() as i64).max(1000)
}

/// `--cpu-quota` with its period: as processors, and as it was asked for.
#[allow(clippy::cast_precision_loss)] // Beyond 2^53 microseconds nothing is limited.
pub fn asked_quota(limits: &Limits) -> Option<(f64, i64, u64)> {
    let quota = limits.cpu_quota?;
    let period = limits.cpu_period.unwrap_or(PERIOD);
    Some((quota as f64 / period as f64, quota, period))
}

/// The runtime configuration's `swap` is memory and swap together; -1 stands for no bound.
fn memory_and_swap(request: &Request, policy: &Policy) -> Option<i64> {
    match (
        request.limits.swap,
        policy.limits.memory,
        policy.limits.swap,
    ) {
        (Some(Swap::Unlimited), _, None) => Some(-1),
        (_, Some(memory), Some(swap)) => Some(signed(memory.saturating_add(swap))),
        // As docker has it: as much swap as memory.
        (_, Some(memory), None) => Some(signed(memory.saturating_mul(2))),
        (_, None, _) => None,
    }
}

/// A rate for each device and kind. Two names of one device are one device, for which the lowest rate holds: the kernel
/// would take the last.
fn block_io(limits: &[IoLimit]) -> Result<LinuxBlockIo, Failure> {
    let mut rates: [BTreeMap<(u64, u64), u64>; 4] = Default::default();
    for limit in limits {
        let device = limit
            .device
            .metadata()
            .ok()
            .filter(|m| m.file_type().is_block_device())
            .ok_or_else(|| {
                Failure::new(
                    format!(
                        "the policy limits {}, which is no block device here",
                        limit.device.display()
                    ),
                    "lsblk -p lists them",
                )
            })?;
        let number = (major(device.rdev()), minor(device.rdev()));
        let asked = [
            limit.read_bps,
            limit.write_bps,
            limit.read_iops,
            limit.write_iops,
        ];
        for (lowest, rate) in rates.iter_mut().zip(asked) {
            if let Some(rate) = rate {
                let held = lowest.entry(number).or_insert(rate);
                *held = rate.min(*held);
            }
        }
    }
    let [read_bps, write_bps, read_iops, write_iops] = rates.map(throttles);
    let mut io = LinuxBlockIo::default();
    io.set_throttle_read_bps_device(read_bps)
        .set_throttle_write_bps_device(write_bps)
        .set_throttle_read_iops_device(read_iops)
        .set_throttle_write_iops_device(write_iops);
    Ok(io)
}

fn throttles(rates: BTreeMap<(u64, u64), u64>) -> Option<Vec<LinuxThrottleDevice>> {
    let throttle = |((major, minor), rate): ((u64, u64), u64)| {
        LinuxThrottleDeviceBuilder::default()
            .major(signed(major))
            .minor(signed(minor))
            .rate(rate)
            .build()
            .expect("no field is missing")
    };
    (!rates.is_empty()).then(|| rates.into_iter().map(throttle).collect())
}

/// What this machine has of the processors of a list.
fn check_processors(list: &str) -> Result<(), Failure> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
    // Without a /sys the kernel's own answer has to do.
    let Ok(online) = online else { return Ok(()) };
    let online = online.trim();
    let there = palisade_policies::processors(online);
    if palisade_policies::processors(list).is_subset(&there) {
        return Ok(());
    }
    Err(Failure::new(
        format!("processors {list} were asked for, and this machine has {online}"),
        format!("--cpuset-cpus {online}, or a part of these; a policy says it in limits.cpuset"),
    ))
}

/// What each process may have. The policy's are ceilings; what was asked for must be to be had.
pub fn rlimits(
    request: &Request,
    policy: &Policy,
    caller: &Caller,
) -> Result<Vec<PosixRlimit>, Failure> {
    policy
        .limits
        .rlimits
        .iter()
        .map(|(name, limit)| {
            let most = caller.hard_limits.iter().find(|(n, _)| n == name).map_or(u64::MAX, |(_, hard)| *hard);
            let asked = request.limits.ulimits.iter().any(|(n, _)| n == name);
            if asked && limit.hard > most {
                return Err(Failure::new(
                    format!("--ulimit {name}: the hard limit here is {most}, and nothing above it can be given"),
                    format!("--ulimit {name}={most}"),
                ));
            }
            let kind = PosixRlimitType::from_str(&format!("RLIMIT_{}", name.to_ascii_uppercase())).map_err(|_| {
                Failure::new(format!("the policy names an unknown limit `{name}`"), "getrlimit(2) lists them")
            })?;
            let hard = limit.hard.min(most);
            let builder = PosixRlimitBuilder::default().typ(kind).hard(hard).soft(limit.soft.min(hard));
            Ok(builder.build().expect("no field is missing"))
        })
        .collect()
}

/// The calling process's hard limits of these names.
pub fn hard_limits<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(String, u64)> {
    names
        .filter_map(|name| {
            let resource = match name.as_str() {
                "as" => Resource::RLIMIT_AS,
                "core" => Resource::RLIMIT_CORE,
                "cpu" => Resource::RLIMIT_CPU,
                "data" => Resource::RLIMIT_DATA,
                "fsize" => Resource::RLIMIT_FSIZE,
                "locks" => Resource::RLIMIT_LOCKS,
                "memlock" => Resource::RLIMIT_MEMLOCK,
                "msgqueue" => Resource::RLIMIT_MSGQUEUE,
                "nice" => Resource::RLIMIT_NICE,
                "nofile" => Resource::RLIMIT_NOFILE,
                "nproc" => Resource::RLIMIT_NPROC,
                "rss" => Resource::RLIMIT_RSS,
                "rtprio" => Resource::RLIMIT_RTPRIO,
                "rttime" => Resource::RLIMIT_RTTIME,
                "sigpending" => Resource::RLIMIT_SIGPENDING,
                "stack" => Resource::RLIMIT_STACK,
                _ => return None,
            };
            getrlimit(resource)
                .ok()
                .map(|(_, hard)| (name.clone(), hard))
        })
        .collect()
}

/// Lets what was asked for on the command line replace the policy's limits.
pub fn refine(policy: &mut Policy, request: &Request) {
    let (asked, limits) = (&request.limits, &mut policy.limits);
    limits.memory = asked.memory.or(limits.memory);
    match (asked.swap, asked.memory) {
        (Some(Swap::Total(total)), Some(memory)) => {
            limits.swap = Some(total.saturating_sub(memory));
        }
        (Some(Swap::Unlimited), _) => limits.swap = None,
        _ => {}
    }
    let quota = asked_quota(&request.limits).map(|(cpus, ..)| cpus);
    limits.cpus = asked.cpus.or(quota).or(limits.cpus);
    limits.cpuset = asked.cpuset_cpus.clone().or(limits.cpuset.take());
    match asked.pids {
        Some(Pids::Most(number)) => limits.pids = Some(number),
        Some(Pids::Unlimited) => limits.pids = None,
        None => {}
    }
    // A tmpfs of one's own at /dev/shm is the same by another name.
    let shm = request.mounts.iter().find_map(|mount| match mount {
        Mount::Tmpfs(tmpfs) if tmpfs.destination == Path::new(SHM) => tmpfs.size,
        _ => None,
    });
    limits.shm = shm.or(asked.shm).unwrap_or(limits.shm);
    for (name, limit) in &asked.ulimits {
        limits.rlimits.insert(
            name.clone(),
            Rlimit {
                soft: limit.soft,
                hard: limit.hard,
            },
        );
    }
}
