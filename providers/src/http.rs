//! The one HTTP client: TLS, timers, size caps, redaction. What leaves the process for a vendor leaves here.
//!
//! No redirect is followed (a key must not travel to another origin), no proxy is used unless asked for, nothing
//! compressed is taken, no cookie is kept, and no error carries a key, a header, a body or a URL's query.

mod body;
mod options;
mod origin;
mod reply;
mod secrets;
#[cfg(test)]
mod tests;
mod vendor;

pub(crate) use body::Body;
pub use options::HttpOptions;
pub(crate) use reply::{Raw, Reply, WEB_PAGE};
pub(crate) use secrets::Secrets;
pub(crate) use vendor::{Auth, Vendor};

use crate::{
    header,
    tls::{self, TlsFault},
};
use bytes::Bytes;
use futures::StreamExt;
use origin::Origin;
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};
use stepwell_core::{Error, Result, Secret, Timer, VendorFailure};
use tokio::time::Instant;

/// Most header fields of an answer.
const HEADER_FIELDS: usize = 100;

/// A client for one vendor at one address. Each open answer holds one, so it is made of pointers.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) options: Arc<HttpOptions>,
    pub(crate) secrets: Secrets,
    origin: Origin,
    client: Arc<OnceLock<reqwest::Client>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("vendor", &self.vendor.name())
            .field("host", &self.origin.base().host_str())
            .finish_non_exhaustive()
    }
}

/// A header that carries a secret and is kept out of every `Debug`.
pub(crate) fn secret_header(prefix: &str, key: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", key.reveal())).map_err(|_| {
        Error::invalid(
            "api key",
            "it has characters that no header can carry; look for line ends and quotes around it",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Http {
    /// A client for the address that was set, else for the one in the environment, else for the vendor's own.
    /// Nothing is dialled and no TLS is set up before the first call.
    pub(crate) fn new(vendor: Vendor, base: Option<String>, options: HttpOptions) -> Result<Self> {
        Ok(Self {
            origin: Origin::new(&vendor, base)?,
            vendor: Arc::new(vendor),
            options: Arc::new(options),
            secrets: Secrets::default(),
            client: Arc::default(),
        })
    }

    /// Sends these with every call.
    pub(crate) fn query(mut self, query: Vec<(String, Secret)>) -> Self {
        self.origin.set_query(query);
        self
    }

    /// Keeps these, the parameters of every call and the proxy's password out of whatever comes back.
    pub(crate) fn keep<'a>(mut self, secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut all: Vec<Secret> = secrets.into_iter().cloned().collect();
        all.extend(self.origin.secrets().cloned());
        if let Some(proxy) = &self.options.proxy {
            let password = Url::parse(proxy.reveal())
                .ok()
                .and_then(|proxy| Some(Secret::new(proxy.password()?)));
            all.extend(password);
            all.push(proxy.clone());
        }
        self.secrets = Secrets::of(all.iter().map(Secret::reveal));
        self
    }

    /// The address under which paths are asked, for wires whose path depends on it.
    #[allow(dead_code)] // some vendors alone have no such path
    pub(crate) fn base(&self) -> &Url {
        self.origin.base()
    }

    fn client(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stepwell/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_mins(1))
            .http1_max_headers(HEADER_FIELDS)
            // The one retry loop is the layer's; this client would otherwise repeat what HTTP/2 servers refuse.
            .retry(reqwest::retry::never())
            .no_proxy();
        builder = builder.tls_backend_preconfigured(self.tls()?);
        if let Some(address) = &self.options.proxy {
            let proxy = reqwest::Proxy::all(address.reveal())
                .map_err(|_| Error::invalid("proxy", "it is no address such as http://proxy.example:3128"))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| self.unreachable(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// TLS of this client: one with all that trust what the machine trusts.
    fn tls(&self) -> Result<rustls::ClientConfig> {
        let wrong = || Error::invalid("root certificate", "it is no PEM of certificates");
        let mut more = Vec::new();
        for pem in &self.options.root_certificates {
            more.extend(tls::certificates(pem).ok_or_else(wrong)?);
        }
        let is_plain = self.origin.base().scheme() == "http" && self.options.proxy.is_none();
        let settings = match (is_plain, more.is_empty()) {
            (true, _) => tls::unused(),
            (false, true) => tls::settings(),
            (false, false) => tls::with_authorities(more),
        };
        settings.map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => wrong(),
            _ => Error::Transport {
                provider: self.vendor.name().to_owned(),
                source: Box::new(TlsFault::NO_AUTHORITIES),
            },
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        if has_endless_head(&error) {
            return Error::LimitExceeded {
                what: format!("the head of the answer of {}", self.vendor.name()),
                limit: format!("{HEADER_FIELDS} header fields, or of 400 KiB"),
            };
        }
        Error::Transport {
            provider: self.vendor.name().to_owned(),
            source: match TlsFault::among(&error) {
                Some(fault) => Box::new(fault),
                // Without its URL: a base URL is the host's own business.
                None => Box::new(error.without_url()),
            },
        }
    }

    /// Sends JSON and waits for the head of the answer, whatever its status.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<Reply> {
        let begun = Instant::now();
        let total = body::after(begun, self.options.total_timeout);
        let first = body::after(begun, self.options.first_event_timeout);
        let raw = match tokio::time::timeout_at(first.min(total), self.send(path, headers, body)).await {
            Err(_) if total < first => return Err(self.late(Timer::Attempt)),
            Err(_) => return Err(self.late(Timer::FirstEvent)),
            Ok(raw) => raw?,
        };
        Ok(Reply {
            status: raw.status,
            headers: raw.headers,
            body: Body::new(self.clone(), raw.body, begun, first, total),
        })
    }

    async fn send(&self, path: &str, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Result<Raw> {
        let cassette = self.options.cassette.as_ref();
        if let Some(cassette) = cassette
            && let Some(raw) = cassette.answer(self.vendor.name(), path, &body)?
        {
            return Ok(raw);
        }
        let body = Bytes::from(body);
        let mut sent: HeaderMap = headers.into_iter().collect();
        sent.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self
            .client()?
            .post(self.origin.url(path)?)
            .headers(sent)
            .body(body.clone());
        let reply = request.send().await.map_err(|error| {
            if error.is_timeout() {
                self.late(Timer::Connect)
            } else {
                self.unreachable(error)
            }
        })?;
        let http = self.clone();
        let raw = Raw {
            status: reply.status().as_u16(),
            headers: reply.headers().clone(),
            body: reply
                .bytes_stream()
                .map(move |piece| piece.map_err(|error| http.unreachable(error)))
                .boxed(),
        };
        Ok(match cassette {
            Some(cassette) => cassette.tee(self.vendor.name(), path, &self.secrets, &body, raw),
            None => raw,
        })
    }

    /// A clock of this client rang.
    fn late(&self, timer: Timer) -> Error {
        let (name, options) = (self.vendor.name(), &*self.options);
        let (what, after) = match timer {
            Timer::Connect => (format!("connecting to {name}"), options.connect_timeout),
            Timer::FirstEvent => (format!("the first event of {name}"), options.first_event_timeout),
            Timer::Idle => (format!("the next event of {name}"), options.idle_timeout),
            _ => (format!("the answer of {name}"), options.total_timeout),
        };
        Error::Timeout {
            what,
            after,
            timer,
            partial: None,
        }
    }

    /// What is known of a failure before its body is read.
    pub(crate) fn failure(&self, status: u16, headers: &HeaderMap) -> VendorFailure {
        let mut failure = VendorFailure::new(self.vendor.name());
        failure.status = Some(status);
        failure.request_id = header::request_id(headers);
        failure.retry_after = header::retry_after(headers, SystemTime::now());
        failure.should_retry = header::should_retry(headers);
        failure
    }
}

/// Whether an answer was given up because its head is too long. The client's own test for it is not to be had
/// without its server; its sentence is.
fn has_endless_head(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.to_string() == "message head is too large" {
            return true;
        }
        next = cause.source();
    }
    false
}
