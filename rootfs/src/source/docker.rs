//! What `docker save` writes: a tar file with `manifest.json`.

use serde::Deserialize;

use super::place::Place;
use super::{Source, SourceLayer};
use crate::config::Document;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::json;
use crate::platform::Platform;
use crate::reference::Name;

/// An image of the archive, as its manifest.json has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Item {
    /// Its names, as they are written.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// All images of the archive.
pub(crate) fn items(place: &Place) -> Result<Vec<Item>> {
    let text = place
        .read("manifest.json", "manifest")?
        .ok_or_else(|| Error::NotAnImage {
            path: place.path().to_owned(),
            kind: "a docker archive",
            reason: "it has no manifest.json (is it an oci-archive?)".to_owned(),
        })?;
    json(&text, "manifest", place.path())
}

/// Finds an image by its name, or the only one there is.
pub(crate) fn find(place: &Place, reference: Option<&str>, platform: &Platform) -> Result<Source> {
    let items = items(place)?;
    let full = |name: &str| Name::parse(name).map(|name| name.to_string());
    let called = |item: &&Item, wanted: &str| {
        let wanted = full(wanted).ok();
        wanted.is_some() && item.names().any(|tag| full(tag).ok() == wanted)
    };
    let chosen = match (reference, &items[..]) {
        (None, [one]) => Some(one),
        (None, _) => None,
        (Some(wanted), items) => items.iter().find(|item| called(item, wanted)),
    };
    let Some(item) = chosen else {
        return Err(Error::NoSuchImage {
            path: place.path().to_owned(),
            wanted: reference.map(str::to_owned),
            available: items
                .iter()
                .flat_map(Item::names)
                .map(str::to_owned)
                .collect(),
        });
    };
    let source = source(place, item)?;
    if !platform.accepts(&source.document.platform) {
        return Err(Error::Platform {
            wanted: platform.to_string(),
            available: vec![source.document.platform.to_string()],
        });
    }
    Ok(source)
}

/// One image of the archive, its configuration checked.
pub(crate) fn source(place: &Place, item: &Item) -> Result<Source> {
    let missing = |name: &str| Error::NotAnImage {
        path: place.path().to_owned(),
        kind: "a complete image",
        reason: format!("`{}` is missing", name.escape_debug()),
    };
    let config = place
        .read(&item.config, "configuration")?
        .ok_or_else(|| missing(&item.config))?;
    let config_digest = Digest::of(&config);
    // Where the file's name is its digest, it has to be true.
    let name = item.config.rsplit('/').next().unwrap_or_default();
    if let Some(expected) = Digest::from_hex(name.strip_suffix(".json").unwrap_or(name))
        && expected != config_digest
    {
        return Err(Error::DigestMismatch {
            what: "configuration".to_owned(),
            expected,
            found: config_digest,
        });
    }
    let document = Document::parse(&config, place.path())?;
    let names = item.layers.as_deref().unwrap_or_default();
    if names.len() != document.diff_ids.len() {
        let reason = format!(
            "it has {} layers, the configuration {}",
            names.len(),
            document.diff_ids.len()
        );
        return Err(Error::Json {
            what: "manifest",
            path: place.path().to_owned(),
            reason,
        });
    }
    let layers = names
        .iter()
        .zip(&document.diff_ids)
        .map(|(name, &diff_id)| SourceLayer {
            diff_id,
            digest: None,
            size: None,
            name: name.clone(),
        })
        .collect();
    Ok(Source {
        document,
        manifest_digest: None,
        config_digest,
        config,
        layers,
    })
}
