//! What was run, what held it, and how it ended, as a JSON file; docs/receipts.md describes every field.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::SystemTime;

use palisade_runtime::Plan;
use serde::Serialize;

use crate::Error;

mod canonical;
mod document;
mod key;
mod log;
mod place;
mod seal;
mod verify;

pub(crate) use document::Ending;
use document::document;
use key::KeyFile;
pub use key::{PublicKey, generate};
use log::Log;
pub use place::Place;
pub use verify::{Checked, Expected, read_receipts, verify};

/// The schema that receipts of this version follow: docs/receipt.schema.json.
pub const SCHEMA: &str = "palisade-receipt/1";

/// A receipt that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where it goes.
    pub to: Option<To>,
    /// A log to append it to, where it gets a place in the log's chain.
    pub log: Option<PathBuf>,
    /// The file of a private key to sign it with.
    pub key: Option<PathBuf>,
    /// What only the caller knows.
    pub facts: Facts,
}

impl Request {
    /// The same for runs that no caller waits for: only a file of its own and a log can be written again.
    pub(crate) fn of_later_runs(&self) -> Option<Self> {
        let again = |to: &To| match to {
            To::Stdout => false,
            To::File(path) => std::fs::metadata(path).map_or(true, |found| found.is_file()),
        };
        let to = self.to.clone().filter(again);
        (to.is_some() || self.log.is_some()).then(|| Self { to, ..self.clone() })
    }
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

/// A receipt that is being made: claimed before the run, written after it.
#[derive(Debug)]
pub(crate) struct Recorder<'r> {
    request: &'r Request,
    start: SystemTime,
    place: Option<Place>,
    log: Option<Log>,
    key: Option<KeyFile>,
}

impl<'r> Recorder<'r> {
    /// Opens everything that the receipt needs, so that what is wrong with it ends palisade before anything runs.
    fn open(request: &'r Request, start: SystemTime) -> Result<Self, Error> {
        let key = request.key.as_deref().map(KeyFile::open).transpose()?;
        let log = request.log.as_deref().map(Log::open).transpose()?;
        let place = request.to.as_ref().map(Place::reserve).transpose()?;
        Ok(Self {
            request,
            start,
            place,
            log,
            key,
        })
    }

    /// The same for a run that is about to begin: its file says so from now on.
    pub(crate) fn begin(
        request: &'r Request,
        plan: &Plan,
        start: SystemTime,
    ) -> Result<Self, Error> {
        let mut recorder = Self::open(request, start)?;
        if let Some(key) = &recorder.key {
            key.refuse_exposed(plan)?;
        }
        if let Some(log) = &recorder.log {
            log.refuse_exposed(plan)?;
        }
        if let Some(place) = &mut recorder.place {
            let receipt = document(Some(plan), &request.facts, start, None);
            let sealed = seal::seal(receipt, recorder.key.as_ref())?;
            place.begin(&canonical::indented(&sealed))?;
        }
        Ok(recorder)
    }

    /// Writes the receipt, to the log first: what that adds to it is in the file too. `missing` is what `--best-effort`
    /// went on without.
    pub(crate) fn finish(
        self,
        plan: Option<&Plan>,
        missing: &[String],
        end: SystemTime,
        ending: &Ending,
    ) -> Result<(), Error> {
        let mut facts = self.request.facts.clone();
        facts.missing.extend_from_slice(missing);
        facts.tier = ending.tier().map(str::to_owned);
        let receipt = document(plan, &facts, self.start, Some((end, ending)));
        let key = self.key.as_ref();
        let logged = self
            .log
            .as_ref()
            .map(|log| log.append(receipt.clone(), key));
        // A log that takes no more is told, and the file has its receipt all the same.
        let (sealed, problem) = match logged {
            Some(Ok(sealed)) => (sealed, None),
            Some(Err(error)) => (seal::seal(receipt, key)?, Some(error)),
            None => (seal::seal(receipt, key)?, None),
        };
        if let Some(place) = self.place {
            place.fill(&canonical::indented(&sealed))?;
        }
        problem.map_or(Ok(()), Err)
    }
}

/// Writes the receipt of a run that failed before there was a Plan, such as for want of its image.
///
/// # Errors
///
/// [`Error::Receipt`] when it cannot be written, and what is wrong with a key or a log.
pub fn failed(
    request: &Request,
    start: SystemTime,
    exit_code: u8,
    error: impl Display,
) -> Result<(), Error> {
    let ending = Ending::failed(exit_code, error);
    Recorder::open(request, start)?.finish(None, &[], SystemTime::now(), &ending)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::{Request, To, failed};

    #[test]
    fn a_run_that_never_had_a_plan_leaves_a_receipt_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("receipt.json");
        let request = Request {
            to: Some(To::File(path.clone())),
            ..Request::default()
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
