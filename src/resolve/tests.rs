//! Plans compared with what they should be.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount as SpecMount};
use palisade_policies::landlock::Access;
use palisade_policies::{Flags, Pins, Policy};
use palisade_rootfs::{Image, ImageConfig, Layer, Users};
use palisade_runtime::{Plan, Root, Upper};

use super::{Place, Resolved, Source, host::HostTree, refine, resolve};
use crate::caller::{Caller, IdRange};
use crate::cli;
use crate::dry_run;
use crate::failure::Failure;
use crate::request::Request;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn ordinary() -> Caller {
    Caller {
        uid: 501,
        gid: 502,
        cwd: "/home/me".into(),
        environment: vec![
            ("SECRET_TOKEN".into(), "s3cret".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ],
        ..Caller::default()
    }
}

fn root() -> Caller {
    Caller {
        cwd: "/root".into(),
        initial_user_namespace: true,
        ..Caller::default()
    }
}

fn with_ranges() -> Caller {
    let range = vec![IdRange {
        first: 100_000,
        count: 65_536,
    }];
    Caller {
        subordinate_uids: range.clone(),
        subordinate_gids: range,
        ..ordinary()
    }
}

fn image(config: ImageConfig) -> Image {
    let layer = |path: &str| Layer {
        diff_id: None,
        digest: None,
        path: path.into(),
    };
    Image {
        config,
        platform: None,
        manifest_digest: None,
        config_digest: None,
        layers: vec![layer("/l/bottom"), layer("/l/top")],
        notes: vec![],
        fresh: true,
        users: Users {
            passwd: b"root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nweb:x:10001:33::/srv/web:/bin/sh\n".to_vec(),
            group: b"root:x:0:\nnode:x:1000:\nwww:x:33:\nextra:x:44:node\n".to_vec(),
        },
        hold: palisade_rootfs::Hold::default(),
    }
}

fn request(line: &[&str], caller: &Caller) -> Result<Request, Failure> {
    Request::new(cli::run::parse("run", line.iter().map(Into::into))?, caller)
}

fn plan_on(image: &Image, caller: &Caller, line: &[&str]) -> Result<Resolved, Failure> {
    plan_under(
        &Policy::builtin("default").unwrap(),
        Source::Image(image),
        caller,
        line,
    )
}

fn plan_under(
    policy: &Policy,
    source: Source<'_>,
    caller: &Caller,
    line: &[&str],
) -> Result<Resolved, Failure> {
    let request = request(line, caller)?;
    let pins = Pins::load(Path::new("/nonexistent")).unwrap();
    let policy = refine(policy, &request, &pins, &mut Vec::new())?;
    resolve(
        &request,
        &policy,
        source,
        caller,
        Place {
            id: ID,
            directory: Path::new("/d/sandboxes/x"),
            data: Path::new("/d"),
        },
    )
}

fn plan(line: &[&str]) -> Plan {
    plan_on(&image(ImageConfig::default()), &ordinary(), line)
        .unwrap()
        .plan
}

fn env(plan: &Plan) -> Vec<String> {
    plan.spec.process().as_ref().unwrap().env().clone().unwrap()
}

fn args(plan: &Plan) -> Vec<String> {
    plan.spec
        .process()
        .as_ref()
        .unwrap()
        .args()
        .clone()
        .unwrap()
}

fn mounts(plan: &Plan) -> &[SpecMount] {
    plan.spec.mounts().as_deref().unwrap()
}

fn mount<'a>(plan: &'a Plan, destination: &str) -> &'a SpecMount {
    let mut found = mounts(plan)
        .iter()
        .filter(|mount| mount.destination() == Path::new(destination));
    let mount = found
        .next()
        .unwrap_or_else(|| panic!("nothing is mounted on {destination}"));
    assert!(found.next().is_none(), "two mounts on {destination}");
    mount
}

fn has_option(mount: &SpecMount, option: &str) -> bool {
    mount.options().iter().flatten().any(|o| o == option)
}

fn ids(plan: &Plan) -> (u32, u32) {
    let user = plan.spec.process().as_ref().unwrap().user();
    (user.uid(), user.gid())
}

fn uid_map(plan: &Plan) -> Vec<(u32, u32, u32)> {
    let linux = plan.spec.linux().as_ref().unwrap();
    let map = linux.uid_mappings().as_deref().unwrap_or_default();
    map.iter()
        .map(|map| (map.container_id(), map.host_id(), map.size()))
        .collect()
}

#[test]
fn an_ordinary_user_becomes_user_1000_by_a_map_of_one_id() {
    let plan = plan(&["host-image", "true"]);
    assert_eq!(ids(&plan), (1000, 1000));
    assert_eq!(uid_map(&plan), [(1000, 501, 1)]);
    let user = plan.spec.process().as_ref().unwrap().user();
    assert_eq!(
        user.additional_gids(),
        &None,
        "a map of one id has no other group"
    );
}

#[test]
fn root_takes_ids_that_nobody_has_and_maps_the_workspace_to_its_owner() {
    let image = image(ImageConfig::default());
    let plan = plan_on(&image, &root(), &["-v", "/usr:/workspace", "x", "true"])
        .unwrap()
        .plan;
    let map = uid_map(&plan);
    assert_eq!((map[0].0, map[0].2, map.len()), (0, 65_536, 1));
    assert!(map[0].1 >= 524_288);
    let workspace = mount(&plan, "/workspace");
    let maps = workspace.uid_mappings().as_ref().unwrap();
    assert_eq!(
        (maps[0].container_id(), maps[0].host_id(), maps[0].size()),
        (1000, 0, 1)
    );
    assert_eq!(
        plan.spec
            .process()
            .as_ref()
            .unwrap()
            .user()
            .additional_gids(),
        &Some(vec![44])
    );
}

#[test]
fn the_user_is_the_options_then_the_images_unless_that_is_root() {
    let user = |user: &str, line: &[&str]| {
        let config = ImageConfig {
            user: user.to_owned(),
            ..ImageConfig::default()
        };
        plan_on(&image(config), &root(), line)
    };
    assert_eq!(
        ids(&user("web", &["x", "true"]).unwrap().plan),
        (10_001, 33)
    );
    assert_eq!(
        ids(&user("10001:44", &["x", "true"]).unwrap().plan),
        (10_001, 44)
    );
    assert_eq!(ids(&user("", &["x", "true"]).unwrap().plan), (1000, 1000));
    for as_root in ["root", "0", "0:0"] {
        let resolved = user(as_root, &["x", "true"]).unwrap();
        assert_eq!(ids(&resolved.plan), (1000, 1000));
        assert!(
            resolved.notes[0].contains("--user 0"),
            "{:?}",
            resolved.notes
        );
    }
    assert_eq!(
        ids(&user("web", &["--user", "0", "x", "true"]).unwrap().plan),
        (0, 0)
    );
    for odd in ["nobody-knows", "-1", "4294967295", "a:b:c", "web:", " "] {
        assert!(user(odd, &["x", "true"]).is_err(), "{odd:?}");
        assert!(user("", &["--user", odd, "x", "true"]).is_err(), "{odd:?}");
    }
}

#[test]
fn a_range_of_ids_is_used_only_where_more_than_one_is_needed() {
    let image = image(ImageConfig::default());
    let mode =
        |line: &[&str]| plan_on(&image, &with_ranges(), line).map(|resolved| resolved.identity);
    assert_eq!(mode(&["x", "true"]).unwrap(), "single");
    assert_eq!(mode(&["--user", "0", "x", "true"]).unwrap(), "range");
    assert_eq!(mode(&["--group-add", "www", "x", "true"]).unwrap(), "range");
    assert_eq!(mode(&["--userns", "range", "x", "true"]).unwrap(), "range");
    assert_eq!(
        mode(&["--userns", "single", "--user", "0", "x", "true"]).unwrap(),
        "single"
    );
    assert!(plan_on(&image, &ordinary(), &["--userns", "range", "x", "true"]).is_err());
    assert!(plan_on(&image, &ordinary(), &["--group-add", "www", "x", "true"]).is_err());
}

#[test]
fn the_dangerous_ways_to_map_ids_are_refused_where_they_are() {
    let image = image(ImageConfig::default());
    assert!(plan_on(&image, &root(), &["--userns", "single", "x", "true"]).is_err());
    assert!(plan_on(&image, &ordinary(), &["--userns", "host", "x", "true"]).is_err());
    let plan = plan_on(&image, &root(), &["--userns", "host", "x", "true"])
        .unwrap()
        .plan;
    let namespaces = plan
        .spec
        .linux()
        .as_ref()
        .unwrap()
        .namespaces()
        .clone()
        .unwrap();
    assert!(
        namespaces
            .iter()
            .all(|namespace| namespace.typ() != LinuxNamespaceType::User)
    );
    assert!(uid_map(&plan).is_empty());
}

#[test]
fn entrypoint_and_cmd_follow_dockers_rules() {
    let config = ImageConfig {
        entrypoint: vec!["/entry".into(), "-x".into()],
        cmd: vec!["serve".into()],
        ..ImageConfig::default()
    };
    let image = image(config);
    let args =
        |line: &[&str]| plan_on(&image, &ordinary(), line).map(|resolved| args(&resolved.plan));
    assert_eq!(args(&["x"]).unwrap(), ["/entry", "-x", "serve"]);
    assert_eq!(
        args(&["x", "a", "--", "", "--rm"]).unwrap(),
        ["/entry", "-x", "a", "--", "", "--rm"]
    );
    assert_eq!(args(&["--entrypoint", "/e", "x"]).unwrap(), ["/e"]);
    assert_eq!(
        args(&["--entrypoint", "/e", "x", "b"]).unwrap(),
        ["/e", "b"]
    );
    assert_eq!(args(&["--entrypoint=", "x", "b"]).unwrap(), ["b"]);
    assert!(
        args(&["--entrypoint=", "x"])
            .unwrap_err()
            .to_string()
            .contains("no command")
    );
}

#[test]
fn the_environment_is_the_images_then_the_lists_then_the_lines_and_no_secret_of_the_callers() {
    let config = ImageConfig {
        env: vec![
            "A=image".into(),
            "B=image".into(),
            "PATH=/p".into(),
            "HOME=/elsewhere".into(),
        ],
        ..ImageConfig::default()
    };
    let image = image(config);
    let plan = plan_on(
        &image,
        &ordinary(),
        &[
            "-e",
            "B=line",
            "-e",
            "C=",
            "--hostname",
            "h",
            "-t",
            "x",
            "true",
        ],
    );
    let env = env(&plan.unwrap().plan);
    for wanted in [
        "A=image",
        "B=line",
        "C=",
        "PATH=/p",
        "HOSTNAME=h",
        "TERM=xterm",
        "container=palisade",
        "HOME=/elsewhere",
    ] {
        assert!(
            env.iter().any(|e| e == wanted),
            "{wanted} is missing in {env:?}"
        );
    }
    assert!(env.iter().all(|e| !e.contains("s3cret")));
    let plan = plan_on(&image, &ordinary(), &["-e", "SECRET_TOKEN", "x", "true"])
        .unwrap()
        .plan;
    assert!(self::env(&plan).contains(&"SECRET_TOKEN=s3cret".to_owned()));
}

#[test]
fn home_is_the_accounts_and_a_missing_account_is_added() {
    let plan = plan(&["x", "true"]);
    assert!(env(&plan).contains(&"HOME=/home/node".to_owned()));
    assert!(
        plan.files
            .iter()
            .all(|file| file.path != Path::new("/etc/passwd"))
    );
    assert!(has_option(mount(&plan, "/home/node"), "tmpcopyup"));
    let plan = self::plan(&["--user", "7777", "x", "true"]);
    assert!(env(&plan).contains(&"HOME=/home/sandbox".to_owned()));
    let passwd = plan
        .files
        .iter()
        .find(|file| file.path == Path::new("/etc/passwd"))
        .unwrap();
    assert!(String::from_utf8_lossy(&passwd.contents).contains("\nsandbox:x:7777:0:"));
}

#[test]
fn the_root_is_read_only_over_a_layer_in_memory_unless_it_shall_be_writable() {
    let read_only = plan(&["x", "true"]);
    assert_eq!(
        read_only.spec.root().as_ref().unwrap().readonly(),
        Some(true)
    );
    let Root::Overlay {
        lower,
        upper: Upper::Tmpfs(_),
    } = &read_only.root
    else {
        panic!("{:?}", read_only.root)
    };
    assert_eq!(
        lower,
        &[PathBuf::from("/l/top"), PathBuf::from("/l/bottom")]
    );
    let writable = plan(&["--read-only=false", "x", "true"]);
    assert_eq!(
        writable.spec.root().as_ref().unwrap().readonly(),
        Some(false)
    );
    let Root::Overlay { upper, .. } = &writable.root else {
        panic!()
    };
    assert_eq!(upper, &Upper::Directory("/d/sandboxes/x".into()));
}

#[test]
fn a_writable_layer_in_memory_has_the_size_asked_for_and_other_memory_its_own() {
    let sized = plan(&["--storage-opt", "size=8m", "x", "true"]);
    assert_eq!(sized.spec.root().as_ref().unwrap().readonly(), Some(false));
    let Root::Overlay {
        upper: Upper::Tmpfs(scratch),
        ..
    } = &sized.root
    else {
        panic!("{:?}", sized.root)
    };
    assert_eq!(scratch.size, 8 << 20);
    // Its size is not that of other memory.
    let data = image(ImageConfig {
        volumes: vec!["/data".into()],
        ..ImageConfig::default()
    });
    let line = ["--storage-opt", "size=8m", "--tmpfs", "/t", "x", "true"];
    let sized = plan_on(&data, &root(), &line).unwrap().plan;
    for place in ["/t", "/data"] {
        assert!(
            has_option(mount(&sized, place), "size=1073741824"),
            "{place}"
        );
    }
    let mut policy = Policy::builtin("default").unwrap();
    policy.flags = Flags::TightenOnly;
    policy.filesystem.root = palisade_policies::RootMode::InMemory;
    let under = |size: &str| {
        let line = ["--storage-opt", size, "x", "true"];
        plan_under(&policy, Source::Image(&data), &root(), &line)
    };
    assert!(under("size=8m").is_ok() && under("size=2g").is_err());
    let image = image(ImageConfig::default());
    assert!(
        plan_on(
            &image,
            &root(),
            &["--read-only", "--storage-opt", "size=8m", "x", "true"]
        )
        .is_err()
    );
}

#[test]
fn outer_mounts_come_before_inner_ones_whatever_the_order_on_the_line() {
    let plan = plan(&[
        "-v",
        "/usr:/w/inner/deep",
        "-v",
        "/bin:/w",
        "--tmpfs",
        "/w/inner",
        "x",
        "true",
    ]);
    let at = |path: &str| {
        mounts(&plan)
            .iter()
            .position(|mount| mount.destination() == Path::new(path))
            .unwrap()
    };
    assert!(at("/w") < at("/w/inner") && at("/w/inner") < at("/w/inner/deep"));
    assert!(at("/proc") < at("/w") && at("/dev") < at("/dev/shm"));
}

#[test]
fn a_mount_on_the_line_replaces_the_policys_there() {
    let plan = plan(&[
        "--tmpfs",
        "/tmp:size=512m,noexec",
        "-v",
        "/usr:/home/node:ro",
        "x",
        "true",
    ]);
    let tmp = mount(&plan, "/tmp");
    assert!(
        has_option(tmp, "size=536870912")
            && has_option(tmp, "noexec")
            && !has_option(tmp, "tmpcopyup")
    );
    assert_eq!(mount(&plan, "/home/node").typ().as_deref(), Some("bind"));
    let plan = self::plan(&["--tmpfs", "/home/node:size=256m", "x", "true"]);
    assert!(
        has_option(mount(&plan, "/home/node"), "tmpcopyup"),
        "entrypoints live in home"
    );
}

#[test]
fn image_volumes_start_with_the_images_content_and_may_not_cover_the_sandboxs_own() {
    let with = |path: &str| {
        image(ImageConfig {
            volumes: vec![path.to_owned()],
            ..ImageConfig::default()
        })
    };
    let plan = plan_on(&with("/data/"), &ordinary(), &["x", "true"])
        .unwrap()
        .plan;
    assert!(has_option(mount(&plan, "/data"), "tmpcopyup"));
    let plan = plan_on(
        &with("/data"),
        &ordinary(),
        &["-v", "/usr:/data", "x", "true"],
    )
    .unwrap()
    .plan;
    assert_eq!(mount(&plan, "/data").typ().as_deref(), Some("bind"));
    for odd in ["/", "/proc", "/proc/self", "/dev", "/sys", "/a/../proc"] {
        assert!(
            plan_on(&with(odd), &ordinary(), &["x", "true"]).is_err(),
            "{odd}"
        );
    }
}

#[test]
fn what_an_image_has_for_a_volume_loosens_no_policy() {
    let image = image(ImageConfig {
        volumes: vec!["/data".into(), "/dev/shm".into(), "/dev/mqueue".into()],
        ..ImageConfig::default()
    });
    let strict = Policy::builtin("strict").unwrap();
    for line in [&["x", "true"][..], &["--name", "nn", "x", "true"]] {
        let resolved = plan_under(&strict, Source::Image(&image), &ordinary(), line).unwrap();
        let plan = resolved.plan;
        assert!(has_option(mount(&plan, "/data"), "noexec"), "{line:?}");
        assert!(has_option(mount(&plan, "/dev/shm"), "size=67108864"));
        mount(&plan, "/dev/mqueue");
        let rules = plan.landlock.unwrap();
        let data = rules.iter().find(|rule| rule.path == Path::new("/data"));
        assert_eq!(data.unwrap().access, Access::Write, "{line:?}");
    }
    let resolved = plan_on(&image, &ordinary(), &["x", "true"]).unwrap();
    assert!(!has_option(mount(&resolved.plan, "/data"), "noexec"));
}

#[test]
fn an_images_volume_at_or_below_a_policys_tmpfs_is_no_looser_than_that() {
    let places = ["/tmp", "/tmp/in", "/run/in", "/dev/shm/in", "/home/node"];
    let image = image(ImageConfig {
        volumes: places.map(str::to_owned).into(),
        ..ImageConfig::default()
    });
    let named = &["--name", "nn", "x", "true"][..];
    for line in [&["x", "true"][..], named] {
        let plan = plan_under(&mixed(), Source::Image(&image), &ordinary(), line)
            .unwrap()
            .plan;
        let tmp = mount(&plan, "/tmp");
        assert_eq!(tmp.typ().as_deref(), Some("tmpfs"), "{line:?}");
        for option in ["noexec", "size=1048576", "nr_inodes=100"] {
            assert!(has_option(tmp, option), "{line:?}: {option}");
        }
        assert!(has_option(mount(&plan, "/home/node"), "size=2097152"));
        for (place, noexec) in [("/tmp/in", true), ("/dev/shm/in", true), ("/run/in", false)] {
            let found = has_option(mount(&plan, place), "noexec");
            assert_eq!(found, noexec, "{line:?}: {place}");
        }
        if line != named {
            assert!(has_option(mount(&plan, "/tmp/in"), "nr_inodes=100"));
            assert!(has_option(mount(&plan, "/dev/shm/in"), "size=67108864"));
        }
    }
    // Options may refine this one: data of a home directory is kept, and what executes nothing still does not.
    let mut refine = mixed();
    refine.flags = Flags::Refine;
    let plan = plan_under(&refine, Source::Image(&image), &ordinary(), named)
        .unwrap()
        .plan;
    assert_eq!(mount(&plan, "/home/node").typ().as_deref(), Some("bind"));
    assert!(has_option(mount(&plan, "/tmp"), "noexec"));
    assert!(!has_option(mount(&plan, "/home/node"), "noexec"));
}

/// A policy that may only be tightened, of which some tmpfs execute and some do not.
fn mixed() -> Policy {
    let text = "flags = \"tighten-only\"\n[filesystem]\ntmpfs = [\
        { path = \"/tmp\", size = \"1MiB\", inodes = 100, noexec = true }, \
        { path = \"/run\", size = \"8MiB\" }, { path = \"~\", size = \"2MiB\" }]";
    Policy::parse(text, "mixed").unwrap()
}

#[test]
fn a_tmpfs_inside_one_of_a_policy_that_may_only_be_tightened_is_no_looser() {
    let image = image(ImageConfig::default());
    let under = |tmpfs: &str| {
        let line = ["--tmpfs", tmpfs, "x", "true"];
        plan_under(&mixed(), Source::Image(&image), &ordinary(), &line)
    };
    for looser in [
        "/tmp/x:exec,size=1m",
        "/tmp/x:size=2m",
        "/tmp/x:nr_inodes=200",
        "/dev/shm/x:size=1g",
        "/dev/shm/x:exec",
        "/run/x:size=16m",
    ] {
        assert!(under(looser).is_err(), "{looser}");
    }
    let plan = under("/tmp/x").unwrap().plan;
    for option in ["noexec", "size=1048576", "nr_inodes=100"] {
        assert!(has_option(mount(&plan, "/tmp/x"), option), "{option}");
    }
    let plan = under("/run/x:exec,size=8m").unwrap().plan;
    assert!(has_option(mount(&plan, "/run/x"), "exec"));
}

#[test]
fn a_missing_source_is_made_for_v_and_an_error_for_mount() {
    let image = image(ImageConfig::default());
    let resolved = plan_on(
        &image,
        &ordinary(),
        &["-v", "/nonexistent/dir:/w", "x", "true"],
    )
    .unwrap();
    assert_eq!(resolved.create, [PathBuf::from("/nonexistent/dir")]);
    let failure = plan_on(
        &image,
        &ordinary(),
        &[
            "--mount",
            "type=bind,src=/nonexistent/dir,dst=/w",
            "x",
            "true",
        ],
    );
    assert!(
        failure
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/dir")
    );
}

#[test]
fn working_directories_in_proc_are_refused() {
    let with = |path: &str| {
        image(ImageConfig {
            working_dir: path.to_owned(),
            ..ImageConfig::default()
        })
    };
    assert!(plan_on(&with("/proc/self/fd/8"), &ordinary(), &["x", "true"]).is_err());
    let plan = plan_on(&with("/app/"), &ordinary(), &["x", "true"])
        .unwrap()
        .plan;
    assert_eq!(
        plan.spec.process().as_ref().unwrap().cwd(),
        Path::new("/app")
    );
    let plan = plan_on(&with("/app"), &ordinary(), &["-w", "/w", "x", "true"])
        .unwrap()
        .plan;
    assert_eq!(plan.spec.process().as_ref().unwrap().cwd(), Path::new("/w"));
    assert!(plan_on(&with(""), &ordinary(), &["-w", "w", "x", "true"]).is_err());
}

#[test]
fn every_namespace_is_the_sandboxs_own_but_the_network_on_request() {
    let kinds = |plan: &Plan| {
        plan.spec
            .linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .as_ref()
            .unwrap()
            .len()
    };
    assert_eq!(kinds(&plan(&["x", "true"])), 7);
    let host = plan(&["--network", "host", "x", "true"]);
    assert_eq!(kinds(&host), 6);
    assert!(
        plan_on(
            &image(ImageConfig::default()),
            &ordinary(),
            &["--network", "bridge", "x", "true"]
        )
        .is_err()
    );
}

#[test]
fn no_capability_is_kept_unless_it_is_asked_for() {
    let kept = |line: &[&str]| {
        let plan = plan(line);
        let capabilities = plan
            .spec
            .process()
            .as_ref()
            .unwrap()
            .capabilities()
            .clone()
            .unwrap();
        let mut names: Vec<String> = capabilities
            .effective()
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        names.sort();
        assert_eq!(capabilities.effective(), capabilities.ambient());
        assert_eq!(capabilities.effective(), capabilities.bounding());
        names
    };
    assert!(kept(&["x", "true"]).is_empty());
    assert!(kept(&["--cap-drop", "ALL", "x", "true"]).is_empty());
    assert_eq!(
        kept(&["--cap-add", "net_raw", "--cap-drop", "ALL", "x", "true"]).len(),
        1
    );
    assert_eq!(kept(&["--cap-add", "ALL", "x", "true"]).len(), 41);
    assert_eq!(
        kept(&["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN", "x", "true"]).len(),
        40
    );
}

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
fn what_is_taken_away_is_said() {
    let image = image(ImageConfig::default());
    let resolved = plan_on(
        &image,
        &ordinary(),
        &[
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "landlock=unconfined",
            "x",
            "true",
        ],
    )
    .unwrap();
    assert!(resolved.plan.seccomp.is_empty() && resolved.plan.landlock.is_none());
    assert_eq!(resolved.notes.len(), 2);
    let resolved = plan_on(&image, &ordinary(), &["x", "true"]).unwrap();
    assert!(
        !resolved.plan.seccomp.is_empty()
            && resolved.plan.landlock.is_some()
            && resolved.notes.is_empty()
    );
}

#[test]
fn a_policy_that_may_only_be_tightened_refuses_what_loosens_it() {
    let mut policy = Policy::builtin("default").unwrap();
    policy.flags = Flags::TightenOnly;
    policy.limits.memory = Some(1 << 30);
    let image = image(ImageConfig::default());
    let under = |line: &[&str]| plan_under(&policy, Source::Image(&image), &root(), line);
    assert!(under(&["--memory", "512m", "x", "true"]).is_ok());
    for looser in [
        &["--memory", "2g"][..],
        &["--network", "host"],
        &["--cap-add", "NET_RAW"],
        &["--read-only=false"],
        &["--storage-opt", "size=8m"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", "landlock=unconfined"],
        &["--best-effort"],
        &["--userns", "host"],
        &["--device", "/dev/null:/dev/x"],
        &["--stop-timeout", "1000"],
        &["--tmpfs", "/tmp:size=2g"],
        &["--tmpfs", "/home/node:size=2g"],
        &["--tmpfs", "/other:size=2g"],
        &["--tmpfs", "/dev/shm:size=1g"],
        &["--mount", "type=tmpfs,dst=/tmp,tmpfs-size=2g"],
    ] {
        let line = [looser, &["x", "true"]].concat();
        assert!(under(&line).is_err(), "{looser:?}");
    }
}

#[test]
fn the_host_image_shows_programs_and_nothing_private() {
    let tree = HostTree::read();
    let policy = Policy::builtin("default").unwrap();
    let resolved = plan_under(&policy, Source::Host(&tree), &ordinary(), &["host"]).unwrap();
    assert_eq!(args(&resolved.plan), ["/bin/sh"]);
    assert!(matches!(resolved.plan.root, Root::Tmpfs { .. }));
    for mount in mounts(&resolved.plan)
        .iter()
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
    {
        assert!(
            has_option(mount, "ro"),
            "{} is writable",
            mount.destination().display()
        );
    }
    assert!(
        mounts(&resolved.plan)
            .iter()
            .any(|mount| mount.destination() == Path::new("/usr"))
    );
}

#[test]
fn a_dry_run_prints_the_same_text_each_time() {
    let image = image(ImageConfig::default());
    let line = [
        "--cap-add",
        "ALL",
        "--label",
        "a=1",
        "--label",
        "b=2",
        "--name",
        "n1",
        "x",
        "true",
    ];
    let text = || dry_run::text(&plan_on(&image, &ordinary(), &line).unwrap()).unwrap();
    let first = text();
    for _ in 0..8 {
        assert_eq!(first, text());
    }
    assert!(first.contains("io.palisade.label.a"));
}

#[test]
fn stop_signals_come_from_the_option_then_the_image() {
    let with = |signal: &str| {
        image(ImageConfig {
            stop_signal: Some(signal.to_owned()),
            ..ImageConfig::default()
        })
    };
    let of = |image: &Image, line: &[&str]| {
        plan_on(image, &ordinary(), line).map(|resolved| resolved.plan.stop_signal)
    };
    assert_eq!(of(&with("SIGQUIT"), &["x", "true"]).unwrap(), 3);
    assert_eq!(
        of(&with("SIGQUIT"), &["--stop-signal", "2", "x", "true"]).unwrap(),
        2
    );
    assert_eq!(
        of(&image(ImageConfig::default()), &["x", "true"]).unwrap(),
        15
    );
    assert!(of(&with("SIGNOPE"), &["x", "true"]).is_err());
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
        let resources = super::limits::resources(&request, &policy).unwrap();
        let cpu = resources.unwrap().cpu().clone().unwrap();
        (cpu.quota().unwrap(), cpu.period().unwrap())
    };
    let half = ["--cpu-quota", "25000", "--cpu-period", "50000"];
    // A tighter quota than the pin stays as it was asked for; a looser one is the pin's.
    assert_eq!(quota(&half, "[limits]\ncpus = 1"), (25_000, 50_000));
    assert_eq!(quota(&half, "[limits]\ncpus = 0.2"), (20_000, 100_000));

    let request = request(&["--memory-swap", "-1", "x", "true"], &ordinary()).unwrap();
    // What a pin of the swap leaves, whatever was asked for.
    let resources = super::limits::resources(&request, &task).unwrap().unwrap();
    assert_eq!(resources.memory().unwrap().swap(), Some(512 << 20));
}

#[test]
fn what_a_policy_demands_and_cannot_be_held_is_refused() {
    let image = image(ImageConfig::default());
    let policy = Policy::parse("minimum-tier = \"full\"", "p.toml").unwrap();
    let under = |line: &[&str]| plan_under(&policy, Source::Image(&image), &ordinary(), line);
    assert!(under(&["--best-effort", "x", "true"]).is_err());
    assert!(under(&["x", "true"]).is_ok());
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
