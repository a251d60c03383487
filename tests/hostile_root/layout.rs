//! OCI layouts whose layers and configuration lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Rig, assert_ran, assert_ran_or_refused, assert_refused, describe, text};

/// Makes an image of the rig's root directory with `config` as its runtime configuration.
fn image(rig: &Rig, config: &Value) -> String {
    let layout = rig.path("layout");
    let _ = fs::remove_dir_all(&layout);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let packed = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
        .arg(layout.join("layer"))
        .arg("-C")
        .arg(rig.image(""))
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success());
    let put = |content: Vec<u8>| {
        let file = layout.join("blob");
        fs::write(&file, &content).unwrap();
        let said = Command::new("sha256sum")
            .arg(&file)
            .output()
            .unwrap()
            .stdout;
        let digest = text(&said[..64]);
        fs::rename(&file, blobs.join(&digest)).unwrap();
        (format!("sha256:{digest}"), content.len())
    };
    let layer = fs::read(layout.join("layer")).unwrap();
    fs::remove_file(layout.join("layer")).unwrap();
    let (layer, layer_size) = put(layer);
    let document = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer]}
    });
    let (config, config_size) = put(document.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size}]
    });
    let (manifest, manifest_size) = put(manifest.to_string().into_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
            "annotations": {"org.opencontainers.image.ref.name": "hostile"}
        }]
    });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    format!("oci:{}:hostile", layout.display())
}

fn run(rig: &Rig, config: &Value, script: &str) -> std::process::Output {
    rig.run_image(&[], &image(rig, config), &["sh", "-c", script])
}

#[test]
fn an_ordinary_layout_runs() {
    let rig = Rig::new();
    assert_ran(&run(&rig, &json!({}), "echo ran"));
}

#[test]
fn directories_of_a_layer_that_are_links_lead_nowhere_outside() {
    for name in ["dev", "etc", "home", "proc", "run", "sys", "tmp"] {
        for target in ["../../../..", "/proc/self/root", "/missing", name] {
            let rig = Rig::new();
            symlink(target, rig.image(name)).unwrap();
            let script = format!("echo ran; ls /{name}; echo made >/{name}/made; true");
            assert_ran_or_refused(&run(&rig, &json!({}), &script));
        }
        let rig = Rig::new();
        symlink(rig.canary(), rig.image(name)).unwrap();
        let script = format!("echo ran; cat /{name}/secret; echo made >/{name}/made; true");
        assert_ran_or_refused(&run(&rig, &json!({}), &script));
    }
}

#[test]
fn a_working_directory_of_the_image_is_inside_or_refused() {
    let rig = Rig::new();
    for directory in [
        "/proc/self/fd/7",
        "/proc/self/fd/9",
        "../../..",
        "relative",
        "/bin/sh",
        "/a\nb",
        "/\0",
    ] {
        let output = run(
            &rig,
            &json!({"WorkingDir": directory}),
            "echo ran; pwd; ls ..",
        );
        assert_ran_or_refused(&output);
        assert!(
            !text(&output.stdout).contains("canary"),
            "{}",
            describe(&output)
        );
    }
    assert_refused(&run(
        &rig,
        &json!({"WorkingDir": "/proc/self/fd/7"}),
        "echo ran",
    ));
}

#[test]
fn a_user_of_the_image_that_is_none_is_refused() {
    let rig = Rig::new();
    for user in [
        "nobody-here",
        "-1",
        "4294967295",
        "4294967296",
        "0x0",
        "1000:1000:0",
        ":",
        "a b",
        "\n0",
        "1000 ",
    ] {
        assert_refused(&run(&rig, &json!({"User": user}), "echo ran"));
    }
}

#[test]
fn an_environment_of_the_image_does_not_steer_palisade() {
    let rig = Rig::new();
    let environment = json!([
        "PALISADE_ROOT=/elsewhere",
        "LD_PRELOAD=/bin/sh",
        "HOME=/proc/self/root",
        "PATH=/bin",
        "XDG_DATA_HOME=/elsewhere"
    ]);
    assert_ran(&run(&rig, &json!({"Env": environment}), "echo ran"));
    for entry in ["=value", "no-equals-sign", "A\0=b", ""] {
        assert_ran_or_refused(&run(
            &rig,
            &json!({"Env": [entry, "PATH=/bin"]}),
            "echo ran",
        ));
    }
}

#[test]
fn volumes_and_labels_of_the_image_steer_no_mount() {
    let rig = Rig::new();
    let canary = rig.canary().display().to_string();
    let config = json!({
        "Volumes": {"/proc": {}, "/..": {}, "../../x": {}, canary: {}},
        "Labels": {"run.oci.hooks.stdout": "/tmp/x", "io.katacontainers.config": "x"}
    });
    let output = run(&rig, &config, "echo ran; cat /proc/kallsyms; ls /..");
    assert_ran_or_refused(&output);
    assert!(
        !text(&output.stdout).contains("canary"),
        "{}",
        describe(&output)
    );
}
