//! The one HTTP client: TLS, timers, size caps, redaction. What leaves the process for a vendor leaves here.
//!
//! No redirect is followed (a key must not travel to another origin), no proxy is used unless asked for, and no
//! error carries a key, a header, a body or a URL's query.

use crate::{cassette::Cassette, header, tls::TlsFault};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Once, OnceLock},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use stepwell_core::{Error, Result, Secret, Timer, VendorFailure};
use tokio::time::{Instant, Sleep};

/// How much of a failure's body is read: enough for any vendor's sentence.
const FAILURE_BYTES: usize = 64 << 10;

/// Timers and limits of the calls to a vendor. All can be set; the defaults suit an interactive program.
///
/// ```
/// use std::time::Duration;
/// use stepwell_providers::HttpOptions;
/// let patient = HttpOptions::default().idle_timeout(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Name lookup, TCP and TLS: 10 s.
    pub connect_timeout: Duration,
    /// From sending the request to the first event: 5 min, for models that think long.
    pub first_event_timeout: Duration,
    /// Between two pieces of the answer: 2 min.
    pub idle_timeout: Duration,
    /// The whole call: 30 min.
    pub total_timeout: Duration,
    /// Most bytes of an answer: 256 MiB.
    pub max_response_bytes: usize,
    /// Most bytes of one event: 16 MiB.
    pub max_event_bytes: usize,
    /// A proxy's address, which may hold a password; none is used without, whatever the environment says.
    pub proxy: Option<Secret>,
    /// Authorities to trust beside those of the system, as PEM; none.
    pub root_certificates: Vec<Vec<u8>>,
    /// Calls are recorded on it, or played from it and then nothing is dialled.
    pub cassette: Option<Cassette>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_event_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_mins(2),
            total_timeout: Duration::from_mins(30),
            max_response_bytes: 256 << 20,
            max_event_bytes: 16 << 20,
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

/// Who is called, and how it wants its key.
#[derive(Clone, Debug)]
pub(crate) struct Vendor {
    name: Cow<'static, str>,
    key_var: Cow<'static, str>,
    base_var: Cow<'static, str>,
    base: Cow<'static, str>,
    pub(crate) auth: Auth,
}

/// Where a vendor's key travels.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of this name, in lower case, with the bare key.
    Header(Cow<'static, str>),
    /// Nowhere: it asks for none, and none is sent.
    #[allow(dead_code)] // not every set of features has a vendor without keys
    None,
}

impl Vendor {
    /// A vendor that stands in the code. `base` may be empty: then an address has to be given.
    pub(crate) const fn new(
        name: &'static str,
        key_var: &'static str,
        base_var: &'static str,
        base: &'static str,
        auth: Auth,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            key_var: Cow::Borrowed(key_var),
            base_var: Cow::Borrowed(base_var),
            base: Cow::Borrowed(base),
            auth,
        }
    }

    /// A vendor that a host names: `my-vendor` reads `MY_VENDOR_API_KEY` and `MY_VENDOR_BASE_URL`.
    #[cfg(feature = "openai")]
    pub(crate) fn named(name: String, base: String, auth: Auth) -> Self {
        let stem: String = name
            .chars()
            .map(|c| match c {
                c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
                _ => '_',
            })
            .collect();
        Self {
            name: name.into(),
            key_var: format!("{stem}_API_KEY").into(),
            base_var: format!("{stem}_BASE_URL").into(),
            base: base.into(),
            auth,
        }
    }

    /// As in `vendor/model`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its key is read from.
    pub(crate) fn key_var(&self) -> &str {
        &self.key_var
    }

    /// Where its address is read from.
    #[cfg(all(test, feature = "openai"))]
    pub(crate) fn base_var(&self) -> &str {
        &self.base_var
    }

    /// Its own address, if it has one.
    #[cfg(all(test, feature = "openai"))]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What its wire cannot say.
    pub(crate) fn unsupported(&self, what: &str, hint: &str) -> Error {
        Error::Unsupported {
            who: self.name().to_owned(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        }
    }
}

/// A client for one vendor at one address. Each open answer holds one, so it is made of pointers.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) options: Arc<HttpOptions>,
    base: Arc<Url>,
    /// On every call. They are part of the address as far as errors go: never told.
    query: Arc<[(String, Secret)]>,
    client: Arc<OnceLock<reqwest::Client>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("vendor", &self.vendor.name())
            .field("host", &self.base.host_str())
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

/// An answer as the connection, or a cassette, gives it.
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BoxStream<'static, Result<Bytes>>,
}

/// An answer whose body has not been read, under the timers and the cap.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Http {
    /// A client for the address that was set, else for the one in the environment, else for the vendor's own.
    /// Nothing is dialled and no TLS is set up before the first call.
    pub(crate) fn new(vendor: Vendor, base: Option<String>, options: HttpOptions) -> Result<Self> {
        let vendor = Arc::new(vendor);
        let base = base
            .or_else(|| {
                std::env::var(&*vendor.base_var)
                    .ok()
                    .filter(|value| !value.trim().is_empty())
            })
            .unwrap_or_else(|| vendor.base.clone().into_owned());
        let wrong = |why: &str| {
            let example = match &*vendor.base {
                "" => "https://my-resource.example/v1",
                base => base,
            };
            Error::invalid(
                "base_url",
                format!(
                    "{why}; give an address such as {example}, with `.base_url(..)` or in {}",
                    vendor.base_var
                ),
            )
        };
        if base.trim().is_empty() {
            return Err(wrong(&format!("{} has no address of its own", vendor.name())));
        }
        let base = Url::parse(base.trim()).map_err(|_| wrong("it is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong("it is no http or https address"));
        }
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(wrong("it has a user, a query or a fragment"));
        }
        Ok(Self {
            vendor,
            options: Arc::new(options),
            base: Arc::new(base),
            query: Arc::from([]),
            client: Arc::default(),
        })
    }

    /// Sends these with every call.
    pub(crate) fn query(mut self, query: Vec<(String, Secret)>) -> Self {
        self.query = query.into();
        self
    }

    /// The address of a path, on the origin that the key is meant for.
    fn url(&self, path: &str) -> Result<Url> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let mut url = Url::parse(&url)
            .ok()
            .filter(|url| url.origin() == self.base.origin())
            .ok_or_else(|| Error::invalid("path", "it does not stay on the vendor's origin"))?;
        if !self.query.is_empty() {
            let pairs = self.query.iter().map(|(name, value)| (name, value.reveal()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }

    /// The address under which paths are asked, for wires whose path depends on it.
    #[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    fn client(&self) -> Result<&reqwest::Client> {
        static TLS: Once = Once::new();
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        TLS.call_once(|| {
            // An error says that the host program chose a provider before: that one is used then.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stepwell/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_mins(1))
            // The one retry loop is the layer's; this client would otherwise repeat what HTTP/2 servers refuse.
            .retry(reqwest::retry::never())
            .no_proxy();
        for pem in &self.options.root_certificates {
            let wrong = |_| Error::invalid("root certificate", "it is no PEM of certificates");
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(wrong)?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(address) = &self.options.proxy {
            let proxy = reqwest::Proxy::all(address.reveal())
                .map_err(|_| Error::invalid("proxy", "it is no address such as http://proxy.example:3128"))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| self.unreachable(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
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
        let total = begun + self.options.total_timeout;
        let first = begun + self.options.first_event_timeout;
        let raw = match tokio::time::timeout_at(first.min(total), self.send(path, headers, body)).await {
            Err(_) => return Err(self.late(first <= total, "the first event")),
            Ok(raw) => raw?,
        };
        Ok(Reply {
            status: raw.status,
            headers: raw.headers,
            body: Body {
                http: self.clone(),
                inner: raw.body,
                left: self.options.max_response_bytes,
                total,
                first: Some(first),
                last: begun,
                alarm: Box::pin(tokio::time::sleep_until(first.min(total))),
            },
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
            .post(self.url(path)?)
            .headers(if cassette.is_some() {
                sent.clone()
            } else {
                std::mem::take(&mut sent)
            })
            .body(body.clone());
        let reply = request.send().await.map_err(|error| {
            if error.is_timeout() {
                Error::Timeout {
                    what: format!("connecting to {}", self.vendor.name()),
                    after: self.options.connect_timeout,
                    timer: Timer::Connect,
                    partial: None,
                }
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
            Some(cassette) => cassette.tee(self.vendor.name(), path, &sent, &body, raw),
            None => raw,
        })
    }

    fn late(&self, is_part: bool, part: &str) -> Error {
        let name = self.vendor.name();
        let (what, after, timer) = match (is_part, part) {
            (true, "the first event") => (
                format!("the first event of {name}"),
                self.options.first_event_timeout,
                Timer::FirstEvent,
            ),
            (true, _) => (
                format!("{part} of {name}"),
                self.options.idle_timeout,
                Timer::Idle,
            ),
            (false, _) => (
                format!("the answer of {name}"),
                self.options.total_timeout,
                Timer::Attempt,
            ),
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

/// The bytes of an answer, under the timers and the cap.
pub(crate) struct Body {
    http: Http,
    inner: BoxStream<'static, Result<Bytes>>,
    left: usize,
    total: Instant,
    /// When the first event is due; `None` once it came.
    first: Option<Instant>,
    last: Instant,
    /// One timer for the whole answer: it is set anew only when it rings.
    alarm: Pin<Box<Sleep>>,
}

impl Body {
    /// From now on the idle timer runs, not that of the first event.
    pub(crate) fn begun(&mut self) {
        self.first = None;
        let (due, _) = self.due();
        if due < self.alarm.deadline() {
            self.alarm.as_mut().reset(due);
        }
    }

    /// The whole body, for answers that do not stream.
    pub(crate) async fn read(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await {
            bytes.extend_from_slice(&chunk?);
            self.begun();
        }
        Ok(bytes)
    }

    /// As much of a failure's body as is worth reading; a body that breaks off is as good as none.
    pub(crate) async fn read_failure(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.begun();
        while bytes.len() < FAILURE_BYTES {
            match self.next().await {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                _ => break,
            }
        }
        bytes.truncate(FAILURE_BYTES);
        bytes
    }

    fn due(&self) -> (Instant, bool) {
        let part = self
            .first
            .unwrap_or_else(|| self.last + self.http.options.idle_timeout);
        (part.min(self.total), part <= self.total)
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.inner.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                this.last = Instant::now();
                let Some(left) = this.left.checked_sub(bytes.len()) else {
                    return Poll::Ready(Some(Err(Error::LimitExceeded {
                        what: format!("the answer of {}", this.http.vendor.name()),
                        limit: format!("{} bytes", this.http.options.max_response_bytes),
                    })));
                };
                this.left = left;
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => loop {
                if this.alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let (due, is_part) = this.due();
                if Instant::now() >= due {
                    let part = if this.first.is_some() {
                        "the first event"
                    } else {
                        "the next event"
                    };
                    return Poll::Ready(Some(Err(this.http.late(is_part, part))));
                }
                this.alarm.as_mut().reset(due);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Auth, Http, HttpOptions, Vendor, secret_header};
    use crate::fixtures::{Act, Server, shown};
    use reqwest::header::{AUTHORIZATION, HeaderName};
    use std::time::{Duration, Instant};
    use stepwell_core::Secret;

    const VENDOR: Vendor = Vendor::new(
        "acme",
        "ACME_API_KEY",
        "ACME_BASE_URL",
        "https://api.acme.example",
        Auth::Bearer,
    );

    fn http(base: &str, options: HttpOptions) -> Http {
        Http::new(VENDOR, Some(base.to_owned()), options).expect("a good address")
    }

    #[test]
    fn an_address_that_is_none_or_carries_secrets_is_refused_with_one_sentence() {
        for bad in [
            "",
            " ",
            "api.acme.example",
            "ftp://x",
            "http://u:p@x",
            "https://x/?key=1",
            "http://",
        ] {
            let error = Http::new(VENDOR, Some(bad.to_owned()), HttpOptions::default()).expect_err(bad);
            assert_eq!(error.code(), "invalid_input", "{bad}");
            assert!(error.to_string().contains("https://api.acme.example"));
        }
    }

    #[tokio::test]
    async fn a_key_goes_out_in_its_header_and_never_follows_a_redirect() {
        let elsewhere = Server::start(vec![]).await;
        let server = Server::start(vec![vec![Act::Send(
            format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}/stolen\r\ncontent-length: 0\r\n\r\n",
                elsewhere.url
            )
            .into_bytes(),
        )]])
        .await;
        let http = http(&server.url, HttpOptions::default());
        let key = secret_header("Bearer ", &Secret::new("sk-canary")).expect("a header");
        assert!(!format!("{key:?}").contains("canary"));
        let reply = http
            .post("/chat", vec![(AUTHORIZATION, key)], b"{}".to_vec())
            .await
            .expect("an answer");
        assert_eq!(reply.status, 307);
        let seen = server.requests();
        assert_eq!(seen[0].header("authorization"), Some("Bearer sk-canary"));
        assert_eq!(seen[0].path, "/chat");
        assert!(elsewhere.requests().is_empty());
        let bad = secret_header("", &Secret::new("sk-canary\n")).expect_err("a line end");
        assert!(!format!("{bad} {bad:?}").contains("canary"));
    }

    #[test]
    fn a_vendor_without_an_address_of_its_own_has_to_be_given_one() {
        let homeless = Vendor::named("my-vendor 2".to_owned(), String::new(), Auth::Bearer);
        assert_eq!(homeless.key_var(), "MY_VENDOR_2_API_KEY");
        let error = Http::new(homeless, None, HttpOptions::default()).expect_err("no address");
        assert_eq!(error.code(), "invalid_input");
        assert!(error.to_string().contains("MY_VENDOR_2_BASE_URL"), "{error}");
    }

    #[tokio::test]
    async fn fixed_query_parameters_go_with_every_call_and_into_no_error() {
        let server = Server::start(vec![vec![Act::Send(
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
        )]])
        .await;
        let query = vec![("api-version".to_owned(), Secret::new("canary & more"))];
        let asked = http(&server.url, HttpOptions::default()).query(query.clone());
        asked
            .post("/chat?alt=sse", vec![], vec![])
            .await
            .expect("an answer");
        assert_eq!(
            server.requests()[0].path,
            "/chat?alt=sse&api-version=canary+%26+more"
        );
        let dead = http("http://127.0.0.1:1", HttpOptions::default()).query(query);
        let error = dead
            .post("/chat", vec![], vec![])
            .await
            .err()
            .expect("nobody listens");
        assert!(!format!("{dead:?} {}", shown(&error)).contains("canary"));
    }

    #[tokio::test]
    async fn a_path_that_leaves_the_origin_of_the_key_is_not_called() {
        let http = http("http://127.0.0.1:1", HttpOptions::default());
        for path in ["@evil.example/x", "2/x", ".evil.example/"] {
            let error = http.post(path, vec![], vec![]).await.err().expect(path);
            assert_eq!(error.code(), "invalid_input", "{path}");
        }
    }

    #[tokio::test]
    async fn each_timer_rings_for_its_own_part() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
        let cases: Vec<(Vec<Act>, HttpOptions, &str)> = vec![
            (
                vec![Act::Wait(5_000)],
                HttpOptions::default().first_event_timeout(Duration::from_millis(80)),
                "first event",
            ),
            (
                vec![Act::Send(format!("{head}abc").into_bytes()), Act::Wait(5_000)],
                HttpOptions::default().idle_timeout(Duration::from_millis(80)),
                "next event",
            ),
            (
                vec![Act::Send(format!("{head}abc").into_bytes()), Act::Wait(5_000)],
                HttpOptions::default().total_timeout(Duration::from_millis(80)),
                "the answer",
            ),
        ];
        for (acts, options, what) in cases {
            let server = Server::start(vec![acts]).await;
            let begun = Instant::now();
            let error = match http(&server.url, options).post("/", vec![], vec![]).await {
                Ok(reply) => reply.body.read().await.expect_err("it stalls"),
                Err(error) => error,
            };
            assert_eq!(error.code(), "timeout", "{what}: {}", shown(&error));
            assert!(error.to_string().contains(what), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{what}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_to_tls_is_a_connect_timeout() {
        let server = Server::start(vec![vec![]]).await;
        let silent = http(
            &server.url.replace("http://", "https://"),
            HttpOptions::default().connect_timeout(Duration::from_millis(300)),
        );
        let error = silent
            .post("/", vec![], vec![])
            .await
            .err()
            .expect("no TLS there");
        assert_eq!(error.code(), "timeout", "{}", shown(&error));
        assert!(error.to_string().contains("connecting to acme"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_over_the_cap_is_refused_and_a_dead_address_is_told_without_its_path() {
        let body = "x".repeat(5_000);
        let server = Server::start(vec![vec![Act::Send(
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
        )]])
        .await;
        let small = http(&server.url, HttpOptions::default().max_response_bytes(4_000));
        let reply = small.post("/", vec![], vec![]).await.expect("a head");
        assert_eq!(
            reply.body.read().await.expect_err("too large").code(),
            "limit_exceeded"
        );

        let dead = http("http://127.0.0.1:1/canary-path", HttpOptions::default());
        let error = dead
            .post(
                "/x",
                vec![(HeaderName::from_static("x-k"), "v".parse().expect("a value"))],
                vec![],
            )
            .await
            .err()
            .expect("nobody listens");
        assert_eq!((error.code(), error.is_retryable()), ("transport", true));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}
