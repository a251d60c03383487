//! What is asked of a monitor, and what it answers: one message each on a SOCK_SEQPACKET connection.
//!
//! A request is its kind (one byte), a number (four), a time (eight) and the version of palisade's requests (four). [`Request::Stop`],
//! [`Request::Signal`] and [`Request::Wait`] are the same in every version, and are obeyed whichever is said: what another version
//! started can always be ended. Anything else of another version is refused with a word about it, and so is a kind that is not
//! known. A refusal is the same in every version too.

use std::time::Duration;

use palisade_runtime::{OTHER_VERSION, OTHER_VERSION_ADVICE, REQUEST_VERSION};

/// Bytes of the longest message.
pub const LONGEST: usize = 4096;

/// What is asked of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End the sandbox: the signal first, SIGKILL after the time. The connection closes when nothing of it is left.
    Stop {
        /// None for the sandbox's own.
        signal: Option<i32>,
        /// None for the sandbox's own.
        timeout: Option<Duration>,
    },
    /// Send the command a signal; answered by [`Answer::Done`].
    Signal(i32),
    /// Say when the command ends: [`Answer::Exited`].
    Wait,
    /// The command's standard input or its terminal, for `attach`: [`Answer::Done`] with a descriptor.
    Input,
    /// Close the command's standard input.
    CloseInput,
    /// Let a command join the sandbox by the connection that comes with this ([`palisade_runtime::Sandbox::admit`]).
    Join,
    /// Freeze every process of the sandbox.
    Pause,
    /// Let them go on.
    Unpause,
    /// Change its limits: a [`Change`](crate::state::Change) in a file comes with this.
    Update,
}

/// What a monitor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It cannot be done.
    Refused {
        /// Why, in a sentence.
        why: String,
        /// What to do now.
        advice: String,
    },
    /// The command ended with this exit code.
    Exited(u8),
}

/// A time that stands for none.
const NONE: i64 = i64::MIN;

impl Request {
    /// As it is sent.
    pub fn to_bytes(self) -> Vec<u8> {
        let message = |kind: u8, number: i32, time: i64| {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&time.to_le_bytes());
            bytes.extend_from_slice(&REQUEST_VERSION.to_le_bytes());
            bytes
        };
        match self {
            Self::Stop { signal, timeout } => {
                let time = timeout.map_or(NONE, |time| {
                    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
                });
                message(1, signal.unwrap_or(0), time)
            }
            Self::Signal(signal) => message(2, signal, NONE),
            Self::Wait => message(3, 0, NONE),
            Self::Input => message(4, 0, NONE),
            Self::CloseInput => message(5, 0, NONE),
            Self::Join => message(6, 0, NONE),
            Self::Pause => message(7, 0, NONE),
            Self::Unpause => message(8, 0, NONE),
            Self::Update => message(9, 0, NONE),
        }
    }

    /// None where this is no request, or one of another version that is not the same in all.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (number, time) = (i32::from_le_bytes(*number), i64::from_le_bytes(*time));
        if !matches!(kind, 1..=3) && rest != REQUEST_VERSION.to_le_bytes() {
            return None;
        }
        let signal = (1..=64).contains(&number).then_some(number);
        Some(match kind {
            1 => Self::Stop {
                signal,
                timeout: u64::try_from(time).ok().map(Duration::from_millis),
            },
            2 => Self::Signal(signal?),
            3 => Self::Wait,
            4 => Self::Input,
            5 => Self::CloseInput,
            6 => Self::Join,
            7 => Self::Pause,
            8 => Self::Unpause,
            9 => Self::Update,
            _ => return None,
        })
    }
}

impl Answer {
    /// That it cannot be done, and what to do now.
    pub fn refused(why: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Refused {
            why: why.into(),
            advice: advice.into(),
        }
    }

    /// To what is no request of this version.
    pub fn other_version() -> Self {
        Self::refused(OTHER_VERSION, OTHER_VERSION_ADVICE)
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Done => vec![0],
            Self::Refused { why, advice } => {
                let mut bytes = vec![1];
                bytes.extend(format!("{advice}\0{why}").bytes().take(LONGEST - 1));
                bytes
            }
            Self::Exited(code) => vec![2, *code],
        }
    }

    /// None where this is no answer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::Done),
            [1, text @ ..] => {
                let text = String::from_utf8_lossy(text);
                let (advice, why) = text.split_once('\0')?;
                Some(Self::Refused {
                    why: why.to_owned(),
                    advice: advice.to_owned(),
                })
            }
            [2, code] => Some(Self::Exited(*code)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_arrives_as_it_was_sent_and_nothing_else_is_one() {
        let stop = |signal, timeout| Request::Stop { signal, timeout };
        for request in [
            stop(None, None),
            stop(Some(2), Some(Duration::ZERO)),
            stop(None, Some(Duration::from_millis(1500))),
            Request::Signal(64),
            Request::Wait,
            Request::Input,
            Request::CloseInput,
            Request::Join,
            Request::Pause,
            Request::Unpause,
            Request::Update,
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        let mut odd = Request::Signal(9).to_bytes();
        odd[1] = 65;
        assert_eq!(Request::from_bytes(&odd), None);
        let known = Request::Join.to_bytes();
        let mut unknown = known.clone();
        unknown[0] = 11;
        let longer = [known.as_slice(), &[0]].concat();
        for odd in [&[][..], &[1], &unknown, &known[..12], &known[..16], &longer] {
            assert_eq!(Request::from_bytes(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn what_ends_a_sandbox_is_understood_in_every_version_and_the_rest_in_its_own() {
        let stop = Request::Stop {
            signal: Some(15),
            timeout: None,
        };
        for (request, lasting) in [
            (stop, true),
            (Request::Signal(9), true),
            (Request::Wait, true),
            (Request::Join, false),
            (Request::Update, false),
        ] {
            let mut bytes = request.to_bytes();
            bytes[13] ^= 1;
            let other = Request::from_bytes(&bytes);
            assert_eq!(other, lasting.then_some(request));
        }
    }

    #[test]
    fn every_answer_arrives_as_it_was_sent() {
        for answer in [
            Answer::Done,
            Answer::refused("no", "yes"),
            Answer::Exited(255),
        ] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
        assert_eq!(Answer::from_bytes(&[]), None);
    }
}
