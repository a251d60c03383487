//! `rmi`, `image prune`: what goes, and what others still need.

use crate::place::on;
use crate::rig::{describe, end, started, text};
use crate::shelf::{Shelf, says};

#[test]
fn the_last_name_takes_the_image_with_it() {
    let shelf = Shelf::with("app", &says("x"));
    shelf.runs("app", &["echo", "ran"], "ran\n");
    shelf.ok(&["tag", "app", "app:second"]);
    let id = shelf.id("app:second");
    assert_eq!(shelf.ok(&["rmi", "app"]), "Untagged: app:latest\n");
    shelf.runs("app:second", &["echo", "ran"], "ran\n");
    let said = shelf.ok(&["rmi", "app:second"]);
    assert!(
        said.starts_with(&format!("Untagged: app:second\nDeleted: {id}\n")),
        "{said}"
    );
    assert_eq!(shelf.blobs(), Vec::<String>::new());
    assert_eq!(shelf.layers(), Vec::<String>::new());
    let output = end(on(&shelf.rig, &["--rm"], "app", &["echo"]).spawn().unwrap());
    assert_eq!(output.status.code(), Some(125), "{}", describe(&output));
}

#[test]
fn a_sandbox_names_its_image_by_the_id_that_images_lists() {
    let shelf = Shelf::with("app", &says("x"));
    let id = shelf.id("app");
    let made = shelf.ok(&["create", "--name", "box", "app", "true"]);
    assert_eq!(
        shelf.ok(&["inspect", "-f", "{{.Image}}", "box"]),
        format!("{id}\n")
    );
    let short = shelf.ok(&["images", "-q", "app"]);
    for name in [
        "app",
        "app:latest",
        "docker.io/library/app",
        short.trim(),
        &id,
    ] {
        let filter = format!("ancestor={name}");
        let found = shelf.ok(&["ps", "-aq", "--no-trunc", "-f", &filter]);
        assert_eq!(found, made, "{name}");
    }
    assert_eq!(shelf.ok(&["ps", "-aq", "-f", "ancestor=app:1"]), "");
    shelf.ok(&["rm", "box"]);
}

#[test]
fn what_another_image_has_too_stays() {
    let shelf = Shelf::new();
    shelf.add("one", &says("1"));
    shelf.add("two", &says("2"));
    assert_eq!(shelf.layers().len(), 1);
    shelf.ok(&["rmi", "one"]);
    assert_eq!(shelf.layers().len(), 1);
    assert_eq!(shelf.blobs().len(), 3);
    shelf.runs("two", &["echo", "ran"], "ran\n");
}

#[test]
fn an_id_with_names_in_several_repositories_needs_force() {
    let shelf = Shelf::with("app", &says("x"));
    shelf.ok(&["tag", "app", "other/app"]);
    let id = shelf.id("app");
    shelf.refused(&["rmi", &id], &["several repositories", "rmi -f"]);
    let said = shelf.ok(&["rmi", "-f", &id]);
    assert_eq!(
        said.lines().filter(|l| l.starts_with("Untagged")).count(),
        2,
        "{said}"
    );
    assert!(shelf.blobs().is_empty());
}

#[test]
fn what_is_not_there_is_said_and_with_force_no_failure() {
    let shelf = Shelf::new();
    shelf.refused(&["rmi", "missing"], &["no such image: missing"]);
    let output = shelf.run(&["rmi", "-f", "missing"]);
    assert!(output.status.success(), "{}", describe(&output));
}

#[test]
fn a_running_sandbox_keeps_its_layers() {
    let shelf = Shelf::with("app", &says("x"));
    let script = "echo ready && cat >/dev/null && ls /bin/busybox";
    let mut command = on(&shelf.rig, &["--rm", "-i"], "app", &["sh", "-c", script]);
    let mut child = started(command.stdin(std::process::Stdio::piped()));
    shelf.refused(&["rmi", "app"], &["in use", "rmi -f"]);
    shelf.ok(&["image", "prune", "-af"]);
    shelf.ok(&["rmi", "-f", "app"]);
    assert_eq!(shelf.layers().len(), 1);
    assert!(shelf.blobs().is_empty());
    drop(child.stdin.take());
    let output = end(child);
    assert_eq!(
        text(&output.stdout),
        "/bin/busybox\n",
        "{}",
        describe(&output)
    );
    // Nobody runs on it any more.
    shelf.ok(&["image", "prune", "-f"]);
    assert!(shelf.layers().is_empty());
}

#[test]
fn prune_takes_what_has_no_name_and_with_all_what_nobody_uses() {
    let shelf = Shelf::with("app", &says("old"));
    shelf.put("etc/new", "new");
    shelf.add("app", &says("new"));
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 2);
    assert_eq!(
        shelf
            .ok(&["images", "-q", "-f", "dangling=true"])
            .lines()
            .count(),
        1
    );
    let said = shelf.ok(&["image", "prune", "-f"]);
    assert!(
        said.starts_with("Deleted Images:\ndeleted: sha256:"),
        "{said}"
    );
    assert!(said.contains("Total reclaimed space: "), "{said}");
    assert!(!said.ends_with("space: 0B\n"), "{said}");
    assert_eq!(shelf.layers().len(), 1);
    shelf.runs("app", &["cat", "/etc/new"], "new");
    let said = shelf.ok(&["image", "prune", "-f"]);
    assert_eq!(said, "Total reclaimed space: 0B\n");
    let said = shelf.ok(&["image", "prune", "-a", "-f"]);
    assert!(said.contains("untagged: app:latest"), "{said}");
    assert!(shelf.blobs().is_empty() && shelf.layers().is_empty());
}

#[test]
fn prune_asks_first_and_without_a_terminal_it_does_nothing() {
    let shelf = Shelf::with("app", &says("x"));
    shelf.refused(&["image", "prune", "-a"], &["no terminal", "--force"]);
    assert_eq!(shelf.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn filters_keep_what_they_do_not_mean() {
    let shelf = Shelf::new();
    shelf.add("one", &says("1"));
    shelf.put("etc/two", "2");
    shelf.add("two", &says("2"));
    shelf.ok(&["image", "prune", "-af", "--filter", "label=word=1"]);
    assert_eq!(
        shelf.ok(&["images", "--format", "{{.Repository}}"]),
        "two\n"
    );
    shelf.refused(
        &["image", "prune", "-af", "--filter", "label"],
        &["KEY=VALUE"],
    );
}

#[test]
fn layers_of_images_that_lie_elsewhere_go_only_with_all() {
    let shelf = Shelf::new();
    let layout = crate::layout::write(
        &shelf.rig,
        "elsewhere",
        &says("x"),
        crate::layout::Packing::Gzip,
    );
    // A record is made of what is old enough to be known by its times: longer than a tick of the clock that they are from.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let image = format!("oci:{}", layout.display());
    shelf.runs(&image, &["echo", "ran"], "ran\n");
    shelf.runs(&image, &["echo", "ran"], "ran\n");
    shelf.add("named", &says("y"));
    shelf.ok(&["rmi", "named"]);
    shelf.ok(&["image", "prune", "-f"]);
    assert_eq!(shelf.layers().len(), 1);
    shelf.ok(&["image", "prune", "-a", "-f"]);
    assert!(shelf.layers().is_empty());
    shelf.runs(&image, &["echo", "ran"], "ran\n");
}
