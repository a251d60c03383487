//! Whose images are used: rules for registries and what is in them, in the form of `policy.json`
//! (containers-policy.json(5)), with one kind more: `digestPinned`, which takes only images named by digest.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::identity::Identity;
use super::options::Options;
use super::places::Place;
use super::signature::{Key, Signatures, Signed};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Name;

/// The largest file of rules that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The rules, and the file they are from; no file, no rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    path: PathBuf,
    document: Option<Document>,
}

/// A rule that is mistyped must not be one that is not there: what is not known is refused everywhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: Once<Once<Vec<Requirement>>>,
}

/// A map in which each key is written once: of two rules for one scope nobody knows which is meant.
#[derive(Debug)]
struct Once<T>(BTreeMap<String, T>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Once<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Once<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Once<T>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(key) = given.next_key::<String>()? {
                    if all.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("{key:?} is there twice")));
                    }
                    let value = given.next_value()?;
                    all.insert(key, value);
                }
                Ok(Once(all))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// One thing that a rule wants.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Once<Value>")]
enum Requirement {
    Accept,
    Reject,
    /// Only names with a digest; with these if there are any.
    Pinned(Vec<Digest>),
    Signed(Signed),
    /// What palisade cannot check.
    Unknown(String),
}

/// The members of `insecureAcceptAnything` and `reject`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The members of `digestPinned`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    #[serde(default)]
    digests: Vec<Digest>,
}

/// The members of `sigstoreSigned`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigstoreSigned {
    key_path: Option<PathBuf>,
    #[serde(default)]
    key_paths: Vec<PathBuf>,
    key_data: Option<String>,
    #[serde(default)]
    key_datas: Vec<String>,
    #[serde(default)]
    signed_identity: Identity,
}

/// Members of `sigstoreSigned` that want more than a key.
const NOT_CHECKED: [&str; 6] = [
    "fulcio",
    "pki",
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
];

impl TryFrom<Once<Value>> for Requirement {
    type Error = String;

    fn try_from(members: Once<Value>) -> Result<Self, String> {
        let mut members: Map<String, Value> = members.0.into_iter().collect();
        let Some(Value::String(kind)) = members.remove("type") else {
            return Err("a requirement has no type".to_owned());
        };
        let more = members
            .keys()
            .find(|key| NOT_CHECKED.contains(&key.as_str()));
        Ok(match (kind.as_str(), more) {
            ("insecureAcceptAnything", _) => {
                let Nothing {} = from_members(members)?;
                Self::Accept
            }
            ("reject", _) => {
                let Nothing {} = from_members(members)?;
                Self::Reject
            }
            ("digestPinned", _) => {
                let pinned: Pinned = from_members(members)?;
                Self::Pinned(pinned.digests)
            }
            ("sigstoreSigned", Some(more)) => Self::Unknown(format!("sigstoreSigned with {more}")),
            ("sigstoreSigned", None) => from_members::<SigstoreSigned>(members)?.try_into()?,
            _ => Self::Unknown(kind),
        })
    }
}

impl TryFrom<SigstoreSigned> for Requirement {
    type Error = String;

    fn try_from(members: SigstoreSigned) -> Result<Self, String> {
        let given = [
            members.key_path.is_some(),
            !members.key_paths.is_empty(),
            members.key_data.is_some(),
            !members.key_datas.is_empty(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(
                "sigstoreSigned wants one of keyPath, keyPaths, keyData and keyDatas".to_owned(),
            );
        }
        let files = members.key_path.into_iter().chain(members.key_paths);
        let mut keys: Vec<Key> = files.map(Key::File).collect();
        for text in members.key_data.iter().chain(&members.key_datas) {
            let key = STANDARD.decode(text);
            keys.push(Key::Data(
                key.map_err(|e| format!("keyData is not base64: {e}"))?,
            ));
        }
        members.signed_identity.check()?;
        Ok(Self::Signed(Signed {
            keys,
            identity: members.signed_identity,
        }))
    }
}

fn from_members<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(members)).map_err(|e| e.to_string())
}

/// What is still wanted of an image under a name that the rules let pass: signatures.
#[derive(Debug)]
pub(super) struct Wanted<'r> {
    path: &'r Path,
    scope: String,
    signed: Vec<&'r Signed>,
}

impl Wanted<'_> {
    /// Looks for the signatures that the rules want.
    ///
    /// # Errors
    /// [`Error::Refused`] if one is missing or wrong; those of the registry.
    pub(super) fn verify(
        &self,
        places: &[Place<'_>],
        name: &Name,
        digests: [Digest; 2],
    ) -> Result<()> {
        let mut signatures = Signatures::new(places, name, digests);
        for rule in &self.signed {
            if let Err(reason) = signatures.fulfil(rule)? {
                let scope = &self.scope;
                return Err(Error::Refused {
                    name: name.to_string(),
                    path: self.path.to_owned(),
                    reason: format!("the rule for {scope} wants a signature, and {reason}"),
                });
            }
        }
        Ok(())
    }
}

impl Rules {
    /// Reads the first file there is: the administrator's for palisade, the caller's, the system's.
    pub(super) fn load(options: &Options) -> Result<Self> {
        let own = options.configuration();
        let places = [
            Some(options.rules.clone()),
            own.map(|own| own.join("containers/policy.json")),
            Some(options.settings.join("policy.json")),
        ];
        for path in places.into_iter().flatten() {
            let text = match std::fs::metadata(&path) {
                Ok(metadata) if metadata.len() > LARGEST => {
                    return Err(Error::Settings {
                        path,
                        reason: "it is larger than 1 MiB".to_owned(),
                    });
                }
                Ok(_) => std::fs::read(&path),
                Err(e) => Err(e),
            };
            match text {
                Ok(text) => {
                    let document = serde_json::from_slice(&text).map_err(|e| Error::Settings {
                        path: path.clone(),
                        reason: e.to_string(),
                    })?;
                    return Ok(Self {
                        path,
                        document: Some(document),
                    });
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                // A rule that cannot be read may be one that refuses.
                Err(e) => return Err(Error::io("read the rules in", &path, e)),
            }
        }
        Ok(Self::default())
    }

    /// Whether an image may be fetched under this name, and which signatures it has to have then.
    ///
    /// # Errors
    /// [`Error::Refused`] if a rule says no, or asks for what palisade cannot check.
    pub(super) fn check(&self, name: &Name) -> Result<Option<Wanted<'_>>> {
        let Some(document) = &self.document else {
            return Ok(None);
        };
        let refuse = |reason: String| {
            Err(Error::Refused {
                name: name.to_string(),
                path: self.path.clone(),
                reason,
            })
        };
        let (scope, requirements) = applicable(document, name);
        if requirements.is_empty() {
            return refuse(format!("the rule for {scope} is empty"));
        }
        let mut signed = Vec::new();
        for requirement in requirements {
            match requirement {
                Requirement::Accept => {}
                Requirement::Reject => return refuse(format!("the rule for {scope} is `reject`")),
                Requirement::Pinned(digests) => match &name.digest {
                    None => {
                        return refuse(format!(
                            "the rule for {scope} takes only names with a digest (@sha256:…)"
                        ));
                    }
                    Some(digest) if !digests.is_empty() && !digests.contains(digest) => {
                        return refuse(format!("the rule for {scope} lists other digests"));
                    }
                    Some(_) => {}
                },
                Requirement::Signed(rule) => signed.push(rule),
                Requirement::Unknown(kind) if kind == "signedBy" => {
                    return refuse(format!(
                        "the rule for {scope} wants a signature by GnuPG (`signedBy`), which palisade cannot verify; `sigstoreSigned` with a key it can"
                    ));
                }
                Requirement::Unknown(kind) => {
                    return refuse(format!(
                        "the rule for {scope} is `{}`, which palisade cannot check",
                        kind.escape_debug()
                    ));
                }
            }
        }
        Ok((!signed.is_empty()).then_some(Wanted {
            path: &self.path,
            scope,
            signed,
        }))
    }
}

/// The requirements of the narrowest scope that a name is in, and what that is called.
fn applicable<'d>(document: &'d Document, name: &Name) -> (String, &'d [Requirement]) {
    if let Some(scopes) = document.transports.0.get("docker") {
        let repository = format!("{}/{}", name.registry, name.repository);
        let mut candidates = vec![name.to_string()];
        candidates.extend(name.tag.iter().map(|tag| format!("{repository}:{tag}")));
        let mut above = repository.as_str();
        loop {
            candidates.push(above.to_owned());
            match above.rfind('/') {
                Some(at) => above = &above[..at],
                None => break,
            }
        }
        let host = name.registry.split(':').next().unwrap_or_default();
        let mut domain = host;
        while let Some((_, rest)) = domain.split_once('.') {
            candidates.push(format!("*.{rest}"));
            domain = rest;
        }
        candidates.push(String::new());
        for candidate in candidates {
            if let Some(requirements) = scopes.0.get(&candidate) {
                let scope = if candidate.is_empty() {
                    "every registry".to_owned()
                } else {
                    candidate
                };
                return (scope, requirements);
            }
        }
    }
    ("everything".to_owned(), &document.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(rules: &str, name: &str) -> Result<()> {
        let rules = Rules {
            path: "/p".into(),
            document: Some(serde_json::from_str(rules).unwrap()),
        };
        rules.check(&Name::parse(name).unwrap()).map(|wanted| {
            assert!(wanted.is_none_or(|wanted| !wanted.signed.is_empty()));
        })
    }

    #[test]
    fn the_narrowest_rule_decides() {
        let rules = r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "docker.io/library":[{"type":"insecureAcceptAnything"}],
            "docker.io/library/evil":[{"type":"reject"}],
            "docker.io/library/evil:good":[{"type":"insecureAcceptAnything"}],
            "*.corp.example":[{"type":"insecureAcceptAnything"}],
            "signed.example":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}],
            "empty.example":[]}}}"#;
        for good in [
            "debian",
            "evil:good",
            "a.corp.example/x",
            "b.a.corp.example:5000/x",
        ] {
            assert!(checked(rules, good).is_ok(), "{good}");
        }
        for bad in [
            "me/app",
            "evil",
            "corp.example/x",
            "other.example/x",
            "empty.example/x",
        ] {
            assert!(checked(rules, bad).is_err(), "{bad}");
        }
        let error = checked(rules, "signed.example/x").unwrap_err().to_string();
        assert!(error.contains("GnuPG"), "{error}");
    }

    #[test]
    fn a_pinned_digest_is_asked_for() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let any = r#"{"default":[{"type":"digestPinned"}]}"#;
        assert!(checked(any, "debian").is_err());
        assert!(checked(any, &format!("debian@{digest}")).is_ok());
        let one = format!(r#"{{"default":[{{"type":"digestPinned","digests":["{digest}"]}}]}}"#);
        assert!(checked(&one, &format!("debian@{digest}")).is_ok());
        assert!(checked(&one, &format!("debian@sha256:{}", "b".repeat(64))).is_err());
    }

    #[test]
    fn a_rule_that_is_not_known_refuses() {
        for bad in [
            r#"{"type":"new","some":1}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"}"#,
            r#"{"type":"sigstoreSigned","fulcio":{}}"#,
        ] {
            let rules = format!(r#"{{"default":[{bad}]}}"#);
            assert!(checked(&rules, "debian").is_err(), "{bad}");
        }
        assert!(
            checked(
                r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
                "debian"
            )
            .is_ok()
        );
    }

    #[test]
    fn rules_that_are_mistyped_are_refused_and_not_passed_over() {
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let broken = |text: &str| {
            serde_json::from_str::<Document>(text)
                .unwrap_err()
                .to_string()
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        for requirement in [
            format!(r#"{{"type":"digestPinned","digest":["{digest}"]}}"#),
            r#"{"type":"insecureAcceptAnything","keyPath":"/k"}"#.to_owned(),
            r#"{"type":"reject","unless":"signed"}"#.to_owned(),
        ] {
            let error = broken(&format!(r#"{{"default":[{requirement}]}}"#));
            assert!(error.contains("unknown field"), "{error}");
        }
        let error = broken(&format!(
            r#"{{"default":{accept},"transport":{{"docker":{{"":[{{"type":"reject"}}]}}}}}}"#
        ));
        assert!(error.contains("`transport`"), "{error}");
        for twice in [
            format!(r#"{{"docker":{{"a.example":[{{"type":"reject"}}],"a.example":{accept}}}}}"#),
            format!(r#"{{"docker":{{"":[{{"type":"reject"}}]}},"docker":{{"":{accept}}}}}"#),
        ] {
            let error = broken(&format!(r#"{{"default":{accept},"transports":{twice}}}"#));
            assert!(error.contains("twice"), "{error}");
        }
        let error = broken(r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#);
        assert!(error.contains("twice"), "{error}");
    }

    #[test]
    fn a_rule_about_signatures_that_says_too_little_or_too_much_is_broken() {
        let parsed = |text: &str| {
            let rules = format!(r#"{{"default":[{text}]}}"#);
            serde_json::from_str::<Document>(&rules).map(drop)
        };
        for bad in [
            r#"{"keyPath":"/k"}"#,
            r#"{"type":"sigstoreSigned"}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/k","keyData":"aaaa"}"#,
            r#"{"type":"sigstoreSigned","keyData":"!"}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/k","other":1}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"exactReference","dockerReference":"x"}}"#,
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        let good = r#"{"type":"sigstoreSigned","keyPaths":["/k","/l"],"signedIdentity":{"type":"matchRepository"}}"#;
        assert!(parsed(good).is_ok());
    }
}
