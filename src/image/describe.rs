//! One image of the store, as the verbs speak of it.

use std::time::SystemTime;

use palisade_rootfs::{Descriptor, Details, Name};
use serde_json::Value;

use super::{Place, failed};
use crate::failure::Failure;
use crate::format::{ago, created_at, parse_time};
use crate::verb::tell;

/// What docker shows where there is nothing.
pub const NONE: &str = "<none>";

/// An image, and one of its names.
pub struct Described {
    pub entry: Descriptor,
    pub name: Option<Name>,
    pub details: Details,
    /// Of each layer, the bottom one first.
    pub sizes: Vec<u64>,
}

impl Described {
    pub fn read(place: &Place, entry: Descriptor) -> Result<Self, Failure> {
        let name = entry.name().and_then(|name| Name::parse(name).ok());
        let details = place
            .store
            .details(entry.clone(), &place.platform)
            .map_err(|e| failed(&e))?;
        let sizes = place.store.layer_sizes(&details).map_err(|e| failed(&e))?;
        Ok(Self {
            entry,
            name,
            details,
            sizes,
        })
    }

    /// Bytes of all its layers.
    pub fn size(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// When it was made.
    pub fn created(&self) -> Option<SystemTime> {
        let text = self.details.config.created.as_deref()?;
        parse_time("created", text, SystemTime::now()).ok()
    }

    /// The image's id: 12 digits, or in full with what it is a digest by.
    pub fn id(&self, full: bool) -> String {
        short(&self.details.id.to_string(), full)
    }

    pub fn repository(&self) -> String {
        self.name
            .as_ref()
            .map_or_else(|| NONE.to_owned(), Name::familiar)
    }

    pub fn tag(&self) -> String {
        let tag = self.name.as_ref().and_then(|name| name.tag.clone());
        tag.unwrap_or_else(|| NONE.to_owned())
    }

    /// Its name as it would be typed; none without one.
    pub fn shown(&self) -> Option<String> {
        self.name.as_ref().map(familiar)
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.details.config.labels.get(name).map(String::as_str)
    }
}

/// A name with its tag, without what is understood but for that.
pub fn familiar(name: &Name) -> String {
    let mut text = name.familiar();
    if let Some(tag) = &name.tag {
        text.push(':');
        text.push_str(tag);
    }
    if let Some(digest) = &name.digest {
        text.push('@');
        text.push_str(&digest.to_string());
    }
    text
}

/// A digest as docker shows it.
pub fn short(digest: &str, full: bool) -> String {
    if full {
        return digest.to_owned();
    }
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex[..hex.len().min(12)].to_owned()
}

/// `2 hours ago`.
pub fn since(time: Option<SystemTime>) -> String {
    time.map_or_else(
        || "N/A".to_owned(),
        |time| ago(time.elapsed().unwrap_or_default()),
    )
}

/// `2026-11-21 03:17:30 +0000 UTC`.
pub fn at(time: Option<SystemTime>) -> Value {
    time.map_or_else(|| "N/A".to_owned(), created_at).into()
}

/// Every image of the store, the newest first. One that is damaged is told of on standard error.
pub fn all(place: &Place) -> Result<Vec<Described>, Failure> {
    let entries = place.store.entries().map_err(|e| failed(&e))?;
    let mut images = Vec::new();
    for entry in entries {
        let named = entry
            .name()
            .map_or_else(|| entry.digest.to_string(), str::to_owned);
        match Described::read(place, entry) {
            Ok(image) => images.push(image),
            Err(failure) => {
                let why = failure.message();
                let text =
                    format!("{named} cannot be shown: {why}; palisade store check looks into it");
                tell("warning", &[text]);
            }
        }
    }
    images.sort_by_cached_key(|image| (std::cmp::Reverse(image.created()), image.shown()));
    Ok(images)
}
