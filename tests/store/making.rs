//! `import`, `export`, `commit`, `manifest`: images that are made here.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::layout::{self, Packing};
use crate::place::{image, on};
use crate::rig::{Rig, describe, end, feed, text};
use crate::shelf::{Shelf, says};

/// A tar archive of the rig's root directory.
fn packed(rig: &Rig, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--numeric-owner", "--owner=0", "--group=0"])
        .args(options)
        .arg("--directory")
        .arg(rig.path("image"))
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// What an archive holds, by tar's own reading.
fn listing(archive: &[u8], options: &[&str]) -> String {
    let mut tar = Command::new("tar");
    tar.args(["--list", "--file=-"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = feed(tar, archive.to_vec());
    assert!(output.status.success(), "{}", describe(&output));
    text(&output.stdout)
}

#[test]
fn an_archive_of_a_root_directory_becomes_an_image_packed_or_not() {
    for (options, name) in [
        (&[][..], "plain"),
        (&["--gzip"], "gzip"),
        (&["--zstd"], "zstd"),
    ] {
        let shelf = Shelf::new();
        let archive = packed(&shelf.rig, options);
        let arguments = [
            "import",
            "-c",
            "CMD [\"echo\", \"imported\"]",
            "--change",
            "ENV A=b",
            "-m",
            "by hand",
            "-",
            name,
        ];
        let output = feed(shelf.command(&arguments), archive.clone());
        assert!(output.status.success(), "{}", describe(&output));
        assert_eq!(text(&output.stdout).trim(), shelf.id(name));
        shelf.runs(name, &[], "imported\n");
        shelf.runs(name, &["sh", "-c", "echo $A"], "b\n");
        let said = shelf.ok(&["history", "--format", "{{.Comment}}", name]);
        assert_eq!(said, "by hand\n");
        let file = shelf.rig.path("root.tar");
        fs::write(&file, archive).unwrap();
        let id = shelf.ok(&["import", &file.display().to_string()]);
        shelf.runs(id.trim(), &["echo", "ran"], "ran\n");
    }
}

#[test]
fn what_cannot_be_imported_is_refused_and_leaves_no_image() {
    let shelf = Shelf::new();
    let output = feed(
        shelf.command(&["import", "-", "x"]),
        b"no archive".repeat(100),
    );
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let archive = packed(&shelf.rig, &["--bzip2"]);
    let output = feed(shelf.command(&["import", "-", "x"]), archive);
    assert!(
        text(&output.stderr).contains("bzip2"),
        "{}",
        describe(&output)
    );
    shelf.refused(&["import", "-c", "RUN x", "/dev/null", "x"], &["RUN x"]);
    shelf.refused(&["import", "https://example.com/x.tar", "x"], &["curl"]);
    assert_eq!(shelf.ok(&["images", "-q"]), "");
    assert!(shelf.layers().is_empty());
}

#[test]
fn an_image_is_exported_as_its_layers_show_it() {
    let shelf = Shelf::new();
    let archive = image("busybox.oci-archive.tar");
    shelf.ok(&[
        "load",
        "-i",
        &format!("oci-archive:{}", archive.display()),
        "small",
    ]);
    let exported = end(shelf.command(&["export", "small"]).spawn().unwrap());
    assert!(exported.status.success(), "{}", describe(&exported));
    let inside = "cd / && find . -xdev | sed 's,^\\./,,' | grep -v '^\\.$' | grep -Ev '^(proc|sys|dev|run|tmp|home/|etc/(hosts|hostname|resolv.conf|mtab)|\\.palisade)' | sort";
    let output = end(on(
        &shelf.rig,
        &["--rm", "--user=0"],
        "small",
        &["sh", "-c", inside],
    )
    .spawn()
    .unwrap());
    let names = listing(&exported.stdout, &[]);
    let mut names: Vec<&str> = names
        .lines()
        .map(|name| name.trim_end_matches('/'))
        .collect();
    names.sort_unstable();
    let seen = text(&output.stdout);
    assert!(seen.lines().count() > 10, "{}", describe(&output));
    for name in seen.lines() {
        assert!(
            names.binary_search(&name).is_ok(),
            "{name} is missing from the export"
        );
    }
    // And imported again it is the same tree.
    let again = feed(
        shelf.command(&["import", "-", "again"]),
        exported.stdout.clone(),
    );
    assert!(again.status.success(), "{}", describe(&again));
    let second = end(shelf.command(&["export", "again"]).spawn().unwrap());
    let details = ["--verbose", "--numeric-owner", "--full-time"];
    assert_eq!(
        listing(&second.stdout, &details),
        listing(&exported.stdout, &details)
    );
}

#[test]
fn what_a_sandbox_changed_becomes_a_layer() {
    let shelf = Shelf::with("app", &says("old"));
    let script = "echo new >/etc/new && rm /bin/lost-script && rm -r /workspace && mkdir -p /opt/d && \
                  ln -s ../../etc/new /opt/d/link && chmod 775 /opt/d && mkdir /workspace && echo in >/workspace/fresh";
    let options = ["--name=box", "--read-only=false", "--user=0", "-d"];
    let output = end(on(&shelf.rig, &options, "app", &["sh", "-c", script])
        .spawn()
        .unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(shelf.ok(&["wait", "box"]), "0\n");
    let id = shelf.ok(&[
        "commit",
        "-m",
        "changed",
        "-a",
        "me",
        "-c",
        "CMD [\"cat\", \"/etc/new\"]",
        "box",
        "app:2",
    ]);
    assert_eq!(id.trim(), shelf.id("app:2"));
    shelf.runs("app:2", &[], "new\n");
    let look = "cat /opt/d/link /workspace/*; ls /bin/lost-script 2>&1 | grep -c such; ls -ld /opt/d | head -c 10";
    shelf.runs("app:2", &["sh", "-c", look], "new\nin\n1\ndrwxrwxr-x");
    shelf.runs(
        "app",
        &["sh", "-c", "ls /bin/lost-script"],
        "/bin/lost-script\n",
    );
    let steps = shelf.ok(&["history", "--format", "{{.Comment}}", "app:2"]);
    assert_eq!(steps, "changed\n\n");
    let layers = shelf.ok(&[
        "image",
        "inspect",
        "-f",
        "{{len .RootFS.Layers}} {{.Author}}",
        "app:2",
    ]);
    assert_eq!(layers, "2 me\n");
    // The sandbox itself as an archive has it all too, and not what was removed.
    let exported = end(shelf.command(&["export", "box"]).spawn().unwrap());
    let names = listing(&exported.stdout, &[]);
    assert!(names.lines().any(|name| name == "opt/d/link"), "{names}");
    assert!(!names.contains("lost-script"), "{names}");
    assert!(!names.contains(".wh."), "{names}");
}

#[test]
fn a_layer_has_nothing_of_the_sandboxs_own_names_and_accounts() {
    let shelf = Shelf::with("app", &says("old"));
    let scripts = [
        (
            "plain",
            "echo 127.0.0.1 other >>/etc/hosts; echo new >/etc/new",
            false,
        ),
        ("grown", "echo 'new:x:5:5::/:/bin/sh' >>/etc/passwd", true),
    ];
    for (name, script, accounts) in scripts {
        let option = format!("--name={name}");
        let options = [&option, "--read-only=false", "--user=0", "-d"];
        let output = end(on(&shelf.rig, &options, "app", &["sh", "-c", script])
            .spawn()
            .unwrap());
        assert!(output.status.success(), "{}", describe(&output));
        assert_eq!(shelf.ok(&["wait", name]), "0\n");
        shelf.ok(&["commit", name, &format!("made:{name}")]);
        let exported = end(shelf
            .command(&["export", &format!("made:{name}")])
            .spawn()
            .unwrap());
        let content = listing(&exported.stdout, &[]);
        let has = |path: &str| content.lines().any(|line| line == path);
        for own in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            assert!(!has(own), "{own}: {content}");
        }
        assert_eq!(has("etc/passwd"), accounts, "{content}");
        assert_eq!(has("etc/new"), !accounts, "{content}");
    }
}

#[test]
fn a_sandbox_on_record_keeps_its_image() {
    let shelf = Shelf::with("app", &says("x"));
    let options = ["--name=box", "--read-only=false", "-d"];
    let output = end(on(&shelf.rig, &options, "app", &["true"]).spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    shelf.ok(&["wait", "box"]);
    shelf.refused(&["rmi", "app"], &["in use by sandbox box"]);
    shelf.ok(&["image", "prune", "-af"]);
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 1);
    shelf.ok(&["rmi", "-f", "app"]);
    assert_eq!(shelf.layers().len(), 1);
    shelf.refused(&["commit", "box", "x"], &["not in the store"]);
    shelf.ok(&["rm", "box"]);
    shelf.ok(&["image", "prune", "-f"]);
    assert!(shelf.layers().is_empty());
}

#[test]
fn a_sandbox_of_an_image_outside_of_the_store_is_committed_with_that_images_layers() {
    let shelf = Shelf::new();
    let layout = layout::write(&shelf.rig, "elsewhere", &says("kept"), Packing::Gzip);
    let image = format!("oci:{}", layout.display());
    let options = ["--name=box", "--read-only=false", "--user=0", "-d"];
    let script = ["sh", "-c", "echo new >/etc/new && rm /bin/lost-script"];
    let output = end(on(&shelf.rig, &options, &image, &script).spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(shelf.ok(&["wait", "box"]), "0\n");
    shelf.ok(&["commit", "box", "made:1"]);
    shelf.runs("made:1", &[], "kept\n");
    shelf.runs("made:1", &["cat", "/etc/new"], "new\n");
    shelf.runs(
        "made:1",
        &["sh", "-c", "test -e /bin/lost-script || echo gone"],
        "gone\n",
    );
    let layers = ["image", "inspect", "-f", "{{len .RootFS.Layers}}", "made:1"];
    assert_eq!(shelf.ok(&layers), "2\n");
}

#[test]
fn a_layout_that_is_committed_upon_takes_no_name_and_is_found_from_anywhere() {
    let shelf = Shelf::with("debian:12", &says("mine"));
    let mine = shelf.id("debian:12");
    let layout = layout::write(&shelf.rig, "elsewhere", &says("theirs"), Packing::Gzip);
    let index = layout.join("index.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    text["manifests"][0]["annotations"] =
        json!({"io.containerd.image.name": "docker.io/library/debian:12"});
    fs::write(&index, text.to_string()).unwrap();
    let options = ["--name=box", "--read-only=false", "-d"];
    let mut run = on(&shelf.rig, &options, "oci:elsewhere", &["true"]);
    run.current_dir(layout.parent().unwrap());
    let output = end(run.spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    shelf.ok(&["wait", "box"]);
    let mut commit = shelf.command(&["commit", "box", "made:1"]);
    let output = end(commit.current_dir("/").spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    shelf.runs("made:1", &[], "theirs\n");
    assert_eq!(shelf.id("debian:12"), mine);
}

#[test]
fn a_sandbox_of_a_prepared_directory_is_committed_as_one_layer() {
    let shelf = Shelf::new();
    let image = format!("dir:{}", shelf.rig.path("image").display());
    let options = ["--name=box", "--read-only=false", "--user=0", "-d"];
    let script = ["sh", "-c", "echo new >/etc/new && rm /bin/lost-script"];
    let output = end(on(&shelf.rig, &options, &image, &script).spawn().unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(shelf.ok(&["wait", "box"]), "0\n");
    shelf.ok(&[
        "commit",
        "-c",
        "CMD [\"cat\", \"/etc/new\"]",
        "box",
        "made:1",
    ]);
    shelf.runs("made:1", &[], "new\n");
    shelf.runs(
        "made:1",
        &["sh", "-c", "test -e /bin/lost-script || echo gone"],
        "gone\n",
    );
    let layers = ["image", "inspect", "-f", "{{len .RootFS.Layers}}", "made:1"];
    assert_eq!(shelf.ok(&layers), "1\n");
    assert!(shelf.rig.path("image/bin/lost-script").exists());
}

#[test]
fn what_was_written_in_memory_cannot_be_committed() {
    let shelf = Shelf::with("app", &says("x"));
    let output = end(on(&shelf.rig, &["--name=box", "-d"], "app", &["true"])
        .spawn()
        .unwrap());
    assert!(output.status.success(), "{}", describe(&output));
    shelf.ok(&["wait", "box"]);
    shelf.refused(&["commit", "box", "x"], &["in memory", "--read-only=false"]);
    shelf.refused(&["commit", "nobody", "x"], &["nobody"]);
}

#[test]
fn one_name_stands_for_the_image_of_each_platform() {
    let shelf = Shelf::with("native", &says("native"));
    // The same files, said to be for another processor.
    let archive = packed(&shelf.rig, &[]);
    let output = feed(
        shelf.command(&[
            "import",
            "--platform",
            "linux/s390x",
            "-c",
            "CMD [\"x\"]",
            "-",
            "other",
        ]),
        archive,
    );
    assert!(output.status.success(), "{}", describe(&output));
    shelf.ok(&["manifest", "create", "all", "native", "other"]);
    shelf.refused(
        &["manifest", "create", "all", "native"],
        &["there already", "--amend"],
    );
    let shown: Value = serde_json::from_str(&shelf.ok(&["manifest", "inspect", "all"])).unwrap();
    let platforms: Vec<&Value> = shown["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(platforms.len(), 2);
    assert!(platforms.contains(&&json!("s390x")));
    shelf.runs("all", &["echo", "ran"], "ran\n");
    shelf.ok(&["manifest", "add", "all", "native"]);
    let inspected = shelf.ok(&[
        "image",
        "inspect",
        "--platform",
        "linux/s390x",
        "-f",
        "{{.Architecture}}",
        "all",
    ]);
    assert_eq!(inspected, "s390x\n");
    // The list alone keeps both.
    shelf.ok(&["rmi", "native"]);
    shelf.ok(&["rmi", "other"]);
    shelf.ok(&["image", "prune", "-f"]);
    shelf.runs("all", &["echo", "ran"], "ran\n");
    assert_eq!(shelf.ok(&["store", "check"]).lines().count(), 1);
    let output = end(on(
        &shelf.rig,
        &["--rm", "--platform=linux/riscv64"],
        "all",
        &["x"],
    )
    .spawn()
    .unwrap());
    assert!(
        text(&output.stderr).contains("linux/s390x"),
        "{}",
        describe(&output)
    );
}

#[test]
fn a_list_is_changed_in_place_and_goes_without_its_images() {
    let shelf = Shelf::with("native", &says("native"));
    let archive = packed(&shelf.rig, &[]);
    let import = ["import", "--platform", "linux/arm64", "-", "other"];
    let output = feed(shelf.command(&import), archive);
    assert!(output.status.success(), "{}", describe(&output));
    shelf.ok(&["manifest", "create", "all", "native"]);
    shelf.ok(&[
        "manifest",
        "add",
        "all",
        "other",
        "--arch",
        "arm",
        "--variant",
        "v7",
    ]);
    shelf.ok(&[
        "manifest",
        "annotate",
        "all",
        "native",
        "--annotation",
        "built=here",
    ]);
    let members = || -> Vec<Value> {
        let shown = shelf.ok(&["manifest", "inspect", "all"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["manifests"].as_array().unwrap().clone()
    };
    let all = members();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["annotations"], json!({"built": "here"}));
    assert_eq!(
        all[1]["platform"],
        json!({"os": "linux", "architecture": "arm", "variant": "v7"})
    );
    // What the list was before is not kept as an image without a name.
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 3);
    shelf.ok(&[
        "manifest",
        "remove",
        "all",
        all[1]["digest"].as_str().unwrap(),
    ]);
    assert_eq!(members().len(), 1);
    shelf.refused(
        &["manifest", "remove", "all", "other"],
        &["not in the list"],
    );
    shelf.refused(
        &["manifest", "annotate", "all", "native", "--arch", "a b"],
        &["linux/amd64"],
    );
    // An id is no name to take away; it is said before anything is sent.
    let index = shelf.index();
    let entries = index["manifests"].as_array().unwrap();
    let list = entries
        .iter()
        .find(|entry| entry["mediaType"].as_str().unwrap().contains("index"))
        .unwrap();
    let id = list["digest"].as_str().unwrap();
    shelf.refused(
        &["manifest", "push", "--purge", id, "localhost:1/all"],
        &["is not the name of an image"],
    );
    shelf.ok(&["manifest", "rm", "all"]);
    assert_eq!(shelf.ok(&["images", "-q", "all"]), "");
    shelf.runs("native", &["echo", "ran"], "ran\n");
    assert_eq!(shelf.ok(&["store", "check"]).lines().count(), 1);
}
