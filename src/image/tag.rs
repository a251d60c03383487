//! `palisade tag`: another name for an image.

use clap::ArgMatches;

use super::{Place, failed, name, word};
use crate::failure::Failure;

/// `tag`, `image tag`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let new = name(word(matches, "NAME"))?;
    let entry = place.entry(word(matches, "IMAGE"))?;
    place.store.tag(&entry, &new).map_err(|e| failed(&e))?;
    Ok(0)
}
