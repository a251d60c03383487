//! What a receipt says, from a Plan, the caller's facts and the ending.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::SystemTime;

use nix::sys::signal::Signal;
use palisade_runtime::{PathRule, Plan};
use serde::Serialize;
use serde_json::Value;

use super::Facts;
use crate::time::rfc3339;
use crate::{Denials, Outcome, Stream};

/// Digits of a second's fraction in a receipt's times.
const MILLISECONDS: usize = 3;

/// How it ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ending {
    exit_code: u8,
    reason: &'static str,
    signal: Option<i32>,
    signal_name: Option<&'static str>,
    error: Option<String>,
    full: Vec<String>,
    #[serde(skip)]
    ran: Option<Ran>,
}

/// What there is to say only of a command that ran.
#[derive(Debug)]
struct Ran {
    tier: Option<&'static str>,
    protections: BTreeMap<String, String>,
    usage: Usage,
    output: Option<Output>,
    denials: Option<Denials>,
}

impl Ran {
    /// Whether the rules of the Plan held: with --best-effort a kernel without Landlock has none.
    fn has_landlock(&self) -> bool {
        self.protections.is_empty() || self.protections.contains_key("Landlock")
    }
}

impl Ending {
    pub(crate) fn ran(outcome: &Outcome) -> Self {
        let usage = Usage {
            cpu_microseconds: u64::try_from(outcome.usage.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: outcome.usage.memory_peak,
            pids_peak: outcome.usage.pids_peak,
            pids_denied: outcome.usage.pids_denied,
            oom_kills: outcome.usage.oom_kills,
            io_read_bytes: outcome.usage.io_read,
            io_written_bytes: outcome.usage.io_written,
        };
        let [stdout, stderr] = &outcome.streams;
        let output = (stdout.is_some() || stderr.is_some()).then(|| Output {
            stdout: stdout.as_ref().map(Passed::of),
            stderr: stderr.as_ref().map(Passed::of),
        });
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
            full: outcome.full.clone(),
            ran: Some(Ran {
                tier: outcome.tier.map(palisade_runtime::Tier::word),
                protections,
                usage,
                output,
                denials: outcome.denials.clone(),
            }),
        }
    }

    /// The tier that held the command, where it ran.
    pub(super) fn tier(&self) -> Option<&'static str> {
        self.ran.as_ref().and_then(|ran| ran.tier)
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
            full: Vec::new(),
            ran: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Usage {
    cpu_microseconds: u64,
    memory_peak_bytes: u64,
    pids_peak: Option<u64>,
    pids_denied: u64,
    oom_kills: u64,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Output {
    stdout: Option<Passed>,
    stderr: Option<Passed>,
}

#[derive(Debug, Serialize)]
struct Passed {
    bytes: u64,
    sha256: Option<String>,
}

impl Passed {
    fn of(stream: &Stream) -> Self {
        Self {
            bytes: stream.bytes,
            sha256: stream.sha256.map(super::canonical::written),
        }
    }
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
    landlock: Option<&'a [PathRule]>,
    limits: Limits,
    protections: Option<&'a BTreeMap<String, String>>,
    start: String,
    end: Option<String>,
    state: &'static str,
    result: Option<&'a Ending>,
    usage: Option<&'a Usage>,
    output: Option<&'a Output>,
    denials: Option<&'a Denials>,
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
    timeout_milliseconds: Option<u64>,
    memory_bytes: Option<i64>,
    memory_swap_bytes: Option<i64>,
    cpu_quota_microseconds: Option<i64>,
    cpu_period_microseconds: Option<u64>,
    cpuset: Option<String>,
    pids: Option<i64>,
    output_bytes: Option<u64>,
}

/// A receipt without its digest: of a run that is about to begin, where there is no ending yet.
pub(crate) fn document(
    plan: Option<&Plan>,
    facts: &Facts,
    start: SystemTime,
    end: Option<(SystemTime, &Ending)>,
) -> Value {
    let ending = end.map(|(_, ending)| ending);
    let ran = ending.and_then(|ending| ending.ran.as_ref());
    let receipt = Receipt {
        schema: super::SCHEMA,
        palisade: env!("CARGO_PKG_VERSION"),
        id: plan.map(|plan| plan.id.as_str()),
        facts,
        command: plan.and_then(Command::of),
        mounts: plan.map(mounts).unwrap_or_default(),
        landlock: plan
            .and_then(|plan| plan.landlock.as_deref())
            .filter(|_| ran.is_none_or(Ran::has_landlock)),
        limits: plan.map(Limits::of).unwrap_or_default(),
        protections: ran.map(|ran| &ran.protections),
        start: rfc3339(start, MILLISECONDS),
        end: end.map(|(end, _)| rfc3339(end, MILLISECONDS)),
        state: if end.is_some() { "ended" } else { "running" },
        result: ending,
        usage: ran.map(|ran| &ran.usage),
        output: ran.and_then(|ran| ran.output.as_ref()),
        denials: ran.and_then(|ran| ran.denials.as_ref()),
    };
    // Strings, numbers and maps with string keys cannot fail to serialize.
    let mut receipt = serde_json::to_value(&receipt).unwrap_or_default();
    // A log gives it one.
    receipt["chain"] = Value::Null;
    if let Some(plan) = plan {
        for text in ["/warnings", "/missing", "/result/error"] {
            if let Some(text) = receipt.pointer_mut(text) {
                without_id(text, &plan.id);
            }
        }
    }
    receipt
}

/// Says what went wrong as of any sandbox: two runs of the same thing have the same receipt.
fn without_id(text: &mut Value, id: &str) {
    match text {
        Value::String(text) if text.contains(id) => *text = text.replace(id, "ID"),
        Value::Array(texts) => texts.iter_mut().for_each(|text| without_id(text, id)),
        _ => {}
    }
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
            timeout_milliseconds: plan
                .timeout
                .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            output_bytes: plan.output_limit,
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

    use palisade_runtime::{PathRule, Plan};
    use serde_json::{Value, json};

    use super::{Ending, Output, Passed, Ran, Usage, document};
    use crate::receipt::{Facts, Image, Policy};

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
        plan.landlock = Some(vec![PathRule {
            path: "/workspace".into(),
            access: palisade_runtime::Access::WriteExec,
        }]);
        plan
    }

    #[test]
    fn names_of_variables_are_told_and_never_their_values() {
        let ending = Ending::failed(127, "sh: no such command");
        let receipt = document(
            Some(&plan()),
            &Facts::default(),
            at(1),
            Some((at(2), &ending)),
        );
        assert!(!receipt.to_string().contains("hunter2"), "{receipt}");
        assert_eq!(receipt["command"]["env"], json!(["PATH", "TOKEN"]));
        assert_eq!(receipt["result"]["reason"], "not-found");
        assert_eq!(receipt["mounts"][0]["source"], "/tmp/w");
        assert_eq!(
            receipt["landlock"],
            json!([{"path": "/workspace", "access": "write-exec"}])
        );
        assert_eq!(receipt["limits"]["pids"], 64);
        assert_eq!(receipt["limits"]["timeout_milliseconds"], 1500);
    }

    #[test]
    fn every_field_of_a_receipt_is_in_its_schema_and_the_other_way_round() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../docs/receipt.schema.json")).unwrap();
        let facts = Facts {
            image: Some(Image::default()),
            policy: Some(Policy::default()),
            ..Facts::default()
        };
        let mut ending = Ending::failed(125, "no");
        let passed = || {
            Some(Passed {
                bytes: 0,
                sha256: Some(String::new()),
            })
        };
        ending.ran = Some(Ran {
            tier: Some("full"),
            protections: [("NoNewPrivs".into(), "1".into())].into(),
            usage: Usage {
                cpu_microseconds: 5,
                memory_peak_bytes: 1,
                pids_peak: Some(2),
                pids_denied: 0,
                oom_kills: 0,
                io_read_bytes: None,
                io_written_bytes: None,
            },
            output: Some(Output {
                stdout: passed(),
                stderr: passed(),
            }),
            denials: Some(crate::Denials::sample()),
        });
        let mut receipt = document(Some(&plan()), &facts, at(1), Some((at(2), &ending)));
        // Added by the log, and when it is sealed.
        receipt["chain"] = json!({"sequence": 1, "previous": null});
        receipt["digest"] = "".into();
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
}
