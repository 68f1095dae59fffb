//! Ollama: models on one's own machine, by its native wire. <https://docs.ollama.com/api/chat>
//!
//! Its OpenAI-compatible route cannot say how large the context is to be, and the default is small: what does not
//! fit is cut off at the beginning without a word. So every request here tells `num_ctx`, forbids the cut, and a
//! prompt that would not fit is refused before it is sent.

mod address;
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
use encode::Context;
use serde_json::Value;
use std::{fmt, sync::Arc};
use stepwell_core::{ChatModel, ChatRequest, ChatStream, Dialect as SchemaDialect, Error, ModelInfo, Result};
use tokio::sync::OnceCell;

pub(crate) use encode::RULES;

static VENDOR: Vendor = Vendor::new(
    "ollama",
    "OLLAMA_API_KEY",
    "OLLAMA_BASE_URL",
    "http://localhost:11434",
    Auth::Bearer,
);
/// Where the server itself reads its address.
const HOST: &str = "OLLAMA_HOST";
/// The context that is asked for where nobody says another: enough for an agent's turn, and some hundred megabytes.
const USUAL_CONTEXT: u64 = 16_384;
/// Ids of calls that the server gave none begin so; they are not sent to it.
const INVENTED: &str = "ollama-";

/// Whether the id was invented by us, and is none the server knows.
fn is_invented(id: &str) -> bool {
    id.starts_with(INVENTED)
}

/// A model that an Ollama server runs.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::Ollama;
/// let model = Ollama::new("qwen3:4b").num_ctx(32_768).build()?; // the address comes from OLLAMA_HOST
/// println!("{}", model.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// Own options of the server go into [`ChatRequest::provider_options`] under `ollama`: any field of the body, such as
/// `keep_alive`, and `options` with what its models can be told (`num_ctx`, `min_p`, `repeat_penalty` …).
#[derive(Clone)]
pub struct Ollama {
    client: Client,
    num_ctx: Option<u64>,
    /// What the server told of the model, asked for once.
    shown: Arc<OnceCell<Context>>,
}

/// Sets up an [`Ollama`] model.
#[derive(Clone)]
pub struct OllamaBuilder {
    setup: Setup,
    num_ctx: Option<u64>,
}

impl Ollama {
    /// A model by the server's name for it.
    #[allow(clippy::new_ret_no_self)] // a builder, as with every vendor
    pub fn new(model: impl Into<String>) -> OllamaBuilder {
        let mut setup = Setup::new(&VENDOR, model);
        setup.is_key_optional = true;
        OllamaBuilder { setup, num_ctx: None }
    }
}

impl fmt::Debug for OllamaBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("OllamaBuilder", f)
    }
}

impl OllamaBuilder {
    setters! {
        key: "A key, for servers behind one; without, `OLLAMA_API_KEY` is sent to https addresses alone.",
        address: "The address, as people write it; without, it is read from `OLLAMA_BASE_URL`, then from `OLLAMA_HOST`, else"
            "it is `http://localhost:11434`."
    }

    model_setters! {}

    /// The context in tokens, in and out together. Without, it is what the model's own file says, else 16,384 or
    /// the model's window where that is smaller. A larger one takes memory, and another one loads the model anew.
    pub fn num_ctx(mut self, tokens: u64) -> Self {
        self.num_ctx = Some(tokens);
        self
    }

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an address that is none, and for a context of no tokens.
    pub fn build(mut self) -> Result<Ollama> {
        if self.num_ctx == Some(0) {
            return Err(Error::invalid(
                "num_ctx",
                "it is a number of tokens, such as 16384",
            ));
        }
        let variable = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.trim().is_empty())
        };
        let written = self
            .setup
            .base_url
            .take()
            .or_else(|| variable("OLLAMA_BASE_URL"))
            .or_else(|| variable(HOST));
        let address = written.map_or_else(
            || "http://localhost:11434".to_owned(),
            |written| address::read(&written),
        );
        // A key of the environment is meant for the vendor's own service, not for whoever listens near.
        if self.setup.key.is_none() && !address.starts_with("https://") {
            self.setup.base_url = Some(address);
            let client = self.setup.build(&NO_KEY, "qwen3:4b")?;
            return Ok(Ollama::of(client, self.num_ctx));
        }
        self.setup.base_url = Some(address);
        let client = self.setup.build(&VENDOR, "qwen3:4b")?;
        Ok(Ollama::of(client, self.num_ctx))
    }
}

/// The same vendor where no key is sent.
static NO_KEY: Vendor = Vendor::new(
    "ollama",
    "OLLAMA_API_KEY",
    "OLLAMA_BASE_URL",
    "http://localhost:11434",
    Auth::None,
);

impl Ollama {
    fn of(client: Client, num_ctx: Option<u64>) -> Self {
        Self {
            client,
            num_ctx,
            shown: Arc::default(),
        }
    }

    /// The context for this request: what was said, else what the server tells of the model.
    async fn context(&self, request: &ChatRequest) -> Context {
        if let Some(num_ctx) = encode::asked_num_ctx(request).or(self.num_ctx) {
            return Context {
                num_ctx,
                thinks: None,
            };
        }
        let window = self.client.info.context_window;
        // A server that cannot tell is asked again the next time.
        let shown = self.shown.get_or_try_init(|| self.show()).await;
        shown.copied().unwrap_or(Context {
            num_ctx: window.unwrap_or(USUAL_CONTEXT).min(USUAL_CONTEXT),
            thinks: None,
        })
    }

    async fn show(&self) -> Result<Context> {
        let Client { info, .. } = &self.client;
        let body = serde_json::to_vec(&wire::ShowRequest { model: &info.model })
            .map_err(|_| Error::internal("a request could not be written as JSON"))?;
        let reply = self
            .client
            .post("/api/show", Vec::new(), body, failure::error)
            .await?;
        let body = reply.body.read().await?;
        let shown: wire::Show = serde_json::from_slice(&body)
            .map_err(|error| answer::unreadable(VENDOR.name(), "what it tells of the model", &error))?;
        let of_file = shown
            .parameters
            .lines()
            .find_map(|line| line.trim().strip_prefix("num_ctx")?.trim().parse().ok());
        let of_model = shown
            .model_info
            .iter()
            .find(|(name, _)| name.ends_with(".context_length"))
            .and_then(|(_, length)| Value::as_u64(length));
        let window = info.context_window.or(of_model).filter(|window| *window > 0);
        Ok(Context {
            num_ctx: of_file
                .filter(|tokens| *tokens > 0)
                .unwrap_or_else(|| window.unwrap_or(USUAL_CONTEXT).min(USUAL_CONTEXT)),
            thinks: shown
                .capabilities
                .map(|can| can.iter().any(|word| word == "thinking")),
        })
    }
}

impl fmt::Debug for Ollama {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ollama")
            .field("model", &self.client.info.model)
            .field("num_ctx", &self.num_ctx)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for Ollama {
    fn info(&self) -> &ModelInfo {
        &self.client.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        structured::stream(self, request).await
    }
}

#[async_trait]
impl Sends for Ollama {
    /// The grammar of an answer leaves no room for calls, and a call cannot be forced.
    fn means(&self, _request: &ChatRequest) -> Means {
        Means {
            native: Some(SchemaDialect::Ollama),
            is_lenient: true,
            beside_tools: false,
            object_root: false,
            json_mode: true,
            tools: true,
            forces_calls: false,
            strict_tools: false,
        }
    }

    fn name(&self) -> (String, String) {
        let info = &self.client.info;
        (info.provider.clone(), info.model.clone())
    }

    async fn send(&self, request: ChatRequest) -> Result<ChatStream> {
        let include_raw = request.include_raw;
        let Client { info, http, .. } = &self.client;
        let context = self.context(&request).await;
        let encoded = encode::chat(info, &request, context)?;
        drop(request); // its media are in the body now
        let reply = self
            .client
            .post("/api/chat", Vec::new(), encoded.body, failure::error)
            .await?;
        let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
        let decoder = stream::Lines::new(info.model.as_str(), encoded.num_ctx);
        // A whole answer is framed as a stream of one value.
        let whole = |_: &[u8]| Err(Error::internal("this wire has no whole form"));
        answer::of(reply, http, facts, decoder, whole).await
    }
}
