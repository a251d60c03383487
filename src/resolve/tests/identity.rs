//! Users and id maps.

use oci_spec::runtime::LinuxNamespaceType;
use palisade_rootfs::ImageConfig;
use palisade_runtime::Plan;

use super::{image, mount, ordinary, plan, plan_on, root};
use crate::caller::{Caller, IdRange};

fn with_ranges() -> Caller {
    let range = vec![IdRange {
        first: 100_000,
        count: 65_536,
    }];
    Caller {
        subordinate_uids: range.clone(),
        subordinate_gids: range,
        ..ordinary()
    }
}

fn ids(plan: &Plan) -> (u32, u32) {
    let user = plan.spec.process().as_ref().unwrap().user();
    (user.uid(), user.gid())
}

fn uid_map(plan: &Plan) -> Vec<(u32, u32, u32)> {
    let linux = plan.spec.linux().as_ref().unwrap();
    let map = linux.uid_mappings().as_deref().unwrap_or_default();
    map.iter()
        .map(|map| (map.container_id(), map.host_id(), map.size()))
        .collect()
}

#[test]
fn an_ordinary_user_becomes_user_1000_by_a_map_of_one_id() {
    let plan = plan(&["host-image", "true"]);
    assert_eq!(ids(&plan), (1000, 1000));
    assert_eq!(uid_map(&plan), [(1000, 501, 1)]);
    let user = plan.spec.process().as_ref().unwrap().user();
    assert_eq!(
        user.additional_gids(),
        &None,
        "a map of one id has no other group"
    );
}

#[test]
fn root_takes_ids_that_nobody_has_and_maps_the_workspace_to_its_owner() {
    let image = image(ImageConfig::default());
    let plan = plan_on(&image, &root(), &["-v", "/usr:/workspace", "x", "true"])
        .unwrap()
        .plan;
    let map = uid_map(&plan);
    assert_eq!((map[0].0, map[0].2, map.len()), (0, 65_536, 1));
    assert!(map[0].1 >= 524_288);
    let workspace = mount(&plan, "/workspace");
    let maps = workspace.uid_mappings().as_ref().unwrap();
    assert_eq!(
        (maps[0].container_id(), maps[0].host_id(), maps[0].size()),
        (1000, 0, 1)
    );
    assert_eq!(
        plan.spec
            .process()
            .as_ref()
            .unwrap()
            .user()
            .additional_gids(),
        &Some(vec![44])
    );
}

#[test]
fn the_user_is_the_options_then_the_images_unless_that_is_root() {
    let user = |user: &str, line: &[&str]| {
        let config = ImageConfig {
            user: user.to_owned(),
            ..ImageConfig::default()
        };
        plan_on(&image(config), &root(), line)
    };
    assert_eq!(
        ids(&user("web", &["x", "true"]).unwrap().plan),
        (10_001, 33)
    );
    assert_eq!(
        ids(&user("10001:44", &["x", "true"]).unwrap().plan),
        (10_001, 44)
    );
    assert_eq!(ids(&user("", &["x", "true"]).unwrap().plan), (1000, 1000));
    for as_root in ["root", "0", "0:0"] {
        let resolved = user(as_root, &["x", "true"]).unwrap();
        assert_eq!(ids(&resolved.plan), (1000, 1000));
        assert!(
            resolved.notes[0].contains("--user 0"),
            "{:?}",
            resolved.notes
        );
    }
    assert_eq!(
        ids(&user("web", &["--user", "0", "x", "true"]).unwrap().plan),
        (0, 0)
    );
    for odd in ["nobody-knows", "-1", "4294967295", "a:b:c", "web:", " "] {
        assert!(user(odd, &["x", "true"]).is_err(), "{odd:?}");
        assert!(user("", &["--user", odd, "x", "true"]).is_err(), "{odd:?}");
    }
}

#[test]
fn a_range_of_ids_is_used_only_where_more_than_one_is_needed() {
    let image = image(ImageConfig::default());
    let mode =
        |line: &[&str]| plan_on(&image, &with_ranges(), line).map(|resolved| resolved.identity);
    assert_eq!(mode(&["x", "true"]).unwrap(), "single");
    assert_eq!(mode(&["--user", "0", "x", "true"]).unwrap(), "range");
    assert_eq!(mode(&["--group-add", "www", "x", "true"]).unwrap(), "range");
    assert_eq!(mode(&["--userns", "range", "x", "true"]).unwrap(), "range");
    assert_eq!(
        mode(&["--userns", "single", "--user", "0", "x", "true"]).unwrap(),
        "single"
    );
    assert!(plan_on(&image, &ordinary(), &["--userns", "range", "x", "true"]).is_err());
    assert!(plan_on(&image, &ordinary(), &["--group-add", "www", "x", "true"]).is_err());
}

#[test]
fn the_dangerous_ways_to_map_ids_are_refused_where_they_are() {
    let image = image(ImageConfig::default());
    assert!(plan_on(&image, &root(), &["--userns", "single", "x", "true"]).is_err());
    assert!(plan_on(&image, &ordinary(), &["--userns", "host", "x", "true"]).is_err());
    let plan = plan_on(&image, &root(), &["--userns", "host", "x", "true"])
        .unwrap()
        .plan;
    let namespaces = plan
        .spec
        .linux()
        .as_ref()
        .unwrap()
        .namespaces()
        .clone()
        .unwrap();
    assert!(
        namespaces
            .iter()
            .all(|namespace| namespace.typ() != LinuxNamespaceType::User)
    );
    assert!(uid_map(&plan).is_empty());
}
