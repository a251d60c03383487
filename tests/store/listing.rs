//! `images`, `inspect`, `history`, `image size`: in docker's words.

use std::fs;

use serde_json::{Value, json};

use crate::shelf::{Shelf, says};

#[test]
fn an_empty_store_has_a_heading_and_no_image() {
    let shelf = Shelf::new();
    assert_eq!(
        shelf.ok(&["images"]),
        "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    );
    assert_eq!(shelf.ok(&["images", "-q"]), "");
    assert!(!shelf.rig.path("store/images").exists());
}

#[test]
fn images_are_listed_with_what_docker_lists() {
    let shelf = Shelf::with("me/app:1.2", &says("hello"));
    let listed = shelf.ok(&[
        "images",
        "--format",
        "{{.Repository}}|{{.Tag}}|{{.ID}}|{{.Size}}",
    ]);
    let id = &shelf.id("me/app:1.2")["sha256:".len()..][..12];
    // The rig's image is a static busybox, a little above or below two megabytes.
    let (front, size) = listed.trim().rsplit_once('|').unwrap();
    assert_eq!(front, format!("me/app|1.2|{id}"));
    assert!(size.ends_with("MB") || size.ends_with("kB"), "{size}");
    let table = shelf.ok(&["images", "--digests"]);
    assert!(
        table.starts_with("REPOSITORY   TAG       DIGEST"),
        "{table}"
    );
    let digest = shelf.index()["manifests"][0]["digest"].clone();
    assert!(table.contains(digest.as_str().unwrap()), "{table}");
    assert_eq!(shelf.ok(&["image", "ls", "-q"]), format!("{id}\n"));
    assert_eq!(shelf.ok(&["image", "list", "-q"]), format!("{id}\n"));
    let json: Value = serde_json::from_str(&shelf.ok(&["images", "--format", "json"])).unwrap();
    assert_eq!(json["Repository"], "me/app");
    assert_eq!(json["Labels"], "word=hello");
}

#[test]
fn a_name_pattern_or_filter_chooses() {
    let shelf = Shelf::new();
    shelf.add("me/app:1", &says("one"));
    shelf.add("me/app:2", &says("two"));
    shelf.add("other", &says("three"));
    let names = |arguments: &[&str]| {
        let mut all = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        all.extend_from_slice(arguments);
        let mut names: Vec<String> = shelf.ok(&all).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(&["me/app"]), ["me/app:1", "me/app:2"]);
    assert_eq!(names(&["docker.io/me/app:2"]), ["me/app:2"]);
    assert_eq!(names(&["*/a*"]), ["me/app:1", "me/app:2"]);
    assert_eq!(names(&["-f", "reference=*:latest"]), ["other:latest"]);
    assert_eq!(names(&["-f", "label=word=two"]), ["me/app:2"]);
    assert_eq!(names(&["-f", "dangling=true"]), Vec::<String>::new());
    assert_eq!(names(&["-f", "dangling=false"]).len(), 3);
    assert_eq!(names(&["missing"]), Vec::<String>::new());
    shelf.refused(&["images", "-f", "colour=red"], &["colour", "reference"]);
    shelf.refused(&["images", "--format", "{{.Nothing}}"], &["Nothing"]);
}

#[test]
fn inspect_answers_as_docker_does() {
    let config = json!({"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"l": "m"}, "WorkingDir": "/w"});
    let shelf = Shelf::with("app", &config);
    shelf.ok(&["tag", "app", "reg.example:5000/x/app:2"]);
    let all: Value = serde_json::from_str(&shelf.ok(&["image", "inspect", "app"])).unwrap();
    let image = &all[0];
    assert_eq!(image["Id"], shelf.id("app"));
    let tags = image["RepoTags"].as_array().unwrap();
    assert!(tags.contains(&json!("app:latest")), "{image}");
    assert!(tags.contains(&json!("reg.example:5000/x/app:2")), "{image}");
    assert_eq!(image["RepoDigests"].as_array().unwrap().len(), 2);
    assert_eq!(image["Config"], config);
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert!(image["Size"].as_u64().unwrap() > 500_000);
    assert_eq!(
        shelf.ok(&[
            "image",
            "inspect",
            "-f",
            "{{index .Config.Labels \"l\"}} {{.Architecture}}",
            "app"
        ]),
        format!("m {}\n", image["Architecture"].as_str().unwrap())
    );
    shelf.refused(
        &["image", "inspect", "missing"],
        &["no such image: missing"],
    );
}

#[test]
fn history_shows_the_steps_and_the_size_of_each() {
    let shelf = Shelf::with("app", &says("x"));
    // The layout tells of no steps: then there is one a layer.
    let steps = shelf.ok(&["history", "--format", "{{.ID}}|{{.Size}}", "app"]);
    assert_eq!(steps.lines().count(), 1, "{steps}");
    assert!(steps.starts_with(&shelf.id("app")["sha256:".len()..][..12]));
    let exact = shelf.ok(&["history", "--human=false", "--format", "{{.Size}}", "app"]);
    let size = shelf.ok(&["image", "inspect", "-f", "{{.Size}}", "app"]);
    assert_eq!(exact, size);
    let full = shelf.ok(&["history", "-q", "--no-trunc", "app"]);
    assert_eq!(full.trim(), shelf.id("app"));
}

#[test]
fn size_says_what_is_shared() {
    let shelf = Shelf::new();
    shelf.add("one", &says("1"));
    let sizes = |name: &str| {
        shelf.ok(&[
            "image",
            "size",
            "--format",
            "{{.Size}} {{.SharedSize}} {{.UniqueSize}}",
            name,
        ])
    };
    let alone = sizes("one");
    let words: Vec<&str> = alone.split_whitespace().collect();
    assert_eq!((words[0], words[1]), (words[2], "0B"), "{alone}");
    // Another configuration over the same layer.
    shelf.add("two", &says("2"));
    let shared = sizes("one");
    assert_eq!(shared.trim(), format!("{0} {0} 0B", words[0]));
}

#[test]
fn an_image_that_another_tool_copied_in_is_seen_measured_and_runs() {
    let shelf = Shelf::with("first", &says("x"));
    // As skopeo writes: blobs, and an entry with a bare name.
    let mut index = shelf.index();
    let mut entry = index["manifests"][0].clone();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "bare"});
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(shelf.rig.path("store/images/index.json"), index.to_string()).unwrap();
    fs::remove_dir_all(shelf.rig.path("store/sizes")).unwrap();
    let listed = shelf.ok(&["images", "--format", "{{.Repository}} {{.Size}}"]);
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let (bare, first) = (lines[0], lines[1]);
    assert_eq!(
        bare.strip_prefix("bare").unwrap(),
        first.strip_prefix("first").unwrap()
    );
    shelf.runs("bare", &["echo", "ran"], "ran\n");
}

#[test]
fn a_damaged_image_is_told_of_and_the_others_are_listed() {
    let shelf = Shelf::with("good", &says("x"));
    let mut index = shelf.index();
    let missing = format!("sha256:{}", "0".repeat(64));
    index["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": missing, "size": 7,
        "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/bad:latest"}}));
    fs::write(shelf.rig.path("store/images/index.json"), index.to_string()).unwrap();
    let output = shelf.run(&["images", "--format", "{{.Repository}}"]);
    assert_eq!(crate::rig::text(&output.stdout), "good\n");
    let said = crate::rig::text(&output.stderr);
    assert!(said.contains("bad:latest cannot be shown"), "{said}");
}

#[test]
fn an_id_or_its_beginning_names_an_image_everywhere() {
    let shelf = Shelf::with("app", &says("x"));
    let id = shelf.id("app");
    let short = &id["sha256:".len()..][..7];
    for text in [&id, &id["sha256:".len()..], short] {
        shelf.runs(text, &["echo", "ran"], "ran\n");
        assert_eq!(
            shelf
                .ok(&["image", "inspect", "-f", "{{.Id}}", text])
                .trim(),
            id
        );
    }
}
