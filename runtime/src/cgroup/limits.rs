//! What is to be limited: checked, and handed to either version of cgroups.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{
    Error,
    controllers::{Controller, Controllers},
    settings::{Setting, Settings},
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
        let realtime =
            |cpu: &LinuxCpu| cpu.realtime_runtime().is_some() || cpu.realtime_period().is_some();
        if self.cpu.as_ref().is_some_and(realtime) {
            return Err(Error::Invalid(
                "cgroup v2 has no limits on realtime scheduling; remove realtimeRuntime and realtimePeriod".into(),
            ));
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
        let mut settings = Settings::default();
        self.memory
            .iter()
            .for_each(|memory| settings.memory_v2(memory));
        self.cpu.iter().for_each(|cpu| settings.cpu_v2(cpu));
        self.pids.iter().for_each(|pids| settings.pids(*pids));
        self.io.iter().for_each(|io| settings.io_v2(io));
        settings.0
    }

    /// The control files of cgroup v1, in the order of writing.
    pub(super) fn v1(&self) -> Result<Vec<Setting>, Error> {
        if let Some(key) = self.unified.keys().next() {
            return Err(Error::Invalid(format!(
                "{key} is a control file of cgroup v2, and this host limits by cgroup v1"
            )));
        }
        let mut settings = Settings::default();
        self.memory
            .iter()
            .for_each(|memory| settings.memory_v1(memory));
        self.cpu.iter().for_each(|cpu| settings.cpu_v1(cpu));
        self.pids.iter().for_each(|pids| settings.pids(*pids));
        self.io.iter().for_each(|io| settings.io_v1(io));
        Ok(settings.0)
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
}
