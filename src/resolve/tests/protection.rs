//! Capabilities, and the notes on what is taken away.

use palisade_rootfs::ImageConfig;

use super::{image, ordinary, plan, plan_on};

#[test]
fn no_capability_is_kept_unless_it_is_asked_for() {
    let kept = |line: &[&str]| {
        let plan = plan(line);
        let capabilities = plan
            .spec
            .process()
            .as_ref()
            .unwrap()
            .capabilities()
            .clone()
            .unwrap();
        let mut names: Vec<String> = capabilities
            .effective()
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        names.sort();
        assert_eq!(capabilities.effective(), capabilities.ambient());
        assert_eq!(capabilities.effective(), capabilities.bounding());
        names
    };
    assert!(kept(&["x", "true"]).is_empty());
    assert!(kept(&["--cap-drop", "ALL", "x", "true"]).is_empty());
    assert_eq!(
        kept(&["--cap-add", "net_raw", "--cap-drop", "ALL", "x", "true"]).len(),
        1
    );
    assert_eq!(kept(&["--cap-add", "ALL", "x", "true"]).len(), 41);
    assert_eq!(
        kept(&["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN", "x", "true"]).len(),
        40
    );
}

#[test]
fn what_is_taken_away_is_said() {
    let image = image(ImageConfig::default());
    let resolved = plan_on(
        &image,
        &ordinary(),
        &[
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "landlock=unconfined",
            "x",
            "true",
        ],
    )
    .unwrap();
    assert!(resolved.plan.seccomp.is_empty() && resolved.plan.landlock.is_none());
    assert_eq!(resolved.notes.len(), 2);
    let resolved = plan_on(&image, &ordinary(), &["x", "true"]).unwrap();
    assert!(
        !resolved.plan.seccomp.is_empty()
            && resolved.plan.landlock.is_some()
            && resolved.notes.is_empty()
    );
}
