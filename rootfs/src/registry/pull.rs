//! From a name to an image of the store: its layers are unpacked while they arrive, several at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Registries;
use super::blob::BlobReader;
use super::places::{self, Place};
use super::progress::{Event, Progress};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document};
use crate::platform::Platform;
use crate::reference::{Name, Reference};
use crate::source::layout::DEEPEST;
use crate::store::{Incoming, Ownership, Store, Taken};

/// Layers that are fetched at a time.
const AT_ONCE: usize = 3;

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The name in full that it has in the store.
    pub name: Name,
    /// The digest the registry has it under: of the index, where it was chosen from one.
    pub digest: Digest,
    /// The digest of its configuration: docker's image id.
    pub id: Digest,
    /// Whether the name stood for something else before, or for nothing.
    pub changed: bool,
}

impl Registries {
    /// Fetches the image that a name stands for now, and gives it that name in the store. What is there already is not fetched. A pull that
    /// fails breaks off what else is under way with the same registries; those that begin after it go on.
    ///
    /// # Errors
    /// [`Error::Refused`] by the rules, before anything but documents and signatures is asked for; [`Error::Registry`], [`Error::Denied`],
    /// [`Error::NoSuchName`] from the registry; [`Error::DigestMismatch`], [`Error::SizeMismatch`] and the others for an image that is not
    /// what was promised; [`Error::Interrupted`]. The store is as it was then, but for what has arrived of the layers.
    pub fn pull(
        &self,
        store: &Store,
        name: &Name,
        platform: &Platform,
        ownership: Ownership,
        progress: &dyn Progress,
    ) -> Result<Pulled> {
        let name = self.complete(name)?;
        let wanted = self.rules.check(&name)?;
        let places = self.places(&name)?;
        let intake = store.intake()?;
        let (manifest, digest) = self.manifest(store, &places, &name, platform)?;
        let Document::Manifest(parsed) = &manifest.document else {
            return Err(too_deep());
        };
        if let Some(wanted) = wanted {
            wanted.verify(&places, &name, [digest, manifest.descriptor.digest])?;
        }
        // Before anything is fetched that could not be run.
        parsed.check()?;
        let config = match store.read_blob(&parsed.config) {
            Ok(config) => config,
            Err(_) => places::small_blob(&places, &parsed.config)?,
        };
        let incoming = intake.image(&manifest.descriptor, &manifest.text, &config)?;
        self.layers(&places, &incoming, ownership, progress)?;
        let reference = Reference::Registry(name.clone());
        let before = store.entry(&reference, platform).ok();
        incoming.publish(Some(digest), std::slice::from_ref(&name))?;
        // Unpacks what could not be while it arrived, and remembers the image for the runs to come.
        store.resolve(&reference, platform, ownership)?;
        Ok(Pulled {
            changed: before.is_none_or(|entry| entry.digest != manifest.descriptor.digest),
            id: parsed.config.digest,
            digest,
            name,
        })
    }

    /// The manifest or index that a name stands for at its registry now: JSON.
    ///
    /// # Errors
    /// As [`Registries::pull`].
    pub fn document(&self, name: &Name) -> Result<Vec<u8>> {
        let name = self.complete(name)?;
        let sent = places::document(&self.places(&name)?, &name, &wanted(&name), name.digest)?;
        Ok(sent.text)
    }

    /// The digest that a name stands for at its registry now.
    ///
    /// # Errors
    /// As [`Registries::pull`].
    pub fn digest(&self, name: &Name) -> Result<Digest> {
        let name = self.complete(name)?;
        if let Some(digest) = name.digest {
            return Ok(digest);
        }
        let tag = name.tag.as_deref().unwrap_or("latest");
        places::digest(&self.places(&name)?, &name, tag)
    }

    fn places(&self, name: &Name) -> Result<Vec<Place<'_>>> {
        let endpoints = self.configuration.endpoints(name)?;
        Ok(endpoints
            .into_iter()
            .map(|endpoint| Place::new(&self.http, &self.options, endpoint))
            .collect())
    }

    /// The manifest for a platform, and the digest of what the name stands for.
    fn manifest(
        &self,
        store: &Store,
        places: &[Place<'_>],
        name: &Name,
        platform: &Platform,
    ) -> Result<(places::Sent, Digest)> {
        let mut sent = places::document(places, name, &wanted(name), name.digest)?;
        let digest = sent.descriptor.digest;
        for _ in 0..DEEPEST {
            let Document::Index(index) = &sent.document else {
                return Ok((sent, digest));
            };
            let mut chosen = index.choose(platform)?.clone();
            // What the registry writes beside it is not to be taken for what palisade does.
            chosen.annotations.clear();
            sent = self.chosen(store, places, name, chosen)?;
        }
        Err(too_deep())
    }

    /// A document that an index names: from the store if it is there.
    fn chosen(
        &self,
        store: &Store,
        places: &[Place<'_>],
        name: &Name,
        chosen: Descriptor,
    ) -> Result<places::Sent> {
        if let Ok(text) = store.read_blob(&chosen) {
            return Ok(places::Sent {
                document: Document::parse(&text, "index".as_ref())?,
                descriptor: chosen,
                text,
            });
        }
        self.http.pause(std::time::Duration::ZERO)?;
        let tag = chosen.digest.to_string();
        let sent = places::document(places, name, &tag, Some(chosen.digest))?;
        if sent.descriptor.size != chosen.size {
            return Err(Error::SizeMismatch {
                what: "manifest".to_owned(),
                expected: chosen.size,
                found: sent.descriptor.size,
            });
        }
        Ok(places::Sent {
            descriptor: Descriptor {
                platform: chosen.platform,
                ..sent.descriptor
            },
            ..sent
        })
    }

    /// Takes the layers in. The first error ends the others.
    fn layers(
        &self,
        places: &[Place<'_>],
        incoming: &Incoming<'_>,
        ownership: Ownership,
        progress: &dyn Progress,
    ) -> Result<()> {
        let layers = &incoming.manifest().layers;
        progress.tell(Event::Planned(layers));
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = layers.get(i) else {
                    return;
                };
                let at = |at| progress.tell(Event::At(layer.digest, at));
                let taken = incoming.layer(i, ownership, &mut |from| {
                    let reader = BlobReader::new(places, layer.digest, layer.size, from, &at);
                    Ok(Box::new(reader))
                });
                match taken {
                    Ok(Taken::Present) => progress.tell(Event::Present(layer.digest)),
                    Ok(Taken::Now) => progress.tell(Event::Done(layer.digest)),
                    Err(error) => {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                        next.store(layers.len(), Ordering::Relaxed);
                        self.http.break_off();
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            (1..AT_ONCE.min(layers.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        // Nobody is left who was to end: another image may be pulled.
        self.http.go_on();
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}

/// What a registry is asked for, by tag or digest.
fn wanted(name: &Name) -> String {
    match (&name.digest, &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
    }
}

fn too_deep() -> Error {
    Error::limit(
        "the number of indexes on the way to the image",
        DEEPEST.to_string(),
    )
}
