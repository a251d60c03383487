//! `store check`, and what a store holds after everything that can go wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::place::image;
use crate::rig::{describe, end, entries, text};
use crate::shelf::{Shelf, says};

impl Shelf {
    /// Asserts that nothing is wrong, but for what `known` says.
    #[track_caller]
    fn assert_clean(&self) {
        let output = self.run(&["store", "check"]);
        assert!(output.status.success(), "{}", describe(&output));
        assert!(text(&output.stdout).ends_with(" 0 problems\n"));
    }

    #[track_caller]
    fn finds(&self, words: &[&str]) {
        let output = self.run(&["store", "check"]);
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        for word in words {
            assert!(
                text(&output.stdout).contains(word),
                "no `{word}`: {}",
                describe(&output)
            );
        }
    }
}

#[test]
fn a_store_in_order_has_no_problems() {
    let shelf = Shelf::new();
    shelf.assert_clean();
    shelf.add("app", &says("x"));
    shelf.runs("app", &["echo", "ran"], "ran\n");
    let said = shelf.ok(&["store", "check"]);
    assert_eq!(said, "3 blobs read, 1 images whole, 0 problems\n");
}

#[test]
fn every_kind_of_damage_is_found_and_repaired() {
    let shelf = Shelf::new();
    shelf.add("good", &says("good"));
    shelf.put("etc/other", "other");
    shelf.add("rotten", &says("rotten"));
    shelf.put("etc/other", "third");
    shelf.add("torn", &says("torn"));
    let blobs = shelf.rig.path("store/images/blobs/sha256");
    let layer = |name: &str| {
        let manifest = shelf.ok(&[
            "manifest",
            "inspect",
            "-f",
            "{{(index .layers 0).digest}}",
            name,
        ]);
        blobs.join(&manifest.trim()["sha256:".len()..])
    };
    let (rotten, torn) = (layer("rotten"), layer("torn"));
    let mut bytes = fs::read(&rotten).unwrap();
    bytes[1000] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    fs::remove_file(&torn).unwrap();
    fs::write(blobs.join("0".repeat(64)), "nobody's").unwrap();
    fs::write(shelf.rig.path("store/partial").join("1".repeat(64)), "half").unwrap();
    shelf.finds(&[
        "damaged: blob",
        "torn:latest lacks",
        "rotten:latest lacks",
        "partial: blob",
    ]);
    let output = shelf.run(&["store", "check", "--repair"]);
    assert!(output.status.success(), "{}", describe(&output));
    assert!(text(&output.stdout).contains("pull or load again"));
    shelf.assert_clean();
    assert_eq!(
        shelf.ok(&["images", "--format", "{{.Repository}}"]),
        "good\n"
    );
    shelf.runs("good", &["echo", "ran"], "ran\n");
    shelf.put("etc/other", "other");
    shelf.add("rotten", &says("rotten"));
    shelf.runs("rotten", &["cat", "/etc/other"], "other");
}

#[test]
fn a_truncated_list_of_names_is_an_error_everywhere_until_it_is_repaired() {
    let shelf = Shelf::with("app", &says("x"));
    let id = shelf.id("app");
    let index = shelf.rig.path("store/images/index.json");
    let bytes = fs::read(&index).unwrap();
    fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    shelf.refused(&["images"], &["index"]);
    shelf.refused(&["rmi", "app"], &["index"]);
    shelf.refused(&["tag", "app", "x"], &["index"]);
    shelf.finds(&["damaged: index.json"]);
    let output = shelf.run(&["store", "check", "--repair"]);
    assert!(output.status.success(), "{}", describe(&output));
    // Its name is lost, the image is not.
    assert_eq!(shelf.ok(&["images", "-q", "--no-trunc"]).trim(), id);
    shelf.runs(&id, &["echo", "ran"], "ran\n");
    shelf.assert_clean();
}

#[test]
fn an_index_of_a_hundred_megabytes_or_in_a_circle_is_refused() {
    let shelf = Shelf::with("app", &says("x"));
    let index = shelf.rig.path("store/images/index.json");
    let blobs = shelf.rig.path("store/images/blobs/sha256");
    let bytes = fs::read(&index).unwrap();
    fs::File::create(&index)
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    shelf.refused(&["images"], &["4 MiB"]);
    // No digest can hold itself; a blob that is not what its name says could.
    let liar = "a".repeat(64);
    let circle = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{liar}"), "size": 0,
        "annotations": {"org.opencontainers.image.ref.name": "circle"}}]});
    let length = circle.to_string().len() + 2;
    let circle = circle
        .to_string()
        .replace("\"size\":0", &format!("\"size\":{length}"));
    fs::write(blobs.join(&liar), &circle).unwrap();
    fs::write(&index, &circle).unwrap();
    shelf.refused(&["image", "inspect", "circle"], &["error: "]);
    shelf.finds(&["damaged: blob", "circle lacks"]);
    fs::write(&index, bytes).unwrap();
    shelf.ok(&["store", "check", "--repair"]);
    shelf.runs("app", &["echo", "ran"], "ran\n");
}

#[test]
fn what_others_put_in_the_place_of_blobs_is_not_followed() {
    let shelf = Shelf::with("app", &says("x"));
    let layer = crate::layout::layer_blob(&shelf.rig.path("store/images"));
    let secret = shelf.rig.path("secret");
    fs::write(&secret, "secret").unwrap();
    fs::remove_file(&layer).unwrap();
    symlink(&secret, &layer).unwrap();
    let out = shelf.rig.path("out.tar").display().to_string();
    shelf.refused(&["save", "-o", &out, "app"], &["links, FIFOs and devices"]);
    shelf.finds(&["app:latest lacks"]);
    // Loaded again, the link goes and its target stays.
    let from = format!("oci:{}", shelf.rig.path("from-app").display());
    shelf.ok(&["load", "-i", &from, "app"]);
    assert!(fs::symlink_metadata(&layer).unwrap().is_file());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    shelf.assert_clean();
    // What is arriving is not written through a link either.
    shelf.ok(&["rmi", "app"]);
    let name = layer.file_name().unwrap().to_string_lossy().into_owned();
    symlink(&secret, shelf.rig.path("store/partial").join(&name)).unwrap();
    shelf.refused(&["load", "-i", &from, "app"], &["error: "]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn killed_at_any_moment_a_load_leaves_a_store_in_order() {
    let archive = image("debian-slim.oci-archive.tar").display().to_string();
    let shelf = Shelf::with("app", &says("x"));
    // Each time a step further: killed when it has read that much.
    for step in 0..12_u64 {
        let mut child = shelf
            .command(&["load", "-i", &format!("oci-archive:{archive}"), "debian"])
            .spawn()
            .unwrap();
        // As long as the process has not got so far, it is looked at again; a process that ended got everywhere.
        let io = format!("/proc/{}/io", child.id());
        let progress = || {
            let io = fs::read_to_string(&io).unwrap_or_default();
            let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
            line.and_then(|count| count.parse::<u64>().ok())
        };
        while child.try_wait().unwrap().is_none()
            && progress().is_some_and(|count| count < step * (8 << 20))
        {
            std::thread::yield_now();
        }
        let _ = child.kill();
        let _ = end(child);
        let output = shelf.run(&["store", "check"]);
        let said = text(&output.stdout);
        assert!(!said.contains("damaged"), "{said}");
        assert!(!said.contains("incomplete"), "{said}");
        shelf.runs("app", &["echo", "ran"], "ran\n");
    }
    // The next that looks removes what is left.
    shelf.ok(&["load", "-i", &format!("oci-archive:{archive}"), "debian"]);
    shelf.runs("debian", &["bash", "-c", "echo ran"], "ran\n");
    shelf.ok(&["image", "prune", "-f"]);
    shelf.assert_clean();
    for place in ["layers", "layers-kept", "partial"] {
        let left: Vec<_> = entries(&shelf.rig.path("store").join(place))
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
}

#[test]
fn tags_that_race_end_with_one_of_the_images() {
    let shelf = Shelf::with("one", &says("1"));
    shelf.put("etc/two", "2");
    shelf.add("two", &says("2"));
    let races: Vec<_> = (0..12)
        .map(|i| {
            let from = if i % 2 == 0 { "one" } else { "two" };
            shelf.command(&["tag", from, "race"]).spawn().unwrap()
        })
        .collect();
    for race in races {
        let output = end(race);
        assert!(output.status.success(), "{}", describe(&output));
    }
    let named = shelf.ok(&["images", "-q", "race"]);
    assert_eq!(named.lines().count(), 1);
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 3);
    shelf.assert_clean();
}

#[test]
fn loading_and_removing_at_the_same_time_never_leaves_a_name_without_its_image() {
    let shelf = Shelf::with("app", &says("x"));
    let from = format!("oci:{}", shelf.rig.path("from-app").display());
    for _ in 0..6 {
        let both = [
            shelf
                .command(&["load", "-i", &from, "app"])
                .spawn()
                .unwrap(),
            shelf.command(&["rmi", "-f", "app"]).spawn().unwrap(),
            shelf.command(&["image", "prune", "-af"]).spawn().unwrap(),
        ];
        for child in both {
            let output = end(child);
            let said = text(&output.stderr);
            assert!(
                output.status.success()
                    || said.contains("missing")
                    || said.contains("no such image"),
                "{}",
                describe(&output)
            );
        }
        let said = text(&shelf.run(&["store", "check"]).stdout);
        assert!(
            !said.contains("incomplete") && !said.contains("damaged"),
            "{said}"
        );
    }
    shelf.ok(&["load", "-i", &from, "app"]);
    shelf.runs("app", &["echo", "ran"], "ran\n");
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_lost() {
    if !crate::place::is_root() {
        // An ordinary user mounts nothing small enough to fill.
        return;
    }
    let shelf = Shelf::new();
    let store = shelf.rig.path("store");
    fs::create_dir(&store).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=12m,mode=0700", "none"])
        .arg(&store)
        .status()
        .unwrap();
    assert!(mounted.success());
    shelf.add("app", &says("x"));
    let archive = image("debian-slim.oci-archive.tar").display().to_string();
    shelf.refused(
        &["load", "-i", &format!("oci-archive:{archive}"), "debian"],
        &["space"],
    );
    shelf.runs("app", &["echo", "ran"], "ran\n");
    shelf.ok(&["image", "prune", "-f"]);
    shelf.assert_clean();
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 1);
    let unmounted = Command::new("umount").arg(&store).status().unwrap();
    assert!(unmounted.success());
}
