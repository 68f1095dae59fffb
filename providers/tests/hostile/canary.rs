//! Canaries in every slot a secret or a prompt can be in, every failure forced, and everything that is shown or logged
//! searched for them.
//!
//! The search takes over the process's log, and keys and addresses of the registry come from the environment; so it
//! runs in a process of its own, against servers of this one.

mod echo;
mod slots;
mod watch;

use crate::{
    http2::{self, Then},
    server::{Act, Server, answer, head},
    tls::Authority,
    wires::{shown, wires},
};
use echo::{echoes, hostile};
use futures::StreamExt;
use slots::{KEYS, PROMPTS, SECRETS, request};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::{ChatModel, EmbedKind, Embedder, Error, Reranker};
use stepwell_providers::{
    Anthropic, Cassette, Gemini, HttpOptions, ModelOptions, Ollama, OpenAi, OpenAiCompatible, OpenAiWire,
    Registry, VendorEmbedder, doctor,
    layers::{Breaker, BreakerOptions, FallbackOptions, ModelExt, RetryOptions, TimeoutOptions},
};
use watch::{look, see, watch};

/// Addresses of the parent's servers, for the child.
const ECHO: &str = "STEPWELL_CANARY_ECHO";
const STALL: &str = "STEPWELL_CANARY_STALL";
const SECURE: &str = "STEPWELL_CANARY_SECURE";
const SECOND: &str = "STEPWELL_CANARY_SECOND";
/// The authorities of the last two.
const CA: &str = "STEPWELL_CANARY_CA";

/// Calls of each vendor by its name: most share a wire, and all take turns at the echoes.
const FEW: usize = 15;

/// The variables of a vendor's key and address, read from what is said where either is wrong.
fn variables(failed: [Option<Error>; 2]) -> Vec<String> {
    let mut found = Vec::new();
    for error in failed.into_iter().flatten() {
        match error {
            Error::MissingKey { env_var, .. } => found.push(env_var),
            Error::InvalidInput { message, .. } => {
                let (_, variable) = message.rsplit_once("or in ").expect("it names its variable");
                found.push(variable.to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

/// Every variable that a vendor of this build reads: keys, and addresses.
fn environment() -> (Vec<String>, Vec<String>) {
    let nowhere = "http://127.0.0.1:1";
    let mut all: Vec<String> = Vec::new();
    all.extend(variables([
        Anthropic::new("m").base_url(nowhere).build().err(),
        Anthropic::new("m").api_key("k").base_url("x").build().err(),
    ]));
    all.extend(variables([
        OpenAi::new("m").base_url(nowhere).build().err(),
        OpenAi::new("m").api_key("k").base_url("x").build().err(),
    ]));
    all.extend(variables([
        Gemini::new("m").base_url(nowhere).build().err(),
        Gemini::new("m").api_key("k").base_url("x").build().err(),
    ]));
    all.extend(variables([
        VendorEmbedder::voyage("voyage-4").base_url(nowhere).build().err(),
        VendorEmbedder::voyage("voyage-4")
            .api_key("k")
            .base_url("x")
            .build()
            .err(),
    ]));
    all.extend(variables([
        VendorEmbedder::cohere("embed-v4.0")
            .base_url(nowhere)
            .build()
            .err(),
        VendorEmbedder::cohere("embed-v4.0")
            .api_key("k")
            .base_url("x")
            .build()
            .err(),
    ]));
    all.extend(["OLLAMA_API_KEY", "OLLAMA_BASE_URL"].map(str::to_owned));
    for vendor in OpenAiCompatible::vendors() {
        let builder = || OpenAiCompatible::vendor(vendor, "m").expect("of the table");
        let named = variables([
            builder().base_url(nowhere).build().err(),
            builder().api_key("k").base_url("x").build().err(),
        ]);
        // Local servers need no key, and read one all the same.
        if let [base] = named.as_slice() {
            all.push(base.replace("_BASE_URL", "_API_KEY"));
        }
        all.extend(named);
    }
    all.into_iter()
        .partition(|name| !name.ends_with("_URL") && !name.ends_with("_ENDPOINT"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_no_prompt_is_shown_or_logged_whatever_fails() {
    let echo = Server::start(hostile).await;
    let stall = Server::always(vec![
        Act::Send(head(200, &["content-type: text/event-stream"])),
        Act::Stall,
    ])
    .await;
    let ours = Authority::new("ours");
    let secure = Server::secure(
        ours.issue("localhost", 2020, 2090),
        vec![Act::Send(answer(500, "application/json", b"{}"))],
    )
    .await;
    // HTTP/2 has a log of its own.
    let broken = wires()[1].begun().as_bytes();
    let second = http2::server("text/event-stream", vec![], broken, Then::Reset).await;
    let (keys, addresses) = environment();
    assert!(keys.len() > 15 && addresses.len() > 15, "{keys:?} {addresses:?}");
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args([
            "--exact",
            "canary::everything_is_tried_and_searched",
            "--nocapture",
        ])
        .env(ECHO, &echo.url)
        .env(STALL, &stall.url)
        .env(SECURE, &secure.url)
        .env("RUST_BACKTRACE", "1")
        .env(SECOND, &second.url)
        .env(CA, ours.pem() + &second.pem);
    for name in &keys {
        child.env(name, KEYS[0]);
    }
    for name in &addresses {
        child.env(name, &echo.url);
    }
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .expect("it ran")
        .expect("it started");
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    let line = printed.lines().find(|line| line.starts_with("canaries: "));
    println!("{}", line.expect("it counted"));
    // What the process itself printed, its panics among it.
    for word in SECRETS.iter().chain(&PROMPTS) {
        assert!(!printed.contains(word), "{word} was printed");
    }
    // The keys did go out, or nothing was tried.
    let requests = echo.requests();
    assert!(requests.iter().filter(|seen| seen.head.contains(KEYS[0])).count() > 500);
    assert!(requests.iter().any(|seen| seen.body.contains(PROMPTS[0])));
    for word in SECRETS {
        // A password in an address never leaves: such an address is refused.
        let is_sent = requests
            .iter()
            .any(|seen| seen.head.contains(word) || seen.body.contains(word));
        assert_eq!(is_sent, !word.contains("address"), "{word}");
    }
}

/// What is counted.
#[derive(Default)]
struct Count {
    calls: usize,
    /// Those that the model which is asked was given: nobody else can tell them from words.
    keys: Vec<&'static str>,
    failures: BTreeMap<&'static str, usize>,
}

impl Count {
    /// Searches a failure: all it shows, what its attempts tell, and the vendor's own sentence for keys.
    fn failure(&mut self, error: &Error) {
        self.calls += 1;
        *self.failures.entry(error.code()).or_default() += 1;
        see("error", &shown(error));
        if let Some(message) = error.vendor_message() {
            for key in &self.keys {
                let vendor = error.vendor_failure().map(|failure| failure.provider.as_str());
                assert!(!message.contains(key), "{vendor:?}: its sentence still has {key}");
            }
        }
        if let Some(failure) = error.vendor_failure() {
            see(
                "failure",
                &format!("{failure} {failure:?} {:?}", failure.attempts),
            );
        }
        if let Some(partial) = error.partial() {
            see("partial", &format!("{partial:?} {:?}", partial.attempts));
        }
    }

    async fn chat(&mut self, model: &dyn ChatModel) {
        see("model", &format!("{model:?} {model:#?}"));
        let request = request();
        see("request", &format!("{request:?}"));
        match model.stream(request).await {
            Err(error) => self.failure(&error),
            Ok(mut stream) => {
                let mut failed = None;
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(stepwell_core::StreamEvent::Warning(warning)) => {
                            see("warning", &format!("{warning:?}"));
                        }
                        Ok(stepwell_core::StreamEvent::Attempt(attempt)) => {
                            see("attempt", &format!("{attempt:?}"));
                        }
                        Ok(_) => {}
                        Err(error) => failed = Some(error),
                    }
                }
                match failed {
                    Some(error) => self.failure(&error),
                    None => self.calls += 1,
                }
            }
        }
    }

    async fn embed(&mut self, embedder: &dyn Embedder) {
        see("embedder", &format!("{embedder:?}"));
        match embedder.embed(&[PROMPTS[0]], EmbedKind::Query).await {
            Err(error) => self.failure(&error),
            Ok(_) => self.calls += 1,
        }
    }

    async fn rerank(&mut self, reranker: &dyn Reranker) {
        see("reranker", &format!("{reranker:?}"));
        let hits = slots::hits();
        match reranker.rerank(PROMPTS[0], hits, 3).await {
            Err(error) => self.failure(&error),
            Ok(_) => self.calls += 1,
        }
    }
}

/// Only as a child of the test above.
#[tokio::test]
async fn everything_is_tried_and_searched() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(echo), Some(stall), Some(secure)) = (variable(ECHO), variable(STALL), variable(SECURE)) else {
        return;
    };
    let second = variable(SECOND).expect("the parent's");
    watch();
    let mut count = Count::default();
    of_the_registry(&mut count).await;
    let brief = HttpOptions::default()
        .idle_timeout(Duration::from_millis(60))
        .first_event_timeout(Duration::from_millis(60));
    let trusting = HttpOptions::default().root_certificate(variable(CA).expect("the parent's"));
    let places = [
        // Everything the echo server knows, the retry and the fallback around it included.
        (echo.clone(), HttpOptions::default(), echoes()),
        // Nobody there, silence, a stranger's certificate, our own, plain words at a secure port and the reverse.
        ("http://127.0.0.1:1".to_owned(), HttpOptions::default(), 1),
        (stall.clone(), brief.clone(), 1),
        (secure.clone(), HttpOptions::default(), 1),
        (secure.clone(), trusting.clone(), 2),
        (second, trusting, 3),
        (
            echo.replace("http://", "https://"),
            HttpOptions::default().connect_timeout(Duration::from_millis(80)),
            1,
        ),
        (secure.replace("https://", "http://"), brief, 1),
        (
            echo.clone(),
            HttpOptions::default().max_event_bytes(40).max_response_bytes(400),
            6,
        ),
        (
            "http://acme.invalid".to_owned(),
            HttpOptions::default().proxy(echo.replace("http://", &format!("http://user:{}@", slots::PROXY))),
            4,
        ),
    ];
    for (url, options, times) in places {
        for (model, keys) in slots::models(&url, &options) {
            count.keys = keys;
            for _ in 0..times {
                count.chat(&*model).await;
            }
        }
        count.keys = vec![KEYS[0]];
        for embedder in slots::embedders(&url, &options) {
            for _ in 0..times {
                count.embed(&embedder).await;
            }
        }
        for reranker in slots::rerankers(&url, &options) {
            for _ in 0..times {
                count.rerank(&reranker).await;
            }
        }
    }
    addresses_with_passwords(&mut count);
    layered(&mut count, &echo).await;
    cassettes(&mut count, &echo).await;
    doctors();
    let Count { calls, failures, .. } = count;
    let kinds: Vec<String> = failures
        .iter()
        .map(|(code, times)| format!("{times} {code}"))
        .collect();
    for code in [
        "unauthorized",
        "rejected",
        "not_found",
        "quota_exceeded",
        "rate_limited",
        "overloaded",
        "transport",
        "stream_truncated",
        "invalid_response",
        "timeout",
        "limit_exceeded",
        "invalid_input",
    ] {
        assert!(failures.contains_key(code), "{code} was not forced: {kinds:?}");
    }
    // What logs in the stack below did log, or nothing was listened to.
    let (texts, bytes, found, places) = look();
    for place in [
        "log of rustls",
        "log of reqwest",
        "event of h2",
        "span of h2",
        "span of stepwell",
    ] {
        assert!(
            places.iter().any(|seen| seen.starts_with(place)),
            "{place}: {places:?}"
        );
    }
    assert!(found.is_empty(), "{} canaries: {found:#?}", found.len());
    println!(
        "canaries: {} in their slots, {calls} calls, {} failures ({}), {texts} texts of {bytes} bytes searched, {} found",
        SECRETS.len() + PROMPTS.len(),
        failures.values().sum::<usize>(),
        kinds.join(", "),
        found.len()
    );
}

/// Every vendor by its name, with key and address from the environment.
async fn of_the_registry(count: &mut Count) {
    count.keys = vec![KEYS[0]];
    let registry = Registry::with_vendors();
    see("registry", &format!("{registry:?} {registry:#?}"));
    for vendor in registry.vendors() {
        let model = registry.model_with(&format!("{vendor}/m"), ModelOptions::default().bare());
        let model = model.unwrap_or_else(|error| panic!("{vendor}: {error}"));
        // A key of the environment is not for a server of plain HTTP nearby: it is not sent, and not known.
        count.keys = if vendor == "ollama" {
            Vec::new()
        } else {
            vec![KEYS[0]]
        };
        for _ in 0..FEW {
            count.chat(&*model).await;
        }
    }
    count.keys = vec![KEYS[0]];
    for vendor in [
        "openai",
        "gemini",
        "google",
        "voyage",
        "cohere",
        "mistral",
        "openrouter",
    ] {
        let model = match vendor {
            "gemini" | "google" => "gemini-embedding-001",
            "voyage" => "voyage-4",
            "cohere" => "embed-v4.0",
            "mistral" => "mistral-embed",
            "openrouter" => "openai/text-embedding-3-small",
            _ => "text-embedding-3-small",
        };
        let embedder = registry.embedder(&format!("{vendor}/{model}"));
        let embedder = embedder.unwrap_or_else(|error| panic!("{vendor}: {error}"));
        for _ in 0..FEW {
            count.embed(&*embedder).await;
        }
    }
    for vendor in ["voyage", "cohere", "openrouter", "together", "vllm", "llamacpp"] {
        let reranker = registry.reranker(&format!("{vendor}/rerank"));
        let reranker = reranker.unwrap_or_else(|error| panic!("{vendor}: {error}"));
        for _ in 0..FEW {
            count.rerank(&*reranker).await;
        }
    }
}

/// Addresses that hold a password or a key are refused, and not repeated.
fn addresses_with_passwords(count: &mut Count) {
    for url in slots::addresses() {
        let options = HttpOptions::default();
        for failed in slots::built(&url, &options) {
            count.failure(&failed.expect("refused"));
        }
    }
    for key in [format!("{}\n", KEYS[0]), format!("{}\u{e9}\r\n", KEYS[0])] {
        let error = OpenAi::new("m")
            .api_key(key)
            .build()
            .expect_err("no header carries it");
        count.failure(&error);
    }
}

/// Every layer around models that fail in every way.
async fn layered(count: &mut Count, echo: &str) {
    let records: Arc<Mutex<String>> = Arc::default();
    let log = records.clone();
    let at_once = || {
        RetryOptions::default()
            .first_delay(Duration::ZERO)
            .max_server_delay(Duration::ZERO)
    };
    let models = slots::models(echo, &HttpOptions::default());
    for (model, _) in &models {
        let log = log.clone();
        let stack = model
            .clone()
            .with_breaker(Breaker::new(BreakerOptions::default().failures(1000)))
            .with_retry(at_once().max_delay(Duration::ZERO))
            .with_fallback([models[0].0.clone()], FallbackOptions::default())
            .with_timeouts(TimeoutOptions::default())
            .with_usage_hook(move |record| {
                let mut log = log.lock().expect("no panic inside");
                write!(log, "{record:?}").expect("a String takes all");
            })
            .with_trace();
        for _ in 0..echoes() / 3 {
            count.chat(&*stack).await;
        }
    }
    see("records", &records.lock().expect("no panic inside"));
}

/// Prompts and answers are on a cassette, for that is its use; keys are not.
async fn cassettes(count: &mut Count, echo: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |at: usize| folder.path().join(format!("{at}.jsonl"));
    let all = slots::models(echo, &HttpOptions::default()).len();
    for at in 0..all {
        let cassette = Cassette::record(path(at)).expect("a new file");
        see("cassette", &format!("{cassette:?}"));
        let (model, keys) = slots::models(echo, &HttpOptions::default().cassette(cassette)).swap_remove(at);
        for _ in 0..echoes() / 3 {
            count.keys.clone_from(&keys);
            count.chat(&*model).await;
        }
        drop(model);
        let text = std::fs::read_to_string(path(at)).expect("written");
        assert!(text.lines().count() > echoes() / 4 && text.contains(PROMPTS[0]));
        for key in keys {
            assert!(!text.contains(key), "{key} is on the cassette {at}");
            assert!(
                !text.contains(&key.replace('/', "\\/")),
                "{key} is on the cassette {at}"
            );
        }
        let asked = text.lines().skip(1).map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["request"].to_string()
        });
        let asked: String = asked.collect();
        assert!(
            !asked.contains(slots::OPTION),
            "a token of the options is on the cassette {at}"
        );
    }
    // A call that is not on it is told without its words.
    let played = HttpOptions::default().cassette(Cassette::play(path(1)).expect("ours"));
    let other = OpenAi::new("another").wire(OpenAiWire::Chat).http(played);
    let error = other.build().expect("builds").chat(PROMPTS[0].into()).await;
    count.failure(&error.expect_err("not recorded"));
}

/// What the doctor reports of a history in need of mending.
fn doctors() {
    for vendor in Registry::with_vendors().vendors() {
        let messages = slots::broken_history();
        if let Ok(mended) = doctor::examine(&format!("{vendor}/m"), &messages) {
            assert!(!mended.changes.is_empty(), "{vendor}");
            see("changes", &format!("{:?}", mended.changes));
            see("warnings", &format!("{:?}", mended.warnings()));
        }
    }
    let builders = format!("{:?} {:?}", Ollama::new("m").api_key(KEYS[0]), slots::builders());
    see("builders", &builders);
}
