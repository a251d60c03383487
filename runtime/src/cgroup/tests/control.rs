//! Freezing, killing and removing, also by another process.

use super::*;

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
fn a_broken_record_is_refused() {
    for text in ["", "9\t\t", "1\t/a", "3\t\t\tmemory", "x\t\t"] {
        assert!(text.parse::<Record>().is_err(), "{text:?}");
    }
}
