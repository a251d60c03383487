//! `palisade push` and `palisade manifest push`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ArgMatches;
use palisade_rootfs::registry::Compression;
use palisade_rootfs::{Descriptor, Document, Error, Extent, Name, Platform, Reference};
use serde_json::json;

use super::interrupt::stoppable;
use super::progress::{Form, Show, Stream, Words};
use super::{Ready, failed, name, word};
use crate::failure::Failure;
use crate::image::Place;
use crate::verb::print;

/// Pushes an image, or all tags of a repository.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let ready = Ready::new(matches)?;
    let text = word(matches, "IMAGE").unwrap_or_default();
    if matches.get_flag("all-tags") {
        let repository = super::repository(text)?;
        let entries = ready.store.entries().map_err(failed)?;
        let mut all: Vec<(Descriptor, Name)> = Vec::new();
        for entry in entries {
            let Some(Ok(own)) = entry.name().map(Name::parse) else {
                continue;
            };
            if own.registry == repository.registry
                && own.repository == repository.repository
                && own.digest.is_none()
            {
                all.push((entry, own));
            }
        }
        if all.is_empty() {
            return Err(failed(Error::NotInStore {
                name: text.to_owned(),
            }));
        }
        for (entry, name) in all {
            push(matches, &ready, &entry, &name)?;
        }
        return Ok(0);
    }
    let entry = entry(&ready, text)?;
    push(matches, &ready, &entry, &destination(matches, text)?)?;
    Ok(0)
}

/// Pushes a list of images.
pub fn list(matches: &ArgMatches) -> Result<u8, Failure> {
    let ready = Ready::new(matches)?;
    let text = word(matches, "IMAGE").unwrap_or_default();
    let entry = entry(&ready, text)?;
    let document = ready.store.read_blob(&entry).map_err(failed)?;
    let document = Document::parse(&document, "the store".as_ref()).map_err(failed)?;
    if matches!(document, Document::Manifest(_)) {
        return Err(Failure::new(
            format!("{text} is an image for one platform, not a list"),
            format!("palisade push {text}"),
        ));
    }
    // Before anything is sent: an id has no name to take away.
    let purged = matches.get_flag("purge").then(|| name(text)).transpose()?;
    push(matches, &ready, &entry, &destination(matches, text)?)?;
    if let Some(own) = purged {
        let keep = keep(matches)?;
        let gone = |entries: &[Descriptor]| {
            let own = entries.iter().filter(|entry| entry.is_called(&own));
            Ok(own.cloned().collect())
        };
        let removed = ready.store.remove(Extent::Entries, &keep, gone);
        removed.map_err(failed)?;
    }
    Ok(0)
}

/// What sandboxes need of the store.
fn keep(matches: &ArgMatches) -> Result<BTreeSet<PathBuf>, Failure> {
    Ok(Place::open(matches)?.sandboxes()?.1)
}

/// What is pushed.
fn entry(ready: &Ready, text: &str) -> Result<Descriptor, Failure> {
    let reference = Reference::parse(text).map_err(failed)?;
    let entry = ready.store.entry(&reference, &Platform::host());
    entry.map_err(failed)
}

/// The name it gets: podman writes the kind of place before it.
fn destination(matches: &ArgMatches, text: &str) -> Result<Name, Failure> {
    let to = word(matches, "DESTINATION").unwrap_or(text);
    name(to.strip_prefix("docker://").unwrap_or(to))
}

fn push(
    matches: &ArgMatches,
    ready: &Ready,
    entry: &Descriptor,
    name: &Name,
) -> Result<(), Failure> {
    let compression = match word(matches, "compression-format") {
        Some("zstd") => Some(Compression::Zstd),
        Some(_) => Some(Compression::Gzip),
        None => None,
    };
    let form = if matches.get_flag("quiet") {
        Form::Quiet
    } else if matches.get_flag("json") {
        Form::Json
    } else {
        Form::Text
    };
    let show = Show::new(Stream::Stdout, form, Words::Push);
    let place = format!("{}/{}", name.registry, name.repository);
    show.line(&format!("The push refers to repository [{place}]"));
    let pushed = stoppable(&ready.registries, || {
        ready
            .registries
            .push(&ready.store, entry, name, compression, &show)
            .map_err(failed)
    });
    show.finish();
    let pushed = pushed?;
    show.line(&format!(
        "{}: digest: {} size: {}",
        name.tag.as_deref().unwrap_or("(no tag)"),
        pushed.digest,
        pushed.size
    ));
    show.object(&json!({
        "event": "pushed",
        "name": pushed.name.to_string(),
        "digest": pushed.digest.to_string(),
        "size": pushed.size,
    }));
    if form == Form::Quiet {
        print(&format!("{}\n", pushed.name))?;
    }
    Ok(())
}
