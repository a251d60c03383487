//! `--receipt` and the options about it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::caller::Caller;
use crate::failure::Failure;

/// The receipt asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// `--receipt`: a path, or `-`.
    pub file: Option<PathBuf>,
    /// `--receipt-log`.
    pub log: Option<PathBuf>,
    /// `--receipt-key`.
    pub key: Option<PathBuf>,
    /// `--receipt-output`.
    pub output: bool,
}

impl Receipt {
    /// Understands what was typed.
    pub fn understand(
        file: Option<OsString>,
        log: Option<OsString>,
        key: Option<OsString>,
        output: bool,
        caller: &Caller,
    ) -> Result<Self, Failure> {
        let idle = match (&key, output) {
            _ if file.is_some() || log.is_some() => None,
            (Some(_), _) => Some("--receipt-key"),
            (None, true) => Some("--receipt-output"),
            (None, false) => None,
        };
        if let Some(option) = idle {
            return Err(Failure::new(
                format!("{option} needs a receipt to be asked for"),
                format!("--receipt FILE {option}"),
            ));
        }
        let absolute = |path: OsString| caller.absolute(path.as_ref());
        Ok(Self {
            file: file.map(|path| {
                if path == "-" {
                    path.into()
                } else {
                    absolute(path)
                }
            }),
            log: log.map(absolute),
            key: key.map(absolute),
            output,
        })
    }

    /// Whether there will be one.
    pub fn is_asked_for(&self) -> bool {
        self.file.is_some() || self.log.is_some()
    }
}
