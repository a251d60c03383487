//! `load`, `save`: images on their way between machines.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::place::image;
use crate::rig::{describe, end, entries, feed, text};
use crate::shelf::{Shelf, says};

#[test]
fn an_archive_of_each_kind_is_loaded_and_runs_under_its_name() {
    for (archive, name) in [
        ("busybox.docker-archive.tar", ""),
        ("busybox.oci-archive.tar", "given"),
    ] {
        let shelf = Shelf::new();
        let path = image(archive).display().to_string();
        let said = match name {
            "" => shelf.ok(&["load", "-i", &path]),
            name => shelf.ok(&["load", "-i", &path, name]),
        };
        let loaded = said
            .strip_prefix("Loaded image: ")
            .unwrap_or_else(|| panic!("{said}"));
        shelf.runs(loaded.trim(), &["sh", "-c", "echo ran"], "ran\n");
        if !name.is_empty() {
            assert_eq!(loaded, "given:latest\n");
        }
    }
}

#[test]
fn loading_from_standard_input_works_from_a_pipe_and_from_a_file_packed_or_not() {
    let archive = image("busybox.docker-archive.tar");
    let bytes = fs::read(&archive).unwrap();
    let shelf = Shelf::new();
    let output = feed(shelf.command(&["load"]), bytes);
    assert!(output.status.success(), "{}", describe(&output));
    let loaded = text(&output.stdout);
    let mut command = shelf.command(&["load", "-q"]);
    command.stdin(Stdio::from(fs::File::open(&archive).unwrap()));
    assert_eq!(text(&end(command.spawn().unwrap()).stdout), loaded);
    let packed = shelf.rig.path("packed.tar.gz");
    let gzip = std::process::Command::new("gzip")
        .arg("-c")
        .arg(&archive)
        .stdout(fs::File::create(&packed).unwrap())
        .status()
        .unwrap();
    assert!(gzip.success());
    assert_eq!(
        shelf.ok(&["load", "-i", &packed.display().to_string()]),
        loaded
    );
}

#[test]
fn what_is_saved_is_loaded_again_with_its_names_and_the_same_id() {
    let shelf = Shelf::new();
    shelf.add("one", &says("1"));
    shelf.add("reg.example:5000/me/two:2", &says("2"));
    for form in ["docker-archive", "oci-archive"] {
        let file = shelf.rig.path(form).display().to_string();
        shelf.ok(&[
            "save",
            "--format",
            form,
            "-o",
            &file,
            "one",
            "reg.example:5000/me/two:2",
        ]);
        let other = Shelf::new();
        assert_eq!(
            other.ok(&["load", "-i", &file]),
            "Loaded image: one:latest\nLoaded image: reg.example:5000/me/two:2\n"
        );
        for name in ["one", "reg.example:5000/me/two:2"] {
            assert_eq!(other.id(name), shelf.id(name));
            other.runs(name, &["echo", "ran"], "ran\n");
        }
        // The manifests too are the same, bit for bit.
        let digests = |shelf: &Shelf| -> Vec<Value> {
            let index = shelf.index();
            let all = index["manifests"].as_array().unwrap();
            all.iter().map(|entry| entry["digest"].clone()).collect()
        };
        assert_eq!(digests(&other), digests(&shelf));
    }
}

#[test]
fn a_saved_image_runs_from_the_archive_by_either_of_its_descriptions() {
    let shelf = Shelf::with("app", &says("x"));
    let file = shelf.rig.path("app.tar").display().to_string();
    let output = end(shelf.command(&["save", "app"]).spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    fs::write(&file, &output.stdout).unwrap();
    let other = Shelf::new();
    other.runs(
        &format!("docker-archive:{file}:app"),
        &["echo", "ran"],
        "ran\n",
    );
    other.runs(&format!("oci-archive:{file}"), &["echo", "ran"], "ran\n");
    // The same image makes the same archive.
    let again = shelf.rig.path("again.tar").display().to_string();
    shelf.ok(&["save", "-o", &again, "app"]);
    assert_eq!(fs::read(&again).unwrap(), output.stdout);
}

#[test]
fn an_image_saved_by_id_has_no_name() {
    let shelf = Shelf::with("app", &says("x"));
    let file = shelf.rig.path("app.tar").display().to_string();
    let id = shelf.id("app");
    shelf.ok(&["save", "-o", &file, &id]);
    let other = Shelf::new();
    assert_eq!(
        other.ok(&["load", "-i", &file]),
        format!("Loaded image ID: {id}\n")
    );
    assert_eq!(
        other.ok(&["images", "--format", "{{.Repository}}"]),
        "<none>\n"
    );
    other.runs(&id, &["echo", "ran"], "ran\n");
}

#[test]
fn a_save_that_fails_leaves_no_file() {
    let shelf = Shelf::with("app", &says("x"));
    let directory = shelf.rig.path("out");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("app.tar").display().to_string();
    shelf.refused(&["save", "-o", &file, "missing"], &["no such image"]);
    // A layer that has rotten away.
    let layer = crate::layout::layer_blob(&shelf.rig.path("store/images"));
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    shelf.refused(&["save", "-o", &file, "app"], &["expected sha256"]);
    assert_eq!(entries(&directory), Vec::<String>::new());
}

#[test]
fn what_is_no_archive_of_images_is_refused_and_nothing_of_it_stays() {
    let shelf = Shelf::new();
    let file = shelf.rig.path("x.tar").display().to_string();
    fs::write(&file, "this is no archive").unwrap();
    shelf.refused(&["load", "-i", &file], &["x.tar"]);
    shelf.refused(&["load", "-i", "/nowhere/x.tar"], &["/nowhere/x.tar"]);
    let directory = shelf.rig.path("image").display().to_string();
    shelf.refused(&["load", "-i", &directory], &["is a directory", "oci:"]);
    assert!(shelf.blobs().is_empty() && shelf.layers().is_empty());
    assert_eq!(shelf.ok(&["images", "-q"]), "");
}

#[test]
fn an_archive_that_is_cut_off_names_nothing() {
    let shelf = Shelf::with("app", &says("x"));
    let file = shelf.rig.path("app.tar");
    shelf.ok(&["save", "-o", &file.display().to_string(), "app"]);
    let bytes = fs::read(&file).unwrap();
    for keep in [bytes.len() / 3, bytes.len() * 2 / 3] {
        fs::write(&file, &bytes[..keep]).unwrap();
        let other = Shelf::new();
        other.refused(&["load", "-i", &file.display().to_string()], &["error: "]);
        assert_eq!(other.ok(&["images", "-q"]), "");
        assert!(other.layers().is_empty());
    }
}

#[test]
fn loaders_of_the_same_image_at_the_same_time_agree_on_one_copy() {
    let shelf = Shelf::new();
    let archive = image("busybox.docker-archive.tar").display().to_string();
    let loads: Vec<_> = (0..6)
        .map(|i| {
            let name = format!("app:{i}");
            shelf
                .command(&["load", "-i", &archive, &name])
                .spawn()
                .unwrap()
        })
        .collect();
    for load in loads {
        let output = end(load);
        assert!(output.status.success(), "{}", describe(&output));
    }
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 6);
    assert_eq!(shelf.layers().len(), 1);
    assert!(entries(&shelf.rig.path("store/partial")).is_empty());
}
