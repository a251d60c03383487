//! `palisade manifest`: one name for images of several platforms.

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Document, Error};
use serde_json::{Value, json};

use super::{Place, failed, format_failure, name, word, words};
use crate::failure::Failure;
use crate::format::inspected;
use crate::verb::print;

/// `manifest create|add|inspect`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("create", matches)) => create(matches),
        Some(("add", matches)) => add(matches),
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
        join(&mut images, member(&place, image)?);
    }
    publish(&place, &images, list)
}

fn publish(place: &Place, images: &[Descriptor], list: &str) -> Result<u8, Failure> {
    let digest = place
        .store
        .make_index(images, &name(list)?)
        .map_err(|e| failed(&e))?;
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
    let details = place
        .store
        .details(place.entry(text)?, &place.platform)
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
    let entry = place.entry(word(matches, "IMAGE"))?;
    let text = place.store.read_blob(&entry).map_err(|e| failed(&e))?;
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
