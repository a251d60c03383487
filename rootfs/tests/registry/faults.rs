//! From registries and networks that break, stall and lie.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use palisade_rootfs::{
    Descriptor, Digest, Error, Extent, Limits, Name, Ownership, Platform, manifest::media_type,
};
use serde_json::json;

use crate::server::{Request, Server, range, reply};
use crate::{Packed, Scene, tar};

fn served(image: &Packed) -> (Server, Scene, String) {
    let (server, scene) = (Server::new(), Scene::new());
    server.contents().put("app", "1", image);
    let name = server.name("app:1");
    (server, scene, name)
}

/// The blob of a request, if it is this one that is asked for.
fn asks_for(path: &str, blob: &[u8]) -> bool {
    path.contains(&format!("/blobs/{}", Digest::of(blob)))
}

#[test]
fn a_connection_cut_in_the_middle_is_taken_up_where_it_broke() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    let mut cuts = 0;
    server.hook(move |request, _| {
        if !asks_for(&request.path, &layer) || cuts == 10 {
            return None;
        }
        // More often than a request is tried: each has brought the blob further.
        cuts += 1;
        Some(range(request, &layer).cut(10_000))
    });
    scene.pull(&name).unwrap();
    let digest = Digest::of(&image.layers[1]).to_string();
    let offsets: Vec<usize> = server
        .log("GET", &digest)
        .iter()
        .map(Request::from)
        .collect();
    let expected: Vec<usize> = (0..=10).map(|i| i * 10_000).collect();
    assert_eq!(offsets, expected);
    assert!(scene.resolve(&name).is_ok());
}

#[test]
fn what_arrived_before_the_end_of_patience_is_kept_for_the_next_pull() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    server.hook(move |request, _| {
        asks_for(&request.path, &layer).then(|| match request.from() {
            0 => reply(200, layer.clone()).cut(50_000),
            _ => reply(206, "").length(layer.len() - 50_000).cut(0).header(
                "content-range",
                format!(
                    "bytes {}-{}/{}",
                    request.from(),
                    layer.len() - 1,
                    layer.len()
                ),
            ),
        })
    });
    let error = scene.refused(&name).to_string();
    assert!(
        error.contains("broke") && error.contains("50000 of"),
        "{error}"
    );
    assert_eq!(
        fs::read(scene.partial(&image.layers[1])).unwrap(),
        image.layers[1][..50_000]
    );
    server.unhook();
    let before = server
        .log("GET", &Digest::of(&image.layers[1]).to_string())
        .len();
    scene.pull(&name).unwrap();
    let after = server.log("GET", &Digest::of(&image.layers[1]).to_string());
    let offsets: Vec<usize> = after[before..].iter().map(Request::from).collect();
    assert_eq!(offsets, [50_000]);
    assert!(!scene.partial(&image.layers[1]).exists());
}

#[test]
fn a_registry_that_knows_no_ranges_gives_the_blob_once_more() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    let mut first = true;
    server.hook(move |request, _| {
        asks_for(&request.path, &layer).then(|| {
            let whole = reply(200, layer.clone());
            if std::mem::take(&mut first) {
                whole.cut(70_000)
            } else {
                whole
            }
        })
    });
    scene.pull(&name).unwrap();
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    server.hook(move |request, _| {
        asks_for(&request.path, &layer).then(|| match request.from() {
            0 => reply(200, layer.clone()).cut(70_000),
            from => reply(206, &layer[from - 1..layer.len() - 1])
                .header("content-range", format!("bytes {}-9/9", from - 1)),
        })
    });
    let error = scene.refused(&name).to_string();
    assert!(error.contains("another range"), "{error}");
}

#[test]
fn content_of_another_digest_is_refused_and_nothing_of_it_stays() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    server.hook(move |request, _| {
        asks_for(&request.path, &layer).then(|| {
            let mut forged = layer.clone();
            // The last four bytes are gzip's own length, which is not looked at first.
            let at = forged.len() - 1;
            forged[at] ^= 1;
            reply(200, forged)
        })
    });
    let error = scene.refused(&name);
    assert!(
        matches!(error, Error::DigestMismatch { .. } | Error::Layer { .. }),
        "{error:?}"
    );
    assert!(!scene.partial(&image.layers[1]).exists());
    server.unhook();
    scene.pull(&name).unwrap();
}

#[test]
fn a_blob_of_another_length_is_refused() {
    for extra in [false, true] {
        let image = Packed::large();
        let (server, scene, name) = served(&image);
        let layer = image.layers[1].clone();
        server.hook(move |request, _| {
            asks_for(&request.path, &layer).then(|| {
                let mut other = layer.clone();
                if extra {
                    other.push(0);
                } else {
                    other.truncate(other.len() - 1);
                }
                reply(200, other)
            })
        });
        let error = scene.refused(&name);
        assert!(matches!(error, Error::SizeMismatch { .. }), "{error:?}");
    }
}

#[test]
fn a_registry_that_never_answers_is_given_up() {
    let (server, mut scene) = (Server::new(), Scene::new());
    scene.options.idle = Duration::from_millis(50);
    server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    server.hook(|request, _| {
        request
            .path
            .contains("/manifests/")
            .then(|| reply(200, "").silent())
    });
    let error = scene.refused(&server.name("app:1")).to_string();
    assert!(error.contains("did not answer in time"), "{error}");
    assert_eq!(server.log("GET", "/manifests/").len(), 4);
}

#[test]
fn a_blob_that_stalls_is_asked_for_again() {
    let image = Packed::large();
    let (server, mut scene, name) = served(&image);
    scene.options.idle = Duration::from_secs(1);
    let layer = image.layers[1].clone();
    let mut first = true;
    server.hook(move |request, _| {
        (asks_for(&request.path, &layer) && std::mem::take(&mut first))
            .then(|| reply(200, layer.clone()).cut(60_000).silent())
    });
    scene.pull(&name).unwrap();
}

#[test]
fn a_registry_that_asks_for_patience_gets_it_unless_it_asks_for_too_much() {
    let (server, scene) = (Server::new(), Scene::new());
    server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    let mut times = 0;
    server.hook(move |request, _| {
        times += 1;
        let busy = request.path.contains("/manifests/") && times < 4;
        busy.then(|| reply(429, "").header("retry-after", "0"))
    });
    scene.pull(&server.name("app:1")).unwrap();
    let scene = Scene::new();
    server.hook(|request, _| {
        let busy = request.path.contains("/manifests/");
        busy.then(|| reply(429, "").header("retry-after", "3600"))
    });
    let before = server.log("GET", "/manifests/").len();
    let error = scene.refused(&server.name("app:1")).to_string();
    assert!(error.contains("429") && error.contains("3600"), "{error}");
    assert_eq!(server.log("GET", "/manifests/").len(), before + 1);
}

#[test]
fn an_error_of_the_server_that_passes_is_waited_for_and_one_that_does_not_is_not() {
    let (server, scene) = (Server::new(), Scene::new());
    server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    let mut times = 0;
    server.hook(move |request, _| {
        times += u32::from(request.path.contains("/manifests/"));
        (request.path.contains("/manifests/") && times <= 3).then(|| reply(500, ""))
    });
    scene.pull(&server.name("app:1")).unwrap();
    assert_eq!(server.log("GET", "/manifests/").len(), 4);
    let scene = Scene::new();
    server.hook(|request, _| {
        let said = r#"{"errors":[{"code":"UNSUPPORTED","message":"not \u001b[1mhere"}]}"#;
        request
            .path
            .contains("/manifests/")
            .then(|| reply(400, said))
    });
    let error = scene.refused(&server.name("app:1")).to_string();
    assert!(error.contains("not \\u{1b}[1mhere"), "{error}");
    assert_eq!(server.log("GET", "/manifests/").len(), 5);
}

#[test]
fn a_manifest_of_a_hundred_megabytes_is_not_read() {
    let (server, scene) = (Server::new(), Scene::new());
    server.hook(|request, _| {
        let asked = request.path.contains("/manifests/");
        asked.then(|| reply(200, vec![b' '; 5 << 20]).length(100 << 20))
    });
    let error = scene.refused(&server.name("app:1"));
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
}

#[test]
fn a_manifest_without_an_end_is_not_read_to_it() {
    let (server, scene) = (Server::new(), Scene::new());
    server.hook(|request, _| {
        let chunk = format!("{:x}\r\n{}\r\n", 6 << 20, " ".repeat(6 << 20));
        let endless = reply(200, chunk).header("transfer-encoding", "chunked");
        request
            .path
            .contains("/manifests/")
            .then(|| endless.silent().cut(usize::MAX))
    });
    let error = scene.refused(&server.name("app:1"));
    assert!(
        matches!(error, Error::Limit { .. } | Error::Registry { .. }),
        "{error:?}"
    );
}

#[test]
fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let image = Packed::new(&[tar("a")]);
    let (server, scene, _) = served(&image);
    let digest = Digest::of(&image.manifest);
    let forged = Packed::new(&[tar("b")]).manifest;
    server.hook(move |request, _| {
        request
            .path
            .contains("/manifests/")
            .then(|| reply(200, forged.clone()).header("content-type", media_type::OCI_MANIFEST))
    });
    let error = scene.refused(&format!("{}@{digest}", server.name("app")));
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
    server.hook(|_, _| None);
}

#[test]
fn an_index_that_leads_back_to_itself_and_one_that_leads_too_deep_are_refused() {
    let (server, scene) = (Server::new(), Scene::new());
    let index = |part: Descriptor| json!({"schemaVersion": 2, "manifests": [part]}).to_string();
    // What has the digest of itself cannot be made: the registry sends it whatever is asked for.
    let own = index(Descriptor::of(media_type::OCI_INDEX, b"itself"));
    server.hook(move |request, _| {
        let found = reply(200, own.clone()).header("content-type", media_type::OCI_INDEX);
        request.path.contains("/manifests/").then_some(found)
    });
    let error = scene.refused(&server.name("app:1"));
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
    server.unhook();
    let mut text = Packed::new(&[tar("a")]).manifest;
    let mut kind = media_type::OCI_MANIFEST;
    for level in 0..8 {
        let part = Descriptor::of(kind, &text);
        server
            .contents()
            .document("deep", &level.to_string(), kind, &text);
        (text, kind) = (index(part).into_bytes(), media_type::OCI_INDEX);
    }
    server.contents().document("deep", "1", kind, &text);
    let error = scene.refused(&server.name("deep:1"));
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
}

#[test]
fn what_cannot_be_run_is_refused_before_a_layer_is_fetched() {
    let image = Packed::new(&[tar("a")]);
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    for (manifest, kind) in [
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
        (
            text.replace("layer.v1.tar+gzip", "layer.nondistributable.v1.tar+gzip"),
            media_type::OCI_MANIFEST,
        ),
        (
            text.replace("image.config.v1", "artifact.v1"),
            media_type::OCI_MANIFEST,
        ),
        (
            text.replace("\"layers\"", "\"manifests\":[],\"layers\""),
            media_type::OCI_MANIFEST,
        ),
        (text.clone(), media_type::OCI_INDEX),
        ("<html>".to_owned(), "text/html"),
    ] {
        let (server, scene, _) = served(&image);
        server
            .contents()
            .document("app", "2", kind, manifest.as_bytes());
        let error = scene.refused(&server.name("app:2"));
        assert!(
            matches!(error, Error::Unsupported { .. } | Error::Json { .. }),
            "{error:?}"
        );
        assert!(server.log("GET", "/blobs/").is_empty());
    }
}

#[test]
fn a_redirection_is_followed_and_a_circle_of_them_is_not() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let other = Server::new();
    other.contents().put("store", "x", &image);
    let to = other.address("/v2/store");
    server.hook(move |request, _| {
        let blob = request.path.strip_prefix("/v2/app")?;
        blob.starts_with("/blobs/")
            .then(|| reply(307, "").header("location", format!("{to}{blob}")))
    });
    scene.pull(&name).unwrap();
    assert_eq!(other.log("GET", "/blobs/").len(), 3);
    let scene = Scene::new();
    server.hook(|request, _| {
        request
            .path
            .contains("/blobs/")
            .then(|| reply(302, "").header("location", request.path.clone()))
    });
    let error = scene.refused(&name).to_string();
    assert!(error.contains("redirects more than"), "{error}");
}

#[test]
fn a_pull_that_is_stopped_ends_and_the_next_goes_on() {
    let image = Packed::large();
    let (server, scene, name) = served(&image);
    let layer = image.layers[1].clone();
    let (sender, receiver) = mpsc::channel();
    let mut first = true;
    server.hook(move |request, _| {
        (asks_for(&request.path, &layer) && std::mem::take(&mut first)).then(|| {
            sender.send(()).unwrap();
            reply(200, layer.clone()).cut(80_000).silent()
        })
    });
    let registries = scene.registries();
    let (store, parsed) = (scene.store(), Name::parse(&name).unwrap());
    let result = std::thread::scope(|scope| {
        let pull = scope
            .spawn(|| registries.pull(&store, &parsed, &Platform::host(), Ownership::Caller, &()));
        receiver.recv().unwrap();
        registries.stop();
        pull.join().unwrap()
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert!(matches!(
        scene.resolve(&name),
        Err(Error::NotInStore { .. })
    ));
    assert!(scene.partial(&image.layers[1]).exists());
    scene.pull(&name).unwrap();
}

#[test]
fn an_image_that_cannot_be_unpacked_does_not_keep_the_next_from_being_pulled() {
    let (server, scene, name) = served(&Packed::large());
    let unknown = b"\xfd7zXZ\0 packed as no layer may be".repeat(40);
    let image = Packed::plain(&[tar("b"), unknown]);
    server.contents().put("app", "odd", &image);
    let (registries, store) = (scene.registries(), scene.store());
    let pull = |name: &str| {
        let name = Name::parse(name).unwrap();
        registries.pull(&store, &name, &Platform::host(), Ownership::Caller, &())
    };
    let odd = pull(&server.name("app:odd"));
    assert!(matches!(odd, Err(Error::Unsupported { .. })), "{odd:?}");
    pull(&name).unwrap();
    registries.stop();
    let stopped = pull(&server.name("app:odd"));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    let still = pull(&name);
    assert!(matches!(still, Err(Error::Interrupted)), "{still:?}");
}

#[test]
fn a_registry_that_is_not_there_is_said_so_at_once() {
    let scene = Scene::new();
    let port = Server::new().port;
    let error = scene
        .refused(&format!("127.0.0.1:{port}/app:1"))
        .to_string();
    assert!(error.contains("cannot reach"), "{error}");
}

#[test]
fn a_layer_that_grows_without_measure_is_refused_while_it_arrives() {
    let bomb = crate::support::Tar::default()
        .file("zeros", vec![0; 900_000])
        .end();
    let (_server, scene, name) = served(&Packed::new(&[tar("a"), bomb]));
    let limits = Limits {
        layer_bytes: 1 << 20,
        ratio: 10,
        ..Limits::default()
    };
    let store = scene.store().with_limits(limits);
    let wanted = Name::parse(&name).unwrap();
    let pulled =
        scene
            .registries()
            .pull(&store, &wanted, &Platform::host(), Ownership::Caller, &());
    assert!(matches!(pulled, Err(Error::Limit { .. })), "{pulled:?}");
    assert!(matches!(
        scene.resolve(&name),
        Err(Error::NotInStore { .. })
    ));
    // What is left is only unused, and nothing is named that is not whole.
    let nothing = std::collections::BTreeSet::new();
    store
        .remove(Extent::Unused, &nothing, |_| Ok(Vec::new()))
        .unwrap();
    assert!(store.check().unwrap().problems.is_empty());
}

#[test]
fn a_tag_that_moves_while_several_pull_it_stands_for_one_whole_image() {
    let (server, scene) = (Server::new(), Scene::new());
    let images = [
        Packed::new(&[tar("a"), tar("b")]),
        Packed::new(&[tar("a"), tar("c")]),
    ];
    server.contents().put("app", "1", &images[0]);
    let name = server.name("app:1");
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5).try_for_each(|_| scene.pull(&name).map(drop))))
            .collect();
        for turn in 0..20 {
            server.contents().put("app", "1", &images[turn % 2]);
            std::thread::yield_now();
        }
        for pull in pulls {
            pull.join().unwrap().unwrap();
        }
    });
    let found = scene.resolve(&name).unwrap();
    let ids: Vec<Digest> = images
        .iter()
        .map(|image| Digest::of(&image.manifest))
        .collect();
    assert!(
        found
            .manifest_digest
            .is_some_and(|digest| ids.contains(&digest))
    );
    assert!(scene.store().check().unwrap().problems.is_empty());
}
