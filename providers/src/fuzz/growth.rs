//! Work and memory grow with the bytes that come, whatever they say: streams of very many small things.

use super::wires::wires;
use bytes::Bytes;
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};
use stepwell_core::Fold;

type Write = fn(usize, &mut String);

/// Very many of one thing, on each wire: by name, what begins the stream, and the thing.
fn floods() -> Vec<(&'static str, &'static str, &'static str, Write)> {
    const MESSAGE: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"content\":[]}}\n\n";
    const OPEN_CALL: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"content\":[]}}\n\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n";
    const OPEN_TEXT: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"content\":[]}}\n\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    const CREATED: &str =
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\n";
    const CREATED_CALL: &str = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"id\":\"f\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"\"}}\n\n";
    vec![
        ("messages", "blocks", MESSAGE, |n, out| {
            write!(out, "data: {{\"type\":\"content_block_start\",\"index\":{n},\"content_block\":{{\"type\":\"text\",\"text\":\"x\"}}}}\n\ndata: {{\"type\":\"content_block_stop\",\"index\":{n}}}\n\n").expect("fits");
        }),
        ("messages", "blocks that stay open", MESSAGE, |n, out| {
            write!(out, "data: {{\"type\":\"content_block_start\",\"index\":{n},\"content_block\":{{\"type\":\"tool_use\",\"id\":\"t{n}\",\"name\":\"f\",\"input\":{{}}}}}}\n\n").expect("fits");
        }),
        ("messages", "pieces of arguments", OPEN_CALL, |_, out| {
            out.push_str("data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"[\"}}\n\n");
        }),
        ("messages", "pieces of text", OPEN_TEXT, |_, out| {
            out.push_str("data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n");
        }),
        ("messages", "citations", OPEN_TEXT, |_, out| {
            out.push_str("data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"type\":\"char_location\",\"cited_text\":\"x\",\"document_index\":0,\"start_char_index\":0,\"end_char_index\":1}}}\n\n");
        }),
        ("messages", "pings", MESSAGE, |_, out| {
            out.push_str("event: ping\ndata: {\"type\":\"ping\"}\n\n");
        }),
        ("chat_completions", "calls", "", |n, out| {
            write!(out, "data: {{\"id\":\"a\",\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":{n},\"id\":\"t{n}\",\"function\":{{\"name\":\"f\",\"arguments\":\"{{}}\"}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("chat_completions", "calls without a name", "", |n, out| {
            write!(out, "data: {{\"id\":\"a\",\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":{n},\"id\":\"t{n}\",\"function\":{{\"arguments\":\"x\"}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("chat_completions", "pieces of text", "", |_, out| {
            out.push_str("data: {\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n");
        }),
        ("chat_completions", "text and thought by turns", "", |n, out| {
            let field = if n % 2 == 0 {
                "content"
            } else {
                "reasoning_content"
            };
            write!(
                out,
                "data: {{\"id\":\"a\",\"choices\":[{{\"delta\":{{\"{field}\":\"x\"}}}}]}}\n\n"
            )
            .expect("fits");
        }),
        ("chat_completions", "details of thoughts", "", |n, out| {
            write!(out, "data: {{\"id\":\"a\",\"choices\":[{{\"delta\":{{\"reasoning_details\":[{{\"type\":\"reasoning.text\",\"text\":\"x\",\"index\":{n}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("chat_completions", "annotations", "", |n, out| {
            write!(out, "data: {{\"id\":\"a\",\"choices\":[{{\"delta\":{{\"content\":\"x\",\"annotations\":[{{\"type\":\"url_citation\",\"url_citation\":{{\"url\":\"http://x/{n}\"}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("responses", "items", CREATED, |n, out| {
            write!(out, "data: {{\"type\":\"response.output_item.added\",\"output_index\":{n},\"item\":{{\"type\":\"function_call\",\"id\":\"f{n}\",\"call_id\":\"c{n}\",\"name\":\"f\",\"arguments\":\"\"}}}}\n\n").expect("fits");
        }),
        ("responses", "parts of an item", CREATED, |n, out| {
            write!(out, "data: {{\"type\":\"response.content_part.added\",\"output_index\":0,\"content_index\":{n},\"part\":{{\"type\":\"output_text\",\"text\":\"\"}}}}\n\ndata: {{\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":{n},\"delta\":\"x\"}}\n\n").expect("fits");
        }),
        ("responses", "summaries", CREATED, |n, out| {
            write!(out, "data: {{\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"summary_index\":{n},\"delta\":\"x\"}}\n\n").expect("fits");
        }),
        ("responses", "pieces of arguments", CREATED_CALL, |_, out| {
            out.push_str("data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":\"[\"}\n\n");
        }),
        ("generate_content", "calls", "", |n, out| {
            write!(out, "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"id\":\"c{n}\",\"name\":\"f\",\"args\":{{}}}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("generate_content", "text and thought by turns", "", |n, out| {
            write!(out, "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"x\",\"thought\":{}}}]}}}}]}}\n\n", n % 2 == 0).expect("fits");
        }),
        ("generate_content", "pieces of arguments", "", |n, out| {
            let name = if n == 0 { "\"name\":\"f\"," } else { "" };
            write!(out, "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{{name}\"partialArgs\":[{{\"jsonPath\":\"$.a[{n}]\",\"stringValue\":\"x\",\"willContinue\":true}}],\"willContinue\":true}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("generate_content", "grounding", "", |n, out| {
            write!(out, "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"x\"}}]}},\"groundingMetadata\":{{\"groundingChunks\":[{{\"web\":{{\"uri\":\"http://x/{n}\"}}}}]}}}}]}}\n\n").expect("fits");
        }),
        ("ollama_native", "calls", "", |n, out| {
            writeln!(out, "{{\"message\":{{\"tool_calls\":[{{\"function\":{{\"name\":\"f{n}\",\"arguments\":{{}}}}}}]}},\"done\":false}}").expect("fits");
        }),
        ("ollama_native", "text and thought by turns", "", |n, out| {
            let field = if n % 2 == 0 { "content" } else { "thinking" };
            writeln!(out, "{{\"message\":{{\"{field}\":\"x\"}},\"done\":false}}").expect("fits");
        }),
    ]
}

#[test]
fn very_many_small_things_are_read_in_time_or_refused_for_their_number() {
    // More than an answer may have parts.
    const COUNT: usize = 10_100;
    let mut longest = Duration::ZERO;
    let floods = floods();
    let count = floods.len();
    for (name, what, start, write) in floods {
        let wire = wires()
            .into_iter()
            .find(|wire| wire.name == name)
            .expect("a wire");
        let mut body = start.to_owned();
        for n in 0..COUNT {
            write(n, &mut body);
        }
        let begun = Instant::now();
        let (events, error) = wire.read(vec![Ok(Bytes::from(body))]);
        let mut fold = Fold::new("acme", "m", false);
        let folded = events.into_iter().try_for_each(|event| fold.push(event));
        longest = longest.max(begun.elapsed());
        let code = folded.err().or(error).map(|error| error.code());
        let is_of_parts = ["blocks", "calls", "items", "parts", "turns"]
            .iter()
            .any(|word| what.contains(word));
        let is_one_part = name == "chat_completions" && what.contains("turns");
        let expected = if is_of_parts && !is_one_part {
            "limit_exceeded"
        } else {
            "stream_truncated"
        };
        assert_eq!(code, Some(expected), "{name}, {what}");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{name}, {what}: {:?}",
            begun.elapsed()
        );
    }
    println!("{count} floods of {COUNT}, the longest in {longest:?}");
}
