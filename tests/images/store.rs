//! The store: each layer once, read once.

use std::fs;

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::{image, on};
use crate::rig::{Rig, assert_code, describe, end, entries, text};

/// Names of the unpacked layers.
fn layers(rig: &Rig) -> Vec<String> {
    ["layers", "layers-kept"]
        .iter()
        .flat_map(|place| entries(&rig.path("store").join(place)))
        .filter(|name| name.len() == 64)
        .collect()
}

#[test]
fn a_second_run_reads_no_layer() {
    let rig = Rig::new();
    let layout = layout::write(&rig, "own.oci", &json!({}), Packing::Gzip);
    let image = format!("oci:{}", layout.display());
    let run = |options: &[&str]| end(on(&rig, options, &image, &["echo", "ran"]).spawn().unwrap());
    assert_eq!(text(&run(&["--rm"]).stdout), "ran\n");
    fs::remove_file(layout::layer_blob(&layout)).unwrap();
    let output = run(&["--rm"]);
    assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    // Elsewhere it would have to be read.
    let other = format!("--root={}", rig.path("other").display());
    assert_code(&run(&["--rm", &other]), 125);
}

#[test]
fn images_share_the_layers_they_have_in_common_however_packed() {
    let rig = Rig::new();
    for (name, packing) in [
        ("a", Packing::Tar),
        ("b", Packing::Gzip),
        ("c", Packing::Zstd),
    ] {
        let layout = layout::write(
            &rig,
            name,
            &json!({"Env": [format!("NAME={name}")]}),
            packing,
        );
        let image = format!("oci:{}", layout.display());
        let command = ["sh", "-c", "echo $NAME"];
        let output = end(on(&rig, &["--rm"], &image, &command).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            format!("{name}\n"),
            "{}",
            describe(&output)
        );
    }
    assert_eq!(layers(&rig).len(), 1, "{:?}", layers(&rig));
}

#[test]
fn first_runs_at_the_same_time_agree_on_one_copy() {
    let rig = Rig::new();
    let image = format!("oci:{}", image("busybox.oci").display());
    let runs: Vec<_> = (0..8)
        .map(|_| {
            on(&rig, &["--rm"], &image, &["echo", "ran"])
                .spawn()
                .unwrap()
        })
        .collect();
    for run in runs {
        let output = end(run);
        assert_eq!(text(&output.stdout), "ran\n", "{}", describe(&output));
    }
    assert_eq!(layers(&rig).len(), 1, "{:?}", layers(&rig));
}

#[test]
fn a_run_changes_nothing_in_the_store_but_what_it_adds_first() {
    let rig = Rig::new();
    let layout = layout::write(&rig, "own.oci", &json!({}), Packing::Gzip);
    let image = format!("oci:{}", layout.display());
    let options = ["--rm", "--read-only=false", "--user=0"];
    let script = [
        "sh",
        "-c",
        "echo new >/new && rm /bin/lost-script && mkdir /etc/d",
    ];
    let run = || end(on(&rig, &options, &image, &script).spawn().unwrap());
    let listing = || {
        let output = std::process::Command::new("find")
            .arg(rig.path("store"))
            .args(["-printf", "%P %m %U %G %s %T@ %C@\\n"])
            .output()
            .unwrap();
        let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
        // What is remembered of an image is written once its files are old enough to be known by their times.
        lines.retain(|line| line.starts_with("layers"));
        lines.sort();
        lines
    };
    assert_code(&run(), 0);
    let first = listing();
    assert!(
        first.iter().any(|line| line.contains("bin/lost-script")),
        "{first:?}"
    );
    assert_code(&run(), 0);
    let second = listing();
    let changed: Vec<_> = first
        .iter()
        .filter(|line| !second.contains(line))
        .chain(second.iter().filter(|line| !first.contains(line)))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

#[test]
fn a_store_that_others_may_write_to_is_not_used() {
    let rig = Rig::new();
    let store = rig.path("store");
    fs::create_dir(&store).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&store, open).unwrap();
    let image = format!("oci:{}", image("busybox.oci").display());
    let output = end(on(&rig, &["--rm"], &image, &["echo", "ran"])
        .spawn()
        .unwrap());
    assert_code(&output, 125);
    assert!(
        text(&output.stderr).contains("chmod go-w"),
        "{}",
        describe(&output)
    );
    assert!(layers(&rig).is_empty());
}
