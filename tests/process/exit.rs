//! Exit codes.

use crate::rig::{Rig, assert_code, code, describe, text};

#[test]
fn every_exit_code_comes_back_as_it_is() {
    let rig = Rig::new();
    for expected in 0..=255 {
        assert_code(&rig.sh(&[], &format!("exit {expected}")), expected);
    }
}

#[test]
fn every_signal_that_ends_a_command_gives_128_and_its_number() {
    let rig = Rig::new();
    // Neither CHLD, CONT, URG and WINCH, which end nothing, nor those that stop; QUIT is ignored by this shell.
    let ending = [1, 2]
        .into_iter()
        .chain(4..=16)
        .chain([24, 25, 26, 27, 29, 30, 31, 34, 64]);
    for signal in ending {
        let output = rig.sh(&[], &format!("kill -{signal} $$; sleep 100"));
        assert_code(&output, 128 + signal);
    }
}

#[test]
fn a_command_that_ends_in_time_keeps_its_code() {
    let rig = Rig::new();
    assert_code(&rig.sh(&["--timeout", "60s"], "exit 9"), 9);
}

#[test]
fn the_time_limit_gives_124() {
    let rig = Rig::new();
    assert_code(&rig.run(&["--timeout", "1s"], &["sleep", "1000"]), 124);
}

#[test]
fn a_command_that_ends_well_on_the_stop_signal_still_ran_into_its_limit() {
    let rig = Rig::new();
    let output = rig.sh(
        &["--timeout", "5s"],
        "trap 'echo stopping; exit 0' TERM; sleep 1000 & wait",
    );
    assert_code(&output, 124);
    assert_eq!(text(&output.stdout), "stopping\n");
}

#[test]
fn the_limit_begins_with_the_stop_signal_that_was_asked_for() {
    let rig = Rig::new();
    let options = ["--timeout", "5s", "--stop-signal", "USR1"];
    let output = rig.sh(&options, "trap 'echo usr1; exit 0' USR1; sleep 1000 & wait");
    assert_code(&output, 124);
    assert_eq!(text(&output.stdout), "usr1\n");
}

#[test]
fn a_command_that_ignores_the_stop_signal_is_killed() {
    let rig = Rig::new();
    let options = ["--timeout", "1s", "--stop-timeout", "1"];
    let output = rig.sh(&options, "trap '' TERM; while :; do sleep 1000; done");
    assert_code(&output, 124);
}

#[test]
fn a_command_that_does_not_exist_is_127_and_named() {
    let rig = Rig::new();
    for missing in [
        "no-such-command",
        "/bin/no-such-command",
        "./no-such-command",
    ] {
        let output = rig.run(&[], &[missing]);
        assert_code(&output, 127);
        assert!(
            text(&output.stderr).contains(missing),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_is_127_and_the_interpreter_is_named() {
    let rig = Rig::new();
    let output = rig.run(&[], &["/bin/lost-script"]);
    assert_code(&output, 127);
    assert!(
        text(&output.stderr).contains("/opt/missing/interpreter"),
        "{}",
        describe(&output)
    );
}

#[test]
fn what_cannot_be_executed_is_126() {
    let rig = Rig::new();
    for program in ["/bin/not-executable", "/bin"] {
        let output = rig.run(&[], &[program]);
        assert_code(&output, 126);
        assert!(
            text(&output.stderr).contains(program),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn what_palisade_cannot_do_is_125_with_a_reason_on_standard_error_alone() {
    let rig = Rig::new();
    let wrong: [&[&str]; 3] = [
        &["--no-such-option"],
        &["--timeout", "soon"],
        &["--workdir", "relative"],
    ];
    for options in wrong {
        let output = rig.run(options, &["echo", "ran"]);
        assert_code(&output, 125);
        assert!(output.stdout.is_empty(), "{}", describe(&output));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn the_code_of_the_command_counts_and_not_that_of_what_it_leaves_behind() {
    let rig = Rig::new();
    let output = rig.sh(&[], "(sleep 0; exit 3) & sleep 1000 & exit 5");
    assert_eq!(code(&output), 5, "{}", describe(&output));
}
