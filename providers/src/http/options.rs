//! [`HttpOptions`]: timers and limits of the calls to a vendor.

use crate::{cassette::Cassette, seconds::seconds};
use serde::{Deserialize, Deserializer};
use std::time::Duration;
use stepwell_core::Secret;

/// Timers and limits of the calls to a vendor. All can be set; the defaults suit an interactive program.
///
/// ```
/// use std::time::Duration;
/// use stepwell_providers::HttpOptions;
/// let patient = HttpOptions::default().idle_timeout(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Name lookup, TCP and TLS: 10 s.
    #[serde(deserialize_with = "seconds")]
    pub connect_timeout: Duration,
    /// From sending the request to the first event: 5 min, for models that think long.
    #[serde(deserialize_with = "seconds")]
    pub first_event_timeout: Duration,
    /// Between two pieces of the answer: 2 min.
    #[serde(deserialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// The whole call: 30 min.
    #[serde(deserialize_with = "seconds")]
    pub total_timeout: Duration,
    /// Most bytes of an answer: 256 MiB.
    pub max_response_bytes: usize,
    /// Most bytes of one event: 8 MiB. A line that carries data counts as its event, for an image or a document
    /// comes in one.
    pub max_event_bytes: usize,
    /// Most bytes of a line that carries no data, such as a comment: 1 MiB.
    pub max_line_bytes: usize,
    /// A proxy's address, which may hold a password; none is used without, whatever the environment says.
    pub proxy: Option<Secret>,
    /// Authorities to trust beside those of the system, as PEM; none.
    #[serde(deserialize_with = "pem")]
    pub root_certificates: Vec<Vec<u8>>,
    /// Calls are recorded on it, or played from it and then nothing is dialled.
    #[serde(skip)]
    pub cassette: Option<Cassette>,
}

/// Certificates as their text.
fn pem<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    Ok(texts.into_iter().map(String::into_bytes).collect())
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_event_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_mins(2),
            total_timeout: Duration::from_mins(30),
            max_response_bytes: 256 << 20,
            max_event_bytes: 8 << 20,
            max_line_bytes: 1 << 20,
            proxy: None,
            root_certificates: Vec::new(),
            cassette: None,
        }
    }
}

impl HttpOptions {
    /// Sets the time for name lookup, TCP and TLS.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the time from sending to the first event.
    pub fn first_event_timeout(mut self, limit: Duration) -> Self {
        self.first_event_timeout = limit;
        self
    }

    /// Sets the time between two pieces of the answer.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Sets the time for the whole call.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.total_timeout = limit;
        self
    }

    /// Sets the most bytes of an answer.
    pub fn max_response_bytes(mut self, limit: usize) -> Self {
        self.max_response_bytes = limit;
        self
    }

    /// Sets the most bytes of one event.
    pub fn max_event_bytes(mut self, limit: usize) -> Self {
        self.max_event_bytes = limit;
        self
    }

    /// Sets the most bytes of a line that carries no data.
    pub fn max_line_bytes(mut self, limit: usize) -> Self {
        self.max_line_bytes = limit;
        self
    }

    /// Trusts the authorities of this PEM beside those of the system: for servers and proxies of one's own.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// Sends through a proxy, such as `http://proxy.example:3128`.
    pub fn proxy(mut self, address: impl Into<Secret>) -> Self {
        self.proxy = Some(address.into());
        self
    }

    /// Records the calls on a cassette, or plays them from it.
    pub fn cassette(mut self, cassette: Cassette) -> Self {
        self.cassette = Some(cassette);
        self
    }
}
