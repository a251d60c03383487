//! Mounts: their order, what replaces what, sources and volumes.

use std::path::{Path, PathBuf};

use palisade_rootfs::ImageConfig;

use super::{has_option, image, mount, mounts, ordinary, plan, plan_on};

#[test]
fn outer_mounts_come_before_inner_ones_whatever_the_order_on_the_line() {
    let plan = plan(&[
        "-v",
        "/usr:/w/inner/deep",
        "-v",
        "/bin:/w",
        "--tmpfs",
        "/w/inner",
        "x",
        "true",
    ]);
    let at = |path: &str| {
        mounts(&plan)
            .iter()
            .position(|mount| mount.destination() == Path::new(path))
            .unwrap()
    };
    assert!(at("/w") < at("/w/inner") && at("/w/inner") < at("/w/inner/deep"));
    assert!(at("/proc") < at("/w") && at("/dev") < at("/dev/shm"));
}

#[test]
fn a_mount_on_the_line_replaces_the_policys_there() {
    let plan = plan(&[
        "--tmpfs",
        "/tmp:size=512m,noexec",
        "-v",
        "/usr:/home/node:ro",
        "x",
        "true",
    ]);
    let tmp = mount(&plan, "/tmp");
    assert!(
        has_option(tmp, "size=536870912")
            && has_option(tmp, "noexec")
            && !has_option(tmp, "tmpcopyup")
    );
    assert_eq!(mount(&plan, "/home/node").typ().as_deref(), Some("bind"));
    let plan = self::plan(&["--tmpfs", "/home/node:size=256m", "x", "true"]);
    assert!(
        has_option(mount(&plan, "/home/node"), "tmpcopyup"),
        "entrypoints live in home"
    );
}

#[test]
fn image_volumes_start_with_the_images_content_and_may_not_cover_the_sandboxs_own() {
    let with = |path: &str| {
        image(ImageConfig {
            volumes: vec![path.to_owned()],
            ..ImageConfig::default()
        })
    };
    let plan = plan_on(&with("/data/"), &ordinary(), &["x", "true"])
        .unwrap()
        .plan;
    assert!(has_option(mount(&plan, "/data"), "tmpcopyup"));
    let plan = plan_on(
        &with("/data"),
        &ordinary(),
        &["-v", "/usr:/data", "x", "true"],
    )
    .unwrap()
    .plan;
    assert_eq!(mount(&plan, "/data").typ().as_deref(), Some("bind"));
    for odd in ["/", "/proc", "/proc/self", "/dev", "/sys", "/a/../proc"] {
        assert!(
            plan_on(&with(odd), &ordinary(), &["x", "true"]).is_err(),
            "{odd}"
        );
    }
}

#[test]
fn a_missing_source_is_made_for_v_and_an_error_for_mount() {
    let image = image(ImageConfig::default());
    let resolved = plan_on(
        &image,
        &ordinary(),
        &["-v", "/nonexistent/dir:/w", "x", "true"],
    )
    .unwrap();
    assert_eq!(resolved.create, [PathBuf::from("/nonexistent/dir")]);
    let failure = plan_on(
        &image,
        &ordinary(),
        &[
            "--mount",
            "type=bind,src=/nonexistent/dir,dst=/w",
            "x",
            "true",
        ],
    );
    assert!(
        failure
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/dir")
    );
}
