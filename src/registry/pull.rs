//! `palisade pull`, and what `palisade run` does where an image is missing.

use clap::ArgMatches;
use palisade_rootfs::{Error, Image, Name, Ownership, Platform, Reference, Store};
use serde_json::json;

use super::interrupt::stoppable;
use super::progress::{Form, Show, Stream, Words};
use super::{Ready, failed, name, open, ownership, repository, word};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::verb::{print, tell};

/// Pulls images and says what came.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let ready = Ready::new(matches)?;
    let platform = match word(matches, "platform") {
        Some(text) => Platform::parse(text).map_err(failed)?,
        None => Platform::host(),
    };
    let images = matches.get_many::<String>("IMAGE").into_iter().flatten();
    for image in images {
        if matches.get_flag("all-tags") {
            all_tags(matches, &ready, &repository(image)?, &platform)?;
        } else {
            let name = ready.registries.complete(&name(image)?).map_err(failed)?;
            one(matches, &ready, &name, &platform)?.map_err(failed)?;
        }
    }
    Ok(0)
}

/// Pulls every tag of a repository but those that are no images: signatures and the like have tags too.
fn all_tags(
    matches: &ArgMatches,
    ready: &Ready,
    repository: &Name,
    platform: &Platform,
) -> Result<(), Failure> {
    let tags = stoppable(&ready.registries, || {
        ready.registries.tags(repository).map_err(failed)
    })?;
    let mut pulled = 0;
    for name in &tags {
        match one(matches, ready, name, platform)? {
            Ok(()) => pulled += 1,
            Err(error @ (Error::Unsupported { .. } | Error::Platform { .. })) => {
                tell(
                    "warning",
                    &[format!("{} is left out: {error}", familiar(name))],
                );
            }
            Err(error) => return Err(failed(error)),
        }
    }
    if pulled == 0 {
        return Err(Failure::new(
            format!(
                "no tag of {} is an image for {platform}",
                repository.familiar()
            ),
            "another name, or --platform",
        ));
    }
    Ok(())
}

/// Pulls one image. An error of the image's own is returned apart from those that end everything.
fn one(
    matches: &ArgMatches,
    ready: &Ready,
    name: &Name,
    platform: &Platform,
) -> Result<Result<(), Error>, Failure> {
    let form = if matches.get_flag("quiet") {
        Form::Quiet
    } else if matches.get_flag("json") {
        Form::Json
    } else {
        Form::Text
    };
    let show = Show::new(Stream::Stdout, form, Words::Pull);
    show.line(&heading(name));
    let pulled = stoppable(&ready.registries, || {
        Ok(ready.registries.pull(
            &ready.store,
            name,
            platform,
            ownership(&ready.caller),
            &show,
        ))
    });
    show.finish();
    let pulled = match pulled? {
        Ok(pulled) => pulled,
        Err(error) => return Ok(Err(error)),
    };
    show.line(&format!("Digest: {}", pulled.digest));
    let short = familiar(&pulled.name);
    show.line(&if pulled.changed {
        format!("Status: Downloaded newer image for {short}")
    } else {
        format!("Status: Image is up to date for {short}")
    });
    show.object(&json!({
        "event": "pulled",
        "name": pulled.name.to_string(),
        "digest": pulled.digest.to_string(),
        "id": pulled.id.to_string(),
        "changed": pulled.changed,
    }));
    if form != Form::Json {
        print(&format!("{}\n", pulled.name))?;
    }
    Ok(Ok(()))
}

/// When an image is fetched for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// If it is not in the store.
    #[default]
    Missing,
    /// In any case.
    Always,
    /// Not at all.
    Never,
    /// If the registry has another under the name.
    Newer,
}

impl When {
    /// Reads what `--pull` says.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "missing" | "" => Self::Missing,
            "always" => Self::Always,
            "never" => Self::Never,
            "newer" => Self::Newer,
            _ => return None,
        })
    }
}

/// What a run wants of an image.
pub struct Wanted<'a> {
    pub name: &'a Name,
    pub platform: &'a Platform,
    pub ownership: Ownership,
    pub when: When,
    /// Whether progress is left out.
    pub quiet: bool,
}

/// The image of a run, fetched as `--pull` says. Called only where the registry has to be asked, or the store has no such name.
pub fn for_run(store: &Store, caller: &Caller, wanted: &Wanted<'_>) -> Result<Image, Failure> {
    let registries = open(caller, std::iter::empty())?;
    let name = registries.complete(wanted.name).map_err(failed)?;
    let reference = Reference::Registry(name.clone());
    let here = match store.entry(&reference, wanted.platform) {
        Ok(entry) => Some(entry.source_digest()),
        Err(Error::NotInStore { .. }) => None,
        Err(error) => return Err(failed(error)),
    };
    let form = if wanted.quiet {
        Form::Quiet
    } else {
        Form::Text
    };
    let show = Show::new(Stream::Stderr, form, Words::Pull);
    stoppable(&registries, || {
        let fetch = match (here, wanted.when) {
            (_, When::Always) => true,
            (Some(here), When::Newer) => registries.digest(&name).map_err(failed)? != here,
            (here, _) => here.is_none(),
        };
        if !fetch {
            return Ok(());
        }
        let short = familiar(&name);
        if here.is_none() {
            show.line(&format!("Unable to find image '{short}' locally"));
        }
        show.line(&heading(&name));
        let pulled = registries.pull(store, &name, wanted.platform, wanted.ownership, &show);
        show.finish();
        let pulled = pulled.map_err(failed)?;
        show.line(&format!("Digest: {}", pulled.digest));
        show.line(&if pulled.changed {
            format!("Status: Downloaded newer image for {short}")
        } else {
            format!("Status: Image is up to date for {short}")
        });
        Ok(())
    })?;
    store
        .resolve(&reference, wanted.platform, wanted.ownership)
        .map_err(failed)
}

/// docker's first line.
fn heading(name: &Name) -> String {
    let tag = match (&name.tag, &name.digest) {
        (_, Some(digest)) => digest.to_string(),
        (tag, None) => tag.clone().unwrap_or_default(),
    };
    format!("{tag}: Pulling from {}", name.repository)
}

/// A name as docker shows it.
fn familiar(name: &Name) -> String {
    let short = name.familiar();
    match (&name.tag, &name.digest) {
        (_, Some(digest)) => format!("{short}@{digest}"),
        (Some(tag), None) => format!("{short}:{tag}"),
        (None, None) => short,
    }
}
