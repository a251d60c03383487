//! OCI image layouts (image-spec, image-layout.md), in a directory or an archive.

use serde::Deserialize;

use super::place::Place;
use super::{Source, SourceLayer};
use crate::config::Document;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// How many indexes may point to one another.
const DEEPEST: usize = 4;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    schema_version: u32,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<RawPlatform>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Descriptor {
    fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME).map(String::as_str)
    }

    fn is_called(&self, tag: &str) -> bool {
        let annotated = |key: &str| {
            self.annotations
                .as_ref()
                .is_some_and(|all| all.get(key).is_some_and(|v| v == tag))
        };
        annotated(REF_NAME) || annotated(CONTAINERD_NAME) || tag.parse() == Ok(self.digest)
    }

    fn platform(&self) -> Option<Platform> {
        let raw = self.platform.clone()?;
        (!raw.os.is_empty()).then_some(Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant,
        })
    }

    fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest.hex())
    }
}

/// Finds an image by any of the names in `tags`, or the only one there is.
pub(crate) fn find(place: &Place, tags: Option<&[String]>, platform: &Platform) -> Result<Source> {
    let index = place
        .read("index.json", "index")?
        .ok_or_else(|| Error::NotAnImage {
            path: place.path().to_owned(),
            kind: "an OCI image layout",
            reason: "it has no index.json".to_owned(),
        })?;
    let index: Index = json(&index, "index", place)?;
    if index.schema_version > 2 {
        return Err(broken(
            "index",
            place,
            format!("its version is {}, not 2", index.schema_version),
        ));
    }
    let all = index.manifests.unwrap_or_default();
    let called: Vec<&Descriptor> = all
        .iter()
        .filter(|d| tags.is_none_or(|tags| tags.iter().any(|tag| d.is_called(tag))))
        .collect();
    let missing = || Error::NoSuchImage {
        path: place.path().to_owned(),
        wanted: tags.and_then(|tags| tags.first().cloned()),
        available: all
            .iter()
            .map(|d| d.name().map_or_else(|| d.digest.to_string(), str::to_owned))
            .collect(),
    };
    let chosen = match called[..] {
        [] => return Err(missing()),
        [one] => one,
        _ => {
            let mut fitting = called
                .iter()
                .filter(|d| d.platform().is_some_and(|p| platform.accepts(&p)));
            match (fitting.next(), fitting.next(), tags) {
                (Some(one), None, _) | (Some(one), Some(_), Some(_)) => one,
                _ => return Err(missing()),
            }
        }
    };
    follow(place, chosen.clone(), platform)
}

/// Follows indexes to the manifest for a platform.
fn follow(place: &Place, mut descriptor: Descriptor, platform: &Platform) -> Result<Source> {
    for _ in 0..=DEEPEST {
        let text = blob(place, &descriptor, "manifest")?;
        if !descriptor.is_index() {
            let manifest: Manifest = json(&text, "manifest", place)?;
            if manifest.manifests.is_none() {
                return image(place, &descriptor, manifest, platform);
            }
        }
        let index: Index = json(&text, "index", place)?;
        let all = index.manifests.unwrap_or_default();
        let fits = |d: &&Descriptor| d.platform().is_none_or(|p| platform.accepts(&p));
        // An attestation beside the images has the platform unknown/unknown.
        let exact = all
            .iter()
            .find(|d| d.platform().is_some_and(|p| p == *platform));
        let Some(next) = exact.or_else(|| all.iter().find(fits)) else {
            let available = all
                .iter()
                .filter_map(Descriptor::platform)
                .map(|p| p.to_string())
                .collect();
            return Err(Error::Platform {
                wanted: platform.to_string(),
                available,
            });
        };
        descriptor = next.clone();
    }
    Err(Error::limit(
        "the number of indexes on the way to the image",
        DEEPEST.to_string(),
    ))
}

fn image(
    place: &Place,
    descriptor: &Descriptor,
    manifest: Manifest,
    platform: &Platform,
) -> Result<Source> {
    if manifest.schema_version != 2 {
        let what = format!("an image manifest of version {}", manifest.schema_version);
        return Err(Error::Unsupported {
            what,
            remedy: ": convert the image with `skopeo copy`",
        });
    }
    let Some(config) = manifest.config else {
        return Err(broken(
            "manifest",
            place,
            "it names no configuration".to_owned(),
        ));
    };
    if !matches!(
        config.media_type.as_str(),
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    ) {
        let what = format!(
            "running an artifact that is not an image ({})",
            config.media_type.escape_debug()
        );
        return Err(Error::Unsupported { what, remedy: "" });
    }
    let document = Document::parse(&blob(place, &config, "configuration")?, place.path())?;
    if !platform.accepts(&document.platform) {
        return Err(Error::Platform {
            wanted: platform.to_string(),
            available: vec![document.platform.to_string()],
        });
    }
    let layers = manifest.layers.unwrap_or_default();
    if layers.len() != document.diff_ids.len() {
        let reason = format!(
            "it has {} layers, the configuration {}",
            layers.len(),
            document.diff_ids.len()
        );
        return Err(broken("manifest", place, reason));
    }
    let layers = layers
        .into_iter()
        .zip(&document.diff_ids)
        .map(|(layer, &diff_id)| {
            media_type(&layer.media_type)?;
            Ok(SourceLayer {
                diff_id,
                digest: Some(layer.digest),
                size: Some(layer.size),
                name: layer.path(),
            })
        });
    Ok(Source {
        layers: layers.collect::<Result<_>>()?,
        manifest_digest: Some(descriptor.digest),
        config_digest: config.digest,
        document,
    })
}

/// Refuses what is no layer. The compression is told by the content: converted images often have it wrong here.
fn media_type(name: &str) -> Result<()> {
    if name.contains("nondistributable") || name.contains(".foreign.") {
        let what = "a layer that must not be distributed (it lies with its vendor)".to_owned();
        return Err(Error::Unsupported { what, remedy: "" });
    }
    let known = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ];
    if known.contains(&name.split('+').next().unwrap_or_default()) {
        Ok(())
    } else {
        Err(Error::Unsupported {
            what: format!("a layer of type `{}`", name.escape_debug()),
            remedy: "",
        })
    }
}

/// Reads a small blob and checks its size and digest.
fn blob(place: &Place, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>> {
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

pub(super) fn json<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    what: &'static str,
    place: &Place,
) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| broken(what, place, e.to_string()))
}

fn broken(what: &'static str, place: &Place, reason: String) -> Error {
    Error::Json {
        what,
        path: place.path().to_owned(),
        reason,
    }
}
