//! A key stays on its origin: no redirect is followed, wherever it points.

use crate::{
    server::{Act, Server, head},
    wires::{shown, wires},
};
use futures::future::join_all;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use stepwell_core::{ChatModel, EmbedKind, Embedder};
use stepwell_providers::{HttpOptions, OpenAiCompatible, VendorEmbedder, VendorReranker, layers::ModelExt};

const KEY: &str = "sk-canary-of-the-redirect";

const STATUSES: [u16; 7] = [300, 301, 302, 303, 305, 307, 308];

/// Addresses a hostile server may name, beside itself.
fn targets(elsewhere: &str, itself: &str) -> Vec<String> {
    vec![
        format!("{elsewhere}/stolen"),
        // The same origin too: a body is not sent twice unasked.
        format!("{itself}/other"),
        "/other".to_owned(),
        elsewhere.replace("http://", "//"),
        elsewhere.replace("127.0.0.1", "localhost"),
        elsewhere.replace("http://", "http://user:password@"),
    ]
}

#[tokio::test]
async fn no_redirect_is_followed_wherever_it_points_and_the_key_is_seen_once() {
    let elsewhere = Server::always(vec![Act::Send(head(200, &[]))]).await;
    let cases = wires().map(|wire| {
        let elsewhere = elsewhere.url.clone();
        async move {
            let each = targets("", "").len();
            // A server names itself only once it has an address.
            let place: Arc<OnceLock<Vec<String>>> = Arc::default();
            let known = place.clone();
            let server = Server::start(move |number| {
                let location = format!("location: {}", known.get().expect("it is up")[number % each]);
                let fields = [location.as_str(), "content-length: 0", "retry-after: 1"];
                vec![Act::Send(head(STATUSES[number / each], &fields))]
            })
            .await;
            place.set(targets(&elsewhere, &server.url)).expect("once");
            let model = (wire.build)(&server.url, KEY, HttpOptions::default());
            for number in 0..each * STATUSES.len() {
                let error = model.chat("hi".into()).await.expect_err("no answer");
                let what = format!("{} {number}: {}", wire.name, shown(&error));
                assert_eq!(error.code(), "invalid_response", "{what}");
                assert!(!error.is_retryable(), "{what}");
                assert!(error.to_string().contains("redirects"), "{what}");
                assert!(!shown(&error).contains("stolen"), "{what}");
                let requests = server.requests();
                assert_eq!(requests.len(), number + 1, "{what}");
                assert!(requests[number].head.contains(KEY), "{what}");
            }
            each * STATUSES.len()
        }
    });
    let count: usize = join_all(cases).await.into_iter().sum();
    assert!(elsewhere.requests().is_empty(), "the key travelled");
    println!("{count} redirects, none followed");
}

#[tokio::test]
async fn embedders_and_rerankers_follow_none_either() {
    let elsewhere = Server::always(vec![Act::Send(head(200, &[]))]).await;
    for status in [301, 302, 307, 308] {
        let location = format!("location: {}/stolen", elsewhere.url);
        let script = vec![Act::Send(head(status, &[&location, "content-length: 0"]))];
        let server = Server::always(script).await;
        let embedder = VendorEmbedder::openai("text-embedding-3-small")
            .api_key(KEY)
            .base_url(&server.url);
        let embedder = embedder.build().expect("builds");
        let error = embedder
            .embed(&["a"], EmbedKind::Query)
            .await
            .expect_err("no answer");
        assert_eq!(error.code(), "invalid_response");
        let reranker = VendorReranker::voyage("rerank-2.5")
            .api_key(KEY)
            .base_url(&server.url);
        let reranker = reranker.build().expect("builds");
        let error = reranker.rank("a", &["b"], 1).await.expect_err("no answer");
        assert_eq!(error.code(), "invalid_response");
    }
    assert!(elsewhere.requests().is_empty(), "the key travelled");
}

#[tokio::test]
async fn a_retry_goes_to_the_same_origin_and_a_fallback_with_its_own_key() {
    let other = Server::always(vec![Act::Send(crate::server::answer(
        200,
        "application/json",
        br#"{"id":"a","model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#,
    ))])
    .await;
    let first = Server::always(vec![Act::Send(head(503, &["content-length: 0"]))]).await;
    let model = |url: &str, key: &str| {
        let model = OpenAiCompatible::new("acme", url, "m").api_key(key);
        model.build().expect("builds")
    };
    let brief = stepwell_providers::layers::RetryOptions::default().first_delay(Duration::from_millis(1));
    let answer = model(&first.url, KEY)
        .with_retry(brief)
        .with_fallback(
            [Arc::new(model(&other.url, "another")) as Arc<dyn ChatModel>],
            stepwell_providers::layers::FallbackOptions::default(),
        )
        .chat("hi".into())
        .await
        .expect("the second answers");
    assert_eq!(answer.text(), "hi");
    assert_eq!(first.requests().len(), 3);
    assert_eq!(other.requests().len(), 1);
    assert!(other.requests()[0].head.contains("Bearer another"));
    assert!(!other.requests()[0].head.contains(KEY));
}
