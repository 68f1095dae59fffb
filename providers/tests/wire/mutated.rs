//! The check of recorded exchanges can fail: whatever matters of an answer or a request, it notices when it is another.

use crate::{
    frame::mutation::{self, Kind},
    recorded::{corpus, is_long},
};

/// What has to be noticed of an answer: the wire, and how the names of its places end.
const MATTERS: [(&str, &str); 60] = [
    ("messages", " text_delta.delta.text"),
    ("messages", " input_json_delta.delta.partial_json"),
    ("messages", " thinking_delta.delta.thinking"),
    ("messages", " signature_delta.delta.signature"),
    ("messages", " tool_use.content_block.id"),
    ("messages", " tool_use.content_block.name"),
    ("messages", "message_delta.usage.output_tokens"),
    ("messages", "message_delta.delta.stop_reason"),
    ("messages", "message_start.message.id"),
    ("messages", "message_start.message.model"),
    ("messages", "[].signature"),
    ("messages", "[].thinking"),
    ("messages", "[].citations[].cited_text"),
    ("messages", "[].citations[].url"),
    ("messages", "[].encrypted_content"),
    ("messages", ".usage.cache_read_input_tokens"),
    ("chat_completions", "delta content.choices[].delta.content"),
    (
        "chat_completions",
        "delta tool_calls.choices[].delta.tool_calls[].id",
    ),
    (
        "chat_completions",
        "delta tool_calls.choices[].delta.tool_calls[].function.name",
    ),
    (
        "chat_completions",
        "delta tool_calls.choices[].delta.tool_calls[].function.arguments",
    ),
    ("chat_completions", "delta reasoning.choices[].delta.reasoning"),
    (
        "chat_completions",
        "delta reasoning_content.choices[].delta.reasoning_content",
    ),
    ("chat_completions", "delta refusal.choices[].delta.refusal"),
    ("chat_completions", "reasoning_details[].signature"),
    ("chat_completions", "delta  end.choices[].finish_reason"),
    ("chat_completions", "message.tool_calls[].function.arguments"),
    ("chat_completions", "message.tool_calls[].function.name"),
    ("chat_completions", "message.reasoning_content"),
    ("chat_completions", "message.refusal"),
    ("responses", ".output[].content[].text"),
    ("responses", ".output[].arguments"),
    ("responses", ".output[].call_id"),
    ("responses", ".output[].name"),
    ("responses", ".output[].summary[].text"),
    ("responses", ".output[].encrypted_content"),
    ("responses", ".output[].content[].annotations[].url"),
    ("responses", "output_item.done reasoning.item.encrypted_content"),
    ("responses", "output_item.added function_call.item.name"),
    ("responses", "output_item.added function_call.item.call_id"),
    ("responses", "output_item.done function_call.item.arguments"),
    ("responses", "response.output_text.delta.delta"),
    ("responses", "response.completed.response.usage.output_tokens"),
    ("responses", "response.completed.response.usage.input_tokens"),
    ("responses", "response.completed.response.status"),
    ("generate_content", "parts[].text"),
    ("generate_content", "parts[].thoughtSignature"),
    ("generate_content", "parts[].functionCall.name"),
    ("generate_content", "candidates[].finishReason"),
    ("ollama_native", "message.content"),
    ("ollama_native", "message.thinking"),
    ("ollama_native", "message.tool_calls[].function.name"),
    ("ollama_native", ".eval_count"),
    ("ollama_native", ".done_reason"),
    ("embeddings", "data[].embedding[]"),
    ("embeddings", "embeddings[].values[]"),
    ("embeddings", "embeddings.float[][]"),
    ("rerank", "[].index"),
    ("rerank", "[].relevance_score"),
    ("count_tokens", ".input_tokens"),
    ("count_tokens", ".totalTokens"),
];

/// Places that say the same twice: the copy that is not read.
const COPIES: [&str; 6] = [
    // Counts so far; the last event tells them all.
    "message_start.message.usage",
    // A reason that the next chunk tells again.
    "chunk executableCode.candidates[].finishReason",
    // The item is told whole by its own event; the last event tells it again.
    "response.completed.response.output[]",
    "response.incomplete.response.output[]",
    // Perplexity sends the message so far beside each piece.
    ".choices[].message.content",
    "response.created",
];

/// What of a request may be another, each with its reason.
const MAY_DIFFER: [(&str, &str, &str); 10] = [
    (
        "chat_completions",
        ".model",
        "Azure reads the deployment from the path",
    ),
    ("embeddings", ".model", "as above"),
    (
        "chat_completions",
        ".stream",
        "we always stream, whatever was recorded",
    ),
    ("messages", ".stream", "as above"),
    ("ollama_native", ".stream", "as above"),
    ("responses", ".stream", "as above"),
    (
        "chat_completions",
        ".stream_options.include_usage",
        "we always ask for usage",
    ),
    (
        "chat_completions",
        ".stream_options.include_obfuscation",
        "and for no padding",
    ),
    (
        "count_tokens",
        ".generateContentRequest.model",
        "contents alone are the short form, without it",
    ),
    (
        "responses",
        ".text.format.strict",
        "a schema is always kept to strictly",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_matters_is_noticed_when_it_is_another() {
    let Some(path) = corpus() else { return };
    let most = if is_long() { 3 } else { 1 };
    let matters = |api: &str, key: &str| {
        let mut ends = MATTERS.iter();
        ends.any(|(of, end)| *of == api && key.ends_with(end))
            && !COPIES.iter().any(|copy| key.contains(copy))
    };
    // Every place in the long run.
    let wanted = |kind: Kind, api: &str, key: &str| {
        is_long() || kind == Kind::Request || kind == Kind::Answer && matters(api, key)
    };
    let mutations = mutation::run(&path, most, wanted).await.expect("it can be run");
    println!("{}", mutations.table());
    // A part of the corpus has a part of the places.
    let is_whole = std::env::var_os("STEPWELL_WIRE").is_none();
    let mut faults = Vec::new();
    for (api, end) in MATTERS {
        let mut count = 0;
        for ((kind, of, key), told) in &mutations.places {
            let is_meant = *kind == Kind::Answer && of == api && key.ends_with(end);
            if is_meant && !COPIES.iter().any(|copy| key.contains(copy)) {
                count += 1;
                if told.noticed < told.tried {
                    faults.push(format!("{api}: {key} is overlooked"));
                }
            }
        }
        if count == 0 && is_whole {
            faults.push(format!("{api}: {end} is not met"));
        }
    }
    for ((kind, api, key), told) in &mutations.places {
        let is_allowed = MAY_DIFFER.iter().any(|(of, place, _)| of == api && place == key);
        if *kind == Kind::Request && told.noticed < told.tried && !is_allowed {
            faults.push(format!("a request of {api}: {key} is overlooked"));
        }
    }
    for fault in &faults {
        println!("{fault}");
    }
    assert!(faults.is_empty(), "{} faults", faults.len());
}
