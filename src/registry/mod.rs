//! Images from registries and to them.

mod interrupt;
pub mod login;
mod progress;
pub mod pull;
pub mod push;
pub mod referrers;

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use palisade_rootfs::registry::{Options, Registries};
use palisade_rootfs::{Error, Name, Ownership, Reference, Store};

use crate::caller::Caller;
use crate::data;
use crate::failure::Failure;
use crate::run::image_remedy;

/// What each of these verbs starts from.
struct Ready {
    registries: Registries,
    store: Store,
    caller: Caller,
}

impl Ready {
    fn new(matches: &ArgMatches) -> Result<Self, Failure> {
        let caller = Caller::read(false)?;
        let root = word(matches, "root").map(Path::new);
        let data = data::directory(root, &caller)?;
        let registries = open(&caller, ca_files(matches, &caller))?;
        Ok(Self {
            registries,
            store: Store::open(&data).map_err(failed)?,
            caller,
        })
    }
}

/// What a name stands for at its registry now: the JSON of a manifest or index.
///
/// # Errors
/// Those of the name and of the registry.
pub fn document(matches: &ArgMatches, text: &str) -> Result<Vec<u8>, Failure> {
    let caller = Caller::read(false)?;
    let registries = open(&caller, ca_files(matches, &caller))?;
    let name = name(text)?;
    interrupt::stoppable(&registries, || registries.document(&name).map_err(failed))
}

/// The files of `--ca-file`.
fn ca_files(matches: &ArgMatches, caller: &Caller) -> impl Iterator<Item = PathBuf> {
    let files = matches.get_many::<String>("ca-file").into_iter().flatten();
    files.map(|file| caller.absolute(Path::new(file)))
}

/// The registries there are for a caller.
fn open(caller: &Caller, ca_files: impl Iterator<Item = PathBuf>) -> Result<Registries, Failure> {
    let mut options = Options::of_caller(caller.environment.clone());
    options.ca_files.extend(ca_files);
    Registries::new(options).map_err(failed)
}

/// Whose the files of a caller's layers are.
fn ownership(caller: &Caller) -> Ownership {
    if caller.is_real_root() {
        Ownership::Kept
    } else {
        Ownership::Caller
    }
}

/// A name in docker's grammar; what lies elsewhere has none.
fn name(text: &str) -> Result<Name, Failure> {
    match Reference::parse(text).map_err(failed)? {
        Reference::Registry(name) => Ok(name),
        _ => Err(Failure::new(
            format!("{text} is not the name of an image in a registry"),
            "a name as debian:12 or ghcr.io/owner/name",
        )),
    }
}

/// A name without tag or digest, of which all tags are meant.
fn repository(text: &str) -> Result<Name, Failure> {
    let found = name(text)?;
    let last = text.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        return Err(Failure::new(
            format!("{text} has a tag or digest, and --all-tags means every tag"),
            found.familiar(),
        ));
    }
    Ok(found)
}

fn word<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// An error as the user sees it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` is given"
)]
fn failed(error: Error) -> Failure {
    let remedy = match &error {
        Error::Registry { remedy, .. } => (*remedy).to_owned(),
        Error::Denied { what, .. } if what.is_empty() => {
            "the user's name and password or token, as the registry has them".to_owned()
        }
        Error::Reference { .. } => "a name as debian:12 or ghcr.io/owner/name".to_owned(),
        Error::Denied { registry, .. } => {
            format!(
                "palisade login {registry}, or check the name: registries often say the same of what does not exist"
            )
        }
        Error::NoSuchName { .. } => "check the name and the tag".to_owned(),
        Error::Refused { .. } => {
            "an image the rule accepts, or an administrator who changes the rule".to_owned()
        }
        Error::Settings { path, .. } => format!("correct {}", path.display()),
        Error::NotInStore { .. } => "palisade images shows what there is".to_owned(),
        Error::Interrupted => "the same again: what has arrived is kept".to_owned(),
        error => image_remedy(error).to_owned(),
    };
    Failure::new(error.to_string(), remedy)
}
