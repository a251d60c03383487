//! `--userns`: one id, a range of ids, or none mapped at all.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::place::is_root;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, text};

/// How many ids exist inside: the third column of every line of the map.
const COUNT: &str = "n=0; while read -r inside outside count; do n=$((n + count)); done </proc/self/uid_map; echo $n";

/// Whether /etc/subuid and /etc/subgid give this caller ids to hand out, read here anew.
fn has_range() -> bool {
    let uid = geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_str()))
        .map(|fields| fields[0].to_owned());
    ["/etc/subuid", "/etc/subgid"].iter().all(|table| {
        fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .any(|line| {
                let owner = line.split(':').next().unwrap_or_default();
                owner == uid || Some(owner) == name.as_deref()
            })
    }) && std::path::Path::new("/usr/bin/newuidmap").exists()
}

#[test]
fn one_id_is_what_an_ordinary_user_has_by_default() {
    let rig = Rig::new();
    for options in [&[][..], &["--userns", "single"]] {
        let output = run_without_remains(&rig, options, &["sh", "-c", COUNT]);
        match (is_root(), options.is_empty()) {
            (false, _) => assert_eq!(text(&output.stdout), "1\n", "{}", describe(&output)),
            (true, true) => assert_eq!(text(&output.stdout), "65536\n", "{}", describe(&output)),
            (true, false) => {
                assert_code(&output, 125);
                assert!(
                    text(&output.stderr).contains("host's root"),
                    "{}",
                    describe(&output)
                );
            }
        }
    }
}

#[test]
fn a_range_is_65536_ids_where_the_caller_has_them_and_a_clear_error_where_not() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("workspace")).unwrap();
    let workspace = format!("{}:/w", rig.path("workspace").display());
    let script = format!("{COUNT}; id -u; touch /w/made");
    let options = ["--userns=range", "-v", &workspace];
    let output = run_without_remains(&rig, &options, &["sh", "-c", &script]);
    if is_root() || has_range() {
        let said = text(&output.stdout);
        let (count, user) = said.split_once('\n').unwrap();
        // A caller's own id comes on top of a full range.
        assert!(
            count.parse::<u32>().unwrap() >= 65_536,
            "{}",
            describe(&output)
        );
        assert_eq!(user, "1000\n");
        assert_eq!(
            fs::metadata(rig.path("workspace/made")).unwrap().uid(),
            geteuid().as_raw()
        );
    } else {
        assert_code(&output, 125);
        let said = text(&output.stderr);
        assert!(
            said.contains("no ids to hand out") && said.contains("/etc/subuid"),
            "{said}"
        );
    }
}

#[test]
fn other_groups_can_be_joined_where_they_exist() {
    let rig = Rig::new();
    let output = run_without_remains(&rig, &["--group-add", "77"], &["id", "-G"]);
    if is_root() || has_range() {
        assert_eq!(text(&output.stdout), "1000 77\n", "{}", describe(&output));
    } else {
        assert_code(&output, 125);
        assert!(
            text(&output.stderr).contains("--userns range"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn the_hosts_ids_are_for_root_alone() {
    let rig = Rig::new();
    let link = fs::read_link("/proc/self/ns/user")
        .unwrap()
        .display()
        .to_string();
    let script = "busybox readlink /proc/self/ns/user; id -u";
    let output = run_without_remains(&rig, &["--userns=host"], &["sh", "-c", script]);
    if is_root() {
        assert_eq!(
            text(&output.stdout),
            format!("{link}\n1000\n"),
            "{}",
            describe(&output)
        );
    } else {
        assert_code(&output, 125);
        assert!(
            text(&output.stderr).contains("--userns host needs root"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn the_hosts_root_does_not_exist_inside() {
    let rig = Rig::new();
    let script = "while read -r inside outside count; do echo $outside; done </proc/self/uid_map";
    for user in ["0", "1000"] {
        let output = run_without_remains(&rig, &["--user", user], &["sh", "-c", script]);
        let said = text(&output.stdout);
        let outside: Vec<u32> = said.lines().map(|id| id.parse().unwrap()).collect();
        if is_root() {
            assert!(!outside.is_empty(), "{}", describe(&output));
            for id in outside {
                assert!((524_288..1_878_982_656).contains(&id), "{id}");
            }
        } else {
            assert!(
                outside.contains(&geteuid().as_raw()),
                "{}",
                describe(&output)
            );
            assert!(!outside.contains(&0), "{}", describe(&output));
        }
    }
}

#[test]
fn how_ids_were_mapped_is_in_the_receipt() {
    let rig = Rig::new();
    let output = rig.run(&["--receipt", "-"], &["true"]);
    let receipt: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", describe(&output)));
    let expected = if is_root() { "range" } else { "single" };
    assert_eq!(receipt["identity"], expected, "{receipt}");
}
