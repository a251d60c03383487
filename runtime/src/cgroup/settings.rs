//! Limits as values for control files: the conversions between OCI's numbers, cgroup v1's and cgroup v2's.
//!
//! Sources: runtime-spec `config-linux.md`, kernel `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

use std::borrow::Cow;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxThrottleDevice};

use super::controllers::Controller;

/// One value for one control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub controller: Controller,
    pub file: Cow<'static, str>,
    pub value: String,
    /// The limit in words, for messages.
    pub what: &'static str,
}

/// Values in the order of writing.
#[derive(Default)]
pub(super) struct Settings(pub Vec<Setting>);

/// Above this a value means "no limit" (docker and podman pass such numbers).
const UNLIMITED: i64 = i64::MAX - 4096;

impl Settings {
    pub fn memory_v2(&mut self, memory: &LinuxMemory) {
        if let Some(limit) = nonzero(memory.limit()) {
            self.memory("memory.max", amount(limit, "max"), "memory");
            if limit > 0 {
                // One process of an agent's command killed, the rest left confused, helps nobody.
                self.memory("memory.oom.group", "1".into(), "memory");
            }
        }
        if let Some(reservation) = nonzero(memory.reservation()) {
            self.memory(
                "memory.low",
                amount(reservation, "max"),
                "memory reservation",
            );
        }
        if let Some(swap) = nonzero(memory.swap()) {
            // OCI counts memory and swap together, cgroup v2 counts swap alone.
            let memory = if swap > 0 {
                memory.limit().unwrap_or(0)
            } else {
                0
            };
            self.memory("memory.swap.max", amount(swap - memory, "max"), "swap");
        }
    }

    pub fn memory_v1(&mut self, memory: &LinuxMemory) {
        if let Some(limit) = nonzero(memory.limit()) {
            self.memory("memory.limit_in_bytes", amount(limit, "-1"), "memory");
        }
        if let Some(reservation) = nonzero(memory.reservation()) {
            let value = amount(reservation, "-1");
            self.memory("memory.soft_limit_in_bytes", value, "memory reservation");
        }
        if let Some(swap) = nonzero(memory.swap()) {
            self.memory("memory.memsw.limit_in_bytes", amount(swap, "-1"), "swap");
        }
        if let Some(swappiness) = memory.swappiness() {
            self.memory("memory.swappiness", swappiness.to_string(), "swappiness");
        }
        if memory.disable_oom_killer() == Some(true) {
            self.memory("memory.oom_control", "1".into(), "the OOM killer");
        }
    }

    pub fn cpu_v2(&mut self, cpu: &LinuxCpu) {
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            self.cpu(
                "cpu.weight",
                weight_of_shares(shares).to_string(),
                "cpu shares",
            );
        }
        let quota = nonzero(cpu.quota());
        let period = cpu.period().filter(|period| *period > 0);
        if quota.is_some() || period.is_some() {
            let quota = amount(quota.unwrap_or(-1), "max");
            let value = format!("{quota} {}", period.unwrap_or(100_000));
            self.cpu("cpu.max", value, "cpus");
        }
        if let Some(burst) = cpu.burst() {
            self.cpu("cpu.max.burst", burst.to_string(), "cpu burst");
        }
        if let Some(idle) = cpu.idle() {
            self.cpu("cpu.idle", idle.to_string(), "cpu idle");
        }
        self.cpuset(cpu);
    }

    pub fn cpu_v1(&mut self, cpu: &LinuxCpu) {
        let numbers: [(_, Option<i128>, _); 7] = [
            ("cpu.shares", cpu.shares().map(Into::into), "cpu shares"),
            ("cpu.cfs_period_us", cpu.period().map(Into::into), "cpus"),
            ("cpu.cfs_quota_us", cpu.quota().map(Into::into), "cpus"),
            ("cpu.cfs_burst_us", cpu.burst().map(Into::into), "cpu burst"),
            ("cpu.idle", cpu.idle().map(Into::into), "cpu idle"),
            (
                "cpu.rt_period_us",
                cpu.realtime_period().map(Into::into),
                "realtime cpu",
            ),
            (
                "cpu.rt_runtime_us",
                cpu.realtime_runtime().map(Into::into),
                "realtime cpu",
            ),
        ];
        for (file, value, what) in numbers {
            if let Some(value) = value.filter(|value| *value != 0) {
                self.cpu(file, value.to_string(), what);
            }
        }
        self.cpuset(cpu);
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) {
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.add(Controller::Cpuset, file, value.clone(), "cpuset");
            }
        }
    }

    /// The same file in both versions.
    pub fn pids(&mut self, limit: i64) {
        let value = if limit > 0 {
            limit.to_string()
        } else {
            "max".into()
        };
        self.add(Controller::Pids, "pids.max", value, "pids");
    }

    pub fn io_v2(&mut self, io: &LinuxBlockIo) {
        if let Some(weight) = io.weight().filter(|weight| *weight > 0) {
            let value = format!("default {}", io_weight(weight));
            self.add(Controller::Io, "io.weight", value, "io weight");
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
                self.add(Controller::Io, "io.max", value, "io");
            }
        }
    }

    pub fn io_v1(&mut self, io: &LinuxBlockIo) {
        if let Some(weight) = io.weight().filter(|weight| *weight > 0) {
            self.add(
                Controller::Io,
                "blkio.bfq.weight",
                weight.to_string(),
                "io weight",
            );
        }
        let mut throttle = |file, devices: &Option<Vec<LinuxThrottleDevice>>| {
            for device in devices.iter().flatten() {
                let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
                self.add(Controller::Io, file, value, "io");
            }
        };
        throttle(
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device(),
        );
        throttle(
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device(),
        );
        throttle(
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device(),
        );
        throttle(
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device(),
        );
    }

    fn memory(&mut self, file: &'static str, value: String, what: &'static str) {
        self.add(Controller::Memory, file, value, what);
    }

    fn cpu(&mut self, file: &'static str, value: String, what: &'static str) {
        self.add(Controller::Cpu, file, value, what);
    }

    fn add(
        &mut self,
        controller: Controller,
        file: &'static str,
        value: String,
        what: &'static str,
    ) {
        let file = Cow::Borrowed(file);
        self.0.push(Setting {
            controller,
            file,
            value,
            what,
        });
    }
}

/// OCI gives 0 no meaning; engines write it for "not set".
fn nonzero(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

/// The number, or the word for no limit.
fn amount(value: i64, unlimited: &str) -> String {
    if (0..UNLIMITED).contains(&value) {
        value.to_string()
    } else {
        unlimited.into()
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

    #[test]
    fn shares_and_weights_map_onto_the_whole_range() {
        assert_eq!(
            [2, 1024, 262_144, 0, u64::MAX].map(weight_of_shares),
            [1, 39, 10_000, 1, 10_000]
        );
        assert_eq!(
            [10, 1000, 0, u16::MAX].map(io_weight),
            [1, 10_000, 1, 10_000]
        );
    }

    #[test]
    fn the_largest_numbers_mean_no_limit() {
        assert_eq!(
            [-1, i64::MAX, 9_223_372_036_854_771_712].map(|value| amount(value, "max")),
            ["max"; 3]
        );
        assert_eq!(amount(0, "max"), "0");
    }
}
