//! Whose certificates are believed: the system's, and what the administrator or the user lays beside them
//! (containers-certs.d(5), and docker's directory of the same form).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, client::danger::ServerCertVerifier};

use super::verifier::{Blind, Verifier};
use crate::error::{Error, Result};

/// The largest certificate file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// The certificates that are believed, and those that are shown.
#[derive(Debug)]
pub(super) struct Trust {
    /// Directories with a directory for each host, the first has precedence.
    directories: Vec<PathBuf>,
    extra: Vec<CertificateDer<'static>>,
    /// The system's authorities: of `$SSL_CERT_FILE`, `$SSL_CERT_DIR`, or where distributions have them.
    system: OnceLock<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

/// What is shown to a host that asks who is there: certificates and their key.
type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Trust {
    /// With the certificates of more files (PEM) for every host.
    pub(super) fn new(directories: Vec<PathBuf>, files: &[PathBuf]) -> Result<Self> {
        let mut extra = Vec::new();
        for file in files {
            let found = certificates(file)?;
            if found.is_empty() {
                return Err(broken(file, "it holds no certificate (PEM)"));
            }
            extra.extend(found);
        }
        Ok(Self {
            directories,
            extra,
            system: OnceLock::new(),
            provider: Arc::new(ring::default_provider()),
        })
    }

    /// The configuration for a host (with its port where it is not the usual one).
    pub(super) fn config(&self, host: &str, verify: bool) -> Result<Arc<ClientConfig>> {
        let (own, client) = self.of_host(host)?;
        let provider = || Arc::clone(&self.provider);
        let verifier: Arc<dyn ServerCertVerifier> = if verify {
            let own = self.extra.iter().cloned().chain(own).collect();
            let system = self
                .system
                .get_or_init(|| rustls_native_certs::load_native_certs().certs);
            Arc::new(Verifier::new(system, own, provider()))
        } else {
            Arc::new(Blind(provider()))
        };
        let cannot = |e: rustls::Error| Error::Registry {
            doing: "prepare TLS for",
            what: host.to_owned(),
            reason: e.to_string(),
            remedy: "check the files in /etc/containers/certs.d/HOST",
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(cannot)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(cannot)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// The files of a host's directories: `*.crt` are authorities, `NAME.cert` with `NAME.key` is shown to it.
    fn of_host(&self, host: &str) -> Result<(Vec<CertificateDer<'static>>, Option<Shown>)> {
        let mut roots = Vec::new();
        let mut client = None;
        for directory in &self.directories {
            let directory = directory.join(host);
            // What nobody may look into says nothing.
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => roots.extend(certificates(&file)?),
                    Some("cert") if client.is_none() => client = Some(shown(&file)?),
                    _ => {}
                }
            }
        }
        Ok((roots, client))
    }
}

fn shown(file: &Path) -> Result<Shown> {
    let chain = certificates(file)?;
    if chain.is_empty() {
        return Err(broken(file, "it holds no certificate (PEM)"));
    }
    let key_file = file.with_extension("key");
    let key = PrivateKeyDer::from_pem_slice(&read(&key_file)?)
        .map_err(|_| broken(&key_file, "it holds no private key (PEM)"))?;
    Ok((chain, key))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(file)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| broken(file, "it is not PEM"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let fail = |e| Error::io("read the certificate", file, e);
    let length = std::fs::metadata(file).map_err(fail)?.len();
    if length > LARGEST {
        return Err(broken(file, "it is larger than 4 MiB"));
    }
    std::fs::read(file).map_err(fail)
}

fn broken(file: &Path, reason: &str) -> Error {
    Error::Settings {
        path: file.to_owned(),
        reason: reason.to_owned(),
    }
}
