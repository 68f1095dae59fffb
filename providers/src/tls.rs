//! [`TlsFault`]: why a secure connection did not come about, in words of our own.

use rustls::{CertificateError, Error as Tls};
use std::{error::Error as StdError, fmt, io};

/// The cause of a [`stepwell_core::Error::Transport`] that no second try mends: the certificate or the handshake.
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
    /// The fault among the causes of an error; `None` where TLS was not to blame.
    pub(crate) fn among(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            // An `io::Error` is silent about the error it was made of.
            let inner = cause
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref::<Tls>());
            if let Some(fault) = inner.or_else(|| cause.downcast_ref::<Tls>()) {
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
