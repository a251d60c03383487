//! The receipt that a run asks for: where it goes, and what of it only the command line knows.

use std::path::Path;
use std::time::SystemTime;

use palisade_policies::Policy;
use palisade_rootfs::Image;
use palisade_shim::receipt::{self, Facts, To};

use crate::failure::Failure;
use crate::request::{Receipt, Request};
use crate::resolve::Resolved;

/// The receipt of a run with a plan; none where none was asked for.
pub fn of_run(
    request: &Request,
    policy: &Policy,
    image: Option<&Image>,
    resolved: &Resolved,
) -> Option<receipt::Request> {
    let wanted = Wanted::by(request)?;
    let layers = image
        .iter()
        .flat_map(|image| &image.layers)
        .filter_map(|layer| layer.diff_id);
    let facts = Facts {
        image: Some(receipt::Image {
            reference: request.image_name.clone(),
            manifest: image
                .and_then(|image| image.manifest_digest)
                .map(|digest| digest.to_string()),
            layers: layers.map(|digest| digest.to_string()).collect(),
        }),
        policy: Some(receipt::Policy {
            name: policy.name.clone(),
            digest: Some(policy.digest()),
        }),
        identity: Some(resolved.identity.to_owned()),
        warnings: resolved.notes.clone(),
        ..named(request)
    };
    Some(wanted.with(facts))
}

/// Writes the receipt, where one was asked for, of a run that failed before there was a plan.
///
/// # Errors
/// Why it cannot be written.
pub fn of_failure(
    request: &Request,
    start: SystemTime,
    failure: &Failure,
) -> Result<(), palisade_shim::Error> {
    let wanted = match Wanted::by(request) {
        Some(wanted) if !request.dry_run => wanted,
        _ => return Ok(()),
    };
    let facts = Facts {
        image: Some(receipt::Image {
            reference: request.image_name.clone(),
            ..receipt::Image::default()
        }),
        policy: Some(receipt::Policy {
            name: request.policy.clone(),
            digest: None,
        }),
        ..named(request)
    };
    receipt::failed(
        &wanted.with(facts),
        start,
        failure.code(),
        failure.message(),
    )
}

fn named(request: &Request) -> Facts {
    Facts {
        name: request.name.clone(),
        labels: request.labels.iter().cloned().collect(),
        ..Facts::default()
    }
}

/// A receipt of something else than a run, with these facts.
pub fn with(wanted: &Receipt, facts: Facts) -> receipt::Request {
    Wanted(wanted).with(facts)
}

/// A receipt that was asked for. Its facts, digests among them, are gathered for no other run.
struct Wanted<'r>(&'r Receipt);

impl<'r> Wanted<'r> {
    fn by(request: &'r Request) -> Option<Self> {
        let receipt = &request.receipt;
        (receipt.file.is_some() || receipt.log.is_some()).then_some(Self(receipt))
    }

    fn with(self, facts: Facts) -> receipt::Request {
        let Receipt { file, log, key, .. } = self.0;
        receipt::Request {
            to: file.as_deref().map(place),
            log: log.clone(),
            key: key.clone(),
            facts,
        }
    }
}

fn place(path: &Path) -> To {
    if path.as_os_str() == "-" {
        To::Stdout
    } else {
        To::File(path.to_owned())
    }
}
