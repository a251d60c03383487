//! What can go wrong between a reference and a root file system.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be named, found, trusted or unpacked. Each message is one line that says what to do, where
/// something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a path failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The text given as an image is not a reference.
    #[error("`{}` is not an image: {reason}", text.escape_debug())]
    Reference {
        /// As typed.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing in the store has that name or id.
    #[error("image {name} is not in the store")]
    NotInStore {
        /// The name, in full.
        name: String,
    },
    /// The files at a path are not an image of the kind that was named.
    #[error("{} is not {kind}: {reason}", path.display())]
    NotAnImage {
        /// What was looked at.
        path: PathBuf,
        /// What it should be, with an article.
        kind: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// The layout or archive holds several images, or none of that name.
    #[error("{} holds {}{}", path.display(),
            wanted.as_ref().map_or_else(|| "several images: name one".to_owned(), |w| format!("no image `{}`", w.escape_debug())),
            list(available, "; it has "))]
    NoSuchImage {
        /// The layout or archive.
        path: PathBuf,
        /// The tag asked for; none if none was and one is needed.
        wanted: Option<String>,
        /// The tags there are.
        available: Vec<String>,
    },
    /// The image is not made for the platform asked for.
    #[error(
        "the image is not for {wanted}{} (choose with --platform)",
        list(available, "; it is for ")
    )]
    Platform {
        /// As asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A JSON document of the image cannot be understood.
    #[error("the {what} of the image is broken ({}): {reason}", path.display())]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// The parser's reason, or ours.
        reason: String,
    },
    /// A limit that keeps a hostile image from using the machine up.
    #[error("{what} is over the limit of {limit}: the image is refused")]
    Limit {
        /// What was counted.
        what: String,
        /// The most that is allowed, with its unit.
        limit: String,
    },
    /// Content is not what its digest says.
    #[error(
        "the {what} is not what the image says: expected {expected}, found {found} (the image is damaged or forged: fetch it again)"
    )]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Content has not the length its descriptor says.
    #[error(
        "the {what} is {found} bytes long, the image says {expected} (the image is damaged: fetch it again)"
    )]
    SizeMismatch {
        /// Which content.
        what: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes found; for content that is too long, as far as it was read.
        found: u64,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer}: {}{reason}", entry_prefix(entry))]
    Layer {
        /// The diff-id, or the blob's digest where that is all there is.
        layer: String,
        /// The entry at fault, or empty.
        entry: Vec<u8>,
        /// What is wrong.
        reason: String,
    },
    /// Something this version does not do.
    #[error("{what} is not supported{remedy}")]
    Unsupported {
        /// The thing.
        what: String,
        /// What to do instead, with its own separator; or empty.
        remedy: &'static str,
    },
    /// A field of the image's configuration is not acceptable.
    #[error("the image's {field} is refused: {reason}")]
    Config {
        /// The field, by its name in the image specification.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// A user that cannot be resolved in the image.
    #[error("user `{}`: {reason}", text.escape_debug())]
    User {
        /// As given.
        text: String,
        /// Why not, and what would do.
        reason: String,
    },
    /// A registry, or something on the way to it, does not do what was asked.
    #[error("cannot {doing} {what}: {reason}")]
    Registry {
        /// The operation, as a verb.
        doing: &'static str,
        /// What it was done to, and where.
        what: String,
        /// What went wrong.
        reason: String,
        /// What to do now; empty where there is nothing.
        remedy: &'static str,
    },
    /// A registry does not let the caller do something.
    #[error("{registry} denies access{}{what}: {reason}", if what.is_empty() { "" } else { " to " })]
    Denied {
        /// The registry.
        registry: String,
        /// What was asked for; empty for no more than to be let in.
        what: String,
        /// The registry's reason.
        reason: String,
    },
    /// A registry has no such image.
    #[error("there is no image {name}{}", place.as_ref().map_or_else(String::new, |place| format!(" at {place}")))]
    NoSuchName {
        /// The name, in full.
        name: String,
        /// The registry, where that is not in the name.
        place: Option<String>,
    },
    /// The rules on whose images are used do not let an image be used.
    #[error("image {name} is refused by {}: {reason}", path.display())]
    Refused {
        /// The name, in full.
        name: String,
        /// The file with the rule.
        path: PathBuf,
        /// What the rule says.
        reason: String,
    },
    /// A file of settings or credentials cannot be understood.
    #[error("{} cannot be understood: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller broke it off.
    #[error("interrupted")]
    Interrupted,
    /// A named volume cannot be had, used or removed.
    #[error("volume {}: {reason}", name.escape_debug())]
    Volume {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The store's directory is not one to trust.
    #[error("the store {} cannot be used: {reason}", path.display())]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Whether this is about the way that content comes, not about the content: what has arrived may be the beginning of the right one.
    pub(crate) fn is_of_the_way(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Registry { .. }
                | Self::Denied { .. }
                | Self::Settings { .. }
                | Self::Interrupted
        )
    }

    pub(crate) fn limit(what: impl Into<String>, limit: impl Into<String>) -> Self {
        Self::Limit {
            what: what.into(),
            limit: limit.into(),
        }
    }
}

fn list(names: &[String], before: &str) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return String::new();
    }
    let mut text = before.to_owned();
    for (i, name) in names.iter().take(SHOWN).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.extend(name.escape_debug());
    }
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn entry_prefix(entry: &[u8]) -> String {
    if entry.is_empty() {
        String::new()
    } else {
        let shown = &entry[..entry.len().min(200)];
        format!("entry `{}`: ", shown.escape_ascii())
    }
}
