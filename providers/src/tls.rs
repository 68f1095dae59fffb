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
