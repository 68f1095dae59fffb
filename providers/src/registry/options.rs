//! [`ModelOptions`]: what the environment would say of a vendor, said by the program.

use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, fmt};
use stepwell_core::Secret;

/// How a vendor is asked, for the models, embedders and rerankers of a [`super::Registry`]. What is not set is what
/// the vendor's builder takes: the key and the address of the environment, the usual timers. It can be read from a
/// settings file: times are in seconds there, `headers` is a map.
///
/// ```
/// # #[cfg(feature = "openai")] {
/// use stepwell_providers::{ModelOptions, Registry};
/// let options = ModelOptions::default().api_key("k").base_url("https://gateway.example/v1");
/// let model = Registry::with_vendors().model_with("openai/gpt-6-sol", options)?;
/// assert_eq!(model.info().name(), "openai/gpt-6-sol");
/// # }
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelOptions {
    /// The key, before the one in the environment.
    pub api_key: Option<Secret>,
    /// The address, before the one in the environment and the vendor's own.
    pub base_url: Option<String>,
    /// Headers that go with every call, such as `openai-organization`. Their values are kept out of every `Debug`.
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<(String, Secret)>,
    /// Timers, limits, proxy, cassette.
    #[cfg(feature = "http")]
    pub http: crate::HttpOptions,
    /// Embedders: how many numbers to ask for, where the model can shorten its vectors.
    pub dimension: Option<usize>,
    /// Embedders: how wide the model's own vectors are, where the catalogue does not know.
    pub width: Option<usize>,
    /// Chat: leave out what [`crate::layers::resilient`] puts around a vendor's model, so that a call is one try.
    pub is_bare: bool,
}

/// Headers as a map of names to values.
fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Secret)>, D::Error> {
    BTreeMap::deserialize(from).map(|headers| headers.into_iter().collect())
}

impl ModelOptions {
    /// Sets the key.
    pub fn api_key(mut self, key: impl Into<Secret>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the address.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets timers, limits, proxy and cassette.
    #[cfg(feature = "http")]
    pub fn http(mut self, options: crate::HttpOptions) -> Self {
        self.http = options;
        self
    }

    /// Sets how many numbers an embedder is to give.
    pub fn dimension(mut self, dimension: usize) -> Self {
        self.dimension = Some(dimension);
        self
    }

    /// Says how wide an embedder's own vectors are.
    pub fn width(mut self, width: usize) -> Self {
        self.width = Some(width);
        self
    }

    /// Leaves the layers out.
    pub fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }
}

impl fmt::Debug for ModelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ModelOptions")
            .field("has_key", &self.api_key.is_some())
            .field("has_address", &self.base_url.is_some()) // it may hold a password or a key in its query
            .field("headers", &names)
            .field("dimension", &self.dimension)
            .field("width", &self.width)
            .field("is_bare", &self.is_bare)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::ModelOptions;
    use crate::{
        Registry, Scripted,
        fixtures::{Act, Server},
    };
    use std::sync::Arc;
    use stepwell_core::{ChatModel, Chunk, Document, EmbedKind, Explanation, Hit};

    /// A server that refuses every call, and the options that lead to it.
    async fn refusing() -> (Server, ModelOptions) {
        let refusal =
            b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".to_vec();
        let server = Server::start(vec![vec![Act::Send(refusal.clone())], vec![Act::Send(refusal)]]).await;
        let options = ModelOptions::default()
            .api_key("k-of-the-program")
            .base_url(server.url.clone())
            .header("x-gateway", "g")
            .width(4)
            .bare();
        (server, options)
    }

    fn assert_asked(server: &Server, vendor: &str) {
        let asked = server.requests();
        let last = asked.last().expect(vendor);
        assert_eq!(last.header("x-gateway"), Some("g"), "{vendor}");
        let keys = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
        assert!(
            keys.iter()
                .filter_map(|name| last.header(name))
                .any(|value| value.ends_with("k-of-the-program")),
            "{vendor} sent no key"
        );
    }

    #[tokio::test]
    async fn every_vendor_takes_the_programs_key_address_and_headers() {
        let registry = Registry::with_vendors();
        assert!(registry.vendors().len() > 20);
        for vendor in registry.vendors() {
            let (server, options) = refusing().await;
            let model = registry
                .model_with(&format!("{vendor}/m"), options)
                .expect("is made");
            let error = model.chat("hi".into()).await.expect_err("refused");
            assert_eq!(error.code(), "unauthorized", "{vendor}: {error}");
            assert_asked(&server, &vendor);
        }
    }

    #[tokio::test]
    async fn every_vendor_of_vectors_takes_them_too() {
        let registry = Registry::with_vendors();
        for vendor in registry.embedding_vendors() {
            let (server, options) = refusing().await;
            if vendor == "minilm" {
                let error = registry
                    .embedder_with("minilm/m", options)
                    .expect_err("in process");
                assert_eq!(error.code(), "unsupported");
                continue;
            }
            let embedder = registry
                .embedder_with(&format!("{vendor}/m"), options)
                .expect("is made");
            assert_eq!(embedder.info().dimension, 4);
            let error = embedder
                .embed(&["hi"], EmbedKind::Query)
                .await
                .expect_err("refused");
            assert_eq!(error.code(), "unauthorized", "{vendor}: {error}");
            assert_asked(&server, &vendor);
        }
        for vendor in registry.rerank_vendors() {
            let (server, options) = refusing().await;
            let reranker = registry
                .reranker_with(&format!("{vendor}/m"), options)
                .expect("is made");
            let document = Document::new("d", "a text");
            let chunk = Chunk::of(&document, 0, 0..6).expect("a span of it");
            let hit = Hit::new(chunk, 1.0, Explanation::default());
            let error = reranker.rerank("hi", vec![hit], 1).await.expect_err("refused");
            assert_eq!(error.code(), "unauthorized", "{vendor}: {error}");
            assert_asked(&server, &vendor);
        }
    }

    #[test]
    fn options_for_what_the_host_makes_are_refused_and_never_shown() {
        let registry = Registry::new();
        registry.register("acme", |_| Ok(Arc::new(Scripted::new())));
        let options = ModelOptions::default()
            .api_key("canary")
            .base_url("https://canary@x")
            .header("h", "canary");
        assert!(!format!("{options:?}").contains("canary"));
        let error = registry
            .model_with("acme/m", options)
            .expect_err("the host makes it");
        assert_eq!(error.code(), "unsupported");
    }

    #[test]
    fn options_are_read_from_a_settings_file_and_a_slip_is_refused() {
        let options: ModelOptions = serde_json::from_str(
            r#"{ "api_key": "k", "headers": { "x-team": "a" }, "http": { "idle_timeout": 2.5 }, "is_bare": true }"#,
        )
        .expect("reads");
        assert_eq!(options.headers[0].0, "x-team");
        assert_eq!(options.http.idle_timeout.as_millis(), 2_500);
        assert!(options.is_bare && options.base_url.is_none());
        assert!(serde_json::from_str::<ModelOptions>(r#"{ "apikey": "k" }"#).is_err());
    }
}
