//! A call recorded from a real socket, then played: whole, cut anew, and broken in every way there is.

use super::{Cassette, Chunks, Fault, Side, write::Writer};
use crate::{
    HttpOptions,
    anthropic::Anthropic,
    fixtures::{Act, Framing, Server, cuts, http_answer, shown},
};
use futures::{StreamExt, TryStreamExt};
use std::{path::Path, sync::Arc, time::Duration};
use stepwell_core::{ChatModel, ChatRequest, Error, Fold, Result, StreamEvent};

const ANSWER: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m-1\",\"usage\":{\"input_tokens\":9}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße \"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"aus 東京\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);
const KEY: &str = "sk-canary-of-the-cassette";

fn model(url: &str, cassette: Cassette) -> Anthropic {
    let options = HttpOptions::default()
        .idle_timeout(Duration::from_millis(200))
        .first_event_timeout(Duration::from_millis(200))
        .cassette(cassette);
    let model = Anthropic::new("m-1").base_url(url).http(options);
    let is_keyless = url.ends_with(":1");
    if is_keyless {
        model.build()
    } else {
        model.api_key(KEY).build()
    }
    .expect("builds")
}

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

async fn events(model: &Anthropic, text: &str) -> Result<Vec<StreamEvent>> {
    model.stream(ChatRequest::from(text)).await?.try_collect().await
}

/// Records one answer in two pieces, whose boundary is inside a character, and gives its events.
async fn recorded(path: &Path) -> Vec<StreamEvent> {
    let whole = http_answer(
        200,
        &[
            ("content-type", "text/event-stream"),
            ("request-id", "req_1"),
            ("set-cookie", "canary=1"),
        ],
        ANSWER.as_bytes(),
        Framing::Close,
    );
    let at = whole
        .windows(2)
        .position(|two| two == "ü".as_bytes())
        .expect("is there")
        + 1;
    let server = Server::start(vec![vec![
        Act::Send(whole[..at].to_vec()),
        Act::Wait(40),
        Act::Send(whole[at..].to_vec()),
    ]])
    .await;
    let cassette = Cassette::record(path).expect("a new file");
    events(&model(&server.url, cassette), "Hello")
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_recorded_call_plays_again_offline_and_without_a_key_however_it_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    let live = recorded(&path).await;

    let text = std::fs::read_to_string(&path).expect("written");
    assert_eq!(text.lines().count(), 2);
    for secret in ["canary", "x-api-key", "cookie"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).expect("a line")).expect("JSON");
    let chunks = line["response"]["chunks"].as_array().expect("pieces");
    assert!(
        chunks.len() >= 2 && chunks.iter().any(|chunk| chunk[1].as_u64() >= Some(20)),
        "{chunks:?}"
    );

    for chunks in [
        Chunks::Recorded,
        Chunks::Whole,
        Chunks::Bytes,
        Chunks::Random { seed: 3 },
    ] {
        let cassette = Cassette::record_or_play(&path).expect("ours").chunks(chunks);
        assert!(cassette.is_playing());
        let model = model(NOWHERE, cassette);
        for _ in 0..2 {
            assert_eq!(
                events(&model, "Hello").await.expect("the answer"),
                live,
                "{chunks:?}"
            );
        }
    }
    let begun = std::time::Instant::now();
    let slow = Cassette::play(&path).expect("ours").timing(true);
    events(&model(NOWHERE, slow), "Hello").await.expect("the answer");
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_call_that_was_not_recorded_is_told_by_the_field_that_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    recorded(&path).await;
    let model = model(NOWHERE, Cassette::play(&path).expect("ours"));
    let error = events(&model, "canary words").await.expect_err("unknown");
    assert_eq!(error.code(), "not_found");
    assert!(
        error.to_string().contains("`/messages/0/content/0/text`"),
        "{error}"
    );
    assert!(!shown(&error).contains("canary"), "{error}");
}

#[tokio::test]
async fn a_played_stream_that_breaks_is_never_taken_for_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    let live = recorded(&path).await;
    let end = ANSWER.rfind("event: message_stop").expect("is there");
    for at in cuts(ANSWER.len() - 1) {
        for fault in [Fault::CutAt(at), Fault::ResetAt(at)] {
            let model = model(NOWHERE, Cassette::play(&path).expect("ours").fault(0, fault));
            let first = events(&model, "Hello").await;
            assert!(first.is_err() || at > end, "{fault:?}");
            assert_eq!(
                events(&model, "Hello").await.expect("whole again"),
                live,
                "{fault:?}"
            );
        }
    }
    for at in [0, 1, 150, 400, 520] {
        let model = model(
            NOWHERE,
            Cassette::play(&path).expect("ours").fault(0, Fault::StallAt(at)),
        );
        let error = events(&model, "Hello").await.expect_err("nothing more comes");
        assert_eq!(error.code(), "timeout", "{at}");
    }
}

#[tokio::test]
async fn a_played_status_is_the_typed_error_and_a_doubled_start_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    let live = recorded(&path).await;
    let wait = Some(Duration::from_millis(1500));
    let cassette = Cassette::play(&path)
        .expect("ours")
        .fault(
            0,
            Fault::Status {
                status: 429,
                retry_after: wait,
            },
        )
        .fault(
            1,
            Fault::Status {
                status: 529,
                retry_after: None,
            },
        )
        .fault(2, Fault::DuplicateStart);
    let model = model(NOWHERE, cassette);
    let first = events(&model, "Hello").await.expect_err("too fast");
    assert_eq!(first.code(), "rate_limited");
    assert_eq!(first.vendor_failure().expect("a vendor's").retry_after, wait);
    assert_eq!(
        events(&model, "Hello").await.expect_err("busy").code(),
        "overloaded"
    );
    let answer = model.chat("Hello".into()).await.expect("the answer");
    assert_eq!(answer.text(), "Grüße aus 東京");
    let mut fold = Fold::new("anthropic", "m-1", false);
    for event in live {
        fold.push(event).expect("in order");
    }
    assert_eq!(answer, fold.finish().expect("whole"));
}

#[tokio::test]
async fn a_stream_dropped_half_way_is_recorded_as_cut_and_plays_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    let head = http_answer(
        200,
        &[("content-type", "text/event-stream")],
        &ANSWER.as_bytes()[..420],
        Framing::Close,
    );
    let server = Server::start(vec![vec![Act::Send(head), Act::UntilClosed]]).await;
    let model_live = model(&server.url, Cassette::record(&path).expect("a new file"));
    let mut stream = model_live.stream("Hello".into()).await.expect("begins");
    while !matches!(
        stream.next().await.expect("more").expect("good"),
        StreamEvent::TextDelta { .. }
    ) {}
    drop(stream);
    let played = model(NOWHERE, Cassette::play(&path).expect("ours"));
    let error = events(&played, "Hello").await.expect_err("cut");
    let Error::StreamTruncated { partial, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(partial.text(), "Grüße ");
}

#[test]
fn a_file_that_is_there_a_foreign_one_a_newer_one_and_a_damaged_one_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.jsonl");
    let play = |text: &[u8]| {
        std::fs::write(&path, text).expect("written");
        Cassette::play(&path).expect_err("refused").code()
    };
    assert_eq!(play(b"hello\n"), "foreign");
    assert_eq!(play(b"\xff\xfe\n"), "foreign");
    assert_eq!(play(b""), "foreign");
    assert_eq!(play(b"{\"stepwell_cassette\":99}\n"), "unknown_version");
    assert_eq!(play(b"{\"stepwell_cassette\":1}\n{\"id\":\n"), "damaged");
    assert_eq!(
        Cassette::record(&path).expect_err("is there").code(),
        "invalid_input"
    );
    assert_eq!(
        Cassette::play(folder.path().join("none"))
            .expect_err("is not there")
            .code(),
        "io"
    );
}

fn answered() -> Vec<Act> {
    let headers = [("content-type", "text/event-stream")];
    vec![Act::Send(http_answer(
        200,
        &headers,
        ANSWER.as_bytes(),
        Framing::Close,
    ))]
}

#[cfg(target_os = "linux")] // a disk that is always full
#[tokio::test]
async fn a_full_disk_costs_no_answer_and_the_next_call_is_refused_before_it_is_sent() {
    let path = Path::new("/dev/full");
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("there");
    let cassette = Cassette {
        side: Side::Record(Arc::new(Writer::onto(path, file, 0))),
    };
    let server = Server::start(vec![answered(), answered()]).await;
    let model = model(&server.url, cassette.clone());
    cassette.check().expect("nothing was written yet");
    let answer = model.chat("Hello".into()).await.expect("the answer all the same");
    assert_eq!(answer.text(), "Grüße aus 東京");
    for error in [
        cassette.check().expect_err("nothing could be written"),
        model.chat("Hello".into()).await.expect_err("not sent"),
        events(&model, "Hello").await.expect_err("nor this one"),
    ] {
        assert_eq!(error.code(), "disk_full");
        assert!(
            !error.is_retryable() && error.to_string().contains("the cassette /dev/full"),
            "{error}"
        );
    }
    assert_eq!(server.requests().len(), 1);
}

/// The child of the next test finds its cassette and its server there.
const SMALL: &str = "STEPWELL_TEST_SMALL_CASSETTE";

/// Only as a child of the next test: no file may grow over 2 KiB.
#[tokio::test]
async fn records_until_the_file_may_not_grow() {
    let Ok(target) = std::env::var(SMALL) else { return };
    let (path, url) = target.split_once('|').expect("two words");
    let cassette = Cassette::record(path).expect("a new file");
    let model = model(url, cassette.clone());
    let mut answers = 0;
    let error = loop {
        match model.chat("Hello".into()).await {
            Ok(answer) => assert_eq!(answer.text(), "Grüße aus 東京"),
            Err(error) => break error,
        }
        answers += 1;
        assert!(answers < 20, "the limit is met");
    };
    assert_eq!((error.code(), answers > 1), ("io", true), "{error}");
    assert_eq!(cassette.check().expect_err("the same").code(), "io");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_keeps_the_calls_before_it_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("small.jsonl");
    let server = Server::start((0..20).map(|_| answered()).collect()).await;
    // The signal that goes with the limit is ignored, so that the write fails as on any other disk.
    let mut child = std::process::Command::new("sh");
    child
        .args(["-c", "trap '' 25; ulimit -f 4; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "cassette::journeys::records_until_the_file_may_not_grow",
        ])
        .env(SMALL, format!("{}|{}", path.display(), server.url));
    let output = tokio::task::spawn_blocking(move || child.output()).await;
    let output = output.expect("it ran").expect("it started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = std::fs::read_to_string(&path).expect("written");
    let kept = text.lines().count() - 1;
    // One more was answered than is kept: the one that did not fit.
    assert!(kept > 0 && kept + 1 == server.requests().len(), "{kept}");
    let played = model(NOWHERE, Cassette::play(&path).expect("whole"));
    assert_eq!(
        played.chat("Hello".into()).await.expect("kept").text(),
        "Grüße aus 東京"
    );
}
