//! `palisade load`: images from an archive or layout into the store.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use clap::ArgMatches;
use palisade_rootfs::{Naming, Origin, Reference};

use super::describe::familiar;
use super::{Place, failed, name, word};
use crate::failure::{Failure, reason};
use crate::verb::print;

/// `load`, `image load`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let input = matches.get_one::<String>("input").map(String::as_str);
    let new = match word(matches, "NAME") {
        "" => None,
        text => Some(name(text)?),
    };
    let elsewhere = input
        .filter(|text| is_reference(text))
        .map(|text| Reference::parse(text).map_err(|e| failed(&e)))
        .transpose()?;
    let origin = match (&elsewhere, input) {
        (Some(reference), _) => Origin::Reference(reference),
        (None, None | Some("-")) => Origin::File(standard_input(&place)?, Path::new("-")),
        (None, Some(path)) => Origin::File(open(path)?, Path::new(path)),
    };
    let naming = new.as_ref().map_or(Naming::Given, Naming::As);
    let loaded = place
        .store
        .load(origin, naming, &place.platform, place.ownership)
        .map_err(|e| failed(&e))?;
    let mut lines = String::new();
    for image in loaded {
        if image.names.is_empty() {
            lines.extend(["Loaded image ID: ", &image.id.to_string(), "\n"]);
        }
        for name in &image.names {
            lines.extend(["Loaded image: ", &familiar(name), "\n"]);
        }
    }
    print(&lines)?;
    Ok(0)
}

/// Whether this names an image that lies outside of the store.
pub fn is_reference(text: &str) -> bool {
    let kinds = ["oci:", "oci-archive:", "docker-archive:"];
    kinds.iter().any(|kind| text.starts_with(kind))
}

fn open(path: &str) -> Result<File, Failure> {
    let fail = |why: String| {
        Failure::new(
            format!("cannot open {path}: {why}"),
            "palisade load -i FILE with an archive of images",
        )
    };
    let file = File::open(path).map_err(|e| fail(reason(&e)))?;
    let metadata = file.metadata().map_err(|e| fail(reason(&e)))?;
    if metadata.is_dir() {
        return Err(Failure::new(
            format!("{path} is a directory"),
            format!("palisade load -i oci:{path}"),
        ));
    }
    Ok(file)
}

/// Standard input, as a file that can be read from anywhere.
pub fn standard_input(place: &Place) -> Result<File, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(
            "standard input is a terminal",
            "-i FILE, or < FILE",
        ));
    }
    let fail = |e: &std::io::Error| {
        Failure::new(
            format!("cannot read standard input: {}", reason(e)),
            "-i FILE",
        )
    };
    let file = File::from(stdin.as_fd().try_clone_to_owned().map_err(|e| fail(&e))?);
    if file.metadata().map_err(|e| fail(&e))?.is_file() {
        return Ok(file);
    }
    place.store.spool(&mut stdin.lock()).map_err(|e| failed(&e))
}
