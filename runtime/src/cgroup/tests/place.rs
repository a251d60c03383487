//! Where a cgroup is made.

use super::*;

#[test]
fn a_path_or_name_cannot_lead_out_of_the_hierarchy() {
    let limits = resources(r#"{"pids":{"limit":5}}"#);
    for path in ["..", "/a/../../b", "/", "a\nb"] {
        let request = Request {
            path: Some(path.into()),
            ..Request::default()
        };
        assert!(
            matches!(
                Cgroup::create("x", &limits, &request),
                Err(Error::Invalid(_))
            ),
            "{path:?}"
        );
    }
    for id in ["", "..", "a/b", "a\0b"] {
        assert!(
            matches!(
                Cgroup::create(id, &limits, &Request::default()),
                Err(Error::Invalid(_))
            ),
            "{id:?}"
        );
    }
}

#[test]
fn an_absolute_path_is_below_the_root_of_every_hierarchy() {
    let _alone = alone();
    if !geteuid().is_root() {
        return;
    }
    let name = format!("palisade-{}", id());
    let request = Request {
        path: Some(format!("/{name}/inner").into()),
        ..Request::default()
    };
    let limited = limited_at(r#"{"pids":{"limit":5}}"#, &request).expect("a cgroup");
    let all = paths(&limited.0);
    assert!(
        all.iter()
            .all(|path| path.to_str().unwrap().contains(&format!("/{name}/inner"))),
        "{all:?}"
    );
    drop(limited);
    for path in all {
        let parent = path.ancestors().find(|path| path.ends_with(&name)).unwrap();
        if parent.exists() {
            std::fs::remove_dir(parent).unwrap();
        }
    }
}
