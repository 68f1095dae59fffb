//! Events of the Messages stream → [`StreamEvent`]s. Pure.

use super::{VENDOR, failure, wire};
use crate::answer::{Decoder, Out, unreadable};
use serde_json::{Map, Value, value::RawValue};
use stepwell_core::{
    Citation, FinishReason, Opaque, Origin, Part, Refusal, Result, StreamEvent, Usage, VendorFailure,
};

/// A block that has begun and not ended.
#[derive(Debug)]
enum Block {
    Text {
        index: u32,
        citations: Vec<Value>,
    },
    Thinking {
        index: u32,
        signature: Option<String>,
    },
    ToolUse {
        index: u32,
        /// Arguments that came with the start; used when no delta brings others.
        input: Option<String>,
        opaque: Option<Value>,
    },
    /// A kind we do not know: gathered, and kept whole.
    Other {
        block: Map<String, Value>,
        input: String,
    },
    /// It came whole with its start.
    Done,
}

/// The decoder of one answer.
#[derive(Debug)]
pub(crate) struct Messages {
    model: String,
    /// The vendor's index and the block.
    open: Vec<(u64, Block)>,
    next: u32,
    has_started: bool,
    usage: wire::Usage,
    stop_reason: Option<String>,
    stop_details: Option<wire::StopDetails>,
}

impl Messages {
    /// For an answer of this model; tokens are bound to it.
    pub(crate) fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            open: Vec::new(),
            next: 0,
            has_started: false,
            usage: wire::Usage::default(),
            stop_reason: None,
            stop_details: None,
        }
    }

    fn opaque(&self, value: Value) -> Opaque {
        Opaque {
            provider: VENDOR.name.to_owned(),
            model: self.model.clone(),
            value,
        }
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
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
                self.start(u64::MAX, block, out)?;
                self.stop(u64::MAX, out);
            }
        }
        if let Some(usage) = message.usage {
            self.usage(usage, out);
        }
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
        out.push_back(StreamEvent::Usage(usage(so_far)));
    }

    /// A block begins; what came with its start is handed out.
    fn start(&mut self, at: u64, raw: &RawValue, out: &mut Out) -> Result<()> {
        self.stop(at, out); // a start without the stop before it
        let Ok(start) = serde_json::from_str::<wire::BlockStart<'_>>(raw.get()) else {
            return self.start_other(at, raw);
        };
        let block = match &*start.kind {
            "text" => {
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                if let Some(text) = start.text.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::TextDelta { index, text });
                }
                let citations = start.citations.unwrap_or_default();
                for citation in &citations {
                    out.push_back(StreamEvent::Citation {
                        index,
                        citation: citation_of(citation),
                    });
                }
                Block::Text { index, citations }
            }
            "thinking" => {
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                if let Some(text) = start.thinking.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::ReasoningDelta { index, text });
                }
                Block::Thinking {
                    index,
                    signature: start.signature.filter(|signature| !signature.is_empty()),
                }
            }
            "redacted_thinking" => {
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                out.push_back(StreamEvent::ReasoningEnd {
                    index,
                    opaque: start.data.map(|data| self.opaque(Value::String(data))),
                    is_redacted: true,
                });
                Block::Done
            }
            kind @ ("tool_use" | "server_tool_use" | "mcp_tool_use") if start.name.is_some() => {
                let index = self.index();
                let is_ours = kind == "tool_use";
                out.push_back(StreamEvent::ToolCallStart {
                    index,
                    id: start.id.unwrap_or_else(|| format!("call_{index}")),
                    name: start.name.unwrap_or_default(),
                    is_provider_executed: !is_ours,
                });
                let opaque = if is_ours {
                    // Only a call made from the vendor's own code has to say so when it goes back.
                    start
                        .caller
                        .filter(|caller| caller["type"] != "direct")
                        .map(|caller| serde_json::json!({ "caller": caller }))
                } else {
                    serde_json::from_str::<Map<String, Value>>(raw.get())
                        .ok()
                        .map(|mut block| {
                            block.shift_remove("input");
                            Value::Object(block)
                        })
                };
                Block::ToolUse {
                    index,
                    input: start.input.map(|input| input.get().to_owned()),
                    opaque,
                }
            }
            _ => return self.start_other(at, raw),
        };
        self.open.push((at, block));
        Ok(())
    }

    fn start_other(&mut self, at: u64, raw: &RawValue) -> Result<()> {
        let block = serde_json::from_str(raw.get())
            .map_err(|error| unreadable(VENDOR.name, "a content block", &error))?;
        self.open.push((
            at,
            Block::Other {
                block,
                input: String::new(),
            },
        ));
        Ok(())
    }

    fn delta(&mut self, at: u64, delta: wire::Delta<'_>, data: &str, out: &mut Out) {
        let position = self.open.iter().rposition(|(index, _)| *index == at);
        let position = match (position, &*delta.kind) {
            (Some(position), _) => position,
            // Some gateways leave the start of a text out.
            (None, "text_delta") => {
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                self.open.push((
                    at,
                    Block::Text {
                        index,
                        citations: Vec::new(),
                    },
                ));
                self.open.len() - 1
            }
            _ => return,
        };
        match &mut self.open[position].1 {
            Block::Text { index, citations } => {
                if let Some(text) = delta.text.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::TextDelta { index: *index, text });
                }
                if let Some(citation) = delta.citation {
                    out.push_back(StreamEvent::Citation {
                        index: *index,
                        citation: citation_of(&citation),
                    });
                    citations.push(citation);
                }
            }
            Block::Thinking { index, signature } => {
                if let Some(text) = delta.thinking.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::ReasoningDelta { index: *index, text });
                }
                if let Some(piece) = delta.signature {
                    signature.get_or_insert_default().push_str(&piece);
                }
            }
            Block::ToolUse { index, input, .. } => {
                if let Some(arguments) = delta.partial_json.filter(|text| !text.is_empty()) {
                    *input = None;
                    out.push_back(StreamEvent::ToolCallDelta {
                        index: *index,
                        arguments,
                    });
                }
            }
            Block::Other { block, input } => {
                if let Some(piece) = delta.partial_json {
                    input.push_str(&piece);
                } else if let Ok(kind) = serde_json::from_str::<wire::Kind<'_>>(data) {
                    grow(block, kind.delta);
                }
            }
            Block::Done => {}
        }
    }

    fn stop(&mut self, at: u64, out: &mut Out) {
        let Some(position) = self.open.iter().rposition(|(index, _)| *index == at) else {
            return;
        };
        match self.open.remove(position).1 {
            Block::Text { index, citations } => {
                let opaque = (!citations.is_empty())
                    .then(|| self.opaque(serde_json::json!({ "citations": citations })));
                out.push_back(StreamEvent::TextEnd { index, opaque });
            }
            Block::Thinking { index, signature } => out.push_back(StreamEvent::ReasoningEnd {
                index,
                opaque: signature.map(|signature| self.opaque(Value::String(signature))),
                is_redacted: false,
            }),
            Block::ToolUse { index, input, opaque } => {
                if let Some(arguments) = input.filter(|input| input != "{}") {
                    out.push_back(StreamEvent::ToolCallDelta { index, arguments });
                }
                let opaque = opaque.map(|value| self.opaque(value));
                out.push_back(StreamEvent::ToolCallEnd { index, opaque });
            }
            Block::Other { mut block, input } => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    block.insert("input".to_owned(), input);
                }
                let is_result = block
                    .get("type")
                    .and_then(Value::as_str)
                    .is_some_and(|kind| kind.ends_with("_tool_result"));
                let origin = if is_result { Origin::Tool } else { Origin::Model };
                let index = self.index();
                out.push_back(StreamEvent::Part {
                    index,
                    part: Part::unknown(VENDOR.name, Value::Object(block), origin),
                });
            }
            Block::Done => {}
        }
    }

    /// The end mark.
    pub(crate) fn finish(&mut self, out: &mut Out) {
        self.ensure_started(out);
        while let Some((at, _)) = self.open.first() {
            let at = *at;
            self.stop(at, out);
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
                    self.delta(at, delta, data, out);
                }
            }
            "content_block_start" => {
                if let (Some(at), Some(block)) = (event.index, event.content_block) {
                    self.ensure_started(out);
                    self.start(at, block, out)?;
                }
            }
            "content_block_stop" => {
                if let Some(at) = event.index {
                    self.stop(at, out);
                }
            }
            "ping" => out.push_back(StreamEvent::Ping),
            "message_start" => {
                if let Some(message) = event.message {
                    let message = serde_json::from_str(message.get())
                        .map_err(|error| unreadable(VENDOR.name, "`message_start`", &error))?;
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
        let failure = VendorFailure::new(VENDOR.name);
        failure::error(failure, data.as_bytes(), &VENDOR, &self.model)
    }

    /// An event that has not the documented shape: skipped when its kind is unknown to us, told when it matters.
    fn odd_event(&mut self, name: &str, data: &str, error: &serde_json::Error, out: &mut Out) -> Result<()> {
        if name == "error" {
            return Err(self.failure(data));
        }
        let fault = unreadable(VENDOR.name, "an event", error);
        let Ok(kind) = serde_json::from_str::<wire::Kind<'_>>(data) else {
            return Err(fault);
        };
        match &*kind.kind {
            "error" => Err(self.failure(data)),
            "content_block_delta" => {
                // A new kind of delta, whose fields are not strings, for a block we gather.
                let open = kind
                    .index
                    .as_ref()
                    .and_then(Value::as_u64)
                    .and_then(|at| self.open.iter_mut().rev().find(|(index, _)| *index == at));
                if let Some((_, Block::Other { block, .. })) = open {
                    grow(block, kind.delta);
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

/// Adds an unknown delta to the block it belongs to: strings grow, anything else is replaced.
fn grow(block: &mut Map<String, Value>, delta: Option<Value>) {
    let Some(Value::Object(delta)) = delta else {
        return;
    };
    for (key, value) in delta {
        if key == "type" {
            continue;
        }
        match (block.get_mut(&key), value) {
            (Some(Value::String(so_far)), Value::String(piece)) => so_far.push_str(&piece),
            (_, value) => {
                block.insert(key, value);
            }
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
    usage
}

/// A citation as reported. Its offsets count characters of the vendor's copy, not bytes of ours, so the span
/// stays empty; the whole object is in the part's opaque token.
fn citation_of(value: &Value) -> Citation {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let document = value["document_index"]
        .as_u64()
        .map(|index| index.to_string())
        .or_else(|| text("file_id"))
        .or_else(|| text("url"))
        .or_else(|| text("source"))
        .unwrap_or_default();
    let mut citation = Citation::new(document, 0..0, text("cited_text").unwrap_or_default());
    citation.title = text("document_title").or_else(|| text("title"));
    citation.uri = text("url").or_else(|| text("source"));
    citation.page = value["start_page_number"]
        .as_u64()
        .and_then(|page| u32::try_from(page).ok());
    citation
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
