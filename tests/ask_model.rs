//! `ask --model anthropic/...`: the whole way to a vendor and back, over a real local socket that plays the vendor.

use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
};

/// Reads one request; its head and its body.
fn request(stream: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("readable");
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |length| length.trim().parse().expect("a number"));
            if body.len() >= length {
                return (head.to_owned(), serde_json::from_str(body).expect("JSON"));
            }
        }
        assert!(read > 0, "the request broke off");
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// One streamed answer of a content block, as the vendor documents it.
fn answer(block: &Value, deltas: &[Value], stop: &str) -> String {
    let mut body = event(
        "message_start",
        &json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "content": [],
            "model": "claude-sonnet-5", "stop_reason": null, "usage": { "input_tokens": 12, "output_tokens": 1 } } }),
    );
    body += &event(
        "content_block_start",
        &json!({ "type": "content_block_start", "index": 0, "content_block": block }),
    );
    for delta in deltas {
        body += &event(
            "content_block_delta",
            &json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        );
    }
    body += &event(
        "content_block_stop",
        &json!({ "type": "content_block_stop", "index": 0 }),
    );
    body += &event(
        "message_delta",
        &json!({ "type": "message_delta", "delta": { "stop_reason": stop }, "usage": { "output_tokens": 9 } }),
    );
    body + &event("message_stop", &json!({ "type": "message_stop" }))
}

/// Plays these answers in turn; gives back the requests it saw.
fn vendor(answers: Vec<(u16, &'static str, String)>) -> (String, thread::JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for (status, kind, body) in answers {
            let (mut stream, _) = listener.accept().expect("a caller");
            seen.push(request(&mut stream));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body.as_bytes()))
                .expect("written");
        }
        seen
    });
    (address, server)
}

fn ask(address: &str, words: &[&str]) -> std::process::Output {
    let mut command = std::env::current_exe().expect("the test runs");
    command.pop();
    command.pop();
    let command: PathBuf = command
        .join("examples")
        .join(format!("ask{}", std::env::consts::EXE_SUFFIX));
    Command::new(command)
        .args(words)
        .args(["--model", "anthropic/claude-sonnet-5"])
        .env("ANTHROPIC_API_KEY", "canary-key")
        .env("ANTHROPIC_BASE_URL", address)
        .output()
        .expect("the example is built")
}

#[test]
fn a_models_citations_become_places_with_the_exact_words() {
    let folder = tempfile::tempdir().expect("made");
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).expect("made");
    fs::write(
        docs.join("kettle.md"),
        "# Kettle\n\nDescale it once a month with citric acid. Keep the lid shut.\n",
    )
    .expect("written");
    let text = json!({ "type": "text", "text": "", "citations": [] });
    let cited = json!({ "type": "char_location", "document_index": 0, "start_char_index": 10, "end_char_index": 52,
        "cited_text": "Descale it once a month with citric acid. " });
    let (address, server) = vendor(vec![(
        200,
        "text/event-stream",
        answer(
            &text,
            &[
                json!({ "type": "citations_delta", "citation": cited }),
                json!({ "type": "text_delta", "text": "Every month, with acid." }),
            ],
            "end_turn",
        ),
    )]);
    let index = folder.path().join("index");
    let words = [
        "--index",
        index.to_str().expect("utf-8"),
        docs.to_str().expect("utf-8"),
        "How often do I descale?",
        "--json",
    ];
    let output = ask(&address, &words);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["answer"][0],
        json!({ "text": "Every month, with acid.", "citations": [1] })
    );
    assert_eq!(
        report["citations"][0]["quote"],
        "Descale it once a month with citric acid."
    );
    assert_eq!(report["model"], "anthropic/claude-sonnet-5");

    let seen = server.join().expect("the vendor ends");
    assert!(seen[0].0.contains("canary-key"), "the key goes to the vendor");
    let document = &seen[0].1["messages"][0]["content"][0];
    assert_eq!(
        (&document["type"], &document["citations"]["enabled"]),
        (&json!("document"), &json!(true)),
        "the vendor is asked for its own citations"
    );
    assert!(document["source"]["data"].to_string().contains("citric acid"));
}

#[test]
fn a_refused_key_is_one_sentence_and_never_printed() {
    let folder = tempfile::tempdir().expect("made");
    let docs = folder.path().join("docs");
    fs::create_dir(&docs).expect("made");
    fs::write(docs.join("a.md"), "Descale it once a month with citric acid.\n").expect("written");
    let refusal = json!({ "type": "error", "error": { "type": "authentication_error", "message": "invalid x-api-key" } });
    let (address, server) = vendor(vec![(401, "application/json", refusal.to_string())]);
    let index = folder.path().join("index");
    let output = ask(
        &address,
        &[
            "--index",
            index.to_str().expect("utf-8"),
            docs.to_str().expect("utf-8"),
            "What?",
        ],
    );
    server.join().expect("the vendor ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("refused the key") && told.contains("ANTHROPIC_API_KEY"),
        "{told}"
    );
    assert!(!told.contains("canary-key"));
}
