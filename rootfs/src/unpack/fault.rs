//! Why a layer cannot be unpacked, before it is known which layer and entry it was.

use std::io;

use rustix::io::Errno;

/// A reason to stop unpacking.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source failed, or ended too soon.
    Input(io::Error),
    /// What is wrong with the archive.
    Archive(String),
    /// A system call on the entry's file failed.
    System(&'static str, Errno),
    /// A limit was passed: what was counted, and the limit.
    Limit(&'static str, String),
    /// The entry refers to layers beneath that are not unpacked yet.
    NeedsLower,
    /// The layers beneath cannot be read.
    Lower(Box<crate::Error>),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

impl From<crate::Error> for Fault {
    fn from(error: crate::Error) -> Self {
        Self::Lower(Box::new(error))
    }
}

pub(crate) fn broken<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Archive(reason.into()))
}

/// For `map_err` on a system call.
pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::System(doing, errno)
}

impl Fault {
    /// The error for the user.
    pub(crate) fn at(self, layer: &str, entry: &[u8]) -> crate::Error {
        let reason = match self {
            Self::Input(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                "the archive is cut off".to_owned()
            }
            Self::Input(e) => format!("it cannot be read: {e}"),
            Self::Archive(reason) => reason,
            Self::System(doing, errno) => format!("cannot {doing}: {}", io::Error::from(errno)),
            Self::Limit(what, limit) => {
                return crate::Error::limit(format!("{what} of layer {layer}"), limit);
            }
            Self::NeedsLower => "it refers to a lower layer that is not there".to_owned(),
            Self::Lower(error) => return *error,
        };
        crate::Error::Layer {
            layer: layer.to_owned(),
            entry: entry.to_vec(),
            reason,
        }
    }
}
