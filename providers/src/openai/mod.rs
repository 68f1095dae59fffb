//! OpenAI. One client, one folder per wire: `chat/` is Chat Completions, `responses/` is Responses.
//!
//! In a wire's folder `encode`, `decode` and `stream` are pure; this file holds the client.

pub(crate) mod chat;
pub(crate) mod compatible;
pub(crate) mod dialect;
pub(crate) mod failure;
mod family;
pub(crate) mod responses;
mod schema;

use crate::{
    answer::{self, Facts},
    client::{Client, Setup, model_setters, setters},
    doctor::Rules,
    http::{Auth, Vendor},
    structured::{self, Means, Sends},
};
use async_trait::async_trait;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use std::fmt;
use stepwell_core::{ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Usage};

use compatible::Quirks;
use dialect::Dialect;

/// What the wire of a model of this vendor wants of a history.
pub(crate) fn rules(info: &ModelInfo) -> Option<Rules> {
    let quirks = match info.provider.as_str() {
        "openai" => &Quirks::OPENAI,
        name => &compatible::table::row(name)?.quirks,
    };
    Some(match family::wire(info) {
        OpenAiWire::Chat => chat::encode::rules(quirks),
        OpenAiWire::Responses => responses::rules(),
    })
}

pub(crate) static VENDOR: Vendor = Vendor::new(
    "openai",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "https://api.openai.com/v1",
    Auth::Bearer,
);

/// The wire a model of OpenAI, or of a vendor that speaks like it, is asked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenAiWire {
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

impl OpenAiWire {
    /// The wire that a request asks for itself: `wire` among the vendor's options, `chat` or `responses`.
    fn of(request: &ChatRequest, vendor: &str) -> Result<Option<Self>> {
        let options = request.provider_options.get(vendor);
        match options.and_then(|options| options.get("wire")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(word)) if word == "chat" => Ok(Some(Self::Chat)),
            Some(Value::String(word)) if word == "responses" => Ok(Some(Self::Responses)),
            Some(_) => Err(Error::invalid(
                "provider_options",
                "`wire` is `chat` or `responses`",
            )),
        }
    }
}

/// A model of OpenAI, over Responses where its family is of that wire, else over Chat Completions.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::OpenAi;
/// let model = OpenAi::new("gpt-6-sol").build()?; // the key comes from OPENAI_API_KEY
/// println!("{}", model.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// Own options of the vendor go into [`ChatRequest::provider_options`] under `openai`: any field of the body, and
/// `wire` (`chat` or `responses`) for this request alone. Over Responses nothing is stored: reasoning comes back
/// sealed with the history. With `store: true` the vendor keeps the answers, and with `previous_response_id` (an
/// answer's [`stepwell_core::ChatResponse::id`]) only the new messages are sent.
#[derive(Clone)]
pub struct OpenAi {
    client: Client,
    wire: OpenAiWire,
    organization: Option<String>,
    project: Option<String>,
}

/// Sets up an [`OpenAi`] model.
#[derive(Clone)]
pub struct OpenAiBuilder {
    setup: Setup,
    wire: Option<OpenAiWire>,
    organization: Option<String>,
    project: Option<String>,
}

impl OpenAi {
    /// A model by the vendor's name for it.
    #[allow(clippy::new_ret_no_self)] // a model without its key is no model yet
    pub fn new(model: impl Into<String>) -> OpenAiBuilder {
        OpenAiBuilder {
            setup: Setup::new(&VENDOR, model),
            wire: None,
            organization: None,
            project: None,
        }
    }
}

impl fmt::Debug for OpenAiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("OpenAiBuilder", f)
    }
}

impl OpenAiBuilder {
    setters! {
        key: "The key; without, it is read from `OPENAI_API_KEY`.",
        address: "The address with its `/v1`; without, it is read from `OPENAI_BASE_URL`, else it is the vendor's own."
    }

    model_setters! {}

    /// The organisation that is billed, for keys of several.
    pub fn organization(mut self, id: impl Into<String>) -> Self {
        self.organization = Some(id.into());
        self
    }

    /// The project that is billed, for keys of several.
    pub fn project(mut self, id: impl Into<String>) -> Self {
        self.project = Some(id.into());
        self
    }

    /// The wire; without, it goes by the model's family, and an address that is not OpenAI's own is asked over
    /// Chat Completions, which nearly every server speaks.
    pub fn wire(mut self, wire: OpenAiWire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// The model. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key, [`Error::InvalidInput`] for an address that is none.
    pub fn build(self) -> Result<OpenAi> {
        let client = self.setup.build(&VENDOR, "gpt-6-sol")?;
        let host = client.http.base().host_str().unwrap_or_default();
        let is_openai = host == "openai.com" || host.ends_with(".openai.com");
        let of_family = || {
            if is_openai {
                family::wire(&client.info)
            } else {
                OpenAiWire::Chat
            }
        };
        let wire = self.wire.unwrap_or_else(of_family);
        Ok(OpenAi {
            client,
            wire,
            organization: self.organization,
            project: self.project,
        })
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("model", &self.client.info.model)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    fn info(&self) -> &ModelInfo {
        &self.client.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        structured::stream(self, request).await
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        if self.wire_of(request)? == OpenAiWire::Responses {
            return responses::count(&self.client, RESPONSES, self.headers()?, request).await;
        }
        Ok(estimate(request))
    }
}

#[async_trait]
impl Sends for OpenAi {
    fn means(&self, _request: &ChatRequest) -> Means {
        Quirks::OPENAI.means(&self.client.info)
    }

    fn name(&self) -> (String, String) {
        let info = &self.client.info;
        (info.provider.clone(), info.model.clone())
    }

    async fn send(&self, request: ChatRequest) -> Result<ChatStream> {
        let headers = self.headers()?;
        if self.wire_of(&request)? == OpenAiWire::Responses {
            return responses::stream(&self.client, RESPONSES, headers, request).await;
        }
        let include_raw = request.include_raw;
        let dialect = Dialect {
            vendor: self.client.http.vendor.clone(),
            quirks: Quirks::OPENAI,
        };
        let encoded = chat::encode::chat(&dialect, &self.client.info, &request)?;
        drop(request); // its media are in the body now
        let reply = self
            .client
            .post("/chat/completions", headers, encoded.body, failure::error)
            .await?;
        let Client { info, http, .. } = &self.client;
        let model = &info.model;
        let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
        let decoder = chat::stream::Completion::new(dialect.clone(), model.as_str());
        answer::of(reply, http, facts, decoder, |body| {
            chat::decode::body(&dialect, model, body)
        })
        .await
    }
}

/// What a request has where no vendor counts.
fn estimate(request: &ChatRequest) -> Usage {
    let mut usage = Usage::default();
    usage.input_tokens = Some(request.estimated_tokens());
    usage.is_estimated = true;
    usage
}

/// Where Responses are asked.
const RESPONSES: &str = "/responses";

impl OpenAi {
    fn wire_of(&self, request: &ChatRequest) -> Result<OpenAiWire> {
        Ok(OpenAiWire::of(request, VENDOR.name())?.unwrap_or(self.wire))
    }

    /// Who is billed.
    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let mut headers = Vec::new();
        for (name, value) in [
            ("openai-organization", &self.organization),
            ("openai-project", &self.project),
        ] {
            if let Some(value) = value {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| Error::invalid(name, "it has characters that no header can carry"))?;
                headers.push((HeaderName::from_static(name), value));
            }
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::OpenAi;
    use crate::fixtures::{Act, Framing, Server, http_answer};
    use futures::StreamExt;
    use serde_json::json;
    use std::time::Duration;
    use stepwell_core::{ChatModel, ChatRequest, Error, StreamEvent};
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_partial_json, header, method, path},
    };

    fn model(url: &str) -> OpenAi {
        OpenAi::new("gpt-4o")
            .api_key("k")
            .base_url(url)
            .organization("org")
            .build()
            .expect("builds")
    }

    #[tokio::test]
    async fn a_rate_limit_tells_how_long_to_wait_and_a_verdict_of_the_vendor_overrules_ours() {
        let server = MockServer::start().await;
        let asked = |text: &str| {
            Mock::given(method("POST"))
                .and(path("/chat/completions"))
                .and(header("authorization", "Bearer k"))
                .and(header("openai-organization", "org"))
                .and(body_partial_json(json!({ "messages": [{ "content": text }] })))
        };
        let limited = ResponseTemplate::new(429)
            .insert_header("retry-after-ms", "0")
            .insert_header("retry-after", "1")
            .insert_header("x-request-id", "req_1");
        asked("slow").respond_with(limited).expect(1).mount(&server).await;
        let final_failure = ResponseTemplate::new(500).insert_header("x-should-retry", "false");
        asked("never")
            .respond_with(final_failure)
            .expect(1)
            .mount(&server)
            .await;

        let model = model(&server.uri());
        let error = model.chat("slow".into()).await.expect_err("limited");
        assert_eq!((error.code(), error.is_retryable()), ("rate_limited", true));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        let request_id = error
            .vendor_failure()
            .and_then(|failure| failure.request_id.clone());
        assert_eq!(request_id.as_deref(), Some("req_1"));
        let error = model.chat("never".into()).await.expect_err("failed");
        assert_eq!((error.code(), error.is_retryable()), ("overloaded", false));
    }

    #[tokio::test]
    async fn dropping_a_stream_closes_its_connection() {
        let chunk = json!({ "id": "a", "choices": [{ "index": 0, "delta": { "content": "hi" } }] });
        let start = http_answer(
            200,
            &[("content-type", "text/event-stream")],
            format!("data: {chunk}\n\n").as_bytes(),
            Framing::Close,
        );
        let server = Server::start(vec![vec![Act::Send(start), Act::UntilClosed]]).await;
        let mut stream = model(&server.url).stream("hi".into()).await.expect("it begins");
        assert!(matches!(
            stream.next().await,
            Some(Ok(StreamEvent::MessageStart { .. }))
        ));
        assert_eq!(server.hung_up(), 0);
        drop(stream);
        tokio::time::timeout(Duration::from_secs(5), async {
            while server.hung_up() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the server sees the end");
    }

    #[tokio::test]
    async fn the_raw_answer_is_there_when_asked_for_and_only_then() {
        let chunk = json!({ "id": "a", "model": "gpt-4o", "choices": [{ "index": 0, "delta": { "content": "hi" }, "finish_reason": "stop" }] });
        let body = format!(": keep-alive\n\ndata: {chunk}\n\ndata: [DONE]\n\n");
        let answer = http_answer(200, &[], body.as_bytes(), Framing::Chunks);
        let server = Server::start(vec![vec![Act::Send(answer.clone())], vec![Act::Send(answer)]]).await;
        let model = model(&server.url);
        let mut request = ChatRequest::from("hi");
        assert_eq!(model.chat(request.clone()).await.expect("answers").raw, None);
        request.include_raw = true;
        assert_eq!(
            model.chat(request).await.expect("answers").raw,
            Some(json!([chunk]))
        );
    }

    #[test]
    fn a_model_without_a_key_or_a_name_is_told_before_anything_is_sent() {
        let error = OpenAi::new(" ").api_key("k").build().expect_err("no name");
        assert_eq!(error.code(), "invalid_input");
        if std::env::var_os("OPENAI_API_KEY").is_none() {
            let error = OpenAi::new("gpt-4o").api_key(" ").build().expect_err("no key");
            assert!(matches!(error, Error::MissingKey { env_var, .. } if env_var == "OPENAI_API_KEY"));
        }
    }
}
