//! What two policies do differently, what options may change, and what an administrator pins.

use std::fs;
use std::path::Path;
use std::time::Duration;

use palisade_policies::{Direction, Error, IoLimit, NetworkMode, Pins, Policy, Rlimit, Tier};

fn builtin(name: &str) -> Policy {
    Policy::builtin(name).unwrap_or_else(|| panic!("{name} is built in"))
}

fn pins(text: &str) -> Pins {
    let mut pins = Pins::default();
    pins.add(text, "10-limits.toml")
        .unwrap_or_else(|error| panic!("{error}"));
    pins
}

#[test]
fn a_difference_names_the_key_both_values_and_the_direction() {
    let differences: Vec<_> = builtin("default")
        .difference(&builtin("task"))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        differences,
        [
            "timeout: unlimited → 120s (tighter)",
            "limits.memory: unlimited → 512MiB (tighter)",
            "limits.swap: unlimited → 0B (tighter)",
            "limits.cpus: unlimited → 1 (tighter)",
            "limits.pids: unlimited → 256 (tighter)",
        ]
    );
    assert!(builtin("task").difference(&builtin("task")).is_empty());
}

#[test]
fn compat_is_looser_than_default_and_strict_tighter() {
    let default = builtin("default");
    assert!(
        default
            .difference(&builtin("compat"))
            .iter()
            .any(|d| d.direction == Direction::Looser)
    );
    let tighter = default.difference(&builtin("strict"));
    assert!(!tighter.is_empty());
    assert!(
        tighter.iter().all(|d| d.direction == Direction::Tighter),
        "{tighter:?}"
    );
}

type Change = fn(&mut Policy);

/// Applies `change` to strict, which may only be tightened.
fn refined(change: impl FnOnce(&mut Policy)) -> Result<(), Error> {
    let strict = builtin("strict");
    let mut refined = strict.clone();
    change(&mut refined);
    strict.check_refined(&refined)
}

#[test]
fn a_policy_that_may_only_be_tightened_can_be_tightened() {
    refined(|policy| policy.limits.memory = Some(1 << 20)).expect("a limit");
    refined(|policy| policy.timeout = Some(Duration::from_secs(1))).expect("a time limit");
    refined(|policy| policy.filesystem.write.clear()).expect("fewer paths");
    refined(|policy| policy.filesystem.deny.push("/etc".to_owned())).expect("more denied");
    refined(|policy| drop(policy.filesystem.tmpfs.pop())).expect("less memory to write to");
    refined(|policy| policy.filesystem.tmpfs[0].size = 1).expect("a smaller tmpfs");
    refined(|policy| policy.minimum_tier = Tier::Full).expect("a higher tier");
    refined(|policy| policy.limits.cpuset = Some("0".to_owned())).expect("fewer processors");
    refined(|policy| {
        drop(
            policy
                .environment
                .set
                .insert("A".to_owned(), "1".to_owned()),
        );
    })
    .expect("a variable");
    refined(|policy| policy.stop_timeout = Duration::from_secs(1)).expect("another grace period");
}

#[test]
fn a_policy_that_may_only_be_tightened_cannot_be_loosened_anywhere() {
    let changes: [(&str, Change); 18] = [
        ("stop-timeout", |policy| {
            policy.stop_timeout = Duration::from_mins(1);
        }),
        ("capabilities", |policy| {
            policy.capabilities.push("CAP_SYS_ADMIN".to_owned());
        }),
        ("network.mode", |policy| {
            policy.network.mode = NetworkMode::Host;
        }),
        ("flags", |policy| {
            policy.flags = palisade_policies::Flags::Refine;
        }),
        ("minimum-tier", |policy| {
            policy.minimum_tier = Tier::NoNamespace;
        }),
        ("filesystem.root", |policy| {
            policy.filesystem.root = palisade_policies::RootMode::Writable;
        }),
        ("filesystem.root", |policy| {
            policy.filesystem.root = palisade_policies::RootMode::InMemory;
        }),
        ("filesystem.write", |policy| {
            policy.filesystem.write.push("/var".to_owned());
        }),
        ("filesystem.masked-paths", |policy| {
            policy.filesystem.masked_paths.clear();
        }),
        ("filesystem.readonly-paths", |policy| {
            drop(policy.filesystem.readonly_paths.pop());
        }),
        ("filesystem.tmpfs./tmp.noexec", |policy| {
            policy.filesystem.tmpfs[0].noexec = false;
        }),
        ("filesystem.tmpfs./tmp.inodes", |policy| {
            policy.filesystem.tmpfs[0].inodes = None;
        }),
        ("filesystem.setuid", |policy| {
            policy.filesystem.setuid = palisade_policies::Setuid::Keep;
        }),
        ("syscalls.base", |policy| {
            policy.syscalls.base = palisade_policies::Base::Default;
        }),
        ("syscalls.allow", |policy| {
            policy.syscalls.allow.push("bpf".to_owned());
        }),
        ("limits.shm", |policy| policy.limits.shm += 1),
        ("limits.rlimits.core", |policy| {
            policy.limits.rlimits.clear();
        }),
        ("environment.pass", |policy| {
            policy.environment.pass.push("*".to_owned());
        }),
    ];
    for (key, change) in changes {
        let error = refined(change).expect_err(key).to_string();
        assert!(
            error.contains(&format!("may only be tightened: {key}: ")),
            "{key}: {error}"
        );
        assert!(error.contains("(looser)"), "{error}");
    }
}

#[test]
fn a_policy_that_may_be_refined_takes_any_change() {
    let default = builtin("default");
    default
        .check_refined(&builtin("compat"))
        .expect("it may be refined");
}

#[test]
fn a_pin_lowers_what_exceeds_it_sets_what_is_open_and_leaves_what_is_below() {
    let pins = pins(
        "minimum-tier = \"full\"\ntimeout = \"60s\"\noutput-cap = \"1m\"\n[limits]\nmemory = \"256m\"\nswap = 0\ncpus = 2\npids = 1000\n\
         shm = \"1m\"\ncpuset = \"1-3\"\nio = [{ device = \"/dev/sda\", read-bps = 10 }]\n[limits.rlimits]\nnofile = 100\nfsize = 5\n",
    );
    let mut asked = builtin("task");
    asked.limits.cpuset = Some("0-1".to_owned());
    asked.limits.io = vec![IoLimit {
        device: "/dev/sda".into(),
        read_bps: Some(20),
        ..IoLimit::default()
    }];
    let (held, lowered) = asked.pinned_by(&pins);
    assert_eq!(held.minimum_tier, Tier::Full);
    assert_eq!(held.timeout, Some(Duration::from_mins(1)));
    assert_eq!(held.output_cap, Some(1 << 20));
    assert_eq!(held.limits.memory, Some(256 << 20));
    assert_eq!(held.limits.cpus, Some(1.0));
    assert_eq!(held.limits.pids, Some(256));
    assert_eq!(held.limits.shm, 1 << 20);
    assert_eq!(held.limits.cpuset.as_deref(), Some("1"));
    assert_eq!(held.limits.io[0].read_bps, Some(10));
    assert_eq!(
        held.limits.rlimits["nofile"],
        Rlimit {
            soft: 100,
            hard: 100
        }
    );
    assert_eq!(held.limits.rlimits["fsize"], Rlimit { soft: 5, hard: 5 });
    let keys: Vec<_> = lowered.iter().map(|lowered| lowered.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "minimum-tier",
            "timeout",
            "output-cap",
            "limits.memory",
            "limits.shm",
            "limits.cpuset",
            "limits.rlimits.fsize",
            "limits.rlimits.nofile",
            "limits.io./dev/sda.read-bps"
        ]
    );
    assert_eq!(
        lowered[3].to_string(),
        "limits.memory is 256MiB in place of 512MiB: 10-limits.toml pins it"
    );
    // Pinned again, nothing is left to lower.
    assert!(held.pinned_by(&pins).1.is_empty());
}

#[test]
fn the_strictest_of_several_pin_files_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let write =
        |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
    write("10-a.toml", "[limits]\npids = 100\n");
    write("20-b.toml", "[limits]\npids = 50\nmemory = \"1g\"\n");
    write("30-c.toml", "[limits]\npids = 70\n");
    write("notes.txt", "not a pin");
    let (held, _) = builtin("default").pinned_by(&Pins::load(directory.path()).expect("right"));
    assert_eq!(
        (held.limits.pids, held.limits.memory),
        (Some(50), Some(1 << 30))
    );
}

#[test]
fn where_a_pin_ends_commands_they_have_no_more_time_to_end_than_it_says() {
    let held = |text: &str, asked: u64| {
        let mut policy = builtin("default");
        policy.stop_timeout = Duration::from_secs(asked);
        let (held, lowered) = policy.pinned_by(&pins(text));
        let keys: Vec<_> = lowered.into_iter().map(|lowered| lowered.key).collect();
        (
            held.stop_timeout.as_secs(),
            keys.contains(&"stop-timeout".to_owned()),
        )
    };
    assert_eq!(held("timeout = \"1h\"", 3600), (10, true));
    assert_eq!(held("output-cap = \"1m\"", 3600), (10, true));
    assert_eq!(
        held("timeout = \"1h\"\nstop-timeout = \"60s\"", 3600),
        (60, true)
    );
    assert_eq!(held("stop-timeout = \"2s\"", 3600), (2, true));
    // Whichever file it is in.
    let texts = ["timeout = \"1h\"", "stop-timeout = \"60s\""];
    for order in [[0, 1], [1, 0]] {
        let mut pins = Pins::default();
        for index in order {
            pins.add(texts[index], texts[index]).expect("a pin file");
        }
        let mut policy = builtin("default");
        policy.stop_timeout = Duration::from_hours(1);
        let (policy, _) = policy.pinned_by(&pins);
        assert_eq!(policy.stop_timeout, Duration::from_mins(1), "{order:?}");
    }
    assert_eq!(held("timeout = \"1h\"", 4), (4, false));
    assert_eq!(held("[limits]\npids = 9", 3600), (3600, false));
}

#[test]
fn processors_outside_the_pinned_ones_are_replaced_by_them() {
    let mut asked = builtin("default");
    asked.limits.cpuset = Some("8".to_owned());
    let (held, lowered) = asked.pinned_by(&pins("[limits]\ncpuset = \"0,2\"\n"));
    assert_eq!(held.limits.cpuset.as_deref(), Some("0,2"));
    assert_eq!(lowered.len(), 1);
}

#[test]
fn pins_that_cannot_be_known_are_an_error_and_a_missing_directory_has_none() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(
        Pins::load(&directory.path().join("missing"))
            .expect("none")
            .is_empty()
    );
    fs::write(directory.path().join("x.toml"), "[limits]\nmemry = 1\n").expect("written");
    let error = Pins::load(directory.path()).expect_err("wrong").to_string();
    assert!(
        error.contains("x.toml:2:1: unknown key \"memry\""),
        "{error}"
    );
    fs::write(
        directory.path().join("x.toml"),
        "[network]\nmode = \"host\"\n",
    )
    .expect("written");
    let error = Pins::load(directory.path())
        .expect_err("no limit")
        .to_string();
    assert!(error.contains("a pin file has only limits"), "{error}");
    fs::remove_file(directory.path().join("x.toml")).expect("removed");
    fs::create_dir(directory.path().join("y.toml")).expect("made");
    assert!(Pins::load(directory.path()).is_err());
    assert!(Pins::load(Path::new("/dev/null")).is_err());
}
