//! What a registry says it has.

use palisade_rootfs::registry::Referrer;
use palisade_rootfs::{Descriptor, Digest, Error, Name, Platform, Reference, manifest::media_type};
use serde_json::{Value, json};

use crate::server::{Server, reply};
use crate::{Packed, Scene, tar};

fn tags(scene: &Scene, name: &str) -> Result<Vec<String>, Error> {
    let names = scene.registries().tags(&Name::parse(name).unwrap())?;
    Ok(names.iter().map(ToString::to_string).collect())
}

#[test]
fn tags_are_listed_page_after_page() {
    let (server, scene) = (Server::new(), Scene::new());
    server.hook(|request, _| {
        let (path, query) = request.path.split_once('?')?;
        if path != "/v2/team/app/tags/list" {
            return None;
        }
        let page = |tags: Value| reply(200, json!({"name": "team/app", "tags": tags}).to_string());
        Some(if query.contains("last=2") {
            page(json!(["3"]))
        } else {
            page(json!(["1", "2"])).header(
                "link",
                "</v2/team/app/tags/list?n=1000&last=2>; rel=\"next\"",
            )
        })
    });
    let expected: Vec<String> = (1..=3)
        .map(|tag| server.name(&format!("team/app:{tag}")))
        .collect();
    assert_eq!(tags(&scene, &server.name("team/app")).unwrap(), expected);
    let missing = tags(&scene, &server.name("team/other"));
    assert!(
        matches!(missing, Err(Error::NoSuchName { .. })),
        "{missing:?}"
    );
}

#[test]
fn a_list_without_an_end_or_with_what_is_no_tag_is_refused() {
    let (server, scene) = (Server::new(), Scene::new());
    server.hook(|request, _| {
        let over = request.path.contains("/tags/list");
        over.then(|| {
            reply(200, r#"{"tags":["1"]}"#).header("link", "</v2/app/tags/list?n=1>; rel=next")
        })
    });
    let error = tags(&scene, &server.name("app")).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
    server.hook(|request, _| {
        let asked = request.path.contains("/tags/list");
        asked.then(|| reply(200, r#"{"tags":["../../x"]}"#))
    });
    let error = tags(&scene, &server.name("app")).unwrap_err();
    assert!(matches!(error, Error::Reference { .. }), "{error:?}");
}

#[test]
fn a_list_of_more_entries_than_can_be_meant_is_refused() {
    let (server, scene) = (Server::new(), Scene::new());
    let answer = |count: usize| {
        let tags: Vec<String> = (0..count).map(|tag| tag.to_string()).collect();
        json!({"tags": tags}).to_string()
    };
    let serve = |text: String| {
        server.hook(move |request, _| {
            let asked = request.path.contains("/tags/list");
            asked.then(|| reply(200, text.clone()))
        });
    };
    serve(answer(100_000));
    assert_eq!(tags(&scene, &server.name("app")).unwrap().len(), 100_000);
    serve(answer(100_001));
    let error = tags(&scene, &server.name("app")).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
}

/// An artifact that refers to an image.
fn artifact(subject: Digest) -> (Vec<u8>, Value) {
    let empty = Descriptor::of("application/vnd.oci.empty.v1+json", b"{}");
    let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 7});
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "example/sbom", "config": empty, "layers": [empty], "subject": subject,
        "annotations": {"by": "a test"}});
    (manifest.to_string().into_bytes(), manifest)
}

fn referrers(scene: &Scene, name: &str, kind: Option<&str>) -> Vec<Referrer> {
    let name = Name::parse(name).unwrap();
    scene.registries().referrers(&name, kind).unwrap().1
}

#[test]
fn what_refers_to_an_image_is_listed_by_the_registry_or_found_under_its_tag() {
    for api in [true, false] {
        let (server, scene) = (Server::new(), Scene::new());
        let digest = server.contents().put("app", "1", &Packed::new(&[tar("a")]));
        assert!(referrers(&scene, &server.name("app:1"), None).is_empty());
        let (text, _) = artifact(digest);
        let mut entry = json!(Descriptor::of(media_type::OCI_MANIFEST, &text));
        entry["artifactType"] = "example/sbom".into();
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
        let index = index.to_string().into_bytes();
        if api {
            let path = format!("/v2/app/referrers/{digest}");
            server.hook(move |request, _| {
                (request.path == path).then(|| {
                    reply(200, index.clone()).header("content-type", media_type::OCI_INDEX)
                })
            });
        } else {
            let tag = format!("sha256-{}", digest.hex());
            server
                .contents()
                .document("app", &tag, media_type::OCI_INDEX, &index);
        }
        let name = server.name("app:1");
        let all = referrers(&scene, &name, None);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].digest, all[0].artifact_type.as_str()),
            (Digest::of(&text), "example/sbom")
        );
        assert_eq!(referrers(&scene, &name, Some("example/sbom")), all);
        assert!(referrers(&scene, &name, Some("example/other")).is_empty());
    }
}

#[test]
fn a_registry_that_does_not_see_what_refers_to_an_image_is_told() {
    for sees in [true, false] {
        let (server, scene) = (Server::new(), Scene::new());
        let digest = server.contents().put("app", "1", &Packed::new(&[tar("a")]));
        scene.pull(&server.name("app:1")).unwrap();
        let store = scene.store();
        let reference = Reference::parse(&server.name("app:1")).unwrap();
        let mut part = store.entry(&reference, &Platform::host()).unwrap();
        part.annotations.clear();
        part.platform = Some(Platform::host());
        let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 7});
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "artifactType": "example/list",
            "manifests": [part], "subject": subject});
        let index = index.to_string().into_bytes();
        let intake = store.intake().unwrap();
        intake.put(&index).unwrap();
        let name = Name::parse(&server.name("app:list")).unwrap();
        let entry = Descriptor::of(media_type::OCI_INDEX, &index);
        intake
            .publish(&entry, None, std::slice::from_ref(&name))
            .unwrap();
        drop(intake);
        if sees {
            server.hook(move |request, _| {
                let seen = request.method == "PUT" && request.path.ends_with("/manifests/list");
                seen.then(|| reply(201, "").header("oci-subject", digest.to_string()))
            });
        }
        // What somebody else has written there, in words that this version may not know.
        let tag = format!("sha256-{}", digest.hex());
        let mut other = json!(Descriptor::of("example/other", b"{}"));
        other["data"] = "e30=".into();
        let others =
            json!({"schemaVersion": 2, "manifests": [other], "annotations": {"by": "another"}});
        let others = others.to_string().into_bytes();
        let kind = media_type::OCI_INDEX;
        server.contents().document("app", &tag, kind, &others);
        for _ in 0..2 {
            let registries = scene.registries();
            registries.push(&store, &entry, &name, None, &()).unwrap();
        }
        let put = server.log("PUT", &tag);
        assert_eq!(put.len(), usize::from(!sees));
        if let [put] = &put[..] {
            let index: Value = serde_json::from_slice(&put.body).unwrap();
            assert_eq!(index["manifests"][0], other);
            assert_eq!(index["annotations"]["by"], "another");
        }
        let all = referrers(&scene, &server.name("app:1"), Some("example/list"));
        let found: Vec<Digest> = all.iter().map(|referrer| referrer.digest).collect();
        let expected = if sees { vec![] } else { vec![entry.digest] };
        assert_eq!(found, expected);
    }
}
