//! What is to be limited, and the control files that say so in either version of cgroups.
//!
//! Sources: runtime-spec `config-linux.md`, kernel `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{
    Error,
    controllers::{Controller, Controllers},
};

/// The limits of an OCI `linux.resources`, checked for contradictions, in plain numbers.
///
/// Device rules are not limits: palisade decides about devices by what it puts into /dev.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    memory: Option<LinuxMemory>,
    cpu: Option<LinuxCpu>,
    pids: Option<i64>,
    io: Option<LinuxBlockIo>,
    unified: BTreeMap<String, String>,
}

/// One value for one control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub controller: Controller,
    pub file: Cow<'static, str>,
    pub value: String,
    /// The limit in words, for messages.
    pub what: &'static str,
}

/// Above this a value means "no limit" (docker and podman pass such numbers).
const UNLIMITED: i64 = i64::MAX - 4096;

impl Limits {
    /// Takes the limits out of `resources`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when they contradict themselves, or ask for huge pages, rdma or network priorities,
    /// which are not supported.
    pub fn new(resources: &LinuxResources) -> Result<Self, Error> {
        let asked = |present: bool, name: &str| {
            if present {
                Err(Error::Invalid(format!(
                    "limits on {name} are not supported; remove them from the configuration"
                )))
            } else {
                Ok(())
            }
        };
        asked(
            resources
                .hugepage_limits()
                .as_ref()
                .is_some_and(|limits| !limits.is_empty()),
            "huge pages",
        )?;
        asked(
            resources
                .rdma()
                .as_ref()
                .is_some_and(|limits| !limits.is_empty()),
            "rdma",
        )?;
        asked(
            resources
                .network()
                .as_ref()
                .is_some_and(|n| n.class_id().is_some() || n.priorities().is_some()),
            "network classes",
        )?;
        let limits = Self {
            memory: *resources.memory(),
            cpu: resources.cpu().clone(),
            pids: resources
                .pids()
                .as_ref()
                .map(oci_spec::runtime::LinuxPids::limit),
            io: resources.block_io().clone(),
            unified: resources
                .unified()
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        };
        limits.check()?;
        Ok(limits)
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.unified.is_empty() && self.v2_typed().is_empty()
    }

    /// Which controllers these limits need.
    pub(super) fn controllers(&self) -> Controllers {
        let mut controllers: Controllers = self
            .v2_typed()
            .iter()
            .map(|setting| setting.controller)
            .collect();
        for key in self.unified.keys() {
            if let Some(controller) = Controller::of_file(key) {
                controllers.insert(controller);
            }
        }
        controllers
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(memory) = self.memory {
            let limit = memory.limit().filter(|limit| *limit > 0);
            if let Some(swap) = memory.swap().filter(|swap| *swap > 0) {
                match limit {
                    None => {
                        return Err(Error::Invalid(
                            "a limit on memory plus swap needs a limit on memory beside it".into(),
                        ));
                    }
                    Some(limit) if swap < limit => {
                        return Err(Error::Invalid(format!(
                            "the limit on memory plus swap ({swap} bytes) is below the limit on memory ({limit} bytes); it counts both"
                        )));
                    }
                    Some(_) => {}
                }
            }
            if let (Some(limit), Some(reservation)) =
                (limit, memory.reservation().filter(|value| *value > 0))
                && reservation > limit
            {
                return Err(Error::Invalid(format!(
                    "the memory reservation ({reservation} bytes) is above the limit on memory ({limit} bytes)"
                )));
            }
        }
        for key in self.unified.keys() {
            let sound = key
                .split_once('.')
                .is_some_and(|(name, file)| !name.is_empty() && !file.is_empty())
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if !sound {
                return Err(Error::Invalid(format!(
                    "{key:?} is not the name of a cgroup v2 control file, such as memory.high"
                )));
            }
        }
        Ok(())
    }

    /// The control files of cgroup v2, in the order of writing.
    pub(super) fn v2(&self) -> Result<Vec<Setting>, Error> {
        if self
            .memory
            .is_some_and(|memory| memory.disable_oom_killer() == Some(true))
        {
            return Err(Error::Invalid(
                "the OOM killer cannot be disabled under cgroup v2; remove disableOOMKiller".into(),
            ));
        }
        if self
            .cpu
            .as_ref()
            .is_some_and(|cpu| cpu.realtime_runtime().is_some() || cpu.realtime_period().is_some())
        {
            return Err(Error::Invalid("cgroup v2 has no limits on realtime scheduling; remove realtimeRuntime and realtimePeriod".into()));
        }
        let mut settings = self.v2_typed();
        for (key, value) in &self.unified {
            let Some(controller) = Controller::of_file(key) else {
                return Err(Error::Invalid(format!(
                    "{key}: no cgroup v2 controller that palisade knows has this control file"
                )));
            };
            settings.retain(|setting| setting.file != *key);
            settings.push(Setting {
                controller,
                file: Cow::Owned(key.clone()),
                value: value.clone(),
                what: "a unified resource",
            });
        }
        Ok(settings)
    }

    fn v2_typed(&self) -> Vec<Setting> {
        let mut list = List::default();
        if let Some(memory) = self.memory {
            if let Some(limit) = nonzero(memory.limit()) {
                list.add(Controller::Memory, "memory.max", v2_amount(limit), "memory");
                if limit > 0 {
                    // One process of an agent's command killed, the rest left confused, helps nobody.
                    list.add(Controller::Memory, "memory.oom.group", "1".into(), "memory");
                }
            }
            if let Some(reservation) = nonzero(memory.reservation()) {
                list.add(
                    Controller::Memory,
                    "memory.low",
                    v2_amount(reservation),
                    "memory reservation",
                );
            }
            if let Some(swap) = nonzero(memory.swap()) {
                // OCI counts memory and swap together, cgroup v2 counts swap alone.
                let alone = if swap > 0 {
                    swap - memory.limit().unwrap_or(0)
                } else {
                    swap
                };
                list.add(
                    Controller::Memory,
                    "memory.swap.max",
                    v2_amount(alone),
                    "swap",
                );
            }
        }
        if let Some(cpu) = &self.cpu {
            if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
                list.add(
                    Controller::Cpu,
                    "cpu.weight",
                    weight_of_shares(shares).to_string(),
                    "cpu shares",
                );
            }
            if cpu.quota().is_some_and(|quota| quota != 0)
                || cpu.period().is_some_and(|period| period != 0)
            {
                let quota = cpu
                    .quota()
                    .filter(|quota| *quota > 0)
                    .map_or("max".into(), |quota| quota.to_string());
                let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
                list.add(
                    Controller::Cpu,
                    "cpu.max",
                    format!("{quota} {period}"),
                    "cpus",
                );
            }
            if let Some(burst) = cpu.burst() {
                list.add(
                    Controller::Cpu,
                    "cpu.max.burst",
                    burst.to_string(),
                    "cpu burst",
                );
            }
            if let Some(idle) = cpu.idle() {
                list.add(Controller::Cpu, "cpu.idle", idle.to_string(), "cpu idle");
            }
            list.cpuset(cpu);
        }
        if let Some(limit) = self.pids {
            let value = if limit > 0 {
                limit.to_string()
            } else {
                "max".into()
            };
            list.add(Controller::Pids, "pids.max", value, "pids");
        }
        if let Some(io) = &self.io {
            if let Some(weight) = io.weight().filter(|weight| *weight > 0) {
                list.add(
                    Controller::Io,
                    "io.weight",
                    format!("default {}", io_weight(weight)),
                    "io weight",
                );
            }
            let throttles = [
                (io.throttle_read_bps_device(), "rbps"),
                (io.throttle_write_bps_device(), "wbps"),
                (io.throttle_read_iops_device(), "riops"),
                (io.throttle_write_iops_device(), "wiops"),
            ];
            for (devices, key) in throttles {
                for device in devices.iter().flatten() {
                    let rate = if device.rate() == 0 {
                        "max".into()
                    } else {
                        device.rate().to_string()
                    };
                    let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
                    list.add(Controller::Io, "io.max", value, "io");
                }
            }
        }
        list.0
    }

    /// The control files of cgroup v1, in the order of writing.
    pub(super) fn v1(&self) -> Result<Vec<Setting>, Error> {
        if let Some(key) = self.unified.keys().next() {
            return Err(Error::Invalid(format!(
                "{key} is a control file of cgroup v2, and this host limits by cgroup v1"
            )));
        }
        let mut list = List::default();
        if let Some(memory) = self.memory {
            if let Some(limit) = nonzero(memory.limit()) {
                list.add(
                    Controller::Memory,
                    "memory.limit_in_bytes",
                    v1_amount(limit),
                    "memory",
                );
            }
            if let Some(reservation) = nonzero(memory.reservation()) {
                list.add(
                    Controller::Memory,
                    "memory.soft_limit_in_bytes",
                    v1_amount(reservation),
                    "memory reservation",
                );
            }
            if let Some(swap) = nonzero(memory.swap()) {
                list.add(
                    Controller::Memory,
                    "memory.memsw.limit_in_bytes",
                    v1_amount(swap),
                    "swap",
                );
            }
            if let Some(swappiness) = memory.swappiness() {
                list.add(
                    Controller::Memory,
                    "memory.swappiness",
                    swappiness.to_string(),
                    "swappiness",
                );
            }
            if memory.disable_oom_killer() == Some(true) {
                list.add(
                    Controller::Memory,
                    "memory.oom_control",
                    "1".into(),
                    "the OOM killer",
                );
            }
        }
        if let Some(cpu) = &self.cpu {
            let mut number = |file, value: Option<i128>, what| {
                if let Some(value) = value.filter(|value| *value != 0) {
                    list.add(Controller::Cpu, file, value.to_string(), what);
                }
            };
            number("cpu.shares", cpu.shares().map(Into::into), "cpu shares");
            number("cpu.cfs_period_us", cpu.period().map(Into::into), "cpus");
            number("cpu.cfs_quota_us", cpu.quota().map(Into::into), "cpus");
            number("cpu.cfs_burst_us", cpu.burst().map(Into::into), "cpu burst");
            number("cpu.idle", cpu.idle().map(Into::into), "cpu idle");
            number(
                "cpu.rt_period_us",
                cpu.realtime_period().map(Into::into),
                "realtime cpu",
            );
            number(
                "cpu.rt_runtime_us",
                cpu.realtime_runtime().map(Into::into),
                "realtime cpu",
            );
            list.cpuset(cpu);
        }
        if let Some(limit) = self.pids {
            let value = if limit > 0 {
                limit.to_string()
            } else {
                "max".into()
            };
            list.add(Controller::Pids, "pids.max", value, "pids");
        }
        if let Some(io) = &self.io {
            if let Some(weight) = io.weight().filter(|weight| *weight > 0) {
                list.add(
                    Controller::Io,
                    "blkio.bfq.weight",
                    weight.to_string(),
                    "io weight",
                );
            }
            list.throttle(
                "blkio.throttle.read_bps_device",
                io.throttle_read_bps_device().as_deref(),
            );
            list.throttle(
                "blkio.throttle.write_bps_device",
                io.throttle_write_bps_device().as_deref(),
            );
            list.throttle(
                "blkio.throttle.read_iops_device",
                io.throttle_read_iops_device().as_deref(),
            );
            list.throttle(
                "blkio.throttle.write_iops_device",
                io.throttle_write_iops_device().as_deref(),
            );
        }
        Ok(list.0)
    }

    /// What is limited, in words, for messages.
    pub(super) fn in_words(&self) -> String {
        let mut words = String::new();
        for controller in self.controllers().iter() {
            let separator = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{separator}{}", controller.name());
        }
        words
    }
}

#[derive(Default)]
struct List(Vec<Setting>);

impl List {
    fn add(
        &mut self,
        controller: Controller,
        file: &'static str,
        value: String,
        what: &'static str,
    ) {
        self.0.push(Setting {
            controller,
            file: Cow::Borrowed(file),
            value,
            what,
        });
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) {
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.add(Controller::Cpuset, file, value.clone(), "cpuset");
            }
        }
    }

    fn throttle(&mut self, file: &'static str, devices: Option<&[LinuxThrottleDevice]>) {
        for device in devices.into_iter().flatten() {
            self.add(
                Controller::Io,
                file,
                format!("{}:{} {}", device.major(), device.minor(), device.rate()),
                "io",
            );
        }
    }
}

/// OCI gives 0 no meaning; engines write it for "not set".
fn nonzero(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

fn v2_amount(value: i64) -> String {
    if (0..UNLIMITED).contains(&value) {
        value.to_string()
    } else {
        "max".into()
    }
}

fn v1_amount(value: i64) -> String {
    if (0..UNLIMITED).contains(&value) {
        value.to_string()
    } else {
        "-1".into()
    }
}

/// Maps v1's shares, 2..=262144, onto v2's weight, 1..=10000.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Maps v1's blkio weight, 10..=1000, onto v2's io weight, 1..=10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        super::super::tests::resources(json)
    }

    fn written(settings: &[Setting]) -> Vec<String> {
        settings
            .iter()
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect()
    }

    #[test]
    fn docker_limits_become_the_files_of_both_versions() {
        let limits = Limits::new(&resources(
            r#"{"memory":{"limit":536870912,"swap":1073741824,"reservation":268435456},
                "cpu":{"quota":150000,"period":100000,"shares":1024,"cpus":"0-1"},"pids":{"limit":256}}"#,
        ))
        .unwrap();
        assert_eq!(
            written(&limits.v2().unwrap()),
            [
                "memory.max=536870912",
                "memory.oom.group=1",
                "memory.low=268435456",
                "memory.swap.max=536870912",
                "cpu.weight=39",
                "cpu.max=150000 100000",
                "cpuset.cpus=0-1",
                "pids.max=256",
            ]
        );
        assert_eq!(
            written(&limits.v1().unwrap()),
            [
                "memory.limit_in_bytes=536870912",
                "memory.soft_limit_in_bytes=268435456",
                "memory.memsw.limit_in_bytes=1073741824",
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpuset.cpus=0-1",
                "pids.max=256",
            ]
        );
        assert_eq!(limits.in_words(), "memory, cpu, cpuset, pids");
    }

    #[test]
    fn io_throttles_become_the_files_of_both_versions() {
        let limits = Limits::new(&resources(
            r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":100}]}}"#,
        ))
        .unwrap();
        assert_eq!(
            written(&limits.v2().unwrap()),
            [
                "io.weight=default 4950",
                "io.max=8:0 rbps=1048576",
                "io.max=8:16 wiops=100"
            ]
        );
        assert_eq!(
            written(&limits.v1().unwrap()),
            [
                "blkio.bfq.weight=500",
                "blkio.throttle.read_bps_device=8:0 1048576",
                "blkio.throttle.write_iops_device=8:16 100"
            ]
        );
    }

    #[test]
    fn unlimited_and_unset_values_limit_nothing() {
        assert!(Limits::new(&LinuxResources::default()).unwrap().is_empty());
        assert!(
            Limits::new(&resources(
                r#"{"memory":{"limit":0},"cpu":{"quota":0,"shares":0}}"#
            ))
            .unwrap()
            .is_empty()
        );
        let limits = Limits::new(&resources(
            r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#,
        ))
        .unwrap();
        assert_eq!(
            written(&limits.v2().unwrap()),
            [
                "memory.max=max",
                "memory.swap.max=max",
                "cpu.max=max 100000",
                "pids.max=max"
            ]
        );
    }

    #[test]
    fn no_swap_at_all_is_a_total_equal_to_the_memory_limit() {
        let limits = Limits::new(&resources(r#"{"memory":{"limit":1000,"swap":1000}}"#)).unwrap();
        assert!(written(&limits.v2().unwrap()).contains(&"memory.swap.max=0".into()));
    }

    #[test]
    fn contradictions_are_refused_with_both_numbers() {
        let error = Limits::new(&resources(r#"{"memory":{"limit":2000,"swap":1000}}"#))
            .unwrap_err()
            .to_string();
        assert!(error.contains("1000") && error.contains("2000"), "{error}");
        assert!(Limits::new(&resources(r#"{"memory":{"swap":1000}}"#)).is_err());
        assert!(
            Limits::new(&resources(
                r#"{"memory":{"limit":1000,"reservation":2000}}"#
            ))
            .is_err()
        );
        assert!(
            Limits::new(&resources(
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#
            ))
            .is_err()
        );
    }

    #[test]
    fn unified_keys_replace_what_was_converted_and_cannot_leave_the_cgroup() {
        let limits = Limits::new(&resources(
            r#"{"memory":{"limit":1000},"unified":{"memory.max":"2000","pids.max":"9"}}"#,
        ))
        .unwrap();
        assert_eq!(
            written(&limits.v2().unwrap()),
            ["memory.oom.group=1", "memory.max=2000", "pids.max=9"]
        );
        assert!(limits.v1().is_err());
        for key in [
            "../memory.max",
            "cgroup.procs/../x",
            "memory",
            ".max",
            "a/b.c",
        ] {
            let json = format!(r#"{{"unified":{{"{key}":"1"}}}}"#);
            assert!(Limits::new(&resources(&json)).is_err(), "{key}");
        }
        let limits = Limits::new(&resources(r#"{"unified":{"cgroup.procs":"1"}}"#)).unwrap();
        assert!(limits.v2().is_err());
    }

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        assert_eq!(
            [2, 1024, 262_144, 0, u64::MAX].map(weight_of_shares),
            [1, 39, 10_000, 1, 10_000]
        );
        assert_eq!(
            [10, 1000, 0, u16::MAX].map(io_weight),
            [1, 10_000, 1, 10_000]
        );
    }
}
