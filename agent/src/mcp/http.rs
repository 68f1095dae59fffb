//! [`Http`]: a server at an address, over streamable HTTP.

use http::{HeaderName, HeaderValue};
use reqwest::Url;
use rmcp::transport::{
    StreamableHttpClientTransport, common::client_side_sse::ExponentialBackoff,
    streamable_http_client::StreamableHttpClientTransportConfig,
};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Once},
    time::Duration,
};
use stepwell_core::{Error, Result, Secret};

/// Name lookup, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Tries to take up a broken stream of events again; each is asked for from where it broke.
const STREAM_TRIES: usize = 3;
/// What is kept of an error page.
const PAGE_BYTES: usize = 4 << 10;

/// A server at an address.
///
/// Headers are kept out of `Debug`, errors and logs, and travel to this address alone: no redirect is followed, no
/// proxy is used, no cookie is kept. They go over `https`, or over `http` to this machine; anything else is refused.
///
/// ```
/// use stepwell_agent::mcp::Http;
/// let server = Http::new("https://tools.example/mcp").header("Authorization", "Bearer sk-…");
/// assert!(!format!("{server:?}").contains("sk-"));
/// ```
#[derive(Clone)]
pub struct Http {
    url: String,
    headers: Vec<(String, Secret)>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Url::parse(&self.url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Http")
            .field("host", &host)
            .field("headers", &names)
            .finish()
    }
}

impl Http {
    /// The address of the server's endpoint, such as `https://tools.example/mcp`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
        }
    }

    /// A header of every request, such as `Authorization`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn address(&self) -> Result<Url> {
        let wrong = |message: &str| Error::invalid("address of an MCP server", message);
        let url = Url::parse(&self.url)
            .map_err(|_| wrong("give a whole address such as https://tools.example/mcp"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("only http and https are spoken"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "take name and password out of it and give a header instead",
            ));
        }
        if url.scheme() == "http" && !self.headers.is_empty() && !is_here(&url) {
            return Err(wrong("headers go over https only, or over http to this machine"));
        }
        Ok(url)
    }

    fn headers(&self) -> Result<HashMap<HeaderName, HeaderValue>> {
        let mut headers = HashMap::new();
        for (name, value) in &self.headers {
            let wrong = |message: &str| Error::invalid(format!("header `{}`", name.escape_debug()), message);
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("it is no name of a header"))?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| {
                wrong("its value has characters that no header can carry; look for line ends")
            })?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }

    /// A transport to it; nothing is dialled yet.
    pub(super) fn open(
        &self,
        message_bytes: usize,
    ) -> Result<StreamableHttpClientTransport<reqwest::Client>> {
        let url = self.address()?;
        let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
            .custom_headers(self.headers()?)
            .max_sse_event_size(message_bytes)
            .max_json_response_size(message_bytes)
            .max_error_response_size(PAGE_BYTES);
        let mut again = ExponentialBackoff::default();
        again.max_times = Some(STREAM_TRIES);
        config.retry_config = Arc::new(again);
        // A new session may have other tools: the client opens it anew and reads them again.
        config.reinit_on_expired_session = false;
        Ok(StreamableHttpClientTransport::with_client(client()?, config))
    }
}

/// Whether the address is this machine's own.
fn is_here(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn client() -> Result<reqwest::Client> {
    static TLS: Once = Once::new();
    TLS.call_once(|| {
        // An error says that the host program chose a provider before: that one is used then.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .user_agent(concat!("stepwell/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .tcp_nodelay(true)
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .map_err(|error| Error::Transport {
            provider: "the MCP server".into(),
            source: Box::new(error.without_url()),
        })
}

#[cfg(test)]
mod tests {
    use super::Http;

    #[test]
    fn addresses_that_would_leak_a_header_or_cannot_be_spoken_are_refused() {
        for (server, word) in [
            (Http::new("tools.example/mcp"), "whole address"),
            (Http::new("file:///etc/passwd"), "http and https"),
            (
                Http::new("https://user:word@tools.example/mcp"),
                "name and password",
            ),
            (
                Http::new("http://tools.example/mcp").header("authorization", "canary"),
                "https only",
            ),
            (
                Http::new("http://127.0.0.1.evil.example/mcp").header("authorization", "canary"),
                "https only",
            ),
            (
                Http::new("https://tools.example/mcp").header("a b", "canary"),
                "no name",
            ),
            (
                Http::new("https://tools.example/mcp").header("a", "canary\r\nx: y"),
                "line ends",
            ),
        ] {
            let error = server.open(1024).err().expect("refused").to_string();
            assert!(error.contains(word) && !error.contains("canary"), "{error}");
            assert!(!format!("{server:?}").contains("canary"));
        }
    }
}
