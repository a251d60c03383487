//! Each protection is taken away, and the probes that watch it must say so.

use std::process::Command;

use crate::rig::{Answer, Answers, Rig, answers, is_root};

const WITHOUT_FILTER: [&str; 2] = ["--security-opt", "seccomp=unconfined"];

/// Probes of `wall` that stay closed although it is gone; at least `least` must be seen open.
#[track_caller]
fn all_open(answers: &Answers, wall: &str, least: usize, excused: impl Fn(&Answer) -> bool) {
    let watching: Vec<_> = answers
        .values()
        .filter(|answer| answer.wall == wall)
        .collect();
    let blind: Vec<_> = watching
        .iter()
        .filter(|answer| !answer.is_open() && !answer.not_in_this_kernel() && !excused(answer))
        .collect();
    assert!(
        blind.is_empty(),
        "closed although {wall} is gone: {blind:#?}"
    );
    let open = watching.iter().filter(|answer| answer.is_open()).count();
    assert!(open >= least, "only {open} probes saw that {wall} is gone");
}

fn nobody(_: &Answer) -> bool {
    false
}

fn absent(answer: &Answer) -> bool {
    answer.verdict == "absent"
}

#[test]
fn without_the_filter_its_probes_are_open() {
    let rig = Rig::new();
    let answers = rig.inside(&[], &WITHOUT_FILTER, &[]);
    all_open(&answers, "filter", 60, nobody);
}

#[test]
fn with_capabilities_and_no_filter_their_probes_are_open() {
    let rig = Rig::new();
    let options = [
        "--user",
        "0",
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        // Landlock refuses every change of mounts by itself.
        "--security-opt",
        "landlock=unconfined",
    ];
    all_open(&rig.inside(&[], &options, &[]), "privilege", 30, nobody);
}

#[test]
fn without_landlock_its_probes_are_open() {
    let rig = Rig::new();
    let options = ["--security-opt", "landlock=unconfined"];
    all_open(&rig.inside(&[], &options, &[]), "landlock", 1, nobody);
}

#[test]
fn without_masks_and_a_read_only_image_their_probes_are_open() {
    let rig = Rig::new();
    let policy = rig.policy(
        "open",
        "[filesystem]\nroot = \"writable\"\nwrite = [\"/\"]\nmasked-paths = []\nreadonly-paths = []\n",
    );
    let answers = rig.inside(&[], &["--policy", &policy, "--user", "0"], &[]);
    all_open(&answers, "mask", 12, absent);
    all_open(&answers, "image", 4, nobody);
}

#[test]
fn with_the_hosts_network_its_probes_are_open() {
    let rig = Rig::new();
    let outside = rig.outside(&[], &[]);
    let answers = rig.inside(&[], &["--network", "host"], &[]);
    // A machine may itself have no network; it has a loopback interface and a namespace.
    all_open(&answers, "network", 2, |answer| {
        !outside[&answer.name].is_open()
    });
}

#[test]
fn outside_of_a_sandbox_the_hosts_probes_are_open() {
    let rig = Rig::new();
    let answers = rig.outside(&[], &[]);
    all_open(&answers, "ordinary", 8, absent);
    if is_root() {
        all_open(&answers, "host", 30, absent);
    }
}

#[test]
fn where_a_plain_shell_is_process_1_its_probes_are_open() {
    let rig = Rig::new();
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
        ])
        .args(["sh", "-c", "\"$@\"; exit", "sh"])
        .arg(rig.program())
        .args(rig.fixtures());
    all_open(&answers(&mut command), "init", 12, nobody);
}

#[test]
fn groups_of_a_caller_who_has_an_id_range_do_not_cross() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    let wrap = ["setpriv", "--groups", "4,24"];
    let only = ["only=inherited-groups"];
    assert!(rig.outside(&wrap, &only)["inherited-groups"].is_open());
    assert!(!rig.inside(&wrap, &[], &only)["inherited-groups"].is_open());
}

#[test]
fn a_setuid_program_of_roots_gains_nothing_inside() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    let only = ["only=setuid-program"];
    let program = format!("setuid={}", rig.path("image/setuid").display());
    let ordinary = [
        "setpriv",
        "--reuid",
        "1000",
        "--regid",
        "1000",
        "--clear-groups",
    ];
    assert!(rig.outside(&ordinary, &[only[0], &program])["setuid-program"].is_open());
    for policy in ["default", "strict", "compat"] {
        let inside = rig.inside(&[], &["--policy", policy], &only);
        assert_eq!(inside["setuid-program"].verdict, "closed", "{policy}");
    }
}

#[test]
fn what_is_needed_is_seen_to_be_lost_when_a_policy_denies_it() {
    let rig = Rig::new();
    let needed = rig.inside(&[], &[], &[]);
    let refusable: Vec<_> = needed
        .values()
        .filter(|answer| answer.wall == "refusable")
        .collect();
    assert!(refusable.len() >= 50);
    let mut blind = Vec::new();
    for answer in refusable {
        let policy = rig.policy(
            &answer.name,
            &format!("[syscalls]\ndeny = [\"{}\"]\n", answer.refuses),
        );
        let only = format!("only={}", answer.name);
        let denied = rig.inside(&[], &["--policy", &policy], &[&only]);
        let verdict = &denied[&answer.name].verdict;
        if verdict != "needed-lost" && verdict != "closed" {
            blind.push((answer.name.clone(), answer.refuses.clone()));
        }
    }
    assert!(blind.is_empty(), "not noticed: {blind:?}");
}
