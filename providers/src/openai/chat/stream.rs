//! Chunks of Chat Completions → [`StreamEvent`]s. Pure.

use super::wire;
use crate::{
    answer::{Decoder, Out, unreadable},
    openai::{VENDOR, failure},
};
use serde_json::value::RawValue;
use stepwell_core::{Error, FinishReason, Refusal, Result, StreamEvent, Usage, VendorFailure, Warning};

/// A call that has begun.
#[derive(Debug)]
struct Call {
    /// The vendor's index, where it gives one.
    at: Option<u64>,
    id: Option<String>,
    name: Option<String>,
    /// Our index, once the start was handed out.
    index: Option<u32>,
    /// Arguments that came before the name.
    waiting: String,
}

/// The decoder of one answer.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // four facts that come in any order and combination
pub(crate) struct Completion {
    model: String,
    id: Option<String>,
    has_started: bool,
    next: u32,
    /// The text part that is open.
    text: Option<u32>,
    calls: Vec<Call>,
    refusal: Option<String>,
    finish: Option<String>,
    has_usage: bool,
    has_other_choices: bool,
    is_finished: bool,
}

impl Completion {
    /// For an answer of this model.
    pub(crate) fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            id: None,
            has_started: false,
            next: 0,
            text: None,
            calls: Vec::new(),
            refusal: None,
            finish: None,
            has_usage: false,
            has_other_choices: false,
            is_finished: false,
        }
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// A chunk, or a whole body.
    pub(crate) fn chunk(&mut self, chunk: wire::Chunk<'_>, out: &mut Out) -> Result<()> {
        if let Some(error) = chunk.error {
            return Err(self.failure(error.get()));
        }
        if !self.has_started {
            self.has_started = true;
            let word = |raw: Option<&RawValue>| {
                raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
                    .filter(|word| !word.is_empty())
            };
            self.id = word(chunk.id);
            out.push_back(StreamEvent::MessageStart {
                id: self.id.clone(),
                model: word(chunk.model),
                request_id: None,
            });
        }
        for choice in chunk.choices.into_iter().flatten() {
            if choice.index.unwrap_or(0) != 0 {
                if !self.has_other_choices {
                    self.has_other_choices = true;
                    out.push_back(StreamEvent::Warning(Warning::new(
                        "choices_left_out",
                        "the vendor sent several answers (`n` above 1); only the first is read",
                    )));
                }
                continue;
            }
            if let Some(delta) = choice.delta.or(choice.message) {
                self.delta(delta, out);
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                // Some gateways say it twice; the first is the vendor's.
                self.finish.get_or_insert(reason);
            }
        }
        if let Some(usage) = chunk.usage {
            self.has_usage = true;
            out.push_back(StreamEvent::Usage(usage_of(&usage)));
        }
        Ok(())
    }

    fn delta(&mut self, delta: wire::Delta, out: &mut Out) {
        let words = delta
            .content
            .filter(|text| !text.is_empty())
            .or_else(|| delta.audio.and_then(|audio| audio.transcript));
        if let Some(text) = words.filter(|text| !text.is_empty()) {
            let index = if let Some(index) = self.text {
                index
            } else {
                let index = self.index();
                self.text = Some(index);
                out.push_back(StreamEvent::TextStart { index });
                index
            };
            out.push_back(StreamEvent::TextDelta { index, text });
        }
        if let Some(refusal) = delta.refusal {
            self.refusal.get_or_insert_default().push_str(&refusal);
        }
        for piece in delta.tool_calls.into_iter().flatten() {
            self.call(piece, out);
        }
    }

    fn call(&mut self, piece: wire::CallPiece, out: &mut Out) {
        let id = piece.id.filter(|id| !id.is_empty());
        let (name, arguments) = match (piece.function, piece.custom) {
            (Some(function), _) => (function.name, function.arguments),
            // Free text is no JSON: the call keeps it as it came.
            (None, Some(custom)) => (custom.name, custom.input),
            (None, None) => (None, None),
        };
        let position = self.position(piece.index, id.as_deref());
        let position = position.unwrap_or_else(|| {
            self.calls.push(Call {
                at: piece.index,
                id: None,
                name: None,
                index: None,
                waiting: String::new(),
            });
            self.calls.len() - 1
        });
        let call = &mut self.calls[position];
        call.id = call.id.take().or(id);
        call.name = call.name.take().or(name.filter(|name| !name.is_empty()));
        let arguments = arguments.unwrap_or_default();
        match call.index {
            Some(index) if !arguments.is_empty() => {
                out.push_back(StreamEvent::ToolCallDelta { index, arguments });
            }
            Some(_) => {}
            None => {
                call.waiting.push_str(&arguments);
                if call.name.is_some() && (call.id.is_some() || !call.waiting.is_empty()) {
                    self.open(position, out);
                }
            }
        }
    }

    /// The call a fragment belongs to: by index, but a new id on a known index is a new call; without an index
    /// by id; without either the latest.
    fn position(&self, at: Option<u64>, id: Option<&str>) -> Option<usize> {
        let is_other = |call: &Call| matches!((&call.id, id), (Some(known), Some(id)) if known != id);
        let found = match (at, id) {
            (Some(at), _) => self.calls.iter().rposition(|call| call.at == Some(at)),
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id.as_deref() == Some(id)),
            (None, None) => self.calls.len().checked_sub(1),
        };
        match found {
            // It may be an older call of that index that goes on.
            Some(position) if is_other(&self.calls[position]) => self
                .calls
                .iter()
                .rposition(|call| call.id.is_some() && call.id.as_deref() == id),
            found => found,
        }
    }

    /// The name is known: the call can be shown.
    fn open(&mut self, position: usize, out: &mut Out) {
        if let Some(index) = self.text.take() {
            out.push_back(StreamEvent::TextEnd { index, opaque: None });
        }
        let index = self.index();
        let call = &mut self.calls[position];
        // Some servers give no ids; ours are the same whenever the same answer is read.
        let id = call
            .id
            .get_or_insert_with(|| match &self.id {
                Some(answer) => format!("call_{answer}_{position}"),
                None => format!("call_{position}"),
            })
            .clone();
        call.index = Some(index);
        out.push_back(StreamEvent::ToolCallStart {
            index,
            id,
            name: call.name.clone().unwrap_or_default(),
            is_provider_executed: false,
        });
        if !call.waiting.is_empty() {
            out.push_back(StreamEvent::ToolCallDelta {
                index,
                arguments: std::mem::take(&mut call.waiting),
            });
        }
    }

    /// The end mark.
    pub(crate) fn finish(&mut self, out: &mut Out) {
        if self.is_finished {
            return;
        }
        self.is_finished = true;
        for position in 0..self.calls.len() {
            if self.calls[position].index.is_none() && self.calls[position].name.is_some() {
                self.open(position, out);
            }
        }
        if let Some(index) = self.text.take() {
            out.push_back(StreamEvent::TextEnd { index, opaque: None });
        }
        let mut has_calls = false;
        for index in self.calls.iter().filter_map(|call| call.index) {
            has_calls = true;
            out.push_back(StreamEvent::ToolCallEnd { index, opaque: None });
        }
        let refusal = self.refusal.take().filter(|refusal| !refusal.is_empty());
        let reason = match self.finish.as_deref() {
            _ if refusal.is_some() => FinishReason::ContentFilter,
            // A call of a tool that was asked for by name ends with `stop`.
            Some("stop") if has_calls => FinishReason::ToolCalls,
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        let refusal = (reason == FinishReason::ContentFilter).then(|| Refusal::new(refusal, None));
        out.push_back(StreamEvent::Finish {
            reason,
            raw: self.finish.take(),
            refusal,
        });
    }

    fn failure(&self, object: &str) -> Error {
        failure::of_object(VendorFailure::new(VENDOR.name()), object, &VENDOR, &self.model)
    }
}

impl Decoder for Completion {
    fn event(&mut self, name: &str, data: &str, out: &mut Out) -> Result<()> {
        let data = data.trim();
        if data == "[DONE]" {
            // Without a chunk before it there was no answer, whatever the mark says.
            if self.has_started {
                self.finish(out);
            }
            return Ok(());
        }
        if data.is_empty() {
            return Ok(());
        }
        match serde_json::from_str::<wire::Chunk<'_>>(data) {
            Ok(chunk) if name == "error" && chunk.error.is_none() => Err(self.failure(data)),
            Ok(chunk) => self.chunk(chunk, out),
            Err(_) if name == "error" => Err(self.failure(data)),
            Err(error) => Err(unreadable(VENDOR.name(), "a chunk", &error)),
        }
    }

    fn end(&mut self, out: &mut Out) {
        // The finish chunk is the last word on the answer; some servers leave `[DONE]` out.
        if self.finish.is_some() && !self.is_finished {
            if !self.has_usage {
                out.push_back(StreamEvent::Warning(Warning::new(
                    "usage_missing",
                    "the stream ended after its finish reason and before its token counts",
                )));
            }
            self.finish(out);
        }
    }
}

/// The vendor's totals in disjoint parts.
fn usage_of(wire: &wire::Usage) -> Usage {
    let prompt = wire.prompt_tokens_details.unwrap_or_default();
    let mut usage = Usage::default();
    usage.cache_read_tokens = prompt.cached_tokens;
    usage.cache_write_tokens = prompt.cache_write_tokens;
    usage.input_tokens = wire.prompt_tokens.map(|total| {
        total
            .saturating_sub(prompt.cached_tokens.unwrap_or(0))
            .saturating_sub(prompt.cache_write_tokens.unwrap_or(0))
    });
    usage.reasoning_tokens = wire
        .completion_tokens_details
        .and_then(|details| details.reasoning_tokens);
    usage.output_tokens = wire
        .completion_tokens
        .map(|total| total.saturating_sub(usage.reasoning_tokens.unwrap_or(0)));
    usage
}

#[cfg(test)]
mod tests {
    use super::Completion;
    use crate::answer::{Decoder, Out};
    use serde_json::{Value, json};
    use stepwell_core::{ChatResponse, FinishReason, Fold, Result};

    fn decode(chunks: &[Value]) -> Result<ChatResponse> {
        let (mut decoder, mut out) = (Completion::new("m"), Out::new());
        for chunk in chunks {
            decoder.event("message", &chunk.to_string(), &mut out)?;
        }
        decoder.end(&mut out);
        let mut fold = Fold::new("openai", "m", false);
        for event in out {
            fold.push(event)?;
        }
        fold.finish()
    }

    fn calls(pieces: &Value) -> Value {
        json!({ "id": "a", "choices": [{ "index": 0, "delta": { "tool_calls": pieces } }] })
    }

    fn end(reason: &str) -> Value {
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    }

    fn seen(answer: &ChatResponse) -> Vec<(String, String, Value)> {
        answer
            .message
            .tool_calls()
            .map(|call| (call.id.clone(), call.name.clone(), call.arguments.clone()))
            .collect()
    }

    #[test]
    fn a_new_id_on_a_known_index_is_a_new_call() {
        let answer = decode(&[
            calls(&json!([{ "index": 0, "id": "x", "function": { "name": "f", "arguments": "{\"n\":1}" } }])),
            calls(&json!([{ "index": 0, "id": "y", "function": { "name": "g", "arguments": "{\"n\"" } }])),
            calls(&json!([{ "index": 0, "function": { "arguments": ":2}" } }])),
            end("stop"),
        ])
        .expect("decodes");
        assert_eq!(
            seen(&answer),
            [
                ("x".into(), "f".into(), json!({ "n": 1 })),
                ("y".into(), "g".into(), json!({ "n": 2 }))
            ]
        );
        assert_eq!(
            answer.finish_reason,
            FinishReason::ToolCalls,
            "`stop` beside a call means the call"
        );
    }

    #[test]
    fn calls_without_an_index_go_by_id_and_without_an_id_get_one() {
        let answer = decode(&[
            calls(
                &json!([{ "id": "x", "function": { "name": "f", "arguments": "{" } },
                          { "id": "y", "function": { "name": "g" } }]),
            ),
            calls(&json!([{ "id": "x", "function": { "name": "f", "arguments": "}" } }])),
            calls(&json!([{ "function": { "arguments": "null" } }])),
            end("tool_calls"),
        ])
        .expect("decodes");
        assert_eq!(
            seen(&answer),
            [
                ("x".into(), "f".into(), json!({})),
                ("y".into(), "g".into(), json!({}))
            ]
        );
        let answer = decode(&[
            calls(&json!([{ "index": 0, "function": { "arguments": "{\"a\"" } }])),
            calls(&json!([{ "index": 0, "function": { "name": "f", "arguments": ":1}" } }])),
            end("tool_calls"),
        ])
        .expect("decodes");
        assert_eq!(
            seen(&answer),
            [("call_a_0".into(), "f".into(), json!({ "a": 1 }))]
        );
    }

    #[test]
    fn a_failure_in_a_chunk_is_typed_and_an_answer_without_a_finish_reason_is_truncated() {
        let text = json!({ "id": "a", "choices": [{ "delta": { "content": "hi" } }] });
        let error = decode(&[
            text.clone(),
            json!({ "error": { "code": "insufficient_quota", "message": "canary" } }),
        ])
        .expect_err("fails");
        assert_eq!(error.code(), "quota_exceeded");
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(
            decode(std::slice::from_ref(&text)).expect_err("cut").code(),
            "stream_truncated"
        );
        let whole = decode(&[text, end("stop")]).expect("`[DONE]` may be missing");
        assert_eq!((whole.text().as_str(), whole.warnings.len()), ("hi", 1));
    }

    #[test]
    fn odd_chunks_do_no_harm_and_odd_words_are_never_quoted() {
        let answer = decode(&[
            json!({ "choices": [], "prompt_filter_results": [] }),
            json!({ "choices": null, "usage": null }),
            json!({ "choices": [{ "index": 1, "delta": { "content": "other" } }] }),
            json!({ "choices": [{ "delta": null }] }),
            end("stop"),
            end("length"),
        ])
        .expect("decodes");
        assert_eq!(
            (answer.text().as_str(), answer.finish_reason),
            ("", FinishReason::Stop)
        );
        let error = decode(&[json!({ "choices": "canary" })]).expect_err("no list");
        assert_eq!(error.code(), "invalid_response");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
