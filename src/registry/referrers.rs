//! `palisade image referrers`.

use clap::ArgMatches;
use serde_json::Value;

use super::interrupt::stoppable;
use super::{ca_files, failed, name, open, word};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::format::{Listing, Row, size};
use crate::image::format_failure;
use crate::verb::print;

const LIST: Listing = Listing {
    headings: &[
        ("Digest", "DIGEST"),
        ("ArtifactType", "ARTIFACT TYPE"),
        ("MediaType", "MEDIA TYPE"),
        ("Size", "SIZE"),
        ("Annotations", "ANNOTATIONS"),
    ],
    table: "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}",
    quiet: "{{.Digest}}",
};

/// Lists what refers to an image at its registry.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let caller = Caller::read(false)?;
    let registries = open(&caller, ca_files(matches, &caller))?;
    let image = name(word(matches, "IMAGE").unwrap_or_default())?;
    let kind = word(matches, "artifact-type");
    let (_, found) = stoppable(&registries, || {
        registries.referrers(&image, kind).map_err(failed)
    })?;
    let row = |referrer: &palisade_rootfs::registry::Referrer| {
        let annotations = referrer.annotations.iter().flatten();
        let annotations =
            annotations.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        let values: [(&'static str, Value); 5] = [
            ("Digest", referrer.digest.to_string().into()),
            ("ArtifactType", referrer.artifact_type.as_str().into()),
            ("MediaType", referrer.media_type.as_str().into()),
            ("Size", size(referrer.size).into()),
            ("Annotations", Value::Object(annotations.collect())),
        ];
        Row::new(values)
    };
    let rows: Vec<Row> = found.iter().map(row).collect();
    let format = match word(matches, "format") {
        Some("json") => Some("{{json .}}"),
        format => format,
    };
    let text = LIST.print(format, matches.get_flag("quiet"), &rows);
    print(&text.map_err(format_failure)?)?;
    Ok(0)
}
