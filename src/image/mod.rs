//! The verbs on images: what the store has, and what goes into it and out of it.

mod changes;
mod check;
mod commands;
mod describe;
mod history;
mod import;
pub mod inspect;
mod list;
mod load;
mod manifest;
mod prune;
mod remove;
mod sandbox;
mod save;
mod tag;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Error, Name, Ownership, Platform, Reference, Store};
use palisade_runtime::Root;
use palisade_shim::state::{Known, Registry};

use crate::caller::Caller;
use crate::data;
use crate::failure::Failure;
use crate::registry;

pub use commands::verbs;

/// Does one of [`verbs`].
pub fn main(verb: &str, matches: &ArgMatches) -> Result<u8, Failure> {
    match verb {
        "images" => list::main(matches),
        "history" => history::main(matches),
        "rmi" => remove::main(matches),
        "tag" => tag::main(matches),
        "load" => load::main(matches),
        "save" => save::main(matches),
        "import" => import::main(matches),
        "export" => sandbox::export(matches),
        "commit" => sandbox::commit(matches),
        "manifest" => manifest::main(matches),
        "store" => match matches.subcommand() {
            Some((_, matches)) => check::main(matches),
            None => Ok(0),
        },
        _ => match matches.subcommand() {
            Some(("inspect", matches)) => inspect::main(matches),
            Some(("history", matches)) => history::main(matches),
            Some(("rm", matches)) => remove::main(matches),
            Some(("load", matches)) => load::main(matches),
            Some(("save", matches)) => save::main(matches),
            Some(("import", matches)) => import::main(matches),
            Some(("prune", matches)) => prune::main(matches),
            Some(("tag", matches)) => tag::main(matches),
            Some(("size", matches)) => list::sizes(matches),
            Some(("pull", matches)) => registry::pull::main(matches),
            Some(("push", matches)) => registry::push::main(matches),
            Some(("referrers", matches)) => registry::referrers::main(matches),
            Some((_, matches)) => list::main(matches),
            None => Ok(0),
        },
    }
}

/// The store that a verb works on, and for whom.
pub struct Place {
    pub store: Store,
    pub data: PathBuf,
    pub ownership: Ownership,
    pub platform: Platform,
}

impl Place {
    /// The store of `--root`, or the caller's.
    pub fn open(matches: &ArgMatches) -> Result<Self, Failure> {
        let caller = Caller::read(false)?;
        let root = matches
            .get_one::<String>("root")
            .map(|root| caller.absolute(Path::new(root)));
        let data = data::directory(root.as_deref(), &caller)?;
        let platform = match matches.try_get_one::<String>("platform") {
            Ok(Some(platform)) => Platform::parse(platform).map_err(|e| failed(&e))?,
            _ => Platform::host(),
        };
        Self::below(data, &caller, platform)
    }

    /// The store below a data directory.
    pub fn below(data: PathBuf, caller: &Caller, platform: Platform) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::open(&data).map_err(|e| failed(&e))?,
            data,
            ownership: if caller.is_real_root() {
                Ownership::Kept
            } else {
                Ownership::Caller
            },
            platform,
        })
    }

    /// What a name or id stands for.
    pub fn entry(&self, text: &str) -> Result<Descriptor, Failure> {
        let reference = reference(text)?;
        self.store
            .entry(&reference, &self.platform)
            .map_err(|error| no_such(text, &error))
    }

    /// The sandboxes that have a record, and the directories of the layers they were made on.
    pub fn sandboxes(&self) -> Result<(Vec<Known>, BTreeSet<PathBuf>), Failure> {
        let listing = Registry::new(&self.data).list().map_err(|error| {
            Failure::new(
                format!("cannot tell which images are in use: {error}"),
                "palisade ps -a",
            )
        })?;
        let mut layers = BTreeSet::new();
        for known in &listing.sandboxes {
            if let Ok(plan) = known.entry.plan()
                && let Root::Overlay { lower, .. } = plan.root
            {
                layers.extend(lower);
            }
        }
        Ok((listing.sandboxes, layers))
    }
}

/// A reference that a user typed.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text)
        .map_err(|error| Failure::new(error.to_string(), "palisade images shows what there is"))
}

/// A name to give to an image.
pub fn name(text: &str) -> Result<Name, Failure> {
    let name =
        Name::parse(text).map_err(|error| Failure::new(error.to_string(), "NAME or NAME:TAG"))?;
    if name.digest.is_some() {
        return Err(Failure::new(
            format!("`{text}` has a digest, which only a registry can give"),
            "NAME or NAME:TAG",
        ));
    }
    Ok(name)
}

/// The one word of an argument.
pub fn word<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// All words of an argument.
pub fn words<'a>(matches: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    let words = matches.get_many::<String>(name);
    words.into_iter().flatten().map(String::as_str).collect()
}

/// An error of the store, for the user.
pub fn failed(error: &Error) -> Failure {
    Failure::new(error.to_string(), crate::run::image_remedy(error))
}

/// The same, where the likeliest is that there is no such image.
pub fn no_such(text: &str, error: &Error) -> Failure {
    match error {
        Error::NotInStore { .. } => Failure::new(
            format!("no such image: {text}"),
            "palisade images shows what there is",
        ),
        error => failed(error),
    }
}

/// What is wrong with a template or filter.
pub fn format_failure(error: crate::format::Error) -> Failure {
    Failure::new(error.message, error.remedy)
}
