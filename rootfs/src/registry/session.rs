//! Requests to one registry about one repository: who asks is proved, redirections are followed, what passes is tried again.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use ureq::http::{Method, Response, StatusCode, Uri};

use super::challenge::Challenge;
use super::configuration::Endpoint;
use super::credentials::{self, Login};
use super::http::{Fault, FaultKind, Http, Later, Payload, passing, small, text_of};
use super::options::Options;
use super::token::{TokenServer, basic};
use crate::error::{Error, Result};

/// Redirections followed for one request.
const MOST_REDIRECTIONS: u32 = 5;
/// The longest message of an error that is read, in bytes.
const LONGEST_MESSAGE: u64 = 64 << 10;

/// A registry that has been reached.
#[derive(Debug)]
pub(super) struct Session<'a> {
    http: &'a Http,
    options: &'a Options,
    pub(super) endpoint: Endpoint,
    /// `https://host`.
    base: String,
    verify: bool,
    login: OnceLock<Option<Login>>,
    /// How the registry wants to be asked, once it has said so.
    challenge: Mutex<Option<Challenge>>,
    /// Headers to show, by the scopes they are good for.
    proofs: Mutex<HashMap<String, HeaderValue>>,
}

/// Makes a body, and tells its length.
pub(super) type Payloads<'r> = dyn Fn() -> Result<(Box<dyn Read>, u64)> + 'r;

/// A request.
pub(super) struct Ask<'r> {
    pub method: Method,
    /// A path of the registry, or a whole address it has given.
    pub target: String,
    pub headers: HeaderMap,
    /// Makes the body, anew for each attempt, and tells its length.
    pub body: Option<&'r Payloads<'r>>,
    /// What the token must be good for, as `repository:NAME:pull`.
    pub scopes: Vec<String>,
    /// What is being done, for messages: a verb and its object.
    pub doing: (&'static str, String),
}

impl<'r> Ask<'r> {
    pub(super) fn new(
        method: Method,
        target: impl Into<String>,
        scope: String,
        doing: (&'static str, String),
    ) -> Self {
        Self {
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: None,
            scopes: vec![scope],
            doing,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: &'r Payloads<'r>) -> Self {
        self.body = Some(body);
        self
    }
}

impl<'a> Session<'a> {
    /// Reaches a registry: by TLS, or where that is allowed by plain HTTP.
    ///
    /// # Errors
    /// [`Error::Registry`] if it cannot be reached.
    pub(super) fn open(http: &'a Http, options: &'a Options, endpoint: Endpoint) -> Result<Self> {
        let host = match endpoint.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        }
        .to_owned();
        let mut session = Self {
            http,
            options,
            base: format!("https://{host}"),
            verify: !endpoint.insecure,
            login: OnceLock::new(),
            challenge: Mutex::default(),
            proofs: Mutex::default(),
            endpoint,
        };
        if let Err(fault) = session.greet()? {
            let may_be_plain =
                session.plain() && matches!(fault.kind, FaultKind::NotTls | FaultKind::Broken);
            if !may_be_plain {
                return Err(session.unreachable(fault));
            }
            session.base = format!("http://{host}");
            if let Err(fault) = session.greet()? {
                return Err(session.unreachable(fault));
            }
        }
        Ok(session)
    }

    /// With credentials that are not looked up.
    pub(super) fn with_login(self, login: Login) -> Self {
        let _ = self.login.set(Some(login));
        self
    }

    /// Whether plain HTTP will do.
    fn plain(&self) -> bool {
        self.endpoint.insecure || self.endpoint.loopback
    }

    /// The scope of something done to the endpoint's repository.
    pub(super) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.endpoint.repository)
    }

    /// A path below the endpoint's repository.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.endpoint.repository)
    }

    /// Looks whether a registry is there, and how it wants to be asked.
    fn greet(&self) -> Result<std::result::Result<(), Fault>> {
        let address = self.address("/v2/")?;
        let mut failures = 0;
        loop {
            let headers = HeaderMap::new();
            let (fault, asked) =
                match self
                    .http
                    .send(&Method::GET, &address, self.verify, &headers, None)?
                {
                    Ok(response) => match passing(&response) {
                        None => {
                            self.learn(&response)?;
                            return Ok(Ok(()));
                        }
                        Some(Later(asked)) => (
                            Fault {
                                reason: format!("it answers {}", response.status()),
                                kind: FaultKind::Other,
                            },
                            asked,
                        ),
                    },
                    // Where plain HTTP may do, a connection that breaks is not TLS, most likely.
                    Err(fault)
                        if fault.kind == FaultKind::Broken
                            && !(self.plain() && self.base.starts_with("https")) =>
                    {
                        (fault, None)
                    }
                    Err(fault) => return Ok(Err(fault)),
                };
            failures += 1;
            match self.options.patience.pause(failures, asked) {
                Some(pause) => self.http.pause(pause)?,
                None => return Ok(Err(fault)),
            }
        }
    }

    /// Keeps what an answer says of how to ask.
    fn learn(&self, response: &Response<Body>) -> Result<bool> {
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(false);
        }
        let mut offers = Vec::new();
        for header in response.headers().get_all(WWW_AUTHENTICATE) {
            let found = header
                .to_str()
                .map_err(|_| "it is not text")
                .and_then(Challenge::parse);
            offers.extend(found.map_err(|reason| {
                self.failed(
                    "understand how to log in at",
                    format!("its WWW-Authenticate header: {reason}"),
                    "",
                )
            })?);
        }
        let bearer = |c: &&Challenge| matches!(c, Challenge::Bearer { .. });
        let known = offers
            .iter()
            .find(bearer)
            .or_else(|| offers.iter().find(|c| **c == Challenge::Basic))
            .cloned();
        if known.is_none() {
            let names: Vec<String> = offers.iter().map(|offer| format!("{offer:?}")).collect();
            let reason = format!(
                "it wants a way palisade does not know ({})",
                names.join(", ")
            );
            return Err(self.failed("log in at", reason, ""));
        }
        *lock(&self.challenge) = known;
        Ok(true)
    }

    /// Asks, and returns the answer whatever its status, but for those that pass.
    ///
    /// # Errors
    /// [`Error::Registry`] if no answer comes, [`Error::Denied`] if no token is had.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let mut failures = 0;
        loop {
            let (reason, asked) = match self.attempt(ask)? {
                Ok(response) => match passing(&response) {
                    None => return Ok(response),
                    Some(Later(asked)) => (format!("it answers {}", response.status()), asked),
                },
                // It was there when the session was opened, so it may come back.
                Err(fault) if matches!(fault.kind, FaultKind::Broken | FaultKind::Unreachable) => {
                    (fault.reason, None)
                }
                Err(fault) => return Err(self.failed(ask.doing.0, fault.reason, "").about(ask)),
            };
            failures += 1;
            if let Some(pause) = self.options.patience.pause(failures, asked) {
                self.http.pause(pause)?;
                continue;
            }
            let reason = match asked {
                Some(asked) => format!("{reason} and asks to come back in {} s", asked.as_secs()),
                None => reason,
            };
            let remedy = "try again later; what has arrived is kept";
            return Err(self.failed(ask.doing.0, reason, remedy).about(ask));
        }
    }

    /// Asks once; once more if the registry wants to know who asks.
    pub(super) fn attempt(
        &self,
        ask: &Ask<'_>,
    ) -> Result<std::result::Result<Response<Body>, Fault>> {
        let first = self.once(ask)?;
        let Ok(response) = &first else {
            return Ok(first);
        };
        if response.status() != StatusCode::UNAUTHORIZED || !self.learn(response)? {
            return Ok(first);
        }
        // The proof was none, or has grown too old.
        lock(&self.proofs).remove(&ask.scopes.join(" "));
        drop(first);
        self.once(ask)
    }

    /// One attempt, with the redirections it meets.
    fn once(&self, ask: &Ask<'_>) -> Result<std::result::Result<Response<Body>, Fault>> {
        let mut address = self.address(&ask.target)?;
        for _ in 0..=MOST_REDIRECTIONS {
            let mut headers = ask.headers.clone();
            if self.is_own(&address)
                && let Some(proof) = self.proof(&ask.scopes)?
            {
                headers.insert(AUTHORIZATION, proof);
            }
            let mut body = ask.body.map(|body| body()).transpose()?;
            let payload = body.as_mut().map(|(reader, length)| Payload {
                reader,
                length: *length,
            });
            let verify = self.verify || !self.is_own(&address);
            let sent = self
                .http
                .send(&ask.method, &address, verify, &headers, payload)?;
            let response = match sent {
                Ok(response) => response,
                Err(fault) => return Ok(Err(fault)),
            };
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Ok(response));
            }
            let to = text_of(response.headers(), &LOCATION).unwrap_or_default();
            let next = resolved(&address, to).ok_or_else(|| {
                self.failed(ask.doing.0, "it redirects to no address".to_owned(), "")
            })?;
            if next.scheme_str() != Some("https") && !self.plain() {
                let reason = format!("it redirects to plain HTTP at {}", host(&next));
                return Err(self.failed(ask.doing.0, reason, "").about(ask));
            }
            address = next;
        }
        let reason = format!("it redirects more than {MOST_REDIRECTIONS} times");
        Err(self.failed(ask.doing.0, reason, "").about(ask))
    }

    /// Whether an address is the registry's own: only that is shown who asks.
    fn is_own(&self, address: &Uri) -> bool {
        let own = |base: &Uri| {
            base.scheme() == address.scheme() && base.authority() == address.authority()
        };
        self.base.parse().is_ok_and(|base: Uri| own(&base))
    }

    /// The whole address of a path, or of an address the registry has given.
    fn address(&self, target: &str) -> Result<Uri> {
        let text = if target.starts_with('/') {
            format!("{}{target}", self.base)
        } else {
            target.to_owned()
        };
        text.parse()
            .map_err(|_| self.failed("use", "an address is not one".to_owned(), ""))
    }

    /// An address the registry gives relative to its own, or to another.
    pub(super) fn given(&self, target: &str, location: &str) -> Result<String> {
        let base = self.address(target)?;
        resolved(&base, location)
            .map(|address| address.to_string())
            .ok_or_else(|| self.failed("use", "it gives no address to send to".to_owned(), ""))
    }

    fn login(&self) -> Result<Option<&Login>> {
        if let Some(login) = self.login.get() {
            return Ok(login.as_ref());
        }
        let found = credentials::find(
            self.options,
            &self.endpoint.registry,
            &self.endpoint.repository,
        )?;
        Ok(self.login.get_or_init(|| found).as_ref())
    }

    /// The header that proves who asks; none where the registry wants none.
    fn proof(&self, scopes: &[String]) -> Result<Option<HeaderValue>> {
        let Some(challenge) = lock(&self.challenge).clone() else {
            return Ok(None);
        };
        let key = scopes.join(" ");
        if let Some(proof) = lock(&self.proofs).get(&key) {
            return Ok(Some(proof.clone()));
        }
        let proof = match (&challenge, self.login()?) {
            (Challenge::Basic, Some(Login::Password { user, password })) => basic(user, password)?,
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                login,
            ) => {
                let mut scopes: Vec<String> =
                    scopes.iter().filter(|s| !s.is_empty()).cloned().collect();
                if scopes.is_empty() && !scope.is_empty() {
                    scopes.push(scope.clone());
                }
                let server = TokenServer {
                    http: self.http,
                    patience: &self.options.patience,
                    realm,
                    service,
                    verify: self.verify,
                    plain: self.plain(),
                    registry: &self.endpoint.registry,
                };
                server.ask(&scopes, login)?
            }
            _ => return Ok(None),
        };
        lock(&self.proofs).insert(key, proof.clone());
        Ok(Some(proof))
    }

    /// The error for an answer that is not what was asked for.
    pub(super) fn refusal(&self, ask: &Ask<'_>, response: &mut Response<Body>) -> Error {
        let status = response.status();
        let message = small(response, LONGEST_MESSAGE, "the registry's message")
            .ok()
            .and_then(Result::ok)
            .and_then(|text| message(&text))
            .unwrap_or_else(|| format!("it answers {status}"));
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Error::Denied {
                registry: self.endpoint.registry.clone(),
                what: ask.doing.1.clone(),
                reason: message,
            };
        }
        self.failed(ask.doing.0, message, "").about(ask)
    }

    /// An error with what the request was about.
    pub(super) fn fault(&self, ask: &Ask<'_>, fault: Fault) -> Error {
        self.failed(ask.doing.0, fault.reason, "").about(ask)
    }

    pub(super) fn failed(
        &self,
        doing: &'static str,
        reason: String,
        remedy: &'static str,
    ) -> Error {
        Error::Registry {
            doing,
            what: self.endpoint.registry.clone(),
            reason,
            remedy,
        }
    }

    fn unreachable(&self, fault: Fault) -> Error {
        let remedy = match fault.kind {
            FaultKind::Unreachable | FaultKind::Other => {
                "check the name, and whether the network and the proxy are right"
            }
            FaultKind::Broken => "check the network, and whether a proxy is needed",
            FaultKind::NotTls => {
                "for plain HTTP, give the registry `insecure = true` in registries.conf"
            }
            FaultKind::Certificate => {
                "put the authority's certificate into /etc/containers/certs.d/HOST/ca.crt, or name it with --ca-file"
            }
        };
        let proxy = self
            .address("/v2/")
            .ok()
            .and_then(|to| self.http.proxy(&to));
        let reason = match proxy {
            Some(proxy) => format!("{} (by way of the proxy {proxy})", fault.reason),
            None => fault.reason,
        };
        self.failed("reach", reason, remedy)
    }

    /// Waits as long as after a failure, or says that there is to be no other attempt.
    pub(super) fn rest(&self, failures: u32) -> Result<bool> {
        match self.options.patience.pause(failures, None) {
            Some(pause) => self.http.pause(pause).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Error {
    /// With what the request was about.
    fn about(mut self, ask: &Ask<'_>) -> Self {
        if let Self::Registry { what, .. } = &mut self
            && !ask.doing.1.is_empty()
        {
            *what = format!("{} at {what}", ask.doing.1);
        }
        self
    }
}

/// The address that `to` is, seen from `from` (RFC 3986, section 5.2, as far as servers use it).
fn resolved(from: &Uri, to: &str) -> Option<Uri> {
    let authority = from.authority()?;
    let scheme = from.scheme_str()?;
    let whole = if to.starts_with("https://") || to.starts_with("http://") {
        to.to_owned()
    } else if let Some(rest) = to.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.starts_with('?') {
        format!("{scheme}://{authority}{}{to}", from.path())
    } else {
        return None;
    };
    let address: Uri = whole.parse().ok()?;
    // A name and password in an address would be sent along.
    (!address.authority()?.as_str().contains('@')).then_some(address)
}

fn host(address: &Uri) -> &str {
    address.host().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Messages {
    errors: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says of its error, in its own words (distribution specification, "error codes").
fn message(text: &[u8]) -> Option<String> {
    let all: Messages = serde_json::from_slice(text).ok()?;
    let first = all.errors.into_iter().next()?;
    let said = match (first.code.as_str(), first.message.as_str()) {
        ("", "") => return None,
        (code, "") => code.to_lowercase().replace('_', " "),
        (_, message) => message.to_owned(),
    };
    let short: String = said.chars().take(300).collect();
    Some(format!("it says: {}", short.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_resolved_and_none_carries_a_password() {
        let from: Uri = "https://r.example:5000/v2/a/blobs/x?y=1".parse().unwrap();
        let to = |text: &str| resolved(&from, text).map(|a| a.to_string());
        assert_eq!(to("/b?c").as_deref(), Some("https://r.example:5000/b?c"));
        assert_eq!(to("//s3/b").as_deref(), Some("https://s3/b"));
        assert_eq!(to("http://o/b").as_deref(), Some("http://o/b"));
        assert_eq!(
            to("?z").as_deref(),
            Some("https://r.example:5000/v2/a/blobs/x?z")
        );
        for bad in [
            "",
            "ftp://x/",
            "https://u:p@x/",
            "file:///etc/passwd",
            "https://",
        ] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_registrys_own_words_are_kept_short_and_harmless() {
        let text =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001b[31munknown"}]}"#;
        let said = message(text).unwrap();
        assert!(
            said.contains("unknown") && !said.contains('\u{1b}'),
            "{said}"
        );
        assert_eq!(
            message(br#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#).unwrap(),
            "it says: name unknown"
        );
        assert_eq!(message(b"<html>"), None);
    }
}
