//! `palisade image prune`: what nothing needs goes.

use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Digest, Extent};

use super::describe::all;
use super::{Place, failed, format_failure, words};
use crate::confirm;
use crate::failure::Failure;
use crate::format::{Filters, Key, Takes, parse_time, size};
use crate::verb::{print, tell};

const KEYS: &[Key] = &[
    Key::new("until", Takes::Text),
    Key::new("label", Takes::Label),
    Key::new("label!", Takes::Label),
];

/// `image prune`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(words(matches, "filter"), KEYS).map_err(format_failure)?;
    let mut until = None;
    for value in filters.values("until") {
        let time = parse_time("--filter until", value, SystemTime::now());
        until = Some(time.map_err(format_failure)?);
    }
    let everything = matches.get_flag("all");
    let what = if everything {
        "all images that no sandbox was made from"
    } else {
        "all images without a name"
    };
    if !matches.get_flag("force")
        && !confirm::ask(
            &format!("This removes {what}."),
            "palisade image prune --force",
        )?
    {
        return Ok(0);
    }
    let place = Place::open(matches)?;
    let (sandboxes, keep) = place.sandboxes()?;
    let used: BTreeSet<&str> = sandboxes
        .iter()
        .filter_map(|known| known.config.image.digest.as_deref())
        .collect();
    let mut gone: Vec<Descriptor> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    let mut ids: BTreeSet<Digest> = BTreeSet::new();
    for image in all(&place)? {
        let digest = image.details.stored.descriptor.digest.to_string();
        let wanted = (image.name.is_none() || everything)
            && filters.labels(|label| image.label(label))
            && until.is_none_or(|until| image.created().is_some_and(|time| time < until));
        if !wanted
            || used.contains(digest.as_str())
            || place
                .store
                .is_running(&image.entry)
                .map_err(|e| failed(&e))?
        {
            continue;
        }
        if let Some(name) = image.shown() {
            lines.push(format!("untagged: {name}"));
        }
        ids.insert(image.details.id);
        gone.push(image.entry);
    }
    let extent = if everything && filters.is_empty() {
        Extent::Elsewhere
    } else {
        Extent::Unused
    };
    let removed = place
        .store
        .remove(extent, &keep, move |_| Ok(gone))
        .map_err(|e| failed(&e))?;
    for id in ids {
        lines.push(format!("deleted: {id}"));
    }
    for layer in &removed.layers {
        lines.push(format!("deleted: {layer}"));
    }
    if !lines.is_empty() {
        lines.insert(0, "Deleted Images:".to_owned());
        lines.push(String::new());
    }
    lines.push(format!("Total reclaimed space: {}\n", size(removed.bytes)));
    if removed.deferred {
        let text = "an image is arriving in the store: what nothing seems to need was left; prune again when it is there";
        tell("warning", &[text.to_owned()]);
    }
    print(&lines.join("\n"))?;
    Ok(0)
}
