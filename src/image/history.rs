//! `palisade history`: the steps an image was made in.

use std::time::SystemTime;

use clap::ArgMatches;
use serde::Deserialize;
use serde_json::Value;

use super::describe::{Described, since};
use super::{Place, format_failure, word};
use crate::failure::Failure;
use crate::format::{Listing, Row, parse_time, rfc3339, shortened, size};
use crate::verb::print;

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};

/// How much of a command is shown.
const SHOWN: usize = 45;

/// A step, as the configuration has it (OCI image-spec, config.md, "history").
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Step {
    pub created: Option<String>,
    pub created_by: Option<String>,
    pub comment: Option<String>,
    pub empty_layer: bool,
}

#[derive(Deserialize)]
struct Document {
    history: Option<Vec<Step>>,
}

/// `history`, `image history`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let image = Described::read(&place, place.entry(word(matches, "IMAGE"))?)?;
    let full = matches.get_flag("no-trunc");
    let human = word(matches, "human") != "false";
    let rows = rows(&image, full, human);
    let format = matches.get_one::<String>("format").map(String::as_str);
    let format = match format {
        Some("json") => Some("{{json .}}"),
        format => format,
    };
    let text = LISTING.print(format, matches.get_flag("quiet"), &rows);
    print(&text.map_err(format_failure)?)?;
    Ok(0)
}

/// The steps, the latest first. An image that does not tell of them has one for each layer.
fn rows(image: &Described, full: bool, human: bool) -> Vec<Row> {
    let document: Option<Document> = serde_json::from_slice(&image.details.document).ok();
    let mut steps = document.and_then(|d| d.history).unwrap_or_default();
    if steps.iter().filter(|step| !step.empty_layer).count() != image.sizes.len() {
        steps = image
            .sizes
            .iter()
            .map(|_| Step {
                created: image.details.config.created.clone(),
                ..Step::default()
            })
            .collect();
    }
    let mut sizes = image.sizes.iter();
    let mut rows: Vec<Row> = steps
        .iter()
        .map(|step| {
            let bytes = if step.empty_layer {
                0
            } else {
                sizes.next().copied().unwrap_or(0)
            };
            row(step, bytes, full, human)
        })
        .collect();
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        first.fields.insert("ID".to_owned(), image.id(full).into());
    }
    rows
}

fn row(step: &Step, bytes: u64, full: bool, human: bool) -> Row {
    let text = step.created.as_deref().unwrap_or_default();
    let time = parse_time("created", text, SystemTime::now()).ok();
    let at = time.map(rfc3339).unwrap_or_default();
    let by = step.created_by.as_deref().unwrap_or_default();
    let by = by.split_whitespace().collect::<Vec<_>>().join(" ");
    let by = if full { by } else { shortened(&by, SHOWN) };
    let (created, bytes): (String, Value) = if human {
        (since(time), size(bytes).into())
    } else {
        (at.clone(), bytes.to_string().into())
    };
    Row::new([
        ("ID", Value::from("<missing>")),
        ("CreatedSince", created.into()),
        ("CreatedAt", at.into()),
        ("CreatedBy", by.into()),
        ("Size", bytes),
        ("Comment", step.comment.clone().unwrap_or_default().into()),
    ])
}
