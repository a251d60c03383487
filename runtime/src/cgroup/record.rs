//! A cgroup as plain data.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Error, Kind};

/// A [`super::Cgroup`] as plain data, for another process to open. Its text form is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How it was made.
    pub kind: Kind,
    /// Absolute path of the cgroup v2 that carries the limits.
    pub unified: Option<PathBuf>,
    /// Absolute path of the cgroup v2 below it that processes join, where it is another.
    pub leaf: Option<PathBuf>,
    /// Absolute paths of the v1 directories, each with its controllers, separated by commas.
    pub v1: Vec<(String, PathBuf)>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default()
        };
        let kind = Kind::ALL
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or_default();
        write!(f, "{kind}\t{}\t{}", path(&self.unified), path(&self.leaf))?;
        self.v1
            .iter()
            .try_for_each(|(names, path)| write!(f, "\t{names}\t{}", path.display()))
    }
}

impl FromStr for Record {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(format!("{text:?} is not the record of a cgroup"));
        let path = |text: &str| {
            if text.is_empty() {
                None
            } else {
                Some(PathBuf::from(text))
            }
        };
        let mut fields = text.split('\t');
        let mut next = || fields.next().ok_or_else(invalid);
        let kind = next()?
            .parse()
            .ok()
            .and_then(|index: usize| Kind::ALL.get(index).copied())
            .ok_or_else(invalid)?;
        let (unified, leaf) = (path(next()?), path(next()?));
        let mut v1 = Vec::new();
        while let Some(names) = fields.next() {
            v1.push((names.to_owned(), fields.next().ok_or_else(invalid)?.into()));
        }
        Ok(Self {
            kind,
            unified,
            leaf,
            v1,
        })
    }
}
