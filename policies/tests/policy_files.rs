//! Policy files: what they say, and what a mistake in one looks like.

use std::fs;
use std::path::Path;
use std::time::Duration;

use palisade_policies::landlock::{Access, PathRule};
use palisade_policies::{
    Base, Denied, Error, Flags, KEYS, NetworkMode, Policy, Rlimit, RootMode, Setuid, Sys, Tier,
};

fn parse(text: &str) -> Policy {
    Policy::parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The error for `text` as a user sees it.
fn mistake(text: &str) -> String {
    match Policy::parse(text, "test.toml") {
        Err(error @ Error::File { .. }) => error.to_string(),
        Err(error) => panic!("not about the file: {error}"),
        Ok(_) => panic!("taken as right: {text}"),
    }
}

#[track_caller]
fn assert_mistake(text: &str, place: &str, words: &str) {
    let error = mistake(text);
    assert!(
        error.starts_with(&format!("test.toml:{place}: ")),
        "{text}: {error}"
    );
    assert!(error.contains(words), "{text}: {error}");
}

fn builtin(name: &str) -> Policy {
    Policy::builtin(name).unwrap_or_else(|| panic!("{name} is built in"))
}

#[test]
fn the_built_in_policies_are_what_their_files_say() {
    for (name, description) in Policy::builtins() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.toml"));
        let loaded = Policy::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(builtin(name), loaded, "{name}");
        assert_eq!(loaded.description, *description);
    }
    let names: Vec<_> = Policy::builtins().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["strict", "default", "compat", "task"]);
    assert_eq!(Policy::builtin("none"), None);
}

#[test]
fn the_built_in_policies_promise_what_they_should() {
    for (name, _) in Policy::builtins() {
        let policy = builtin(name);
        assert!(policy.capabilities.is_empty(), "{name}");
        assert_eq!(policy.network.mode, NetworkMode::None, "{name}");
        assert_eq!(
            policy.limits.rlimits["core"],
            Rlimit { soft: 0, hard: 0 },
            "{name}"
        );
        for path in ["/proc/kcore", "/proc/keys", "/sys/firmware"] {
            assert!(
                policy
                    .filesystem
                    .masked_paths
                    .iter()
                    .any(|masked| masked == path),
                "{name}: {path}"
            );
        }
        assert!(
            !policy.environment.passes("AWS_SECRET_ACCESS_KEY"),
            "{name}"
        );
        assert!(!policy.environment.passes("LD_PRELOAD"), "{name}");
    }
    let task = builtin("task");
    assert_eq!(task.limits.memory, Some(512 << 20));
    assert_eq!(task.limits.cpus, Some(1.0));
    assert_eq!(task.limits.pids, Some(256));
    assert_eq!(task.timeout, Some(Duration::from_mins(2)));
    let strict = builtin("strict");
    assert_eq!(
        (strict.syscalls.base, strict.flags),
        (Base::Strict, Flags::TightenOnly)
    );
    assert!(strict.filesystem.tmpfs.iter().all(|mount| mount.noexec));
    let compat = builtin("compat");
    assert_eq!(
        (
            compat.filesystem.root,
            compat.filesystem.sys,
            compat.filesystem.setuid
        ),
        (RootMode::Writable, Sys::ReadOnly, Setuid::Keep)
    );
}

#[test]
fn the_canonical_form_reads_back_and_its_digest_is_its_hash() {
    for (name, _) in Policy::builtins() {
        let policy = builtin(name);
        assert_eq!(parse(&policy.to_toml()), policy, "{}", policy.to_toml());
        assert_eq!(policy.digest(), parse(&policy.to_toml()).digest());
        assert_eq!(policy.digest().len(), "sha256:".len() + 64);
    }
    assert_ne!(builtin("strict").digest(), builtin("default").digest());
    let everything = parse(EVERYTHING);
    assert_eq!(
        parse(&everything.to_toml()),
        everything,
        "{}",
        everything.to_toml()
    );
}

const EVERYTHING: &str = r#"
name = "every\"thing\\"
description = "a tab\there"
extends = "strict"
capabilities = ["net_raw", "CAP_SYS_PTRACE"]
timeout = "1h30m"
stop-timeout = "1500ms"
minimum-tier = "no-namespace"
output-cap = "10MiB"
flags = "refine"
[filesystem]
root = "writable"
read = ["/usr", "/etc/"]
write = ["~/work"]
write-existing = []
exec = ["/usr"]
deny = ["~/.ssh", "/usr/share/private"]
tmpfs = [{ path = "/tmp", size = 1048577, noexec = true }, { path = "~", size = "1g", inodes = 5 }]
scratch-size = "77k"
scratch-inodes = 10
setuid = "keep"
sys = "read-only"
masked-paths = []
readonly-paths = ["/proc/sys"]
[network]
mode = "host"
[syscalls]
base = "compat"
allow = ["bpf"]
deny = ["getppid", { name = "chmod", errno = "ENOSYS" }, { name = "chown", errno = 4095 }]
[limits]
memory = "1.5g"
swap = 0
cpus = 0.5
cpuset = "0-3,6"
pids = 10
shm = "1m"
io = [{ device = "/dev/sda", read-bps = "1m", write-iops = 5 }]
[limits.rlimits]
nofile = { soft = 10, hard = "unlimited" }
core = "unlimited"
[environment]
pass = ["LC_*"]
[environment.set]
CI = "1"
"odd name" = "line\nbreak"
"#;

#[test]
fn a_file_says_everything_it_can_say() {
    let policy = parse(EVERYTHING);
    assert_eq!(policy.name, "every\"thing\\");
    assert_eq!(policy.capabilities, ["CAP_NET_RAW", "CAP_SYS_PTRACE"]);
    assert_eq!(policy.timeout, Some(Duration::from_mins(90)));
    assert_eq!(policy.stop_timeout, Duration::from_millis(1500));
    assert_eq!(policy.minimum_tier, Tier::NoNamespace);
    assert_eq!(policy.output_cap, Some(10 << 20));
    assert_eq!(policy.filesystem.read, ["/usr", "/etc"]);
    assert!(
        policy.filesystem.write_existing.is_empty() && policy.filesystem.masked_paths.is_empty()
    );
    assert_eq!(policy.filesystem.tmpfs[1].inodes, Some(5));
    assert_eq!(policy.filesystem.scratch_size, 77 << 10);
    assert_eq!(
        policy.syscalls.deny[1],
        Denied {
            name: "chmod".to_owned(),
            errno: 38
        }
    );
    assert_eq!(policy.limits.memory, Some(3 << 29));
    assert_eq!(policy.limits.cpuset.as_deref(), Some("0-3,6"));
    assert_eq!(
        policy.limits.rlimits["nofile"],
        Rlimit {
            soft: 10,
            hard: Rlimit::UNLIMITED
        }
    );
    assert_eq!(policy.limits.io[0].write_iops, Some(5));
    assert!(policy.environment.passes("LC_ALL") && !policy.environment.passes("TERM"));
    assert_eq!(policy.environment.set["odd name"], "line\nbreak");
}

#[test]
fn what_a_file_leaves_out_is_what_it_extends() {
    let policy = parse("extends = \"task\"\n[limits]\npids = 10\n[limits.rlimits]\nnproc = 7\n");
    let task = builtin("task");
    assert_eq!(policy.limits.memory, task.limits.memory);
    assert_eq!(policy.limits.pids, Some(10));
    assert_eq!(
        policy.limits.rlimits["nofile"],
        task.limits.rlimits["nofile"]
    );
    assert_eq!(policy.limits.rlimits["nproc"], Rlimit { soft: 7, hard: 7 });
    assert_eq!(policy.filesystem, task.filesystem);
    // A file that extends nothing extends default, and a bound can be taken away.
    assert_eq!(parse("").filesystem, builtin("default").filesystem);
    assert_eq!(
        parse("extends = \"task\"\ntimeout = \"unlimited\"").timeout,
        None
    );
}

#[test]
fn an_empty_list_means_none() {
    let policy = parse(
        "[filesystem]\nread = []\nexec = []\nwrite = []\nwrite-existing = []\n[environment]\npass = []\n",
    );
    assert!(policy.path_rules(Path::new("/home/agent")).is_empty());
    assert!(!policy.environment.passes("TERM"));
}

#[test]
fn every_key_is_read_and_refuses_a_wrong_type() {
    for key in KEYS {
        let value = |value: &str| match key.section() {
            "" => format!("{} = {value}", key.name()),
            "filesystem.tmpfs" => match key.name() {
                "path" => format!("[filesystem]\ntmpfs = [{{ path = {value}, size = 1 }}]"),
                "size" => format!("[filesystem]\ntmpfs = [{{ path = \"/x\", size = {value} }}]"),
                name => format!(
                    "[filesystem]\ntmpfs = [{{ path = \"/x\", size = 1, {name} = {value} }}]"
                ),
            },
            "limits.io" => match key.name() {
                "device" => format!("[limits]\nio = [{{ device = {value} }}]"),
                name => format!("[limits]\nio = [{{ device = \"/dev/sda\", {name} = {value} }}]"),
            },
            "syscalls.deny" => match key.name() {
                "name" => format!("[syscalls]\ndeny = [{{ name = {value} }}]"),
                name => format!("[syscalls]\ndeny = [{{ name = \"ptrace\", {name} = {value} }}]"),
            },
            // Swap bounds nothing without memory.
            "limits" if key.name() == "swap" => format!("[limits]\nmemory = 1\nswap = {value}"),
            section => format!("[{section}]\n{} = {value}", key.name()),
        };
        let example = value(key.example);
        if let Err(error) = Policy::parse(&example, "example") {
            panic!("the example of {} is wrong: {error}", key.path);
        }
        // No key takes a date, whatever else it takes.
        let error = mistake(&value("1979-05-27"));
        assert!(
            error.contains(key.path) && error.contains("found a date"),
            "{}: {error}",
            key.path
        );
        assert!(
            error.contains(key.expects) && error.contains("for example"),
            "{}: {error}",
            key.path
        );
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    let error = mistake("name = \"x\"\n\n[limits]\n  memry = \"1g\"\n");
    assert!(
        error.starts_with("test.toml:4:3: unknown key \"memry\" in limits"),
        "{error}"
    );
    assert!(
        error.contains("nearest known key is \"memory\"") && error.contains("memory = \"512MiB\""),
        "{error}"
    );
    let error = mistake("memory = \"1g\"");
    assert!(error.contains("it belongs in [limits]"), "{error}");
    let error = mistake("[filesystem]\nxyzzyplugh = 1");
    assert!(
        error.contains("known here are: root, read, write"),
        "{error}"
    );
    let error = mistake("[limits.rlimits]\nnofiles = 1");
    assert!(error.contains("\"nofile\""), "{error}");
    let error = mistake("[filesystem]\ntmpfs = [{ path = \"/tmp\", size = 1, sise = 2 }]");
    assert!(
        error.starts_with("test.toml:2:37:") && error.contains("\"size\""),
        "{error}"
    );
}

#[test]
fn a_column_counts_characters() {
    let error = mistake("description = \"äöü\"; nonsense\n");
    assert!(error.starts_with("test.toml:1:20:"), "{error}");
}

#[test]
fn wrong_values_say_what_was_expected() {
    for (text, place, words) in [
        ("timeout = \"2 fortnights\"", "1:11", "expected a duration"),
        ("timeout = 0", "1:11", "above 0"),
        ("minimum-tier = \"ful\"", "1:16", "did you mean \"full\""),
        ("flags = \"none\"", "1:9", "\"refine\" or \"tighten-only\""),
        (
            "capabilities = [\"CAP_SYS_ADMIM\"]",
            "1:17",
            "did you mean \"CAP_SYS_ADMIN\"",
        ),
        ("extends = \"defualt\"", "1:11", "did you mean \"default\""),
        ("extends = \"./missing.toml\"", "1:11", "cannot read"),
        ("[limits]\nmemory = -1", "2:10", "found -1"),
        (
            "[limits]\nmemory = \"5 parsecs\"",
            "2:10",
            "expected a size",
        ),
        ("[limits]\ncpus = 0", "2:8", "from 0.01"),
        ("[limits]\ncpus = nan", "2:8", "from 0.01"),
        ("[limits]\ncpus = 1e308", "2:8", "from 0.01 to 65536"),
        ("[limits]\npids = 4194305", "2:8", "from 1 to 4194304"),
        ("[limits]\ncpuset = \"3-1\"", "2:10", "\"0-3,6\""),
        (
            "[limits]\nrlimits = { nofile = { soft = 2, hard = 1 } }",
            "2:22",
            "soft is above hard",
        ),
        (
            "[limits]\nrlimits = { nofile = { soft = 2 } }",
            "2:22",
            "both soft and hard",
        ),
        (
            "[limits.rlimits]\nnofile = { sofft = 1 }",
            "2:12",
            "nearest known key is \"soft\"",
        ),
        ("[limits]\nio = [{ read-bps = 1 }]", "2:7", "below /dev"),
        ("[filesystem]\nread = [\"usr\"]", "2:9", "absolute path"),
        ("[filesystem]\nread = [\"/usr/../etc\"]", "2:9", "\"..\""),
        (
            "[filesystem]\nread = [\"/usr\", \"/usr/\"]",
            "2:17",
            "twice",
        ),
        ("[filesystem]\nread = \"/usr\"", "2:8", "expected a list"),
        (
            "[filesystem]\ntmpfs = [{ path = \"/tmp\" }]",
            "2:10",
            "no size",
        ),
        (
            "[filesystem]\ntmpfs = [{ path = \"/\", size = 1 }]",
            "2:10",
            "root cannot be a tmpfs",
        ),
        (
            "[syscalls]\nallow = [\"ptrase\"]",
            "2:10",
            "did you mean \"ptrace\"",
        ),
        (
            "[syscalls]\ndeny = [{ name = \"ptrace\", errno = \"EWHAT\" }]",
            "2:36",
            "names are: EPERM",
        ),
        (
            "[syscalls]\ndeny = [{ name = \"ptrace\", errno = 4096 }]",
            "2:36",
            "1 to 4095",
        ),
        ("[environment]\npass = [\"A=B\"]", "2:9", "no variable name"),
        ("[environment]\nset = { A = 1 }", "2:13", "text in quotes"),
        (
            "[environment]\nset = { \"\" = \"1\" }",
            "2:9",
            "no variable name",
        ),
        (
            "[environment.set]\nLANDLOCK_ENABLED = \"1\"",
            "2:1",
            "palisade tells them the truth",
        ),
        ("name = \"a\\u0000b\"", "1:8", "NUL"),
        (
            "name = \"a\"\nname = \"b\"",
            "2:1",
            "duplicate key \"name\"",
        ),
        ("[limits", "1:8", "unclosed"),
    ] {
        assert_mistake(text, place, words);
    }
}

#[test]
fn contradictions_are_refused_where_they_stand() {
    for (text, place, words) in [
        (
            "[syscalls]\nallow = [\"bpf\"]\ndeny = [\"bpf\"]",
            "3:8",
            "\"bpf\" is both in syscalls.allow and",
        ),
        (
            "[syscalls]\ndeny = [\"bpf\", { name = \"bpf\", errno = 38 }]",
            "2:8",
            "twice",
        ),
        (
            "[filesystem]\nread = [\"/etc\"]\ndeny = [\"/etc\"]",
            "3:8",
            "both in filesystem.read",
        ),
        ("[filesystem]\ndeny = [\"/\"]", "2:8", "deny everything"),
        (
            "[filesystem]\ntmpfs = [{ path = \"/a\", size = 1 }, { path = \"/a\", size = 2 }]",
            "2:9",
            "twice",
        ),
        ("[limits]\nswap = 0", "2:8", "without limits.memory"),
        (
            "extends = \"task\"\n[limits]\nmemory = \"unlimited\"",
            "3:10",
            "without limits.memory",
        ),
        (
            "[limits]\nio = [{ device = \"/dev/a\", read-bps = 1 }, { device = \"/dev/a\", read-bps = 9 }]",
            "2:6",
            "twice",
        ),
        (
            "[filesystem]\ndeny = [\"/proc/self/environ\"]",
            "2:8",
            "another one for each process",
        ),
    ] {
        assert_mistake(text, place, words);
    }
}

#[test]
fn what_looks_like_a_pattern_of_paths_is_refused_as_it_would_hide_nothing() {
    for (section, list) in [
        ("filesystem", "deny = [\"/etc/*.key\"]"),
        ("filesystem", "deny = [\"~/.ssh/id_?\"]"),
        ("filesystem", "masked-paths = [\"/proc/*\"]"),
    ] {
        let error = mistake(&format!("[{section}]\n{list}"));
        assert!(error.contains("paths have none"), "{error}");
    }
}

#[test]
fn a_mistake_in_the_form_of_a_file_has_its_place_and_an_example_too() {
    for (text, place) in [
        ("[limits\npids = 3", "1:8"),
        ("[limits]\npids = x", "2:8"),
        ("[limits]\n[limits]", "2:2"),
    ] {
        let error = mistake(text);
        assert!(
            error.starts_with(&format!("test.toml:{place}: ")) && error.contains("for example: "),
            "{error}"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("latin.toml");
    fs::write(&file, b"[limits]\n# caf\xe9\n").expect("written");
    let error = Policy::load(&file).expect_err("not UTF-8").to_string();
    assert!(
        error.contains("latin.toml:2:6: expected text in UTF-8, found the byte 0xe9"),
        "{error}"
    );
}

#[test]
fn a_long_chain_of_files_is_refused_before_it_fills_the_stack() {
    let directory = tempfile::tempdir().expect("a directory");
    for number in 0..1000 {
        let text = format!("extends = \"./{}.toml\"\n", number + 1);
        fs::write(directory.path().join(format!("{number}.toml")), text).expect("written");
    }
    let error = Policy::load(&directory.path().join("0.toml"))
        .expect_err("too long")
        .to_string();
    assert!(
        error.contains("more than 32 files extend each other"),
        "{error}"
    );
}

#[test]
fn a_policy_is_named_by_a_word_or_a_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("build.toml");
    fs::write(&file, "extends = \"strict\"\n").expect("written");
    let named = Policy::named(file.to_str().expect("text")).expect("right");
    assert_eq!(
        (named.name.as_str(), named.syscalls.base),
        ("build", Base::Strict)
    );
    assert_eq!(Policy::named("task").expect("built in"), builtin("task"));
    let error = Policy::named("strikt").expect_err("unknown").to_string();
    assert!(
        error.contains("did you mean \"strict\"?")
            && error.contains("strict, default, compat, task"),
        "{error}"
    );
    let error = Policy::named("./nowhere.toml")
        .expect_err("missing")
        .to_string();
    assert!(
        error.contains("cannot read ./nowhere.toml: No such file"),
        "{error}"
    );
}

#[test]
fn files_extend_files_beside_them_but_not_in_a_circle() {
    let directory = tempfile::tempdir().expect("a directory");
    let write =
        |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
    let load = |name: &str| Policy::load(&directory.path().join(name));
    write("base.toml", "extends = \"task\"\n[limits]\npids = 9\n");
    write("child.toml", "extends = \"base.toml\"\ntimeout = \"5s\"\n");
    let child = load("child.toml").expect("right");
    assert_eq!(
        (child.limits.pids, child.timeout),
        (Some(9), Some(Duration::from_secs(5)))
    );

    write("a.toml", "extends = \"./b.toml\"\n");
    write("b.toml", "\nextends = \"./a.toml\"\n");
    let error = load("a.toml").expect_err("a circle").to_string();
    assert!(
        error.contains("b.toml:2:11:") && error.contains("in a circle"),
        "{error}"
    );
    write("self.toml", "extends = \"./self.toml\"\n");
    assert!(
        load("self.toml")
            .expect_err("a circle")
            .to_string()
            .contains("in a circle")
    );

    write("wrong.toml", "extends = \"./broken.toml\"\n");
    write("broken.toml", "[limits]\nnope = 1\n");
    let error = load("wrong.toml").expect_err("broken").to_string();
    assert!(error.contains("broken.toml:2:1:"), "{error}");
}

#[test]
fn only_a_regular_file_of_sane_size_is_a_policy_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = Policy::load(directory.path())
        .expect_err("a directory")
        .to_string();
    assert!(error.contains("not a regular file"), "{error}");
    assert!(
        Policy::load(Path::new("/dev/zero"))
            .expect_err("a device")
            .to_string()
            .contains("not a regular file")
    );
    // Nobody writes to it: opening it as other files are opened would wait.
    let fifo = directory.path().join("fifo.toml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let error = Policy::load(&fifo).expect_err("a FIFO").to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let large = directory.path().join("large.toml");
    fs::write(&large, "#".repeat((1 << 20) + 1)).expect("written");
    assert!(
        Policy::load(&large)
            .expect_err("large")
            .to_string()
            .contains("larger than 1 MiB")
    );
    let binary = directory.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe]).expect("written");
    assert!(Policy::load(&binary).is_err());
}

#[test]
fn mangled_policy_files_give_an_error_and_never_panic() {
    let mut state = 7_u32;
    let mut random = move |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % bound
    };
    for _ in 0..3000 {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for _ in 0..=random(4) {
            let (at, other) = (random(text.len()), random(text.len()));
            match random(3) {
                0 => text[at] = text[other],
                1 => drop(text.remove(at)),
                _ => text.insert(at, text[other]),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(policy) = Policy::parse(&text, "mangled") {
            assert_eq!(parse(&policy.to_toml()), policy, "{text}");
            policy.seccomp().expect("any policy compiles");
        }
    }
}

fn access(rules: &[PathRule], path: &str) -> Vec<Access> {
    rules
        .iter()
        .filter(|rule| rule.path == Path::new(path))
        .map(|rule| rule.access)
        .collect()
}

#[test]
fn path_rules_follow_the_lists() {
    let rules = builtin("default").path_rules(Path::new("/home/agent"));
    assert_eq!(access(&rules, "/"), [Access::ReadExec]);
    assert_eq!(access(&rules, "/tmp"), [Access::Write]);
    assert_eq!(access(&rules, "/home/agent"), [Access::Write]);
    assert_eq!(access(&rules, "/dev"), [Access::WriteFiles]);
    assert_eq!(access(&rules, "/proc"), [Access::WriteFiles]);
    assert_eq!(
        access(&builtin("compat").path_rules(Path::new("/root")), "/"),
        [Access::WriteExec]
    );
    let policy = parse(
        "[filesystem]\nread = [\"/a\"]\nexec = [\"/d\"]\nwrite = [\"/a\", \"~/b\", \"/d\"]\nwrite-existing = [\"/d\"]",
    );
    let rules = policy.path_rules(Path::new("/home/u"));
    assert_eq!(access(&rules, "/a"), [Access::Write]);
    assert_eq!(access(&rules, "/home/u/b"), [Access::Write]);
    assert_eq!(access(&rules, "/"), []);
    assert_eq!(
        access(&rules, "/d"),
        [Access::WriteExec, Access::WriteFiles]
    );
}

#[test]
fn a_home_directory_of_root_does_not_make_the_root_writable() {
    let policy = builtin("default");
    assert_eq!(
        access(&policy.path_rules(Path::new("/")), "/"),
        [Access::ReadExec]
    );
    assert!(
        policy
            .tmpfs_mounts(Path::new("/"))
            .iter()
            .all(|mount| mount.path != "/")
    );
    assert_eq!(
        policy.tmpfs_mounts(Path::new("/home/agent"))[2].path,
        "/home/agent"
    );
}

#[test]
fn denied_paths_are_hidden_whatever_the_home_directory() {
    let policy = parse("[filesystem]\ndeny = [\"~/.ssh\", \"/etc/shadow\"]");
    for (home, hidden) in [
        ("/home/agent", "/home/agent/.ssh"),
        ("/", "/.ssh"),
        ("/home/agent/", "/home/agent/.ssh"),
    ] {
        let masked = policy.masked_paths(Path::new(home));
        for path in [hidden, "/etc/shadow", "/proc/kcore"] {
            assert!(
                masked.iter().any(|masked| masked == Path::new(path)),
                "{home}: {path} in {masked:?}"
            );
        }
    }
}

#[test]
fn a_policy_file_is_the_one_that_was_looked_at_though_it_is_exchanged_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "description = \"the file\"").unwrap();
    std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
    let (path, new) = (at("policy.toml"), at("new"));
    fs::hard_link(at("file"), &path).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let names = ["device", "file"].iter().cycle();
            for name in names.take_while(|_| !done.load(std::sync::atomic::Ordering::Relaxed)) {
                fs::hard_link(at(name), &new).unwrap();
                fs::rename(&new, &path).unwrap();
            }
        });
        let wrong = (0..20_000).find_map(|_| match Policy::load(&path) {
            Ok(policy) => (policy.description != "the file").then(|| "an empty policy".to_owned()),
            Err(error) => {
                let error = error.to_string();
                (!error.contains("not a regular file")).then_some(error)
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
}
