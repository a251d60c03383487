//! What cannot be had without namespaces: one clear line each, and nothing runs.

use std::process::Command;

use crate::rig::{Rig, assert_code, describe, end, text};
use crate::without::{on_host, without_namespaces};

#[test]
fn every_option_that_needs_a_namespace_is_refused_by_name() {
    let rig = Rig::new();
    let workspace = rig.path("workspace").display().to_string();
    let elsewhere = format!("{workspace}:/workspace");
    for (options, word) in [
        (&["-v", &elsewhere][..], "/workspace"),
        (&["--tmpfs", "/cache"], "/cache"),
        (&["--device", "/dev/null:/dev/other"], "--device"),
        (&["--hostname", "box"], "--hostname"),
        (&["--domainname", "box"], "--domainname"),
        (&["--user", "12345"], "--user 12345"),
        (&["--group-add", "5"], "--group-add"),
        (&["--userns", "single"], "--userns"),
        (&["--read-only=false"], "writable root"),
        (&["--cap-add", "NET_RAW"], "CAP_NET_RAW"),
        (&["--memory", "1g"], "limits on memory"),
        (&["--pids-limit", "10"], "limits on memory"),
        (&["--shm-size", "1m"], "--shm-size"),
        (
            &["--security-opt", "landlock=unconfined"],
            "landlock=unconfined",
        ),
        (
            &["--security-opt", "seccomp=unconfined"],
            "seccomp=unconfined",
        ),
        (&["-t"], "--tty"),
        (&["--policy", "compat"], "writable root"),
    ] {
        let output = on_host(&rig, options, "echo ran");
        assert_code(&output, 125);
        assert!(
            output.stdout.is_empty(),
            "{options:?}: {}",
            describe(&output)
        );
        let said = text(&output.stderr);
        let error = said
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap();
        assert!(
            error.contains(word) && error.contains("no-namespace"),
            "{options:?}: {said}"
        );
        assert!(said.contains("  try: "), "{options:?}: {said}");
    }
}

#[test]
fn what_a_policy_hides_in_the_middle_of_what_it_shows_is_refused() {
    let rig = Rig::new();
    let policy = rig.path("hiding.toml");
    std::fs::write(
        &policy,
        "name = \"hiding\"\nextends = \"default\"\n\n[filesystem]\ndeny = [\"/usr/bin\"]\n",
    )
    .unwrap();
    let output = on_host(&rig, &["--policy", policy.to_str().unwrap()], "echo ran");
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("/usr/bin"),
        "{}",
        describe(&output)
    );
}

#[test]
fn what_a_policy_hides_under_one_name_is_not_shown_under_another_that_links_to_it() {
    let rig = Rig::new();
    let shown = rig.path("shown");
    std::fs::create_dir(&shown).unwrap();
    std::fs::write(shown.join("secret"), "s3cret").unwrap();
    std::os::unix::fs::symlink(&shown, rig.path("link")).unwrap();
    let policy = rig.path("hiding.toml");
    for (hidden, volume) in [("link", "shown"), ("shown", "link")] {
        let hidden = rig.path(hidden).join("secret");
        let text = format!("[filesystem]\ndeny = [{:?}]\n", hidden.display());
        std::fs::write(&policy, text).unwrap();
        let place = rig.path(volume).display().to_string();
        let options = [
            "--policy",
            policy.to_str().unwrap(),
            "-v",
            &format!("{place}:{place}"),
        ];
        let output = on_host(&rig, &options, &format!("cat {}", hidden.display()));
        assert_code(&output, 125);
        assert!(output.stdout.is_empty(), "{}", describe(&output));
    }
}

#[test]
fn an_image_is_refused_before_anything_of_it_is_read() {
    let rig = Rig::new();
    let mut command = Command::new(crate::rig::binary());
    command
        .args(["run", "--require", "no-namespace", "--root"])
        .arg(rig.path("store"))
        .args(["oci:/nonexistent", "true"]);
    let output = end(without_namespaces(&command).spawn().unwrap());
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(
        said.contains("no-namespace") && said.contains("max_user_namespaces"),
        "{said}"
    );
    assert!(!rig.path("store").exists());
}
