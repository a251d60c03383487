//! Which tier is used, and that a receipt, the dry run and the command are told.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::place::is_root;
use crate::rig::{Rig, assert_code, below, describe, end, text};
use crate::without::{host, on_host, without_namespaces};

fn on_this_machine(rig: &Rig, options: &[&str], script: &str) -> Output {
    end(host(rig, &[], options, script).spawn().unwrap())
}

fn receipt_of(rig: &Rig, run: impl Fn(&[&str]) -> Output, options: &[&str]) -> Value {
    let path = rig.path("receipt.json");
    let mut all = vec!["--receipt", path.to_str().unwrap()];
    all.extend(options);
    let output = run(&all);
    assert_code(&output, 0);
    serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
}

#[test]
fn the_tier_that_held_is_in_the_receipt() {
    let rig = Rig::new();
    let here = |options: &[&str]| on_this_machine(&rig, options, "true");
    assert_eq!(receipt_of(&rig, here, &[])["tier"], "no-cgroup");
    assert_eq!(
        receipt_of(&rig, here, &["--require", "no-namespace"])["tier"],
        "no-cgroup"
    );
    if is_root() {
        assert_eq!(
            receipt_of(&rig, here, &["--require", "full"])["tier"],
            "full"
        );
        assert_eq!(
            receipt_of(&rig, here, &["--pids-limit", "50"])["tier"],
            "full"
        );
    }
    let alone = |options: &[&str]| on_host(&rig, options, "true");
    let receipt = receipt_of(&rig, alone, &[]);
    assert_eq!(receipt["tier"], "no-namespace");
    assert_eq!(receipt["identity"], "host");
    assert_eq!(receipt["protections"]["NoNewPrivs"], "1");
    assert_eq!(receipt["protections"]["CapEff"], "0000000000000000");
    assert_eq!(receipt["mounts"], serde_json::json!([]));
    let granted = receipt["landlock"].as_array().unwrap();
    let access = |path: &str| {
        let rule = granted.iter().find(|rule| rule["path"] == path);
        rule.map(|rule| rule["access"].as_str().unwrap().to_owned())
    };
    assert_eq!(access("/usr").as_deref(), Some("read-exec"));
    assert_eq!(access("/dev/null").as_deref(), Some("write-files"));
    assert_eq!(access("/tmp"), None);
    assert!(
        receipt["warnings"][0]
            .as_str()
            .unwrap()
            .contains("max_user_namespaces is 0")
    );
}

#[test]
fn the_dry_run_names_the_tier_that_would_be_used() {
    let rig = Rig::new();
    let plan = |output: Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", describe(&output)))
    };
    let here = |options: &[&str]| plan(on_this_machine(&rig, options, "true"));
    assert_eq!(here(&["--dry-run"])["tier"], "no-cgroup");
    assert_eq!(here(&["--dry-run", "--memory", "1g"])["tier"], "full");
    assert_eq!(here(&["--dry-run", "--require", "full"])["tier"], "full");
    assert_eq!(
        plan(on_host(&rig, &["--dry-run"], "true"))["tier"],
        "no-namespace"
    );
}

#[test]
fn less_than_the_minimum_is_refused_and_nothing_runs() {
    let rig = Rig::new();
    let demanding = rig.path("full.toml");
    fs::write(
        &demanding,
        "name = \"demanding\"\nextends = \"default\"\nminimum-tier = \"full\"\n",
    )
    .unwrap();
    let demanding = demanding.display().to_string();
    for first in [
        &[][..],
        &["--require", "no-cgroup"],
        &["--policy", "strict"],
        &["--policy", &demanding],
    ] {
        let output = end(without_namespaces(&host(&rig, first, &[], "echo ran"))
            .spawn()
            .unwrap());
        assert_code(&output, 125);
        assert!(output.stdout.is_empty(), "{}", describe(&output));
    }
    // A policy that may only be tightened is not loosened by an option.
    let first = ["--policy", "strict", "--require", "no-namespace"];
    let output = end(host(&rig, &first, &[], "echo ran").spawn().unwrap());
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("minimum-tier"),
        "{}",
        describe(&output)
    );
}

#[test]
fn best_effort_is_never_less_than_what_the_policy_demands() {
    let rig = Rig::new();
    let alone = |first: &[&str]| {
        let command = host(&rig, first, &[], "echo ran");
        end(without_namespaces(&command).spawn().unwrap())
    };
    let output = alone(&["--best-effort"]);
    assert_code(&output, 125);
    assert!(output.stdout.is_empty(), "{}", describe(&output));
    let said = text(&output.stderr);
    for word in [
        "max_user_namespaces is 0",
        "  try: ",
        "--require no-namespace",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Whoever says which tier is enough gets it.
    let output = alone(&["--best-effort", "--require", "no-namespace"]);
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("tier no-namespace"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_tier_that_cannot_be_had_is_refused_with_its_layer() {
    if is_root() {
        return;
    }
    // An ordinary user has a control group only where one was delegated.
    let rig = Rig::new();
    let doctor = std::process::Command::new(crate::rig::binary())
        .arg("doctor")
        .output()
        .unwrap();
    let output = on_this_machine(&rig, &["--require", "full"], "true");
    assert_eq!(
        crate::rig::code(&output) == 0,
        doctor.status.success(),
        "{}",
        describe(&output)
    );
}

#[test]
fn the_command_is_told_the_truth_about_landlock() {
    let rig = Rig::new();
    let script = "echo $LANDLOCK_ENABLED";
    let told = |options: &[&str]| text(&on_this_machine(&rig, options, script).stdout);
    assert_eq!(told(&[]), "1\n");
    assert_eq!(told(&["--security-opt", "landlock=unconfined"]), "0\n");
    assert_eq!(text(&on_host(&rig, &[], script).stdout), "1\n");
    // A kernel without Landlock, as far as the launch can tell.
    let inner = host(&rig, &["--best-effort"], &[], script);
    let fault = "inject=landlock_create_ruleset:error=EOPNOTSUPP";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", fault];
    let output = end(below(&strace, &inner).spawn().unwrap());
    assert_eq!(text(&output.stdout), "0\n", "{}", describe(&output));
}

#[test]
fn nobody_tells_the_command_otherwise() {
    let rig = Rig::new();
    let file = rig.path("variables");
    fs::write(&file, "LANDLOCK_ENABLED=0\n").unwrap();
    let file = file.display().to_string();
    for options in [
        ["-e", "LANDLOCK_ENABLED=0"],
        ["-e", "LANDLOCK_ENABLED=1"],
        ["--env-file", &file],
    ] {
        let output = on_this_machine(&rig, &options, "true");
        assert_code(&output, 125);
        assert!(
            text(&output.stderr).contains("LANDLOCK_ENABLED"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn memory_that_no_control_group_limits_is_watched_over_the_whole_tree() {
    let rig = Rig::new();
    // Ten processes of 30 MB each: no single one is too large.
    let script = "i=0; while [ $i -lt 10 ]; do python3 -c 'import time; x = b\"x\" * 30000000; time.sleep(1000)' & i=$((i+1)); done; wait";
    let options = ["--best-effort", "--memory", "128m", "--timeout", "100s"];
    let receipt = rig.path("receipt.json");
    let receipt_option = ["--receipt", receipt.to_str().unwrap()];
    let least = ["--require", "no-namespace"].as_slice();
    let command = host(&rig, &[least, &options].concat(), &receipt_option, script);
    // Root has a control group, but not in a user namespace of its own.
    let output = end(without_namespaces(&command).spawn().unwrap());
    assert_code(&output, 137);
    let receipt: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(receipt["result"]["reason"], "oom", "{}", describe(&output));
    if !is_root() {
        let output = on_this_machine(&rig, &options, script);
        assert_code(&output, 137);
        assert!(
            text(&output.stderr).contains("memory limit"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_key_or_a_log_of_receipts_that_the_command_reaches_is_refused() {
    let rig = Rig::new();
    let work = rig.path("work");
    std::fs::create_dir_all(&work).unwrap();
    let key = work.join("key.pem");
    let made = std::process::Command::new(crate::rig::binary())
        .args(["receipt", "keygen"])
        .arg(&key)
        .output()
        .unwrap();
    assert_eq!(crate::rig::code(&made), 0, "{}", describe(&made));
    let mount = format!("{0}:{0}", work.display());
    for (option, file) in [("--receipt-key", key), ("--receipt-log", work.join("log"))] {
        let file = file.display().to_string();
        let receipt = rig.path("receipt.json").display().to_string();
        let options = [
            "--require",
            "no-namespace",
            "-v",
            &mount,
            "--receipt",
            &receipt,
            option,
            &file,
        ];
        let output = end(without_namespaces(&host(&rig, &options, &[], "echo ran"))
            .spawn()
            .unwrap());
        assert_eq!(crate::rig::code(&output), 125, "{}", describe(&output));
        assert!(output.stdout.is_empty(), "{}", describe(&output));
        assert!(
            text(&output.stderr).contains(&file),
            "{}",
            describe(&output)
        );
    }
}
