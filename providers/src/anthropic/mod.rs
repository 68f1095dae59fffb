//! Anthropic: the Messages API. <https://docs.anthropic.com/en/api/messages>
//!
//! `encode`, `decode` and `stream` are pure; this file holds the client.

mod blocks;
pub(crate) mod decode;
mod encode;
pub(crate) mod failure;
#[cfg(test)]
mod recorded;
pub(crate) mod stream;
mod wire;

use crate::{
    answer::{self, Facts},
    client::{Client, Setup, model_setters, setters},
    http::{Auth, Vendor},
    structured::{self, Means, Sends},
};
use async_trait::async_trait;
use reqwest::header::{HeaderName, HeaderValue};
use std::{borrow::Cow, fmt};
use stepwell_core::{ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Usage, VendorFailure};

pub(crate) use encode::rules;

static VENDOR: Vendor = Vendor::new(
    "anthropic",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "https://api.anthropic.com",
    Auth::Header(Cow::Borrowed("x-api-key")),
);
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A Claude model.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::Anthropic;
/// let model = Anthropic::new("claude-sonnet-5").build()?; // the key comes from ANTHROPIC_API_KEY
/// println!("{}", model.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// Own options of the vendor go into [`ChatRequest::provider_options`] under `anthropic`: any field of the body,
/// and `betas`, a list for the `anthropic-beta` header.
#[derive(Clone)]
pub struct Anthropic {
    client: Client,
}

/// Sets up an [`Anthropic`] model.
#[derive(Clone)]
pub struct AnthropicBuilder {
    setup: Setup,
}

impl Anthropic {
    /// Some hosts give their base URL with the version, as other vendors do.
    fn path(&self, call: &str) -> String {
        let base = self.client.http.base().path().trim_end_matches('/');
        let version = if base.ends_with("/v1") { "" } else { "/v1" };
        format!("{version}{call}")
    }

    /// A model by the vendor's name for it.
    #[allow(clippy::new_ret_no_self)] // a model without its key is no model yet
    pub fn new(model: impl Into<String>) -> AnthropicBuilder {
        AnthropicBuilder {
            setup: Setup::new(&VENDOR, model),
        }
    }
}

impl fmt::Debug for AnthropicBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("AnthropicBuilder", f)
    }
}

impl AnthropicBuilder {
    setters! {
        key: "The key; without, it is read from `ANTHROPIC_API_KEY`.",
        address: "The address; without, it is read from `ANTHROPIC_BASE_URL`, else it is the vendor's own."
    }

    model_setters! {}

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key, [`Error::InvalidInput`] for an address that is none.
    pub fn build(self) -> Result<Anthropic> {
        let mut client = self.setup.build(&VENDOR, "claude-sonnet-5")?;
        client.info.abilities.citations.get_or_insert(true);
        Ok(Anthropic { client })
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic")
            .field("model", &self.client.info.model)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for Anthropic {
    fn info(&self) -> &ModelInfo {
        &self.client.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        structured::stream(self, request).await
    }

    /// Asks the vendor, which bills nothing for it. A server that has only the messages and not this answers with
    /// the estimate.
    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        let encoded = encode::count(&self.client.info, request)?;
        let headers = headers(&encoded.betas)?;
        let path = self.path("/messages/count_tokens");
        let asked = self
            .client
            .post(&path, headers, encoded.body, failure::error)
            .await;
        let mut usage = Usage::default();
        let reply = match asked {
            Ok(reply) => reply,
            Err(Error::Rejected(failure)) if is_no_such_path(&failure) => {
                usage.input_tokens = Some(request.estimated_tokens());
                usage.is_estimated = true;
                return Ok(usage);
            }
            Err(error) => return Err(error),
        };
        let body = reply.body.read().await?;
        let count: wire::Count = serde_json::from_slice(&body)
            .map_err(|error| answer::unreadable(VENDOR.name(), "the count", &error))?;
        usage.input_tokens = Some(count.input_tokens);
        Ok(usage)
    }
}

#[async_trait]
impl Sends for Anthropic {
    fn means(&self, request: &ChatRequest) -> Means {
        encode::means(&self.client.info, request)
    }

    fn name(&self) -> (String, String) {
        let info = &self.client.info;
        (info.provider.clone(), info.model.clone())
    }

    async fn send(&self, request: ChatRequest) -> Result<ChatStream> {
        let include_raw = request.include_raw;
        let encoded = encode::chat(&self.client.info, &request)?;
        drop(request); // its media are in the body now
        let headers = headers(&encoded.betas)?;
        let path = self.path("/messages");
        let reply = self
            .client
            .post(&path, headers, encoded.body, failure::error)
            .await?;
        let Client { info, http, .. } = &self.client;
        let model = &info.model;
        let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
        let decoder = stream::Messages::new(model.as_str());
        answer::of(reply, http, facts, decoder, |body| decode::body(model, body)).await
    }
}

/// The vendor's own refusals have a kind; a path that is not there has none.
fn is_no_such_path(failure: &VendorFailure) -> bool {
    failure.kind.is_none() && matches!(failure.status, Some(404 | 405 | 501))
}

fn headers(betas: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = vec![(HeaderName::from_static("anthropic-version"), VERSION)];
    if !betas.is_empty() {
        let value = HeaderValue::from_str(&betas.join(","))
            .map_err(|_| Error::invalid("provider_options", "`betas` has a name that no header can carry"))?;
        headers.push((HeaderName::from_static("anthropic-beta"), value));
    }
    Ok(headers)
}
