//! OCI image layouts (image-spec, image-layout.md), in a directory or an archive.

use super::place::Place;
use super::{Source, SourceLayer};
use crate::config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, Index, Manifest, broken, media_type};
use crate::platform::Platform;
use crate::reference::Name;

/// How many indexes may point to one another.
pub(crate) const DEEPEST: usize = 4;
/// The annotation of an entry that bears its name (image-spec, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, as containerd writes it.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The digest a registry has the image under, where that is the digest of an index it was chosen from.
pub(crate) const SOURCE_DIGEST: &str = "palisade.source.digest";

/// Which of a layout's images.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// The only one there is.
    Only,
    /// The one with this tag, or this manifest's digest.
    Tag(&'a str),
    /// The one with this name, in full or shorter, else with this id or the beginning of it.
    Name(&'a Name),
    /// The one whose configuration or manifest has this digest.
    Id(Digest),
}

impl Descriptor {
    /// The name of the entry, as it is written.
    pub fn name(&self) -> Option<&str> {
        self.annotations
            .get(REF_NAME)
            .or_else(|| self.annotations.get(CONTAINERD_NAME))
            .map(String::as_str)
    }

    /// The digest a registry knows the image by: of the index it was chosen from, else its own.
    pub fn source_digest(&self) -> Digest {
        let said = self.annotations.get(SOURCE_DIGEST);
        said.and_then(|digest| digest.parse().ok())
            .unwrap_or(self.digest)
    }

    fn has_tag(&self, tag: &str) -> bool {
        let annotated = |key: &str| self.annotations.get(key).is_some_and(|v| v == tag);
        annotated(REF_NAME) || annotated(CONTAINERD_NAME) || tag.parse() == Ok(self.digest)
    }

    /// Whether this is what `name` names: by its digest if it has one, else by registry, repository and tag.
    pub fn is_called(&self, name: &Name) -> bool {
        match name.digest {
            Some(digest) => digest == self.digest || digest == self.source_digest(),
            None => self.name().is_some_and(|own| name.is(own)),
        }
    }

    fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            media_type::OCI_INDEX | media_type::DOCKER_INDEX
        )
    }
}

/// The entries of a layout.
pub(crate) fn index(place: &Place) -> Result<Index> {
    let text = place
        .read("index.json", "index")?
        .ok_or_else(|| Error::NotAnImage {
            path: place.path().to_owned(),
            kind: "an OCI image layout",
            reason: "it has no index.json".to_owned(),
        })?;
    Index::parse(&text, place.path())
}

/// Finds an image.
pub(crate) fn find(place: &Place, wanted: Wanted<'_>, platform: &Platform) -> Result<Source> {
    let all = index(place)?.manifests;
    let descriptor = choose(place, &all, wanted, platform)?;
    let (descriptor, manifest) = follow(place, descriptor.clone(), platform)?;
    image(place, &descriptor, &manifest, platform)
}

/// The entry that is wanted.
pub(crate) fn choose<'a>(
    place: &Place,
    all: &'a [Descriptor],
    wanted: Wanted<'_>,
    platform: &Platform,
) -> Result<&'a Descriptor> {
    let called: Vec<&Descriptor> = match wanted {
        Wanted::Only => all.iter().collect(),
        Wanted::Tag(tag) => all.iter().filter(|d| d.has_tag(tag)).collect(),
        Wanted::Name(name) => {
            let called: Vec<_> = all.iter().filter(|d| d.is_called(name)).collect();
            match name.id_prefix() {
                Some(prefix) if called.is_empty() => by_id(place, all, prefix, platform),
                _ => called,
            }
        }
        Wanted::Id(digest) => by_id(place, all, &digest.hex(), platform),
    };
    let missing = || Error::NoSuchImage {
        path: place.path().to_owned(),
        wanted: match wanted {
            Wanted::Only => None,
            Wanted::Tag(tag) => Some(tag.to_owned()),
            Wanted::Name(name) => Some(name.typed.clone()),
            Wanted::Id(digest) => Some(digest.to_string()),
        },
        available: all
            .iter()
            .map(|d| d.name().map_or_else(|| d.digest.to_string(), str::to_owned))
            .collect(),
    };
    let fits = |d: &&&Descriptor| d.platform.as_ref().is_some_and(|p| platform.accepts(p));
    match called[..] {
        [] => Err(missing()),
        [one] => Ok(one),
        [first, ref rest @ ..] if rest.iter().all(|d| d.digest == first.digest) => Ok(first),
        _ => {
            let mut fitting = called.iter().filter(fits);
            match (fitting.next(), fitting.next(), wanted) {
                (Some(one), None, _) | (Some(one), Some(_), Wanted::Tag(_) | Wanted::Name(_)) => {
                    Ok(one)
                }
                _ => Err(missing()),
            }
        }
    }
}

/// The entries whose configuration or manifest has a digest that begins so.
fn by_id<'a>(
    place: &Place,
    all: &'a [Descriptor],
    prefix: &str,
    platform: &Platform,
) -> Vec<&'a Descriptor> {
    let begins = |digest: Digest| digest.hex().starts_with(prefix);
    all.iter()
        .filter(|d| {
            begins(d.digest)
                || follow(place, (*d).clone(), platform).is_ok_and(|(own, manifest)| {
                    begins(own.digest) || begins(manifest.config.digest)
                })
        })
        .collect()
}

/// Follows indexes to the manifest for a platform.
pub(crate) fn follow(
    place: &Place,
    mut descriptor: Descriptor,
    platform: &Platform,
) -> Result<(Descriptor, Manifest)> {
    for _ in 0..=DEEPEST {
        let text = blob(place, &descriptor, "manifest")?;
        let index = match Document::parse(&text, place.path())? {
            Document::Index(index) => index,
            Document::Manifest(_) if descriptor.is_index() => {
                let reason = "a manifest is given as an index".to_owned();
                return Err(broken("index", place.path(), reason));
            }
            Document::Manifest(manifest) => return Ok((descriptor, manifest)),
        };
        descriptor = index.choose(platform)?.clone();
    }
    Err(Error::limit(
        "the number of indexes on the way to the image",
        DEEPEST.to_string(),
    ))
}

fn image(
    place: &Place,
    descriptor: &Descriptor,
    manifest: &Manifest,
    platform: &Platform,
) -> Result<Source> {
    manifest.check()?;
    let config = &manifest.config;
    let text = blob(place, config, "configuration")?;
    let document = config::Document::parse(&text, place.path())?;
    if !platform.accepts(&document.platform) {
        return Err(Error::Platform {
            wanted: platform.to_string(),
            available: vec![document.platform.to_string()],
        });
    }
    Ok(Source {
        layers: layers(manifest, &document, place.path())?,
        manifest_digest: Some(descriptor.digest),
        config_digest: config.digest,
        config: text,
        document,
    })
}

/// The layers of a manifest, each with the digest of its tar stream, which the configuration has.
pub(crate) fn layers(
    manifest: &Manifest,
    document: &config::Document,
    from: &std::path::Path,
) -> Result<Vec<SourceLayer>> {
    if manifest.layers.len() != document.diff_ids.len() {
        let reason = format!(
            "it has {} layers, the configuration {}",
            manifest.layers.len(),
            document.diff_ids.len()
        );
        return Err(broken("manifest", from, reason));
    }
    let layers = manifest.layers.iter().zip(&document.diff_ids);
    Ok(layers
        .map(|(layer, &diff_id)| SourceLayer {
            diff_id,
            digest: Some(layer.digest),
            size: Some(layer.size),
            name: layer.path(),
        })
        .collect())
}

/// Reads a small blob and checks its size and digest.
pub(crate) fn blob(place: &Place, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>> {
    let text = place
        .read(&descriptor.path(), what)?
        .ok_or_else(|| Error::NotAnImage {
            path: place.path().to_owned(),
            kind: "a complete image",
            reason: format!("the {what} {} is missing", descriptor.digest),
        })?;
    if text.len() as u64 != descriptor.size {
        return Err(Error::SizeMismatch {
            what: what.to_owned(),
            expected: descriptor.size,
            found: text.len() as u64,
        });
    }
    let found = Digest::of(&text);
    if found != descriptor.digest {
        return Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: descriptor.digest,
            found,
        });
    }
    Ok(text)
}
