//! Signatures that the rules want, as cosign makes and keeps them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use palisade_rootfs::{Descriptor, Digest, Error, Platform, manifest::media_type};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::server::{Server, reply};
use crate::{Packed, Scene, tar};

/// Who signs.
enum Signer {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// The public key as `cosign.pub` has it: a SubjectPublicKeyInfo (RFC 5480, RFC 8410) in PEM.
    fn pem(&self) -> String {
        let (head, key) = match self {
            Self::P256(pair) => (
                &b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"[..],
                pair.public_key().as_ref(),
            ),
            Self::Ed25519(pair) => (
                &b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..],
                pair.public_key().as_ref(),
            ),
        };
        let text = STANDARD.encode([head, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pair) => pair
                .sign(&SystemRandom::new(), text)
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
        }
    }

    /// Signs a document and puts it beside an image.
    fn attach(&self, server: &Server, digest: Digest, said: &Value) {
        let document = said.to_string().into_bytes();
        put(server, digest, &document, &self.sign(&document));
    }
}

/// Puts a signature beside an image of `app`.
fn put(server: &Server, digest: Digest, document: &[u8], signature: &[u8]) {
    let mut contents = server.contents();
    let config = br#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let mut layer = Descriptor::of("application/vnd.dev.cosign.simplesigning.v1+json", document);
    layer.annotations.insert(
        "dev.cosignproject.cosign/signature".to_owned(),
        STANDARD.encode(signature),
    );
    for blob in [document, config] {
        let key = ("app".to_owned(), Digest::of(blob).to_string());
        contents.blobs.insert(key, blob.to_vec());
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::of(media_type::OCI_CONFIG, config), "layers": [layer]});
    let tag = format!("sha256-{}.sig", digest.hex());
    let text = manifest.to_string();
    contents.document("app", &tag, media_type::OCI_MANIFEST, text.as_bytes());
}

/// What cosign signs.
fn said(digest: Digest, name: &str) -> Value {
    json!({"critical": {"identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature"}, "optional": null})
}

/// A registry with an image, and a machine that wants it signed with a key.
fn scene(keys: &[&Signer], identity: &Value) -> (Server, Scene, Digest) {
    let (server, scene) = (Server::new(), Scene::new());
    let digest = server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    let paths: Vec<_> = (0..keys.len())
        .map(|i| scene.path(&format!("{i}.pub")))
        .collect();
    for (path, key) in paths.iter().zip(keys) {
        std::fs::write(path, key.pem()).unwrap();
    }
    let rule = json!({"default": [{"type": "reject"}], "transports": {"docker": {server.name("app"): [
        {"type": "sigstoreSigned", "keyPaths": paths, "signedIdentity": identity}]}}});
    scene.write("images.json", &rule.to_string());
    (server, scene, digest)
}

fn repository() -> Value {
    json!({"type": "matchRepository"})
}

/// A pull that the rules stop before a layer or configuration is asked for.
fn stopped(server: &Server, scene: &Scene, word: &str) {
    let layer = Packed::new(&[tar("a")]);
    match scene.refused(&server.name("app:1")) {
        Error::Refused { reason, .. } => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    }
    for blob in layer.layers.iter().chain([&layer.config]) {
        let asked = server.log("GET", &Digest::of(blob).to_string());
        assert!(asked.is_empty(), "{asked:?}");
    }
}

#[test]
fn an_image_that_is_signed_with_the_key_is_pulled() {
    for signer in [Signer::new(), Signer::ed25519()] {
        let (server, scene, digest) = scene(&[&Signer::new(), &signer], &repository());
        signer.attach(&server, digest, &said(digest, &server.name("app")));
        scene.pull(&server.name("app:1")).unwrap();
        assert!(scene.resolve(&server.name("app:1")).is_ok());
    }
}

#[test]
fn a_key_may_be_in_the_rule_itself() {
    let signer = Signer::new();
    let (server, scene, digest) = scene(&[], &repository());
    let rule = json!({"default": [{"type": "sigstoreSigned", "keyData": STANDARD.encode(signer.pem()),
        "signedIdentity": repository()}]});
    scene.write("images.json", &rule.to_string());
    signer.attach(&server, digest, &said(digest, &server.name("app")));
    scene.pull(&server.name("app:1")).unwrap();
}

#[test]
fn an_image_without_a_signature_or_with_another_s_is_stopped() {
    let signer = Signer::new();
    let (server, scene, digest) = scene(&[&signer], &repository());
    stopped(&server, &scene, "has none");
    Signer::new().attach(&server, digest, &said(digest, &server.name("app")));
    stopped(&server, &scene, "another key");
    // What was signed is changed afterwards.
    let good = said(digest, &server.name("app")).to_string();
    let changed = good.replace("null", "{}");
    put(
        &server,
        digest,
        changed.as_bytes(),
        &signer.sign(good.as_bytes()),
    );
    stopped(&server, &scene, "another key");
}

#[test]
fn a_signature_of_another_image_or_name_or_kind_is_stopped() {
    let signer = Signer::new();
    let (server, scene, digest) = scene(&[&signer], &repository());
    let name = server.name("app");
    signer.attach(&server, digest, &said(Digest::of(b"other"), &name));
    stopped(&server, &scene, "another image");
    signer.attach(&server, digest, &said(digest, &server.name("other")));
    stopped(&server, &scene, "/other");
    let mut kind = said(digest, &name);
    kind["critical"]["type"] = "atomic container signature".into();
    signer.attach(&server, digest, &kind);
    stopped(&server, &scene, "another kind");
    let mut more = said(digest, &name);
    more["critical"]["expires"] = 1.into();
    signer.attach(&server, digest, &more);
    stopped(&server, &scene, "cannot be understood");
}

#[test]
fn a_tag_that_was_not_signed_is_stopped_where_the_tag_counts() {
    let signer = Signer::new();
    let (server, scene, digest) = scene(&[&signer], &json!({"type": "matchExact"}));
    signer.attach(&server, digest, &said(digest, &server.name("app")));
    stopped(&server, &scene, "matchRepository");
    signer.attach(&server, digest, &said(digest, &server.name("app:2")));
    stopped(&server, &scene, "app:2");
    signer.attach(&server, digest, &said(digest, &server.name("app:1")));
    scene.pull(&server.name("app:1")).unwrap();
}

#[test]
fn every_rule_of_a_scope_has_to_be_fulfilled() {
    let (one, two) = (Signer::new(), Signer::new());
    let (server, scene, digest) = scene(&[&one, &two], &repository());
    let signed = |path| json!({"type": "sigstoreSigned", "keyPath": scene.path(path), "signedIdentity": repository()});
    let rule = json!({"default": [signed("0.pub"), signed("1.pub")]});
    scene.write("images.json", &rule.to_string());
    one.attach(&server, digest, &said(digest, &server.name("app")));
    stopped(&server, &scene, "another key");
}

#[test]
fn a_key_that_cannot_be_read_stops_everything() {
    let (server, scene, _) = scene(&[&Signer::new()], &repository());
    scene.write("0.pub", "no key");
    stopped(&server, &scene, "not a public key");
    std::fs::remove_file(scene.path("0.pub")).unwrap();
    stopped(&server, &scene, "cannot be read");
}

#[test]
fn of_an_index_a_signature_of_itself_or_of_the_image_chosen_from_it_will_do() {
    for signs_index in [true, false] {
        let signer = Signer::new();
        let (server, scene, digest) = scene(&[&signer], &repository());
        let mut chosen =
            Descriptor::of(media_type::OCI_MANIFEST, &Packed::new(&[tar("a")]).manifest);
        chosen.platform = Some(Platform::host());
        let index = json!({"schemaVersion": 2, "manifests": [chosen]}).to_string();
        let index = server
            .contents()
            .document("app", "1", media_type::OCI_INDEX, index.as_bytes());
        stopped(&server, &scene, "has none");
        let vouched = if signs_index { index } else { digest };
        signer.attach(&server, vouched, &said(vouched, &server.name("app")));
        assert_eq!(scene.pull(&server.name("app:1")).unwrap().digest, index);
    }
}

#[test]
fn a_registry_that_does_not_give_the_signature_stops_the_pull() {
    let signer = Signer::new();
    let (server, scene, digest) = scene(&[&signer], &repository());
    signer.attach(&server, digest, &said(digest, &server.name("app")));
    server.hook(|request, _| {
        request
            .path
            .contains(".sig")
            .then(|| reply(403, r#"{"errors":[{"code":"DENIED"}]}"#))
    });
    let error = scene.refused(&server.name("app:1"));
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
}
