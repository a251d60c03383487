//! The entries of /etc/passwd and /etc/group, and HOME.

use std::fs;

use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, describe, text};

#[test]
fn a_user_that_the_image_lacks_gains_an_entry_with_a_home_that_can_be_written() {
    let rig = Rig::new();
    fs::write(
        rig.path("image/etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh",
    )
    .unwrap();
    fs::write(rig.path("image/etc/group"), "root:x:0:\n").unwrap();
    let script = "id -un && id -gn && cat /etc/passwd /etc/group && cd ~ && touch f && test \"$PWD\" = \"$HOME\"";
    for user in ["1000:1000", "10001:10001"] {
        let output = run_without_remains(&rig, &["--user", user], &["sh", "-c", script]);
        assert_code(&output, 0);
        let (uid, _) = user.split_once(':').unwrap();
        let expected = format!(
            "sandbox\nsandbox\nroot:x:0:0:root:/root:/bin/sh\nsandbox:x:{uid}:{uid}:palisade sandbox:/home/sandbox:/bin/sh\n\
             root:x:0:\nsandbox:x:{uid}:\n"
        );
        assert_eq!(text(&output.stdout), expected, "{}", describe(&output));
    }
    assert_eq!(
        fs::read_to_string(rig.path("image/etc/passwd")).unwrap(),
        "root:x:0:0:root:/root:/bin/sh"
    );
}

#[test]
fn an_image_without_any_accounts_gains_both_files() {
    let rig = Rig::new();
    let output = run_without_remains(&rig, &[], &["sh", "-c", "id -un; id -gn; cd ~ && pwd"]);
    assert_eq!(
        text(&output.stdout),
        "sandbox\nsandbox\n/home/sandbox\n",
        "{}",
        describe(&output)
    );
    assert!(!rig.path("image/etc/passwd").exists());
    assert!(!rig.path("image/home").exists());
}

#[test]
fn accounts_that_the_image_has_stay_as_they_are() {
    let rig = Rig::new();
    let passwd = "agent:x:1000:1000:The Agent:/home/agent:/bin/false\n# odd line\n";
    fs::write(rig.path("image/etc/passwd"), passwd).unwrap();
    fs::write(rig.path("image/etc/group"), "agent:x:1000:\n").unwrap();
    let output = run_without_remains(&rig, &[], &["cat", "/etc/passwd", "/etc/group"]);
    assert_eq!(
        text(&output.stdout),
        format!("{passwd}agent:x:1000:\n"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_home_that_the_image_names_and_lacks_is_there() {
    let rig = Rig::new();
    fs::write(
        rig.path("image/etc/passwd"),
        "agent:x:1000:1000::/srv/agents/one:/bin/sh\n",
    )
    .unwrap();
    let output = run_without_remains(
        &rig,
        &[],
        &["sh", "-c", "echo $HOME; touch $HOME/f && echo made"],
    );
    assert_eq!(
        text(&output.stdout),
        "/srv/agents/one\nmade\n",
        "{}",
        describe(&output)
    );
}

#[test]
fn a_hostile_home_is_not_used() {
    for home in ["/proc", "relative", "/home/../../etc", "/dev", ""] {
        let rig = Rig::new();
        fs::write(
            rig.path("image/etc/passwd"),
            format!("agent:x:1000:1000::{home}:/bin/sh\n"),
        )
        .unwrap();
        let script = "test -r /proc/self/status && test -c /dev/null && echo whole";
        let output = run_without_remains(&rig, &[], &["sh", "-c", script]);
        assert_eq!(
            text(&output.stdout),
            "whole\n",
            "{home}: {}",
            describe(&output)
        );
    }
}
