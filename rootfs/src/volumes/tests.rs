use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Place {
    dir: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Place {
    fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = (0..count)
            .map(|layer| dir.path().join(format!("layer-{layer}")))
            .collect();
        for layer in &layers {
            fs::create_dir(layer).unwrap();
        }
        Self { dir, layers }
    }

    fn write(&self, layer: usize, path: &str, text: &str) -> PathBuf {
        let path = self.layers[layer].join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn volumes(&self) -> Volumes {
        Volumes::new(self.dir.path())
    }

    fn content<'a>(&'a self, path: &'a str) -> Content<'a> {
        Content {
            layers: &self.layers,
            path: Path::new(path),
            ownership: Ownership::Caller,
            owner: (1000, 1000),
            root_is_owner: false,
        }
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_empty_volume_starts_with_what_all_layers_together_have() {
    let place = Place::new(2);
    place.write(0, "cache/low", "low");
    place.write(0, "cache/both", "old");
    place.write(0, "cache/dir/inner", "inner");
    place.write(1, "cache/both", "new");
    let tool = place.write(1, "cache/dir/tool", "#!/bin/sh");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(&tool, place.layers[1].join("cache/dir/same")).unwrap();
    symlink("/etc/passwd", place.layers[1].join("cache/out")).unwrap();
    let inner = place.layers[0].join("cache/dir");
    fs::set_permissions(inner, fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(
        place.layers[1].join("cache/dir"),
        fs::Permissions::from_mode(0o711),
    )
    .unwrap();

    let used = place
        .volumes()
        .take("caches", &BTreeMap::new(), Some(&place.content("/cache")))
        .unwrap();
    assert_eq!(used.notes, Vec::<String>::new());
    let data = place.volumes().mountpoint("caches");
    assert_eq!(names(&data), ["both", "dir", "low", "out"]);
    assert_eq!(text(data.join("both")), "new");
    assert_eq!(text(data.join("dir/inner")), "inner");
    assert_eq!(
        fs::read_link(data.join("out")).unwrap(),
        Path::new("/etc/passwd")
    );
    let mode = |path: &str| fs::metadata(data.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("dir/tool"), mode("dir")), (0o750, 0o711));
    let number = |path: &str| fs::metadata(data.join(path)).unwrap().ino();
    assert_eq!(number("dir/tool"), number("dir/same"));
    let time = |path: &Path| fs::metadata(path).unwrap().mtime();
    assert_eq!(time(&data.join("dir/tool")), time(&tool));
    assert_eq!(names(data.parent().unwrap()), ["_data", "volume.json"]);
}

#[test]
fn a_volume_that_has_something_is_left_as_it_is() {
    let place = Place::new(1);
    place.write(0, "cache/image", "image");
    let volumes = place.volumes();
    volumes.create("mine", &BTreeMap::new()).unwrap();
    fs::write(volumes.mountpoint("mine").join("own"), "own").unwrap();
    volumes
        .take("mine", &BTreeMap::new(), Some(&place.content("/cache")))
        .unwrap();
    assert_eq!(names(&volumes.mountpoint("mine")), ["own"]);
    volumes.take("bare", &BTreeMap::new(), None).unwrap();
    assert_eq!(names(&volumes.mountpoint("bare")), Vec::<String>::new());
}

#[test]
fn a_copy_that_was_broken_off_is_gone_on_with() {
    let place = Place::new(1);
    place.write(0, "cache/a", "a");
    place.write(0, "cache/dir/b", "b");
    let volumes = place.volumes();
    volumes.create("cut", &BTreeMap::new()).unwrap();
    let data = volumes.mountpoint("cut");
    let directory = data.parent().unwrap();
    fs::write(directory.join("filling"), "").unwrap();
    fs::write(directory.join("part"), "half").unwrap();
    fs::write(data.join("a"), "changed since").unwrap();
    fs::create_dir(data.join("dir")).unwrap();
    volumes
        .take("cut", &BTreeMap::new(), Some(&place.content("/cache")))
        .unwrap();
    assert_eq!(text(data.join("a")), "changed since");
    assert_eq!(text(data.join("dir/b")), "b");
    assert_eq!(names(directory), ["_data", "volume.json"]);
}

#[test]
fn links_of_the_image_lead_inside_the_image_alone() {
    let place = Place::new(1);
    place.write(0, "real/x", "x");
    symlink("/real", place.layers[0].join("cache")).unwrap();
    symlink("../../../../../../../../etc", place.layers[0].join("up")).unwrap();
    let volumes = place.volumes();
    volumes
        .take("links", &BTreeMap::new(), Some(&place.content("/cache")))
        .unwrap();
    assert_eq!(names(&volumes.mountpoint("links")), ["x"]);
    // There is no /etc in this image, so there is nothing to copy.
    volumes
        .take("up", &BTreeMap::new(), Some(&place.content("/up")))
        .unwrap();
    assert_eq!(names(&volumes.mountpoint("up")), Vec::<String>::new());
}

#[test]
fn two_first_users_fill_it_once() {
    let place = Place::new(1);
    for number in 0..200 {
        place.write(0, &format!("cache/{number}"), &number.to_string());
    }
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let volumes = place.volumes();
                    let used = volumes
                        .take("shared", &BTreeMap::new(), Some(&place.content("/cache")))
                        .unwrap();
                    assert_eq!(names(&volumes.mountpoint("shared")).len(), 200);
                    drop(used);
                })
            })
            .collect();
        for user in users {
            user.join().unwrap();
        }
    });
    let directory = place.dir.path().join("volumes/shared");
    assert_eq!(names(&directory), ["_data", "volume.json"]);
    assert_eq!(names(&place.dir.path().join("volumes")), ["shared"]);
}

#[test]
fn a_volume_in_use_is_not_removed_and_one_that_is_not_goes_whole() {
    let place = Place::new(1);
    let volumes = place.volumes();
    let labels = BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]);
    let used = volumes.take("busy", &labels, None).unwrap();
    assert_eq!(volumes.find("busy").unwrap().unwrap().labels, labels);
    let error = volumes.remove("busy").unwrap_err().to_string();
    assert!(error.contains("running sandbox uses it"), "{error}");
    drop(used);
    let data = volumes.mountpoint("busy");
    fs::create_dir(data.join("locked")).unwrap();
    fs::write(data.join("locked/file"), "").unwrap();
    fs::set_permissions(data.join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
    volumes.remove("busy").unwrap();
    assert_eq!(
        names(&place.dir.path().join("volumes")),
        Vec::<String>::new()
    );
    let error = volumes.remove("busy").unwrap_err().to_string();
    assert!(error.contains("no such volume"), "{error}");
}

#[test]
fn what_a_crash_left_half_made_is_removed_by_the_next() {
    let place = Place::new(1);
    let volumes = place.volumes();
    for left in [".new-a1/_data", ".gone-b2/_data"] {
        fs::create_dir_all(place.dir.path().join("volumes").join(left)).unwrap();
    }
    assert_eq!(volumes.list().unwrap(), []);
    volumes
        .create("a1", &BTreeMap::from([("k".into(), "v".into())]))
        .unwrap();
    assert_eq!(names(&place.dir.path().join("volumes")), ["a1"]);
    let again = volumes.create("a1", &BTreeMap::new()).unwrap();
    assert_eq!(again.labels["k"], "v");
    assert_eq!(volumes.list().unwrap(), [again]);
}

#[test]
fn names_are_docker_s() {
    for name in ["ab", "a.b_c-d", "0x", &"a".repeat(200)] {
        assert!(Volumes::check_name(name).is_ok(), "{name}");
    }
    for name in [
        "",
        "a",
        ".a",
        "-a",
        "a/b",
        "../x",
        "é1",
        "a b",
        &"a".repeat(201),
    ] {
        assert!(Volumes::check_name(name).is_err(), "{name}");
        assert_eq!(Place::new(0).volumes().find(name).unwrap(), None);
    }
}
