//! What a registry says it has: the tags of a repository, and what refers to an image (OCI distribution specification, "Content
//! Discovery").

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use ureq::Body;
use ureq::http::header::{HeaderName, LINK};
use ureq::http::{Method, Response, StatusCode};

use super::Registries;
use super::http::{small, text_of};
use super::places::Place;
use super::session::{Ask, Session};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, LONGEST_DOCUMENT, media_type};
use crate::reference::Name;

/// Pages of a list that are read.
const MOST_PAGES: u32 = 100;
/// Tags that are asked for at a time.
const PAGE: u32 = 1000;

/// Entries of a list that are kept: as many as the pages may hold if each is as long as was asked for.
const MOST_ENTRIES: usize = 100_000;

/// Something that refers to an image: a signature, a list of what is in it, an attestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Of the document that refers.
    #[serde(default)]
    pub media_type: String,
    /// Of that document.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Referrer>>,
}

/// What a manifest or index says of what it refers to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: String,
    config: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Registries {
    /// The names, one for each tag, that a repository has at its registry now.
    ///
    /// # Errors
    /// [`Error::NoSuchName`] if there is no such repository; those of the registry.
    pub fn tags(&self, name: &Name) -> Result<Vec<Name>> {
        let name = self.complete(name)?;
        let place = self.own_place(&name)?;
        let session = place.session()?;
        let doing = ("list the tags of", name.familiar());
        let path = session.path(&format!("tags/list?n={PAGE}"));
        let ask = Ask::new(Method::GET, path, session.scope("pull"), doing);
        let named = |tag| Name::parse(&format!("{}/{}:{tag}", name.registry, name.repository));
        let mut all = Vec::new();
        let found = pages(session, ask, |page: Tags| {
            let tags = page.tags.unwrap_or_default().into_iter();
            add(&mut all, tags.map(named).collect::<Result<_>>()?)
        })?;
        if !found {
            return Err(Error::NoSuchName {
                name: name.familiar(),
                place: None,
            });
        }
        Ok(all)
    }

    /// What refers to the image that a name stands for, as its registry knows; with `kind` only what is of that type. The digest is the
    /// image's.
    ///
    /// # Errors
    /// As [`Registries::digest`].
    pub fn referrers(&self, name: &Name, kind: Option<&str>) -> Result<(Digest, Vec<Referrer>)> {
        let name = self.complete(name)?;
        let digest = self.digest(&name)?;
        let place = self.own_place(&name)?;
        let session = place.session()?;
        let doing = ("list what refers to", digest.to_string());
        let path = session.path(&format!("referrers/{digest}"));
        let ask = Ask::new(Method::GET, path, session.scope("pull"), doing)
            .header("accept", media_type::OCI_INDEX);
        let mut all = Vec::new();
        let mut take = |page: Index| add(&mut all, page.manifests.unwrap_or_default());
        // An older registry has it under a tag.
        if !pages(session, ask, &mut take)? {
            let (_, ask) = fallback(session, digest, "pull");
            pages(session, ask, take)?;
        }
        all.retain(|referrer| kind.is_none_or(|kind| referrer.artifact_type == kind));
        Ok((digest, all))
    }

    /// The registry itself that a name leads to, and none of its mirrors.
    pub(super) fn own_place(&self, name: &Name) -> Result<Place<'_>> {
        let endpoint = self.configuration.endpoints(name)?.pop();
        let endpoint = endpoint.ok_or_else(|| Error::NoSuchName {
            name: name.to_string(),
            place: None,
        })?;
        Ok(Place::new(&self.http, &self.options, endpoint))
    }
}

/// Reads a list, page after page; false if the registry has none.
fn pages<T: DeserializeOwned>(
    session: &Session<'_>,
    mut ask: Ask<'_>,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<bool> {
    for _ in 0..MOST_PAGES {
        let mut response = session.ask(&ask)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(false),
            _ => return Err(session.refusal(&ask, &mut response)),
        }
        let next = next_page(&response)
            .map(|next| session.given(&ask.target, &next))
            .transpose()?;
        let text = small(&mut response, LONGEST_DOCUMENT, "the registry's list")?
            .map_err(|fault| session.fault(&ask, fault))?;
        let page = serde_json::from_slice(&text)
            .map_err(|e| session.failed("understand the list of", e.to_string(), ""))?;
        take(page)?;
        match next {
            Some(next) => ask.target = next,
            None => return Ok(true),
        }
    }
    Err(Error::limit(
        "the length of the registry's list",
        format!("{MOST_PAGES} pages"),
    ))
}

/// Adds a page to a list, and fails for more entries than a list may have.
fn add<T>(all: &mut Vec<T>, more: Vec<T>) -> Result<()> {
    if all.len() + more.len() > MOST_ENTRIES {
        return Err(Error::limit(
            "the length of the registry's list",
            format!("{MOST_ENTRIES} entries"),
        ));
    }
    all.extend(more);
    Ok(())
}

/// Where a list goes on (RFC 8288).
fn next_page(response: &Response<Body>) -> Option<String> {
    let link = text_of(response.headers(), &LINK)?;
    link.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim();
            parameter.eq_ignore_ascii_case("rel=next")
                || parameter.eq_ignore_ascii_case("rel=\"next\"")
        });
        is_next.then(|| address.to_owned())
    })
}

/// The way to the index that an older registry has in place of an own list, under a tag made of the image's digest.
fn fallback(session: &Session<'_>, of: Digest, actions: &str) -> (String, Ask<'static>) {
    let path = session.path(&format!("manifests/sha256-{}", of.hex()));
    let doing = ("list what refers to", of.to_string());
    let ask = Ask::new(Method::GET, path.clone(), session.scope(actions), doing)
        .header("accept", media_type::OCI_INDEX);
    (path, ask)
}

/// Tells a registry that does not see it by itself what a document that it has now refers to.
pub(super) fn tell_subject(
    session: &Session<'_>,
    text: &[u8],
    kept: &Response<Body>,
    kind: &str,
) -> Result<()> {
    let Ok(said) = serde_json::from_slice::<Said>(text) else {
        return Ok(());
    };
    let Some(subject) = said.subject else {
        return Ok(());
    };
    if kept
        .headers()
        .contains_key(HeaderName::from_static("oci-subject"))
    {
        return Ok(());
    }
    let (path, ask) = fallback(session, subject.digest, "pull,push");
    // As it is, with whatever else others have written into it.
    let mut index = Map::new();
    let mut all = Vec::new();
    pages(session, ask, |mut page: Map<String, Value>| {
        if let Some(Value::Array(more)) = page.remove("manifests") {
            add(&mut all, more)?;
        }
        page.append(&mut index);
        index = page;
        Ok(())
    })?;
    let digest = Digest::of(text);
    let known = digest.to_string();
    if all.iter().any(|referrer| referrer["digest"] == known) {
        return Ok(());
    }
    let artifact_type = match said.config {
        Some(config) if said.artifact_type.is_empty() => config.media_type,
        _ => said.artifact_type,
    };
    all.push(json!(Referrer {
        media_type: kind.to_owned(),
        digest,
        size: text.len() as u64,
        artifact_type,
        annotations: said.annotations,
    }));
    index.insert("schemaVersion".into(), json!(2));
    index.insert("mediaType".into(), json!(media_type::OCI_INDEX));
    index.insert("manifests".into(), all.into());
    let index = Value::Object(index).to_string().into_bytes();
    let body = || -> Result<(Box<dyn std::io::Read>, u64)> {
        let length = index.len() as u64;
        Ok((Box::new(std::io::Cursor::new(index.clone())), length))
    };
    let doing = ("push", "the list of what refers to the image".to_owned());
    let ask = Ask::new(Method::PUT, path, session.scope("pull,push"), doing)
        .header("content-type", media_type::OCI_INDEX)
        .body(&body);
    let mut response = session.ask(&ask)?;
    if !response.status().is_success() {
        return Err(session.refusal(&ask, &mut response));
    }
    Ok(())
}
