//! Which names a signature may be about (containers-policy.json(5), `signedIdentity`).

use serde::Deserialize;

use crate::reference::Name;

/// How the name that was signed has to agree with the one that is pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Identity {
    /// The same repository and tag.
    MatchExact,
    /// The same repository and tag; for a name with a digest, the same repository.
    #[default]
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This repository and tag, whatever is pulled.
    #[serde(rename_all = "camelCase")]
    ExactReference {
        /// In docker's grammar.
        docker_reference: String,
    },
    /// This repository, whatever is pulled.
    #[serde(rename_all = "camelCase")]
    ExactRepository {
        /// In docker's grammar.
        docker_repository: String,
    },
    /// As `matchRepoDigestOrExact`, with another beginning of the name: for mirrors.
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    Remapped {
        /// Of the name that is pulled: a registry, or a registry and a part of the path.
        prefix: String,
        /// What stands in its place in the name that was signed.
        signed_prefix: String,
    },
}

/// A name, its tag and digest only where they are written.
struct Written {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Written {
    fn parse(text: &str) -> Result<Self, String> {
        let name = Name::parse(text).map_err(|e| e.to_string())?;
        let before_digest = text.split('@').next().unwrap_or_default();
        let last = before_digest.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            repository: format!("{}/{}", name.registry, name.repository),
            tag: name.tag.filter(|_| last.contains(':')),
            digest: name.digest.map(|digest| digest.to_string()),
        })
    }

    fn is(&self, other: &Self) -> bool {
        self.repository == other.repository
            && self.tag == other.tag
            && self.digest == other.digest
            && (self.tag.is_some() || self.digest.is_some())
    }
}

impl Identity {
    /// Whether what the rule itself names is a name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::ExactReference { docker_reference } => {
                let name = Written::parse(docker_reference)?;
                if name.tag.is_none() && name.digest.is_none() {
                    return Err(format!("`{docker_reference}` has neither tag nor digest"));
                }
                Ok(())
            }
            Self::ExactRepository { docker_repository } => {
                let name = Written::parse(docker_repository)?;
                if name.tag.is_some() || name.digest.is_some() {
                    return Err(format!("`{docker_repository}` is not a repository alone"));
                }
                Ok(())
            }
            Self::Remapped {
                prefix,
                signed_prefix,
            } => {
                for prefix in [prefix, signed_prefix] {
                    // A registry alone is one too.
                    Name::parse(&format!("{prefix}/x")).map_err(|e| e.to_string())?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a signature that is about `signed` will do for `name`; if not, why.
    pub(super) fn accept(&self, name: &Name, signed: &str) -> Result<(), String> {
        let wanted = Written {
            repository: format!("{}/{}", name.registry, name.repository),
            tag: name.tag.clone().filter(|_| name.digest.is_none()),
            digest: name.digest.map(|digest| digest.to_string()),
        };
        let found = Written::parse(signed)
            .map_err(|_| format!("the image's is for no name (`{}`)", signed.escape_debug()))?;
        let exact_or_digest = |wanted: &Written| {
            if wanted.digest.is_some() {
                wanted.repository == found.repository
            } else {
                wanted.is(&found)
            }
        };
        let fits = match self {
            Self::MatchExact => wanted.is(&found),
            Self::MatchRepoDigestOrExact => exact_or_digest(&wanted),
            Self::MatchRepository => wanted.repository == found.repository,
            Self::ExactReference { docker_reference } => {
                Written::parse(docker_reference).is_ok_and(|exact| exact.is(&found))
            }
            Self::ExactRepository { docker_repository } => Written::parse(docker_repository)
                .is_ok_and(|exact| exact.repository == found.repository),
            Self::Remapped {
                prefix,
                signed_prefix,
            } => {
                let rest = wanted.repository.strip_prefix(prefix.as_str());
                let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
                let repository = match rest {
                    Some(rest) => format!("{signed_prefix}{rest}"),
                    None => wanted.repository.clone(),
                };
                exact_or_digest(&Written {
                    repository,
                    ..wanted
                })
            }
        };
        if fits {
            return Ok(());
        }
        let mut reason = format!("the image's is for `{signed}`");
        // cosign writes no tag: a rule that wants one fits none of its signatures.
        if found.tag.is_none()
            && found.digest.is_none()
            && matches!(
                self,
                Self::MatchExact | Self::MatchRepoDigestOrExact | Self::Remapped { .. }
            )
        {
            reason.push_str(
                ", which has no tag (cosign's have none: `\"signedIdentity\": {\"type\": \"matchRepository\"}` takes them)",
            );
        }
        Err(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(identity: &str, name: &str, signed: &str) -> bool {
        let identity: Identity = serde_json::from_str(identity).unwrap();
        identity.check().unwrap();
        identity.accept(&Name::parse(name).unwrap(), signed).is_ok()
    }

    #[test]
    fn each_kind_of_identity_takes_what_it_should() {
        let digest = format!("r.example/a/b@sha256:{}", "a".repeat(64));
        let exact = r#"{"type":"matchExact"}"#;
        let either = r#"{"type":"matchRepoDigestOrExact"}"#;
        let repository = r#"{"type":"matchRepository"}"#;
        let reference = r#"{"type":"exactReference","dockerReference":"busybox:1"}"#;
        let alone = r#"{"type":"exactRepository","dockerRepository":"docker.io/library/busybox"}"#;
        let remap = r#"{"type":"remapIdentity","prefix":"m.example/hub","signedPrefix":"docker.io/library"}"#;
        for (identity, name, signed, expected) in [
            (exact, "r.example/a/b:1", "r.example/a/b:1", true),
            (exact, "r.example/a/b:1", "r.example/a/b:2", false),
            (exact, "r.example/a/b", "r.example/a/b", false),
            (exact, "r.example/a/b", "r.example/a/b:latest", true),
            (exact, &digest, "r.example/a/b:1", false),
            (exact, &digest, &digest, true),
            (either, "r.example/a/b:1", "r.example/a/b:1", true),
            (either, "r.example/a/b:1", "r.example/a/b", false),
            (either, &digest, "r.example/a/b", true),
            (either, &digest, "r.example/a/c", false),
            (repository, "r.example/a/b:1", "r.example/a/b:2", true),
            (repository, "r.example/a/b:1", "r.example/a/b", true),
            (repository, "busybox", "docker.io/library/busybox", true),
            (repository, "r.example/a/b:1", "r.example/a", false),
            (repository, "r.example/a/b:1", "", false),
            (
                reference,
                "r.example/x",
                "docker.io/library/busybox:1",
                true,
            ),
            (reference, "busybox:1", "busybox", false),
            (alone, "r.example/x", "busybox:3", true),
            (alone, "busybox", "r.example/x", false),
            (remap, "m.example/hub/busybox:1", "busybox:1", true),
            (remap, "m.example/hubs/busybox:1", "busybox:1", false),
            (remap, "r.example/a/b:1", "r.example/a/b:1", true),
        ] {
            assert_eq!(
                accepts(identity, name, signed),
                expected,
                "{identity} {name} {signed}"
            );
        }
    }

    #[test]
    fn an_identity_that_says_less_than_it_should_is_refused() {
        for bad in [
            r#"{"type":"exactReference","dockerReference":"busybox"}"#,
            r#"{"type":"exactRepository","dockerRepository":"busybox:1"}"#,
            r#"{"type":"remapIdentity","prefix":"A","signedPrefix":"b.example"}"#,
        ] {
            let identity: Identity = serde_json::from_str(bad).unwrap();
            assert!(identity.check().is_err(), "{bad}");
        }
        for bad in [
            r#"{"type":"matchAnything"}"#,
            r#"{"type":"exactReference"}"#,
            r#"{"type":"exactRepository","dockerRepository":"busybox","more":1}"#,
        ] {
            assert!(serde_json::from_str::<Identity>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_by_cosign_is_told_which_rule_would_take_it() {
        let name = Name::parse("r.example/a:1").unwrap();
        let why = Identity::default()
            .accept(&name, "r.example/a")
            .unwrap_err();
        assert!(why.contains("matchRepository"), "{why}");
    }
}
