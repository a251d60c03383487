//! To a registry.

use palisade_rootfs::registry::{Compression, Pushed};
use palisade_rootfs::{
    Descriptor, Digest, Document, Error, Index, Manifest, Name, Platform, Reference,
    manifest::media_type,
};

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
    push_as(scene, name, None)
}

fn push_as(scene: &Scene, name: &str, wanted: Option<Compression>) -> Result<Pushed, Error> {
    let name = Name::parse(name).unwrap();
    let store = scene.store();
    let entry = store.entry(&Reference::Registry(name.clone()), &Platform::host())?;
    scene.registries().push(&store, &entry, &name, wanted, &())
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

/// The manifest that a registry has under a tag of `app`.
fn kept(server: &Server, tag: &str) -> Manifest {
    let key = ("app".to_owned(), tag.to_owned());
    let text = server.contents().manifests[&key].1.clone();
    match Document::parse(&text, "-".as_ref()).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    }
}

#[test]
fn layers_that_are_not_compressed_are_on_the_way() {
    for (wanted, kind, magic) in [
        (None, "+gzip", &[0x1f, 0x8b][..]),
        (Some(Compression::Gzip), "+gzip", &[0x1f, 0x8b]),
        (Some(Compression::Zstd), "+zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let (server, image) = (Server::new(), Packed::plain(&[tar("a"), tar("b")]));
        let name = server.name("app:1");
        let scene = holding(&image, std::slice::from_ref(&name));
        let pushed = push_as(&scene, &name, wanted).unwrap();
        let manifest = kept(&server, "1");
        assert_eq!(manifest.layers.len(), 2);
        for layer in &manifest.layers {
            assert!(layer.media_type.ends_with(kind), "{layer:?}");
            let key = ("app".to_owned(), layer.digest.to_string());
            assert!(server.contents().blobs[&key].starts_with(magic));
        }
        // The image here is what it was, and knows what it is called there.
        let reference = Reference::parse(&name).unwrap();
        let entry = scene.store().entry(&reference, &Platform::host()).unwrap();
        assert_eq!(entry.digest, Digest::of(&image.manifest));
        assert_eq!(entry.source_digest(), pushed.digest);
        // Once more: the same comes of it, so nothing is sent.
        let sent = server.log("POST", "/uploads/").len();
        assert_eq!(push_as(&scene, &name, wanted).unwrap(), pushed);
        assert_eq!(server.log("POST", "/uploads/").len(), sent);
        let other = Scene::new();
        assert_eq!(other.pull(&name).unwrap().id, Digest::of(&image.config));
        // Nothing of it is left in the store.
        let check = scene.store().check();
        assert!(check.unwrap().problems.is_empty());
    }
}

#[test]
fn compressed_layers_stay_what_they_are_unless_another_form_is_asked_for() {
    let (server, image) = (Server::new(), Packed::large());
    let name = server.name("app:1");
    let scene = holding(&image, std::slice::from_ref(&name));
    let pushed = push_as(&scene, &name, Some(Compression::Gzip)).unwrap();
    assert_eq!(pushed.digest, Digest::of(&image.manifest));
    let pushed = push_as(&scene, &name, Some(Compression::Zstd)).unwrap();
    assert_ne!(pushed.digest, Digest::of(&image.manifest));
    let zstd = |layer: &Descriptor| layer.media_type.ends_with("+zstd");
    assert!(kept(&server, "1").layers.iter().all(zstd));
    assert!(Scene::new().pull(&name).is_ok());
}

#[test]
fn an_index_is_pushed_with_all_it_names_and_names_what_was_pushed() {
    let (server, image) = (Server::new(), Packed::plain(&[tar("a")]));
    let scene = holding(&image, &[server.name("part:1")]);
    let store = scene.store();
    let mut part = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest);
    part.platform = Some(Platform::host());
    let name = Name::parse(&server.name("app:1")).unwrap();
    store.make_index(&[part], &name).unwrap();
    let pushed = push(&scene, &server.name("app:1")).unwrap();
    let key = ("app".to_owned(), "1".to_owned());
    let (kind, text) = server.contents().manifests[&key].clone();
    assert_eq!(
        (kind.as_str(), Digest::of(&text)),
        (media_type::OCI_INDEX, pushed.digest)
    );
    let index = Index::parse(&text, "-".as_ref()).unwrap();
    let named = &index.manifests[0];
    assert_eq!(named.platform, Some(Platform::host()));
    assert!(
        kept(&server, &named.digest.to_string()).layers[0]
            .media_type
            .ends_with("+gzip")
    );
    assert_eq!(
        Scene::new().pull(&server.name("app:1")).unwrap().digest,
        pushed.digest
    );
}
