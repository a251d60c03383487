//! To a registry.

use palisade_rootfs::registry::Pushed;
use palisade_rootfs::{Digest, Error, Name, Platform, Reference};

use crate::server::{Server, reply};
use crate::{Packed, Scene, tar};

/// A scene whose store has `image` under `name`, as it came from another registry.
fn holding(image: &Packed, names: &[String]) -> Scene {
    let (from, scene) = (Server::new(), Scene::new());
    from.contents().put("from", "1", image);
    let pulled = scene.pull(&from.name("from:1")).unwrap();
    let store = scene.store();
    let reference = Reference::Registry(pulled.name);
    let entry = store.entry(&reference, &Platform::host()).unwrap();
    let names: Vec<Name> = names
        .iter()
        .map(|name| Name::parse(name).unwrap())
        .collect();
    store
        .intake()
        .unwrap()
        .publish(&entry, None, &names)
        .unwrap();
    scene
}

fn push(scene: &Scene, name: &str) -> Result<Pushed, Error> {
    let name = Name::parse(name).unwrap();
    scene.registries().push(&scene.store(), &name, &())
}

#[test]
fn what_is_pushed_is_there_bit_for_bit_and_only_once() {
    let (server, image) = (Server::new(), Packed::large());
    let name = server.name("app:1");
    let scene = holding(&image, std::slice::from_ref(&name));
    let pushed = push(&scene, &name).unwrap();
    assert_eq!(pushed.digest, Digest::of(&image.manifest));
    for blob in image.layers.iter().chain([&image.config]) {
        let key = ("app".to_owned(), Digest::of(blob).to_string());
        assert_eq!(&server.contents().blobs[&key], blob);
    }
    let key = ("app".to_owned(), "1".to_owned());
    assert_eq!(server.contents().manifests[&key].1, image.manifest);
    push(&scene, &name).unwrap();
    assert_eq!(server.log("POST", "/uploads/").len(), 3);
    // And it comes back.
    assert!(Scene::new().pull(&name).is_ok());
}

#[test]
fn a_layer_that_the_registry_has_elsewhere_is_mounted() {
    let (server, image) = (Server::new(), Packed::large());
    let names = [server.name("one:1"), server.name("two:1")];
    let scene = holding(&image, &names);
    push(&scene, &names[0]).unwrap();
    push(&scene, &names[1]).unwrap();
    assert_eq!(server.log("POST", "mount=").len(), 4);
    // The configuration is small and not looked for.
    assert_eq!(server.log("PUT", "/v2/two/blobs/").len(), 1);
    assert!(Scene::new().pull(&names[1]).is_ok());
}

#[test]
fn a_large_blob_goes_in_parts_and_on_where_it_broke() {
    let (server, image) = (Server::new(), Packed::large());
    let name = server.name("app:1");
    let mut scene = holding(&image, std::slice::from_ref(&name));
    scene.options.chunk = 100_000;
    let mut parts = 0;
    server.hook(move |request, _| {
        if request.method != "PATCH" {
            return None;
        }
        parts += 1;
        // It has not got the second one.
        (parts == 2).then(|| reply(0, ""))
    });
    push(&scene, &name).unwrap();
    let starts: Vec<String> = server
        .log("PATCH", "/uploads/")
        .iter()
        .map(|r| {
            r.header("content-range")
                .split('-')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(starts.len() >= 4 && starts[1] == "100000", "{starts:?}");
    assert!(Scene::new().pull(&name).is_ok());
}

#[test]
fn a_push_that_is_not_allowed_and_one_of_nothing_say_so() {
    let (server, image) = (Server::new(), Packed::new(&[tar("a")]));
    let name = server.name("app:1");
    let scene = holding(&image, std::slice::from_ref(&name));
    server.hook(|request, _| {
        let said = r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#;
        (request.method == "POST").then(|| reply(403, said))
    });
    match push(&scene, &name) {
        Err(Error::Denied { reason, .. }) => assert!(reason.contains("read only"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let missing = push(&scene, &server.name("other:1"));
    assert!(
        matches!(missing, Err(Error::NotInStore { .. })),
        "{missing:?}"
    );
}

#[test]
fn a_registry_that_keeps_another_manifest_is_found_out() {
    let (server, image) = (Server::new(), Packed::new(&[tar("a")]));
    let name = server.name("app:1");
    let scene = holding(&image, std::slice::from_ref(&name));
    server.hook(|request, _| {
        let kept = request.method == "PUT" && request.path.contains("/manifests/");
        let other = Digest::of(b"other").to_string();
        kept.then(|| reply(201, "").header("docker-content-digest", other))
    });
    let error = push(&scene, &name).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}
