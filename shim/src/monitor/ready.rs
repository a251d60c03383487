//! The first word of a monitor, to the command line that made it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::socket;
use crate::Error;

/// The monitor's end: says once how the start went.
#[derive(Debug)]
pub struct Ready(OwnedFd);

/// The command line's end.
#[derive(Debug)]
pub struct Expected(OwnedFd);

/// Why a sandbox could not be started, from the process that tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 125 to 127.
    pub code: u8,
    /// What went wrong.
    pub message: String,
    /// What to do; may be empty.
    pub advice: String,
}

/// Both ends.
pub fn pair() -> Result<(Ready, Expected), Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(Error::system("make a socket pair"))?;
    Ok((Ready(one), Expected(other)))
}

impl Ready {
    /// The command is being executed.
    pub fn started(self) {
        // Nobody who hears it: then it runs all the same.
        let _ = socket::send(self.0.as_fd(), &[0], &[]);
    }

    /// It is not, and why.
    pub fn failed(self, error: &Error) {
        let advice = error.advice().unwrap_or_default();
        let text = format!("{error}\0{advice}");
        let mut bytes = vec![error.exit_code()];
        bytes.extend(text.bytes().take(super::request::LONGEST - 1));
        let _ = socket::send(self.0.as_fd(), &bytes, &[]);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Expected {
    /// Waits for the word.
    pub fn wait(self) -> Result<(), Refusal> {
        let lost = || Refusal {
            code: 125,
            message: "the monitor ended before the command ran".into(),
            advice: String::new(),
        };
        let received = socket::receive(self.0.as_fd()).ok().flatten();
        let (bytes, _) = received.ok_or_else(lost)?;
        let (code, text) = bytes.split_first().ok_or_else(lost)?;
        if *code == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(text).into_owned();
        let (message, advice) = text.split_once('\0').unwrap_or((&text, ""));
        Err(Refusal {
            code: *code,
            message: message.to_owned(),
            advice: advice.to_owned(),
        })
    }
}
