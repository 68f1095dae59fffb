//! Google Gemini: generateContent at the Gemini API, and the same wire at Vertex AI.
//! <https://ai.google.dev/api/generate-content>
//!
//! `encode` and `stream` are pure; this file holds the client.

mod encode;
pub(crate) mod failure;
mod partial_args;
mod parts;
#[cfg(test)]
mod recorded;
pub(crate) mod stream;
mod wire;

use crate::{
    answer::{self, Facts, unreadable},
    client::{Client, Setup, model_setters, setters},
    http::{Auth, Vendor},
    structured::{self, Means, Sends},
};
use async_trait::async_trait;
use std::{borrow::Cow, fmt};
use stepwell_core::{ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Secret, Usage};

pub(crate) use encode::RULES;

pub(crate) static GEMINI: Vendor = Vendor::new(
    "gemini",
    "GEMINI_API_KEY",
    "GEMINI_BASE_URL",
    "https://generativelanguage.googleapis.com",
    Auth::Header(Cow::Borrowed("x-goog-api-key")),
);
static VERTEX: Vendor = Vendor::new(
    "vertex",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "VERTEX_BASE_URL",
    "https://aiplatform.googleapis.com",
    Auth::Bearer,
);
/// The other name under which the vendor documents its key.
const OTHER_KEY: &str = "GOOGLE_API_KEY";

/// A Gemini model.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::Gemini;
/// let model = Gemini::new("gemini-3.8-flash").build()?; // the key comes from GEMINI_API_KEY or GOOGLE_API_KEY
/// println!("{}", model.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// Own options of the vendor go into [`ChatRequest::provider_options`] under `gemini`: any field of the body, such
/// as `safetySettings`, `cachedContent`, `toolConfig` (mode `VALIDATED`, several allowed names) and `tools` (such as
/// `{"googleSearch": {}}`, `{"codeExecution": {}}`, `{"urlContext": {}}`), which go behind the request's own.
#[derive(Clone)]
pub struct Gemini {
    client: Client,
    vendor: &'static Vendor,
    /// The path of the model, up to the method.
    path: String,
}

/// Sets up a [`Gemini`] model.
#[derive(Clone)]
pub struct GeminiBuilder {
    setup: Setup,
    vertex: Option<(String, String)>,
}

impl Gemini {
    /// A model by the vendor's name for it.
    #[allow(clippy::new_ret_no_self)] // a model without its key is no model yet
    pub fn new(model: impl Into<String>) -> GeminiBuilder {
        GeminiBuilder {
            setup: Setup::new(&GEMINI, model),
            vertex: None,
        }
    }
}

impl fmt::Debug for GeminiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("GeminiBuilder", f)
    }
}

impl GeminiBuilder {
    setters! {
        key: "The key; without, it is read from `GEMINI_API_KEY`, else from `GOOGLE_API_KEY`. At Vertex AI it is an access"
            "token, read from `GOOGLE_OAUTH_ACCESS_TOKEN`.",
        address: "The address; without, it is read from `GEMINI_BASE_URL` (`VERTEX_BASE_URL`), else it is the vendor's own."
    }

    model_setters! {}

    /// Asks the model at Vertex AI, in this project and location (such as `europe-west4`, or `global`). The model's
    /// vendor is then `vertex`: its signatures are not those of the Gemini API.
    pub fn vertex(mut self, project: impl Into<String>, location: impl Into<String>) -> Self {
        self.vertex = Some((project.into(), location.into()));
        VERTEX.name().clone_into(&mut self.setup.info.provider);
        self
    }

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key, [`Error::InvalidInput`] for an address that is none, and for names that
    /// cannot stand in one.
    pub fn build(mut self) -> Result<Gemini> {
        let model = self.setup.info.model.clone();
        check("model", &model)?;
        let (vendor, path) = if let Some((project, location)) = &self.vertex {
            check("project", project)?;
            check("location", location)?;
            if self.setup.base_url.is_none() && std::env::var_os("VERTEX_BASE_URL").is_none() {
                self.setup.base_url = Some(vertex_address(location));
            }
            let place = format!("projects/{project}/locations/{location}");
            let is_full = ["publishers/", "endpoints/"]
                .iter()
                .any(|start| model.starts_with(start));
            let model = if is_full {
                model
            } else {
                format!("publishers/google/models/{model}")
            };
            (&VERTEX, format!("/v1beta1/{place}/{model}"))
        } else {
            self.setup.key = self
                .setup
                .key
                .or_else(|| Secret::from_env(GEMINI.key_var()))
                .or_else(|| Secret::from_env(OTHER_KEY));
            let model = if model.contains('/') {
                model
            } else {
                format!("models/{model}")
            };
            (&GEMINI, format!("/v1beta/{model}"))
        };
        let client = self.setup.build(vendor, "gemini-3.8-flash")?;
        // Some hosts give their base URL with the version, as other vendors do.
        let base = client.http.base().path().trim_end_matches('/');
        let has_version = ["/v1", "/v1beta", "/v1alpha", "/v1beta1"]
            .iter()
            .any(|version| base.ends_with(version));
        let path = if has_version {
            path.trim_start_matches('/')
                .split_once('/')
                .map_or(path.clone(), |(_, rest)| format!("/{rest}"))
        } else {
            path
        };
        Ok(Gemini { client, vendor, path })
    }
}

/// A region has an address of its own.
fn vertex_address(location: &str) -> String {
    match location {
        "global" => "https://aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
        region => format!("https://{region}-aiplatform.googleapis.com"),
    }
}

/// A name that goes into the path, which must not lead elsewhere.
fn check(what: &str, name: &str) -> Result<()> {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    if name.bytes().all(fits) && !name.contains("..") && !name.contains("//") && !name.starts_with('/') {
        return Ok(());
    }
    Err(Error::invalid(
        what,
        "it has signs that no name at this vendor has",
    ))
}

impl fmt::Debug for Gemini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gemini")
            .field("model", &self.client.info.model)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for Gemini {
    fn info(&self) -> &ModelInfo {
        &self.client.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        structured::stream(self, request).await
    }

    /// Counted by the vendor.
    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        let is_vertex = self.vendor.name() == VERTEX.name();
        let body = encode::count(self.vendor, &self.client.info, request, is_vertex)?;
        let path = format!("{}:countTokens", self.path);
        let reply = self.client.post(&path, Vec::new(), body, failure::error).await?;
        let body = reply.body.read().await?;
        let count: wire::Count = serde_json::from_slice(&body)
            .map_err(|error| unreadable(self.vendor.name(), "the count", &error))?;
        let cached = count.cached_content_token_count;
        let mut usage = Usage::default();
        usage.cache_read_tokens = cached;
        usage.input_tokens = count
            .total_tokens
            .map(|total| total.saturating_sub(cached.unwrap_or(0)));
        Ok(usage)
    }
}

#[async_trait]
impl Sends for Gemini {
    fn means(&self, _request: &ChatRequest) -> Means {
        encode::means(self.vendor, &self.client.info)
    }

    fn name(&self) -> (String, String) {
        let info = &self.client.info;
        (info.provider.clone(), info.model.clone())
    }

    async fn send(&self, request: ChatRequest) -> Result<ChatStream> {
        let include_raw = request.include_raw;
        let Client { info, http, .. } = &self.client;
        let encoded = encode::chat(self.vendor, info, &request)?;
        drop(request); // its media are in the body now
        let path = format!("{}:streamGenerateContent?alt=sse", self.path);
        let reply = self
            .client
            .post(&path, Vec::new(), encoded.body, failure::error)
            .await?;
        let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
        let decoder = stream::Generated::new(self.vendor, info.model.as_str());
        // A whole answer is framed as a stream of one value.
        let whole = |_: &[u8]| Err(Error::internal("this wire has no whole form"));
        answer::of(reply, http, facts, decoder, whole).await
    }
}
