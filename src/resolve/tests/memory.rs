//! What lies in memory, and how large it may be.

use std::path::Path;

use palisade_policies::landlock::Access;
use palisade_policies::{Flags, Policy};
use palisade_rootfs::ImageConfig;
use palisade_runtime::{Root, Upper};

use super::{has_option, image, mount, ordinary, plan, plan_on, plan_under, root};
use crate::resolve::Source;

/// A policy that may only be tightened, of which some tmpfs execute and some do not.
fn mixed() -> Policy {
    let text = "flags = \"tighten-only\"\n[filesystem]\ntmpfs = [\
        { path = \"/tmp\", size = \"1MiB\", inodes = 100, noexec = true }, \
        { path = \"/run\", size = \"8MiB\" }, { path = \"~\", size = \"2MiB\" }]";
    Policy::parse(text, "mixed").unwrap()
}

#[test]
fn a_writable_layer_in_memory_has_the_size_asked_for_and_other_memory_its_own() {
    let sized = plan(&["--storage-opt", "size=8m", "x", "true"]);
    assert_eq!(sized.spec.root().as_ref().unwrap().readonly(), Some(false));
    let Root::Overlay {
        upper: Upper::Tmpfs(scratch),
        ..
    } = &sized.root
    else {
        panic!("{:?}", sized.root)
    };
    assert_eq!(scratch.size, 8 << 20);
    // Its size is not that of other memory.
    let data = image(ImageConfig {
        volumes: vec!["/data".into()],
        ..ImageConfig::default()
    });
    let line = ["--storage-opt", "size=8m", "--tmpfs", "/t", "x", "true"];
    let sized = plan_on(&data, &root(), &line).unwrap().plan;
    for place in ["/t", "/data"] {
        assert!(
            has_option(mount(&sized, place), "size=1073741824"),
            "{place}"
        );
    }
    let mut policy = Policy::builtin("default").unwrap();
    policy.flags = Flags::TightenOnly;
    policy.filesystem.root = palisade_policies::RootMode::InMemory;
    let under = |size: &str| {
        let line = ["--storage-opt", size, "x", "true"];
        plan_under(&policy, Source::Image(&data), &root(), &line)
    };
    assert!(under("size=8m").is_ok() && under("size=2g").is_err());
    let image = image(ImageConfig::default());
    assert!(
        plan_on(
            &image,
            &root(),
            &["--read-only", "--storage-opt", "size=8m", "x", "true"]
        )
        .is_err()
    );
}

#[test]
fn what_an_image_has_for_a_volume_loosens_no_policy() {
    let image = image(ImageConfig {
        volumes: vec!["/data".into(), "/dev/shm".into(), "/dev/mqueue".into()],
        ..ImageConfig::default()
    });
    let strict = Policy::builtin("strict").unwrap();
    for line in [&["x", "true"][..], &["--name", "nn", "x", "true"]] {
        let resolved = plan_under(&strict, Source::Image(&image), &ordinary(), line).unwrap();
        let plan = resolved.plan;
        assert!(has_option(mount(&plan, "/data"), "noexec"), "{line:?}");
        assert!(has_option(mount(&plan, "/dev/shm"), "size=67108864"));
        mount(&plan, "/dev/mqueue");
        let rules = plan.landlock.unwrap();
        let data = rules.iter().find(|rule| rule.path == Path::new("/data"));
        assert_eq!(data.unwrap().access, Access::Write, "{line:?}");
    }
    let resolved = plan_on(&image, &ordinary(), &["x", "true"]).unwrap();
    assert!(!has_option(mount(&resolved.plan, "/data"), "noexec"));
}

#[test]
fn an_images_volume_at_or_below_a_policys_tmpfs_is_no_looser_than_that() {
    let places = ["/tmp", "/tmp/in", "/run/in", "/dev/shm/in", "/home/node"];
    let image = image(ImageConfig {
        volumes: places.map(str::to_owned).into(),
        ..ImageConfig::default()
    });
    let named = &["--name", "nn", "x", "true"][..];
    for line in [&["x", "true"][..], named] {
        let plan = plan_under(&mixed(), Source::Image(&image), &ordinary(), line)
            .unwrap()
            .plan;
        let tmp = mount(&plan, "/tmp");
        assert_eq!(tmp.typ().as_deref(), Some("tmpfs"), "{line:?}");
        for option in ["noexec", "size=1048576", "nr_inodes=100"] {
            assert!(has_option(tmp, option), "{line:?}: {option}");
        }
        assert!(has_option(mount(&plan, "/home/node"), "size=2097152"));
        for (place, noexec) in [("/tmp/in", true), ("/dev/shm/in", true), ("/run/in", false)] {
            let found = has_option(mount(&plan, place), "noexec");
            assert_eq!(found, noexec, "{line:?}: {place}");
        }
        if line != named {
            assert!(has_option(mount(&plan, "/tmp/in"), "nr_inodes=100"));
            assert!(has_option(mount(&plan, "/dev/shm/in"), "size=67108864"));
        }
    }
    // Options may refine this one: data of a home directory is kept, and what executes nothing still does not.
    let mut refine = mixed();
    refine.flags = Flags::Refine;
    let plan = plan_under(&refine, Source::Image(&image), &ordinary(), named)
        .unwrap()
        .plan;
    assert_eq!(mount(&plan, "/home/node").typ().as_deref(), Some("bind"));
    assert!(has_option(mount(&plan, "/tmp"), "noexec"));
    assert!(!has_option(mount(&plan, "/home/node"), "noexec"));
}

#[test]
fn a_tmpfs_inside_one_of_a_policy_that_may_only_be_tightened_is_no_looser() {
    let image = image(ImageConfig::default());
    let under = |tmpfs: &str| {
        let line = ["--tmpfs", tmpfs, "x", "true"];
        plan_under(&mixed(), Source::Image(&image), &ordinary(), &line)
    };
    for looser in [
        "/tmp/x:exec,size=1m",
        "/tmp/x:size=2m",
        "/tmp/x:nr_inodes=200",
        "/dev/shm/x:size=1g",
        "/dev/shm/x:exec",
        "/run/x:size=16m",
    ] {
        assert!(under(looser).is_err(), "{looser}");
    }
    let plan = under("/tmp/x").unwrap().plan;
    for option in ["noexec", "size=1048576", "nr_inodes=100"] {
        assert!(has_option(mount(&plan, "/tmp/x"), option), "{option}");
    }
    let plan = under("/run/x:exec,size=8m").unwrap().plan;
    assert!(has_option(mount(&plan, "/run/x"), "exec"));
}
