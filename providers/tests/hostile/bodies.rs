//! Bodies that are not what their heads say.

use crate::{
    server::{Act, Server, answer, head},
    wires::{WORDS, Wire, shown, wires},
};
use flate2::{Compression, write::GzEncoder};
use futures::future::join_all;
use std::{io::Write as _, time::Duration};
use stepwell_core::{ChatResponse, EmbedKind, Embedder, Result};
use stepwell_providers::{HttpOptions, VendorEmbedder, VendorReranker};

async fn ask(wire: Wire, script: Vec<Act>) -> Result<ChatResponse> {
    let server = Server::always(script).await;
    let options = HttpOptions::default().idle_timeout(Duration::from_secs(10));
    (wire.build)(&server.url, "k", options).chat("hi".into()).await
}

/// Gigabytes in some kilobytes.
fn bomb() -> Vec<u8> {
    let mut once = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..64 {
        once.write_all(&zeros).expect("memory takes all");
    }
    let once = once.finish().expect("memory takes all");
    // Members of one file follow each other: 64 times 64 MiB.
    once.repeat(64)
}

#[tokio::test]
async fn nothing_compressed_is_asked_for_and_what_comes_so_is_refused_before_it_is_inflated() {
    let bomb = bomb();
    assert!(bomb.len() < 8 << 20, "{}", bomb.len());
    for wire in wires() {
        for coding in [
            "gzip",
            "br",
            "zstd",
            "deflate",
            "gzip, gzip",
            "GZIP",
            "identity, gzip",
        ] {
            let coding = format!("content-encoding: {coding}");
            let kind = format!("content-type: {}", wire.kind);
            let server = Server::always(vec![
                Act::Send(head(200, &[&kind, &coding])),
                Act::Send(bomb.clone()),
            ])
            .await;
            let model = (wire.build)(&server.url, "k", HttpOptions::default());
            let error = model.chat("hi".into()).await.expect_err("compressed");
            assert_eq!(error.code(), "invalid_response", "{} {coding}", wire.name);
            assert!(error.to_string().contains("compressed"), "{error}");
            assert_eq!(
                server.requests()[0].header("accept-encoding"),
                None,
                "{}",
                wire.name
            );
        }
        let plain = head(
            200,
            &[
                &format!("content-type: {}", wire.kind),
                "content-encoding: identity",
            ],
        );
        let told = ask(wire, vec![Act::Send(plain), Act::Send(wire.stream.into())]).await;
        assert_eq!(told.expect("plain").text(), WORDS, "{}", wire.name);
        // A failure that comes so is told by its status.
        let failed = head(429, &["content-encoding: gzip", "retry-after: 1"]);
        let error = ask(wire, vec![Act::Send(failed), Act::Send(bomb.clone())])
            .await
            .expect_err("limited");
        assert_eq!(error.code(), "rate_limited", "{}", wire.name);
    }
    let script = vec![
        Act::Send(head(
            200,
            &["content-type: application/json", "content-encoding: gzip"],
        )),
        Act::Send(bomb),
    ];
    let server = Server::always(script).await;
    let embedder = VendorEmbedder::openai("text-embedding-3-small")
        .api_key("k")
        .base_url(&server.url);
    let embedder = embedder.build().expect("builds");
    let error = embedder
        .embed(&["a"], EmbedKind::Query)
        .await
        .expect_err("compressed");
    assert!(error.to_string().contains("compressed"), "{error}");
    let reranker = VendorReranker::cohere("rerank-v4.0-pro")
        .api_key("k")
        .base_url(&server.url);
    let error = reranker
        .build()
        .expect("builds")
        .rank("a", &["b"], 1)
        .await
        .expect_err("compressed");
    assert!(error.to_string().contains("compressed"), "{error}");
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_is_told_as_one_whatever_its_head_says() {
    const PAGE: &[u8] = b"\r\n <!DOCTYPE html><html><body>canary: sign in</body></html>";
    join_all(wires().map(|wire| async move {
        for kind in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "application/xhtml+xml",
            "text/plain",
            "text/event-stream",
            "application/octet-stream",
        ] {
            let error = ask(wire, vec![Act::Send(answer(200, kind, PAGE))])
                .await
                .expect_err("a page");
            assert_eq!(error.code(), "invalid_response", "{} {kind}: {error}", wire.name);
            assert!(
                error.to_string().contains("web page"),
                "{} {kind}: {error}",
                wire.name
            );
            assert!(!shown(&error).contains("canary"));
        }
        // As JSON it cannot be read; that it is a page is not looked for then.
        let error = ask(wire, vec![Act::Send(answer(200, "application/json", PAGE))])
            .await
            .expect_err("a page");
        assert!(
            matches!(error.code(), "invalid_response" | "stream_truncated"),
            "{}: {error}",
            wire.name
        );
        assert!(!shown(&error).contains("canary"));
        for status in [400, 404, 500, 502] {
            let error = ask(wire, vec![Act::Send(answer(status, "text/html", PAGE))])
                .await
                .expect_err("a page");
            assert!(!shown(&error).contains("canary"), "{} {status}", wire.name);
        }
    }))
    .await;
}

#[tokio::test]
async fn statuses_that_are_neither_an_answer_nor_a_failure_are_strangers() {
    join_all(wires().map(|wire| async move {
        for status in [201, 202, 203, 204, 205, 206, 226, 299, 600, 999] {
            let script = vec![Act::Send(head(status, &["content-length: 0"]))];
            let error = ask(wire, script).await.expect_err("no answer");
            assert_eq!(
                error.code(),
                "invalid_response",
                "{} {status}: {error}",
                wire.name
            );
            assert!(error.to_string().contains(&status.to_string()), "{error}");
        }
    }))
    .await;
}

#[tokio::test]
async fn lengths_chunks_and_trailers_that_lie_never_make_an_answer_of_a_piece() {
    join_all(wires().map(|wire| async move {
        let kind = format!("content-type: {}", wire.kind);
        let body = wire.stream.as_bytes();
        let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        let chunked = head(200, &[&kind, "transfer-encoding: chunked"]);
        let with = |parts: &[&[u8]]| vec![Act::Send([&chunked[..], &parts.concat()].concat())];

        // Good ones: extensions, trailers, a missing last chunk behind the end mark.
        let trailed = with(&[&chunk(body), b"0\r\nx-trailer: a\r\nx-other: b\r\n\r\n"]);
        let extended = with(&[
            format!("{:x};name=value\r\n", body.len()).as_bytes(),
            body,
            b"\r\n0\r\n\r\n",
        ]);
        for good in [trailed, extended] {
            let told = ask(wire, good).await;
            assert_eq!(told.expect("whole").text(), WORDS, "{}", wire.name);
        }
        // A length that is too long, once the end mark was seen, takes nothing away.
        let long = head(200, &[&kind, &format!("content-length: {}", body.len() + 50)]);
        let told = ask(wire, vec![Act::Send(long), Act::Send(body.to_vec())]).await;
        // Only an end of the connection ends Gemini's wire, and that one broke.
        match told {
            Ok(answer) => assert_eq!(answer.text(), WORDS, "{}", wire.name),
            Err(error) => panic!("{}: {error:?}", wire.name),
        }

        // Bad ones.
        let cut = &body[..wire.begun().len()];
        let short = head(200, &[&kind, &format!("content-length: {}", cut.len())]);
        let cases = [
            (
                "a length that is too short",
                vec![Act::Send(short), Act::Send(body.to_vec())],
            ),
            (
                "a chunk that is cut",
                with(&[format!("{:x}\r\n", body.len()).as_bytes(), cut]),
            ),
            ("no last chunk", with(&[&chunk(cut)])),
            ("a size that is none", with(&[&chunk(cut), b"zz\r\n"])),
            (
                "a size over all numbers",
                with(&[&chunk(cut), b"ffffffffffffffffff\r\n"]),
            ),
            (
                "trailers without end",
                vec![
                    Act::Send([&chunked[..], &chunk(cut), b"0\r\n"].concat()),
                    Act::Forever(b"x-trailer: a\r\n".repeat(400)),
                ],
            ),
            (
                "two lengths",
                vec![
                    Act::Send(head(200, &[&kind, "content-length: 5", "content-length: 6"])),
                    Act::Send(body.to_vec()),
                ],
            ),
        ];
        for (what, script) in cases {
            let error = ask(wire, script).await;
            let error = error.expect_err(what);
            assert!(
                matches!(error.code(), "stream_truncated" | "transport"),
                "{}, {what}: {}",
                wire.name,
                shown(&error)
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn marks_blanks_and_odd_kinds_before_an_answer_do_not_matter() {
    join_all(wires().map(|wire| async move {
        let marked = format!("\u{feff}{}", wire.stream);
        let mut kinds = vec![wire.kind.to_owned(), format!("{}; charset=utf-8", wire.kind)];
        kinds.push(wire.kind.to_uppercase());
        // Local servers say what they like.
        kinds.extend(["text/plain".to_owned(), "application/octet-stream".to_owned()]);
        for kind in &kinds {
            let told = ask(wire, vec![Act::Send(answer(200, kind, marked.as_bytes()))]).await;
            let told = told.unwrap_or_else(|error| panic!("{} as {kind}: {error:?}", wire.name));
            assert_eq!(told.text(), WORDS, "{} as {kind}", wire.name);
        }
        let bare = vec![Act::Send(head(200, &[])), Act::Send(wire.stream.into())];
        assert_eq!(
            ask(wire, bare).await.expect("an answer").text(),
            WORDS,
            "{}",
            wire.name
        );
    }))
    .await;
}
