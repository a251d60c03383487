//! An administrator's pins: limits that no policy and no option exceeds.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::canonical::rlimit;
use crate::error::Error;
use crate::file;
use crate::format;
use crate::policy::{IoLimit, Policy, Rlimit};
use crate::quantity::{format_duration, format_size};
use crate::reader::Reader;

/// The longest stop-timeout where a pin ends commands and does not say how long they may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the files of a pin directory say.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    /// Each file and its bounds, in order of the files' names.
    files: Vec<(String, Policy)>,
}

/// A limit that a pin lowered or set, or the minimum tier that it raised. Displayed as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The key, as sections and name joined by dots.
    pub key: String,
    /// What the policy or an option asked for.
    pub from: String,
    /// What holds.
    pub to: String,
    /// The pin file.
    pub origin: String,
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            from,
            to,
            origin,
        } = self;
        write!(f, "{key} is {to} in place of {from}: {origin} pins it")
    }
}

impl Pins {
    /// Where administrators put pins.
    pub const DIRECTORY: &'static str = "/etc/palisade/policy.d";

    /// Reads every `*.toml` file of `directory`. A directory that does not exist has no pins.
    ///
    /// # Errors
    /// A directory or a file that cannot be read, or is wrong, is an error: pins that cannot be known are not ignored.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Read {
            path: directory.to_owned(),
            source,
        };
        let entries = match std::fs::read_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            entries => entries.map_err(unreadable)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                paths.push(path);
            }
        }
        paths.sort();
        let mut pins = Self::default();
        for path in paths {
            pins.add(&file::text(&path)?, &path.display().to_string())?;
        }
        Ok(pins)
    }

    /// Adds the pins in `text`; `origin` names it in errors and in [`Lowered`].
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn add(&mut self, text: &str, origin: &str) -> Result<(), Error> {
        let mut bounds = Policy::blank();
        bounds.stop_timeout = Duration::MAX;
        format::read_pins(Reader { text, origin }, &mut bounds)?;
        self.files.push((origin.to_owned(), bounds));
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The first file that ends commands, where none says how long they may take to end: one that takes no notice of its stop
    /// signal would else be given any time beyond its limit.
    fn impatient(&self) -> Option<&str> {
        let mut files = self.files.iter();
        if files.any(|(_, pin)| pin.stop_timeout != Duration::MAX) {
            return None;
        }
        let ends = |pin: &Policy| pin.timeout.is_some() || pin.output_cap.is_some();
        let first = self.files.iter().find(|(_, pin)| ends(pin));
        first.map(|(origin, _)| origin.as_str())
    }
}

impl Policy {
    /// This policy within the pins, and what they changed. Call it after command line options have been applied.
    #[must_use]
    pub fn pinned_by(mut self, pins: &Pins) -> (Self, Vec<Lowered>) {
        let mut lowered = Vec::new();
        for (origin, pin) in &pins.files {
            let mut pinning = Pinning {
                origin,
                lowered: &mut lowered,
            };
            pinning.all(&mut self, pin);
        }
        if let Some(origin) = pins.impatient() {
            let mut pinning = Pinning {
                origin,
                lowered: &mut lowered,
            };
            pinning.stop_timeout(&mut self, PATIENCE);
        }
        (self, lowered)
    }
}

/// Applies one file's pins.
struct Pinning<'a> {
    origin: &'a str,
    lowered: &'a mut Vec<Lowered>,
}

impl Pinning<'_> {
    fn all(&mut self, policy: &mut Policy, pin: &Policy) {
        if policy.minimum_tier < pin.minimum_tier {
            self.note(
                "minimum-tier",
                policy.minimum_tier.word().to_owned(),
                pin.minimum_tier.word().to_owned(),
            );
            policy.minimum_tier = pin.minimum_tier;
        }
        self.lower("timeout", &mut policy.timeout, pin.timeout, |timeout| {
            format_duration(*timeout)
        });
        self.stop_timeout(policy, pin.stop_timeout);
        self.lower("output-cap", &mut policy.output_cap, pin.output_cap, size);
        let (limits, pins) = (&mut policy.limits, &pin.limits);
        self.lower("limits.memory", &mut limits.memory, pins.memory, size);
        self.lower("limits.swap", &mut limits.swap, pins.swap, size);
        self.lower("limits.cpus", &mut limits.cpus, pins.cpus, f64::to_string);
        self.lower("limits.pids", &mut limits.pids, pins.pids, u64::to_string);
        if limits.shm > pins.shm {
            self.note("limits.shm", size(&limits.shm), size(&pins.shm));
            limits.shm = pins.shm;
        }
        self.cpuset(&mut limits.cpuset, pins.cpuset.as_deref());
        for (name, pin) in &pins.rlimits {
            let asked = limits.rlimits.get(name).copied();
            let asked = asked.unwrap_or(Rlimit {
                soft: Rlimit::UNLIMITED,
                hard: Rlimit::UNLIMITED,
            });
            let held = Rlimit {
                soft: asked.soft.min(pin.soft),
                hard: asked.hard.min(pin.hard),
            };
            if held != asked {
                self.note(
                    &format!("limits.rlimits.{name}"),
                    rlimit(asked),
                    rlimit(held),
                );
                limits.rlimits.insert(name.clone(), held);
            }
        }
        for pin in &pins.io {
            let index = limits
                .io
                .iter()
                .position(|limit| limit.device == pin.device)
                .unwrap_or_else(|| {
                    limits.io.push(IoLimit {
                        device: pin.device.clone(),
                        ..Default::default()
                    });
                    limits.io.len() - 1
                });
            let limit = &mut limits.io[index];
            let key = |name| format!("limits.io.{}.{name}", pin.device.display());
            self.lower(&key("read-bps"), &mut limit.read_bps, pin.read_bps, size);
            self.lower(&key("write-bps"), &mut limit.write_bps, pin.write_bps, size);
            self.lower(
                &key("read-iops"),
                &mut limit.read_iops,
                pin.read_iops,
                u64::to_string,
            );
            self.lower(
                &key("write-iops"),
                &mut limit.write_iops,
                pin.write_iops,
                u64::to_string,
            );
        }
    }

    fn stop_timeout(&mut self, policy: &mut Policy, most: Duration) {
        if policy.stop_timeout > most {
            let from = format_duration(policy.stop_timeout);
            self.note("stop-timeout", from, format_duration(most));
            policy.stop_timeout = most;
        }
    }

    fn lower<T: PartialOrd>(
        &mut self,
        key: &str,
        value: &mut Option<T>,
        pin: Option<T>,
        show: impl Fn(&T) -> String,
    ) {
        let Some(pin) = pin else { return };
        if value.as_ref().is_none_or(|value| *value > pin) {
            let from = value.as_ref().map_or_else(|| "unlimited".to_owned(), &show);
            self.note(key, from, show(&pin));
            *value = Some(pin);
        }
    }

    fn cpuset(&mut self, value: &mut Option<String>, pin: Option<&str>) {
        let Some(pin) = pin else { return };
        let allowed = processors(pin);
        let asked = value.as_deref().map_or_else(|| allowed.clone(), processors);
        let both: BTreeSet<u16> = asked.intersection(&allowed).copied().collect();
        if value.is_none() || both != asked {
            // Nothing in common: the pinned processors are what there is.
            let held = if both.is_empty() { allowed } else { both };
            let held = held
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(",");
            self.note(
                "limits.cpuset",
                value.clone().unwrap_or_else(|| "unlimited".to_owned()),
                held.clone(),
            );
            *value = Some(held);
        }
    }

    fn note(&mut self, key: &str, from: String, to: String) {
        self.lowered.push(Lowered {
            key: key.to_owned(),
            from,
            to,
            origin: self.origin.to_owned(),
        });
    }
}

/// The processors of a list as `0-3,6`, each a number below 65536; what is none is left out.
#[must_use]
pub fn processors(list: &str) -> BTreeSet<u16> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<u16>().ok()?..=to.parse::<u16>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "as the other functions that show a value"
)]
fn size(bytes: &u64) -> String {
    format_size(*bytes)
}
