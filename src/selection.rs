//! `--filter` of the verbs that list sandboxes.

use std::time::SystemTime;

use clap::ArgMatches;
use palisade_rootfs::{Name, Reference};
use palisade_shim::state::{Image, Known, Registry, Status};

use crate::failure::Failure;
use crate::format::{Filters, Key, Takes, parse_time};
use crate::sandboxes::failure;

/// Filters of `ps`.
const PS: [Key; 11] = [
    Key::new("ancestor", Takes::Text),
    Key::new("before", Takes::Text),
    Key::new("exited", Takes::Number),
    Key::new(
        "health",
        Takes::Word(&["none", "starting", "healthy", "unhealthy"]),
    ),
    Key::new("id", Takes::Pattern),
    Key::new("label", Takes::Label),
    Key::new("name", Takes::Pattern),
    Key::new("network", Takes::Text),
    Key::new("since", Takes::Text),
    Key::new(
        "status",
        Takes::Word(&[
            "created",
            "restarting",
            "running",
            "paused",
            "exited",
            "dead",
        ]),
    ),
    Key::new("volume", Takes::Text),
];

/// Filters of `container prune`.
const PRUNE: [Key; 3] = [
    Key::new("label", Takes::Label),
    Key::new("label!", Takes::Label),
    Key::new("until", Takes::Text),
];

/// Which sandboxes are meant.
#[derive(Debug)]
pub struct Selection {
    filters: Filters,
    /// Made before one of these.
    before: Vec<SystemTime>,
    /// Made after one of these.
    since: Vec<SystemTime>,
}

/// The `--filter` options as they were typed.
pub fn typed(matches: &ArgMatches) -> Vec<String> {
    matches
        .get_many::<String>("filter")
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

impl Selection {
    /// Those of `ps --filter`.
    ///
    /// # Errors
    /// A filter that is not understood, or names a sandbox that there is not.
    pub fn of_list(registry: &Registry, matches: &ArgMatches) -> Result<Self, Failure> {
        let filters = Filters::parse(typed(matches), &PS)?;
        let times = |key: &str| -> Result<Vec<SystemTime>, Failure> {
            let found = filters.values(key).map(|name| {
                let known = registry.find(name).and_then(|entry| entry.look());
                known.map(|known| known.config.created)
            });
            found
                .collect::<Result<_, _>>()
                .map_err(|error| failure(&error))
        };
        Ok(Self {
            before: times("before")?,
            since: times("since")?,
            filters,
        })
    }

    /// Those of `container prune --filter`.
    ///
    /// # Errors
    /// A filter that is not understood.
    pub fn of_prune(matches: &ArgMatches) -> Result<Self, Failure> {
        let filters = Filters::parse(typed(matches), &PRUNE)?;
        let now = SystemTime::now();
        let before = filters
            .values("until")
            .map(|value| parse_time("--filter until", value, now))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            before,
            since: Vec::new(),
            filters,
        })
    }

    /// Whether a state was asked for, so that also those that do not run are meant.
    pub fn names_a_state(&self) -> bool {
        ["status", "exited"]
            .iter()
            .any(|key| self.filters.values(key).next().is_some())
    }

    /// Whether a sandbox is one of them.
    pub fn accepts(&self, known: &Known) -> bool {
        let (config, state, filters) = (&known.config, &known.state, &self.filters);
        let created = config.created;
        let health = state.health.map_or("none", |health| health.verdict.word());
        let ended = matches!(state.status, Status::Exited | Status::Dead);
        let code = i64::from(known.exit_code());
        (self.before.is_empty() || self.before.iter().any(|time| created < *time))
            && (self.since.is_empty() || self.since.iter().any(|time| created > *time))
            && filters.finds("name", &config.name)
            && filters.finds("id", &config.id)
            && filters.labels(|name| config.labels.get(name).map(String::as_str))
            && filters.is("status", state.status.word())
            && filters.is("health", health)
            && filters.is("network", &config.network)
            && filters.accepts("exited", |value| ended && value.parse() == Ok(code))
            && filters.accepts("ancestor", |value| is_image(value, &config.image))
            && filters.accepts("volume", |value| {
                config.mounts.iter().any(|mount| {
                    mount.name.as_deref() == Some(value)
                        || mount.destination == value
                        || mount.source == value
                })
            })
    }
}

/// Whether an image is the one that a filter names: as it was typed, without its tag, by any other writing of the same name, or
/// by the beginning of its id or digest.
fn is_image(value: &str, image: &Image) -> bool {
    let reference = image.reference.as_str();
    let name = match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    };
    let hexadecimal = value.strip_prefix("sha256:").unwrap_or(value);
    let digests = [&image.id, &image.digest].into_iter().flatten();
    value == reference
        || value == name
        || complete(value).is_some_and(|value| complete(reference) == Some(value))
        || digests.into_iter().any(|digest| {
            let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
            hexadecimal.len() >= 12 && digest.starts_with(hexadecimal)
        })
}

/// A name with its registry and tag; none where it is none.
fn complete(text: &str) -> Option<Name> {
    match Reference::parse(text) {
        Ok(Reference::Registry(name)) => Some(Name {
            typed: String::new(),
            ..name
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_with_and_without_its_tag_and_by_its_digest() {
        for (value, reference, found) in [
            ("busybox", "busybox:latest", true),
            ("busybox:latest", "busybox:latest", true),
            ("busybox:1", "busybox:latest", false),
            ("localhost:5000/a", "localhost:5000/a", true),
            ("localhost", "localhost:5000/a", false),
            ("0123456789ab", "xy", true),
            ("sha256:0123456789abcdef", "xy", true),
            ("0123", "xy", false),
            ("fedcba987654", "xy", true),
            ("busybox:latest", "busybox", true),
            ("docker.io/library/busybox", "busybox:latest", true),
            ("busybox:1", "busybox", false),
            ("oci:/a", "oci:/a", true),
            ("oci:/a", "oci:/b", false),
        ] {
            let image = Image {
                reference: reference.into(),
                digest: Some("sha256:0123456789abcdef".into()),
                id: Some("sha256:fedcba9876543210".into()),
            };
            assert_eq!(is_image(value, &image), found, "{value} {reference}");
        }
    }
}
