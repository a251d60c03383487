//! From a sound registry.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_rootfs::registry::{Event, Progress};
use palisade_rootfs::{Descriptor, Digest, Error, Name, Ownership, Platform, manifest::media_type};
use serde_json::json;

use crate::server::{Server, reply};
use crate::{Packed, Scene, tar};

#[test]
fn an_image_is_ready_to_run_once_it_is_pulled_and_its_blobs_are_kept() {
    let (server, scene) = (Server::new(), Scene::new());
    let image = Packed::new(&[tar("a"), tar("b")]);
    let digest = server.contents().put("app", "1", &image);
    let name = server.name("app:1");
    let pulled = scene.pull(&name).unwrap();
    assert_eq!((pulled.digest, pulled.changed), (digest, true));
    assert_eq!(pulled.id, Digest::of(&image.config));
    for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
        let path = scene
            .path("store/images/blobs/sha256")
            .join(Digest::of(blob).hex());
        assert_eq!(&fs::read(path).unwrap(), blob);
    }
    let found = scene.resolve(&name).unwrap();
    let text = fs::read(found.layers[1].path.join("b")).unwrap();
    assert_eq!(text, "b".repeat(100).as_bytes());
    assert_eq!(found.manifest_digest, Some(digest));
    // By digest, without asking anybody.
    let before = server.requests();
    assert!(
        scene
            .resolve(&format!("{}@{digest}", server.name("app")))
            .is_ok()
    );
    assert_eq!(server.requests(), before);
}

#[test]
fn what_is_here_is_not_fetched_again() {
    let (server, scene) = (Server::new(), Scene::new());
    let image = Packed::new(&[tar("a"), tar("b")]);
    server.contents().put("app", "1", &image);
    scene.pull(&server.name("app:1")).unwrap();
    let fetched = server.log("GET", "/blobs/").len();
    assert_eq!(fetched, 3);
    assert!(!scene.pull(&server.name("app:1")).unwrap().changed);
    // Another image on the same layer.
    let next = Packed::new(&[tar("a"), tar("c")]);
    server.contents().put("app", "1", &next);
    assert!(scene.pull(&server.name("app:1")).unwrap().changed);
    assert_eq!(server.log("GET", "/blobs/").len(), fetched + 2);
}

#[test]
fn of_several_platforms_the_one_asked_for_is_fetched_and_nothing_of_the_others() {
    let (server, scene) = (Server::new(), Scene::new());
    let arm = Platform::parse("linux/arm64").unwrap();
    let other = Platform::parse("linux/s390x").unwrap();
    let images = [
        (Packed::of_platform(&[tar("arm")], &arm), &arm),
        (Packed::of_platform(&[tar("other")], &other), &other),
    ];
    let manifests: Vec<_> = images
        .iter()
        .map(|(image, platform)| {
            server.contents().put("app", &platform.architecture, image);
            let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest);
            descriptor.platform = Some((*platform).clone());
            descriptor
        })
        .collect();
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    let digest = server
        .contents()
        .document("app", "1", media_type::OCI_INDEX, index.as_bytes());
    let pulled = scene.pull_for(&server.name("app:1"), &arm).unwrap();
    assert_eq!(pulled.digest, digest);
    assert_eq!(pulled.id, Digest::of(&images[0].0.config));
    assert_eq!(server.log("GET", "/blobs/").len(), 2);
    let none = Platform::parse("linux/riscv64").unwrap();
    match scene.pull_for(&server.name("app:1"), &none) {
        Err(Error::Platform { available, .. }) => assert_eq!(available.len(), 2),
        other => panic!("{other:?}"),
    }
    // The index's own digest names it too.
    let pinned = format!("{}@{digest}", server.name("app"));
    assert!(scene.pull_for(&pinned, &arm).is_ok());
}

#[test]
fn several_that_pull_the_same_fetch_each_layer_once() {
    let (server, scene) = (Server::new(), Scene::new());
    let image = Packed::large();
    server.contents().put("app", "1", &image);
    let name = server.name("app:1");
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..6).map(|_| scope.spawn(|| scene.pull(&name))).collect();
        for pull in pulls {
            pull.join().unwrap().unwrap();
        }
    });
    for layer in &image.layers {
        let digest = Digest::of(layer).to_string();
        assert_eq!(server.log("GET", &digest).len(), 1);
    }
}

#[test]
fn a_layer_that_needs_those_beneath_is_unpacked_above_them() {
    let (server, scene) = (Server::new(), Scene::new());
    let link = crate::support::Tar::default().hardlink("c", "a").end();
    let image = Packed::new(&[tar("a"), link]);
    server.contents().put("app", "1", &image);
    let name = server.name("app:1");
    scene.pull(&name).unwrap();
    let found = scene.resolve(&name).unwrap();
    assert_eq!(fs::read(found.layers[1].path.join("c")).unwrap().len(), 100);
}

/// Counts what it is told.
#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    done: AtomicUsize,
}

impl Progress for Counts {
    fn tell(&self, event: Event<'_>) {
        match event {
            Event::At(_, at) => {
                let at = usize::try_from(at).unwrap();
                self.bytes.fetch_max(at, Ordering::Relaxed);
            }
            Event::Done(_) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

#[test]
fn progress_tells_of_every_layer_and_its_bytes() {
    let (server, scene) = (Server::new(), Scene::new());
    let image = Packed::large();
    server.contents().put("app", "1", &image);
    let name = Name::parse(&server.name("app:1")).unwrap();
    let counts = Counts::default();
    scene
        .registries()
        .pull(
            &scene.store(),
            &name,
            &Platform::host(),
            Ownership::Caller,
            &counts,
        )
        .unwrap();
    assert_eq!(counts.done.into_inner(), 2);
    assert_eq!(counts.bytes.into_inner(), image.layers[1].len());
}

#[test]
fn the_digest_of_a_tag_is_told_also_by_a_registry_that_knows_no_head() {
    let (server, scene) = (Server::new(), Scene::new());
    let digest = server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    let name = Name::parse(&server.name("app:1")).unwrap();
    assert_eq!(scene.registries().digest(&name).unwrap(), digest);
    assert!(server.log("GET", "/manifests/").is_empty());
    server.hook(|request, _| (request.method == "HEAD").then(|| reply(405, "")));
    assert_eq!(scene.registries().digest(&name).unwrap(), digest);
    let missing = Name::parse(&server.name("app:2")).unwrap();
    server.unhook();
    assert!(matches!(
        scene.registries().digest(&missing),
        Err(Error::NoSuchName { .. })
    ));
}
