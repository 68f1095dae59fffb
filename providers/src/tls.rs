//! [`settings`]: TLS as every client of this process uses it; [`TlsFault`]: why a secure connection did not come about,
//! in words of our own.

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, Error as Tls, RootCertStore, WantsVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};
use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, OnceLock},
};

/// What is spoken inside a secure connection, the first rather than the second.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS that trusts what this machine trusts. The machine's certificates are read once for all clients: that takes
/// longer than all else a client is made of. A change of them is seen by the next process.
///
/// # Errors
/// When the machine has no certificates, or they cannot be read; the next call looks again.
pub(crate) fn settings() -> Result<ClientConfig, Tls> {
    static SETTINGS: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(settings) = SETTINGS.get() {
        return Ok(settings.clone());
    }
    let settings = finished(builder()?.with_platform_verifier()?.with_no_client_auth());
    Ok(SETTINGS.get_or_init(|| settings).clone())
}

/// TLS that trusts these authorities beside those of the machine.
///
/// # Errors
/// [`Tls::InvalidCertificate`] for one that is none; others as for [`settings`].
pub(crate) fn with_authorities(more: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Tls> {
    let builder = builder()?;
    let verifier = Verifier::new_with_extra_roots(more, Arc::clone(builder.crypto_provider()))?;
    Ok(finished(
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
    ))
}

/// The certificates of a PEM; `None` where it has none, or is none.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty())
}

/// TLS that trusts nobody, for a client of plain HTTP: it needs no certificates, and the machine may have none.
///
/// # Errors
/// When the host's own choice of cryptography cannot do TLS.
pub(crate) fn unused() -> Result<ClientConfig, Tls> {
    let nobody = RootCertStore::empty();
    Ok(finished(
        builder()?.with_root_certificates(nobody).with_no_client_auth(),
    ))
}

/// Where the host program chose cryptography before, that is used; else ring.
fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Tls> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(ring::default_provider()));
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn finished(mut settings: ClientConfig) -> ClientConfig {
    settings.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    settings
}

/// The cause of a [`stepwell_core::Error::Transport`] that no second try mends: the certificates or the handshake.
/// It names neither keys nor addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsFault(&'static str);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS: {}", self.0)
    }
}

impl StdError for TlsFault {}

impl TlsFault {
    /// This machine gives no certificates to tell a server by.
    pub(crate) const NO_AUTHORITIES: Self = Self(
        "this machine has no authorities to tell a server by; install its certificates (the package is mostly called ca-certificates), or trust one with `HttpOptions::root_certificate`",
    );

    /// The fault among the causes of an error; `None` where TLS was not to blame.
    pub(crate) fn among(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            // An `io::Error` is silent about the error it was made of, which may be another one.
            let mut inner = cause;
            while let Some(made_of) = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                inner = made_of;
            }
            if let Some(fault) = inner.downcast_ref::<Tls>() {
                return Some(Self(sentence(fault)));
            }
            next = cause.source();
        }
        None
    }
}

fn sentence(error: &Tls) -> &'static str {
    match error {
        Tls::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired; check this machine's clock, or tell the server's owner"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet; check this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another host; check the base URL"
            }
            CertificateError::UnknownIssuer => {
                "the server's certificate is self-signed or of an unknown authority; trust it with `HttpOptions::root_certificate`"
            }
            CertificateError::Revoked => "the server's certificate was revoked",
            _ => "the server's certificate cannot be trusted",
        },
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => {
            "the server does not speak TLS; check that the base URL is meant to be https"
        }
        _ => "the handshake with the server failed",
    }
}

#[cfg(test)]
mod tests {
    use super::{CertificateError, StdError, Tls, TlsFault, io};

    #[test]
    fn a_fault_is_found_however_deep_it_is_wrapped() {
        let fault = || Tls::InvalidCertificate(CertificateError::UnknownIssuer);
        let once = io::Error::new(io::ErrorKind::InvalidData, fault());
        let twice = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, fault()));
        let cases: [&(dyn StdError + 'static); 3] = [&fault(), &once, &twice];
        for error in cases {
            let found = TlsFault::among(error).expect("it is there");
            assert!(found.to_string().contains("self-signed"), "{found}");
        }
        assert_eq!(TlsFault::among(&io::Error::from(io::ErrorKind::TimedOut)), None);
    }
}
