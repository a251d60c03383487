//! Limits that hold, on the host this runs on. Where none can be had, the error must say so: an ordinary user of a host
//! with cgroup v1 gets none. `PALISADE_EXPECT_CGROUP` names the [`Kind`] that must be had, so that a machine that is known to
//! give limits cannot pass by giving none.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::geteuid;
use oci_spec::runtime::LinuxResources;

use super::*;

/// Resources from the JSON of a runtime configuration.
pub(super) fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("valid resources")
}

/// Processes that are named one by one; a negative number stands for one that cannot be held.
pub(super) struct Listed(pub Vec<i32>);

impl Tree for Listed {
    fn processes(&self) -> Vec<i32> {
        self.0.clone()
    }

    fn hold(&self, pid: i32) -> nix::Result<Option<OwnedFd>> {
        match crate::sys::pidfd_open(pid) {
            Err(Errno::ESRCH) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// One at a time: making a cgroup may move the whole test process.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a sandbox that no other test has.
pub(super) fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn expected() -> Option<String> {
    std::env::var("PALISADE_EXPECT_CGROUP").ok()
}

/// What was made; none where this user of this host can have no cgroup, and the error says what is missing.
pub(super) fn unless_refused<T>(made: Result<T, Error>) -> Option<T> {
    let error = match made {
        Ok(made) => return Some(made),
        Err(error) => error,
    };
    match &error {
        Error::Unavailable { obstacles, .. } if !geteuid().is_root() && expected().is_none() => {
            let text = error.to_string();
            assert!(!obstacles.is_empty(), "{text}");
            assert!(
                text.starts_with("cannot limit ") && text.contains("/sys/fs/cgroup"),
                "{text}"
            );
            None
        }
        _ => panic!("{error}"),
    }
}

/// A process that waits for the end of its input, and its number.
pub(super) fn waiting() -> (Child, i32) {
    let child = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    (child, pid)
}

pub(super) fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// The cgroups of a process, as /proc tells them.
pub(super) fn groups(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

impl Cgroup {
    /// Moves a process into every directory of this cgroup.
    pub(super) fn join(&self, pid: i32) -> Result<(), Error> {
        if let Some(joined) = self.joined() {
            joined.write("cgroup.procs", &pid.to_string())?;
        }
        self.join_v1(pid)
    }

    /// The processes in it.
    pub(super) fn processes(&self) -> Result<Vec<i32>, Error> {
        let first = self.v1.first().map(|(_, directory)| directory);
        let list = self.joined().or(first).expect("a directory");
        Ok(list
            .read("cgroup.procs")?
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }
}

/// A cgroup that is killed and removed with the test.
struct Limited(Cgroup);

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let removed = self.0.remove();
        if !std::thread::panicking() {
            removed.expect("removed");
            for path in paths(&self.0) {
                assert!(!path.exists(), "{} is left behind", path.display());
            }
        }
    }
}

fn paths(cgroup: &Cgroup) -> Vec<PathBuf> {
    let record = cgroup.record();
    let v1 = record.v1.into_iter().map(|(_, path)| path);
    record
        .unified
        .into_iter()
        .chain(record.leaf)
        .chain(v1)
        .collect()
}

fn limited(json: &str) -> Option<Limited> {
    limited_at(json, &Request::default())
}

fn limited_at(json: &str, request: &Request) -> Option<Limited> {
    let made = unless_refused(Cgroup::create(&id(), &resources(json), request))?;
    Some(Limited(made.expect("a cgroup, as there are limits")))
}

/// A shell that runs `script` once it is in the cgroup.
fn start(cgroup: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    cgroup
        .join(i32::try_from(child.id()).unwrap())
        .expect("joined");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn run(cgroup: &Cgroup, script: &str) -> (ExitStatus, String) {
    let output = start(cgroup, script).wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap())
}

/// Waits until the shell says that it has done its part.
fn wait_for_line(child: &mut Child) {
    use std::io::{BufRead as _, BufReader};
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
}

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

/// A shell that runs already, in a cgroup that was made for it. It waits for a line before it goes on.
fn entered(request: &Request, script: &str) -> Option<(Limited, String, Child, i32)> {
    let id = id();
    // The process is there before the cgroup, as a sandbox's are.
    let spawned = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = spawned.expect("a shell");
    let pid = i32::try_from(child.id()).unwrap();
    let Some(made) = unless_refused(Cgroup::beside(&id, request)) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return None;
    };
    let made = Limited(made);
    made.0.surround(&Listed(vec![pid])).unwrap();
    Some((made, id, child, pid))
}

#[test]
fn what_runs_already_gets_limits_that_nobody_asked_for_at_its_start() {
    let _alone = alone();
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 >/dev/null & done";
    let entered = entered(&Request::default(), forks);
    let Some((mut limited, id, mut child, pid)) = entered else {
        return;
    };
    let leaf = limited.0.record().leaf.is_some();
    // One after the other: each wants a controller that was not needed before.
    for asked in [
        r#"{"pids":{"limit":8}}"#,
        r#"{"memory":{"limit":67108864,"swap":67108864}}"#,
    ] {
        let tree = Listed(vec![pid]);
        let changed = limited
            .0
            .change(&id, &resources(asked), &Request::default(), &tree);
        changed.unwrap();
    }
    limited.0.thaw().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(!child.wait().unwrap().success());
    let usage = limited.0.usage();
    assert!(usage.pids_denied >= Some(1), "{usage:?}");
    // systemd takes controllers back from a cgroup in the root whose children do not have them.
    let systemd = std::path::Path::new("/run/systemd/system").exists();
    assert_eq!(leaf, limited.0.kind() == Kind::V2Root && systemd);
}

#[test]
fn what_runs_already_is_limited_where_its_configuration_says() {
    let _alone = alone();
    let above = format!("palisade-{}", id());
    let request = Request {
        path: Some(format!("{above}/inner").into()),
        ..Request::default()
    };
    let Some((mut limited, id, mut child, pid)) = entered(&request, "exit 7") else {
        return;
    };
    let asked = resources(r#"{"pids":{"limit":8}}"#);
    let changed = limited.0.change(&id, &asked, &request, &Listed(vec![pid]));
    let paths = paths(&limited.0);
    let groups = groups(pid);
    limited.0.thaw().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let code = child.wait().unwrap().code();
    drop(limited);
    for path in &paths {
        // Only the last of the path is this cgroup's own.
        let above = path.ancestors().find(|path| path.ends_with(&above));
        above.map(std::fs::remove_dir);
    }
    changed.unwrap();
    assert_eq!(code, Some(7));
    let inner = format!("{above}/inner");
    assert!(
        paths.iter().any(|path| path.ends_with(&inner)) && groups.contains(&inner),
        "{paths:?} {groups}"
    );
}

#[test]
fn kill_ends_everything_even_when_frozen_or_ignoring_signals() {
    let _alone = alone();
    let request = Request {
        always: true,
        ..Request::default()
    };
    for frozen in [false, true] {
        let Some(limited) = limited_at(r#"{"pids":{"limit":50}}"#, &request) else {
            return;
        };
        let mut child = start(
            &limited.0,
            "trap '' TERM HUP INT; sleep 1000 & setsid sleep 1000 & echo ready; wait",
        );
        wait_for_line(&mut child);
        if frozen {
            limited.0.freeze().unwrap();
            assert!(limited.0.is_frozen().unwrap());
        }
        limited.0.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        limited.0.remove().unwrap();
        assert!(paths(&limited.0).iter().all(|path| !path.exists()));
    }
}

#[test]
fn a_thawed_process_goes_on() {
    let _alone = alone();
    let request = Request {
        always: true,
        ..Request::default()
    };
    let Some(limited) = limited_at("{}", &request) else {
        return;
    };
    let mut child = start(&limited.0, "echo ready; read more; exit 7");
    wait_for_line(&mut child);
    limited.0.freeze().unwrap();
    limited.0.thaw().unwrap();
    assert!(!limited.0.is_frozen().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn another_process_finds_it_by_its_record() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"pids":{"limit":50}}"#) else {
        return;
    };
    let record: Record = limited.0.record().to_string().parse().unwrap();
    assert_eq!(record, limited.0.record());
    let mut child = start(&limited.0, "echo ready; sleep 1000");
    wait_for_line(&mut child);
    let reopened = Cgroup::open(&record).unwrap();
    assert!(
        reopened
            .processes()
            .unwrap()
            .contains(&i32::try_from(child.id()).unwrap())
    );
    reopened.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    reopened.remove().unwrap();
    assert!(Cgroup::open(&record).is_err());
}

#[test]
fn a_busy_cgroup_is_not_removed_and_says_so() {
    let _alone = alone();
    let Some(limited) = limited(r#"{"pids":{"limit":50}}"#) else {
        return;
    };
    let mut child = start(&limited.0, "echo ready; sleep 1000");
    wait_for_line(&mut child);
    let error = limited.0.remove().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    limited.0.kill().unwrap();
    child.wait().unwrap();
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
fn a_path_or_name_cannot_lead_out_of_the_hierarchy() {
    let limits = resources(r#"{"pids":{"limit":5}}"#);
    for path in ["..", "/a/../../b", "/", "a\nb"] {
        let request = Request {
            path: Some(path.into()),
            ..Request::default()
        };
        assert!(
            matches!(
                Cgroup::create("x", &limits, &request),
                Err(Error::Invalid(_))
            ),
            "{path:?}"
        );
    }
    for id in ["", "..", "a/b", "a\0b"] {
        assert!(
            matches!(
                Cgroup::create(id, &limits, &Request::default()),
                Err(Error::Invalid(_))
            ),
            "{id:?}"
        );
    }
}

#[test]
fn an_absolute_path_is_below_the_root_of_every_hierarchy() {
    let _alone = alone();
    if !geteuid().is_root() {
        return;
    }
    let name = format!("palisade-{}", id());
    let request = Request {
        path: Some(format!("/{name}/inner").into()),
        ..Request::default()
    };
    let limited = limited_at(r#"{"pids":{"limit":5}}"#, &request).expect("a cgroup");
    let all = paths(&limited.0);
    assert!(
        all.iter()
            .all(|path| path.to_str().unwrap().contains(&format!("/{name}/inner"))),
        "{all:?}"
    );
    drop(limited);
    for path in all {
        let parent = path.ancestors().find(|path| path.ends_with(&name)).unwrap();
        if parent.exists() {
            std::fs::remove_dir(parent).unwrap();
        }
    }
}

#[test]
fn a_broken_record_is_refused() {
    for text in ["", "9\t\t", "1\t/a", "3\t\t\tmemory", "x\t\t"] {
        assert!(text.parse::<Record>().is_err(), "{text:?}");
    }
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

#[test]
fn what_a_record_names_is_removed_only_where_it_bears_the_sandboxs_name() {
    let _alone = alone();
    let (id, limits) = (id(), resources(r#"{"pids":{"limit":50}}"#));
    let created = Cgroup::create(&id, &limits, &Request::default());
    let Some(made) = unless_refused(created).map(Option::unwrap) else {
        return;
    };
    let (record, paths) = (made.record(), paths(&made));
    drop(made);
    let exist = || paths.iter().filter(|path| path.exists()).count();
    // Another sandbox's, and one that a link leads to.
    record.remove_abandoned("other", std::time::Duration::ZERO);
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join(format!("palisade-{id}"));
    std::os::unix::fs::symlink(&paths[0], &link).unwrap();
    let led = Record {
        unified: Some(link),
        leaf: None,
        v1: Vec::new(),
        ..record.clone()
    };
    led.remove_abandoned(&id, std::time::Duration::ZERO);
    let before = exist();
    let found = (record.is_left("other"), record.is_left(&id));
    record.remove_abandoned(&id, std::time::Duration::ZERO);
    assert_eq!((before, exist()), (paths.len(), 0));
    assert_eq!((found, record.is_left(&id)), ((false, true), false));
}

#[test]
fn what_a_killed_palisade_left_is_removed_and_what_is_used_is_not() {
    let _alone = alone();
    let limits = r#"{"pids":{"limit":50}}"#;
    let Some(held) = limited(limits) else {
        return;
    };
    let left = Cgroup::create(&id(), &resources(limits), &Request::default())
        .unwrap()
        .unwrap();
    let left_paths = paths(&left);
    let mut child = start(&left, "echo ready; exec sleep 1000");
    wait_for_line(&mut child);
    // Without a word, as by SIGKILL.
    drop(left);
    let exist = |paths: &[PathBuf]| paths.iter().filter(|path| path.exists()).count();

    abandoned::remove_older_than(std::time::Duration::ZERO, &|_| false).unwrap();
    assert_eq!(exist(&left_paths), left_paths.len(), "it has a process");
    child.kill().unwrap();
    child.wait().unwrap();
    remove_abandoned().unwrap();
    assert_eq!(
        exist(&left_paths),
        left_paths.len(),
        "it is too young to be sure"
    );
    // A process that was waited for may still be on its way out of the cgroup.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while exist(&left_paths) > 0 && std::time::Instant::now() < patience {
        abandoned::remove_older_than(std::time::Duration::ZERO, &|_| false).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(exist(&left_paths), 0, "it is abandoned");
    assert_eq!(exist(&paths(&held.0)), paths(&held.0).len(), "it is held");
}
