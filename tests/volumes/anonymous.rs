//! Volumes without a name: made for one sandbox, kept with it, and gone with `--rm` and `rm -v`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::is_root;
use crate::rig::{Rig, assert_code, code, describe, entries, text};
use crate::sandbox::Sandboxes;

const STAY: &str = "test -e /cache/mark && echo again; echo kept >/cache/mark; echo up; sleep 1000";

/// A name as volumes without one have it.
#[track_caller]
fn assert_name(name: &str) {
    let digits = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(digits, "{name}");
}

fn with_cache(boxes: &Sandboxes) {
    let cache = boxes.rig.path("image/cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("file"), "of the image\n").unwrap();
}

#[test]
fn a_volume_without_a_name_starts_with_the_images_content_and_outlives_restarts() {
    let boxes = Sandboxes::new();
    with_cache(&boxes);
    boxes.detached(&["--name", "app", "-v", "/cache"], STAY);
    assert_eq!(
        boxes.says(&["exec", "app", "cat", "/cache/file"]),
        "of the image"
    );
    let name = boxes.says(&["volume", "ls", "-q"]);
    assert_name(&name);
    let shown = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}";
    assert_eq!(
        boxes.says(&["inspect", "-f", shown, "app"]),
        format!("volume {name} /cache true")
    );
    boxes.says(&["restart", "-t", "0", "app"]);
    assert_eq!(boxes.says(&["exec", "app", "cat", "/cache/mark"]), "kept");
    let owner = boxes.says(&["exec", "app", "sh", "-c", "ls -nd /cache/mark | tr -s ' '"]);
    assert!(owner.contains(" 1000 1000 "), "{owner}");
    let mark = boxes
        .rig
        .path("store/volumes")
        .join(&name)
        .join("_data/mark");
    let expected = if is_root() {
        1000
    } else {
        nix::unistd::geteuid().as_raw()
    };
    assert_eq!(fs::metadata(mark).unwrap().uid(), expected);

    let refused = boxes.palisade(&["volume", "rm", &name]);
    assert_eq!(code(&refused), 1, "{}", describe(&refused));
    assert_eq!(
        boxes.says(&["volume", "prune", "-f"]),
        "Total reclaimed space: 0B"
    );
    boxes.says(&["rm", "-f", "app"]);
    // As docker has it: kept, until somebody prunes.
    assert_eq!(
        boxes.says(&["volume", "ls", "-q", "-f", "dangling=true"]),
        name
    );
    let pruned = boxes.says(&["volume", "prune", "-f"]);
    assert!(
        pruned.starts_with(&format!("Deleted Volumes:\n{name}\n")),
        "{pruned}"
    );
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "");
}

#[test]
fn rm_with_volumes_removes_those_without_a_name_and_no_others() {
    let boxes = Sandboxes::new();
    let options = [
        "--name",
        "app",
        "-v",
        "/one",
        "--mount",
        "type=volume,dst=/two",
        "-v",
        "named:/three",
    ];
    boxes.detached(&options, "sleep 1000");
    assert_eq!(boxes.says(&["volume", "ls", "-q"]).lines().count(), 3);
    boxes.says(&["rm", "-f", "-v", "app"]);
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "named");
    assert_eq!(
        boxes.says(&["volume", "prune", "-f"]),
        "Total reclaimed space: 0B"
    );
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "named");
    let all = boxes.says(&["volume", "prune", "-a", "-f"]);
    assert!(all.starts_with("Deleted Volumes:\nnamed\n"), "{all}");
}

#[test]
fn a_volume_that_another_sandbox_has_by_its_name_stays() {
    let boxes = Sandboxes::new();
    boxes.detached(&["--name", "one", "-v", "/data"], "sleep 1000");
    let name = boxes.says(&["volume", "ls", "-q"]);
    boxes.detached(
        &["--name", "two", "-v", &format!("{name}:/data")],
        "sleep 1000",
    );
    boxes.says(&["rm", "-f", "-v", "one"]);
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), name);
    boxes.says(&["rm", "-f", "-v", "two"]);
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), name);
}

#[test]
fn with_rm_it_goes_with_the_sandbox_and_is_listed_as_long_as_that_runs() {
    let boxes = Sandboxes::new();
    with_cache(&boxes);
    boxes.detached(&["--rm", "--name", "app", "-v", "/cache"], STAY);
    let name = boxes.says(&["volume", "ls", "-q"]);
    assert_name(&name);
    assert_eq!(
        boxes.says(&["volume", "inspect", "-f", "{{.Name}}", &name]),
        name
    );
    assert_eq!(
        boxes.says(&["exec", "app", "cat", "/cache/file"]),
        "of the image"
    );
    let refused = boxes.palisade(&["volume", "rm", &name]);
    assert_eq!(code(&refused), 1, "{}", describe(&refused));
    let said = text(&refused.stderr);
    assert!(
        said.contains("palisade rm") && !said.contains("then"),
        "{said}"
    );
    boxes.says(&["rm", "-f", "app"]);
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "");
    assert!(boxes.left().is_empty(), "{:?}", boxes.left());
}

#[test]
fn a_run_in_the_foreground_leaves_none() {
    let rig = Rig::new();
    fs::create_dir(rig.path("image/cache")).unwrap();
    fs::write(rig.path("image/cache/file"), "of the image\n").unwrap();
    let output = rig.sh(
        &["-v", "/cache", "--mount", "type=volume,dst=/other,ro"],
        "cat /cache/file && echo more >/cache/more && cat /cache/more; echo x 2>/dev/null >/other/x || echo refused",
    );
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "of the image\nmore\nrefused\n");
    assert_eq!(entries(&rig.path("store/volumes")), Vec::<String>::new());
    assert_eq!(entries(&rig.path("store/sandboxes")), Vec::<String>::new());
    assert!(!rig.path("image/cache/more").exists());
}

#[test]
fn a_run_without_rm_leaves_none_either_where_nothing_can_name_the_sandbox() {
    let boxes = Sandboxes::new();
    with_cache(&boxes);
    let image = boxes.image();
    for options in [&[][..], &["--ttl", "1h"]] {
        let mut all = vec!["run", "-q", "-v", "/cache"];
        all.extend_from_slice(options);
        all.extend_from_slice(&[&image, "cat", "/cache/file"]);
        assert_eq!(boxes.says(&all), "of the image", "{options:?}");
        assert_eq!(
            entries(&boxes.rig.path("store/volumes")),
            Vec::<String>::new()
        );
        for sandbox in entries(&boxes.rig.path("store/sandboxes")) {
            let recorded = options.contains(&"--ttl");
            assert!(recorded, "{options:?} left {sandbox}");
        }
    }
}

#[test]
fn what_an_image_declares_as_a_volume_is_kept_with_its_sandbox() {
    let boxes = Sandboxes::new();
    with_cache(&boxes);
    let config = json!({"Volumes": {"/cache": {}, "/home/sandbox": {}}, "Env": ["PATH=/bin"]});
    let layout = layout::write(&boxes.rig, "declared.oci", &config, Packing::Tar);
    let image = format!("oci:{}", layout.display());
    let run = |options: &[&str], script: &str| {
        let mut all = vec!["run", "-q"];
        all.extend_from_slice(options);
        all.extend_from_slice(&[&image, "sh", "-c", script]);
        boxes.says(&all)
    };
    run(&["-d", "--name", "app"], "while :; do sleep 0.05; done");
    let write = "cat /cache/file; echo a >/cache/kept; echo b >/home/sandbox/kept";
    assert_eq!(
        boxes.says(&["exec", "app", "sh", "-c", write]),
        "of the image"
    );
    boxes.says(&["restart", "-t", "0", "app"]);
    assert_eq!(
        boxes.says(&["exec", "app", "cat", "/cache/kept", "/home/sandbox/kept"]),
        "a\nb"
    );
    assert_eq!(boxes.says(&["volume", "ls", "-q"]).lines().count(), 2);
    boxes.says(&["rm", "-f", "-v", "app"]);
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "");
    // In a sandbox that nobody can start again it is part of the writable layer, in memory.
    let kind = "cat /cache/file; while read -r a at kind rest; do test $at = /cache && echo $kind; done </proc/mounts; true";
    assert_eq!(run(&["--rm"], kind), "of the image\noverlay");
    assert_eq!(boxes.says(&["volume", "ls", "-q"]), "");
}
