//! Vendors and servers that speak Chat Completions: those of the table, and a host's own.

pub(crate) mod azure;
pub mod quirks;
#[cfg(test)]
mod scripted;
pub(crate) mod table;

pub(crate) use quirks::Quirks;

use super::{OpenAiWire, chat, dialect::Dialect, estimate, failure, family, responses};
use crate::{
    answer::{self, Facts},
    client::{Client, Setup, model_setters, setters},
    http::{Auth, Vendor},
    structured::{self, Means, Sends},
};
use async_trait::async_trait;
use std::{borrow::Cow, fmt};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Secret, Usage, VendorFailure,
};
use table::{Route, Row};

/// A model behind any server that speaks Chat Completions.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::{OpenAiCompatible, quirks::{Quirks, TokenLimit}};
/// // A vendor of the table: its key comes from GROQ_API_KEY.
/// let model = OpenAiCompatible::vendor("groq", "openai/gpt-oss-120b")?.build()?;
/// // A server of one's own; without a key none is sent.
/// let own = OpenAiCompatible::new("my-vendor", "http://localhost:9000/v1", "my-model")
///     .quirks(Quirks::default().token_limit(TokenLimit::MaxCompletionTokens))
///     .build()?;
/// println!("{}", own.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// Own options of the vendor go into [`ChatRequest::provider_options`] under its name: any field of the body.
///
/// # Vendors of the table
#[doc = include_str!("table.md")]
#[derive(Clone)]
pub struct OpenAiCompatible {
    client: Client,
    quirks: Quirks,
    path: String,
    wire: OpenAiWire,
    /// Where Responses are asked.
    responses_path: &'static str,
}

/// Sets up an [`OpenAiCompatible`] model.
#[derive(Clone)]
pub struct OpenAiCompatibleBuilder {
    setup: Setup,
    vendor: Vendor,
    quirks: Quirks,
    wire: Option<OpenAiWire>,
    route: Route,
    example: &'static str,
    api_version: Option<String>,
}

impl OpenAiCompatible {
    /// A model of a server at an address with its `/v1`. Its key, where it wants one, is read from
    /// `MY_VENDOR_API_KEY` for the name `my-vendor`, if it is not set here.
    #[allow(clippy::new_ret_no_self)] // a model without its address is no model yet
    pub fn new(
        vendor: impl Into<String>,
        base_url: impl Into<String>,
        model: impl Into<String>,
    ) -> OpenAiCompatibleBuilder {
        let vendor = Vendor::named(vendor.into(), base_url.into(), Auth::Bearer);
        let mut setup = Setup::new(&vendor, model);
        setup.is_key_optional = true;
        OpenAiCompatibleBuilder {
            setup,
            vendor,
            quirks: Quirks::default(),
            wire: None,
            route: Route::Plain,
            example: "my-model",
            api_version: None,
        }
    }

    /// A model of a vendor of the table, such as `groq` or `mistral`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a vendor that is not in it.
    pub fn vendor(vendor: &str, model: impl Into<String>) -> Result<OpenAiCompatibleBuilder> {
        match table::row(vendor) {
            Some(row) => Ok(Self::of_row(row, model)),
            None => Err(Error::NotFound {
                what: "compatible vendor".to_owned(),
                name: vendor.chars().take(64).collect(),
                hint: format!(
                    "known are {}; others are made with `OpenAiCompatible::new`",
                    Self::vendors().collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }

    /// The vendors of the table, sorted.
    pub fn vendors() -> impl Iterator<Item = &'static str> {
        table::ROWS.iter().map(|row| row.vendor.name())
    }

    pub(crate) fn of_row(row: &Row, model: impl Into<String>) -> OpenAiCompatibleBuilder {
        let mut setup = Setup::new(&row.vendor, model);
        setup.is_key_optional = row.is_key_optional;
        OpenAiCompatibleBuilder {
            setup,
            vendor: row.vendor.clone(),
            quirks: row.quirks,
            wire: None,
            route: row.route,
            example: row.example,
            api_version: None,
        }
    }

    fn wire_of(&self, request: &ChatRequest) -> Result<OpenAiWire> {
        Ok(OpenAiWire::of(request, self.client.http.vendor.name())?.unwrap_or(self.wire))
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            vendor: self.client.http.vendor.clone(),
            quirks: self.quirks,
        }
    }
}

impl fmt::Debug for OpenAiCompatibleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("OpenAiCompatibleBuilder", f)
    }
}

impl OpenAiCompatibleBuilder {
    setters! {
        key: "The key; without, it is read from the vendor's variable.",
        address: "The address with its `/v1`; without, it is read from the vendor's variable, else it is the vendor's own."
    }

    model_setters! {}

    /// The header that carries the bare key, where it is not `Authorization: Bearer`.
    pub fn key_header(mut self, name: impl Into<String>) -> Self {
        self.vendor.auth = Auth::Header(Cow::Owned(name.into()));
        self
    }

    /// The wire; without, Chat Completions, but Responses at xAI.
    pub fn wire(mut self, wire: OpenAiWire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// How the server differs from OpenAI's own, over Chat Completions.
    pub fn quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = quirks;
        self
    }

    /// A query parameter that goes with every call. It never stands in an error or a `Debug`.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.setup.query.push((name.into(), value.into()));
        self
    }

    /// Azure's version, such as `2024-10-21`: the model's name is that of a deployment then, and part of the
    /// path. Without, it is read from `AZURE_OPENAI_API_VERSION`; without that too, the path is `/openai/v1`.
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = Some(version.into());
        self
    }

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key where the vendor asks for one, [`Error::InvalidInput`] for an address
    /// that is none and a name that is empty.
    pub fn build(mut self) -> Result<OpenAiCompatible> {
        if self.vendor.name().trim().is_empty() {
            return Err(Error::invalid("vendor", "give it a name, for example my-vendor"));
        }
        let model = self.setup.info.model.clone();
        let version = match self.route {
            Route::Plain => self.api_version,
            Route::Azure => self.api_version.or_else(azure::version),
        };
        if let Some(version) = &version {
            self.setup
                .query
                .push(("api-version".to_owned(), Secret::new(version.as_str())));
        }
        let client = self.setup.build(&self.vendor, self.example)?;
        let path = match self.route {
            Route::Plain => "/chat/completions".to_owned(),
            Route::Azure => azure::path(client.http.base(), &model, version.is_some()),
        };
        let responses_path = match self.route {
            Route::Plain => "/responses",
            Route::Azure => azure::responses(client.http.base(), version.is_some()),
        };
        let wire = self.wire.unwrap_or_else(|| family::wire(&client.info));
        Ok(OpenAiCompatible {
            client,
            quirks: self.quirks,
            path,
            wire,
            responses_path,
        })
    }
}

impl fmt::Debug for OpenAiCompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiCompatible")
            .field("model", &self.client.info.model)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for OpenAiCompatible {
    fn info(&self) -> &ModelInfo {
        &self.client.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        structured::stream(self, request).await
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        // Of these vendors only Azure counts on this wire.
        if self.wire_of(request)? == OpenAiWire::Responses && self.client.http.vendor.name() == "azure" {
            return responses::count(&self.client, self.responses_path, Vec::new(), request).await;
        }
        Ok(estimate(request))
    }
}

#[async_trait]
impl Sends for OpenAiCompatible {
    fn means(&self, request: &ChatRequest) -> Means {
        match self.wire_of(request) {
            Ok(OpenAiWire::Responses) => Quirks::OPENAI.openai_names(false).means(&self.client.info),
            _ => self.quirks.means(&self.client.info),
        }
    }

    fn name(&self) -> (String, String) {
        let info = &self.client.info;
        (info.provider.clone(), info.model.clone())
    }

    async fn send(&self, request: ChatRequest) -> Result<ChatStream> {
        if self.wire_of(&request)? == OpenAiWire::Responses {
            return responses::stream(&self.client, self.responses_path, Vec::new(), request).await;
        }
        let include_raw = request.include_raw;
        let dialect = self.dialect();
        let Client { info, http, .. } = &self.client;
        let encoded = chat::encode::chat(&dialect, info, &request)?;
        drop(request); // its media are in the body now
        let quirks = &self.quirks;
        let read_failure = |failed: VendorFailure, body: &[u8], vendor: &Vendor, model: &str| {
            let is_final = quirks.final_500 && failed.status == Some(500) && failure::is_one(body);
            match failure::error(failed, body, vendor, model) {
                Error::Overloaded(failed) if is_final => Error::Rejected(failed),
                error => error,
            }
        };
        let reply = self
            .client
            .post(&self.path, Vec::new(), encoded.body, read_failure)
            .await?;
        let model = &info.model;
        let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
        let decoder = chat::stream::Completion::new(dialect.clone(), model.as_str());
        answer::of(reply, http, facts, decoder, |body| {
            chat::decode::body(&dialect, model, body)
        })
        .await
    }
}
