//! Units for systemd: what their command lines do when they are executed as systemd executes them.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use crate::rig::{assert_code, code, describe, end, entries, started, text};
use crate::sandbox::Sandboxes;

/// The words of a setting's command line (systemd.service(5), systemd.syntax(7)): double quotes, escapes, `%%` and `$$`.
#[track_caller]
fn words(unit: &str, key: &str) -> Vec<String> {
    let unit = unit.replace("\\\n", " ");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}=")))
        .unwrap_or_else(|| panic!("no {key} in {unit}"));
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut rest = line.trim_start_matches('-').chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().push(match rest.next() {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => panic!("{other:?} after a backslash: {line}"),
            }),
            ' ' if !quoted => words.extend(word.take()),
            '%' | '$' => {
                assert_eq!(rest.next(), Some(c), "{line}");
                word.get_or_insert_default().push(c);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "{line}");
    words.extend(word);
    words
}

fn command(unit: &str, key: &str) -> Command {
    let words = words(unit, key);
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env_remove("PALISADE_ROOT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts the unit, waits for `ready`, stops it.
fn start_and_stop(unit: &str) -> Output {
    let main: Child = started(&mut command(unit, "ExecStart"));
    let stopped = end(command(unit, "ExecStop").spawn().unwrap());
    assert_code(&stopped, 0);
    end(main)
}

const SCRIPT: &str =
    "trap 'echo \"asked: $1\"; exit 5' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn a_unit_starts_a_sandbox_again_and_again_and_ends_with_its_exit_code() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.says(&[
        "create",
        "--name",
        "app",
        &image,
        "sh",
        "-c",
        SCRIPT,
        "sh",
        "50% of \"$HOME\"",
    ]);
    let unit = boxes.says(&["generate", "systemd", "--name", "app"]);
    for _ in 0..2 {
        let output = start_and_stop(&unit);
        assert_code(&output, 5);
        assert_eq!(text(&output.stdout), "asked: 50% of \"$HOME\"\n");
        assert_eq!(boxes.states(), ["app exited"]);
    }
    assert!(unit.contains("\nType=exec\n"), "{unit}");
    assert!(unit.contains("\nWantedBy=default.target"), "{unit}");
}

#[test]
fn a_new_unit_makes_the_sandbox_by_the_same_options_and_leaves_nothing() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    let odd = "two\nlines 100% 'of' $HOME \\ ;";
    boxes.says(&[
        "run",
        "-d",
        "--name",
        "app",
        "--restart=always",
        "-e",
        &format!("ODD={odd}"),
        "-v",
        "/data",
        &image,
        "sh",
        "-c",
        SCRIPT,
        "sh",
        odd,
    ]);
    let unit = boxes.says(&["generate", "systemd", "--new", "--name", "app"]);
    // The one that was made by hand is replaced.
    let output = start_and_stop(&unit);
    assert_code(&output, 5);
    assert_eq!(text(&output.stdout), format!("asked: {odd}\n"));
    assert_eq!(boxes.states(), Vec::<String>::new());
    assert_code(&end(command(&unit, "ExecStopPost").spawn().unwrap()), 0);
    let restarted = words(&unit, "ExecStart");
    assert!(
        restarted.contains(&format!("--env=ODD={odd}")),
        "{restarted:?}"
    );
    assert!(!unit.contains("--restart="), "{unit}");
}

#[test]
fn files_are_written_where_one_stands_and_what_has_no_unit_says_so() {
    let boxes = Sandboxes::new();
    let image = boxes.image();
    boxes.says(&[
        "run", "-d", "--rm", "--name", "app", &image, "sleep", "1000",
    ]);
    let refused = boxes.palisade(&["generate", "systemd", "app"]);
    assert_eq!(code(&refused), 1, "{}", describe(&refused));
    assert!(
        text(&refused.stderr).contains("--new"),
        "{}",
        describe(&refused)
    );
    let place = boxes.rig.path("units");
    std::fs::create_dir(&place).unwrap();
    let written = boxes
        .command(&[
            "generate", "systemd", "--new", "--files", "-n", "--time", "3", "app",
        ])
        .current_dir(&place)
        .output()
        .unwrap();
    assert_code(&written, 0);
    assert_eq!(entries(&place), ["palisade-app.service"]);
    let path = place.join("palisade-app.service");
    assert_eq!(text(&written.stdout), format!("{}\n", path.display()));
    let unit = std::fs::read_to_string(&path).unwrap();
    // A link in its place is replaced, not followed, and a variable's value is for nobody else.
    let other = boxes.rig.path("other");
    std::fs::write(&other, "as it was").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    let again = boxes
        .command(&[
            "generate", "systemd", "--new", "--files", "-n", "-e", "TOKEN=x", "app",
        ])
        .current_dir(&place)
        .output()
        .unwrap();
    assert_code(&again, 0);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "as it was");
    let made = std::fs::symlink_metadata(&path).unwrap();
    assert!(made.is_file());
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    assert_eq!(entries(&place), ["palisade-app.service"]);
    assert!(words(&unit, "ExecStop").contains(&"3".to_owned()), "{unit}");
    assert!(unit.contains("\nTimeoutStopSec=63\n"), "{unit}");
    for odd in [
        &["generate", "systemd", "none"][..],
        &["generate", "systemd", "--new", "-e", "A", "app"],
        &["generate", "systemd", "--new", "--after", "a b", "app"],
        &[
            "generate",
            "systemd",
            "--new",
            "--container-prefix",
            "a/b",
            "app",
        ],
    ] {
        assert_eq!(code(&boxes.palisade(odd)), 1, "{odd:?}");
    }
}
