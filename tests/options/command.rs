//! What runs: arguments, entrypoint, working directory, streams, name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::on;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, end, feed, text};

#[test]
fn arguments_after_the_image_reach_the_command_byte_for_byte() {
    let rig = Rig::new();
    let odd = [
        "-e",
        "--rm",
        "",
        "--",
        "-",
        "a  b",
        "'\"`\\",
        "line\nline\n",
        "\t\r",
        "$HOME",
        "*",
        "{{.ID}}",
        "\u{e9}\u{1f980}",
        "=",
    ];
    let mut command = vec!["printf", "%s\\0"];
    command.extend_from_slice(&odd);
    let output = run_without_remains(&rig, &[], &command);
    assert_code(&output, 0);
    let got: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    let (last, got) = got.split_last().unwrap();
    assert!(last.is_empty());
    assert_eq!(got, odd.map(str::as_bytes));
}

#[test]
fn an_argument_that_is_not_utf8_reaches_the_command_as_it_is() {
    let rig = Rig::new();
    let odd = b"a\xff\xc0b\x80";
    let mut command = rig.command(&[], &["printf", "%s"]);
    command.arg(OsStr::from_bytes(odd));
    let output = end(command.spawn().unwrap());
    assert_eq!(output.stdout, odd, "{}", describe(&output));
}

#[test]
fn two_hyphens_before_the_image_end_the_options_and_options_after_it_are_arguments() {
    let rig = Rig::new();
    let output = rig.run(&["-q", "--"], &["echo", "--env", "A=1"]);
    assert_eq!(text(&output.stdout), "--env A=1\n", "{}", describe(&output));
}

#[test]
fn the_entrypoint_and_the_command_of_an_image_combine_as_dockers_do() {
    let rig = Rig::new();
    let config = json!({"Entrypoint": ["echo", "entry"], "Cmd": ["default"]});
    let layout = layout::write(&rig, "entry.oci", &config, Packing::Tar);
    let image = format!("oci:{}", layout.display());
    let said = |options: &[&str], command: &[&str]| {
        let output = end(on(&rig, options, &image, command).spawn().unwrap());
        (output.status.code(), text(&output.stdout))
    };
    let zero = |said: &str| (Some(0), said.to_owned());
    assert_eq!(said(&[], &[]), zero("entry default\n"));
    assert_eq!(said(&[], &["given"]), zero("entry given\n"));
    // docker drops the image's CMD with its ENTRYPOINT.
    assert_eq!(said(&["--entrypoint", "echo"], &[]), zero("\n"));
    assert_eq!(said(&["--entrypoint", "id"], &["-u"]), zero("1000\n"));
    assert_eq!(
        said(&["--entrypoint="], &["echo", "plain"]),
        zero("plain\n")
    );
    assert_eq!(said(&["--entrypoint", ""], &[]).0, Some(125));
}

#[test]
fn the_working_directory_is_the_one_asked_for_else_the_images() {
    let rig = Rig::new();
    let config = json!({"WorkingDir": "/workspace"});
    let layout = layout::write(&rig, "cwd.oci", &config, Packing::Tar);
    let image = format!("oci:{}", layout.display());
    for (options, expected) in [
        (&[][..], "/workspace\n"),
        (&["-w", "/tmp"], "/tmp\n"),
        (&["--workdir=/made/for/it"], "/made/for/it\n"),
    ] {
        let output = end(on(&rig, options, &image, &["pwd"]).spawn().unwrap());
        assert_eq!(text(&output.stdout), expected, "{}", describe(&output));
    }
}

#[test]
fn input_reaches_the_command_with_i_alone() {
    let rig = Rig::new();
    let output = feed(rig.command(&["-i"], &["cat"]), b"in\0put\n".to_vec());
    assert_eq!(output.stdout, b"in\0put\n", "{}", describe(&output));
    let output = feed(rig.command(&[], &["cat"]), b"input\n".to_vec());
    assert_code(&output, 0);
    assert!(output.stdout.is_empty(), "{}", describe(&output));
}

#[test]
fn a_terminal_is_there_with_t_alone() {
    let rig = Rig::new();
    let output = rig.run(&["-t"], &["tty"]);
    assert_eq!(
        text(&output.stdout),
        "/dev/pts/0\r\n",
        "{}",
        describe(&output)
    );
    assert_code(&rig.run(&[], &["tty"]), 1);
}

#[test]
fn a_terminal_that_standard_input_cannot_drive_is_refused() {
    let rig = Rig::new();
    let output = rig.run(&["-it"], &["true"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("try: leave out -t"),
        "{}",
        describe(&output)
    );
}

#[test]
fn the_command_is_never_the_first_process_with_init_or_without() {
    let rig = Rig::new();
    for options in [&[][..], &["--init"]] {
        let output = rig.sh(options, "test $$ -ne 1 && test $PPID -eq 1");
        assert_code(&output, 0);
    }
}

#[test]
fn the_host_name_is_the_one_asked_for_else_the_ids_first_digits() {
    let rig = Rig::new();
    let script = "cat /proc/sys/kernel/hostname; echo $HOSTNAME";
    let output = rig.sh(&["--hostname", "tester-1"], script);
    assert!(
        text(&output.stdout).starts_with("tester-1\ntester-1\n"),
        "{}",
        describe(&output)
    );
    let cidfile = rig.path("id");
    let option = format!("--cidfile={}", cidfile.display());
    let output = rig.sh(&[&option], "cat /proc/sys/kernel/hostname");
    let id = std::fs::read_to_string(cidfile).unwrap();
    assert_eq!(
        text(&output.stdout).trim_end(),
        &id[..12],
        "{}",
        describe(&output)
    );
}

#[test]
fn the_domain_name_is_the_one_asked_for() {
    let rig = Rig::new();
    let output = rig.sh(
        &["--domainname", "example.org"],
        "cat /proc/sys/kernel/domainname",
    );
    assert_eq!(
        text(&output.stdout),
        "example.org\n",
        "{}",
        describe(&output)
    );
}

#[test]
fn the_stop_signal_is_the_images_where_none_is_asked_for() {
    let rig = Rig::new();
    let config = json!({"StopSignal": "SIGUSR2"});
    let layout = layout::write(&rig, "stop.oci", &config, Packing::Tar);
    let image = format!("oci:{}", layout.display());
    let script = "trap 'echo usr2; exit 0' USR2; sleep 1000 & wait";
    let options = ["--timeout", "5s"];
    let output = end(on(&rig, &options, &image, &["sh", "-c", script])
        .spawn()
        .unwrap());
    assert_code(&output, 124);
    assert_eq!(text(&output.stdout), "usr2\n");
}
