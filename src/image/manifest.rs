//! `palisade manifest`: one name for images of several platforms.

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Digest, Document, Error, Extent, Platform, Reference};
use serde_json::{Value, json};

use super::{Place, failed, format_failure, name, no_such, reference, word, words};
use crate::failure::Failure;
use crate::format::inspected;
use crate::registry;
use crate::verb::print;

/// `manifest create|add|annotate|remove|push|rm|inspect`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("create", matches)) => create(matches),
        Some(("add", matches)) => add(matches),
        Some(("annotate", matches)) => annotate(matches),
        Some(("remove", matches)) => take_out(matches),
        Some(("push", matches)) => registry::push::list(matches),
        Some(("rm", matches)) => super::remove::main(matches),
        Some(("inspect", matches)) => inspect(matches),
        _ => Ok(0),
    }
}

fn create(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let new = name(word(matches, "LIST"))?;
    let exists = place
        .store
        .entries()
        .map_err(|e| failed(&e))?
        .iter()
        .any(|entry| entry.is_called(&new));
    if exists && !matches.get_flag("amend") {
        let text = word(matches, "LIST");
        return Err(Failure::new(
            format!("{text} is there already"),
            format!("palisade manifest create --amend {text} IMAGE, or palisade rmi {text}"),
        ));
    }
    let mut images = if exists {
        members(&place, word(matches, "LIST"))?
    } else {
        Vec::new()
    };
    for image in words(matches, "IMAGE") {
        join(&mut images, member(&place, image)?);
    }
    publish(&place, &images, word(matches, "LIST"))
}

fn add(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let list = word(matches, "LIST");
    let mut images = members(&place, list)?;
    for image in words(matches, "IMAGE") {
        let mut new = member(&place, image)?;
        describe(matches, &mut new)?;
        join(&mut images, new);
    }
    publish(&place, &images, list)
}

fn annotate(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let list = word(matches, "LIST");
    let mut images = members(&place, list)?;
    let at = position(&place, &images, matches)?;
    describe(matches, &mut images[at])?;
    publish(&place, &images, list)
}

fn take_out(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let list = word(matches, "LIST");
    let mut images = members(&place, list)?;
    let at = position(&place, &images, matches)?;
    images.remove(at);
    publish(&place, &images, list)
}

/// Which of a list's images is meant: by a manifest's digest, or by what has that name or id in the store.
fn position(place: &Place, images: &[Descriptor], matches: &ArgMatches) -> Result<usize, Failure> {
    let text = word(matches, "IMAGE");
    let digest = match text.parse::<Digest>() {
        Ok(digest) if images.iter().any(|image| image.digest == digest) => digest,
        _ => member(place, text)?.digest,
    };
    let found = images.iter().position(|image| image.digest == digest);
    found.ok_or_else(|| {
        let list = word(matches, "LIST");
        Failure::new(
            format!("{text} is not in the list {list}"),
            format!("palisade manifest inspect {list}"),
        )
    })
}

/// Says of an image what the options do.
fn describe(matches: &ArgMatches, image: &mut Descriptor) -> Result<(), Failure> {
    let mut platform = image.platform.clone().unwrap_or_else(Platform::host);
    let given = |name| Some(word(matches, name)).filter(|text| !text.is_empty());
    if let Some(os) = given("os") {
        os.clone_into(&mut platform.os);
    }
    if let Some(architecture) = given("arch") {
        architecture.clone_into(&mut platform.architecture);
        // A variant belongs to its machine.
        platform.variant = None;
    }
    if let Some(variant) = given("variant") {
        platform.variant = Some(variant.to_owned());
    }
    // In the words that images use, or refused.
    let platform = Platform::parse(&platform.to_string()).map_err(|e| failed(&e))?;
    image.platform = Some(platform);
    for pair in words(matches, "annotation") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(
                format!("`{pair}` is not KEY=VALUE"),
                "--annotation KEY=VALUE",
            )
        })?;
        let annotations = &mut image.annotations;
        annotations.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

fn publish(place: &Place, images: &[Descriptor], list: &str) -> Result<u8, Failure> {
    let name = name(list)?;
    let lists = |entries: Vec<Descriptor>| -> Vec<Descriptor> {
        let is_list = |entry: &Descriptor| matches!(document(place, entry), Ok(Document::Index(_)));
        let own = entries.into_iter().filter(|entry| entry.is_called(&name));
        own.filter(is_list).collect()
    };
    let before = lists(place.store.entries().map_err(|e| failed(&e))?);
    let made = place.store.make_index(images, &name);
    let digest = made.map_err(|e| failed(&e))?;
    // A list that has been changed is not an image without a name: nobody wants it back.
    let replaced = |entry: &&Descriptor| {
        entry.name().is_none()
            && entry.digest != digest
            && before.iter().any(|old| old.digest == entry.digest)
    };
    let (_, keep) = place.sandboxes()?;
    let removed = place.store.remove(Extent::Entries, &keep, |entries| {
        Ok(entries.iter().filter(replaced).cloned().collect())
    });
    removed.map_err(|e| failed(&e))?;
    print(&format!("{digest}\n"))?;
    Ok(0)
}

/// The images that a list has.
fn members(place: &Place, text: &str) -> Result<Vec<Descriptor>, Failure> {
    let entry = place.entry(text)?;
    match document(place, &entry)? {
        Document::Index(index) => Ok(index.manifests),
        Document::Manifest(_) => Err(Failure::new(
            format!("{text} is an image for one platform, not a list"),
            "palisade manifest create with another name",
        )),
    }
}

/// An image as a list has it: with what it is for.
fn member(place: &Place, text: &str) -> Result<Descriptor, Failure> {
    let entry = place.store.entry(&reference(text)?, &place.platform);
    let entry = entry.map_err(|error| match error {
        Error::NotInStore { .. } => Failure::new(
            format!("no such image: {text}"),
            format!("palisade pull --platform OS/ARCH {text}"),
        ),
        error => failed(&error),
    })?;
    let details = place
        .store
        .details(entry, &place.platform)
        .map_err(|e| failed(&e))?;
    let mut descriptor = details.stored.descriptor;
    descriptor.annotations.clear();
    descriptor.platform = Some(details.platform);
    Ok(descriptor)
}

/// Takes a member in; it takes the place of one for the same platform.
fn join(images: &mut Vec<Descriptor>, new: Descriptor) {
    images.retain(|image| image.platform != new.platform && image.digest != new.digest);
    images.push(new);
}

fn inspect(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let wanted = word(matches, "IMAGE");
    let known = reference(wanted)?;
    let text = match place.store.entry(&known, &place.platform) {
        Ok(entry) => place.store.read_blob(&entry).map_err(|e| failed(&e))?,
        // As docker does: what is not here is shown as its registry has it.
        Err(Error::NotInStore { .. }) if matches!(known, Reference::Registry(_)) => {
            registry::document(matches, wanted)?
        }
        Err(error) => return Err(no_such(wanted, &error)),
    };
    let value: Value = serde_json::from_slice(&text).unwrap_or_else(|_| json!({}));
    let format = matches.get_one::<String>("format").map(String::as_str);
    if format.is_some() {
        print(&inspected(format, &[value]).map_err(format_failure)?)?;
    } else {
        print(&format!("{value:#}\n"))?;
    }
    Ok(0)
}

fn document(place: &Place, entry: &Descriptor) -> Result<Document, Failure> {
    let text = place.store.read_blob(entry).map_err(|e| failed(&e))?;
    Document::parse(&text, &place.data).map_err(|e: Error| failed(&e))
}
