//! Asking a sandbox's monitor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::request::{Answer, Request};
use super::socket;
use crate::Error;
use crate::state::Entry;

/// A connection to a sandbox's monitor.
#[derive(Debug)]
pub struct Client {
    connection: OwnedFd,
    id: String,
}

impl Client {
    /// Connects; none where nobody watches the sandbox.
    ///
    /// # Errors
    /// The socket is there and cannot be connected to.
    pub fn connect(entry: &Entry) -> Result<Option<Self>, Error> {
        match socket::connect_to(&entry.directory) {
            Ok(connection) => Ok(Some(Self {
                connection,
                id: entry.short().to_owned(),
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(Error::State {
                action: "connect to the monitor in",
                path: entry.directory.clone(),
                source,
            }),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The monitor is gone.
    pub fn send(&self, request: Request) -> Result<(), Error> {
        socket::send(self.connection.as_fd(), &request.to_bytes(), &[]).map_err(|_| self.gone())
    }

    /// Waits for the next answer; none when the monitor has ended.
    ///
    /// # Errors
    /// The answer cannot be received.
    pub fn receive(&self) -> Result<Option<(Answer, Vec<OwnedFd>)>, Error> {
        let received = socket::receive(self.connection.as_fd()).map_err(|_| self.gone())?;
        let Some((bytes, descriptors)) = received else {
            return Ok(None);
        };
        let answer = Answer::from_bytes(&bytes).unwrap_or_else(Answer::other_version);
        Ok(Some((answer, descriptors)))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The monitor refuses, with its reason, or is gone.
    pub fn ask(&self, request: Request) -> Result<Vec<OwnedFd>, Error> {
        self.ask_with(request, &[])
    }

    /// The same with descriptors.
    ///
    /// # Errors
    /// The monitor refuses, with its reason, or is gone.
    pub fn ask_with(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Vec<OwnedFd>, Error> {
        socket::send(self.connection.as_fd(), &request.to_bytes(), descriptors)
            .map_err(|_| self.gone())?;
        match self.receive()? {
            Some((Answer::Done, descriptors)) => Ok(descriptors),
            Some((Answer::Refused { why, advice }, _)) => Err(Error::Refused {
                id: self.id.clone(),
                why,
                advice,
            }),
            Some((Answer::Exited(_), _)) | None => Err(self.gone()),
        }
    }

    /// Sends a request whose answer is of no interest; a monitor that has ended needs none.
    pub fn ask_quietly(&self, request: Request) {
        let _ = self.send(request);
    }

    /// Waits until the monitor has ended and everything of the sandbox with it.
    pub fn wait_for_end(&self) {
        while let Ok(Some(_)) = self.receive() {}
    }

    fn gone(&self) -> Error {
        Error::MonitorGone {
            id: self.id.clone(),
        }
    }
}

impl AsFd for Client {
    /// Readable when there is an answer or the monitor has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
