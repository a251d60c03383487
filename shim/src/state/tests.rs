//! Several processes' views of the same directory, in one.

use std::fs;
use std::time::{Duration, SystemTime};

use oci_spec::runtime::Spec;

use super::{
    Change, Config, Exited, Known, Limits, Lock, PASSING, Registry, Restart, State, Status,
};
use crate::Error;

fn config(first: char, name: &str) -> Config {
    Config {
        id: first.to_string().repeat(64),
        name: name.into(),
        created: SystemTime::now(),
        ..Config::default()
    }
}

fn create(registry: &Registry, first: char, name: &str) -> Result<(Known, Lock), Error> {
    registry.create(config(first, name), &crate::sample::plan(Spec::default()))
}

#[test]
fn a_sandbox_is_found_by_name_id_and_beginning() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, _lock) = create(&registry, 'a', "web").unwrap();
    let (other, _other_lock) = create(&registry, 'b', "").unwrap();
    assert!(!other.config.name.is_empty());
    for what in ["web", "a", "aaaa", &"a".repeat(64)] {
        assert_eq!(registry.find(what).unwrap(), made.entry, "{what}");
    }
    for what in ["", "c", "we", "../sandboxes", ".", "webb", &"a".repeat(65)] {
        assert!(
            matches!(registry.find(what), Err(Error::NoSuchSandbox { .. })),
            "{what}"
        );
    }
    let mut similar = config('a', "x2");
    similar.id.replace_range(63.., "0");
    registry
        .create(similar, &crate::sample::plan(Spec::default()))
        .unwrap();
    assert!(matches!(registry.find("aa"), Err(Error::Ambiguous { .. })));
}

#[test]
fn a_name_belongs_to_one_sandbox_until_it_is_renamed_or_removed() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, lock) = create(&registry, 'a', "web").unwrap();
    assert!(matches!(
        create(&registry, 'b', "web"),
        Err(Error::NameTaken { .. })
    ));
    registry.rename(&made.entry, "www").unwrap();
    assert!(registry.find("web").is_err());
    assert_eq!(registry.find("www").unwrap(), made.entry);
    let (_, _second) = create(&registry, 'b', "web").unwrap();
    assert!(matches!(
        registry.rename(&made.entry, "web"),
        Err(Error::NameTaken { .. })
    ));
    registry.remove(&made.entry, &lock).unwrap();
    assert!(registry.find("www").is_err());
    create(&registry, 'c', "www").unwrap();
    assert_eq!(registry.list().unwrap().sandboxes.len(), 2);
}

#[test]
fn a_new_name_outlives_a_change_that_is_taken_back() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, _lock) = create(&registry, 'a', "web").unwrap();
    let change = Change {
        resources: None,
        plan: crate::sample::plan(Spec::default()),
        limits: Limits::default(),
        restart: Some(Restart::Always),
    };
    let changed = registry.change(&made.entry, &change).unwrap();
    assert_eq!(made.entry.config().unwrap().restart, Restart::Always);
    registry.rename(&made.entry, "www").unwrap();
    registry.take_back(&made.entry, &changed).unwrap();
    let config = made.entry.config().unwrap();
    assert_eq!((config.name.as_str(), config.restart), ("www", Restart::No));
    assert_eq!(registry.find("www").unwrap(), made.entry);
}

#[test]
fn a_refused_name_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (_, _lock) = create(&registry, 'a', "web").unwrap();
    assert!(create(&registry, 'b', "web").is_err());
    assert_eq!(
        fs::read_dir(data.path().join("sandboxes")).unwrap().count(),
        1
    );
    assert_eq!(fs::read_dir(data.path().join("names")).unwrap().count(), 1);
}

#[test]
fn a_name_whose_sandbox_a_crash_took_is_free() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (_, _lock) = create(&registry, 'a', "web").unwrap();
    // What a creator leaves that is killed after its claim, and one killed before.
    std::os::unix::fs::symlink("d".repeat(64), data.path().join("names/lost")).unwrap();
    fs::create_dir(data.path().join("sandboxes").join(format!("{PASSING}e"))).unwrap();
    assert!(registry.find("lost").is_err());
    create(&registry, 'b', "lost").unwrap();
    registry.sweep().unwrap();
    assert_eq!(
        fs::read_dir(data.path().join("sandboxes")).unwrap().count(),
        2
    );
}

#[test]
fn a_running_sandbox_without_its_monitor_is_dead_unless_pid_1_wrote_its_end() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, lock) = create(&registry, 'a', "web").unwrap();
    let running = State {
        status: Status::Running,
        pid: Some(7),
        ..State::default()
    };
    made.entry.set_state(&running).unwrap();
    assert_eq!(made.entry.state().unwrap(), running);
    drop(lock);
    let dead = made.entry.look().unwrap();
    assert_eq!((dead.state.status, dead.state.pid), (Status::Dead, None));
    assert!(dead.state.error.is_some());
    assert_eq!(dead.exit_code(), 137);
    fs::write(
        made.entry.directory.join("exit"),
        (3_i32 << 8).to_ne_bytes(),
    )
    .unwrap();
    let ended = made.entry.look().unwrap();
    assert_eq!((ended.state.status, ended.exit_code()), (Status::Exited, 3));
}

#[test]
fn a_sandbox_that_ends_for_its_memory_says_so_when_what_counted_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, _lock) = create(&registry, 'a', "web").unwrap();
    let entry = &made.entry;
    let since = SystemTime::now();
    let running = State {
        status: Status::Running,
        ..State::default()
    };
    entry.set_state(&running).unwrap();
    assert!(!entry.ended_for_memory(since), "nothing counted");
    let counted = State {
        cgroup: Some(format!("0\t/sys/fs/cgroup/gone/palisade-{}\t", entry.id)),
        ..running
    };
    for (reason, expected) in [("signal", false), ("oom", true)] {
        entry.set_state(&counted).unwrap();
        let ended = State {
            status: Status::Exited,
            exit: Some(Exited {
                code: 137,
                reason: reason.into(),
                finished: SystemTime::now(),
            }),
            ..State::default()
        };
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| entry.ended_for_memory(since));
            entry.set_state(&ended).unwrap();
            assert_eq!(asked.join().unwrap(), expected, "{reason}");
        });
    }
    let later = since + Duration::from_secs(1000);
    assert!(!entry.ended_for_memory(later), "an end before");
}

#[test]
fn a_lock_had_after_its_sandbox_was_removed_is_none() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, lock) = create(&registry, 'a', "web").unwrap();
    assert!(made.entry.lock().unwrap().is_none());
    registry.remove(&made.entry, &lock).unwrap();
    drop(lock);
    assert!(matches!(
        made.entry.lock(),
        Err(Error::NoSuchSandbox { .. })
    ));
}

#[test]
fn what_should_have_gone_with_its_end_goes_when_somebody_looks() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let passing = Config {
        auto_remove: true,
        ..config('a', "web")
    };
    let (made, lock) = registry
        .create(passing, &crate::sample::plan(Spec::default()))
        .unwrap();
    let running = State {
        status: Status::Running,
        ..State::default()
    };
    made.entry.set_state(&running).unwrap();
    assert_eq!(registry.list().unwrap().sandboxes.len(), 1);
    drop(lock);
    assert_eq!(registry.list().unwrap().sandboxes.len(), 0);
    assert!(!made.entry.directory.exists());
    assert!(registry.find("web").is_err());
}

#[test]
fn one_broken_record_hides_no_other() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (_, _lock) = create(&registry, 'a', "web").unwrap();
    let (broken, _other) = create(&registry, 'b', "odd").unwrap();
    fs::write(broken.entry.directory.join("config.json"), "{").unwrap();
    let listing = registry.list().unwrap();
    assert_eq!((listing.sandboxes.len(), listing.problems.len()), (1, 1));
}

#[test]
fn events_are_kept_in_order_and_a_cut_line_is_left_out() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let (made, lock) = create(&registry, 'a', "web").unwrap();
    registry.remove(&made.entry, &lock).unwrap();
    let path = data.path().join("events");
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"time\":12");
    fs::write(&path, text).unwrap();
    let events = registry.events().read().unwrap();
    let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["create", "destroy"]);
    assert_eq!(events[0].attributes["name"], "web");
}

#[test]
fn a_plan_is_launched_later_as_it_was_made() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::new(data.path());
    let plan = crate::sample::plan(Spec::default());
    let (made, _lock) = registry.create(config('a', "web"), &plan).unwrap();
    let read = made.entry.plan().unwrap();
    assert_eq!(read.spec, plan.spec);
    assert_eq!((&read.root, &read.files), (&plan.root, &plan.files));
    assert_eq!((read.args, read.seccomp), (plan.args, plan.seccomp));
    assert_eq!(
        (read.stop_signal, read.stop_timeout, read.timeout),
        (plan.stop_signal, plan.stop_timeout, plan.timeout)
    );
}
