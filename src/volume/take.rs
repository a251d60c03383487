//! A sandbox's volumes before it starts: made where there are none, filled where they are empty, and in use from then on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use palisade_rootfs::Image;
use palisade_rootfs::volumes::{self, ANONYMOUS, Content, InUse, Volumes};

use crate::failure::Failure;
use crate::resolve::{self, Span, Volume};

/// Takes those that lie among the volumes.
///
/// # Errors
/// One that cannot be made, filled or used.
pub fn take(wanted: &resolve::Volumes, image: Option<&Image>) -> Result<Vec<InUse>, Failure> {
    if wanted.used.is_empty() {
        return Ok(Vec::new());
    }
    let layers = layers(image);
    let volumes = Volumes::new(&wanted.data);
    let take = |volume: &Volume| {
        let mut labels = BTreeMap::new();
        if volume.span == Span::Anonymous {
            labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        let content = content(wanted, volume, &layers);
        volumes
            .take(&volume.name, &labels, Some(&content))
            .map_err(|error| failed(volume, &error))
    };
    wanted
        .used
        .iter()
        .filter(|volume| !matches!(volume.span, Span::Sandbox(_)))
        .map(take)
        .collect()
}

/// Makes those that lie in the sandbox's directory, which exists, and returns what is to be known of them.
///
/// # Errors
/// One that cannot be made or filled.
pub fn make(wanted: &resolve::Volumes, image: Option<&Image>) -> Result<Vec<String>, Failure> {
    let layers = layers(image);
    let mut notes = Vec::new();
    for volume in &wanted.used {
        if let Span::Sandbox(directory) = &volume.span {
            let content = content(wanted, volume, &layers);
            let made = volumes::private(directory, &content);
            notes.extend(made.map_err(|error| failed(volume, &error))?);
        }
    }
    Ok(notes)
}

/// Removes what [`take`] made for a sandbox that did not come into being. What stays is removed by `volume prune`.
pub fn forget(wanted: &resolve::Volumes) {
    let volumes = Volumes::new(&wanted.data);
    for volume in wanted.used.iter().filter(|v| v.span == Span::Anonymous) {
        let _ = volumes.remove(&volume.name);
    }
}

fn layers(image: Option<&Image>) -> Vec<PathBuf> {
    image
        .iter()
        .flat_map(|image| &image.layers)
        .map(|layer| layer.path.clone())
        .collect()
}

fn content<'a>(
    wanted: &resolve::Volumes,
    volume: &'a Volume,
    layers: &'a [PathBuf],
) -> Content<'a> {
    Content {
        layers: if volume.copy { layers } else { &[] },
        path: &volume.destination,
        ownership: wanted.ownership,
        owner: wanted.owner,
        root_is_owner: wanted.root_is_owner,
    }
}

fn failed(volume: &Volume, error: &palisade_rootfs::Error) -> Failure {
    let destination = volume.destination.display();
    match volume.span {
        Span::Named => Failure::new(
            format!("cannot use the volume {}: {error}", volume.name),
            format!(
                "palisade volume inspect {}; -v {}:{destination}:nocopy uses it as it is",
                volume.name, volume.name
            ),
        ),
        Span::Anonymous | Span::Sandbox(_) => Failure::new(
            format!("cannot make a volume for {destination}: {error}"),
            format!("--tmpfs {destination}, which keeps nothing"),
        ),
    }
}
