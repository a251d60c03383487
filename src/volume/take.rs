//! A sandbox's volumes before it starts: made where there are none, filled where they are empty, and in use from then on.

use std::path::PathBuf;

use palisade_rootfs::Image;
use palisade_rootfs::volumes::{Content, InUse, Volumes};

use crate::failure::Failure;
use crate::resolve;

/// Takes all of them.
///
/// # Errors
/// One that cannot be made, filled or used.
pub fn take(wanted: &resolve::Volumes, image: Option<&Image>) -> Result<Vec<InUse>, Failure> {
    if wanted.used.is_empty() {
        return Ok(Vec::new());
    }
    let layers: Vec<PathBuf> = image
        .iter()
        .flat_map(|image| &image.layers)
        .map(|layer| layer.path.clone())
        .collect();
    let volumes = Volumes::new(&wanted.data);
    let take = |volume: &crate::request::Volume| {
        let content = Content {
            layers: if volume.copy { &layers } else { &[] },
            path: &volume.destination,
            ownership: wanted.ownership,
            owner: wanted.owner,
            root_is_owner: wanted.root_is_owner,
        };
        volumes.take(&volume.name, Some(&content)).map_err(|error| {
            Failure::new(
                format!("cannot use the volume {}: {error}", volume.name),
                format!(
                    "palisade volume inspect {}; -v {}:…:nocopy uses it as it is",
                    volume.name, volume.name
                ),
            )
        })
    };
    wanted.used.iter().map(take).collect()
}
