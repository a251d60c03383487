//! Whose images are used: rules for registries and what is in them, in the form of `policy.json`
//! (containers-policy.json(5)), with one kind more: `digestPinned`, which takes only images named by digest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::options::Options;
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

#[derive(Debug, Deserialize)]
struct Document {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
    /// For `digestPinned`: the manifests that are taken; any, if there are none.
    #[serde(default)]
    digests: Vec<crate::digest::Digest>,
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

    /// Whether an image may be fetched under this name.
    ///
    /// # Errors
    /// [`Error::Refused`] if a rule says no, or asks for what palisade cannot check.
    pub(super) fn check(&self, name: &Name) -> Result<()> {
        let Some(document) = &self.document else {
            return Ok(());
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
        for requirement in requirements {
            match requirement.kind.as_str() {
                "insecureAcceptAnything" => {}
                "reject" => return refuse(format!("the rule for {scope} is `reject`")),
                "digestPinned" => match &name.digest {
                    None => {
                        return refuse(format!(
                            "the rule for {scope} takes only names with a digest (@sha256:…)"
                        ));
                    }
                    Some(digest)
                        if !requirement.digests.is_empty()
                            && !requirement.digests.contains(digest) =>
                    {
                        return refuse(format!("the rule for {scope} lists other digests"));
                    }
                    Some(_) => {}
                },
                kind @ ("signedBy" | "sigstoreSigned") => {
                    return refuse(format!(
                        "the rule for {scope} wants a signature (`{kind}`), and palisade cannot verify signatures"
                    ));
                }
                kind => {
                    return refuse(format!(
                        "the rule for {scope} is `{}`, which palisade does not know",
                        kind.escape_debug()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The requirements of the narrowest scope that a name is in, and what that is called.
fn applicable<'d>(document: &'d Document, name: &Name) -> (String, &'d [Requirement]) {
    if let Some(scopes) = document.transports.get("docker") {
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
            if let Some(requirements) = scopes.get(&candidate) {
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
        rules.check(&Name::parse(name).unwrap())
    }

    #[test]
    fn the_narrowest_rule_decides() {
        let rules = r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "docker.io/library":[{"type":"insecureAcceptAnything"}],
            "docker.io/library/evil":[{"type":"reject"}],
            "docker.io/library/evil:good":[{"type":"insecureAcceptAnything"}],
            "*.corp.example":[{"type":"insecureAcceptAnything"}],
            "signed.example":[{"type":"sigstoreSigned","keyPath":"/k"}],
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
        assert!(error.contains("signature"), "{error}");
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
        assert!(checked(r#"{"default":[{"type":"new"}]}"#, "debian").is_err());
        assert!(
            checked(
                r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
                "debian"
            )
            .is_ok()
        );
    }
}
