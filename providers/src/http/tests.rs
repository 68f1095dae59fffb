//! The client over a real socket: where a key goes, which clock rings, what is too much.

use super::{Auth, Http, HttpOptions, Vendor, secret_header};
use crate::fixtures::{Act, Server, shown};
use reqwest::header::{AUTHORIZATION, HeaderName};
use std::time::{Duration, Instant};
use stepwell_core::Secret;

const VENDOR: Vendor = Vendor::new(
    "acme",
    "ACME_API_KEY",
    "ACME_BASE_URL",
    "https://api.acme.example",
    Auth::Bearer,
);

fn http(base: &str, options: HttpOptions) -> Http {
    Http::new(VENDOR, Some(base.to_owned()), options).expect("a good address")
}

#[tokio::test]
async fn a_key_goes_out_in_its_header_and_never_follows_a_redirect() {
    let elsewhere = Server::start(vec![]).await;
    let server = Server::start(vec![vec![Act::Send(
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}/stolen\r\ncontent-length: 0\r\n\r\n",
            elsewhere.url
        )
        .into_bytes(),
    )]])
    .await;
    let http = http(&server.url, HttpOptions::default());
    let key = secret_header("Bearer ", &Secret::new("sk-canary")).expect("a header");
    assert!(!format!("{key:?}").contains("canary"));
    let reply = http
        .post("/chat", vec![(AUTHORIZATION, key)], b"{}".to_vec())
        .await
        .expect("an answer");
    assert_eq!(reply.status, 307);
    let seen = server.requests();
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk-canary"));
    assert_eq!(seen[0].path, "/chat");
    assert!(elsewhere.requests().is_empty());
    let bad = secret_header("", &Secret::new("sk-canary\n")).expect_err("a line end");
    assert!(!format!("{bad} {bad:?}").contains("canary"));
}

#[test]
fn a_vendor_without_an_address_of_its_own_has_to_be_given_one() {
    let homeless = Vendor::named("my-vendor 2".to_owned(), String::new(), Auth::Bearer);
    assert_eq!(homeless.key_var(), "MY_VENDOR_2_API_KEY");
    let error = Http::new(homeless, None, HttpOptions::default()).expect_err("no address");
    assert_eq!(error.code(), "invalid_input");
    assert!(error.to_string().contains("MY_VENDOR_2_BASE_URL"), "{error}");
}

#[tokio::test]
async fn fixed_query_parameters_go_with_every_call_and_into_no_error() {
    let server = Server::start(vec![vec![Act::Send(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
    )]])
    .await;
    let query = vec![("api-version".to_owned(), Secret::new("canary & more"))];
    let asked = http(&server.url, HttpOptions::default()).query(query.clone());
    asked
        .post("/chat?alt=sse", vec![], vec![])
        .await
        .expect("an answer");
    assert_eq!(
        server.requests()[0].path,
        "/chat?alt=sse&api-version=canary+%26+more"
    );
    let dead = http("http://127.0.0.1:1", HttpOptions::default()).query(query);
    let error = dead
        .post("/chat", vec![], vec![])
        .await
        .err()
        .expect("nobody listens");
    assert!(!format!("{dead:?} {}", shown(&error)).contains("canary"));
}

#[tokio::test]
async fn each_timer_rings_for_its_own_part() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let cases: Vec<(Vec<Act>, HttpOptions, &str)> = vec![
        (
            vec![Act::Wait(5_000)],
            HttpOptions::default().first_event_timeout(Duration::from_millis(80)),
            "first event",
        ),
        (
            vec![Act::Send(format!("{head}abc").into_bytes()), Act::Wait(5_000)],
            HttpOptions::default().idle_timeout(Duration::from_millis(80)),
            "next event",
        ),
        (
            vec![Act::Send(format!("{head}abc").into_bytes()), Act::Wait(5_000)],
            HttpOptions::default().total_timeout(Duration::from_millis(80)),
            "the answer",
        ),
    ];
    for (acts, options, what) in cases {
        let server = Server::start(vec![acts]).await;
        let begun = Instant::now();
        let error = match http(&server.url, options).post("/", vec![], vec![]).await {
            Ok(reply) => reply.body.read().await.expect_err("it stalls"),
            Err(error) => error,
        };
        assert_eq!(error.code(), "timeout", "{what}: {}", shown(&error));
        assert!(error.to_string().contains(what), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{what}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_to_tls_is_a_connect_timeout() {
    let server = Server::start(vec![vec![]]).await;
    let silent = http(
        &server.url.replace("http://", "https://"),
        HttpOptions::default().connect_timeout(Duration::from_millis(300)),
    );
    let error = silent
        .post("/", vec![], vec![])
        .await
        .err()
        .expect("no TLS there");
    assert_eq!(error.code(), "timeout", "{}", shown(&error));
    assert!(error.to_string().contains("connecting to acme"), "{error}");
}

#[tokio::test]
async fn an_answer_over_the_cap_is_refused_and_a_dead_address_is_told_without_its_path() {
    let body = "x".repeat(5_000);
    let server = Server::start(vec![vec![Act::Send(
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
    )]])
    .await;
    let small = http(&server.url, HttpOptions::default().max_response_bytes(4_000));
    let reply = small.post("/", vec![], vec![]).await.expect("a head");
    assert_eq!(
        reply.body.read().await.expect_err("too large").code(),
        "limit_exceeded"
    );

    let dead = http("http://127.0.0.1:1/canary-path", HttpOptions::default());
    let error = dead
        .post(
            "/x",
            vec![(HeaderName::from_static("x-k"), "v".parse().expect("a value"))],
            vec![],
        )
        .await
        .err()
        .expect("nobody listens");
    assert_eq!((error.code(), error.is_retryable()), ("transport", true));
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}
