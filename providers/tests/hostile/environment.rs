//! The machine around us: its proxies and the cookies of servers have no say; its certificates have, and are read once.

use crate::{
    server::{Act, Server, answer, head},
    tls::Authority,
    wires::{shown, wires},
};
use std::process::{Command, Output};
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

/// Where a child finds the servers whose certificates the machine knows.
const SECURE: &str = "STEPWELL_TEST_SECURE_TARGET";

/// Only as a child of the tests below: the machine's certificates are those of `SSL_CERT_FILE`.
#[tokio::test]
async fn trusts_what_the_machine_trusts_for_as_long_as_the_process_runs() {
    let Ok(url) = std::env::var(SECURE) else { return };
    let file = std::env::var_os("SSL_CERT_FILE").expect("given");
    let ask = |vendor| {
        OpenAiCompatible::new(vendor, url.as_str(), "m")
            .build()
            .expect("builds")
    };
    assert_eq!(ask("acme").chat("hi".into()).await.expect("trusted").text(), "hi");
    // The second model has other timers and a client of its own, and looks for no certificates.
    std::fs::remove_file(file).expect("it was there");
    assert_eq!(
        ask("other").chat("hi".into()).await.expect("trusted").text(),
        "hi"
    );
}

/// Only as a child: no certificates at all are on this machine.
#[tokio::test]
async fn asks_without_certificates() {
    let Ok(url) = std::env::var(TARGET) else { return };
    let error = OpenAiCompatible::new("acme", "https://localhost:1", "m")
        .build()
        .expect("builds");
    let error = error.chat("hi".into()).await.expect_err("nobody to trust");
    assert_eq!(error.code(), "transport");
    assert!(shown(&error).contains("ca-certificates"), "{}", shown(&error));
    let model = OpenAiCompatible::new("acme", url, "m").build().expect("builds");
    assert_eq!(model.chat("hi".into()).await.expect("plain HTTP").text(), "hi");
}

/// Runs one test of this file again, in a process that finds its certificates in this file.
async fn again(test: &str, variable: &str, url: &str, certificates: &std::path::Path) -> Output {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", &format!("environment::{test}")])
        .env(variable, url)
        .env("SSL_CERT_FILE", certificates)
        .env_remove("SSL_CERT_DIR");
    let output = tokio::task::spawn_blocking(move || child.output()).await;
    output.expect("it ran").expect("it started")
}

#[cfg(target_os = "linux")] // other systems keep their certificates elsewhere
#[tokio::test(flavor = "multi_thread")]
async fn the_machines_certificates_are_read_once_for_all_models() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authorities.pem");
    std::fs::write(&file, ours.pem()).expect("written");
    let script = vec![Act::Send(answer(200, "application/json", GOOD))];
    let server = Server::secure(ours.issue("localhost", 2020, 2090), script).await;
    let test = "trusts_what_the_machine_trusts_for_as_long_as_the_process_runs";
    let output = again(test, SECURE, &server.url, &file).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(server.requests().len(), 2);
    assert!(!file.exists());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_certificates_asks_over_plain_http_and_is_told_what_to_install_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "").expect("written");
    let server = Server::always(vec![Act::Send(answer(200, "application/json", GOOD))]).await;
    let output = again("asks_without_certificates", TARGET, &server.url, &file).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(server.requests().len(), 1);
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
