//! Resources, and the limit of output.

use palisade_policies::{Pins, Policy};
use palisade_rootfs::ImageConfig;

use super::{image, ordinary, plan, plan_on, plan_under, request};
use crate::caller::Caller;
use crate::resolve::{Source, refine};

#[test]
fn nothing_is_limited_by_a_control_group_unless_it_is_asked_for() {
    let resources = |line: &[&str]| {
        plan(line)
            .spec
            .linux()
            .as_ref()
            .unwrap()
            .resources()
            .clone()
    };
    assert_eq!(resources(&["x", "true"]), None);
    let limited = resources(&[
        "--memory",
        "512m",
        "--cpus",
        "1.5",
        "--pids-limit",
        "256",
        "x",
        "true",
    ])
    .unwrap();
    let memory = limited.memory().unwrap();
    assert_eq!(memory.limit(), Some(512 << 20));
    let cpu = limited.cpu().clone().unwrap();
    assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
    assert_eq!(limited.pids().unwrap().limit(), 256);
    let swap = |swap: &str| {
        resources(&["--memory", "64m", "--memory-swap", swap, "x", "true"])
            .unwrap()
            .memory()
            .unwrap()
            .swap()
    };
    assert_eq!(swap("64m"), Some(64 << 20));
    assert_eq!(swap("-1"), Some(-1));
}

#[test]
fn resource_limits_above_the_callers_hard_ones_are_refused_with_the_number() {
    let image = image(ImageConfig::default());
    let caller = Caller {
        hard_limits: vec![("nofile".to_owned(), 500)],
        ..ordinary()
    };
    let failure = plan_on(&image, &caller, &["--ulimit", "nofile=600", "x", "true"]).unwrap_err();
    assert!(failure.to_string().contains("500"), "{failure}");
    let plan = plan_on(&image, &caller, &["x", "true"]).unwrap().plan;
    let limits = plan
        .spec
        .process()
        .as_ref()
        .unwrap()
        .rlimits()
        .clone()
        .unwrap();
    assert!(
        limits
            .iter()
            .filter(|limit| limit.typ().to_string() == "RLIMIT_NOFILE")
            .all(|limit| limit.hard() <= 500)
    );
}

#[test]
fn no_option_widens_a_policys_processors_or_a_pinned_swap() {
    let image = image(ImageConfig::default());
    let task = Policy::builtin("task").unwrap();
    let under = |line: &[&str]| plan_under(&task, Source::Image(&image), &ordinary(), line);
    let plan = under(&["--cpu-period", "1000", "x", "true"]).unwrap().plan;
    let resources = plan.spec.linux().as_ref().unwrap().resources().clone();
    let cpu = resources.unwrap().cpu().clone().unwrap();
    assert_eq!((cpu.quota(), cpu.period()), (Some(100_000), Some(100_000)));
    let quota = |line: &[&str], pins: &str| {
        let line = [line, &["x", "true"]].concat();
        let request = request(&line, &ordinary()).unwrap();
        let mut held = Pins::default();
        held.add(pins, "p.toml").unwrap();
        let policy = refine(&task, &request, &held, &mut Vec::new()).unwrap();
        let resources = crate::resolve::limits::resources(&request, &policy).unwrap();
        let cpu = resources.unwrap().cpu().clone().unwrap();
        (cpu.quota().unwrap(), cpu.period().unwrap())
    };
    let half = ["--cpu-quota", "25000", "--cpu-period", "50000"];
    // A tighter quota than the pin stays as it was asked for; a looser one is the pin's.
    assert_eq!(quota(&half, "[limits]\ncpus = 1"), (25_000, 50_000));
    assert_eq!(quota(&half, "[limits]\ncpus = 0.2"), (20_000, 100_000));

    let request = request(&["--memory-swap", "-1", "x", "true"], &ordinary()).unwrap();
    // What a pin of the swap leaves, whatever was asked for.
    let resources = crate::resolve::limits::resources(&request, &task)
        .unwrap()
        .unwrap();
    assert_eq!(resources.memory().unwrap().swap(), Some(512 << 20));
}

#[test]
fn output_is_limited_as_the_policy_or_the_option_says_and_a_policy_to_tighten_only_is_not_loosened()
{
    let image = image(ImageConfig::default());
    let limit = |policy: &str, line: &[&str]| {
        let policy = Policy::parse(policy, "p.toml").unwrap();
        plan_under(&policy, Source::Image(&image), &ordinary(), line)
            .map(|resolved| resolved.plan.output_limit)
    };
    let (plain, asked) = (["x", "true"], ["--output-limit", "2k", "x", "true"]);
    assert_eq!(limit("", &plain).unwrap(), None);
    assert_eq!(limit("", &asked).unwrap(), Some(2048));
    assert_eq!(limit("output-cap = \"1KiB\"", &plain).unwrap(), Some(1024));
    let tighten_only = "flags = \"tighten-only\"\noutput-cap = ";
    assert_eq!(
        limit(&format!("{tighten_only}\"1MiB\""), &asked).unwrap(),
        Some(2048)
    );
    let refused = limit(&format!("{tighten_only}\"1KiB\""), &asked).unwrap_err();
    assert!(refused.message().contains("output-cap"), "{refused}");
}
