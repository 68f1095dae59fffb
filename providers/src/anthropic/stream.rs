//! Events of the Messages stream → [`StreamEvent`]s. Pure.

use super::{VENDOR, blocks::Blocks, failure, wire};
use crate::answer::{Decoder, Out, unreadable};
use serde_json::Value;
use stepwell_core::{FinishReason, Origin, Part, Refusal, Result, StreamEvent, Usage, VendorFailure};

/// The name of the part that tells where the vendor ran code.
pub(crate) const CONTAINER: &str = "container";

/// The decoder of one answer.
#[derive(Debug)]
pub(crate) struct Messages {
    model: String,
    blocks: Blocks,
    has_started: bool,
    usage: wire::Usage,
    stop_reason: Option<String>,
    stop_details: Option<wire::StopDetails>,
    /// Where the vendor ran code: a later request may name it to go on there.
    container: Option<Value>,
}

impl Messages {
    /// For an answer of this model; tokens are bound to it.
    pub(crate) fn new(model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            blocks: Blocks::new(model.clone()),
            model,
            has_started: false,
            usage: wire::Usage::default(),
            stop_reason: None,
            stop_details: None,
            container: None,
        }
    }

    fn ensure_started(&mut self, out: &mut Out) {
        if !self.has_started {
            self.has_started = true;
            out.push_back(StreamEvent::MessageStart {
                id: None,
                model: None,
                request_id: None,
            });
        }
    }

    /// `message_start`, or a whole body. A second one brings nothing but its usage.
    pub(crate) fn message(&mut self, message: wire::Message<'_>, out: &mut Out) -> Result<()> {
        let is_first = !self.has_started;
        if is_first {
            self.has_started = true;
            out.push_back(StreamEvent::MessageStart {
                id: message.id,
                model: message.model,
                request_id: None,
            });
            for block in message.content.unwrap_or_default() {
                self.blocks.start(u64::MAX, block, out)?;
                self.blocks.stop(u64::MAX, out);
            }
        }
        if let Some(usage) = message.usage {
            self.usage(usage, out);
        }
        self.container = message.container.or(self.container.take());
        if message.stop_reason.is_some() {
            self.stop_reason = message.stop_reason;
            self.stop_details = message.stop_details;
        }
        Ok(())
    }

    fn usage(&mut self, new: wire::Usage, out: &mut Out) {
        let so_far = &mut self.usage;
        so_far.input_tokens = new.input_tokens.or(so_far.input_tokens);
        so_far.output_tokens = new.output_tokens.or(so_far.output_tokens);
        so_far.cache_read_input_tokens = new.cache_read_input_tokens.or(so_far.cache_read_input_tokens);
        so_far.cache_creation_input_tokens = new
            .cache_creation_input_tokens
            .or(so_far.cache_creation_input_tokens);
        so_far.cache_creation = new.cache_creation.or(so_far.cache_creation);
        so_far.output_tokens_details = new.output_tokens_details.or(so_far.output_tokens_details);
        so_far.server_tool_use = new.server_tool_use.or(so_far.server_tool_use);
        out.push_back(StreamEvent::Usage(usage(so_far)));
    }

    /// The end mark.
    pub(crate) fn finish(&mut self, out: &mut Out) {
        self.ensure_started(out);
        self.blocks.stop_all(out);
        if let Some(container) = self.container.take()
            && let Part::Data(data) = Part::data(CONTAINER, container, Origin::Model)
        {
            out.push_back(StreamEvent::Data(data));
        }
        let raw = self.stop_reason.take();
        let reason = match raw.as_deref() {
            Some("end_turn" | "stop_sequence") => FinishReason::Stop,
            Some("tool_use") => FinishReason::ToolCalls,
            Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
            Some("refusal") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        let details = self.stop_details.take();
        let refusal = (reason == FinishReason::ContentFilter).then(|| {
            let details = details.unwrap_or_default();
            Refusal::new(details.explanation, details.category)
        });
        out.push_back(StreamEvent::Finish { reason, raw, refusal });
    }
}

impl Decoder for Messages {
    fn event(&mut self, name: &str, data: &str, out: &mut Out) -> Result<()> {
        let event: wire::Event<'_> = match serde_json::from_str(data) {
            Ok(event) => event,
            Err(error) => return self.odd_event(name, data, &error, out),
        };
        match &*event.kind {
            "content_block_delta" => {
                if let (Some(at), Some(delta)) = (event.index, event.delta) {
                    self.ensure_started(out);
                    self.blocks.delta(at, delta, data, out);
                }
            }
            "content_block_start" => {
                if let (Some(at), Some(block)) = (event.index, event.content_block) {
                    self.ensure_started(out);
                    self.blocks.start(at, block, out)?;
                }
            }
            "content_block_stop" => {
                if let Some(at) = event.index {
                    self.blocks.stop(at, out);
                }
            }
            "ping" => out.push_back(StreamEvent::Ping),
            "message_start" => {
                if let Some(message) = event.message {
                    let message = serde_json::from_str(message.get())
                        .map_err(|error| unreadable(VENDOR.name(), "`message_start`", &error))?;
                    self.message(message, out)?;
                }
            }
            "message_delta" => {
                self.ensure_started(out);
                if let Some(delta) = event.delta {
                    if delta.stop_reason.is_some() {
                        self.stop_reason = delta.stop_reason;
                    }
                    if delta.stop_details.is_some() {
                        self.stop_details = delta.stop_details;
                    }
                    self.container = delta.container.or(self.container.take());
                }
                if let Some(usage) = event.usage {
                    self.usage(usage, out);
                }
            }
            "message_stop" => self.finish(out),
            "error" => return Err(self.failure(data)),
            _ if name == "error" => return Err(self.failure(data)),
            _ => {} // new kinds come every few months
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Out) {
        // Only `message_stop` ends this wire.
    }
}

impl Messages {
    fn failure(&self, data: &str) -> stepwell_core::Error {
        let failure = VendorFailure::new(VENDOR.name());
        failure::error(failure, data.as_bytes(), &VENDOR, &self.model)
    }

    /// An event that has not the documented shape: skipped when its kind is unknown to us, told when it matters.
    fn odd_event(&mut self, name: &str, data: &str, error: &serde_json::Error, out: &mut Out) -> Result<()> {
        if name == "error" {
            return Err(self.failure(data));
        }
        let fault = unreadable(VENDOR.name(), "an event", error);
        let Ok(kind) = serde_json::from_str::<wire::Kind<'_>>(data) else {
            return Err(fault);
        };
        match &*kind.kind {
            "error" => Err(self.failure(data)),
            "content_block_delta" => {
                // A new kind of delta, whose fields are not strings, for a block we gather.
                let at = kind.index.as_ref().and_then(Value::as_u64);
                if at.is_some_and(|at| self.blocks.grow(at, kind.delta.as_ref())) {
                    return Ok(());
                }
                let is_known = kind
                    .delta
                    .as_ref()
                    .and_then(|delta| delta.get("type")?.as_str())
                    .is_some_and(|kind| {
                        matches!(
                            kind,
                            "text_delta" | "input_json_delta" | "thinking_delta" | "signature_delta"
                        )
                    });
                if is_known { Err(fault) } else { Ok(()) }
            }
            "message_start"
            | "message_delta"
            | "message_stop"
            | "content_block_start"
            | "content_block_stop" => Err(fault),
            "ping" => {
                out.push_back(StreamEvent::Ping);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The vendor's totals in disjoint parts.
fn usage(wire: &wire::Usage) -> Usage {
    let mut usage = Usage::default();
    usage.input_tokens = wire.input_tokens;
    usage.cache_read_tokens = wire.cache_read_input_tokens;
    let split = wire.cache_creation.unwrap_or_default();
    usage.cache_write_1h_tokens = split.ephemeral_1h_input_tokens;
    usage.cache_write_tokens = match wire.cache_creation_input_tokens {
        // The total is told again at the end, the split is not.
        Some(total) => Some(total.saturating_sub(split.ephemeral_1h_input_tokens.unwrap_or(0))),
        None => split.ephemeral_5m_input_tokens,
    };
    usage.reasoning_tokens = wire
        .output_tokens_details
        .and_then(|details| details.thinking_tokens);
    usage.output_tokens = wire
        .output_tokens
        .map(|total| total.saturating_sub(usage.reasoning_tokens.unwrap_or(0)));
    usage.searches = wire.server_tool_use.and_then(|used| used.web_search_requests);
    usage
}

#[cfg(test)]
mod tests {
    use super::Messages;
    use crate::answer::{Decoder, Out};
    use serde_json::{Value, json};
    use stepwell_core::{ChatResponse, Error, FinishReason, Fold, Part, Result, StreamEvent};

    fn decode(events: &[Value]) -> Result<(Vec<StreamEvent>, Result<ChatResponse>)> {
        let (mut decoder, mut out) = (Messages::new("m"), Out::new());
        for event in events {
            decoder.event(event["type"].as_str().unwrap_or(""), &event.to_string(), &mut out)?;
        }
        let mut fold = Fold::new("anthropic", "m", false);
        for event in out.clone() {
            fold.push(event)?;
        }
        Ok((out.into(), fold.finish()))
    }

    fn start() -> Value {
        json!({ "type": "message_start", "message": { "id": "a", "model": "m-1", "content": [], "usage": { "input_tokens": 5, "output_tokens": 1 } } })
    }

    fn stop(reason: &str) -> [Value; 2] {
        [
            json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 9 } }),
            json!({ "type": "message_stop" }),
        ]
    }

    #[test]
    fn a_prefilled_and_repeated_start_gives_its_blocks_once() {
        let prefilled = json!({ "type": "message_start", "message": { "id": "a", "content": [
            { "type": "tool_use", "id": "t1", "name": "look", "input": { "q": "x" } }], "usage": { "input_tokens": 5 } } });
        let mut events = vec![prefilled.clone(), prefilled];
        events.extend(stop("tool_use"));
        let (events, answer) = decode(&events).expect("decodes");
        let starts = events
            .iter()
            .filter(|event| matches!(event, StreamEvent::MessageStart { .. }))
            .count();
        let answer = answer.expect("whole");
        assert_eq!(starts, 1);
        assert_eq!(answer.message.tool_calls().count(), 1);
        assert_eq!(
            answer.message.tool_calls().next().expect("one").arguments,
            json!({ "q": "x" })
        );
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    }

    #[test]
    fn unknown_blocks_are_kept_and_unknown_deltas_and_events_are_no_failure() {
        let mut events = vec![
            start(),
            json!({ "type": "solar_flare", "index": "none", "delta": 3 }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "compaction", "content": "ab" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "compaction_delta", "content": "cd", "text": {} } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "compaction_delta", "content": "ef" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "content_block_delta", "index": 7, "delta": { "type": "warp_delta", "text": [1] } }),
            json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "hi" } }),
        ];
        events.extend(stop("end_turn"));
        let answer = decode(&events).expect("decodes").1.expect("whole");
        assert_eq!(answer.text(), "hi");
        match &answer.message.parts[0] {
            Part::Unknown(part) => assert_eq!(part.value["content"], "abcdef"),
            other => panic!("expected the unknown block, got {other:?}"),
        }
    }

    #[test]
    fn usage_is_a_snapshot_and_its_parts_do_not_overlap() {
        let events = [
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": 100, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20,
                "cache_creation": { "ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5 }, "output_tokens": 1 } } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "input_tokens": 100, "cache_creation_input_tokens": 20,
                "output_tokens": 50, "output_tokens_details": { "thinking_tokens": 40 } } }),
            json!({ "type": "message_stop" }),
        ];
        let usage = decode(&events).expect("decodes").1.expect("whole").usage;
        assert_eq!(
            (
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                usage.cache_write_1h_tokens
            ),
            (Some(100), Some(30), Some(15), Some(5))
        );
        assert_eq!(
            (usage.output_tokens, usage.reasoning_tokens, usage.total()),
            (Some(10), Some(40), 200)
        );
    }

    #[test]
    fn a_failure_inside_the_stream_is_the_error_its_status_would_have_been() {
        for (kind, code) in [
            ("overloaded_error", "overloaded"),
            ("api_error", "overloaded"),
            ("rate_limit_error", "rate_limited"),
            ("invalid_request_error", "rejected"),
            ("authentication_error", "unauthorized"),
            ("billing_error", "quota_exceeded"),
            ("some_new_error", "overloaded"),
        ] {
            let error = decode(&[
                start(),
                json!({ "type": "error", "error": { "type": kind, "message": "canary" } }),
            ])
            .expect_err("fails");
            assert_eq!(error.code(), code, "{kind}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn an_answer_without_its_stop_is_truncated_and_empty_arguments_are_an_object() {
        let events = [
            start(),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "tool_use", "id": "t", "name": "now", "input": {} } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "input_json_delta", "partial_json": "" } }),
        ];
        match decode(&events).expect("decodes").1 {
            Err(Error::StreamTruncated { partial, .. }) => {
                assert_eq!(
                    partial.message.tool_calls().next().expect("one").arguments,
                    json!({})
                );
            }
            other => panic!("expected a truncated answer, got {other:?}"),
        }
    }
}
