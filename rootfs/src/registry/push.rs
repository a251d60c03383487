//! From an image of the store to a registry: only what that has not got is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use ureq::Body;
use ureq::http::header::{HeaderName, LOCATION};
use ureq::http::{Method, Response, StatusCode};

use super::Registries;
use super::http::{FaultKind, passing, text_of};
use super::list;
use super::parcel::{Compression, Packer, Parcel};
use super::progress::{Event, Progress};
use super::session::{Ask, Session};
use super::token::escaped;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::platform::Platform;
use crate::reference::Name;
use crate::store::Store;
use crate::unpack::Section;

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The name in full.
    pub name: Name,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The length of that.
    pub size: u64,
}

/// A push that is under way.
struct Push<'a> {
    store: &'a Store,
    session: &'a Session<'a>,
    /// Blobs that are not in the store, but were made for this.
    made: &'a BTreeMap<Digest, File>,
    /// Repositories of the same registry that images of the store have names in, with the blobs of these.
    others: Vec<(String, BTreeSet<Digest>)>,
    /// The most bytes of one request.
    chunk: u64,
    progress: &'a dyn Progress,
}

impl Registries {
    /// Sends an image of the store to a registry, under a name. Layers that are not compressed are on the way; with `compression` all
    /// that are not so already.
    ///
    /// # Errors
    /// [`Error::NotInStore`], and those of the registry: [`Error::Registry`], [`Error::Denied`]; [`Error::Interrupted`].
    pub fn push(
        &self,
        store: &Store,
        entry: &Descriptor,
        name: &Name,
        compression: Option<Compression>,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let place = self.own_place(name)?;
        let session = place.session()?;
        let alive = || self.http.pause(Duration::ZERO);
        let mut packer = Packer::new(store, compression, &alive);
        let parcel = packer.pack(entry)?;
        let push = Push {
            store,
            session,
            made: &packer.made,
            others: others(store, name, &session.endpoint.registry),
            chunk: self.options.chunk.max(1),
            progress,
        };
        let tag = match (&name.tag, &name.digest) {
            (Some(tag), _) => tag.clone(),
            (None, Some(_)) => parcel.digest.to_string(),
            (None, None) => "latest".to_owned(),
        };
        push.send(&parcel, &tag)?;
        store.remember(entry, name, parcel.digest)?;
        Ok(Pushed {
            name: name.clone(),
            digest: parcel.digest,
            size: parcel.text.len() as u64,
        })
    }
}

/// Blobs that the registry may have elsewhere already.
fn others(store: &Store, name: &Name, registry: &str) -> Vec<(String, BTreeSet<Digest>)> {
    let mut all = Vec::new();
    for entry in store.entries().unwrap_or_default() {
        let Some(other) = entry.name().and_then(|other| Name::parse(other).ok()) else {
            continue;
        };
        if other.registry != registry || other.repository == name.repository {
            continue;
        }
        if let Ok(stored) = store.stored_at(entry, &Platform::host()) {
            let layers = stored.manifest.layers.iter().map(|layer| layer.digest);
            all.push((other.repository, layers.collect()));
        }
    }
    all
}

impl Push<'_> {
    /// Sends a manifest or index after everything it names.
    fn send(&self, parcel: &Parcel, tag: &str) -> Result<()> {
        if let Some(manifest) = &parcel.manifest {
            let mut seen = BTreeSet::new();
            let mut blobs: Vec<Descriptor> = manifest.layers.clone();
            blobs.retain(|blob| seen.insert(blob.digest));
            self.progress.tell(Event::Planned(&blobs));
            if seen.insert(manifest.config.digest) {
                blobs.push(manifest.config.clone());
            }
            blobs.iter().try_for_each(|blob| self.blob(blob))?;
        }
        for part in &parcel.parts {
            self.send(part, &part.digest.to_string())?;
        }
        let body = || -> Result<(Box<dyn Read>, u64)> {
            let length = parcel.text.len() as u64;
            Ok((Box::new(std::io::Cursor::new(parcel.text.clone())), length))
        };
        let ask = self
            .ask(Method::PUT, &format!("manifests/{tag}"), "the manifest")
            .header("content-type", &parcel.kind)
            .body(&body);
        let mut response = self.session.ask(&ask)?;
        if !response.status().is_success() {
            return Err(self.session.refusal(&ask, &mut response));
        }
        let said = HeaderName::from_static("docker-content-digest");
        let kept = text_of(response.headers(), &said).and_then(|digest| digest.parse().ok());
        match kept {
            Some(found) if found != parcel.digest => Err(Error::DigestMismatch {
                what: format!("manifest that {} kept", self.session.endpoint.registry),
                expected: parcel.digest,
                found,
            }),
            _ => list::tell_subject(self.session, &parcel.text, &response, &parcel.kind),
        }
    }

    fn ask<'r>(&self, method: Method, rest: &str, what: &str) -> Ask<'r> {
        let path = self.session.path(rest);
        let scope = self.session.scope("pull,push");
        Ask::new(method, path, scope, ("push", what.to_owned()))
    }

    /// Makes sure that the registry has a blob.
    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let what = format!("blob {}", blob.digest);
        let ask = self.ask(Method::HEAD, &format!("blobs/{}", blob.digest), &what);
        let mut response = self.session.ask(&ask)?;
        match response.status() {
            StatusCode::OK => {
                self.progress.tell(Event::Present(blob.digest));
                return Ok(());
            }
            StatusCode::NOT_FOUND => {}
            _ => return Err(self.session.refusal(&ask, &mut response)),
        }
        let mut failures = 0;
        loop {
            match self.upload(blob, &what)? {
                Upload::Done => self.progress.tell(Event::Done(blob.digest)),
                Upload::Mounted => self.progress.tell(Event::Mounted(blob.digest)),
                Upload::Broke(reason) => {
                    failures += 1;
                    if self.session.rest(failures)? {
                        continue;
                    }
                    let remedy = "try again: what has arrived whole is not sent again";
                    return Err(Error::Registry {
                        doing: "push",
                        what: format!("{what} to {}", self.session.endpoint.registry),
                        reason,
                        remedy,
                    });
                }
            }
            return Ok(());
        }
    }

    /// Begins an upload, or has the blob mounted from another repository, and sends it.
    fn upload(&self, blob: &Descriptor, what: &str) -> Result<Upload> {
        let from = self
            .others
            .iter()
            .find(|(_, blobs)| blobs.contains(&blob.digest))
            .map(|(repository, _)| repository);
        let rest = match from {
            Some(from) => format!(
                "blobs/uploads/?mount={}&from={}",
                escaped(&blob.digest.to_string()),
                escaped(from)
            ),
            None => "blobs/uploads/".to_owned(),
        };
        let mut ask = self.ask(Method::POST, &rest, what);
        ask.scopes
            .extend(from.map(|from| format!("repository:{from}:pull")));
        let mut response = self.session.ask(&ask)?;
        match response.status() {
            StatusCode::CREATED => return Ok(Upload::Mounted),
            StatusCode::ACCEPTED => {}
            _ => return Err(self.session.refusal(&ask, &mut response)),
        }
        let mut to = self.next(&ask.target, &response)?;
        let mut at = 0;
        // All but the last part, which ends the upload.
        while blob.size - at > self.chunk {
            match self.part(Method::PATCH, &to, blob, at, self.chunk, what)? {
                Ok(mut response) if response.status() == StatusCode::ACCEPTED => {
                    to = self.next(&to, &response)?;
                    at = taken(&response).unwrap_or(at + self.chunk);
                    if at > blob.size {
                        return Err(self
                            .session
                            .refusal(&self.ask(Method::PATCH, "", what), &mut response));
                    }
                }
                Ok(response) if passing(&response).is_none() => {
                    return Err(self.refusal(response, what));
                }
                // It broke: the registry knows how much it has.
                _ => match self.resume(&to, what)? {
                    Some((there, next)) if there > at && there <= blob.size => {
                        (at, to) = (there, next);
                    }
                    _ => return Ok(Upload::Broke("the connection broke".to_owned())),
                },
            }
        }
        let separator = if to.contains('?') { '&' } else { '?' };
        let end = format!(
            "{to}{separator}digest={}",
            escaped(&blob.digest.to_string())
        );
        match self.part(Method::PUT, &end, blob, at, blob.size - at, what)? {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Upload::Done),
            Ok(response) if passing(&response).is_some() => {
                Ok(Upload::Broke(format!("it answers {}", response.status())))
            }
            Ok(response) => Err(self.refusal(response, what)),
            Err(reason) => Ok(Upload::Broke(reason)),
        }
    }

    /// Sends a part of a blob; an error that passes is returned as its reason.
    fn part(
        &self,
        method: Method,
        to: &str,
        blob: &Descriptor,
        at: u64,
        length: u64,
        what: &str,
    ) -> Result<std::result::Result<Response<Body>, String>> {
        let missing = || Error::NotInStore {
            name: format!("blob {}", blob.digest),
        };
        let last = method == Method::PUT;
        let body = || -> Result<(Box<dyn Read>, u64)> {
            let file = match self.made.get(&blob.digest) {
                Some(file) => file
                    .try_clone()
                    .map_err(|e| Error::io("read", "a compressed layer".as_ref(), e))?,
                None => self.store.open_blob(blob.digest)?.ok_or_else(missing)?,
            };
            let section = Section {
                file,
                offset: at,
                length,
            };
            Ok((Box::new(section), length))
        };
        let scope = self.session.scope("pull,push");
        let mut ask = Ask::new(method, to, scope, ("push", what.to_owned()))
            .header("content-type", "application/octet-stream")
            .body(&body);
        if !last || at > 0 {
            let end = at + length.max(1) - 1;
            ask = ask.header("content-range", &format!("{at}-{end}"));
        }
        match self.session.attempt(&ask)? {
            Ok(response) => {
                if response.status().is_success() {
                    self.progress.tell(Event::At(blob.digest, at + length));
                }
                Ok(Ok(response))
            }
            Err(fault) if fault.kind == FaultKind::Broken => Ok(Err(fault.reason)),
            Err(fault) => Err(self.session.fault(&ask, fault)),
        }
    }

    /// Asks how much of an upload has arrived, and where it goes on.
    fn resume(&self, to: &str, what: &str) -> Result<Option<(u64, String)>> {
        let scope = self.session.scope("pull,push");
        let ask = Ask::new(Method::GET, to, scope, ("push", what.to_owned()));
        let response = self.session.ask(&ask)?;
        if response.status() != StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let there = taken(&response);
        Ok(there.zip(self.next(to, &response).ok()))
    }

    fn next(&self, to: &str, response: &Response<Body>) -> Result<String> {
        let location = text_of(response.headers(), &LOCATION).unwrap_or_default();
        self.session.given(to, location)
    }

    fn refusal(&self, mut response: Response<Body>, what: &str) -> Error {
        let ask = self.ask(Method::PUT, "", what);
        self.session.refusal(&ask, &mut response)
    }
}

/// How an attempt to upload ended.
enum Upload {
    Done,
    Mounted,
    /// For a reason that passes.
    Broke(String),
}

/// How many bytes an upload has, as its `Range` says (`0-LAST`).
fn taken(response: &Response<Body>) -> Option<u64> {
    let range = text_of(response.headers(), &HeaderName::from_static("range"))?;
    let last = range.trim_start_matches("bytes=").strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}
