//! `palisade rmi`: names go, and with the last one the image.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Error, Extent, Name, Reference};
use palisade_shim::state::Known;

use super::describe::{Described, familiar, short};
use super::{Place, failed, no_such, reference, words};
use crate::failure::Failure;
use crate::verb::{print, tell};

/// `rmi`, `image rm`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let force = matches.get_flag("force");
    let (sandboxes, keep) = place.sandboxes()?;
    for text in words(matches, "IMAGE") {
        print(&remove(&place, text, force, &sandboxes, &keep)?)?;
    }
    Ok(0)
}

/// Removes what one word names; returns what to print.
fn remove(
    place: &Place,
    text: &str,
    force: bool,
    sandboxes: &[Known],
    keep: &BTreeSet<PathBuf>,
) -> Result<String, Failure> {
    let found = reference(text)?;
    let entry = match place.store.entry(&found, &place.platform) {
        Err(error @ Error::NotInStore { .. }) if force => {
            tell("warning", &[no_such(text, &error).message().to_owned()]);
            return Ok(String::new());
        }
        entry => entry.map_err(|error| no_such(text, &error))?,
    };
    let named = match &found {
        Reference::Registry(name) if entry.is_called(name) => Some(name),
        _ => None,
    };
    let entries = place.store.entries().map_err(|e| failed(&e))?;
    let same: Vec<&Descriptor> = entries
        .iter()
        .filter(|other| other.digest == entry.digest)
        .collect();
    // A name takes away that name, an id all of them.
    let gone: Vec<Descriptor> = match named {
        Some(_) => vec![entry.clone()],
        None => same.iter().copied().cloned().collect(),
    };
    let repositories: BTreeSet<String> = gone
        .iter()
        .filter_map(|entry| Some(Name::parse(entry.name()?).ok()?.familiar()))
        .collect();
    if repositories.len() > 1 && !force {
        return Err(Failure::new(
            format!(
                "image {text} has names in several repositories: {}",
                names(&gone).join(", ")
            ),
            format!("palisade rmi with one of its names, or palisade rmi -f {text}"),
        ));
    }
    let last = same.len() == gone.len();
    let id = Described::read(place, entry.clone()).map(|image| image.details.id.to_string());
    if last && !force {
        refuse_in_use(place, text, &entry, sandboxes)?;
    }
    let chosen = gone.clone();
    let removed = place
        .store
        .remove(Extent::Entries, keep, move |_| Ok(chosen))
        .map_err(|e| failed(&e))?;
    let mut lines: Vec<String> = names(&gone)
        .into_iter()
        .map(|name| format!("Untagged: {name}\n"))
        .collect();
    if last {
        let id = id.ok().into_iter();
        let layers = removed.layers.iter().rev().map(ToString::to_string);
        lines.extend(
            id.chain(layers)
                .map(|digest| format!("Deleted: {digest}\n")),
        );
    }
    Ok(lines.concat())
}

fn names(entries: &[Descriptor]) -> Vec<String> {
    let name = |entry: &Descriptor| {
        let name = entry.name()?;
        Some(Name::parse(name).map_or_else(|_| name.to_owned(), |name| familiar(&name)))
    };
    entries.iter().filter_map(name).collect()
}

fn refuse_in_use(
    place: &Place,
    text: &str,
    entry: &Descriptor,
    sandboxes: &[Known],
) -> Result<(), Failure> {
    let digest = place
        .store
        .details(entry.clone(), &place.platform)
        .map_or(entry.digest, |details| details.stored.descriptor.digest)
        .to_string();
    let user = sandboxes
        .iter()
        .find(|known| known.config.image.digest.as_ref() == Some(&digest));
    if let Some(known) = user {
        return Err(Failure::new(
            format!(
                "image {text} is in use by sandbox {} ({})",
                known.config.name,
                short(&known.config.id, false)
            ),
            format!(
                "palisade rm -f {}, or palisade rmi -f {text}, which keeps its layers for the sandbox",
                known.config.name
            ),
        ));
    }
    if place.store.is_running(entry).map_err(|e| failed(&e))? {
        return Err(Failure::new(
            format!("image {text} is in use by a sandbox that runs"),
            format!("palisade rmi -f {text}, which keeps its layers until palisade image prune"),
        ));
    }
    Ok(())
}
