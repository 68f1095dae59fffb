//! The same wires over HTTP/2: frames that stop, break and never end.

use crate::{
    tls::Authority,
    wires::{WORDS, Wire, shown, wires},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use stepwell_core::{ChatResponse, Result};
use stepwell_providers::HttpOptions;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    /// The last frame of the stream, with trailers or without.
    End {
        trailers: bool,
    },
    /// The stream is reset.
    Reset,
    /// The whole connection is ended.
    GoAway,
    /// The socket is closed.
    Close,
    Stall,
    /// Empty frames without end.
    Empty,
}

pub(crate) struct Http2 {
    pub(crate) url: String,
    pub(crate) pem: String,
    task: JoinHandle<()>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends these header fields and this much of a body, then does that.
pub(crate) async fn server(
    kind: &'static str,
    fields: Vec<(String, String)>,
    body: &'static [u8],
    then: Then,
) -> Http2 {
    let ours = Authority::new("ours");
    let mut config = ours.issue("localhost", 2020, 2090);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().expect("an address").port()
    );
    let task = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, fields) = (acceptor.clone(), fields.clone());
            tokio::spawn(async move {
                let Ok(socket) = acceptor.accept(socket).await else {
                    return;
                };
                let Ok(mut connection) = h2::server::handshake(socket).await else {
                    return;
                };
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    let mut head = http::Response::builder().header("content-type", kind);
                    for (name, value) in &fields {
                        head = head.header(name, value);
                    }
                    let head = head.body(()).expect("a head");
                    let Ok(mut stream) = respond.send_response(head, false) else {
                        continue;
                    };
                    let _ = stream.send_data(Bytes::from_static(body), false);
                    match then {
                        Then::End { trailers: false } => {
                            let _ = stream.send_data(Bytes::new(), true);
                        }
                        Then::End { trailers: true } => {
                            let mut fields = http::HeaderMap::new();
                            fields.insert("x-trailer", "a".parse().expect("a value"));
                            let _ = stream.send_trailers(fields);
                        }
                        Then::Reset => {
                            tokio::spawn(async move {
                                tokio::time::sleep(Duration::from_millis(40)).await;
                                stream.send_reset(h2::Reason::INTERNAL_ERROR);
                            });
                        }
                        Then::GoAway => connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM),
                        Then::Close => {
                            // What was sent goes out first.
                            let _ =
                                tokio::time::timeout(Duration::from_millis(40), connection.accept()).await;
                            return;
                        }
                        Then::Stall => {
                            tokio::spawn(async move {
                                tokio::time::sleep(Duration::from_secs(30)).await;
                                drop(stream);
                            });
                        }
                        Then::Empty => {
                            tokio::spawn(async move {
                                while stream.send_data(Bytes::new(), false).is_ok() {
                                    tokio::time::sleep(Duration::from_micros(50)).await;
                                }
                            });
                        }
                    }
                }
            });
        }
    });
    Http2 {
        url,
        pem: ours.pem(),
        task,
    }
}

async fn ask(wire: Wire, server: &Http2, options: HttpOptions) -> Result<ChatResponse> {
    let options = options.root_certificate(server.pem.as_str());
    let model = (wire.build)(&server.url, "sk-canary-over-two", options);
    let call = tokio::time::timeout(Duration::from_secs(10), model.chat("hi".into()));
    call.await.expect("in time")
}

#[tokio::test]
async fn a_stream_over_http_2_is_whole_with_its_end_mark_and_broken_without() {
    for wire in wires() {
        for trailers in [false, true] {
            let good = server(wire.kind, vec![], wire.stream.as_bytes(), Then::End { trailers }).await;
            let answer = ask(wire, &good, HttpOptions::default()).await;
            assert_eq!(answer.expect("whole").text(), WORDS, "{}", wire.name);
        }
        for then in [
            Then::End { trailers: false },
            Then::End { trailers: true },
            Then::Reset,
            Then::GoAway,
            Then::Close,
        ] {
            let broken = server(wire.kind, vec![], wire.begun().as_bytes(), then).await;
            let error = ask(wire, &broken, HttpOptions::default())
                .await
                .expect_err("broken");
            assert!(
                matches!(error.code(), "stream_truncated" | "transport"),
                "{} {then:?}: {}",
                wire.name,
                shown(&error)
            );
            assert!(!shown(&error).contains("canary"));
        }
    }
}

#[tokio::test]
async fn a_stall_and_empty_frames_without_end_ring_a_clock() {
    for wire in wires() {
        let brief = HttpOptions::default().idle_timeout(Duration::from_millis(150));
        let stalled = server(wire.kind, vec![], wire.begun().as_bytes(), Then::Stall).await;
        let error = ask(wire, &stalled, brief).await.expect_err("it stalls");
        assert_eq!(error.code(), "timeout", "{}: {}", wire.name, shown(&error));
        let brief = HttpOptions::default().total_timeout(Duration::from_millis(300));
        let empty = server(wire.kind, vec![], wire.begun().as_bytes(), Then::Empty).await;
        let error = ask(wire, &empty, brief).await.expect_err("it never ends");
        assert!(
            matches!(error.code(), "timeout" | "stream_truncated"),
            "{}: {}",
            wire.name,
            shown(&error)
        );
    }
}

#[tokio::test]
async fn a_head_over_the_limit_of_http_2_is_no_answer() {
    let wire = wires()[0];
    let fields = (0..400).map(|at| (format!("x-{at}"), "a".repeat(100))).collect();
    let large = server(
        wire.kind,
        fields,
        wire.stream.as_bytes(),
        Then::End { trailers: false },
    )
    .await;
    let error = ask(wire, &large, HttpOptions::default())
        .await
        .expect_err("too large");
    // The stack below tells no more than that it broke the connection off.
    assert_eq!(error.code(), "transport", "{}", shown(&error));
}
