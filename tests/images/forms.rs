//! Every form in which an image lies on disk.

use serde_json::json;

use crate::layout::{self, Packing};
use crate::place::{image, on};
use crate::remains::{assert_nothing_remains, watched};
use crate::rig::{Rig, assert_code, describe, end, text};

#[track_caller]
fn runs(rig: &Rig, image: &str) {
    let command = on(
        rig,
        &["--rm"],
        image,
        &["sh", "-c", "echo from $0 && id -u", "inside"],
    );
    let output = end(watched(rig, command).spawn().unwrap());
    assert_eq!(
        text(&output.stdout),
        "from inside\n1000\n",
        "{image}: {}",
        describe(&output)
    );
    assert_code(&output, 0);
    assert_nothing_remains(rig, "");
}

#[test]
fn an_image_layout_runs_with_its_tag_and_without() {
    let rig = Rig::new();
    let layout = image("busybox.oci").display().to_string();
    runs(&rig, &format!("oci:{layout}"));
    runs(&rig, &format!("oci:{layout}:latest"));
}

#[test]
fn an_image_layout_with_zstd_layers_runs() {
    runs(
        &Rig::new(),
        &format!("oci:{}", image("busybox.oci-zstd").display()),
    );
}

#[test]
fn an_archive_of_a_layout_runs() {
    runs(
        &Rig::new(),
        &format!("oci-archive:{}", image("busybox.oci-archive.tar").display()),
    );
}

#[test]
fn an_archive_of_dockers_runs() {
    runs(
        &Rig::new(),
        &format!(
            "docker-archive:{}",
            image("busybox.docker-archive.tar").display()
        ),
    );
}

#[test]
fn a_directory_runs_without_being_copied() {
    let rig = Rig::new();
    runs(&rig, &format!("dir:{}", rig.path("image").display()));
    assert!(crate::rig::entries(&rig.path("store/layers")).is_empty());
}

#[test]
fn this_machine_runs_and_shows_nothing_of_its_users() {
    let rig = Rig::new();
    runs(&rig, "host");
    let script = "for place in /home /root /var /run /etc/shadow /etc/ssh; do ls -A $place 2>/dev/null; done; \
                  touch /usr/new 2>/dev/null && echo written; cat /etc/hostname";
    let command = on(
        &rig,
        &["--rm", "--hostname", "inside"],
        "host",
        &["bash", "-c", script],
    );
    let output = end(watched(&rig, command).spawn().unwrap());
    let said = text(&output.stdout);
    let seen: Vec<&str> = said.lines().collect();
    // The sandbox's own home and host name.
    assert_eq!(seen, ["sandbox", "inside"], "{}", describe(&output));
}

#[test]
fn a_relative_path_is_relative_to_where_the_caller_is() {
    let rig = Rig::new();
    layout::write(&rig, "own.oci", &json!({}), Packing::Tar);
    for image in [
        "oci:own.oci",
        "oci:./own.oci",
        "dir:image",
        "dir:./image",
        "dir:image/../image",
    ] {
        let mut command = on(&rig, &["--rm"], image, &["echo", "ran"]);
        command.current_dir(rig.path("."));
        let output = end(command.spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            "ran\n",
            "{image}: {}",
            describe(&output)
        );
    }
}

#[test]
fn layers_run_however_they_are_packed() {
    for packing in [Packing::Tar, Packing::Gzip, Packing::Zstd] {
        let rig = Rig::new();
        let layout = layout::write(&rig, "own.oci", &json!({}), packing);
        runs(&rig, &format!("oci:{}", layout.display()));
    }
}
