//! Whose certificates are believed: the system's, and what the administrator or the user lays beside them
//! (containers-certs.d(5), and docker's directory of the same form).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};

use crate::error::{Error, Result};

/// The largest certificate file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// The certificates that are believed, and those that are shown.
#[derive(Debug)]
pub(super) struct Trust {
    /// Directories with a directory for each host, the first has precedence.
    directories: Vec<PathBuf>,
    extra: Vec<Certificate<'static>>,
    system: OnceLock<Vec<Certificate<'static>>>,
}

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
        })
    }

    /// The configuration for a host (with its port where it is not the usual one).
    pub(super) fn config(&self, host: &str, verify: bool) -> Result<TlsConfig> {
        let builder = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
        let (roots, client) = self.of_host(host)?;
        let builder = builder.client_cert(client);
        if !verify {
            return Ok(builder
                .disable_verification(true)
                .root_certs(RootCerts::Specific(Arc::default()))
                .build());
        }
        let mut all = self.system.get_or_init(system).clone();
        all.extend(self.extra.iter().cloned());
        all.extend(roots);
        Ok(builder
            .root_certs(RootCerts::Specific(Arc::new(all)))
            .build())
    }

    /// The files of a host's directories: `*.crt` are authorities, `NAME.cert` with `NAME.key` is shown to it.
    fn of_host(&self, host: &str) -> Result<(Vec<Certificate<'static>>, Option<ClientCert>)> {
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

/// The system's authorities: of `$SSL_CERT_FILE`, `$SSL_CERT_DIR`, or where distributions have them.
fn system() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect()
}

fn shown(file: &Path) -> Result<ClientCert> {
    let chain = certificates(file)?;
    if chain.is_empty() {
        return Err(broken(file, "it holds no certificate (PEM)"));
    }
    let key_file = file.with_extension("key");
    let key = PrivateKey::from_pem(&read(&key_file)?)
        .map_err(|_| broken(&key_file, "it holds no private key (PEM)"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let text = read(file)?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(broken(file, "it is not PEM")),
        }
    }
    Ok(found)
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
