//! Secure connections that must not come about.

use crate::{
    server::{Act, Server, answer},
    wires::{WORDS, shown, wires},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::time::Duration;
use stepwell_core::{ChatModel, Error};
use stepwell_providers::{
    HttpOptions, OpenAiCompatible,
    layers::{ModelExt, RetryOptions},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

const KEY: &str = "sk-canary-behind-tls";

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for a name, good in these years.
    pub(crate) fn issue(&self, name: &str, from: i32, to: i32) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.0).expect("signed");
        config(signed.der().clone(), &key)
    }
}

fn self_signed() -> ServerConfig {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let signed = params.self_signed(&key).expect("signed");
    config(signed.der().clone(), &key)
}

fn config(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair")
}

fn good() -> Vec<Act> {
    vec![Act::Send(answer(
        200,
        "application/json",
        br#"{"id":"a","model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#,
    ))]
}

fn brief() -> HttpOptions {
    HttpOptions::default().connect_timeout(Duration::from_secs(5))
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_told_as_such_and_never_asked_again() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let cases = [
        (
            "self-signed",
            self_signed(),
            "self-signed or of an unknown authority",
        ),
        (
            "of an unknown authority",
            other.issue("localhost", 2020, 2090),
            "self-signed or of an unknown authority",
        ),
        (
            "for another host",
            ours.issue("elsewhere.example", 2020, 2090),
            "for another host",
        ),
        ("expired", ours.issue("localhost", 2010, 2020), "expired"),
        (
            "not valid yet",
            ours.issue("localhost", 2080, 2090),
            "not valid yet",
        ),
    ];
    for (what, config, words) in cases {
        let server = Server::secure(config, good()).await;
        let model = OpenAiCompatible::new("acme", server.url.as_str(), "m")
            .api_key(KEY)
            .http(brief().root_certificate(ours.pem()));
        let model = model.build().expect("builds");
        // Around it a retry that would come back at once.
        let model = model.with_retry(RetryOptions::default().first_delay(Duration::ZERO));
        let error = model.chat("hi".into()).await.expect_err(what);
        assert!(matches!(error, Error::Transport { .. }), "{what}: {error:?}");
        assert!(shown(&error).contains(words), "{what}: {}", shown(&error));
        assert!(!shown(&error).contains("canary"), "{what}");
        assert!(server.requests().is_empty(), "{what}: nothing was sent");
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let ours = Authority::new("ours");
    for wire in wires() {
        let script = vec![Act::Send(answer(200, wire.kind, wire.stream.as_bytes()))];
        let server = Server::secure(ours.issue("localhost", 2020, 2090), script).await;
        let model = (wire.build)(&server.url, KEY, brief().root_certificate(ours.pem()));
        let answer = model.chat("hi".into()).await;
        assert_eq!(answer.expect("trusted").text(), WORDS, "{}", wire.name);
        assert!(server.requests()[0].head.contains(KEY), "{}", wire.name);
        // Without it the same server is a stranger.
        let model = (wire.build)(&server.url, KEY, brief());
        model.chat("hi".into()).await.expect_err("unknown");
        assert_eq!(server.requests().len(), 1, "{}", wire.name);
    }
    let bad = HttpOptions::default().root_certificate("-----BEGIN CERTIFICATE-----\ncanary");
    let model = OpenAiCompatible::new("acme", "https://localhost:1", "m").http(bad);
    let error = model
        .build()
        .expect("nothing is set up yet")
        .chat("hi".into())
        .await;
    let error = error.expect_err("no certificate");
    assert!(!shown(&error).contains("canary"), "{error:?}");
}

#[tokio::test]
async fn plain_http_at_a_secure_port_and_tls_at_a_plain_one_are_told_apart_from_silence() {
    let ours = Authority::new("ours");
    for wire in wires() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let plain = format!("https://{}", listener.local_addr().expect("an address"));
        // What a server of plain HTTP says to the first bytes of a handshake.
        let said = tokio::spawn(async move {
            let mut hello = Vec::new();
            let (mut socket, _) = listener.accept().await.expect("a client");
            let _ = socket.read_buf(&mut hello).await;
            let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = socket.write_all(refusal).await;
            let _ = socket.read_to_end(&mut hello).await;
            hello
        });
        let error = (wire.build)(&plain, KEY, brief()).chat("hi".into()).await;
        let error = error.expect_err("no TLS there");
        assert_eq!(error.code(), "transport", "{}: {}", wire.name, shown(&error));
        assert!(shown(&error).contains("does not speak TLS"), "{}", shown(&error));
        let hello = said.await.expect("it ran");
        assert!(
            !String::from_utf8_lossy(&hello).contains("canary"),
            "no downgrade"
        );

        let secure = Server::secure(ours.issue("localhost", 2020, 2090), good()).await;
        let plain_address = secure.url.replace("https://", "http://");
        let error = (wire.build)(&plain_address, KEY, brief()).chat("hi".into()).await;
        let error = error.expect_err("no plain HTTP there");
        assert_eq!(error.code(), "transport", "{}: {}", wire.name, shown(&error));
        assert!(!shown(&error).contains("canary"));
    }
}
