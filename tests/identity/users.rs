//! `--user` and the image's USER, in every form that docker takes.

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::on;
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, end, text};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n\
                      builder:x:10001:10002::/home/builder:/bin/sh\n";
const GROUP: &str = "root:x:0:\nagent:x:1000:\nbuilders:x:10002:\nextra:x:77:builder\n";

fn rig() -> Rig {
    let rig = Rig::new();
    std::fs::write(rig.path("image/etc/passwd"), PASSWD).unwrap();
    std::fs::write(rig.path("image/etc/group"), GROUP).unwrap();
    rig
}

const WHO: [&str; 3] = ["sh", "-c", "echo $(id -u) $(id -g) $HOME"];

#[test]
fn a_command_is_user_1000_unless_something_else_is_asked_for() {
    let rig = Rig::new();
    let output = run_without_remains(&rig, &[], &["sh", "-c", "echo $(id -u) $(id -g)"]);
    assert_eq!(text(&output.stdout), "1000 1000\n", "{}", describe(&output));
}

#[test]
fn the_user_is_a_name_or_a_number_and_so_is_the_group() {
    let rig = rig();
    for (user, expected) in [
        ("agent", "1000 1000 /home/agent\n"),
        ("1000", "1000 1000 /home/agent\n"),
        ("builder", "10001 10002 /home/builder\n"),
        ("10001", "10001 10002 /home/builder\n"),
        ("builder:agent", "10001 1000 /home/builder\n"),
        ("10001:10001", "10001 10001 /home/builder\n"),
        ("agent:77", "1000 77 /home/agent\n"),
        ("0", "0 0 /root\n"),
        ("root", "0 0 /root\n"),
        ("0:0", "0 0 /root\n"),
        // Without an entry the group is root's, as docker has it.
        ("4242", "4242 0 /home/sandbox\n"),
        ("4242:4343", "4242 4343 /home/sandbox\n"),
    ] {
        let output = rig.run(&["--user", user], &WHO);
        assert_eq!(
            text(&output.stdout),
            expected,
            "{user}: {}",
            describe(&output)
        );
    }
}

#[test]
fn the_images_user_counts_where_no_other_is_asked_for() {
    let rig = rig();
    for (index, (user, expected)) in [
        ("agent", "1000 1000 /home/agent\n"),
        ("1000", "1000 1000 /home/agent\n"),
        ("10001", "10001 10002 /home/builder\n"),
        ("builder:builders", "10001 10002 /home/builder\n"),
        ("agent:10002", "1000 10002 /home/agent\n"),
        ("", "1000 1000 /home/agent\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = layout::write(
            &rig,
            &format!("{index}.oci"),
            &json!({"User": user}),
            Packing::Tar,
        );
        let image = format!("oci:{}", layout.display());
        let output = end(on(&rig, &[], &image, &WHO).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            expected,
            "{user}: {}",
            describe(&output)
        );
        let output = end(on(&rig, &["-u", "4242:4343"], &image, &WHO)
            .spawn()
            .unwrap());
        assert_eq!(
            text(&output.stdout),
            "4242 4343 /home/sandbox\n",
            "{user}: {}",
            describe(&output)
        );
    }
}

#[test]
fn an_image_that_wants_root_runs_as_user_1000_and_that_is_said() {
    let rig = rig();
    for (index, user) in ["root", "0", "0:0", "root:root"].into_iter().enumerate() {
        let layout = layout::write(
            &rig,
            &format!("{index}.oci"),
            &json!({"User": user}),
            Packing::Tar,
        );
        let image = format!("oci:{}", layout.display());
        let output = end(on(&rig, &[], &image, &WHO).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            "1000 1000 /home/agent\n",
            "{user}: {}",
            describe(&output)
        );
        assert!(
            text(&output.stderr).contains("note: the image wants to run as root"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_user_of_an_image_that_is_none_is_refused() {
    let rig = rig();
    for (index, user) in [
        "no-such-user",
        "agent:no-such-group",
        "-1",
        "4294967295",
        "4294967296",
        "1000:-1",
        "1000:",
        ":1000",
        "1000:1000:1000",
        "../etc/passwd",
        "agent\nroot",
        "agent ",
        " 0",
        "0x0",
        "+0",
        "$(id)",
    ]
    .into_iter()
    .enumerate()
    {
        let layout = layout::write(
            &rig,
            &format!("{index}.oci"),
            &json!({"User": user}),
            Packing::Tar,
        );
        let image = format!("oci:{}", layout.display());
        let output = end(on(&rig, &[], &image, &["echo", "ran"]).spawn().unwrap());
        assert_eq!(
            output.status.code(),
            Some(125),
            "{user:?}: {}",
            describe(&output)
        );
        assert!(output.stdout.is_empty());
        assert!(
            text(&output.stderr).contains("try: "),
            "{user:?}: {}",
            describe(&output)
        );
    }
}

#[test]
fn a_user_that_is_none_is_refused_on_the_command_line() {
    let rig = rig();
    for user in [
        "no-such-user",
        "agent:no-such-group",
        "-1",
        "4294967295",
        "1000:",
        ":1000",
        "1:2:3",
        "agent ",
    ] {
        let output = run_without_remains(&rig, &["--user", user], &["echo", "ran"]);
        assert_code(&output, 125);
        assert!(output.stdout.is_empty(), "{user:?}");
        assert!(
            text(&output.stderr).contains("try: "),
            "{user:?}: {}",
            describe(&output)
        );
    }
}

#[test]
fn an_entry_of_the_hosts_is_no_entry_of_the_images() {
    let rig = rig();
    // `daemon` is on every host, and not in this image.
    let output = rig.run(&["--user", "daemon"], &["echo", "ran"]);
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("daemon"),
        "{}",
        describe(&output)
    );
}
