//! Standard input, output, error and arguments.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};

use crate::rig::{Guard, Rig, assert_code, binary, describe, end, feed, text};

#[test]
fn standard_output_and_standard_error_stay_apart() {
    let rig = Rig::new();
    let output = rig.sh(&[], "echo out; echo err >&2");
    assert_code(&output, 0);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\n".into(), "err\n".into())
    );
}

#[test]
fn arguments_arrive_byte_for_byte() {
    let rig = Rig::new();
    let arguments = [
        "",
        " ",
        "a b",
        "\"'`$HOME\\",
        "line\nbreak\t",
        "--rm",
        "-e",
        "--",
        "*",
        "ü",
        "\u{1}\u{7f}",
    ];
    let mut command = vec!["printf", "<%s>"];
    command.extend(arguments);
    let output = rig.run(&[], &command);
    assert_code(&output, 0);
    let expected = format!("<{}>", arguments.join("><"));
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn an_argument_of_a_hundred_kilobytes_arrives_whole() {
    let rig = Rig::new();
    let long = "x".repeat(100_000);
    let output = rig.run(&[], &["sh", "-c", "echo ${#1}", "sh", &long]);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "100000\n");
}

#[test]
fn interactive_input_passes_unchanged_to_its_end() {
    let rig = Rig::new();
    let input: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = feed(rig.command(&["-i"], &["cat"]), input.clone());
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == input,
        "{} of {} bytes",
        output.stdout.len(),
        input.len()
    );
}

#[test]
fn without_interactive_the_input_is_empty() {
    let rig = Rig::new();
    let output = feed(
        rig.command(&[], &["wc", "-c"]),
        b"not for the command".to_vec(),
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).trim(), "0");
}

#[test]
fn a_file_as_input_and_as_output_works() {
    let rig = Rig::new();
    fs::write(rig.path("in"), "from a file").unwrap();
    let mut command = rig.command(&["-i"], &["cat"]);
    command
        .stdin(File::open(rig.path("in")).unwrap())
        .stdout(File::create(rig.path("out")).unwrap());
    assert_code(&end(command.spawn().unwrap()), 0);
    assert_eq!(fs::read_to_string(rig.path("out")).unwrap(), "from a file");
}

#[test]
fn a_file_given_for_reading_cannot_be_opened_again_for_writing() {
    let rig = Rig::new();
    for options in [
        &["-i"][..],
        &["-i", "--security-opt", "landlock=unconfined"],
    ] {
        fs::write(rig.path("in"), "precious").unwrap();
        let mut command = rig.script(
            options,
            "echo spoilt >/proc/self/fd/0; echo spoilt >/dev/stdin; true",
        );
        command.stdin(File::open(rig.path("in")).unwrap());
        assert_code(&end(command.spawn().unwrap()), 0);
        assert_eq!(
            fs::read_to_string(rig.path("in")).unwrap(),
            "precious",
            "{options:?}"
        );
    }
}

#[test]
fn a_directory_as_a_stream_is_refused_and_nothing_runs() {
    let rig = Rig::new();
    let mut command = rig.command(&["-i"], &["echo", "ran"]);
    command.stdin(File::open("/").unwrap());
    let output = end(command.spawn().unwrap());
    assert_code(&output, 125);
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).contains("standard input is a directory"),
        "{}",
        describe(&output)
    );
}

#[test]
fn closed_streams_are_as_good_as_null() {
    let rig = Rig::new();
    for redirection in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("exec \"$@\" {redirection}"))
            .arg("sh")
            .arg(binary())
            .args(["run", "--rm", "-i", "--root"])
            .arg(rig.path("store"))
            .arg(format!("dir:{}", rig.path("image").display()))
            .args(["sh", "-c", "cat && echo out && echo err >&2 && exit 42"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = end(shell.spawn().unwrap());
        assert_eq!(
            output.status.code(),
            Some(42),
            "{redirection}: {}",
            describe(&output)
        );
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_writer_by_sigpipe() {
    let rig = Rig::new();
    let mut child = rig.command(&[], &["yes"]).spawn().unwrap();
    let _guard = Guard::over(&child);
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 2];
    stdout.read_exact(&mut line).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 13));
}

#[test]
fn sixty_four_mebibytes_of_output_arrive_complete() {
    let rig = Rig::new();
    let output = rig.sh(&[], "yes 0123456789abcde | head -c 67108864; echo last >&2");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout.len(), 64 << 20);
    assert!(
        output
            .stdout
            .chunks_exact(16)
            .all(|line| line == b"0123456789abcde\n")
    );
    assert_eq!(text(&output.stderr), "last\n");
}

#[test]
fn output_written_just_before_the_end_is_not_lost() {
    let rig = Rig::new();
    for _ in 0..50 {
        let output = rig.sh(&[], "echo first; echo second >&2; exec echo last");
        assert_eq!(text(&output.stdout), "first\nlast\n");
        assert_eq!(text(&output.stderr), "second\n");
    }
}

#[test]
fn a_background_child_that_holds_the_output_does_not_keep_palisade() {
    let rig = Rig::new();
    let output = rig.sh(&[], "sleep 100000 & echo done");
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "done\n");
}

#[test]
fn only_the_three_streams_are_open_in_the_command() {
    let rig = Rig::new();
    let mut shell = Command::new("sh");
    // Descriptors 5 and 9 are what a careless caller leaves open.
    shell
        .arg("-c")
        .arg("exec \"$@\" 5</ 9</etc/passwd")
        .arg("sh")
        .arg(binary())
        .args(["run", "--rm", "--root"])
        .arg(rig.path("store"))
        .arg(format!("dir:{}", rig.path("image").display()))
        .args(["ls", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = end(shell.spawn().unwrap());
    assert_code(&output, 0);
    // The fourth is ls's own, on the directory.
    assert_eq!(text(&output.stdout), "0\n1\n2\n3\n");
}

#[test]
fn the_first_process_shows_nothing_of_palisades_own_command_line() {
    let rig = Rig::new();
    let output = rig.sh(
        &["-e", "TOKEN=s3cr3t", "--label", "a=b"],
        "tr '\\0' ' ' </proc/1/cmdline",
    );
    assert_code(&output, 0);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "palisade");
}
