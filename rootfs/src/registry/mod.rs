//! Registries: images fetched from them and given to them (OCI distribution specification).
//!
//! ```text
//! a name ──configuration──▶ endpoints ──session──▶ requests ──http──▶ connections
//!                                         │
//!                         credentials, tokens, redirections, second attempts
//! ```
//!
//! A registry is not believed in anything: what it sends is limited in size and checked against the digests that the name or the
//! documents before it give, who asks is proved to its own address alone, and what it redirects to learns of nobody.

mod blob;
mod challenge;
mod configuration;
mod credentials;
mod helper;
mod http;
mod identity;
mod list;
mod options;
mod parcel;
mod places;
mod progress;
mod pull;
mod push;
mod retry;
mod rules;
mod session;
mod signature;
mod token;
mod transport;
mod trust;
mod verifier;

pub use challenge::Challenge;
pub use configuration::{Configuration, Endpoint};
pub use credentials::{Kept, Login};
pub use list::Referrer;
pub use options::Options;
pub use parcel::Compression;
pub use progress::{Event, Progress};
pub use pull::Pulled;
pub use push::Pushed;
pub use retry::Patience;

use self::http::Http;
use self::rules::Rules;
use self::session::{Ask, Session};
use crate::error::{Error, Result};
use crate::reference::Name;

/// The registries there are, as the caller may reach them.
#[derive(Debug)]
pub struct Registries {
    options: Options,
    http: Http,
    configuration: Configuration,
    rules: Rules,
}

impl Registries {
    /// Reads the settings. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Io`] for a file of settings, rules or certificates that cannot be read.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self {
            http: Http::new(&options)?,
            configuration: Configuration::load(&options)?,
            rules: Rules::load(&options)?,
            options,
        })
    }

    /// The name in full of what was typed ([`Configuration::complete`]).
    ///
    /// # Errors
    /// [`Error::Reference`] for a short name that could mean several.
    pub fn complete(&self, name: &Name) -> Result<Name> {
        self.configuration.complete(name)
    }

    /// Breaks off everything that is under way, from another thread: it fails with [`Error::Interrupted`].
    pub fn stop(&self) {
        self.http.stop();
    }

    /// Tries credentials at a registry, and keeps them if they are good.
    ///
    /// # Errors
    /// [`Error::Denied`] if the registry does not accept them; [`Error::Registry`] if it cannot be asked; [`Error::Settings`]
    /// and [`Error::Io`] if they cannot be kept.
    pub fn login(&self, registry: &str, login: &Login) -> Result<Kept> {
        let endpoint = self.host(registry)?;
        let session = Session::open(&self.http, &self.options, endpoint)?.with_login(login.clone());
        let doing = ("log in at", String::new());
        let ask = Ask::new(ureq::http::Method::GET, "/v2/", String::new(), doing);
        let mut response = session.ask(&ask)?;
        if !response.status().is_success() {
            return Err(session.refusal(&ask, &mut response));
        }
        credentials::keep(&self.options, &session.endpoint.registry, login)
    }

    /// Forgets the credentials for a registry; false if there are none.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Io`] for a file that cannot be read or written.
    pub fn logout(&self, registry: &str) -> Result<bool> {
        let endpoint = self.host(registry)?;
        credentials::forget(&self.options, &endpoint.registry)
    }

    /// The name that is kept for a registry, if there is one.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Io`] for a file that cannot be read.
    pub fn user(&self, registry: &str) -> Result<Option<String>> {
        let endpoint = self.host(registry)?;
        let login = credentials::find(&self.options, &endpoint.registry, "")?;
        Ok(match login {
            Some(Login::Password { user, .. }) => Some(user),
            _ => None,
        })
    }

    /// A registry by its host alone.
    fn host(&self, registry: &str) -> Result<Endpoint> {
        let host = registry
            .strip_prefix("https://")
            .or_else(|| registry.strip_prefix("http://"))
            .unwrap_or(registry)
            .trim_end_matches('/');
        let bad = || Error::Reference {
            text: registry.to_owned(),
            reason: "as a registry, it is not a host name with an optional port".to_owned(),
        };
        if host.contains('/') && !matches!(host, "index.docker.io/v1") {
            return Err(bad());
        }
        let host = host.split('/').next().unwrap_or_default();
        let name = Name::parse(&format!("{host}/x/x")).map_err(|_| bad())?;
        if name.registry != host && host != "index.docker.io" {
            return Err(bad());
        }
        let mut all = self.configuration.endpoints(&name)?;
        let own = all.pop().filter(|own| own.registry == name.registry);
        own.ok_or_else(bad)
    }
}
