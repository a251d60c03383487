//! How many runs a pool takes: a file of numbers, and what the machine has.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::caller::Caller;
use crate::failure::{Failure, reason};

/// Where an administrator puts the files of pools, which nobody else's come before.
const SYSTEM: &str = "/etc/palisade/pools";

/// The numbers of a pool. A file may set each; what it does not set is as here.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// Most runs at once, whatever the machine has.
    pub hard_cap: u32,
    /// Most that wait.
    pub queue: u32,
    /// Runs for each processor.
    pub cpu_factor: f64,
    /// Memory that is not for runs, in MiB.
    pub memory_reserve: u64,
    /// Memory of one run, in MiB.
    pub memory_per_run: u64,
    /// Open files that are not for runs.
    pub fds_reserve: u64,
    /// Open files of one run.
    pub fds_per_run: u64,
    /// Processes that are not for runs.
    pub pids_reserve: u64,
    /// Processes of one run.
    pub pids_per_run: u64,
    /// Runs at once where the machine does not tell what it has.
    pub fallback: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            hard_cap: 16,
            queue: 128,
            cpu_factor: 0.75,
            memory_reserve: 1024,
            memory_per_run: 1024,
            fds_reserve: 256,
            fds_per_run: 64,
            pids_reserve: 128,
            pids_per_run: 1,
            fallback: 2,
        }
    }
}

/// What the machine has for the caller; none where that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors that may be used.
    pub cpus: Option<u64>,
    /// Memory, in MiB.
    pub memory: Option<u64>,
    /// Open files.
    pub fds: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
}

impl Machine {
    /// This machine: affinity and quota, the kernel's figure of memory, the caller's resource limits (getrlimit(2)).
    pub fn read() -> Self {
        let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
        let number = |path: &str| {
            std::fs::read_to_string(path)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("MemTotal:"))?;
                line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
            });
        Self {
            cpus: std::thread::available_parallelism()
                .ok()
                .and_then(|count| u64::try_from(count.get()).ok()),
            memory: memory.map(|kib| kib / 1024),
            fds: Some(limit(Resource::Nofile)),
            pids: number("/proc/sys/kernel/pid_max").map(|most| most.min(limit(Resource::Nproc))),
        }
    }
}

impl Size {
    /// How many runs there may be at once: the least that any of the figures allows, and one at the least.
    pub fn slots(&self, machine: Machine) -> u32 {
        let Machine {
            cpus: Some(cpus),
            memory: Some(memory),
            fds: Some(fds),
            pids: Some(pids),
        } = machine
        else {
            return self.fallback.min(self.hard_cap).max(1);
        };
        let share = |all: u64, reserve: u64, each: u64| all.saturating_sub(reserve) / each.max(1);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss
        )] // A small number, not negative, rounded down on purpose.
        let by_cpus = (cpus as f64 * self.cpu_factor) as u64;
        let least = by_cpus
            .min(share(memory, self.memory_reserve, self.memory_per_run))
            .min(share(fds, self.fds_reserve, self.fds_per_run))
            .min(share(pids, self.pids_reserve, self.pids_per_run));
        u32::try_from(least)
            .unwrap_or(u32::MAX)
            .clamp(1, self.hard_cap.max(1))
    }

    /// The numbers of the pool `name`: those of the administrator's file, else of the caller's own, else the defaults.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn of(name: &str, caller: &Caller) -> Result<Self, Failure> {
        let file = format!("{name}.toml");
        let mut places = vec![Path::new(SYSTEM).join(&file)];
        let variable = |name: &str| {
            let value = caller.variable(name.as_ref()).map(PathBuf::from);
            value.filter(|path| path.is_absolute())
        };
        let own = variable("XDG_CONFIG_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".config")));
        places.extend(own.map(|own| own.join("palisade/pools").join(&file)));
        for path in places {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&path, &text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Failure::new(
                        format!(
                            "cannot read the pool {}: {}",
                            path.display(),
                            reason(&error)
                        ),
                        "a file that you may read",
                    ));
                }
            }
        }
        Ok(Self::default())
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::new(
                format!("the pool {}: {why}", path.display()),
                "hard-cap = 16, queue = 128, cpu-factor = 0.75, memory-reserve, memory-per-run (MiB), fds-reserve, fds-per-run, \
                 pids-reserve, pids-per-run, fallback = 2",
            )
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].split('\n').count());
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let mut size = Self::default();
        for (key, value) in &table {
            let number = || {
                let number = value
                    .as_integer()
                    .and_then(|number| u64::try_from(number).ok());
                number.ok_or_else(|| wrong(format!("{key} is a number, not negative")))
            };
            let small = || {
                let small = number().map(u32::try_from)?;
                small.map_err(|_| wrong(format!("{key} is too large")))
            };
            match key.as_str() {
                "hard-cap" => size.hard_cap = small()?,
                "queue" => size.queue = small()?,
                "cpu-factor" => {
                    let factor = match value {
                        toml::Value::Float(factor) => Some(*factor),
                        _ => number()
                            .ok()
                            .and_then(|number| u32::try_from(number).ok())
                            .map(f64::from),
                    };
                    size.cpu_factor = factor
                        .filter(|factor| (0.0..=1000.0).contains(factor))
                        .ok_or_else(|| wrong("cpu-factor is a number from 0 to 1000".to_owned()))?;
                }
                "memory-reserve" => size.memory_reserve = number()?,
                "memory-per-run" => size.memory_per_run = number()?,
                "fds-reserve" => size.fds_reserve = number()?,
                "fds-per-run" => size.fds_per_run = number()?,
                "pids-reserve" => size.pids_reserve = number()?,
                "pids-per-run" => size.pids_per_run = number()?,
                "fallback" => size.fallback = small()?,
                _ => return Err(wrong(format!("there is no key `{key}`"))),
            }
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Machine = Machine {
        cpus: Some(64),
        memory: Some(256 << 10),
        fds: Some(1 << 20),
        pids: Some(1 << 22),
    };

    #[test]
    fn the_scarcest_thing_decides() {
        let size = Size::default();
        for (machine, slots) in [
            (LARGE, 16),
            (
                Machine {
                    cpus: Some(4),
                    ..LARGE
                },
                3,
            ),
            (
                Machine {
                    cpus: Some(1),
                    ..LARGE
                },
                1,
            ),
            (
                Machine {
                    memory: Some(6 << 10),
                    ..LARGE
                },
                5,
            ),
            (
                Machine {
                    memory: Some(512),
                    ..LARGE
                },
                1,
            ),
            (
                Machine {
                    fds: Some(1024),
                    ..LARGE
                },
                12,
            ),
            (
                Machine {
                    pids: Some(135),
                    ..LARGE
                },
                7,
            ),
            (
                Machine {
                    memory: None,
                    ..LARGE
                },
                2,
            ),
        ] {
            assert_eq!(size.slots(machine), slots, "{machine:?}");
        }
        assert!(size.slots(Machine::read()) >= 1);
    }

    #[test]
    fn a_file_sets_what_it_names_and_is_refused_where_it_is_wrong() {
        let read = |text: &str| Size::parse(Path::new("p.toml"), text);
        let size = read("hard-cap = 4\ncpu-factor = 2\nmemory-per-run = 0").unwrap();
        assert_eq!((size.hard_cap, size.queue, size.cpu_factor), (4, 128, 2.0));
        assert_eq!(size.slots(LARGE), 4);
        for (text, words) in [
            ("hard_cap = 4", "no key `hard_cap`"),
            ("queue = -1", "queue is a number"),
            ("cpu-factor = 'x'", "cpu-factor is a number"),
            ("queue = 99999999999", "too large"),
            ("queue =\n", "line 1"),
        ] {
            let failure = read(text).unwrap_err();
            assert!(failure.message().contains(words), "{}", failure.message());
        }
    }
}
