//! `palisade update`: other limits, or another restart policy, for sandboxes that exist.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use clap::ArgMatches;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Linux, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use palisade_policies::{Lowered, Pins, Policy, Tier};
use palisade_shim::Error;
use palisade_shim::monitor::Request;
use palisade_shim::state::{Change, Config, Entry, Registry, Restart};

use crate::failure::Failure;
use crate::request::{self, Limits, Pids, Swap, TypedLimits};
use crate::resolve::limits::{PERIOD, asked_quota, microseconds, signed};
use crate::sandboxes::{connect, each, failure, named, registry};
use crate::verb::tell;
use crate::{policy, record};

/// Changes each sandbox, whether it runs or not.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let restart = matches.get_one::<String>("restart");
    let restart = restart.map(|typed| request::restart(typed)).transpose()?;
    let names = named(matches);
    let mut follows = true;
    let code = each(&names, |name| {
        let entry = registry.find(name).map_err(|error| failure(&error))?;
        follows &= update(&registry, &entry, matches, restart)?;
        Ok(Some(name.to_owned()))
    })?;
    if !follows {
        let text = "what programs in a running sandbox read of the limits (/proc/meminfo, /proc/cpuinfo, \
                    /sys/devices/system/cpu) stays as it was until it is started again";
        tell("note", &[text.to_owned()]);
    }
    Ok(code)
}

/// Changes one; false where programs in it go on reading other limits.
fn update(
    registry: &Registry,
    entry: &Entry,
    matches: &ArgMatches,
    restart: Option<Restart>,
) -> Result<bool, Failure> {
    let told = |error: Error| failure(&error);
    let _alone = entry.wait_to_change().map_err(told)?;
    let config = entry.config().map_err(told)?;
    if config.auto_remove && restart.is_some_and(|restart| restart != Restart::No) {
        return Err(Failure::new(
            format!(
                "sandbox {} is removed when it ends (--rm), and --restart starts it again then",
                entry.short()
            ),
            "palisade run without --rm, for one that is started again",
        )
        .with_code(1));
    }
    let mut plan = entry.plan().map_err(told)?;
    let mut linux = plan.spec.linux().clone().unwrap_or_else(Linux::default);
    let mut resources = linux.resources().clone().unwrap_or_default();
    let asked = asked(matches, &resources)?;
    if asked == Limits::default() && restart.is_none() {
        return Err(Failure::new(
            "palisade update needs something to change",
            "palisade update --memory 512m NAME; palisade update --help",
        )
        .with_code(1));
    }
    let changed = changed(&asked, &mut resources);
    allowed(&asked, &changed, &config)?;
    let limited = asked != Limits::default();
    if limited {
        if plan.tier == Tier::NoNamespace {
            return Err(Failure::new(
                format!("sandbox {} has no control group, and its tier can have none", entry.short()),
                "palisade run --require no-cgroup, where namespaces can be had; palisade doctor says how",
            )
            .with_code(1));
        }
        // It was started without, as nothing was limited.
        plan.tier = Tier::Full;
        linux.set_resources(Some(resources));
        plan.spec.set_linux(Some(linux));
    }
    let change = Change {
        resources: limited.then_some(changed),
        limits: record::limits(&plan),
        plan,
        restart,
    };
    loop {
        if let Some(lock) = entry.lock_unless_live().map_err(told)? {
            let written = registry.change(entry, &change).map_err(told);
            drop(lock);
            return written.map(|_| true);
        }
        let Some(client) = connect(entry).map_err(told)? else {
            continue;
        };
        let file = file(&change)?;
        match client.ask_with(Request::Update, &[file.as_fd()]) {
            // It has ended meanwhile.
            Err(Error::MonitorGone { .. }) => {}
            other => break drop(other.map_err(told)?),
        }
    }
    let shown = asked.memory.is_some() || asked.cpus.is_some() || asked.cpuset_cpus.is_some();
    Ok(!shown)
}

/// The limits that were typed. What `--memory-swap` says alone is about the memory that there is.
fn asked(matches: &ArgMatches, resources: &LinuxResources) -> Result<Limits, Failure> {
    let typed = |name: &str| matches.get_one::<OsString>(name).cloned();
    let swap = typed("memory-swap");
    let memory = typed("memory");
    let held = resources.memory().as_ref().and_then(LinuxMemory::limit);
    let alone = memory.is_none() && swap.is_some();
    let memory = memory.or_else(|| held.filter(|_| alone).map(|held| held.to_string().into()));
    let mut limits = request::limits(TypedLimits {
        memory,
        memory_swap: swap,
        cpus: typed("cpus"),
        cpu_period: typed("cpu-period"),
        cpu_quota: typed("cpu-quota"),
        cpu_shares: typed("cpu-shares"),
        cpuset_cpus: typed("cpuset-cpus"),
        pids: typed("pids-limit"),
        ..TypedLimits::default()
    })?;
    if limits.swap.is_none()
        && let Some(memory) = limits.memory
    {
        limits.swap = kept_swap(memory, resources)?;
    }
    if let Some((quota, period)) = shared(&limits, resources)? {
        (limits.cpu_quota, limits.cpu_period) = (Some(quota), Some(period));
        limits.cpus = asked_quota(&limits).map(|(cpus, ..)| cpus);
    }
    Ok(limits)
}

/// The quota of `--cpu-quota` and the period of `--cpu-period`; what was not typed is what the sandbox has, else the kernel's.
fn shared(asked: &Limits, resources: &LinuxResources) -> Result<Option<(i64, u64)>, Failure> {
    if asked.cpu_quota.is_none() && asked.cpu_period.is_none() {
        return Ok(None);
    }
    let cpu = resources.cpu().as_ref();
    let quota = asked.cpu_quota.or(cpu.and_then(LinuxCpu::quota));
    let period = asked.cpu_period.or(cpu.and_then(LinuxCpu::period));
    let Some(quota) = quota.filter(|quota| *quota > 0) else {
        return Err(Failure::new(
            "--cpu-period alone limits nothing",
            "--cpu-quota with it, or --cpus",
        )
        .with_code(1));
    };
    Ok(Some((quota, period.unwrap_or(PERIOD).max(1))))
}

/// What becomes of swap when only memory changes: docker's default, twice the memory, and no swap at all stay what they are.
fn kept_swap(memory: u64, resources: &LinuxResources) -> Result<Option<Swap>, Failure> {
    let held = resources.memory().as_ref();
    let total = held.and_then(LinuxMemory::swap);
    let before = held.and_then(LinuxMemory::limit);
    Ok(Some(match (before, total) {
        (_, Some(-1)) => Swap::Unlimited,
        (Some(before), Some(total)) if total == before => Swap::Total(memory),
        (Some(before), Some(total)) if total != before.saturating_mul(2) => {
            let total = total.unsigned_abs();
            if total < memory {
                return Err(Failure::new(
                    format!("--memory {memory} is more than the {total} bytes that memory and swap may have together"),
                    format!("--memory {memory} --memory-swap {}", memory.saturating_mul(2)),
                )
                .with_code(1));
            }
            Swap::Total(total)
        }
        _ => Swap::Total(memory.saturating_mul(2)),
    }))
}

/// What was asked for, put into `resources`; and alone.
fn changed(asked: &Limits, resources: &mut LinuxResources) -> LinuxResources {
    let mut changed = LinuxResources::default();
    if asked.memory.is_some() || asked.swap.is_some() {
        let mut memory = resources.memory().unwrap_or_default();
        let limit = asked.memory.map(signed).or(memory.limit());
        let swap = match asked.swap {
            Some(Swap::Total(total)) => Some(signed(total)),
            Some(Swap::Unlimited) => Some(-1),
            None => memory.swap(),
        };
        memory.set_limit(limit).set_swap(swap);
        resources.set_memory(Some(memory));
        changed.set_memory(Some(memory));
    }
    if asked.cpus.is_some() || asked.cpu_shares.is_some() || asked.cpuset_cpus.is_some() {
        let mut only = LinuxCpu::default();
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        for cpu in [&mut only, &mut cpu] {
            // What was asked for as a quota stays one, as for a run: the period is also how long a program is held up at once.
            let quota = asked.cpu_quota.zip(asked.cpu_period);
            let quota = quota.or(asked.cpus.map(|cpus| (microseconds(cpus), PERIOD)));
            if let Some((quota, period)) = quota {
                cpu.set_quota(Some(quota)).set_period(Some(period));
            }
            if asked.cpu_shares.is_some() {
                cpu.set_shares(asked.cpu_shares);
            }
            if asked.cpuset_cpus.is_some() {
                cpu.set_cpus(asked.cpuset_cpus.clone());
            }
        }
        resources.set_cpu(Some(cpu));
        changed.set_cpu(Some(only));
    }
    if let Some(asked) = asked.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(match asked {
            Pids::Most(number) => signed(number),
            Pids::Unlimited => -1,
        });
        resources.set_pids(Some(pids));
        changed.set_pids(Some(pids));
    }
    changed
}

/// Refuses what the policy of the sandbox or the administrator's pins do not allow.
fn allowed(asked: &Limits, changed: &LinuxResources, config: &Config) -> Result<(), Failure> {
    let pins = Pins::load(Path::new(Pins::DIRECTORY)).map_err(|error| {
        Failure::new(
            error.to_string(),
            format!("ask the administrator to correct {}", Pins::DIRECTORY),
        )
    })?;
    let policy = policy::named(&source(config))?;
    let refined = refined(&policy, asked, changed);
    policy.check_refined(&refined).map_err(|error| {
        Failure::new(
            error.to_string(),
            "a limit that is as tight as the policy's, or tighter",
        )
        .with_code(1)
    })?;
    let (_, lowered) = refined.pinned_by(&pins);
    let memory = asked.memory.is_some() || asked.swap.is_some();
    let is_asked = |lowered: &&Lowered| match lowered.key.as_str() {
        "limits.memory" | "limits.swap" => memory,
        "limits.cpus" => asked.cpus.is_some(),
        "limits.cpuset" => asked.cpuset_cpus.is_some(),
        "limits.pids" => asked.pids.is_some(),
        _ => false,
    };
    match lowered.iter().find(is_asked) {
        Some(pin) => Err(Failure::new(
            format!(
                "{} {}: {} pins it at {}",
                pin.key, pin.from, pin.origin, pin.to
            ),
            format!("at most {}; the administrator may change the pin", pin.to),
        )
        .with_code(1)),
        None => Ok(()),
    }
}

/// The sandbox's policy as `--policy` takes it from any directory.
fn source(config: &Config) -> String {
    let typed = &config.policy_source;
    let is_file = typed.contains('/')
        || Path::new(typed)
            .extension()
            .is_some_and(|end| end == "toml");
    if is_file {
        let path = Path::new(&config.made_in).join(typed);
        return path.to_string_lossy().into_owned();
    }
    config.policy.clone()
}

/// The policy with what was asked for in it, as for a run.
fn refined(policy: &Policy, asked: &Limits, changed: &LinuxResources) -> Policy {
    let mut refined = policy.clone();
    let limits = &mut refined.limits;
    limits.memory = asked.memory.or(limits.memory);
    let memory = changed.memory().as_ref();
    match memory.map(|memory| (memory.limit(), memory.swap())) {
        Some((_, Some(-1))) => limits.swap = None,
        Some((Some(memory), Some(total))) => {
            limits.swap = Some(total.saturating_sub(memory).unsigned_abs());
        }
        _ => {}
    }
    limits.cpus = asked.cpus.or(limits.cpus);
    limits.cpuset = asked.cpuset_cpus.clone().or(limits.cpuset.take());
    match asked.pids {
        Some(Pids::Most(number)) => limits.pids = Some(number),
        Some(Pids::Unlimited) => limits.pids = None,
        None => {}
    }
    refined
}

/// The change in a file that nobody else sees.
fn file(change: &Change) -> Result<std::fs::File, Failure> {
    let failed = |what: String| Failure::new(format!("cannot pass the change on: {what}"), "");
    let memory = memfd_create(c"change", MFdFlags::MFD_CLOEXEC);
    let mut file = std::fs::File::from(memory.map_err(|errno| failed(errno.desc().into()))?);
    let text = serde_json::to_vec(change).map_err(|error| failed(error.to_string()))?;
    file.write_all(&text)
        .map_err(|error| failed(error.to_string()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(limit: i64, swap: Option<i64>) -> LinuxResources {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit)).set_swap(swap);
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(memory));
        resources
    }

    #[test]
    fn swap_follows_memory_as_it_was_asked_for_at_the_start() {
        for (before, total, expected) in [
            (100, Some(200), Swap::Total(1000)),
            (100, Some(100), Swap::Total(500)),
            (100, Some(-1), Swap::Unlimited),
            (100, Some(700), Swap::Total(700)),
        ] {
            let found = kept_swap(500, &held(before, total)).expect("a total");
            assert_eq!(found, Some(expected));
        }
        assert!(kept_swap(500, &held(100, Some(300))).is_err());
        let none = kept_swap(500, &LinuxResources::default()).expect("a total");
        assert_eq!(none, Some(Swap::Total(1000)));
    }

    #[test]
    fn a_quota_and_its_period_stay_as_they_are_typed_and_what_is_not_typed_stays() {
        let typed = |quota, period| Limits {
            cpu_quota: quota,
            cpu_period: period,
            ..Limits::default()
        };
        let none = LinuxResources::default();
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(30_000)).set_period(Some(20_000));
        let mut some = LinuxResources::default();
        some.set_cpu(Some(cpu));
        for (asked, held, expected) in [
            (typed(None, None), &some, None),
            (typed(Some(50_000), None), &none, Some((50_000, 100_000))),
            (
                typed(Some(50_000), Some(20_000)),
                &none,
                Some((50_000, 20_000)),
            ),
            (typed(Some(50_000), None), &some, Some((50_000, 20_000))),
            (typed(None, Some(60_000)), &some, Some((30_000, 60_000))),
        ] {
            assert_eq!(shared(&asked, held).expect("a share"), expected);
        }
        assert!(shared(&typed(None, Some(60_000)), &none).is_err());
        let asked = Limits {
            cpus: Some(0.001),
            ..typed(Some(1000), Some(1_000_000))
        };
        for cpu in [changed(&asked, &mut some).cpu().clone(), some.cpu().clone()] {
            let cpu = cpu.expect("a quota");
            assert_eq!((cpu.quota(), cpu.period()), (Some(1000), Some(1_000_000)));
        }
    }

    #[test]
    fn what_was_not_asked_for_stays() {
        let mut resources = held(100, Some(200));
        let asked = Limits {
            pids: Some(Pids::Unlimited),
            cpus: Some(1.5),
            ..Limits::default()
        };
        let only = changed(&asked, &mut resources);
        assert!(only.memory().is_none() && resources.memory().is_some());
        assert_eq!(only.pids().map(|pids| pids.limit()), Some(-1));
        let cpu = resources.cpu().clone().expect("a quota");
        assert_eq!(
            (cpu.quota(), cpu.period(), cpu.shares()),
            (Some(150_000), Some(100_000), None)
        );
    }
}
