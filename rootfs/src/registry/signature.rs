//! Signatures of images as cosign makes and keeps them: a small document (containers-signature(5), the "simple signing" form) that names
//! a manifest and whose it is, signed with a key, as a layer of the tag `sha256-HEX.sig` beside the image.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::identity::Identity;
use super::places::{self, Place};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Document;
use crate::reference::Name;

/// The media type of a signed document.
const DOCUMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of its layer with the signature, in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a signed document calls itself.
const KIND: &str = "cosign container image signature";
/// Signatures of one image that are looked at.
const MOST: usize = 64;
/// The longest signed document and the longest key that are read, in bytes.
const LONGEST: u64 = 64 << 10;

/// What is tried; which of them a key is for is in the key.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] = [
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
];

/// A rule that wants a signature: by one of these keys, about this name.
#[derive(Debug)]
pub(super) struct Signed {
    pub keys: Vec<Key>,
    pub identity: Identity,
}

/// Where a public key is (PEM).
#[derive(Debug)]
pub(super) enum Key {
    File(PathBuf),
    Data(Vec<u8>),
}

/// A signature as a registry gave it: nothing of it is believed yet.
struct Attached {
    document: Vec<u8>,
    signature: Vec<u8>,
}

/// What is signed (cosign's SIGNATURE_SPEC, containers-signature(5)).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    critical: Critical,
    #[serde(rename = "optional")]
    _optional: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Whose,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    #[serde(rename = "docker-reference")]
    reference: String,
}

/// The signatures that a registry has of the manifests on the way to one image.
pub(super) struct Signatures<'p, 's> {
    places: &'p [Place<'s>],
    name: &'p Name,
    /// Of what the name stands for, and of what was chosen from it: a signature of either vouches for the image, as the first
    /// names the second by its digest.
    digests: Vec<Digest>,
    found: BTreeMap<Digest, Vec<Attached>>,
}

impl<'p, 's> Signatures<'p, 's> {
    /// Of an image that a name stands for. Nothing is asked for yet.
    pub(super) fn new(places: &'p [Place<'s>], name: &'p Name, digests: [Digest; 2]) -> Self {
        let mut digests = digests.to_vec();
        digests.dedup();
        Self {
            places,
            name,
            digests,
            found: BTreeMap::new(),
        }
    }

    /// Whether there is a signature that a rule wants; if not, why the last one that was looked at does not do.
    ///
    /// # Errors
    /// Those of the registry, and [`Error::DigestMismatch`] and [`Error::Limit`] for what it sends.
    pub(super) fn fulfil(&mut self, rule: &Signed) -> Result<Result<(), String>> {
        let mut keys = Vec::new();
        for key in &rule.keys {
            match key.read() {
                Ok(key) => keys.push(key),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let mut reason = "the image has none".to_owned();
        for digest in self.digests.clone() {
            if !self.found.contains_key(&digest) {
                let found = self.fetch(digest)?;
                self.found.insert(digest, found);
            }
            for attached in &self.found[&digest] {
                match attached.vouch(&keys, rule, self.name, digest) {
                    Ok(()) => return Ok(Ok(())),
                    Err(why) => reason = why,
                }
            }
        }
        Ok(Err(reason))
    }

    /// The signatures beside a manifest.
    fn fetch(&self, digest: Digest) -> Result<Vec<Attached>> {
        let tag = format!("sha256-{}.sig", digest.hex());
        let manifest = match places::document(self.places, self.name, &tag, None) {
            Ok(sent) => match sent.document {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => return Ok(Vec::new()),
            },
            Err(Error::NoSuchName { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        let documents = manifest.layers.iter().filter(|l| l.media_type == DOCUMENT);
        for layer in documents.take(MOST) {
            let Some(signature) = layer.annotations.get(SIGNATURE) else {
                continue;
            };
            let Ok(signature) = STANDARD.decode(signature) else {
                continue;
            };
            if layer.size > LONGEST {
                return Err(Error::limit("the size of a signature", "64 KiB"));
            }
            let document = places::small_blob(self.places, layer)?;
            let found = Digest::of(&document);
            if found != layer.digest {
                return Err(Error::DigestMismatch {
                    what: "signature that the registry sends".to_owned(),
                    expected: layer.digest,
                    found,
                });
            }
            all.push(Attached {
                document,
                signature,
            });
        }
        Ok(all)
    }
}

impl Attached {
    /// Whether this vouches for a manifest under a name; if not, why. What is said is not read before who said it is known.
    fn vouch(
        &self,
        keys: &[SubjectPublicKeyInfoDer<'_>],
        rule: &Signed,
        name: &Name,
        digest: Digest,
    ) -> Result<(), String> {
        if !keys.iter().any(|key| self.is_by(key)) {
            return Err("the image's was made with another key".to_owned());
        }
        let said: Said = serde_json::from_slice(&self.document)
            .map_err(|e| format!("the image's cannot be understood ({e})"))?;
        let Critical {
            kind,
            image,
            identity,
        } = said.critical;
        if kind != KIND {
            return Err(format!(
                "the image's is of another kind (`{}`)",
                kind.escape_debug()
            ));
        }
        if image.digest.parse() != Ok(digest) {
            return Err(format!(
                "the image's is of another image (`{}`)",
                image.digest.escape_debug()
            ));
        }
        rule.identity.accept(name, &identity.reference)
    }

    fn is_by(&self, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
        let Ok(key) = webpki::RawPublicKeyEntity::try_from(key) else {
            return false;
        };
        ALGORITHMS.iter().any(|algorithm| {
            key.verify_signature(*algorithm, &self.document, &self.signature)
                .is_ok()
        })
    }
}

impl Key {
    /// Reads the key; if that cannot be done, why.
    fn read(&self) -> Result<SubjectPublicKeyInfoDer<'static>, String> {
        let (text, shown) = match self {
            Self::Data(text) => (text.clone(), "in keyData".to_owned()),
            Self::File(path) => (file(path)?, path.display().to_string()),
        };
        let key = SubjectPublicKeyInfoDer::from_pem_slice(&text)
            .map_err(|_| format!("the key {shown} is not a public key (PEM)"))?;
        match webpki::RawPublicKeyEntity::try_from(&key) {
            Ok(_) => Ok(key.clone()),
            Err(e) => Err(format!("the key {shown} is not a public key ({e})")),
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > LONGEST => {
            Err(format!("the key {} is larger than 64 KiB", path.display()))
        }
        Ok(_) => Ok(text),
        Err(e) => Err(format!("the key {} cannot be read: {e}", path.display())),
    }
}
