//! The store: unpacked layers, and what is remembered of the images they came from.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::platform::Platform;
use crate::reference::Reference;

/// Whose the files of unpacked layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The caller's: for a user namespace that maps a single id. Setuid and setgid bits are dropped, devices left out.
    Caller,
    /// Those of the archive: for root, and inside a user namespace that maps a range of ids.
    Kept,
}

/// A directory of unpacked layers, private to its user.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir` (`$XDG_DATA_HOME/palisade`, for root `/var/lib/palisade`), which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Store`] if the directory belongs to someone else or others may write to it.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Makes an image ready to run: finds it, and unpacks those of its layers the store has not got.
    ///
    /// # Errors
    /// Any [`Error`]; nothing half-made is left in the store.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        ownership: Ownership,
    ) -> Result<Image> {
        let _ = (platform, ownership);
        Err(Error::Store {
            path: self.dir.clone(),
            reason: format!("{reference} cannot be resolved yet"),
        })
    }
}
