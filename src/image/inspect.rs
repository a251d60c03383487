//! `palisade image inspect`: everything about an image, in docker's shape.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::describe::{Described, familiar};
use super::{Place, failed, format_failure, words};
use crate::failure::Failure;
use crate::format::inspected;
use crate::verb::print;

/// `image inspect`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let values: Vec<Value> = words(matches, "IMAGE")
        .into_iter()
        .map(|image| value(&place, image))
        .collect::<Result<_, _>>()?;
    let format = matches.get_one::<String>("format").map(String::as_str);
    print(&inspected(format, &values).map_err(format_failure)?)?;
    Ok(0)
}

/// What docker's `inspect` says of an image.
pub fn value(place: &Place, text: &str) -> Result<Value, Failure> {
    let image = Described::read(place, place.entry(text)?)?;
    let document: Map<String, Value> =
        serde_json::from_slice(&image.details.document).unwrap_or_default();
    let field = |name: &str| document.get(name).cloned().unwrap_or_else(|| json!(""));
    let entries = place.store.entries().map_err(|e| failed(&e))?;
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for entry in entries
        .iter()
        .filter(|entry| entry.digest == image.entry.digest)
    {
        let Some(name) = entry
            .name()
            .and_then(|name| palisade_rootfs::Name::parse(name).ok())
        else {
            continue;
        };
        let digest = format!("{}@{}", name.familiar(), entry.source_digest());
        if name.digest.is_none() {
            tags.push(familiar(&name));
        }
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    let details = &image.details;
    let layers: Vec<String> = details.diff_ids.iter().map(ToString::to_string).collect();
    let history = document
        .get("history")
        .and_then(Value::as_array)
        .and_then(|steps| steps.last());
    let comment = history
        .and_then(|step| step.get("comment"))
        .cloned()
        .unwrap_or_else(|| json!(""));
    let mut value = json!({
        "Id": details.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": field("created"),
        "DockerVersion": field("docker_version"),
        "Author": field("author"),
        "Config": document.get("config").cloned().unwrap_or(Value::Null),
        "Architecture": details.platform.architecture,
        "Os": details.platform.os,
        "Size": image.size(),
        "VirtualSize": image.size(),
        "GraphDriver": {"Data": null, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {
            "mediaType": image.entry.media_type,
            "digest": image.entry.digest.to_string(),
            "size": image.entry.size,
        },
    });
    if let Some(variant) = &details.platform.variant {
        value["Variant"] = json!(variant);
    }
    Ok(value)
}
