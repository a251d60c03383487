//! `palisade push`.

use clap::ArgMatches;
use serde_json::json;

use super::interrupt::stoppable;
use super::progress::{Form, Show, Stream, Words};
use super::{Ready, failed, name, word};
use crate::failure::Failure;
use crate::verb::print;

/// Pushes an image and says what it is called there.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let ready = Ready::new(matches)?;
    let name = name(word(matches, "IMAGE").unwrap_or_default())?;
    let form = if matches.get_flag("quiet") {
        Form::Quiet
    } else if matches.get_flag("json") {
        Form::Json
    } else {
        Form::Text
    };
    let show = Show::new(Stream::Stdout, form, Words::Push);
    let place = format!("{}/{}", name.registry, name.repository);
    show.line(&format!("The push refers to repository [{place}]"));
    let pushed = stoppable(&ready.registries, || {
        ready
            .registries
            .push(&ready.store, &name, &show)
            .map_err(failed)
    });
    show.finish();
    let pushed = pushed?;
    show.line(&format!(
        "{}: digest: {} size: {}",
        name.tag.as_deref().unwrap_or("(no tag)"),
        pushed.digest,
        pushed.size
    ));
    show.object(&json!({
        "event": "pushed",
        "name": pushed.name.to_string(),
        "digest": pushed.digest.to_string(),
        "size": pushed.size,
    }));
    if form == Form::Quiet {
        print(&format!("{}\n", pushed.name))?;
    }
    Ok(0)
}
