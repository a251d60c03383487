//! What a killed palisade left.

use super::super::abandoned::remove_older_than;
use super::*;

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

    remove_older_than(std::time::Duration::ZERO, &|_| false).unwrap();
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
        remove_older_than(std::time::Duration::ZERO, &|_| false).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(exist(&left_paths), 0, "it is abandoned");
    assert_eq!(exist(&paths(&held.0)), paths(&held.0).len(), "it is held");
}
