//! Answers where the rooms of the house meet: a vendor's own citations over a real local socket, the offline model, and the check
//! held against altered sentences.

#[path = "../benches/collections/mod.rs"]
mod collections;

use collections::Judged;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};
use stepwell::{
    prelude::*,
    providers::{Extractive, ModelOptions},
    rag::answer::{AnswerOutcome, CheckOptions, Doubt, Verdict, answer, check_claim},
    words::sentences,
};

const KETTLE: &str =
    "# Kettle\n\nDescale it once a month with citric acid. Keep the lid shut while it boils.\n";

async fn house() -> Arc<Collection> {
    let embedder = Arc::new(MiniLm::new().expect("built in"));
    let collection = Collection::in_memory()
        .embedder(embedder)
        .build()
        .await
        .expect("made");
    let oven = Document::new(
        "oven.md",
        "The oven beeps twice when it is hot. It weighs forty kilograms without its trays.",
    );
    collection
        .add([Document::new("kettle.md", KETTLE), oven])
        .await
        .expect("added");
    Arc::new(collection)
}

/// Reads one request; its body.
fn request(stream: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("readable");
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lengths = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            let length: usize = lengths.map_or(0, |length| length.trim().parse().expect("a number"));
            if body.len() >= length {
                return serde_json::from_str(body).expect("JSON");
            }
        }
        assert!(read > 0, "the request broke off");
    }
}

#[tokio::test]
async fn the_citations_of_anthropics_documents_become_bytes_of_ours() {
    let event = |data: Value| {
        format!(
            "event: {}\ndata: {data}\n\n",
            data["type"].as_str().expect("typed")
        )
    };
    let char_location = json!({ "type": "char_location", "cited_text": "Descale it once a month with citric acid. ",
        "document_index": 0, "document_title": "kettle.md", "start_char_index": 10, "end_char_index": 52 });
    let body = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "content": [],
            "model": "claude-sonnet-5", "stop_reason": null, "usage": { "input_tokens": 50, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "", "citations": [] } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "citations_delta", "citation": char_location } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Every month, with acid." } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ];
    let body: String = body.into_iter().map(event).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let vendor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let seen = request(&mut stream);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()))
            .expect("written");
        seen
    });
    let options = ModelOptions::default().api_key("canary-key").base_url(address);
    let model = stepwell::model_with("anthropic/claude-sonnet-5", options).expect("known");
    let answered = answer("How often do I descale?", house().await, model)
        .await
        .expect("answers");
    assert_eq!(
        (answered.outcome, answered.text.as_str()),
        (AnswerOutcome::Answered, "Every month, with acid.")
    );
    let citation = &answered.citations[0];
    assert_eq!(
        (citation.document_id.as_str(), citation.quote.as_str()),
        ("kettle.md", "Descale it once a month with citric acid.")
    );
    assert_eq!(citation.quote, KETTLE[citation.span.clone()]);
    assert!(answered.warnings.is_empty(), "{:?}", answered.warnings);

    let seen = vendor.join().expect("the vendor ends");
    let content = &seen["messages"][0]["content"];
    assert_eq!(content[0]["type"], "document");
    assert_eq!(content[0]["citations"], json!({ "enabled": true }));
    assert_eq!(
        content[0]["source"],
        json!({ "type": "text", "media_type": "text/plain", "data": KETTLE })
    );
    assert_eq!(
        content.as_array().expect("a list").last().expect("a question")["text"],
        "How often do I descale?"
    );
    assert!(
        !seen["system"].to_string().contains("Descale"),
        "passages are no instructions"
    );
}

#[tokio::test]
async fn the_offline_model_answers_and_says_when_it_cannot() {
    let embedder = Arc::new(MiniLm::new().expect("built in"));
    let model = Arc::new(Extractive::new().embedder(embedder.clone()));
    let answered = answer("How often do I descale the kettle?", house().await, model.clone())
        .await
        .expect("answers");
    assert!(
        answered
            .text
            .starts_with("Descale it once a month with citric acid."),
        "{}",
        answered.text
    );
    for citation in &answered.citations {
        assert_eq!(citation.quote, KETTLE[citation.span.clone()]);
    }
    let report = answered.check().embedder(embedder).await.expect("offline");
    assert!(report.is_supported(), "{report:?}");
    let none = answer("Who won the world cup in 1966?", house().await, model.clone())
        .await
        .expect("an outcome");
    assert_eq!(none.outcome, AnswerOutcome::NotTold);
}

/// A sample of what `benches/answer_check.rs` measures whole.
#[test]
fn sentences_of_abstracts_are_supported_by_themselves_and_doubted_with_another_number_or_source() {
    let Some(judged) = Judged::read("scifact") else {
        println!("skipped: SciFact is not among the fixtures");
        return;
    };
    let options = CheckOptions::default();
    let sample: Vec<String> = judged
        .documents
        .iter()
        .step_by(41)
        .filter_map(|document| {
            let all = sentences(&document.text);
            Some(document.text[all.get(all.len() / 2)?.clone()].to_owned())
        })
        .collect();
    assert!(sample.len() > 100);
    let (mut supported, mut numbers, mut caught, mut foreign) = (0, 0, 0, 0);
    for (at, sentence) in sample.iter().enumerate() {
        let own = check_claim(sentence, &[sentence], None, &options);
        supported += usize::from(own.verdict == Verdict::Supported);
        let words: Vec<&str> = sentence.split(' ').collect();
        if let Some(place) = words
            .iter()
            .position(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let mut other: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            other[place] = (words[place].parse::<u128>().expect("digits") + 7).to_string();
            numbers += 1;
            let altered = check_claim(&other.join(" "), &[sentence], None, &options);
            caught += usize::from(altered.doubts.contains(&Doubt::Number));
        }
        let another = &sample[(at + 1) % sample.len()];
        foreign +=
            usize::from(check_claim(sentence, &[another], None, &options).verdict == Verdict::Unsupported);
    }
    assert_eq!(supported, sample.len(), "every sentence bears itself out");
    assert!(numbers > 10 && caught == numbers, "{caught} of {numbers}");
    assert!(
        foreign * 100 >= sample.len() * 98,
        "{foreign} of {}",
        sample.len()
    );
}
