//! What two policies do differently, and which of them is the tighter.

use std::collections::BTreeSet;
use std::fmt;

use crate::canonical::rlimit;
use crate::error::Error;
use crate::pins::processors;
use crate::policy::{Base, Flags, Handles, NetworkMode, Policy, Rlimit, Setuid, Sys};
use crate::quantity::{format_duration, format_size};

/// One key with different values. Displayed as `limits.memory: unlimited → 512MiB (tighter)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, as sections and name joined by dots.
    pub key: String,
    /// The value in the first policy.
    pub from: String,
    /// The value in the second.
    pub to: String,
    /// What the second policy's value means against the first's.
    pub direction: Direction,
}

/// What a changed value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Less is allowed.
    Tighter,
    /// More is allowed, or something else.
    Looser,
    /// Neither.
    Different,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            from,
            to,
            direction,
        } = self;
        let direction = match direction {
            Direction::Tighter => " (tighter)",
            Direction::Looser => " (looser)",
            Direction::Different => "",
        };
        write!(f, "{key}: {from} → {to}{direction}")
    }
}

impl Policy {
    /// Every key on which `other` differs, in the order of a policy file. Names and descriptions do not count.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<Difference> {
        let (ours, theirs) = (facts(self), facts(other));
        let mut differences = Vec::new();
        let only_theirs = theirs
            .iter()
            .filter(|fact| ours.iter().all(|our| our.key != fact.key));
        for fact in ours.iter().chain(only_theirs) {
            let from = ours
                .iter()
                .find(|other| other.key == fact.key)
                .map_or_else(|| fact.absent(), Clone::clone);
            let to = theirs
                .iter()
                .find(|other| other.key == fact.key)
                .map_or_else(|| fact.absent(), Clone::clone);
            if from.text != to.text {
                let direction = from.measure.direction(&to.measure);
                differences.push(Difference {
                    key: from.key,
                    from: from.text,
                    to: to.text,
                    direction,
                });
            }
        }
        differences
    }

    /// Whether this policy lets command line options make it into `refined`.
    ///
    /// # Errors
    /// [`Error::Loosened`] if it says `flags = "tighten-only"` and `refined` is looser anywhere.
    pub fn check_refined(&self, refined: &Self) -> Result<(), Error> {
        if self.flags == Flags::Refine {
            return Ok(());
        }
        match self
            .difference(refined)
            .into_iter()
            .find(|difference| difference.direction == Direction::Looser)
        {
            Some(change) => Err(Error::Loosened {
                policy: self.name.clone(),
                change: change.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// How a value compares with another of the same key.
#[derive(Clone)]
enum Measure {
    /// Less is tighter; none is no bound.
    Bound(Option<u64>),
    /// What is allowed: a subset is tighter.
    Allowed(BTreeSet<String>),
    /// Processors: a subset is tighter; none is all.
    Processors(Option<BTreeSet<u16>>),
    /// What is refused: a superset is tighter.
    Refused(BTreeSet<String>),
    /// Not comparable.
    Plain,
}

impl Measure {
    fn direction(&self, to: &Self) -> Direction {
        let tighter = match (self, to) {
            (Self::Bound(from), Self::Bound(to)) => {
                to.unwrap_or(u64::MAX) <= from.unwrap_or(u64::MAX)
            }
            (Self::Allowed(from), Self::Allowed(to)) => to.is_subset(from),
            (Self::Processors(None), Self::Processors(_)) => true,
            (Self::Processors(Some(from)), Self::Processors(to)) => {
                to.as_ref().is_some_and(|to| to.is_subset(from))
            }
            (Self::Refused(from), Self::Refused(to)) => to.is_superset(from),
            _ => return Direction::Different,
        };
        if tighter {
            Direction::Tighter
        } else {
            Direction::Looser
        }
    }
}

/// One key's value.
#[derive(Clone)]
struct Fact {
    key: String,
    text: String,
    measure: Measure,
}

impl Fact {
    fn new(key: &str, text: impl Into<String>, measure: Measure) -> Self {
        Self {
            key: key.to_owned(),
            text: text.into(),
            measure,
        }
    }

    /// What a policy without this key does.
    fn absent(&self) -> Self {
        let (text, measure) = match self.measure {
            // A file system that is not there holds nothing; a limit that is not there bounds nothing.
            Measure::Bound(_) if self.key.starts_with("filesystem.tmpfs") => {
                ("none", Measure::Bound(Some(0)))
            }
            Measure::Bound(_) => ("unlimited", Measure::Bound(None)),
            _ => ("unset", Measure::Plain),
        };
        Self::new(&self.key, text, measure)
    }
}

fn facts(policy: &Policy) -> Vec<Fact> {
    let mut facts = vec![
        allowed("capabilities", &policy.capabilities),
        Fact::new(
            "timeout",
            policy.timeout.map_or_else(unlimited, format_duration),
            Measure::Bound(
                policy
                    .timeout
                    .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ),
        ),
        Fact::new(
            "stop-timeout",
            format_duration(policy.stop_timeout),
            // It comes on top of the time limit.
            Measure::Bound(Some(
                u64::try_from(policy.stop_timeout.as_millis()).unwrap_or(u64::MAX),
            )),
        ),
        rank(
            "minimum-tier",
            policy.minimum_tier.word(),
            2 - policy.minimum_tier as u64,
        ),
        size("output-cap", policy.output_cap),
        rank(
            "flags",
            policy.flags.word(),
            u64::from(policy.flags == Flags::Refine),
        ),
    ];
    filesystem(policy, &mut facts);
    facts.push(rank(
        "network.mode",
        policy.network.mode.word(),
        u64::from(policy.network.mode == NetworkMode::Host),
    ));
    let base = match policy.syscalls.base {
        Base::Strict => 0,
        Base::Default => 1,
        Base::Compat => 2,
    };
    facts.push(rank("syscalls.base", policy.syscalls.base.word(), base));
    facts.push(allowed("syscalls.allow", &policy.syscalls.allow));
    let denied: Vec<_> = policy
        .syscalls
        .deny
        .iter()
        .map(|denied| denied.name.clone())
        .collect();
    facts.push(refused("syscalls.deny", &denied));
    limits(policy, &mut facts);
    facts.push(allowed("environment.pass", &policy.environment.pass));
    for (name, value) in &policy.environment.set {
        facts.push(Fact::new(
            &format!("environment.set.{name}"),
            format!("{value:?}"),
            Measure::Plain,
        ));
    }
    facts
}

fn filesystem(policy: &Policy, facts: &mut Vec<Fact>) {
    let files = &policy.filesystem;
    facts.extend([
        rank("filesystem.root", files.root.word(), files.root as u64),
        allowed("filesystem.read", &files.read),
        allowed("filesystem.exec", &files.exec),
        allowed("filesystem.write", &files.write),
        allowed("filesystem.write-existing", &files.write_existing),
        refused("filesystem.deny", &files.deny),
    ]);
    for mount in &files.tmpfs {
        let key = |name| format!("filesystem.tmpfs.{}.{name}", mount.path);
        facts.push(size(&key("size"), Some(mount.size)));
        facts.push(count(&key("inodes"), mount.inodes));
        facts.push(rank(
            &key("noexec"),
            if mount.noexec { "true" } else { "false" },
            u64::from(!mount.noexec),
        ));
    }
    facts.extend([
        size("filesystem.scratch-size", Some(files.scratch_size)),
        count("filesystem.scratch-inodes", files.scratch_inodes),
        rank(
            "filesystem.setuid",
            files.setuid.word(),
            u64::from(files.setuid == Setuid::Keep),
        ),
        rank(
            "filesystem.landlock-handles",
            files.landlock_handles.word(),
            u64::from(files.landlock_handles == Handles::Changes),
        ),
        rank(
            "filesystem.sys",
            files.sys.word(),
            u64::from(files.sys == Sys::ReadOnly),
        ),
        refused("filesystem.masked-paths", &files.masked_paths),
        refused("filesystem.readonly-paths", &files.readonly_paths),
    ]);
}

fn limits(policy: &Policy, facts: &mut Vec<Fact>) {
    let limits = &policy.limits;
    facts.extend([
        size("limits.memory", limits.memory),
        size("limits.swap", limits.swap),
        Fact::new(
            "limits.cpus",
            limits.cpus.map_or_else(unlimited, |cpus| cpus.to_string()),
            Measure::Bound(limits.cpus.map(thousandths)),
        ),
        Fact::new(
            "limits.cpuset",
            limits.cpuset.clone().unwrap_or_else(unlimited),
            Measure::Processors(limits.cpuset.as_deref().map(processors)),
        ),
        count("limits.pids", limits.pids),
        size("limits.shm", Some(limits.shm)),
    ]);
    for (name, limit) in &limits.rlimits {
        let hard = (limit.hard != Rlimit::UNLIMITED).then_some(limit.hard);
        facts.push(Fact::new(
            &format!("limits.rlimits.{name}"),
            rlimit(*limit),
            Measure::Bound(hard),
        ));
    }
    for limit in &limits.io {
        let key = |name| format!("limits.io.{}.{name}", limit.device.display());
        facts.push(size(&key("read-bps"), limit.read_bps));
        facts.push(size(&key("write-bps"), limit.write_bps));
        facts.push(count(&key("read-iops"), limit.read_iops));
        facts.push(count(&key("write-iops"), limit.write_iops));
    }
}

/// Thousandths of a processor.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "above zero; huge values saturate"
)]
fn thousandths(cpus: f64) -> u64 {
    (cpus * 1000.0) as u64
}

fn rank(key: &str, text: &str, looseness: u64) -> Fact {
    Fact::new(key, text, Measure::Bound(Some(looseness)))
}

fn size(key: &str, bytes: Option<u64>) -> Fact {
    Fact::new(
        key,
        bytes.map_or_else(unlimited, format_size),
        Measure::Bound(bytes),
    )
}

fn count(key: &str, count: Option<u64>) -> Fact {
    Fact::new(
        key,
        count.map_or_else(unlimited, |count| count.to_string()),
        Measure::Bound(count),
    )
}

fn allowed(key: &str, items: &[String]) -> Fact {
    Fact::new(
        key,
        listed(items),
        Measure::Allowed(items.iter().cloned().collect()),
    )
}

fn refused(key: &str, items: &[String]) -> Fact {
    Fact::new(
        key,
        listed(items),
        Measure::Refused(items.iter().cloned().collect()),
    )
}

fn listed(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(" ")
    }
}

fn unlimited() -> String {
    "unlimited".to_owned()
}
