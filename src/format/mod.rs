//! What `--format` and `--filter` understand, in docker's words: Go templates over JSON values, tables, sizes, times, filters.
//!
//! Nothing here knows what a sandbox or an image is. A verb makes a [`Row`] for each thing it lists, and hands them to a
//! [`Listing`]; `inspect` hands one JSON value to a [`Template`].

mod clock;
mod evaluate;
mod filter;
mod functions;
mod lex;
mod listing;
mod parse;
mod printf;
mod quantity;
mod table;
mod value;

#[cfg(test)]
mod tests;

pub use clock::{created_at, parse_time, rfc3339};
pub use filter::{Filters, Key, Takes, truth};
pub use listing::{Listing, Row, inspected, shortened};
pub use parse::Template;
pub use printf::quoted;
pub use quantity::{ago, binary_size, duration, size};

use std::fmt;

/// What is wrong with a template, a filter or a time, as the user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where and what, in one line.
    pub message: String,
    /// What would have been right.
    pub remedy: String,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
