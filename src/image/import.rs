//! `palisade import`: a root directory in an archive becomes an image.

use std::fs::File;
use std::time::SystemTime;

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::load::standard_input;
use super::{Place, changes, failed, name, word, words};
use crate::failure::{Failure, reason};
use crate::format::rfc3339;
use crate::verb::print;

/// `import`, `image import`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let source = word(matches, "FILE");
    let names = match word(matches, "NAME") {
        "" => Vec::new(),
        text => vec![name(text)?],
    };
    if source.starts_with("http://") || source.starts_with("https://") {
        return Err(Failure::new(
            format!("{source} is not on this machine"),
            format!("curl -fsSL {source} | palisade import - NAME"),
        ));
    }
    let now = rfc3339(SystemTime::now());
    let mut inner = Map::new();
    for change in words(matches, "change") {
        changes::apply(&mut inner, change)?;
    }
    let message = match word(matches, "message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let mut config = Map::new();
    config.insert("created".to_owned(), json!(now));
    config.insert(
        "architecture".to_owned(),
        json!(place.platform.architecture),
    );
    config.insert("os".to_owned(), json!(place.platform.os));
    if let Some(variant) = &place.platform.variant {
        config.insert("variant".to_owned(), json!(variant));
    }
    config.insert("config".to_owned(), Value::Object(inner));
    config.insert(
        "history".to_owned(),
        json!([{"created": now, "comment": message}]),
    );
    let file = if source == "-" {
        standard_input(&place)?
    } else {
        File::open(source).map_err(|e| {
            Failure::new(
                format!("cannot open {source}: {}", reason(&e)),
                "palisade import FILE with a tar archive of a root directory, or - for standard input",
            )
        })?
    };
    let layer = place.store.new_layer(file).map_err(|e| failed(&e))?;
    let id = place
        .store
        .make(None, config, &layer, &names, place.ownership)
        .map_err(|e| failed(&e))?;
    print(&format!("{id}\n"))?;
    Ok(0)
}
