//! The places an image may be fetched from: mirrors, and the registry itself. Each is reached when it is needed first.

use std::io::Read;
use std::sync::OnceLock;

use ureq::http::header::{CONTENT_TYPE, HeaderName};
use ureq::http::{Method, StatusCode};

use super::blob::BlobReader;
use super::configuration::Endpoint;
use super::http::{Http, small, text_of};
use super::options::Options;
use super::session::{Ask, Session};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document, LONGEST_DOCUMENT, media_type};
use crate::reference::Name;

/// The kinds of documents that are asked for.
const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_INDEX,
    media_type::DOCKER_MANIFEST,
];

/// One place.
#[derive(Debug)]
pub(super) struct Place<'a> {
    http: &'a Http,
    options: &'a Options,
    endpoint: Endpoint,
    session: OnceLock<Session<'a>>,
}

impl<'a> Place<'a> {
    pub(super) fn new(http: &'a Http, options: &'a Options, endpoint: Endpoint) -> Self {
        Self {
            http,
            options,
            endpoint,
            session: OnceLock::new(),
        }
    }

    /// The registry there, reached.
    pub(super) fn session(&self) -> Result<&Session<'a>> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let opened = Session::open(self.http, self.options, self.endpoint.clone())?;
        Ok(self.session.get_or_init(|| opened))
    }
}

/// A manifest or index as a registry sent it, and what it is.
pub(super) struct Sent {
    pub text: Vec<u8>,
    pub descriptor: Descriptor,
    pub document: Document,
}

/// Fetches a manifest or index by tag or digest, from the first place that has it.
pub(super) fn document(
    places: &[Place<'_>],
    name: &Name,
    tag: &str,
    digest: Option<Digest>,
) -> Result<Sent> {
    first(places, |session| one_document(session, name, tag, digest))
}

/// The digest that a tag stands for now.
pub(super) fn digest(places: &[Place<'_>], name: &Name, tag: &str) -> Result<Digest> {
    first(places, |session| {
        let ask = asking(session, Method::HEAD, tag);
        let mut response = session.ask(&ask)?;
        if response.status() == StatusCode::OK
            && let Some(digest) = text_of(response.headers(), &content_digest())
        {
            return digest
                .parse()
                .map_err(|reason: String| session.failed("understand the answer of", reason, ""));
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Err(session.missing(name));
        }
        if matches!(
            response.status(),
            StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED
        ) {
            return one_document(session, name, tag, None).map(|sent| sent.descriptor.digest);
        }
        Err(session.refusal(&ask, &mut response))
    })
}

/// Reads a small blob whole; its digest is for the caller to check.
pub(super) fn small_blob(places: &[Place<'_>], descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > LONGEST_DOCUMENT {
        return Err(Error::limit(
            "the size of the image's configuration",
            "4 MiB",
        ));
    }
    let mut text = Vec::new();
    let quiet = |_| ();
    let mut reader = BlobReader::new(places, descriptor.digest, descriptor.size, 0, &quiet);
    match reader.read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(e
            .downcast::<Error>()
            .unwrap_or_else(|e| Error::io("fetch", "the configuration".as_ref(), e))),
    }
}

/// What the first place gives that gives anything; the error is that of the last, the registry itself.
fn first<T>(places: &[Place<'_>], try_at: impl Fn(&Session<'_>) -> Result<T>) -> Result<T> {
    let mut result = None;
    for place in places {
        match place.session().and_then(&try_at) {
            Err(error) if !matches!(error, Error::Interrupted) => result = Some(Err(error)),
            result => return result,
        }
    }
    result.unwrap_or_else(|| {
        Err(Error::Registry {
            doing: "find",
            what: "a place to fetch the image from".to_owned(),
            reason: "there is none".to_owned(),
            remedy: "",
        })
    })
}

fn asking<'r>(session: &Session<'_>, method: Method, tag: &str) -> Ask<'r> {
    let doing = ("fetch", format!("the manifest `{tag}`"));
    let path = session.path(&format!("manifests/{tag}"));
    let ask = Ask::new(method, path, session.scope("pull"), doing);
    ACCEPTED
        .iter()
        .fold(ask, |ask, kind| ask.header("accept", kind))
}

fn content_digest() -> HeaderName {
    HeaderName::from_static("docker-content-digest")
}

fn one_document(
    session: &Session<'_>,
    name: &Name,
    tag: &str,
    digest: Option<Digest>,
) -> Result<Sent> {
    let ask = asking(session, Method::GET, tag);
    let mut failures = 0;
    let (text, kind, promised) = loop {
        let mut response = session.ask(&ask)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(session.missing(name)),
            _ => return Err(session.refusal(&ask, &mut response)),
        }
        let kind = text_of(response.headers(), &CONTENT_TYPE)
            .unwrap_or_default()
            .to_owned();
        let promised: Option<Digest> =
            text_of(response.headers(), &content_digest()).and_then(|digest| digest.parse().ok());
        match small(&mut response, LONGEST_DOCUMENT, "the image's manifest")? {
            Ok(text) => break (text, kind, promised),
            Err(fault) => {
                failures += 1;
                if !session.rest(failures)? {
                    return Err(session.fault(&ask, fault));
                }
            }
        }
    };
    let found = Digest::of(&text);
    if let Some(expected) = digest.or(promised).filter(|&expected| expected != found) {
        return Err(Error::DigestMismatch {
            what: format!("manifest that {} sends", session.endpoint.registry),
            expected,
            found,
        });
    }
    let document = Document::parse(&text, session.endpoint.registry.as_ref())?;
    let said = kind.split(';').next().unwrap_or_default().trim();
    let is_index = matches!(document, Document::Index(_));
    let fits = match said {
        media_type::OCI_INDEX | media_type::DOCKER_INDEX => is_index,
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => !is_index,
        _ => true,
    };
    if !fits {
        return Err(Error::Json {
            what: "manifest",
            path: (&session.endpoint.registry).into(),
            reason: format!("the registry calls it {said}, which it is not"),
        });
    }
    let kind = match said {
        said if ACCEPTED.contains(&said) => said,
        _ if is_index => media_type::OCI_INDEX,
        _ => media_type::OCI_MANIFEST,
    };
    Ok(Sent {
        descriptor: Descriptor::of(kind, &text),
        text,
        document,
    })
}

impl Session<'_> {
    fn missing(&self, name: &Name) -> Error {
        let own =
            self.endpoint.registry == name.registry && self.endpoint.repository == name.repository;
        Error::NoSuchName {
            name: name.to_string(),
            place: (!own)
                .then(|| format!("{}/{}", self.endpoint.registry, self.endpoint.repository)),
        }
    }
}
