//! Options over a policy that limits them.

use palisade_policies::{Flags, Policy};
use palisade_rootfs::ImageConfig;

use super::{image, ordinary, plan_under, root};
use crate::resolve::Source;

#[test]
fn a_policy_that_may_only_be_tightened_refuses_what_loosens_it() {
    let mut policy = Policy::builtin("default").unwrap();
    policy.flags = Flags::TightenOnly;
    policy.limits.memory = Some(1 << 30);
    let image = image(ImageConfig::default());
    let under = |line: &[&str]| plan_under(&policy, Source::Image(&image), &root(), line);
    assert!(under(&["--memory", "512m", "x", "true"]).is_ok());
    for looser in [
        &["--memory", "2g"][..],
        &["--network", "host"],
        &["--cap-add", "NET_RAW"],
        &["--read-only=false"],
        &["--storage-opt", "size=8m"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", "landlock=unconfined"],
        &["--best-effort"],
        &["--userns", "host"],
        &["--device", "/dev/null:/dev/x"],
        &["--stop-timeout", "1000"],
        &["--tmpfs", "/tmp:size=2g"],
        &["--tmpfs", "/home/node:size=2g"],
        &["--tmpfs", "/other:size=2g"],
        &["--tmpfs", "/dev/shm:size=1g"],
        &["--mount", "type=tmpfs,dst=/tmp,tmpfs-size=2g"],
    ] {
        let line = [looser, &["x", "true"]].concat();
        assert!(under(&line).is_err(), "{looser:?}");
    }
}

#[test]
fn what_a_policy_demands_and_cannot_be_held_is_refused() {
    let image = image(ImageConfig::default());
    let policy = Policy::parse("minimum-tier = \"full\"", "p.toml").unwrap();
    let under = |line: &[&str]| plan_under(&policy, Source::Image(&image), &ordinary(), line);
    assert!(under(&["--best-effort", "x", "true"]).is_err());
    assert!(under(&["x", "true"]).is_ok());
}
