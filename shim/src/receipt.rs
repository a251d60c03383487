//! What was run, what held it, and how it ended, as a JSON file; docs/receipts.md describes every field.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::SystemTime;

use palisade_runtime::Plan;
use serde::Serialize;
use serde_json::Value;

use crate::Error;

mod canonical;
mod document;
mod place;

pub(crate) use document::Ending;
use document::document;
pub use place::Place;

/// The schema that receipts of this version follow: docs/receipt.schema.json.
pub const SCHEMA: &str = "palisade-receipt/1";

/// A receipt that was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it goes.
    pub to: To,
    /// What only the caller knows.
    pub facts: Facts,
}

/// Where a receipt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Palisade's own standard output, after the command's end.
    Stdout,
    /// A file, replaced in one step. What exists and is no regular file (a FIFO, /dev/fd/3) is written into.
    File(PathBuf),
}

/// What a Plan does not say: where it comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// The sandbox's name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image.
    pub image: Option<Image>,
    /// The policy.
    pub policy: Option<Policy>,
    /// `full`, `no-cgroup` or `no-namespace`.
    pub tier: Option<String>,
    /// How ids were mapped: `single`, `range` or `host`.
    pub identity: Option<String>,
    /// What the user was told besides.
    pub warnings: Vec<String>,
    /// Protections that were asked for and not to be had, with `--best-effort`.
    pub missing: Vec<String>,
}

/// The image a sandbox was made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Image {
    /// As the user wrote it.
    pub reference: String,
    /// Digest of its manifest, `sha256:` and 64 hexadecimal digits.
    pub manifest: Option<String>,
    /// Digests (diff-ids) of its unpacked layers, the lowest first.
    pub layers: Vec<String>,
}

/// The policy that was applied.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Policy {
    /// Its name, or the path of its file.
    pub name: String,
    /// Digest of what it came to, `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

/// Writes the receipt of a run that failed before there was a Plan, such as for want of its image.
///
/// # Errors
///
/// [`Error::Receipt`] when it cannot be written.
pub fn failed(
    request: &Request,
    start: SystemTime,
    exit_code: u8,
    error: impl Display,
) -> Result<(), Error> {
    let ending = Ending::failed(exit_code, error);
    let text = text(
        None,
        &request.facts,
        start,
        Some((SystemTime::now(), &ending)),
    );
    Place::reserve(&request.to)?.fill(&text)
}

/// The receipt as JSON text with a final newline.
pub(crate) fn text(
    plan: Option<&Plan>,
    facts: &Facts,
    start: SystemTime,
    end: Option<(SystemTime, &Ending)>,
) -> String {
    let mut receipt = document(plan, facts, start, end);
    let digest = canonical::digest(&receipt);
    receipt["digest"] = Value::from(digest);
    format!("{receipt:#}\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::{Facts, Request, To, failed};

    #[test]
    fn a_run_that_never_had_a_plan_leaves_a_receipt_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("receipt.json");
        let request = Request {
            to: To::File(path.clone()),
            facts: Facts::default(),
        };
        failed(
            &request,
            UNIX_EPOCH + Duration::from_secs(1),
            125,
            "no such image",
        )
        .unwrap();
        let receipt: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(receipt["result"]["error"], "no such image");
        assert_eq!(receipt["result"]["exit_code"], 125);
        assert_eq!(receipt["command"], Value::Null);
    }
}
