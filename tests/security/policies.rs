//! Every probe under every built-in policy, against what the probe itself says may be open there.

use crate::rig::{Answers, Rig, is_root};

/// Nothing is open that is not said to be, nothing of high severity is open at all, and nothing needed is lost that is
/// not said to be.
#[track_caller]
fn holds(policy: &str, answers: &Answers, most_open: usize) {
    assert!(answers.len() >= 400, "only {} probes", answers.len());
    let open: Vec<_> = answers.values().filter(|answer| answer.is_open()).collect();
    let unexpected: Vec<_> = open
        .iter()
        .filter(|answer| !answer.allowed_in(policy) || answer.severity == "high")
        .collect();
    assert!(
        unexpected.is_empty(),
        "open under {policy}: {unexpected:#?}"
    );
    assert!(
        open.len() <= most_open,
        "{} open under {policy}: {open:#?}",
        open.len()
    );
    for answer in answers.values().filter(|answer| answer.severity == "need") {
        assert_eq!(
            answer.is_lost(),
            answer.allowed_in(policy),
            "needed under {policy}: {answer:?}"
        );
    }
}

#[test]
fn the_default_policy_leaves_ten_probes_open_and_none_that_matters() {
    let rig = Rig::new();
    holds("default", &rig.inside(&[], &[], &[]), 10);
}

#[test]
fn the_strict_policy_leaves_six_probes_open() {
    let rig = Rig::new();
    holds("strict", &rig.inside(&[], &["--policy", "strict"], &[]), 6);
}

#[test]
fn the_compat_policy_leaves_open_what_it_says() {
    let rig = Rig::new();
    holds(
        "compat",
        &rig.inside(&[], &["--policy", "compat"], &[]),
        usize::MAX,
    );
}

#[test]
fn the_task_policy_protects_as_default_does() {
    let rig = Rig::new();
    let mut options = vec!["--policy", "task"];
    if !is_root() {
        // An ordinary user may have no cgroup: memory is then bounded by each process' data, which thread stacks are.
        options.extend(["--best-effort", "--memory", "4g"]);
    }
    holds("task", &rig.inside(&[], &options, &[]), 10);
}

/// What is open, and what is needed and lost.
fn found(answers: &Answers) -> Vec<(&str, &str)> {
    let found = answers
        .values()
        .filter(|answer| answer.is_open() || answer.is_lost());
    found
        .map(|answer| (answer.name.as_str(), answer.verdict.as_str()))
        .collect()
}

#[test]
fn a_command_that_joins_is_confined_as_the_first_one() {
    let rig = Rig::new();
    // compat shows /proc/locks, in which other processes' locks come and go.
    for policy in ["default", "strict"] {
        let first = rig.inside(&[], &["--policy", policy], &[]);
        let joined = rig.joined(&["--policy", policy]);
        assert_eq!(found(&joined), found(&first), "{policy}");
    }
}

#[test]
fn without_namespaces_nothing_is_open_but_what_is_shared() {
    let rig = Rig::new();
    for policy in ["default", "strict"] {
        let answers = rig.without_namespaces(policy);
        // There a command keeps its caller's id: root without a right.
        let own = |name: &str| is_root() && ["setuid-0", "setgid-0"].contains(&name);
        let open: Vec<_> = answers
            .values()
            .filter(|answer| answer.is_open() && !own(&answer.name))
            .filter(|answer| !answer.allowed_in("no-namespace"))
            .filter(|answer| !answer.allowed_in(policy) || answer.severity == "high")
            .collect();
        assert!(open.is_empty(), "{policy}: {open:#?}");
        assert!(answers["namespace-net"].is_open(), "{policy}");
    }
}

#[test]
fn root_inside_reaches_nothing_more_of_high_severity() {
    let rig = Rig::new();
    let answers = rig.inside(&[], &["--user", "0"], &[]);
    // Being root inside is what was asked for, and it is an id without a right.
    let asked_for = ["setuid-0", "setgid-0"];
    let open: Vec<_> = answers
        .values()
        .filter(|answer| {
            answer.is_open()
                && answer.severity == "high"
                && !asked_for.contains(&answer.name.as_str())
        })
        .collect();
    assert!(open.is_empty(), "{open:#?}");
}
