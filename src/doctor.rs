//! `palisade doctor`: what this machine can give, tried out, and what stands in the way of the rest.

use std::fmt::Write as _;

use clap::ArgMatches;
use palisade_policies::{Flags, Policy, Tier};
use palisade_runtime::probe::{Blocked, Finding, Group, Probe, Survey};
use serde_json::{Value, json};

use crate::failure::{Failure, printable};
use crate::verb::print;

/// The form of `--json`, described in docs/doctor.md.
const SCHEMA: &str = "palisade-doctor/1";

const TIERS: [Tier; 3] = [Tier::Full, Tier::NoCgroup, Tier::NoNamespace];

/// Probes, prints, and says by the exit code whether the tier asked for can be had.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let asked = matches
        .get_one::<String>("require")
        .and_then(|word| Tier::from_word(word))
        .unwrap_or(Tier::Full);
    let survey = Survey::take();
    if matches.get_flag("json") {
        let mut text = serde_json::to_string_pretty(&document(&survey)).unwrap_or_default();
        text.push('\n');
        print(&text)?;
    } else {
        print(&report(&survey))?;
    }
    Ok(u8::from(!survey.blockers(asked).is_empty()))
}

/// What a built-in policy gets on this machine.
struct Gets {
    name: &'static str,
    minimum: Tier,
    /// None where it does not start.
    tier: Option<Tier>,
    note: &'static str,
}

/// Every built-in policy, as it is started without options. No control group is made where nothing is limited.
fn policies(survey: &Survey) -> Vec<Gets> {
    let strongest = survey.strongest();
    let policies = Policy::builtins().iter().filter_map(|(name, _)| {
        let policy = Policy::named(name).ok()?;
        let (tier, mut note) = gets(strongest, needs_cgroup(&policy), policy.minimum_tier);
        if tier.is_none() && policy.flags == Flags::TightenOnly {
            // No option loosens it.
            note = "";
        }
        Some(Gets {
            name,
            minimum: policy.minimum_tier,
            tier,
            note,
        })
    });
    policies.collect()
}

/// The tier of a policy, with or without limits that need a control group, and what else to know.
fn gets(strongest: Option<Tier>, limited: bool, minimum: Tier) -> (Option<Tier>, &'static str) {
    match strongest {
        Some(Tier::Full) if limited || minimum == Tier::Full => (Some(Tier::Full), ""),
        Some(Tier::Full) => (
            Some(Tier::NoCgroup),
            "full with a limit, or with --require full",
        ),
        Some(Tier::NoCgroup) if limited => (
            None,
            "its limits need a control group; --best-effort goes on without",
        ),
        Some(Tier::NoCgroup) if minimum <= Tier::NoCgroup => {
            (Some(Tier::NoCgroup), "limits are refused")
        }
        Some(Tier::NoNamespace) if minimum == Tier::NoNamespace && !limited => {
            (Some(Tier::NoNamespace), "")
        }
        Some(Tier::NoNamespace) => (None, "--require no-namespace runs host and dir: with less"),
        _ => (None, ""),
    }
}

/// Whether a policy has limits that a control group holds.
fn needs_cgroup(policy: &Policy) -> bool {
    let limits = &policy.limits;
    limits.memory.is_some()
        || limits.cpus.is_some()
        || limits.cpuset.is_some()
        || limits.pids.is_some()
        || !limits.io.is_empty()
}

fn report(survey: &Survey) -> String {
    let mut text = String::new();
    let around = &survey.surroundings;
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", printable(value));
    };
    line("kernel", &around.kernel);
    let (uid, gid) = around.ids;
    line(
        "caller",
        &format!("user {uid}, group {gid}; user ids {}", around.uid_map),
    );
    if let Some(kind) = &around.container {
        line("container", kind);
    }
    if let Some(profile) = &around.confinement {
        line("confined by", profile);
    }
    if around.filtered {
        line("filtered", "a seccomp filter is around this process");
    }
    line("cgroups", palisade_runtime::cgroup::layout());

    text.push_str("\nTiers\n");
    for tier in TIERS {
        let blockers = survey.blockers(tier);
        let word = if blockers.is_empty() { "yes" } else { "no" };
        let _ = writeln!(text, "  {:<14} {word}", tier.word());
        for (names, blocked) in causes(&blockers) {
            let _ = writeln!(text, "      blocked by {}", printable(&blocked.shown));
            let _ = writeln!(text, "      keeps back {}", names.join(", "));
            let _ = writeln!(text, "      cure       {}", printable(&blocked.cure));
        }
    }

    text.push_str("\nBuilt-in policies\n");
    for gets in policies(survey) {
        let tier = gets.tier.map_or("does not start", Tier::word);
        let note = if gets.note.is_empty() {
            String::new()
        } else {
            format!(" ({})", gets.note)
        };
        let _ = writeln!(text, "  {:<14} {tier}{note}", gets.name);
    }

    let mut group: Option<Group> = None;
    for probe in &survey.probes {
        if group != Some(probe.group) {
            let word = probe.group.word();
            let _ = writeln!(text, "\n{}{}", word[..1].to_ascii_uppercase(), &word[1..]);
            group = Some(probe.group);
        }
        let _ = writeln!(text, "  {:<20} {}", probe.name, printable(&found(probe)));
    }
    text
}

fn found(probe: &Probe) -> String {
    let optional = if probe.tiers.is_empty() {
        " (only some options need it)"
    } else {
        ""
    };
    match &probe.finding {
        Finding::Available(more) if more.is_empty() => "ok".to_owned(),
        Finding::Available(more) => format!("ok, {more}"),
        Finding::Blocked(blocked) => {
            let said = blocked
                .errno
                .map_or(String::new(), |errno| format!(" [{errno:?}]"));
            format!("no: {}{said}{optional}", blocked.shown)
        }
    }
}

/// Blockers with one cause and one cure are one line.
fn causes<'a>(blockers: &[(&'a Probe, &'a Blocked)]) -> Vec<(Vec<&'static str>, &'a Blocked)> {
    let mut causes: Vec<(Vec<&'static str>, &Blocked)> = Vec::new();
    for (probe, blocked) in blockers {
        match causes
            .iter_mut()
            .find(|(_, cause)| cause.by == blocked.by && cause.cure == blocked.cure)
        {
            Some((names, _)) => names.push(probe.name),
            None => causes.push((vec![probe.name], blocked)),
        }
    }
    causes
}

fn document(survey: &Survey) -> Value {
    let around = &survey.surroundings;
    let tiers: serde_json::Map<String, Value> = TIERS
        .iter()
        .map(|tier| {
            let blockers = survey.blockers(*tier);
            let causes: Vec<Value> = causes(&blockers)
                .into_iter()
                .map(|(names, blocked)| json!({ "probes": names, "layer": blocked.by.word(), "shown": blocked.shown, "cure": blocked.cure }))
                .collect();
            let value = json!({ "available": blockers.is_empty(), "blocked_by": causes });
            (tier.word().to_owned(), value)
        })
        .collect();
    let probes: Vec<Value> = survey.probes.iter().map(probe).collect();
    let policies: Vec<Value> = policies(survey)
        .into_iter()
        .map(|gets| {
            json!({
                "name": gets.name,
                "minimum_tier": gets.minimum.word(),
                "tier": gets.tier.map(Tier::word),
                "note": gets.note,
            })
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "palisade": env!("CARGO_PKG_VERSION"),
        "kernel": around.kernel,
        "caller": {
            "uid": around.ids.0,
            "gid": around.ids.1,
            "uid_map": around.uid_map,
            "gid_map": around.gid_map,
            "capabilities": format!("{:016x}", around.capabilities),
        },
        "surroundings": {
            "container": around.container,
            "confinement": around.confinement,
            "lsm": around.lsm,
            "seccomp_filter": around.filtered,
            "no_new_privileges": around.no_new_privileges,
            "mounts_over_proc": around.covers_of_proc,
            "sysctls": around.sysctls,
        },
        "cgroups": palisade_runtime::cgroup::layout(),
        "strongest": survey.strongest().map(Tier::word),
        "tiers": tiers,
        "policies": policies,
        "probes": probes,
    })
}

fn probe(probe: &Probe) -> Value {
    let tiers: Vec<&str> = probe.tiers.iter().map(|tier| tier.word()).collect();
    let blocked = probe.blocked();
    let detail = match &probe.finding {
        Finding::Available(more) => more.as_str(),
        Finding::Blocked(blocked) => blocked.shown.as_str(),
    };
    json!({
        "group": probe.group.word(),
        "name": probe.name,
        "tiers": tiers,
        "available": blocked.is_none(),
        "detail": detail,
        "layer": blocked.map(|blocked| blocked.by.word()),
        "errno": blocked.and_then(|blocked| blocked.errno).map(|errno| format!("{errno:?}")),
        "cure": blocked.map(|blocked| blocked.cure.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_policy_gets_less_than_its_minimum() {
        for strongest in [
            None,
            Some(Tier::NoNamespace),
            Some(Tier::NoCgroup),
            Some(Tier::Full),
        ] {
            for minimum in TIERS {
                for limited in [false, true] {
                    let (tier, _) = gets(strongest, limited, minimum);
                    assert!(tier.is_none_or(|tier| tier >= minimum && Some(tier) <= strongest));
                    assert!(!limited || tier.is_none() || tier == Some(Tier::Full));
                }
            }
        }
    }

    #[test]
    fn a_machine_that_gives_everything_starts_every_policy() {
        for minimum in TIERS {
            for limited in [false, true] {
                assert!(gets(Some(Tier::Full), limited, minimum).0.is_some());
            }
        }
    }
}
