//! Whose images are used, and where they come from: what the administrator says.

use palisade_rootfs::{Digest, Error};

use crate::server::{Server, reply};
use crate::{Packed, Scene, tar};

#[test]
fn a_rule_refuses_before_anything_is_asked_for() {
    for (rules, word) in [
        (r#"{"default":[{"type":"reject"}]}"#, "reject"),
        (
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#,
            "GnuPG",
        ),
        (r#"{"default":[{"type":"digestPinned"}]}"#, "digest"),
    ] {
        let (server, scene) = (Server::new(), Scene::new());
        server.contents().put("app", "1", &Packed::new(&[tar("a")]));
        scene.write("settings/policy.json", rules);
        let error = scene.refused(&server.name("app:1")).to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(server.requests(), 0);
    }
}

#[test]
fn a_pinned_digest_is_taken_and_the_administrators_own_file_comes_first() {
    let (server, scene) = (Server::new(), Scene::new());
    let digest = server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    scene.write("settings/policy.json", r#"{"default":[{"type":"reject"}]}"#);
    let rules = format!(r#"{{"default":[{{"type":"digestPinned","digests":["{digest}"]}}]}}"#);
    scene.write("images.json", &rules);
    scene
        .pull(&format!("{}@{digest}", server.name("app")))
        .unwrap();
    let other = format!("{}@{}", server.name("app"), Digest::of(b""));
    assert!(matches!(scene.refused(&other), Error::Refused { .. }));
}

#[test]
fn a_file_of_rules_that_is_broken_refuses_everything() {
    let scene = Scene::new();
    scene.write("images.json", "{");
    let error = palisade_rootfs::registry::Registries::new(scene.options.clone()).unwrap_err();
    assert!(matches!(error, Error::Settings { .. }), "{error:?}");
}

#[test]
fn a_mirror_comes_first_and_what_it_has_not_got_comes_from_the_registry() {
    let (server, mirror, scene) = (Server::new(), Server::new(), Scene::new());
    let image = Packed::large();
    server.contents().put("app", "1", &image);
    server.contents().put("only", "1", &image);
    mirror.contents().put("copy/app", "1", &image);
    let lost = Digest::of(&image.layers[0]).to_string();
    mirror
        .contents()
        .blobs
        .remove(&("copy/app".to_owned(), lost.clone()));
    scene.write(
        "settings/registries.conf",
        &format!(
            "[[registry]]\nlocation = \"127.0.0.1:{}\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:{}/copy\"\n",
            server.port, mirror.port
        ),
    );
    scene.pull(&server.name("app:1")).unwrap();
    assert!(server.log("GET", "/manifests/").is_empty());
    assert_eq!(server.log("GET", "/blobs/").len(), 1);
    assert_eq!(server.log("GET", &lost).len(), 1);
    // A mirror that is broken altogether.
    mirror.hook(|_, _| Some(reply(403, "")));
    let scene_two = Scene {
        options: scene.options.clone(),
        ..Scene::new()
    };
    scene_two.pull(&server.name("only:1")).unwrap();
}

#[test]
fn an_alias_names_the_image_it_stands_for() {
    let (server, scene) = (Server::new(), Scene::new());
    server
        .contents()
        .put("team/tool", "1", &Packed::new(&[tar("a")]));
    scene.write(
        "settings/registries.conf.d/aliases.conf",
        &format!("[aliases]\ntool = \"{}\"\n", server.name("team/tool")),
    );
    let pulled = scene.pull("tool:1").unwrap();
    assert_eq!(pulled.name.to_string(), server.name("team/tool:1"));
}
