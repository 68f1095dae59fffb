//! [`Client`]: the same few things done by each of those that are measured.

use async_openai::{
    config::OpenAIConfig,
    types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs},
};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use std::{
    pin::Pin,
    time::{Duration, Instant},
};
use stepwell_core::{ChatModel, ChatRequest};
use stepwell_providers::{Anthropic, OpenAi};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// reqwest, the body split into events, each parsed into a `Value`.
    Floor,
    Stepwell,
    StepwellAnthropic,
    AsyncOpenAi,
    GenAi,
}

/// A client is made once and asked often, as a program would.
pub struct Client {
    kind: Kind,
    base: String,
    http: reqwest::Client,
    ours: Box<dyn ChatModel>,
    async_openai: async_openai::Client<OpenAIConfig>,
    genai: genai::Client,
}

/// One item per event of the answer.
type Events = Pin<Box<dyn Stream<Item = ()>>>;

impl Client {
    /// `path` says how the server's streams come.
    pub fn new(kind: Kind, port: u16, path: &str) -> Self {
        let base = format!("http://127.0.0.1:{port}{path}/v1");
        let http = reqwest::Client::new();
        let config = OpenAIConfig::new().with_api_base(&base).with_api_key("x");
        let target = format!("{base}/");
        let genai = genai::Client::builder()
            .with_reqwest(http.clone())
            .with_service_target_resolver_fn(
                move |asked: genai::ServiceTarget| -> Result<genai::ServiceTarget, genai::resolver::Error> {
                    Ok(genai::ServiceTarget {
                        endpoint: genai::resolver::Endpoint::from_owned(target.clone()),
                        auth: genai::resolver::AuthData::from_single("x"),
                        model: genai::ModelIden::new(genai::adapter::AdapterKind::OpenAI, asked.model.model_name),
                    })
                },
            )
            .build()
            .expect("builds");
        let ours: Box<dyn ChatModel> = if kind == Kind::StepwellAnthropic {
            Box::new(Anthropic::new("m").api_key("x").base_url(base.trim_end_matches("/v1")).build().expect("builds"))
        } else {
            Box::new(OpenAi::new("gpt-4o-mini").api_key("x").base_url(&base).build().expect("builds"))
        };
        Self {
            kind,
            ours,
            async_openai: async_openai::Client::with_config(config).with_http_client(http.clone()),
            genai,
            http,
            base,
        }
    }

    /// An open stream.
    pub async fn open(&self) -> Events {
        let base = &self.base;
        match self.kind {
            Kind::Floor => {
                let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "stream": true });
                let reply = self.http.post(format!("{base}/chat/completions")).json(&body).send().await.expect("an answer");
                Box::pin(split(reply).map(|_value| ()))
            }
            Kind::Stepwell | Kind::StepwellAnthropic => {
                let stream = self.ours.stream(ChatRequest::from("hi")).await.expect("an answer");
                Box::pin(stream.map(|event| {
                    event.expect("a good event");
                }))
            }
            Kind::AsyncOpenAi => {
                let message = ChatCompletionRequestUserMessageArgs::default().content("hi").build().expect("a message");
                let request = CreateChatCompletionRequestArgs::default()
                    .model("gpt-4o-mini")
                    .messages(vec![message.into()])
                    .build()
                    .expect("a request");
                let stream = self.async_openai.chat().create_stream(request).await.expect("an answer");
                Box::pin(stream.map(|event| {
                    event.expect("a good event");
                }))
            }
            Kind::GenAi => {
                let request = genai::chat::ChatRequest::new(vec![genai::chat::ChatMessage::user("hi")]);
                let stream = self.genai.exec_chat_stream("gpt-4o-mini", request, None).await.expect("an answer").stream;
                Box::pin(stream.map(|event| {
                    event.expect("a good event");
                }))
            }
        }
    }

    /// How many events a whole stream has.
    pub async fn stream(&self) -> usize {
        self.open().await.count().await
    }

    /// A short answer, whole.
    pub async fn call(&self) {
        if self.kind == Kind::Floor {
            let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "stream": true });
            let url = format!("{}/chat/completions", self.base);
            let reply = self.http.post(url).json(&body).send().await.expect("an answer");
            assert!(reply.bytes().await.expect("a body").len() > 500);
        } else {
            assert!(self.stream().await > 2);
        }
    }

    /// The longest time between two events.
    pub async fn longest_gap(&self) -> Duration {
        let mut stream = self.open().await;
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while stream.next().await.is_some() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    }
}

/// The events of a body, split and parsed the plain way.
fn split(reply: reqwest::Response) -> impl Stream<Item = Value> {
    let mut body = Box::pin(reply.bytes_stream());
    let mut buffer: Vec<u8> = Vec::new();
    let mut ready = std::collections::VecDeque::new();
    futures::stream::poll_fn(move |cx| {
        loop {
            if let Some(value) = ready.pop_front() {
                return std::task::Poll::Ready(Some(value));
            }
            match futures::ready!(body.poll_next_unpin(cx)) {
                None => return std::task::Poll::Ready(None),
                Some(bytes) => buffer.extend_from_slice(&bytes.expect("a piece")),
            }
            let mut at = 0;
            while let Some(end) = buffer[at..].windows(2).position(|two| two == b"\n\n") {
                let event = &buffer[at..at + end];
                at += end + 2;
                if let Some(data) = event.strip_prefix(b"data: ").filter(|data| data.first() == Some(&b'{')) {
                    ready.push_back(serde_json::from_slice(data).expect("JSON"));
                }
            }
            buffer.drain(..at);
        }
    })
}
