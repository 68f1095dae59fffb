//! The canaries, and every place one can be put.

use serde_json::json;
use std::sync::Arc;
use stepwell_core::{
    ChatModel, ChatRequest, Chunk, Document, Error, Explanation, Hit, Message, Part, Role, Schema, ToolCall,
    ToolSpec,
};
use stepwell_providers::{
    Anthropic, Gemini, HttpOptions, Ollama, OpenAi, OpenAiCompatible, OpenAiWire, VendorEmbedder,
    VendorReranker,
};

/// A key, the value of a header and that of a parameter: the client knows them and blots them out of whatever a
/// vendor says. The first could be a plain word.
pub(super) const KEYS: [&str; 3] = ["canary-key-71f0a2", "Canary/Header+82e1b3", "canary-query-93d2c4"];

/// The password of a proxy.
pub(super) const PROXY: &str = "canary-proxy-d796a8";

/// A token among a vendor's options.
pub(super) const OPTION: &str = "canary-option-c6a5b7";

/// All that nobody but the vendor may see. Those of an address are in one that is refused.
pub(super) const SECRETS: [&str; 8] = [
    KEYS[0],
    KEYS[1],
    KEYS[2],
    OPTION,
    "canary-organization-a4c3",
    "canary-project-b5b4",
    "canary-address-user-e887",
    "canary-address-query-f978",
];

/// Words of the request.
pub(super) const PROMPTS: [&str; 7] = [
    "canary words of the person",
    "canary words of the system",
    "canary words of arguments",
    "canary words of a result",
    "canary words of a schema",
    "canary words of a label",
    "canary words of a stop",
];

/// A request with a canary in every place of its own.
pub(super) fn request() -> ChatRequest {
    let schema =
        json!({ "type": "object", "properties": { "a": { "type": "string", "description": PROMPTS[4] } } });
    let schema = Schema::from_value(schema).expect("a schema");
    let call = ToolCall::new("call_1", "search", json!({ "a": PROMPTS[2] }));
    let result = Part::tool_result(
        &call,
        vec![Part::text(PROMPTS[3], stepwell_core::Origin::Tool)],
        false,
        stepwell_core::Origin::Tool,
    );
    let mut request = ChatRequest::new([
        Message::system(PROMPTS[1]),
        Message::user(PROMPTS[0]),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::tool(vec![result]),
        Message::user(PROMPTS[0]),
    ])
    .tool(ToolSpec::new("search", PROMPTS[4], &schema).expect("a tool"));
    request.stop_sequences = vec![PROMPTS[6].to_owned()];
    request.metadata.insert("label".to_owned(), PROMPTS[5].to_owned());
    for vendor in [
        "openai",
        "anthropic",
        "gemini",
        "vertex",
        "ollama",
        "azure",
        "acme",
    ] {
        let options = json!({ "mcp": { "authorization_token": OPTION } });
        request.provider_options.insert(vendor.to_owned(), options);
    }
    // Thoughts and raw answers are asked for, so that their paths are taken.
    request.include_raw = true;
    request
}

/// A history that every wire has to mend.
pub(super) fn broken_history() -> Vec<Message> {
    let call = ToolCall::new(PROMPTS[2], "search", json!({ "a": PROMPTS[2] }));
    vec![
        Message::new(
            Role::Assistant,
            vec![Part::text(PROMPTS[0], stepwell_core::Origin::Model)],
        ),
        Message::user(""),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::user(PROMPTS[0]),
        Message::system(PROMPTS[1]),
    ]
}

pub(super) fn hits() -> Vec<Hit> {
    let document = Document::new("d", PROMPTS[3]);
    let chunk = Chunk::of(&document, 0, 0..document.text.len()).expect("all of it");
    let hit = Hit::new(chunk, 1.0, Explanation::default());
    vec![hit.clone(), hit]
}

/// Addresses that hold what no address should.
pub(super) fn addresses() -> Vec<String> {
    vec![
        format!("http://{}@127.0.0.1:1/v1", SECRETS[6]),
        format!("http://user:{}@127.0.0.1:1/v1", SECRETS[6]),
        format!("https://127.0.0.1:1/v1?key={}", SECRETS[7]),
        format!("https://127.0.0.1:1/v1#{}", SECRETS[7]),
        format!("ftp://{}", SECRETS[6]),
        format!("{} {}", SECRETS[6], SECRETS[7]),
    ]
}

fn anthropic(url: &str, options: &HttpOptions) -> stepwell_providers::AnthropicBuilder {
    Anthropic::new("m")
        .api_key(KEYS[0])
        .base_url(url)
        .http(options.clone())
}

fn openai(wire: OpenAiWire, url: &str, options: &HttpOptions) -> stepwell_providers::OpenAiBuilder {
    OpenAi::new("m")
        .wire(wire)
        .api_key(KEYS[0])
        .organization(SECRETS[4])
        .project(SECRETS[5])
        .base_url(url)
        .http(options.clone())
}

fn gemini(url: &str, options: &HttpOptions) -> stepwell_providers::GeminiBuilder {
    Gemini::new("m")
        .api_key(KEYS[0])
        .base_url(url)
        .http(options.clone())
}

fn ollama(url: &str, options: &HttpOptions) -> stepwell_providers::OllamaBuilder {
    Ollama::new("m")
        .num_ctx(4096)
        .api_key(KEYS[0])
        .base_url(url)
        .http(options.clone())
}

fn azure(url: &str, options: &HttpOptions) -> stepwell_providers::OpenAiCompatibleBuilder {
    OpenAiCompatible::vendor("azure", "m")
        .expect("of the table")
        .api_key(KEYS[0])
        .api_version("2024-10-21")
        .query("extra", KEYS[2])
        .base_url(url)
        .http(options.clone())
}

fn own(url: &str, options: &HttpOptions) -> stepwell_providers::OpenAiCompatibleBuilder {
    OpenAiCompatible::new("acme", url, "m")
        .api_key(KEYS[0])
        .key_header("x-acme-key")
        .header("x-extra", KEYS[1])
        .header("authorization", format!("Basic {}", KEYS[1]))
        .query("sig", KEYS[2])
        .http(options.clone())
}

/// Every way to set a model up, and the keys it is given.
pub(super) fn models(url: &str, options: &HttpOptions) -> Vec<(Arc<dyn ChatModel>, Vec<&'static str>)> {
    let one = vec![KEYS[0]];
    vec![
        (
            Arc::new(anthropic(url, options).build().expect("builds")),
            one.clone(),
        ),
        (
            Arc::new(openai(OpenAiWire::Chat, url, options).build().expect("builds")),
            one.clone(),
        ),
        (
            Arc::new(
                openai(OpenAiWire::Responses, url, options)
                    .build()
                    .expect("builds"),
            ),
            one.clone(),
        ),
        (
            Arc::new(gemini(url, options).build().expect("builds")),
            one.clone(),
        ),
        (
            Arc::new(
                gemini(url, options)
                    .vertex("project", "location")
                    .build()
                    .expect("builds"),
            ),
            one.clone(),
        ),
        (Arc::new(ollama(url, options).build().expect("builds")), one),
        (
            Arc::new(azure(url, options).build().expect("builds")),
            vec![KEYS[0], KEYS[2]],
        ),
        (
            Arc::new(own(url, options).build().expect("builds")),
            KEYS.to_vec(),
        ),
    ]
}

pub(super) fn embedders(url: &str, options: &HttpOptions) -> Vec<VendorEmbedder> {
    let builders = [
        VendorEmbedder::openai("text-embedding-3-small"),
        VendorEmbedder::voyage("voyage-4"),
        VendorEmbedder::cohere("embed-v4.0"),
        VendorEmbedder::gemini("gemini-embedding-001"),
        VendorEmbedder::ollama("nomic-embed-text").width(768),
    ];
    let built = builders.map(|builder| {
        let builder = builder.api_key(KEYS[0]).base_url(url).http(options.clone());
        let builder = builder.header("x-extra", KEYS[1]).query("sig", KEYS[2]);
        builder
            .option("authorization_token", OPTION)
            .build()
            .expect("builds")
    });
    built.into()
}

pub(super) fn rerankers(url: &str, options: &HttpOptions) -> Vec<VendorReranker> {
    let builders = [
        VendorReranker::voyage("rerank-2.5"),
        VendorReranker::cohere("rerank-v4.0-pro"),
        VendorReranker::compatible("acme", url, "m"),
    ];
    let built = builders.map(|builder| {
        let builder = builder.api_key(KEYS[0]).base_url(url).http(options.clone());
        let builder = builder
            .header("x-extra", KEYS[1])
            .option("authorization_token", OPTION);
        builder.build().expect("builds")
    });
    built.into()
}

/// What becomes of each builder with this address.
pub(super) fn built(url: &str, options: &HttpOptions) -> Vec<Option<Error>> {
    vec![
        anthropic(url, options).build().err(),
        openai(OpenAiWire::Chat, url, options).build().err(),
        gemini(url, options).build().err(),
        gemini(url, options).vertex("project", "location").build().err(),
        azure(url, options).build().err(),
        own(url, options).build().err(),
        VendorEmbedder::openai("text-embedding-3-small")
            .api_key("k")
            .base_url(url)
            .build()
            .err(),
        VendorEmbedder::compatible("acme", url, "m")
            .width(3)
            .build()
            .err(),
        VendorReranker::compatible("acme", url, "m").build().err(),
    ]
}

/// Every builder there is, with all its canaries.
pub(super) fn builders() -> Vec<String> {
    let mut shown = Vec::new();
    let options = HttpOptions::default().proxy(format!("http://user:{PROXY}@127.0.0.1:1"));
    for url in addresses() {
        shown.push(format!("{:?}", anthropic(&url, &options)));
        shown.push(format!("{:#?}", openai(OpenAiWire::Chat, &url, &options)));
        shown.push(format!("{:?}", gemini(&url, &options)));
        shown.push(format!("{:?}", ollama(&url, &options)));
        shown.push(format!("{:?}", azure(&url, &options)));
        shown.push(format!("{:#?}", own(&url, &options)));
        let embedder = VendorEmbedder::compatible("acme", &url, "m").api_key(KEYS[0]);
        shown.push(format!("{:?}", embedder.header("x", KEYS[1]).option("a", OPTION)));
        let reranker = VendorReranker::compatible("acme", &url, "m").api_key(KEYS[0]);
        shown.push(format!("{:?}", reranker.header("x", KEYS[1]).option("a", OPTION)));
    }
    shown.push(format!("{options:?}"));
    shown
}
