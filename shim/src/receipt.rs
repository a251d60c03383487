//! What was run, what held it, and how it ended, as a JSON file; docs/receipts.md describes every field.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

use nix::sys::signal::Signal;
use palisade_runtime::Plan;
use serde::Serialize;

use crate::time::rfc3339;
use crate::{Error, Outcome};

mod place;

pub use place::Place;

/// The schema that receipts of this version follow: docs/receipt.schema.json.
pub const SCHEMA: &str = "palisade-receipt/1";

/// A receipt that was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it goes.
    pub to: To,
    /// What only the caller knows.
    pub facts: Facts,
}

/// Where a receipt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Palisade's own standard output, after the command's end.
    Stdout,
    /// A file, replaced in one step. What exists and is no regular file (a FIFO, /dev/fd/3) is written into.
    File(PathBuf),
}

/// What a Plan does not say: where it comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// The sandbox's name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image.
    pub image: Option<Image>,
    /// The policy.
    pub policy: Option<Policy>,
    /// `full`, `no-cgroup` or `no-namespace`.
    pub tier: Option<String>,
    /// How ids were mapped: `single`, `range` or `host`.
    pub identity: Option<String>,
    /// What the user was told besides.
    pub warnings: Vec<String>,
    /// Protections that were asked for and not to be had, with `--best-effort`.
    pub missing: Vec<String>,
}

/// The image a sandbox was made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Image {
    /// As the user wrote it.
    pub reference: String,
    /// Digest of its manifest, `sha256:` and 64 hexadecimal digits.
    pub manifest: Option<String>,
    /// Digests (diff-ids) of its unpacked layers, the lowest first.
    pub layers: Vec<String>,
}

/// The policy that was applied.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Policy {
    /// Its name, or the path of its file.
    pub name: String,
    /// Digest of what it came to, `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ending {
    exit_code: u8,
    reason: &'static str,
    signal: Option<i32>,
    signal_name: Option<&'static str>,
    error: Option<String>,
    #[serde(skip)]
    ran: Option<(BTreeMap<String, String>, Usage)>,
}

impl Ending {
    pub(crate) fn ran(outcome: &Outcome) -> Self {
        let usage = Usage {
            cpu_seconds: outcome.usage.cpu.as_secs_f64(),
            memory_peak_bytes: outcome.usage.memory_peak,
            pids_peak: outcome.usage.pids_peak,
            pids_denied: outcome.usage.pids_denied,
            oom_kills: outcome.usage.oom_kills,
        };
        let protections = outcome.protections.lines.iter().cloned().collect();
        Self {
            exit_code: outcome.code,
            reason: outcome.reason.as_str(),
            signal: outcome.signal,
            signal_name: outcome
                .signal
                .and_then(|number| Signal::try_from(number).ok())
                .map(Signal::as_str),
            error: None,
            ran: Some((protections, usage)),
        }
    }

    pub(crate) fn failed(exit_code: u8, error: impl Display) -> Self {
        Self {
            exit_code,
            reason: match exit_code {
                127 => "not-found",
                126 => "not-executable",
                _ => "setup",
            },
            signal: None,
            signal_name: None,
            error: Some(error.to_string()),
            ran: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Usage {
    cpu_seconds: f64,
    memory_peak_bytes: u64,
    pids_peak: Option<u64>,
    pids_denied: u64,
    oom_kills: u64,
}

#[derive(Serialize)]
struct Receipt<'a> {
    schema: &'static str,
    palisade: &'static str,
    id: Option<&'a str>,
    #[serde(flatten)]
    facts: &'a Facts,
    command: Option<Command<'a>>,
    mounts: Vec<Mount<'a>>,
    limits: Limits,
    protections: Option<&'a BTreeMap<String, String>>,
    start: String,
    end: String,
    result: &'a Ending,
    usage: Option<&'a Usage>,
}

#[derive(Serialize)]
struct Command<'a> {
    argv: &'a [String],
    cwd: String,
    uid: u32,
    gid: u32,
    groups: &'a [u32],
    env: Vec<&'a str>,
    terminal: bool,
    interactive: bool,
}

#[derive(Serialize)]
struct Mount<'a> {
    destination: String,
    r#type: Option<&'a str>,
    source: Option<String>,
    options: &'a [String],
}

#[derive(Default, Serialize)]
struct Limits {
    timeout_seconds: Option<f64>,
    memory_bytes: Option<i64>,
    memory_swap_bytes: Option<i64>,
    cpu_quota_microseconds: Option<i64>,
    cpu_period_microseconds: Option<u64>,
    cpuset: Option<String>,
    pids: Option<i64>,
}

/// Writes the receipt of a run that failed before there was a Plan, such as for want of its image.
///
/// # Errors
///
/// [`Error::Receipt`] when it cannot be written.
pub fn failed(
    request: &Request,
    start: SystemTime,
    exit_code: u8,
    error: impl Display,
) -> Result<(), Error> {
    let ending = Ending::failed(exit_code, error);
    let text = text(None, &request.facts, start..SystemTime::now(), &ending);
    Place::reserve(&request.to)?.fill(&text)
}

/// The receipt as JSON text with a final newline.
pub(crate) fn text(
    plan: Option<&Plan>,
    facts: &Facts,
    when: Range<SystemTime>,
    ending: &Ending,
) -> String {
    let ran = ending.ran.as_ref();
    let receipt = Receipt {
        schema: SCHEMA,
        palisade: env!("CARGO_PKG_VERSION"),
        id: plan.map(|plan| plan.id.as_str()),
        facts,
        command: plan.and_then(Command::of),
        mounts: plan.map(mounts).unwrap_or_default(),
        limits: plan.map(Limits::of).unwrap_or_default(),
        protections: ran.map(|(protections, _)| protections),
        start: rfc3339(when.start, 3),
        end: rfc3339(when.end, 3),
        result: ending,
        usage: ran.map(|(_, usage)| usage),
    };
    // Strings, numbers and maps with string keys cannot fail to serialize.
    let mut text = serde_json::to_string_pretty(&receipt).unwrap_or_default();
    text.push('\n');
    text
}

impl<'a> Command<'a> {
    fn of(plan: &'a Plan) -> Option<Self> {
        let process = plan.spec.process().as_ref()?;
        let mut env: Vec<&str> = process
            .env()
            .iter()
            .flatten()
            .map(|variable| variable.split('=').next().unwrap_or_default())
            .collect();
        env.sort_unstable();
        Some(Self {
            argv: process.args().as_deref().unwrap_or_default(),
            cwd: process.cwd().to_string_lossy().into_owned(),
            uid: process.user().uid(),
            gid: process.user().gid(),
            groups: process
                .user()
                .additional_gids()
                .as_deref()
                .unwrap_or_default(),
            env,
            terminal: process.terminal().unwrap_or(false),
            interactive: plan.interactive,
        })
    }
}

fn mounts(plan: &Plan) -> Vec<Mount<'_>> {
    plan.spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| Mount {
            destination: mount.destination().to_string_lossy().into_owned(),
            r#type: mount.typ().as_deref(),
            source: mount
                .source()
                .as_ref()
                .map(|source| source.to_string_lossy().into_owned()),
            options: mount.options().as_deref().unwrap_or_default(),
        })
        .collect()
}

impl Limits {
    fn of(plan: &Plan) -> Self {
        let mut limits = Self {
            timeout_seconds: plan.timeout.map(|limit| limit.as_secs_f64()),
            ..Self::default()
        };
        let linux = plan.spec.linux().as_ref();
        let Some(resources) = linux.and_then(|linux| linux.resources().as_ref()) else {
            return limits;
        };
        if let Some(memory) = resources.memory() {
            limits.memory_bytes = memory.limit();
            limits.memory_swap_bytes = memory.swap();
        }
        if let Some(cpu) = resources.cpu() {
            limits.cpu_quota_microseconds = cpu.quota();
            limits.cpu_period_microseconds = cpu.period();
            limits.cpuset.clone_from(cpu.cpus());
        }
        limits.pids = resources
            .pids()
            .as_ref()
            .map(oci_spec::runtime::LinuxPids::limit);
        limits
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use palisade_runtime::Plan;
    use serde_json::{Value, json};

    use super::{Ending, Facts, Image, Policy, Request, To, failed, text};
    use crate::time::rfc3339;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)
    }

    fn plan() -> Plan {
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "args": ["sh", "-c", "echo \"$TOKEN\""],
                "cwd": "/workspace",
                "user": {"uid": 1000, "gid": 1000},
                "env": ["TOKEN=hunter2=x", "PATH=/bin"],
            },
            "mounts": [{"destination": "/workspace", "type": "bind", "source": "/tmp/w", "options": ["rbind", "rw"]}],
            "linux": {"resources": {"pids": {"limit": 64}}},
        });
        let mut plan = crate::sample::plan(serde_json::from_value(spec).unwrap());
        plan.timeout = Some(Duration::from_millis(1500));
        plan
    }

    #[test]
    fn times_are_written_in_utc_across_leap_days_and_year_ends() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(at(seconds), 3), expected);
        }
    }

    #[test]
    fn names_of_variables_are_told_and_never_their_values() {
        let ending = Ending::failed(127, "sh: no such command");
        let text = text(Some(&plan()), &Facts::default(), at(1)..at(2), &ending);
        assert!(!text.contains("hunter2"), "{text}");
        let receipt: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["command"]["env"], json!(["PATH", "TOKEN"]));
        assert_eq!(receipt["result"]["reason"], "not-found");
        assert_eq!(receipt["mounts"][0]["source"], "/tmp/w");
        assert_eq!(receipt["limits"]["pids"], 64);
        assert_eq!(receipt["limits"]["timeout_seconds"], 1.5);
    }

    #[test]
    fn every_field_of_a_receipt_is_in_its_schema_and_the_other_way_round() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/receipt.schema.json")).unwrap();
        let facts = Facts {
            image: Some(Image::default()),
            policy: Some(Policy::default()),
            ..Facts::default()
        };
        let mut ending = Ending::failed(125, "no");
        ending.ran = Some((
            [("NoNewPrivs".into(), "1".into())].into(),
            super::Usage {
                cpu_seconds: 0.5,
                memory_peak_bytes: 1,
                pids_peak: Some(2),
                pids_denied: 0,
                oom_kills: 0,
            },
        ));
        let text = text(Some(&plan()), &facts, at(1)..at(2), &ending);
        let receipt: Value = serde_json::from_str(&text).unwrap();
        compare(&receipt, &schema, "receipt");
    }

    /// The same keys at every level where the schema names them.
    fn compare(value: &Value, schema: &Value, place: &str) {
        if let (Some(value), Some(properties)) =
            (value.as_object(), schema["properties"].as_object())
        {
            let keys = |map: &serde_json::Map<String, Value>| {
                let mut keys: Vec<_> = map.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(value), keys(properties), "{place}");
            for (key, schema) in properties {
                compare(&value[key], schema, &format!("{place}.{key}"));
            }
        }
        if let (Some(values), Some(schema)) = (value.as_array(), schema.get("items")) {
            for value in values {
                compare(value, schema, &format!("{place}[]"));
            }
        }
    }

    #[test]
    fn a_run_that_never_had_a_plan_leaves_a_receipt_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("receipt.json");
        let request = Request {
            to: To::File(path.clone()),
            facts: Facts::default(),
        };
        failed(&request, at(1), 125, "no such image").unwrap();
        let receipt: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(receipt["result"]["error"], "no such image");
        assert_eq!(receipt["result"]["exit_code"], 125);
        assert_eq!(receipt["command"], Value::Null);
    }
}
