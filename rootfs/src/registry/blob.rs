//! A blob as it comes over the wire, taken up again where the connection broke.

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use ureq::http::{Method, StatusCode};

use super::http::{Fault, FaultKind, text_of};
use super::places::Place;
use super::session::{Ask, Session};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The bytes of a blob from some offset to its end. They are as long as they should be; whether they are the right ones is for
/// the reader to check.
pub(super) struct BlobReader<'p, 's> {
    /// Where it may be had, in order; mirrors first.
    places: &'p [Place<'s>],
    digest: Digest,
    size: u64,
    at: u64,
    /// Told how much is there, as it comes.
    progress: &'p (dyn Fn(u64) + 'p),
    body: Option<BodyReader<'static>>,
    /// Failures since the last byte that arrived.
    failures: u32,
}

impl<'p, 's> BlobReader<'p, 's> {
    /// Of a blob of `size` bytes, from the byte `at` on.
    pub(super) fn new(
        places: &'p [Place<'s>],
        digest: Digest,
        size: u64,
        at: u64,
        progress: &'p (dyn Fn(u64) + 'p),
    ) -> Self {
        Self {
            places,
            digest,
            size,
            at,
            progress,
            body: None,
            failures: 0,
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            let fault = match self.body()? {
                None => return Ok(0),
                Some(body) => match body.read(out) {
                    Ok(0) if self.at == self.size => return Ok(0),
                    Ok(0) => Fault {
                        reason: "the connection broke".to_owned(),
                        kind: FaultKind::Broken,
                    },
                    Ok(count) if count as u64 > self.size - self.at => {
                        return Err(Error::SizeMismatch {
                            what: format!("blob {} that the registry sends", self.digest),
                            expected: self.size,
                            found: self.at + count as u64,
                        });
                    }
                    Ok(count) => {
                        self.at += count as u64;
                        self.failures = 0;
                        (self.progress)(self.at);
                        return Ok(count);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => Fault::of_body(&e),
                },
            };
            self.body = None;
            self.failures += 1;
            let session = self.places[0].session()?;
            let again = fault.kind == FaultKind::Broken && session.rest(self.failures)?;
            if !again {
                self.next_place(Error::Registry {
                    doing: "fetch",
                    what: format!("blob {} from {}", self.digest, session.endpoint.registry),
                    reason: format!("{} after {} of {} bytes", fault.reason, self.at, self.size),
                    remedy: "try again: what has arrived is kept",
                })?;
            }
        }
    }

    /// Goes on at the next place, or fails.
    fn next_place(&mut self, error: Error) -> Result<()> {
        if self.places.len() < 2 || matches!(error, Error::Interrupted) {
            return Err(error);
        }
        self.places = &self.places[1..];
        self.failures = 0;
        Ok(())
    }

    /// The body being read; none once everything has been.
    fn body(&mut self) -> Result<Option<&mut BodyReader<'static>>> {
        while self.body.is_none() {
            if self.at == self.size && self.size > 0 {
                return Ok(None);
            }
            let opened = self.places[0]
                .session()
                .and_then(|session| self.open(session));
            match opened {
                Ok(body) => self.body = Some(body),
                Err(error) => self.next_place(error)?,
            }
        }
        Ok(self.body.as_mut())
    }

    fn open(&self, session: &Session<'_>) -> Result<BodyReader<'static>> {
        let doing = ("fetch", format!("blob {}", self.digest));
        let path = session.path(&format!("blobs/{}", self.digest));
        let mut ask = Ask::new(Method::GET, path, session.scope("pull"), doing);
        if self.at > 0 {
            ask = ask.header("range", &format!("bytes={}-", self.at));
        }
        let mut response = session.ask(&ask)?;
        let skip = match response.status() {
            // The whole blob, because the server knows no ranges.
            StatusCode::OK => self.at,
            StatusCode::PARTIAL_CONTENT if self.at > 0 => {
                let range = text_of(response.headers(), &CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.at)) {
                    let reason = "it sends another range than was asked for".to_owned();
                    return Err(session.failed("fetch a blob from", reason, ""));
                }
                0
            }
            _ => return Err(session.refusal(&ask, &mut response)),
        };
        let expected = self.size - self.at + skip;
        let announced = text_of(response.headers(), &CONTENT_LENGTH)
            .and_then(|length| length.parse::<u64>().ok());
        if let Some(found) = announced.filter(|&found| found != expected) {
            return Err(Error::SizeMismatch {
                what: format!("blob {} that the registry sends", self.digest),
                expected: self.size,
                found: found + self.at - skip,
            });
        }
        let mut body = response.into_body().into_reader();
        let passed = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        match passed {
            Ok(passed) if passed == skip => Ok(body),
            _ => Err(session.failed(
                "fetch a blob from",
                "the connection broke before the part that is missing".to_owned(),
                "try again",
            )),
        }
    }
}

impl Read for BlobReader<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill(out).map_err(io::Error::other)
    }
}
