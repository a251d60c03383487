//! Where a name leads: `registries.conf` (containers-registries.conf(5), version 2) with its aliases, mirrors, blocked and
//! insecure registries. Where there is no such file, docker's rules hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::http::is_loopback;
use super::options::Options;
use crate::error::{Error, Result};
use crate::reference::Name;

/// The rules of all files, the later ones over the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    search: Vec<String>,
    registries: Vec<Registry>,
    aliases: BTreeMap<String, String>,
}

/// A place that an image may be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port as they are written: what credentials and certificates are kept under.
    pub registry: String,
    /// The path there.
    pub repository: String,
    /// Certificates are not verified, and plain HTTP will do.
    pub insecure: bool,
    /// Plain HTTP will do where nothing speaks TLS: so it is on this machine.
    pub loopback: bool,
    /// It stands in for another.
    pub mirror: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// The form of version 1, which says other things by the same words.
    registries: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    when: String,
}

impl Registry {
    fn prefix(&self) -> &str {
        if self.prefix.is_empty() {
            &self.location
        } else {
            &self.prefix
        }
    }

    /// How much of a name this is about; none if it is about others.
    fn matches(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(suffix) = prefix.strip_prefix('*') {
            let host = name.split('/').next().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            return (suffix.starts_with('.')
                && host.ends_with(suffix)
                && host.len() > suffix.len())
            .then_some(suffix.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }
}

impl Configuration {
    /// Reads one file's text into the rules.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let document: Document = toml::from_str(text).map_err(|e| e.to_string())?;
        if document.registries.is_some() {
            return Err("it has the form of version 1 ([registries.search] and the like); palisade reads version 2 ([[registry]])".to_owned());
        }
        for registry in document.registry {
            if registry.prefix().is_empty() {
                return Err("a [[registry]] has neither prefix nor location".to_owned());
            }
            if registry.prefix.starts_with('*') && !registry.prefix.starts_with("*.") {
                return Err(format!(
                    "`{}` is not a prefix",
                    registry.prefix.escape_debug()
                ));
            }
            if registry.mirror.iter().any(|m| m.location.is_empty()) {
                return Err("a [[registry.mirror]] has no location".to_owned());
            }
            let same = |other: &Registry| other.prefix() == registry.prefix();
            self.registries.retain(|other| !same(other));
            self.registries.push(registry);
        }
        if let Some(search) = document.unqualified_search_registries {
            self.search = search;
        }
        self.aliases.extend(document.aliases);
        Ok(())
    }

    /// Reads the files there are: `$CONTAINERS_REGISTRIES_CONF`, else the caller's, else the system's, and what lies in their
    /// `registries.conf.d`.
    pub(super) fn load(options: &Options) -> Result<Self> {
        let mut all = Self::default();
        let own = options.configuration().map(|own| own.join("containers"));
        let system = options.settings.as_path();
        let main = match options.path("CONTAINERS_REGISTRIES_CONF") {
            Some(path) => Some(path),
            None => own
                .iter()
                .map(PathBuf::as_path)
                .chain([system])
                .map(|directory| directory.join("registries.conf"))
                .find(|path| path.exists()),
        };
        if let Some(path) = main {
            all.read(&path)?;
        }
        for directory in [Some(system), own.as_deref()].into_iter().flatten() {
            let Ok(entries) = std::fs::read_dir(directory.join("registries.conf.d")) else {
                continue;
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|e| e == "conf"));
            files.sort();
            for file in files {
                all.read(&file)?;
            }
        }
        Ok(all)
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io("read the settings in", path, e))?;
        self.add(&text).map_err(|reason| Error::Settings {
            path: path.to_owned(),
            reason,
        })
    }

    /// The name in full of what was typed: a short one goes by the aliases, then by where short names are looked for.
    ///
    /// # Errors
    /// [`Error::Reference`] if several registries are searched and docker's is none of them: what would come first could be
    /// anybody's.
    pub fn complete(&self, name: &Name) -> Result<Name> {
        let mut end = name.typed.find('@').unwrap_or(name.typed.len());
        let slash = name.typed[..end].rfind('/').map_or(0, |at| at + 1);
        if let Some(at) = name.typed[slash..end].find(':') {
            end = slash + at;
        }
        let (short, rest) = name.typed.split_at(end);
        if has_host(short) {
            return Ok(name.clone());
        }
        if let Some(whole) = self.aliases.get(short).filter(|whole| has_host(whole)) {
            return Name::parse(&format!("{whole}{rest}"));
        }
        let is_docker =
            |registry: &String| matches!(registry.as_str(), "docker.io" | "index.docker.io");
        match &self.search[..] {
            [] => Ok(name.clone()),
            all if all.iter().any(is_docker) => Ok(name.clone()),
            [one] => Name::parse(&format!("{one}/{short}{rest}")),
            several => Err(Error::Reference {
                text: name.typed.clone(),
                reason: format!(
                    "registries.conf looks for short names in {}: write the registry before the name",
                    several.join(", ")
                ),
            }),
        }
    }

    /// The places to fetch a name from, in their order; the last is the registry itself, the others are mirrors.
    ///
    /// # Errors
    /// [`Error::Registry`] if the registry is blocked or a location is not one.
    pub fn endpoints(&self, name: &Name) -> Result<Vec<Endpoint>> {
        let whole = format!("{}/{}", name.registry, name.repository);
        let rule = self
            .registries
            .iter()
            .filter_map(|registry| Some((registry.matches(&whole)?, registry)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, registry)| registry);
        let Some(rule) = rule else {
            return Ok(vec![endpoint(&whole, false, false)?]);
        };
        if rule.blocked {
            return Err(Error::Registry {
                doing: "use",
                what: whole,
                reason: format!("registries.conf blocks {}", rule.prefix()),
                remedy: "another registry, or an administrator who changes registries.conf",
            });
        }
        let moved = |location: &str| {
            if location.is_empty() || rule.prefix().starts_with('*') {
                whole.clone()
            } else {
                format!("{location}{}", &whole[rule.prefix().len()..])
            }
        };
        let mut all = Vec::new();
        for mirror in &rule.mirror {
            let kind = match mirror.when.as_str() {
                "" if rule.mirror_by_digest_only => "digest-only",
                kind => kind,
            };
            let fits = match kind {
                "digest-only" => name.digest.is_some(),
                "tag-only" => name.digest.is_none(),
                _ => true,
            };
            if fits {
                all.push(endpoint(&moved(&mirror.location), mirror.insecure, true)?);
            }
        }
        all.push(endpoint(&moved(&rule.location), rule.insecure, false)?);
        Ok(all)
    }
}

/// Whether the part before the first slash is a host (docker's rule).
fn has_host(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

fn endpoint(whole: &str, insecure: bool, mirror: bool) -> Result<Endpoint> {
    // A location is a name like others: what is no host or path cannot become a part of an address.
    let name = Some(whole)
        .filter(|whole| has_host(whole))
        .and_then(|whole| Name::parse(whole).ok())
        .ok_or_else(|| Error::Registry {
            doing: "use",
            what: whole.to_owned(),
            reason: "it is not a registry's host and a repository".to_owned(),
            remedy: "correct the location in registries.conf",
        })?;
    let host = name.registry.split(':').next().unwrap_or_default();
    Ok(Endpoint {
        loopback: is_loopback(host),
        registry: name.registry,
        repository: name.repository,
        insecure,
        mirror,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Configuration {
        let mut all = Configuration::default();
        all.add(text).unwrap();
        all
    }

    fn places(configuration: &Configuration, name: &str) -> Vec<String> {
        let name = configuration.complete(&Name::parse(name).unwrap()).unwrap();
        configuration
            .endpoints(&name)
            .unwrap()
            .iter()
            .map(|e| {
                let mark = if e.insecure { " insecure" } else { "" };
                format!("{}/{}{mark}", e.registry, e.repository)
            })
            .collect()
    }

    #[test]
    fn without_rules_a_name_leads_where_docker_would_go() {
        let none = Configuration::default();
        assert_eq!(places(&none, "debian"), ["docker.io/library/debian"]);
        assert_eq!(places(&none, "me/app:1"), ["docker.io/me/app"]);
        assert_eq!(places(&none, "ghcr.io/o/r"), ["ghcr.io/o/r"]);
        let own = none
            .endpoints(&Name::parse("localhost:5000/x").unwrap())
            .unwrap();
        assert!(own[0].loopback && !own[0].insecure);
        let own = none
            .endpoints(&Name::parse("127.0.0.1:5000/x").unwrap())
            .unwrap();
        assert!(own[0].loopback);
    }

    #[test]
    fn the_longest_prefix_decides_and_mirrors_come_first() {
        let all = read(
            r#"
            [[registry]]
            prefix = "docker.io"
            location = "hub.corp/cache"
            [[registry]]
            location = "docker.io/library"
            [[registry.mirror]]
            location = "mirror.corp:5000/lib"
            insecure = true
            [[registry.mirror]]
            location = "pinned.corp/lib"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "*.inner.corp"
            insecure = true
            "#,
        );
        assert_eq!(
            places(&all, "debian:12"),
            [
                "mirror.corp:5000/lib/debian insecure",
                "docker.io/library/debian"
            ]
        );
        let pinned = format!("debian@sha256:{}", "0".repeat(64));
        assert_eq!(places(&all, &pinned).len(), 3);
        assert_eq!(places(&all, "me/app"), ["hub.corp/cache/me/app"]);
        assert_eq!(places(&all, "a.inner.corp/x"), ["a.inner.corp/x insecure"]);
        assert_eq!(places(&all, "inner.corp/x"), ["inner.corp/x"]);
        assert_eq!(places(&all, "dockerxio.corp/x"), ["dockerxio.corp/x"]);
    }

    #[test]
    fn a_blocked_registry_is_not_used() {
        let all = read("[[registry]]\nlocation = \"bad.example\"\nblocked = true");
        let name = Name::parse("bad.example/x").unwrap();
        assert!(all.endpoints(&name).is_err());
        assert!(
            all.endpoints(&Name::parse("bad.example.com/x").unwrap())
                .is_ok()
        );
    }

    #[test]
    fn short_names_go_by_aliases_then_by_the_searched_registry() {
        let aliased = read("[aliases]\n\"fedora\" = \"registry.fedoraproject.org/fedora\"");
        assert_eq!(
            places(&aliased, "fedora:41"),
            ["registry.fedoraproject.org/fedora"]
        );
        let name = aliased
            .complete(&Name::parse("fedora:41").unwrap())
            .unwrap();
        assert_eq!(name.to_string(), "registry.fedoraproject.org/fedora:41");
        assert_eq!(
            places(&aliased, "docker.io/library/fedora"),
            ["docker.io/library/fedora"]
        );
        let one = read("unqualified-search-registries = [\"r.corp\"]");
        assert_eq!(places(&one, "app"), ["r.corp/app"]);
        let with_docker = read("unqualified-search-registries = [\"r.corp\", \"docker.io\"]");
        assert_eq!(places(&with_docker, "app"), ["docker.io/library/app"]);
        let two = read("unqualified-search-registries = [\"r.corp\", \"s.corp\"]");
        assert!(two.complete(&Name::parse("app").unwrap()).is_err());
        assert!(two.complete(&Name::parse("r.corp/app").unwrap()).is_ok());
    }

    #[test]
    fn a_file_that_says_something_else_is_refused() {
        for bad in [
            "[registries.search]\nregistries = [\"x\"]",
            "[[registry]]\ninsecure = true",
            "[[registry]]\nlocation = \"x\"\ninsecure = \"yes\"",
            "[[registry]]\nprefix = \"*bad\"",
            "[[registry]]\nlocation = \"x\"\n[[registry.mirror]]\ninsecure = true",
            "=",
        ] {
            assert!(Configuration::default().add(bad).is_err(), "{bad}");
        }
    }
}
