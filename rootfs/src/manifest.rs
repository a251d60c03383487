//! Image manifests and indexes (OCI image-spec, manifest.md and image-index.md; docker's schema 2 of both).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// The longest manifest, index or configuration that is read, in bytes.
pub const LONGEST_DOCUMENT: u64 = 4 << 20;

/// Media types by which documents and layers are told apart.
pub mod media_type {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed; `+gzip` and `+zstd` follow where it is.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// docker's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

/// What a document says of another blob (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is; docker archives and careless tools leave it empty.
    #[serde(default)]
    pub media_type: String,
    /// Of the content.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// What the image is for; only in an index.
    #[serde(
        default,
        deserialize_with = "platform",
        skip_serializing_if = "Option::is_none"
    )]
    pub platform: Option<Platform>,
    /// What else is said of it.
    #[serde(
        default,
        deserialize_with = "or_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest: the configuration and the layers of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration's blob.
    pub config: Descriptor,
    /// The layers' blobs, the bottom one first.
    pub layers: Vec<Descriptor>,
}

/// An index: images for several platforms, or indexes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// What it points to.
    pub manifests: Vec<Descriptor>,
}

/// What a blob that stands for an image may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Descriptor {
    /// A descriptor of some bytes.
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The blob's path in an image layout.
    pub fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest.hex())
    }
}

impl Document {
    /// Reads a manifest or index; `from` is where it lies, for the error.
    ///
    /// # Errors
    /// [`Error::Json`] if it is neither, or both (CVE-2021-41190: then its meaning hangs on who reads it);
    /// [`Error::Unsupported`] for docker's schema 1.
    pub fn parse(text: &[u8], from: &Path) -> Result<Self> {
        let raw: Raw = json(text, "manifest", from)?;
        let broken = |reason: String| broken("manifest", from, reason);
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(Error::Unsupported {
                what: "an image manifest of docker's schema 1".to_owned(),
                remedy: ": convert the image with `skopeo copy --format v2s2`",
            });
        }
        if raw.schema_version != 2 {
            return Err(broken(format!(
                "its version is {}, not 2",
                raw.schema_version
            )));
        }
        let said = raw.media_type.as_deref().unwrap_or_default();
        let is_index = raw.manifests.is_some();
        if is_index && (raw.config.is_some() || raw.layers.is_some()) {
            return Err(broken("it is both a manifest and an index".to_owned()));
        }
        let other = match said {
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => !is_index,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => is_index,
            _ => false,
        };
        if other {
            return Err(broken(format!("it is not what it says it is ({said})")));
        }
        if let Some(manifests) = raw.manifests {
            return Ok(Self::Index(Index { manifests }));
        }
        let config = raw
            .config
            .ok_or_else(|| broken("it names no configuration".to_owned()))?;
        Ok(Self::Manifest(Manifest {
            config,
            layers: raw.layers.unwrap_or_default(),
        }))
    }
}

impl Manifest {
    /// Refuses what is no image: an artifact, a layer of another kind or one that must not be distributed.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check(&self) -> Result<()> {
        if !matches!(
            self.config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            let what = format!(
                "running an artifact that is not an image ({})",
                self.config.media_type.escape_debug()
            );
            return Err(Error::Unsupported { what, remedy: "" });
        }
        self.layers
            .iter()
            .try_for_each(|layer| layer_type(&layer.media_type))
    }
}

impl Index {
    /// Reads an index that may be nothing else, such as a layout's index.json.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn parse(text: &[u8], from: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            #[serde(default)]
            schema_version: u32,
            manifests: Option<Vec<Descriptor>>,
        }
        let raw: Raw = json(text, "index", from)?;
        if raw.schema_version > 2 {
            let reason = format!("its version is {}, not 2", raw.schema_version);
            return Err(broken("index", from, reason));
        }
        Ok(Self {
            manifests: raw.manifests.unwrap_or_default(),
        })
    }

    /// The entry for a platform: the one that is exactly for it, else the first that fits or does not say.
    ///
    /// # Errors
    /// [`Error::Platform`] with those there are.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let all = &self.manifests;
        // An attestation beside the images has the platform unknown/unknown.
        let exact = all.iter().find(|d| d.platform.as_ref() == Some(platform));
        let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| platform.accepts(p));
        exact
            .or_else(|| all.iter().find(fits))
            .ok_or_else(|| Error::Platform {
                wanted: platform.to_string(),
                available: all
                    .iter()
                    .filter_map(|d| d.platform.as_ref())
                    .map(ToString::to_string)
                    .collect(),
            })
    }
}

/// Refuses what is no layer. The compression is told by the content: converted images often have it wrong here.
fn layer_type(name: &str) -> Result<()> {
    if name.contains("nondistributable") || name.contains(".foreign.") {
        let what = "a layer that must not be distributed (it lies with its vendor)".to_owned();
        return Err(Error::Unsupported { what, remedy: "" });
    }
    let known = [
        media_type::OCI_LAYER,
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

pub(crate) fn json<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    what: &'static str,
    from: &Path,
) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| broken(what, from, e.to_string()))
}

pub(crate) fn broken(what: &'static str, from: &Path, reason: String) -> Error {
    Error::Json {
        what,
        path: from.to_owned(),
        reason,
    }
}

/// A platform whose system is named; anything less says nothing.
fn platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Platform>, D::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let raw = Option::<Raw>::deserialize(deserializer)?;
    Ok(raw.filter(|raw| !raw.os.is_empty()).map(|raw| Platform {
        os: raw.os,
        architecture: raw.architecture,
        variant: raw.variant,
    }))
}

fn or_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    fn parse(text: &str) -> Result<Document> {
        Document::parse(text.as_bytes(), Path::new("-"))
    }

    #[test]
    fn a_manifest_and_an_index_are_told_by_what_they_hold() {
        let manifest = parse(&format!(
            r#"{{"schemaVersion":2,"config":{CONFIG},"layers":null}}"#
        ));
        assert!(matches!(manifest, Ok(Document::Manifest(_))));
        let index = parse(&format!(
            r#"{{"schemaVersion":2,"manifests":[{CONFIG}],"annotations":null}}"#
        ));
        assert!(matches!(index, Ok(Document::Index(_))));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            format!(r#"{{"schemaVersion":2,"config":{CONFIG},"manifests":[]}}"#),
            r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_owned(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{CONFIG}}}"#,
                media_type::OCI_INDEX
            ),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
                media_type::DOCKER_MANIFEST
            ),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            r#"{"schemaVersion":2}"#.to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
        ] {
            assert!(parse(&bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn of_an_index_the_exact_platform_is_taken_before_one_that_fits() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"digest":"{0}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}},
                {{"digest":"{0}","size":2,"platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}},
                {{"digest":"{0}","size":3,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#,
            Digest::of(b"")
        );
        let index = Index::parse(text.as_bytes(), Path::new("-")).unwrap();
        let size = |platform| {
            index
                .choose(&Platform::parse(platform).unwrap())
                .map(|d| d.size)
                .ok()
        };
        assert_eq!(size("linux/arm/v7"), Some(3));
        assert_eq!(size("linux/arm"), Some(2));
        assert_eq!(size("linux/amd64"), None);
    }
}
