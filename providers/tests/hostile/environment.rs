//! What the machine around us has no say in: proxies of the environment and cookies of servers.

use crate::{
    server::{Act, Server, answer, head},
    wires::wires,
};
use std::process::Command;
use stepwell_core::ChatModel;
use stepwell_providers::{HttpOptions, OpenAiCompatible};

const GOOD: &[u8] =
    br#"{"id":"a","model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;

/// Where the test that is run again in a process of its own finds the server.
const TARGET: &str = "STEPWELL_TEST_TARGET";

/// Only as a child of the next test.
#[tokio::test]
async fn asks_the_server_it_is_told() {
    let Some(url) = std::env::var_os(TARGET) else {
        return;
    };
    let url = url.into_string().expect("an address");
    let model = OpenAiCompatible::new("acme", url, "m").build().expect("builds");
    let answer = model.chat("hi".into()).await.expect("an answer");
    assert_eq!(answer.text(), "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_not_used() {
    let server = Server::always(vec![Act::Send(answer(200, "application/json", GOOD))]).await;
    let proxy = Server::always(vec![Act::Send(head(502, &["content-length: 0"]))]).await;
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", "environment::asks_the_server_it_is_told"])
        .env(TARGET, &server.url)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        child.env(name, &proxy.url);
    }
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .expect("it ran")
        .expect("it started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(server.requests().len(), 1);
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_that_was_asked_for_is_used_and_its_password_shown_nowhere() {
    let proxy = Server::always(vec![Act::Send(answer(200, "application/json", GOOD))]).await;
    let address = proxy.url.replace("http://", "http://user:canary-password@");
    let options = HttpOptions::default().proxy(address);
    assert!(!format!("{options:?}").contains("canary"));
    // The host does not exist: the proxy alone is dialled.
    let model = OpenAiCompatible::new("acme", "http://acme.invalid/v1", "m").http(options);
    let model = model.build().expect("builds");
    assert_eq!(model.chat("hi".into()).await.expect("an answer").text(), "hi");
    assert!(!format!("{model:?}").contains("canary"));
    let seen = &proxy.requests()[0];
    assert_eq!(seen.path, "http://acme.invalid/v1/chat/completions");
    assert!(seen.header("proxy-authorization").is_some());
}

#[tokio::test]
async fn a_cookie_is_taken_from_nobody() {
    for wire in wires() {
        let kind = format!("content-type: {}", wire.kind);
        let length = format!("content-length: {}", wire.stream.len());
        let cookies = ["set-cookie: session=canary; Path=/", "set-cookie: other=1"];
        let server = Server::always(vec![
            Act::Send(head(200, &[&kind, &length, cookies[0], cookies[1]])),
            Act::Send(wire.stream.into()),
        ])
        .await;
        let model = (wire.build)(&server.url, "k", HttpOptions::default());
        for _ in 0..2 {
            model.chat("hi".into()).await.expect("an answer");
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 2, "{}", wire.name);
        assert!(
            requests.iter().all(|request| request.header("cookie").is_none()),
            "{}",
            wire.name
        );
        // Nor is anybody told where a call came from.
        assert!(requests.iter().all(|request| request.header("referer").is_none()));
    }
}
