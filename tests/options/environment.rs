//! `-e` and `--env-file`, and what does not pass.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::on;
use crate::rig::{Rig, assert_code, describe, end, text};

fn lines(bytes: &[u8]) -> BTreeSet<String> {
    text(bytes).lines().map(str::to_owned).collect()
}

#[test]
fn nothing_of_the_callers_environment_passes_but_what_the_policy_names() {
    let rig = Rig::new();
    let mut command = rig.command(&[], &["env"]);
    command
        .env("AWS_SECRET_ACCESS_KEY", "hunter2")
        .env("LD_PRELOAD", "")
        .env("TERM", "vt100")
        .env("TZ", "UTC");
    let output = end(command.spawn().unwrap());
    let names: BTreeSet<String> = lines(&output.stdout)
        .iter()
        .map(|line| line.split('=').next().unwrap().to_owned())
        .collect();
    let mut expected = vec![
        "HOME",
        "HOSTNAME",
        "LANDLOCK_ENABLED",
        "PATH",
        "TERM",
        "TZ",
        "container",
    ];
    for optional in ["COLORTERM", "NO_COLOR"] {
        expected.extend(std::env::var_os(optional).map(|_| optional));
    }
    assert_eq!(
        names,
        expected.into_iter().map(str::to_owned).collect(),
        "{}",
        describe(&output)
    );
    assert!(lines(&output.stdout).contains("TERM=vt100"));
}

#[test]
fn variables_are_set_taken_from_the_caller_and_replaced_in_dockers_order() {
    let rig = Rig::new();
    let file = rig.path("variables");
    fs::write(
        &file,
        "# note\n\nFILE=one two\nBOTH=file\nCALLER\nQUOTED='q'\n",
    )
    .unwrap();
    let file = format!("--env-file={}", file.display());
    let options = [
        "-e",
        "BOTH=line",
        &file,
        "-e",
        "EMPTY=",
        "--env",
        "ODD=a=b\nc",
        "-e",
        "CALLER_TOO",
        "-e",
        "ABSENT",
        "-e",
        "TWICE=1",
        "-e",
        "TWICE=2",
    ];
    let mut command = rig.command(
        &options,
        &[
            "sh",
            "-c",
            "printf '%s|' \"$BOTH\" \"$FILE\" \"$CALLER\" \"$CALLER_TOO\" \"$QUOTED\" \"$ODD\" \"$TWICE\" \
             \"${EMPTY-unset}\" \"${ABSENT-unset}\"",
        ],
    );
    command
        .env("CALLER", "mine")
        .env("CALLER_TOO", "mine too")
        .env_remove("ABSENT");
    let output = end(command.spawn().unwrap());
    assert_eq!(
        text(&output.stdout),
        "line|one two|mine|mine too|'q'|a=b\nc|2||unset|",
        "{}",
        describe(&output)
    );
}

#[test]
fn the_command_line_wins_over_the_image_and_the_image_over_the_defaults() {
    let rig = Rig::new();
    let config = json!({"Env": ["PATH=/bin", "A=image", "B=image", "HOME=/elsewhere"]});
    let layout = layout::write(&rig, "env.oci", &config, Packing::Tar);
    let image = format!("oci:{}", layout.display());
    let output = end(on(&rig, &["-e", "B=line"], &image, &["env"])
        .spawn()
        .unwrap());
    assert_code(&output, 0);
    let got = lines(&output.stdout);
    for expected in ["PATH=/bin", "A=image", "B=line", "HOME=/elsewhere"] {
        assert!(got.contains(expected), "{expected}: {got:?}");
    }
}
