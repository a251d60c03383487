//! What a client of registries is told about its surroundings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::retry::Patience;

/// How registries are reached, and where the caller keeps what concerns them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The caller's environment: proxies, and where credentials lie.
    pub variables: Vec<(OsString, OsString)>,
    /// Files with more certificates to believe (PEM).
    pub ca_files: Vec<PathBuf>,
    /// Directories with a directory of certificates for each host.
    pub certificates: Vec<PathBuf>,
    /// Where the administrator keeps `registries.conf` and `policy.json`: `/etc/containers`.
    pub settings: PathBuf,
    /// The administrator's rules for palisade alone, before all others: `/etc/palisade/images.json`.
    pub rules: PathBuf,
    /// The longest a connection may take to come into being.
    pub connect: Duration,
    /// The longest a registry may say nothing.
    pub idle: Duration,
    /// The most bytes of a blob that are sent in one request: what is sent again when a connection breaks.
    pub chunk: u64,
    /// When to try again.
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            variables: Vec::new(),
            ca_files: Vec::new(),
            certificates: vec![
                "/etc/containers/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            settings: "/etc/containers".into(),
            rules: "/etc/palisade/images.json".into(),
            connect: Duration::from_secs(15),
            idle: Duration::from_mins(1),
            chunk: 64 << 20,
            patience: Patience::default(),
        }
    }
}

impl Options {
    /// For a caller with this environment. The caller's own `containers/certs.d` comes before the system's.
    pub fn of_caller(variables: Vec<(OsString, OsString)>) -> Self {
        let mut options = Self {
            variables,
            ..Self::default()
        };
        if let Some(own) = options.configuration() {
            options
                .certificates
                .insert(0, own.join("containers/certs.d"));
        }
        options
    }

    /// A variable that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let value = self.variables.iter().find(|(n, _)| n == name)?.1.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// A variable that is an absolute path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.variables.iter().find(|(n, _)| n == name)?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    }

    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(super) fn configuration(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME")
            .or_else(|| Some(self.path("HOME")?.join(".config")))
    }
}
