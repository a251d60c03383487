//! What limits hold, and which cannot be had.

use super::*;

#[test]
fn limits_are_had_in_the_way_this_host_is_known_for() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"pids":{"limit":50}}"#) else {
        return;
    };
    let kind = format!("{:?}", limited.0.kind());
    match expected() {
        Some(expected) => assert_eq!(kind, expected),
        None => assert_eq!(limited.0.directory().is_none(), kind == "V1"),
    }
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed_and_counted() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"memory":{"limit":33554432,"swap":33554432}}"#) else {
        return;
    };
    let (status, _) = run(&limited.0, "exec tail /dev/zero");
    assert_eq!(status.signal(), Some(9));
    let usage = limited.0.usage();
    assert!(usage.oom_kills >= Some(1), "{usage:?}");
    assert!(
        usage
            .memory_peak
            .is_none_or(|peak| (16 << 20..=32 << 20).contains(&peak)),
        "{usage:?}"
    );
}

#[test]
fn a_fork_bomb_ends_at_the_limit_and_is_counted() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"pids":{"limit":8}}"#) else {
        return;
    };
    let (status, _) = run(
        &limited.0,
        "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 >/dev/null & done",
    );
    assert!(!status.success());
    let usage = limited.0.usage();
    assert!(usage.pids_denied >= Some(1), "{usage:?}");
    assert!(limited.0.processes().unwrap().len() <= 8);
}

#[test]
fn a_cpu_limit_is_what_the_kernel_holds() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"cpu":{"quota":50000,"period":100000},"pids":{"limit":64}}"#)
    else {
        return;
    };
    let held = match (limited.0.v1_of(Controller::Cpu), &limited.0.unified) {
        (Some(cpu), _) => format!(
            "{} {}",
            cpu.read("cpu.cfs_quota_us").unwrap().trim(),
            cpu.read("cpu.cfs_period_us").unwrap().trim()
        ),
        (None, Some(unified)) => unified.read("cpu.max").unwrap().trim().to_owned(),
        (None, None) => panic!("a cgroup without a directory"),
    };
    assert_eq!(held, "50000 100000");
}

#[test]
fn a_cpuset_is_where_the_command_runs() {
    let _alone = alone();
    // Few user managers have the controller; root does.
    if !geteuid().is_root() {
        return;
    }
    let limited = limited(r#"{"cpu":{"cpus":"0"}}"#).expect("a cpuset");
    let (_, output) = run(&limited.0, "grep Cpus_allowed_list /proc/self/status");
    assert_eq!(output.split_whitespace().last(), Some("0"));
}

#[test]
fn limits_can_be_changed_up_and_down_while_it_runs() {
    let _alone = alone();
    let Some(mut limited) =
        limited(r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":20}}"#)
    else {
        return;
    };
    let memory = |cgroup: &Cgroup| match (cgroup.v1_of(Controller::Memory), &cgroup.unified) {
        (Some(memory), _) => memory
            .read("memory.limit_in_bytes")
            .unwrap()
            .trim()
            .to_owned(),
        (None, Some(unified)) => unified.read("memory.max").unwrap().trim().to_owned(),
        (None, None) => panic!("a cgroup without a directory"),
    };
    for bytes in ["134217728", "33554432"] {
        let asked = resources(&format!(
            r#"{{"memory":{{"limit":{bytes},"swap":{bytes}}}}}"#
        ));
        limited
            .0
            .change("x", &asked, &Request::default(), &Listed(vec![]))
            .unwrap();
        assert_eq!(memory(&limited.0), bytes);
    }
    // The second of these cannot be had: the first is as it was then.
    let asked = resources(r#"{"memory":{"limit":67108864,"swap":67108864},"cpu":{"cpus":"4000"}}"#);
    assert!(
        limited
            .0
            .change("x", &asked, &Request::default(), &Listed(vec![]))
            .is_err()
    );
    assert_eq!(memory(&limited.0), "33554432");
}

#[test]
fn a_value_that_the_kernel_refuses_leaves_nothing_behind() {
    let _alone = alone();
    if !geteuid().is_root() {
        return;
    }
    let name = id();
    let error = Cgroup::create(
        &name,
        &resources(r#"{"pids":{"limit":5},"cpu":{"cpus":"9999"}}"#),
        &Request::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("9999"), "{error}");
    let left = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("*{name}*")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "");
}

#[test]
fn where_nothing_is_limited_nothing_is_made() {
    assert!(
        Cgroup::create("none", &LinuxResources::default(), &Request::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_controller_that_was_not_delegated_is_named_with_its_cure() {
    let _alone = alone();
    if geteuid().is_root() {
        return;
    }
    // Most user managers have no controller but cpu, memory and pids.
    let limits = resources(r#"{"cpu":{"cpus":"0"}}"#);
    let error = match Cgroup::create(&id(), &limits, &Request::default()) {
        Ok(cgroup) => {
            let limited = Limited(cgroup.expect("a cgroup"));
            let (_, output) = run(&limited.0, "grep Cpus_allowed_list /proc/self/status");
            assert_eq!(output.split_whitespace().last(), Some("0"));
            return;
        }
        Err(error) => error.to_string(),
    };
    assert!(
        error.starts_with("cannot limit cpuset on this host: "),
        "{error}"
    );
    if expected().as_deref() == Some("Systemd") {
        assert!(
            error.contains("has no controller cpuset") && error.contains("Delegate="),
            "{error}"
        );
    }
}
