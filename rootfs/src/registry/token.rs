//! Tokens: what a server gives out in return for credentials, or for nothing (distribution specification, "token
//! authentication"; RFC 6749, section 6).

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use ureq::http::{Method, StatusCode, Uri};

use super::credentials::Login;
use super::http::{FaultKind, Http, Later, Payload, passing, small};
use super::retry::Patience;
use crate::error::{Error, Result};

/// The longest answer of a token server that is read, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a token is asked of.
pub(super) struct TokenServer<'a> {
    pub http: &'a Http,
    pub patience: &'a Patience,
    pub realm: &'a str,
    pub service: &'a str,
    /// Whether certificates are verified and plain HTTP is refused.
    pub verify: bool,
    pub plain: bool,
    /// For whom the token is, for messages.
    pub registry: &'a str,
}

impl TokenServer<'_> {
    /// Gets a token for `scopes` and returns the header to show it in.
    ///
    /// # Errors
    /// [`Error::Denied`] if the credentials are not accepted, [`Error::Registry`] for every other answer that is no token.
    pub(super) fn ask(&self, scopes: &[String], login: Option<&Login>) -> Result<HeaderValue> {
        let realm: Uri = self
            .realm
            .parse()
            .map_err(|_| self.failed("its address is not one"))?;
        if realm.scheme_str() != Some("https") && !self.plain {
            return Err(self.failed(
                "its address is not https: credentials and tokens would travel in the clear",
            ));
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        if !self.service.is_empty() {
            fields.push(("service", self.service));
        }
        let text = if let Some(Login::Identity(token)) = login {
            fields.push(("grant_type", "refresh_token"));
            fields.push(("client_id", "palisade"));
            fields.push(("refresh_token", token));
            let all = scopes.join(" ");
            if !all.is_empty() {
                fields.push(("scope", &all));
            }
            let form = encoded(&fields);
            let mut headers = HeaderMap::new();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, kind);
            self.send(&Method::POST, &realm, &headers, form.as_bytes())?
        } else {
            fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mut headers = HeaderMap::new();
            if let Some(Login::Password { user, password }) = login {
                fields.push(("account", user));
                headers.insert(AUTHORIZATION, basic(user, password)?);
            }
            let separator = if realm.query().is_some() { '&' } else { '?' };
            let address = format!("{realm}{separator}{}", encoded(&fields));
            let address = address
                .parse()
                .map_err(|_| self.failed("its address is not one"))?;
            self.send(&Method::GET, &address, &headers, b"")?
        };
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| self.failed("its answer is not a token"))?;
        let token = answer
            .token
            .into_iter()
            .chain(answer.access_token)
            .find(|token| !token.is_empty())
            .ok_or_else(|| self.failed("its answer holds no token"))?;
        secret(format!("Bearer {token}"))
            .ok_or_else(|| self.failed("its token has characters that a header cannot hold"))
    }

    fn send(
        &self,
        method: &Method,
        address: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<u8>> {
        let mut failures = 0;
        loop {
            let mut reader = body;
            let payload = (*method == Method::POST).then_some(Payload {
                length: body.len() as u64,
                reader: &mut reader,
            });
            let sent = self
                .http
                .send(method, address, self.verify, headers, payload)?;
            failures += 1;
            let (reason, asked) = match sent {
                Ok(mut response) => {
                    if let Some(Later(asked)) = passing(&response) {
                        (format!("it answers {}", response.status()), asked)
                    } else if response.status() == StatusCode::OK {
                        match small(&mut response, LONGEST, "the token server's answer")? {
                            Ok(text) => return Ok(text),
                            Err(fault) => (fault.reason, None),
                        }
                    } else if matches!(
                        response.status(),
                        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
                    ) {
                        return Err(Error::Denied {
                            registry: self.registry.to_owned(),
                            what: "a token".to_owned(),
                            reason: format!("the token server answers {}", response.status()),
                        });
                    } else {
                        return Err(self.failed(&format!("it answers {}", response.status())));
                    }
                }
                Err(fault) if fault.kind == FaultKind::Broken => (fault.reason, None),
                Err(fault) => return Err(self.failed(&fault.reason)),
            };
            match self.patience.pause(failures, asked) {
                Some(pause) => self.http.pause(pause)?,
                None => return Err(self.failed(&reason)),
            }
        }
    }

    fn failed(&self, reason: &str) -> Error {
        let realm: String = self.realm.chars().take(200).collect();
        Error::Registry {
            doing: "get a token from",
            what: format!("{} (for {})", realm.escape_debug(), self.registry),
            reason: reason.to_owned(),
            remedy: "",
        }
    }
}

/// The header of basic authentication (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
    secret(format!("Basic {text}")).ok_or_else(|| Error::Registry {
        doing: "send",
        what: "the credentials".to_owned(),
        reason: "they cannot be written in a header".to_owned(),
        remedy: "",
    })
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Fields as a query or form has them.
fn encoded(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    fields.join("&")
}

/// A text as a part of an address (RFC 3986, section 2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_letter_of_an_address_is_escaped() {
        assert_eq!(
            escaped("repository:a/b:pull,push é"),
            "repository%3Aa%2Fb%3Apull%2Cpush%20%C3%A9"
        );
        assert_eq!(encoded(&[("a", "b&c"), ("d", "e")]), "a=b%26c&d=e");
    }
}
