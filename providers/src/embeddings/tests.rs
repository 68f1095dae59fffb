use super::{NumberFormat, VendorEmbedder, VendorEmbedderBuilder};
use crate::fixtures::{Act, Framing, Server, http_answer, shown};
use serde_json::{Value, json};
use std::time::Duration;
use stepwell_core::{Cost, EmbedKind, Embedder, Error};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, method},
};

fn answer(status: u16, body: &Value) -> Vec<Act> {
    raw(status, &body.to_string())
}

fn raw(status: u16, body: &str) -> Vec<Act> {
    vec![Act::Send(http_answer(
        status,
        &[("content-type", "application/json")],
        body.as_bytes(),
        Framing::Length,
    ))]
}

/// An answer of OpenAI's form; each vector is the unit vector of its text's number.
fn vectors(places: &[(usize, usize)]) -> Value {
    let data: Vec<Value> = places
        .iter()
        .map(|&(index, number)| json!({ "index": index, "embedding": unit(number) }))
        .collect();
    json!({ "data": data, "usage": { "prompt_tokens": places.len(), "total_tokens": places.len() } })
}

fn unit(number: usize) -> Vec<f32> {
    (0..4)
        .map(|at| if at == number % 4 { 1.0 } else { 0.0 })
        .collect()
}

fn four(url: &str) -> VendorEmbedderBuilder {
    VendorEmbedder::compatible("acme", url, "m")
        .width(4)
        .concurrency(1)
}

fn numbers(embeddings: &stepwell_core::Embeddings) -> Vec<usize> {
    embeddings
        .rows()
        .map(|row| row.iter().position(|value| *value > 0.5).expect("a unit vector"))
        .collect()
}

#[tokio::test]
async fn rows_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer() {
    let server = Server::start(vec![
        answer(200, &vectors(&[(1, 1), (0, 0)])),
        answer(200, &vectors(&[(0, 2), (1, 3)])),
        answer(200, &vectors(&[(0, 0)])),
    ])
    .await;
    let embedder = four(&server.url).max_batch_texts(2).build().expect("builds");
    let made = embedder
        .embed(&["a", "b", "c", "d", "e"], EmbedKind::Document)
        .await
        .expect("vectors");
    assert_eq!(numbers(&made), [0, 1, 2, 3, 0]);
    assert_eq!(made.usage.input_tokens, Some(5));
    let asked: Vec<Value> = server
        .requests()
        .iter()
        .map(|seen| seen.json()["input"].clone())
        .collect();
    assert_eq!(asked, [json!(["a", "b"]), json!(["c", "d"]), json!(["e"])]);
    assert_eq!(server.requests()[0].path, "/embeddings");
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_fails_and_never_becomes_a_vector() {
    let wide =
        json!({ "data": [{ "index": 0, "embedding": [1.0, 0.0] }, { "index": 1, "embedding": unit(1) }] });
    let unindexed = json!({ "data": [{ "embedding": unit(0) }, { "index": 1, "embedding": unit(1) }] });
    // 0x7fc00000 is no number, 0x7f800000 is infinite; three noughts follow.
    let (nan, infinite) = ("AADAfwAAAAAAAAAAAAAAAA==", "AACAfwAAAAAAAAAAAAAAAA==");
    let of = |embedding: Value| json!({ "data": [{ "index": 0, "embedding": embedding }, { "index": 1, "embedding": unit(1) }] });
    let cases = [
        (vectors(&[(0, 0)]).to_string(), "1 vectors for 2 texts"),
        (vectors(&[(0, 0), (0, 1)]).to_string(), "two vectors for text 0"),
        (vectors(&[(0, 0), (2, 1)]).to_string(), "a vector for text 2 of 2"),
        (
            vectors(&[(0, 0), (1, 1), (2, 2)]).to_string(),
            "3 vectors for 2 texts",
        ),
        (wide.to_string(), "2 numbers where 4 were expected"),
        (unindexed.to_string(), "without its index"),
        (of(json!(nan)).to_string(), "a number that is none"),
        (of(json!(infinite)).to_string(), "a number that is none"),
        (of(json!("AACAfwAA")).to_string(), "not in the format float"),
        (of(json!([0, 0, 0, 0])).to_string(), "noughts"),
        (
            r#"{"data":[{"index":0,"embedding":[NaN,0,0,0]}]}"#.to_owned(),
            "is not the JSON",
        ),
        (of(json!([null, 0, 0, 0])).to_string(), "is not the JSON"),
        (of(json!("canary!")).to_string(), "is not the JSON"),
        ("{}".to_owned(), "is not the JSON"),
    ];
    let scripts = cases.iter().map(|(body, _)| raw(200, body)).collect();
    let server = Server::start(scripts).await;
    let embedder = four(&server.url).build().expect("builds");
    for (body, message) in &cases {
        let error = embedder
            .embed(&["a", "b"], EmbedKind::Document)
            .await
            .expect_err(body);
        assert_eq!(error.code(), "invalid_response", "{body}");
        assert!(error.to_string().contains(message), "{error}\n{body}");
        assert!(!shown(&error).contains("canary"));
    }
    assert_eq!(server.requests().len(), cases.len(), "nothing is tried twice");
}

#[tokio::test]
async fn a_limit_in_the_second_batch_does_not_lose_the_first() {
    let limited = json!({ "error": { "message": "slow down", "type": "rate_limit_error" } });
    let mut limited_answer = http_answer(
        429,
        &[("content-type", "application/json"), ("retry-after", "2")],
        limited.to_string().as_bytes(),
        Framing::Length,
    );
    let server = Server::start(vec![
        answer(200, &vectors(&[(0, 0), (1, 1)])),
        vec![Act::Send(std::mem::take(&mut limited_answer))],
        answer(200, &vectors(&[(0, 2), (1, 3)])),
        answer(200, &vectors(&[(0, 0), (1, 1)])),
        answer(200, &vectors(&[(0, 2), (1, 3)])),
    ])
    .await;
    let embedder = four(&server.url).max_batch_texts(2).build().expect("builds");
    let texts = ["a", "b", "c", "d"];
    let error = embedder
        .embed(&texts, EmbedKind::Document)
        .await
        .expect_err("limited");
    assert_eq!((error.code(), error.is_retryable()), ("rate_limited", true));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(error.vendor_message(), Some("slow down"));

    let made = embedder
        .embed(&texts, EmbedKind::Document)
        .await
        .expect("the rest");
    assert_eq!(numbers(&made), [0, 1, 2, 3]);
    assert_eq!(
        made.usage.input_tokens,
        Some(4),
        "the first batch was paid for too"
    );
    let asked: Vec<Value> = server
        .requests()
        .iter()
        .map(|seen| seen.json()["input"].clone())
        .collect();
    assert_eq!(asked[2], json!(["c", "d"]), "only what was missing");
    // What was kept is gone with that: the same texts are asked again.
    let made = embedder.embed(&texts, EmbedKind::Document).await.expect("anew");
    assert_eq!(made.usage.input_tokens, Some(4));
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn batches_run_side_by_side_and_those_on_their_way_are_let_through_when_one_fails() {
    let server = MockServer::start().await;
    let asked = |text: &str| Mock::given(method("POST")).and(body_partial_json(json!({ "input": [text] })));
    let slow = |number: usize| {
        ResponseTemplate::new(200)
            .set_body_json(vectors(&[(0, number)]))
            .set_delay(Duration::from_millis(150))
    };
    asked("a").respond_with(slow(0)).expect(1).mount(&server).await;
    asked("b")
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(1)
        .expect(1)
        .mount(&server)
        .await;
    asked("b").respond_with(slow(1)).mount(&server).await;
    asked("c").respond_with(slow(2)).expect(1).mount(&server).await;
    asked("d").respond_with(slow(3)).expect(1).mount(&server).await;
    let embedder = four(&server.uri())
        .max_batch_texts(1)
        .concurrency(3)
        .build()
        .expect("builds");
    let texts = ["a", "b", "c", "d"];
    let error = embedder
        .embed(&texts, EmbedKind::Query)
        .await
        .expect_err("overloaded");
    assert_eq!(error.code(), "overloaded");
    let made = embedder.embed(&texts, EmbedKind::Query).await.expect("the rest");
    assert_eq!(numbers(&made), [0, 1, 2, 3]);
    // Each of `a`, `c`, `d` was asked once over both calls: the mocks check that when they go.
}

#[tokio::test]
async fn a_call_that_is_dropped_keeps_what_had_come() {
    let server = Server::start(vec![
        answer(200, &vectors(&[(0, 0)])),
        vec![Act::UntilClosed],
        answer(200, &vectors(&[(0, 1)])),
    ])
    .await;
    let embedder = four(&server.url).max_batch_texts(1).build().expect("builds");
    let texts = ["a", "b"];
    let cut = tokio::time::timeout(
        Duration::from_millis(500),
        embedder.embed(&texts, EmbedKind::Document),
    );
    assert!(cut.await.is_err(), "it waits for the second batch");
    let made = embedder
        .embed(&texts, EmbedKind::Document)
        .await
        .expect("the rest");
    assert_eq!(numbers(&made), [0, 1]);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_empty_text_is_refused_before_anything_is_sent_and_no_text_needs_no_call() {
    let embedder = four("http://127.0.0.1:1").build().expect("builds");
    let error = embedder
        .embed(&["a", ""], EmbedKind::Query)
        .await
        .expect_err("empty");
    assert_eq!(error.code(), "invalid_input");
    assert!(error.to_string().contains("text 2 of 2"));
    let none = embedder
        .embed(&[], EmbedKind::Query)
        .await
        .expect("nothing to do");
    assert!(none.is_empty() && none.cost.is_none());
}

#[cfg(feature = "gemini")]
#[tokio::test]
async fn a_text_that_the_vendor_would_cut_in_silence_is_refused_or_told() {
    let long = "word ".repeat(3_000);
    let embedder = |url: &str| {
        VendorEmbedder::gemini("gemini-embedding-001")
            .api_key("k")
            .base_url(url)
    };
    let error = embedder("http://127.0.0.1:1")
        .build()
        .expect("builds")
        .embed(&["fits", &long], EmbedKind::Document)
        .await
        .expect_err("too long");
    assert!(matches!(&error, Error::LimitExceeded { what, .. } if what.contains("text 2 of 2")));
    let body = json!({ "embeddings": [{ "values": vec![0.5; 3072] }] });
    let server = Server::start(vec![answer(200, &body)]).await;
    let made = embedder(&server.url)
        .truncate(true)
        .build()
        .expect("builds")
        .embed(&[&long], EmbedKind::Document)
        .await
        .expect("cut");
    assert_eq!(made.warnings[0].code, "input_truncated");
}

#[tokio::test]
async fn a_vendor_that_never_cuts_is_sent_a_text_that_fits_when_cutting_is_allowed() {
    let server = Server::start(vec![answer(200, &vectors(&[(0, 0)]))]).await;
    let embedder = four(&server.url)
        .max_input_tokens(3)
        .truncate(true)
        .build()
        .expect("builds");
    let made = embedder
        .embed(&["one two three four five"], EmbedKind::Document)
        .await
        .expect("cut");
    assert_eq!(server.requests()[0].json()["input"], json!(["one two three "]));
    assert_eq!(made.warnings.len(), 1);
}

#[tokio::test]
async fn prefixes_stand_before_the_texts_and_kinds_are_told_apart() {
    let server = Server::start(vec![
        answer(200, &vectors(&[(0, 0)])),
        answer(200, &vectors(&[(0, 0)])),
    ])
    .await;
    let embedder = four(&server.url)
        .prefixes("query: ", "passage: ")
        .build()
        .expect("builds");
    embedder.embed(&["x"], EmbedKind::Query).await.expect("one");
    embedder.embed(&["x"], EmbedKind::Document).await.expect("one");
    assert_eq!(server.requests()[0].json()["input"], json!(["query: x"]));
    assert_eq!(server.requests()[1].json()["input"], json!(["passage: x"]));
}

#[tokio::test]
async fn vectors_that_are_not_of_length_1_are_brought_there_and_others_stay_as_they_came() {
    let body = json!({ "data": [{ "index": 0, "embedding": [3.0, 0.0, 4.0, 0.0] }, { "index": 1, "embedding": [1.0003, 0.0, 0.0, 0.0] }] });
    let server = Server::start(vec![answer(200, &body), answer(200, &body)]).await;
    let made = four(&server.url)
        .build()
        .expect("builds")
        .embed(&["a", "b"], EmbedKind::Query)
        .await
        .expect("two");
    assert_eq!(made.values, [0.6, 0.0, 0.8, 0.0, 1.0003, 0.0, 0.0, 0.0]);
    let raw = four(&server.url).normalize(false).build().expect("builds");
    assert!(!raw.info().is_normalized);
    let made = raw.embed(&["a", "b"], EmbedKind::Query).await.expect("two");
    assert_eq!(made.values[..4], [3.0, 0.0, 4.0, 0.0]);
}

#[tokio::test]
async fn a_width_nobody_knows_is_asked_of_the_host_or_learnt_from_one_text() {
    let server = Server::start(vec![answer(200, &vectors(&[(0, 0)]))]).await;
    let unknown = || VendorEmbedder::compatible("acme", &server.url, "m");
    let error = unknown().build().expect_err("no width");
    assert_eq!(error.code(), "invalid_input");
    assert!(error.to_string().contains("acme/m"));
    let embedder = unknown().probe().await.expect("learns it");
    assert_eq!(embedder.info().dimension, 4);
}

#[tokio::test]
async fn money_is_the_vendors_own_sum_or_the_catalogues_rounded_once_over_all_batches() {
    let stated = json!({ "data": [{ "index": 0, "embedding": unit(0) }], "usage": { "prompt_tokens": 7, "cost": 0.000_002 } });
    let server = Server::start(vec![answer(200, &stated), answer(200, &stated)]).await;
    let made = four(&server.url)
        .max_batch_texts(1)
        .build()
        .expect("builds")
        .embed(&["a", "b"], EmbedKind::Query)
        .await
        .expect("two");
    assert_eq!(made.cost, Some(Cost { micro_usd: 4 }));

    let wide =
        json!({ "data": [{ "index": 0, "embedding": vec![1.0; 1536] }], "usage": { "prompt_tokens": 30 } });
    let server = Server::start(vec![answer(200, &wide), answer(200, &wide)]).await;
    let made = VendorEmbedder::openai("text-embedding-3-small")
        .api_key("k")
        .base_url(&server.url)
        .max_batch_texts(1)
        .build()
        .expect("builds")
        .embed(&["a", "b"], EmbedKind::Query)
        .await
        .expect("two");
    // 60 tokens at $0.02 a million are 1.2 millionths.
    assert_eq!(made.cost, Some(Cost { micro_usd: 2 }));

    let unpriced = json!({ "data": [{ "index": 0, "embedding": unit(0) }], "usage": { "prompt_tokens": 7 } });
    let server = Server::start(vec![answer(200, &unpriced)]).await;
    let made = four(&server.url)
        .build()
        .expect("builds")
        .embed(&["a"], EmbedKind::Query)
        .await
        .expect("one");
    assert_eq!(made.cost, None);
}

#[test]
fn whatever_changes_the_vectors_changes_the_fingerprint() {
    let of =
        |builder: VendorEmbedderBuilder| builder.api_key("k").build().expect("builds").info().fingerprint();
    let plain = || VendorEmbedder::openai("text-embedding-3-small");
    assert_eq!(of(plain()), "openai/text-embedding-3-small@:1536:unit");
    let mut all = vec![
        of(plain()),
        of(plain().dimension(512)),
        of(plain().normalize(false)),
        of(plain().revision("2")),
        of(plain().prefixes("a", "b")),
        of(plain().prefixes("a", "c")),
        of(VendorEmbedder::openai("text-embedding-3-large")),
    ];
    #[cfg(feature = "voyage")]
    {
        let voyage = || VendorEmbedder::voyage("voyage-3.5");
        assert_eq!(of(voyage()), "voyage/voyage-3.5@:1024:unit:query+document");
        all.extend([
            of(voyage()),
            of(voyage().without_input_types()),
            of(voyage().numbers(NumberFormat::Int8)),
        ]);
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    // What does not change them: batches, keys, timers, encodings.
    assert_eq!(of(plain().max_batch_texts(3).base64(false)), of(plain()));
}

#[cfg(feature = "voyage")]
#[tokio::test]
async fn every_number_format_of_voyage_is_read_in_lists_and_in_base64() {
    for (format, word, embedding, expected) in [
        (
            NumberFormat::Int8,
            "int8",
            json!("gP9/"),
            vec![-128.0, -1.0, 127.0],
        ),
        (
            NumberFormat::Uint8,
            "uint8",
            json!([0, 127, 255]),
            vec![-128.0, -1.0, 127.0],
        ),
        (
            NumberFormat::Binary,
            "binary",
            json!([-128, 127]),
            [vec![-1.0; 8], vec![1.0; 8]].concat(),
        ),
        (
            NumberFormat::Ubinary,
            "ubinary",
            json!("AP8="),
            [vec![-1.0; 8], vec![1.0; 8]].concat(),
        ),
    ] {
        let body =
            json!({ "data": [{ "index": 0, "embedding": embedding }], "usage": { "total_tokens": 3 } });
        let server = Server::start(vec![answer(200, &body)]).await;
        let embedder = VendorEmbedder::voyage("voyage-3.5")
            .api_key("k")
            .base_url(&server.url)
            .dimension(expected.len())
            .numbers(format)
            .build()
            .expect("builds");
        let made = embedder.embed(&["a"], EmbedKind::Query).await.expect("one");
        assert_eq!(made.values, expected, "{format:?}");
        assert_eq!(made.usage.input_tokens, Some(3));
        let asked = server.requests()[0].json();
        assert_eq!(asked["output_dtype"], word);
        assert_eq!(asked["input_type"], "query");
        assert_eq!(asked["truncation"], false);
        assert!(!embedder.info().is_normalized);
    }
    let error = VendorEmbedder::openai("text-embedding-3-small")
        .api_key("k")
        .numbers(NumberFormat::Int8)
        .build()
        .expect_err("floats alone");
    assert_eq!(error.code(), "unsupported");
}

#[cfg(feature = "ollama")]
#[tokio::test]
async fn ollama_is_told_its_window_and_never_to_cut() {
    let body = json!({ "model": "nomic-embed-text", "embeddings": [vec![1.0; 768], vec![2.0; 768]], "prompt_eval_count": 9 });
    let server = Server::start(vec![answer(200, &body)]).await;
    let tagged = VendorEmbedder::ollama("nomic-embed-text:latest");
    assert_eq!(tagged.build().expect("builds").info().dimension, 768);
    let embedder = VendorEmbedder::ollama("nomic-embed-text")
        .base_url(&server.url)
        .build()
        .expect("builds without a key");
    let made = embedder.embed(&["a", "b"], EmbedKind::Query).await.expect("two");
    assert_eq!((made.len(), made.usage.input_tokens), (2, Some(9)));
    let seen = &server.requests()[0];
    assert_eq!(seen.path, "/api/embed");
    assert_eq!(
        seen.json(),
        json!({ "model": "nomic-embed-text", "input": ["a", "b"], "truncate": false, "options": { "num_ctx": 2048 } })
    );
}

#[cfg(feature = "gemini")]
#[tokio::test]
async fn geminis_older_models_take_a_task_and_its_newer_ones_words_before_the_text() {
    let body = json!({ "embeddings": [{ "values": vec![0.01; 768] }] });
    let server = Server::start(vec![answer(200, &body), answer(200, &body)]).await;
    for (model, asked) in [
        (
            "gemini-embedding-001",
            json!({ "model": "models/gemini-embedding-001", "content": { "parts": [{ "text": "x" }] }, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768 }),
        ),
        (
            "gemini-embedding-2",
            json!({ "model": "models/gemini-embedding-2", "content": { "parts": [{ "text": "task: search result | query: x" }] }, "outputDimensionality": 768 }),
        ),
    ] {
        let made = VendorEmbedder::gemini(model)
            .api_key("k")
            .base_url(format!("{}/v1beta", server.url))
            .dimension(768)
            .build()
            .expect("builds")
            .embed(&["x"], EmbedKind::Query)
            .await
            .expect("one");
        let length: f32 = made.values.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let seen = server.requests().pop().expect("asked");
        assert_eq!(seen.path, format!("/v1beta/models/{model}:batchEmbedContents"));
        assert_eq!(seen.header("x-goog-api-key"), Some("k"));
        assert_eq!(seen.json()["requests"], json!([asked]));
    }
}

#[test]
fn the_vendors_that_are_called_by_name_are_in_the_table() {
    for vendor in super::COMPATIBLE {
        assert!(VendorEmbedder::of_vendor(vendor, "m").is_ok(), "{vendor}");
    }
    let error = VendorEmbedder::of_vendor("groq", "m").expect_err("makes no vectors");
    assert_eq!(error.code(), "not_found");
}

#[tokio::test]
async fn azure_is_asked_by_deployment_with_a_version_and_by_version_one_without() {
    let body = json!({ "data": [{ "index": 0, "embedding": unit(0) }] });
    let server = Server::start(vec![answer(200, &body), answer(200, &body)]).await;
    let azure = || {
        VendorEmbedder::azure("my embedder")
            .api_key("k")
            .base_url(&server.url)
            .width(4)
    };
    for builder in [azure().api_version("2024-10-21"), azure()] {
        let embedder = builder.build().expect("builds");
        embedder.embed(&["x"], EmbedKind::Query).await.expect("one");
    }
    let paths: Vec<String> = server.requests().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(
        paths[0],
        "/openai/deployments/my%20embedder/embeddings?api-version=2024-10-21"
    );
    if std::env::var_os("AZURE_OPENAI_API_VERSION").is_none() {
        assert_eq!(paths[1], "/openai/v1/embeddings");
    }
    assert_eq!(server.requests()[0].header("api-key"), Some("k"));
}
