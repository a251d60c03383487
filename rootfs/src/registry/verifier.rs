//! Whether a server is the one it says it is.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Believes what an authority has signed, and a server whose own certificate was laid down for it.
///
/// A registry's certificate that has signed itself (`openssl req -x509`) is an authority's by what it says of itself, and no authority is a server
/// (RFC 5280, 4.2.1.9). Whoever lays down exactly this certificate means that server all the same, as with every client written in Go.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None where no authority is believed.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that were laid down by name.
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// With the authorities of the system, and certificates that were laid down beside them. What cannot be read of the system's is left out.
    pub(super) fn new(
        system: &[CertificateDer<'static>],
        own: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system.iter().chain(&own).cloned());
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        Self {
            authorities: authorities.build().ok(),
            own,
            provider,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        match authorities.verify_server_cert(certificate, between, name, ocsp, now) {
            // Found after the dates have been looked at, and before the name.
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if is_authority(&why) && self.own.iter().any(|own| own == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether a server's certificate was refused because it is an authority's.
fn is_authority(why: &OtherError) -> bool {
    matches!(why.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Why a certificate is not believed, in words.
pub(super) fn words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "no authority that is believed here has signed it".to_owned()
        }
        CertificateError::Other(why) if is_authority(why) => {
            "it has signed itself, and is none of those that are believed here".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "by this machine's clock it ran out {} ago",
            period(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "by this machine's clock it holds only in {}",
            period(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } if presented.is_empty() => {
            format!(
                "it names no host, so not {} either: what counts is its subjectAltName",
                expected.to_str()
            )
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is not for {} but for {}",
            expected.to_str(),
            presented.join(", ")
        ),
        why => why.to_string(),
    }
}

fn period(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// Believes everybody: for registries that `registries.conf` calls insecure.
#[derive(Debug)]
pub(super) struct Blind(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
