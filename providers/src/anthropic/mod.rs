//! Anthropic: the Messages API. <https://docs.anthropic.com/en/api/messages>
//!
//! `encode`, `decode` and `stream` are pure; this file holds the client.

mod blocks;
mod decode;
mod encode;
mod failure;
#[cfg(test)]
mod recorded;
mod stream;
mod wire;

use crate::{
    answer::{self, Facts},
    http::{Http, HttpOptions, Vendor, Verdict, secret_header},
};
use async_trait::async_trait;
use reqwest::header::{HeaderName, HeaderValue};
use std::fmt;
use stepwell_core::{ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Secret};

const VENDOR: Vendor = Vendor {
    name: "anthropic",
    key_var: "ANTHROPIC_API_KEY",
};
const BASE: &str = "https://api.anthropic.com";
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
    info: ModelInfo,
    http: Http,
    key: Secret,
}

/// Sets up an [`Anthropic`] model.
#[derive(Clone, Debug)]
pub struct AnthropicBuilder {
    info: ModelInfo,
    key: Option<Secret>,
    base_url: Option<String>,
    http: HttpOptions,
}

impl Anthropic {
    /// A model by the vendor's name for it.
    #[allow(clippy::new_ret_no_self)] // a model without its key is no model yet
    pub fn new(model: impl Into<String>) -> AnthropicBuilder {
        AnthropicBuilder {
            info: ModelInfo::new(VENDOR.name, model),
            key: None,
            base_url: None,
            http: HttpOptions::default(),
        }
    }
}

impl AnthropicBuilder {
    /// The key; without, it is read from `ANTHROPIC_API_KEY`.
    pub fn api_key(mut self, key: impl Into<Secret>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The address; without, it is read from `ANTHROPIC_BASE_URL`, else it is the vendor's own.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Timers, limits, proxy.
    pub fn http(mut self, options: HttpOptions) -> Self {
        self.http = options;
        self
    }

    /// What is known of the model, such as its limits; vendor and name stay.
    pub fn info(mut self, info: ModelInfo) -> Self {
        let named = std::mem::replace(&mut self.info, info);
        self.info.provider = named.provider;
        self.info.model = named.model;
        self
    }

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key, [`Error::InvalidInput`] for an address that is none.
    pub fn build(self) -> Result<Anthropic> {
        if self.info.model.trim().is_empty() {
            return Err(Error::invalid("model", "name one, for example claude-sonnet-5"));
        }
        let key = self
            .key
            .filter(|key| !key.reveal().trim().is_empty())
            .or_else(|| Secret::from_env(VENDOR.key_var))
            .ok_or_else(|| Error::MissingKey {
                provider: VENDOR.name.to_owned(),
                env_var: VENDOR.key_var.to_owned(),
            })?;
        Ok(Anthropic {
            info: self.info,
            http: Http::new(VENDOR, self.base_url, "ANTHROPIC_BASE_URL", BASE, self.http)?,
            key,
        })
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic")
            .field("model", &self.info.model)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for Anthropic {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let include_raw = request.include_raw;
        let encoded = encode::chat(&self.info, &request)?;
        drop(request); // its media are in the body now
        let mut headers = vec![
            (
                HeaderName::from_static("x-api-key"),
                secret_header("", &self.key)?,
            ),
            (HeaderName::from_static("anthropic-version"), VERSION),
        ];
        if !encoded.betas.is_empty() {
            let value = HeaderValue::from_str(&encoded.betas.join(",")).map_err(|_| {
                Error::invalid("provider_options", "`betas` has a name that no header can carry")
            })?;
            headers.push((HeaderName::from_static("anthropic-beta"), value));
        }
        // Some hosts give their base URL with the version, as other vendors do.
        let path = if self.http.base().path().trim_end_matches('/').ends_with("/v1") {
            "/messages"
        } else {
            "/v1/messages"
        };
        let reply = self.http.post(path, headers, encoded.body).await?;
        let model = &self.info.model;
        if reply.status != 200 {
            let failed = self.http.failure(reply.status, &reply.headers);
            if Verdict::of_status(reply.status) == Verdict::Stranger {
                return Err(Verdict::Stranger.error(failed, &VENDOR, model));
            }
            let body = reply.body.read_failure().await;
            return Err(failure::error(failed, &body, &VENDOR, model));
        }
        let facts = Facts::new(&self.info, &reply.headers, encoded.warnings, include_raw);
        let decoder = stream::Messages::new(model.as_str());
        answer::of(reply, &self.http, facts, decoder, |body| {
            decode::body(model, body)
        })
        .await
    }
}
