//! Chunks of an answer → events. Pure. A whole answer is a stream of one chunk.
//!
//! The wire has no end mark but the end of the body behind a finish reason. A finish reason in between is no end:
//! models of 2.5 send one before code they run, and go on.

use super::{
    failure,
    parts::Parts,
    wire::{AnswerPart, Candidate, Chunk, FailureDetail, PromptFeedback, Usage as Tokens},
};
use crate::{
    answer::{Decoder, Out, unreadable},
    framing::Framing,
    http::Vendor,
};
use serde_json::Value;
use std::borrow::Cow;
use stepwell_core::{FinishReason, Refusal, Result, StreamEvent, Usage, VendorFailure, Warning};

/// The decoder of one answer.
#[derive(Debug)]
pub(crate) struct Generated {
    vendor: &'static Vendor,
    model: String,
    parts: Parts,
    has_started: bool,
    usage: Tokens,
    /// The vendor's word for the end, and its sentence.
    finish: Option<(String, Option<String>)>,
    blocked: Option<PromptFeedback>,
}

impl Generated {
    /// For an answer of this vendor and model; tokens are bound to them.
    pub(crate) fn new(vendor: &'static Vendor, model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            parts: Parts::new(vendor.name(), model.clone()),
            vendor,
            model,
            has_started: false,
            usage: Tokens::default(),
            finish: None,
            blocked: None,
        }
    }

    fn failure(&self, detail: &str) -> stepwell_core::Error {
        let detail = serde_json::from_str(detail).unwrap_or_else(|_| FailureDetail::default());
        failure::of_detail(
            VendorFailure::new(self.vendor.name()),
            detail,
            self.vendor,
            &self.model,
        )
    }

    fn candidate(&mut self, candidate: Candidate<'_>, data: &str, out: &mut Out) {
        // Only one is asked for; a host that asks for more by an option of the vendor gets the first.
        if candidate.index.unwrap_or(0) != 0 {
            return;
        }
        let sources = [
            ("groundingMetadata", candidate.grounding_metadata),
            ("urlContextMetadata", candidate.url_context_metadata),
            ("citationMetadata", candidate.citation_metadata),
        ];
        let parts = candidate
            .content
            .and_then(|content| content.parts)
            .unwrap_or_default();
        let has_text = parts
            .iter()
            .any(|part| !part.is_thought && part.text.as_ref().is_some_and(|text| !text.is_empty()));
        // Sources that come with an empty last part are those of the text before it.
        let are_of_before = !has_text && self.parts.is_saying_text();
        let tell = |parts: &mut Parts, out: &mut Out| {
            for (name, raw) in sources {
                if let Some(raw) = raw {
                    parts.sources(name, raw, out);
                }
            }
        };
        if are_of_before {
            tell(&mut self.parts, out);
        }
        // What goes on after a finish reason has not finished.
        if parts.iter().any(AnswerPart::says_something) {
            self.finish = None;
        }
        for (at, part) in parts.into_iter().enumerate() {
            self.parts.part(part, || whole_part(data, at), out);
        }
        if !are_of_before {
            tell(&mut self.parts, out);
        }
        if let Some(reason) = candidate
            .finish_reason
            .filter(|reason| reason != "FINISH_REASON_UNSPECIFIED")
        {
            self.finish = Some((reason, candidate.finish_message));
        }
    }

    fn finish(&mut self, out: &mut Out) {
        self.parts.finish(out);
        let (raw, message) = match (self.finish.take(), self.blocked.take()) {
            (Some((raw, message)), _) => (raw, message),
            (None, Some(blocked)) => (
                blocked.block_reason.unwrap_or_else(|| "BLOCKED".to_owned()),
                blocked.block_reason_message,
            ),
            (None, None) => return,
        };
        let reason = match raw.as_str() {
            "STOP" if self.parts.has_calls => FinishReason::ToolCalls,
            "STOP" => FinishReason::Stop,
            "MAX_TOKENS" => FinishReason::Length,
            "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "JAILBREAK"
            | "BLOCKED"
            | "BLOCK_REASON_UNSPECIFIED" => FinishReason::ContentFilter,
            "NO_IMAGE" => FinishReason::Other,
            word if word.starts_with("IMAGE_") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        if raw == "MALFORMED_FUNCTION_CALL" {
            out.push_back(StreamEvent::Warning(Warning::new(
                "malformed_call",
                "the model wrote a call that the vendor could not read, and the answer has none; ask again",
            )));
        }
        let refusal =
            (reason == FinishReason::ContentFilter).then(|| Refusal::new(message, Some(raw.clone())));
        out.push_back(StreamEvent::Finish {
            reason,
            raw: Some(raw),
            refusal,
        });
    }
}

impl Decoder for Generated {
    fn event(&mut self, _name: &str, data: &str, out: &mut Out) -> Result<()> {
        let chunk: Chunk<'_> = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                // A failure tells more than its odd surroundings.
                if let Ok(Value::Object(odd)) = serde_json::from_str::<Value>(data)
                    && let Some(detail) = odd.get("error")
                {
                    return Err(self.failure(&detail.to_string()));
                }
                // Some gateways end the stream as another wire does.
                if data.trim() == "[DONE]" {
                    return Ok(());
                }
                return Err(unreadable(self.vendor.name(), "an event", &error));
            }
        };
        if let Some(detail) = chunk.error {
            return Err(self.failure(detail.get()));
        }
        if !self.has_started {
            self.has_started = true;
            let id = chunk.response_id.map(Cow::into_owned);
            // Ids of calls are made of it: where there is none, of what the answer begins with.
            self.parts.response_id = id.clone().unwrap_or_else(|| {
                let hash = blake3::hash(data.as_bytes()).to_hex();
                hash.as_str()[..16].to_owned()
            });
            out.push_back(StreamEvent::MessageStart {
                id,
                model: chunk.model_version.map(Cow::into_owned),
                request_id: None,
            });
        }
        for candidate in chunk.candidates.unwrap_or_default() {
            self.candidate(candidate, data, out);
        }
        if let Some(blocked) = chunk
            .prompt_feedback
            .filter(|feedback| feedback.block_reason.is_some())
        {
            self.blocked = Some(blocked);
        }
        if let Some(usage) = chunk.usage_metadata.filter(|usage| *usage != self.usage) {
            out.push_back(StreamEvent::Usage(tokens(&usage)));
            self.usage = usage;
        }
        Ok(())
    }

    fn framing(&self, content_type: &[u8]) -> Framing {
        // A whole answer, a failure, and the array that comes where no events are asked for.
        if content_type.starts_with(b"application/json") {
            Framing::Values
        } else {
            Framing::Events
        }
    }

    fn end(&mut self, out: &mut Out) {
        if self.finish.is_some() || self.blocked.is_some() {
            self.finish(out);
        }
    }
}

/// The JSON of a part, read from the event it came in.
fn whole_part(data: &str, at: usize) -> Option<Value> {
    let mut event: Value = serde_json::from_str(data).ok()?;
    let candidates = event.get_mut("candidates")?.as_array_mut()?;
    let first = candidates
        .iter_mut()
        .find(|candidate| candidate["index"].as_u64().unwrap_or(0) == 0)?;
    Some(first.get_mut("content")?.get_mut("parts")?.get_mut(at)?.take())
}

/// The vendor's totals in disjoint parts.
fn tokens(wire: &Tokens) -> Usage {
    let mut usage = Usage::default();
    let cached = wire.cached_content_token_count;
    usage.input_tokens = match (wire.prompt_token_count, wire.tool_use_prompt_token_count) {
        (None, None) => None,
        (prompt, tools) => {
            let fresh = prompt.unwrap_or(0).saturating_sub(cached.unwrap_or(0));
            Some(fresh.saturating_add(tools.unwrap_or(0)))
        }
    };
    usage.cache_read_tokens = cached;
    usage.output_tokens = wire.candidates_token_count;
    usage.reasoning_tokens = wire.thoughts_token_count;
    usage
}
