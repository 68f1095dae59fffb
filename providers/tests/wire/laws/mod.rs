//! [`Law`]: what a wire asks of a conversation, read from the bodies alone and from the vendors' own words, without
//! a look at our rules.

mod completions;
mod contents;
mod messages;
mod ollama;
mod responses;

pub(crate) use completions::Calls;

use serde_json::Value;

/// The law of a wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    /// Anthropic Messages.
    Messages {
        /// Whether the last turn may be the model's.
        may_prefill: bool,
    },
    /// Chat Completions.
    Completions(Calls),
    /// Responses, without anything kept at the vendor.
    Responses {
        /// Whether a thought has to carry its encrypted content.
        must_seal: bool,
    },
    /// Gemini's contents.
    Contents {
        /// Whether the first call of each turn has to be signed.
        must_sign: bool,
    },
    /// Ollama's own.
    Ollama,
}

impl Law {
    /// What of a body is against it.
    pub(crate) fn faults(&self, body: &Value) -> Vec<String> {
        let mut faults = Faults::default();
        match self {
            Self::Messages { may_prefill } => messages::check(body, *may_prefill, &mut faults),
            Self::Completions(calls) => completions::check(body, calls, &mut faults),
            Self::Responses { must_seal } => responses::check(body, *must_seal, &mut faults),
            Self::Contents { must_sign } => contents::check(body, *must_sign, &mut faults),
            Self::Ollama => ollama::check(body, &mut faults),
        }
        faults.0
    }

    /// The turns of a body.
    pub(crate) fn turns<'b>(&self, body: &'b Value) -> &'b [Value] {
        list(match self {
            Self::Messages { .. } | Self::Completions(_) | Self::Ollama => &body["messages"],
            Self::Responses { .. } => &body["input"],
            Self::Contents { .. } => &body["contents"],
        })
    }
}

/// What was found.
#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    /// Says so where something does not hold.
    fn unless(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether there are words that are not all blanks.
fn has_words(value: &Value) -> bool {
    !word(value).trim().is_empty()
}

/// Whether a name consists of these letters alone.
fn is_of(name: &str, lengths: std::ops::RangeInclusive<usize>, more: &str) -> bool {
    lengths.contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// A law that nothing breaks proves nothing: bodies that the vendors refuse, each with the fault that is found.
#[cfg(test)]
mod tests {
    use super::{Calls, Law};
    use serde_json::{Value, json};

    fn assert_refused(law: Law, cases: &[(Value, &str)]) {
        for (body, fault) in cases {
            let found = law.faults(body);
            assert!(
                found.iter().any(|found| found.contains(fault)),
                "{law:?}, {body}: {found:?}"
            );
        }
    }

    #[test]
    fn the_law_of_messages_is_broken_by_what_the_vendor_refuses() {
        let law = Law::Messages { may_prefill: false };
        let asked = json!({ "role": "user", "content": [{ "type": "text", "text": "x" }] });
        let call = json!({ "type": "tool_use", "id": "a", "name": "f", "input": {} });
        let result = json!({ "type": "tool_result", "tool_use_id": "a", "content": [] });
        let said =
            |blocks: Value| json!({ "messages": [asked, { "role": "assistant", "content": blocks }, asked] });
        let sound = json!({ "messages": [asked, { "role": "assistant", "content": [call] }, { "role": "user", "content": [result] }] });
        assert_eq!(law.faults(&sound), [""; 0]);
        assert_refused(
            law,
            &[
                (json!({ "messages": [] }), "no turns"),
                (json!({ "messages": [asked, asked] }), "user twice"),
                (said(json!([])), "it is empty"),
                (said(json!([{ "type": "text", "text": " " }])), "no words"),
                (said(json!([call])), "calls [\"a\"], results []"),
                (
                    said(
                        json!([{ "type": "text", "text": "x" }, { "type": "thinking", "thinking": "x", "signature": "s" }]),
                    ),
                    "ends with a thought",
                ),
                (
                    said(json!([{ "type": "thinking", "thinking": "x" }, { "type": "text", "text": "x" }])),
                    "without its signature",
                ),
                (
                    said(json!([{ "type": "tool_use", "id": "a:1", "name": "f", "input": {} }])),
                    "id `a:1`",
                ),
                (
                    said(json!([{ "type": "tool_use", "id": "a", "name": "f.g", "input": {} }])),
                    "name `f.g`",
                ),
                (
                    said(json!([{ "type": "web_search_tool_result", "tool_use_id": "s", "content": [] }])),
                    "without its call",
                ),
                (
                    json!({ "messages": [asked, { "role": "assistant", "content": [{ "type": "text", "text": "x" }] }] }),
                    "the last turn",
                ),
                (
                    json!({ "messages": [asked, { "role": "assistant", "content": [call] }, { "role": "user", "content": [{ "type": "text", "text": "x" }, result] }] }),
                    "behind other blocks",
                ),
                (
                    json!({ "thinking": { "type": "enabled" }, "messages": sound["messages"] }),
                    "does not begin with a thought",
                ),
                (
                    said(
                        json!([{ "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} }, { "type": "text", "text": "x" }]),
                    ),
                    "no result of `s`",
                ),
            ],
        );
    }

    #[test]
    fn the_law_of_completions_is_broken_by_what_servers_refuse() {
        let strict = Law::Completions(Calls {
            nine: true,
            user_after_results: false,
            one_system: true,
            alternates: true,
            assistant_last: Some("prefix"),
            must_think: true,
            ..Calls::default()
        });
        let asked = json!({ "role": "user", "content": "x" });
        let call = |id: &str| json!({ "role": "assistant", "reasoning_content": "", "tool_calls": [{ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
        let result = |id: &str| json!({ "role": "tool", "content": "", "tool_call_id": id });
        let sound = json!({ "messages": [asked, call("AbCdEfGh1"), result("AbCdEfGh1")] });
        assert_eq!(strict.faults(&sound), [""; 0]);
        assert_refused(
            strict,
            &[
                (json!({ "messages": [asked, asked] }), "user twice"),
                (
                    json!({ "messages": [asked, { "role": "system", "content": "x" }] }),
                    "late system",
                ),
                (
                    json!({ "messages": [call("AbCdEfGh1"), result("AbCdEfGh1")] }),
                    "the model begins",
                ),
                (
                    json!({ "messages": [asked, call("call_1"), result("call_1")] }),
                    "id `call_1`",
                ),
                (json!({ "messages": [asked, call("AbCdEfGh1")] }), "no results of"),
                (
                    json!({ "messages": [asked, call("AbCdEfGh1"), asked] }),
                    "where results",
                ),
                (json!({ "messages": [asked, result("AbCdEfGh1")] }), "is not open"),
                (
                    json!({ "messages": [asked, call("AbCdEfGh1"), result("AbCdEfGh1"), asked] }),
                    "a user after results",
                ),
                (
                    json!({ "messages": [asked, { "role": "assistant", "content": "x" }] }),
                    "no reasoning",
                ),
                (
                    json!({ "messages": [asked, { "role": "assistant", "reasoning_content": "", "content": "x" }] }),
                    "the last turn",
                ),
                (
                    json!({ "messages": [asked, { "role": "assistant", "reasoning_content": "x" }] }),
                    "says nothing",
                ),
                (
                    json!({ "messages": [{ "role": "user", "content": "" }] }),
                    "an empty text",
                ),
            ],
        );
    }

    #[test]
    fn the_law_of_responses_is_broken_by_what_the_vendor_refuses() {
        let law = Law::Responses { must_seal: true };
        let asked = json!({ "role": "user", "content": "x" });
        let thought = json!({ "type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "s" });
        let call = json!({ "type": "function_call", "call_id": "a", "name": "f", "arguments": "{}" });
        let result = json!({ "type": "function_call_output", "call_id": "a", "output": "" });
        let body = |items: Value| json!({ "store": false, "input": items });
        assert_eq!(law.faults(&body(json!([asked, thought, call, result]))), [""; 0]);
        assert_refused(
            law,
            &[
                (json!({ "input": [asked] }), "stored"),
                (body(json!([asked, thought, asked])), "a thought before"),
                (
                    body(json!([asked, { "type": "reasoning", "summary": [] }, call, result])),
                    "not sealed",
                ),
                (body(json!([asked, call])), "no results of"),
                (body(json!([asked, call, asked, result])), "where results"),
                (body(json!([asked, result])), "expected"),
                (body(json!([asked, call, result, call, result])), "twice"),
                (
                    body(json!([{ "role": "assistant", "id": "msg", "content": "x" }])),
                    "an id of its own",
                ),
                (body(json!([{ "role": "user", "content": [] }])), "no pieces"),
            ],
        );
    }

    #[test]
    fn the_laws_of_gemini_and_ollama_are_broken_by_what_they_refuse() {
        let law = Law::Contents { must_sign: true };
        let asked = json!({ "role": "user", "parts": [{ "text": "x" }] });
        let call = json!({ "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "s" }] });
        let result =
            json!({ "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": {} } }] });
        let body = |contents: Value| json!({ "contents": contents });
        assert_eq!(law.faults(&body(json!([asked, call, result]))), [""; 0]);
        let bare = json!({ "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] });
        assert_refused(
            law,
            &[
                (body(json!([call, result])), "the model begins"),
                (body(json!([asked, bare, result])), "not signed"),
                (body(json!([asked, call, asked])), "results []"),
                (body(json!([asked, result])), "no calls before"),
                (
                    body(json!([asked, { "role": "model", "parts": [{ "text": "x" }] }, call, result])),
                    "no user and no results",
                ),
                (
                    body(json!([{ "role": "user", "parts": [{ "text": "" }] }])),
                    "an empty text",
                ),
                (body(json!([{ "role": "user", "parts": [] }])), "no parts"),
            ],
        );
        let asked = json!({ "role": "user", "content": "x" });
        let call = json!({ "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "f", "arguments": {} } }] });
        let result = |name: &str| json!({ "role": "tool", "content": "x", "tool_name": name });
        let body = |turns: Value| json!({ "options": { "num_ctx": 4096 }, "messages": turns });
        assert_eq!(
            Law::Ollama.faults(&body(json!([asked, call, result("f")]))),
            [""; 0]
        );
        assert_refused(
            Law::Ollama,
            &[
                (json!({ "messages": [asked] }), "num_ctx"),
                (body(json!([asked, call])), "no results of"),
                (body(json!([asked, call, result("g")])), "a result of `g`"),
                (body(json!([asked, result("f")])), "a result of `f`"),
                (body(json!([{ "role": "user", "content": "" }])), "says nothing"),
            ],
        );
    }
}
