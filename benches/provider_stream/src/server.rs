//! A server shaped like OpenAI's and Anthropic's, its streams built beforehand, so that its own cost is the same for
//! every client. The path's first word says how a stream comes:
//! `/fast`, `/short`, `/slow` or `/idle`.

use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::Child,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Deltas of a fast stream.
pub const CHUNKS: usize = 2_000;
/// Deltas of a slow stream, and the time between two.
const SLOW_CHUNKS: usize = 100;
pub const PACE_MS: u64 = 20;
const WORDS: [&str; 8] = ["alpha ", "beta ", "gamma ", "delta ", "naïve ", "東京 ", "epsilon ", "zeta "];

pub fn port_of(server: &mut Child) -> u16 {
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    line.trim().parse().expect("a port")
}

pub fn run() {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            println!("{}", listener.local_addr().expect("an address").port());
            let (openai, anthropic) = (openai(), anthropic());
            let (openai, anthropic): (&'static [String], &'static [String]) = (openai.leak(), anthropic.leak());
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, openai, anthropic));
            }
        });
}

async fn serve(mut socket: TcpStream, openai: &'static [String], anthropic: &'static [String]) {
    let _ = socket.set_nodelay(true);
    while let Some(path) = request(&mut socket).await {
        let events = if path.ends_with("/messages") { anthropic } else { openai };
        if stream(&mut socket, &path, events).await.is_err() {
            return;
        }
    }
}

async fn stream(socket: &mut TcpStream, path: &str, events: &[String]) -> std::io::Result<()> {
    socket
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    let mut send = async |text: &str| -> std::io::Result<()> {
        let mut chunk = String::with_capacity(text.len() + 16);
        let _ = write!(chunk, "{:x}\r\n{text}\r\n", text.len());
        socket.write_all(chunk.as_bytes()).await
    };
    let (head, tail) = (&events[..2], &events[CHUNKS..]);
    if path.starts_with("/idle") {
        send(&head.concat()).await?;
        std::future::pending::<()>().await;
    } else if path.starts_with("/slow") {
        send(&events[0]).await?;
        for event in &events[1..SLOW_CHUNKS] {
            tokio::time::sleep(Duration::from_millis(PACE_MS)).await;
            send(event).await?;
        }
        send(&tail.concat()).await?;
    } else if path.starts_with("/short") {
        send(&(head.concat() + &tail.concat())).await?;
    } else {
        let whole = events.concat();
        let mut rest = whole.as_str();
        while !rest.is_empty() {
            let mut at = rest.len().min(16_384);
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            send(&rest[..at]).await?;
            rest = &rest[at..];
        }
    }
    socket.write_all(b"0\r\n\r\n").await
}

async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match socket.read(&mut buffer).await.ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        match socket.read(&mut buffer).await.ok()? {
            0 => return None,
            count => body.extend_from_slice(&buffer[..count]),
        }
    }
    Some(head.split(' ').nth(1)?.to_owned())
}

fn openai() -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_763_474_589, "model": "gpt-4o-mini-2024-07-18",
            "service_tier": "default", "system_fingerprint": "fp_1", "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]), Value::Null)
    };
    let mut events = vec![delta(json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null)];
    events.extend((0..CHUNKS).map(|at| delta(json!({ "content": WORDS[at % 8] }), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    events.push(chunk(
        json!([]),
        json!({ "prompt_tokens": 15, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 15,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0 } }),
    ));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn anthropic() -> Vec<String> {
    let event = |kind: &str, fields: Value| {
        let mut event = json!({ "type": kind });
        event.as_object_mut().expect("an object").extend(fields.as_object().cloned().unwrap_or_default());
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let mut events = vec![
        event("message_start", json!({ "message": { "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
            "usage": { "input_tokens": 15, "output_tokens": 1 } } }))
            + &event("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } })),
    ];
    events.extend((0..CHUNKS).map(|at| {
        event("content_block_delta", json!({ "index": 0, "delta": { "type": "text_delta", "text": WORDS[at % 8] } }))
    }));
    events.push(event("content_block_stop", json!({ "index": 0 })));
    events.push(event("message_delta", json!({ "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": CHUNKS } })));
    events.push(event("message_stop", json!({})));
    events
}
