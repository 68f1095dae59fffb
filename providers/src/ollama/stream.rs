//! Lines of an answer → events. Pure. A whole answer is a stream of one line.

use super::{
    INVENTED, VENDOR, failure,
    wire::{Line, Said, SaidCall},
};
use crate::{
    answer::{Decoder, Out, unreadable},
    framing::Framing,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::borrow::Cow;
use stepwell_core::{
    FinishReason, MediaSource, Origin, Part, Result, StreamEvent, Usage, VendorFailure, Warning,
};

#[derive(Clone, Copy, Debug)]
enum Open {
    Nothing,
    Text(u32),
    Thought(u32),
}

/// The decoder of one answer.
#[derive(Debug)]
pub(crate) struct Lines {
    model: String,
    /// The context that was asked for.
    num_ctx: u64,
    /// Makes invented ids differ between answers; empty before the first line.
    mark: String,
    open: Open,
    next: u32,
    has_calls: bool,
}

impl Lines {
    /// For an answer of this model within this context.
    pub(crate) fn new(model: impl Into<String>, num_ctx: u64) -> Self {
        Self {
            model: model.into(),
            num_ctx,
            mark: String::new(),
            open: Open::Nothing,
            next: 0,
            has_calls: false,
        }
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn close(&mut self, out: &mut Out) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Text(index) => out.push_back(StreamEvent::TextEnd { index, opaque: None }),
            Open::Thought(index) => out.push_back(StreamEvent::ReasoningEnd {
                index,
                opaque: None,
                is_redacted: false,
            }),
        }
    }

    fn said(&mut self, said: Said<'_>, out: &mut Out) {
        if let Some(text) = said.thinking.filter(|text| !text.is_empty()) {
            let index = if let Open::Thought(index) = self.open {
                index
            } else {
                self.close(out);
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                self.open = Open::Thought(index);
                index
            };
            out.push_back(StreamEvent::ReasoningDelta { index, text });
        }
        if let Some(text) = said.content.filter(|text| !text.is_empty()) {
            let index = if let Open::Text(index) = self.open {
                index
            } else {
                self.close(out);
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                self.open = Open::Text(index);
                index
            };
            out.push_back(StreamEvent::TextDelta { index, text });
        }
        for call in said.tool_calls.unwrap_or_default() {
            self.call(call, out);
        }
        for image in said.images.unwrap_or_default() {
            if let Ok(bytes) = STANDARD.decode(image) {
                self.close(out);
                // The wire tells no media type; what its models draw is PNG.
                let mut part = Part::media("image/png", MediaSource::Bytes(Bytes::from(bytes)));
                if let Part::Media(media) = &mut part {
                    media.origin = Origin::Model;
                }
                let index = self.index();
                out.push_back(StreamEvent::Part {
                    index,
                    part: Box::new(part),
                });
            }
        }
    }

    /// A call comes whole.
    fn call(&mut self, call: SaidCall<'_>, out: &mut Out) {
        let Some(function) = call.function else { return };
        self.close(out);
        self.has_calls = true;
        let index = self.index();
        out.push_back(StreamEvent::ToolCallStart {
            index,
            id: call
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| format!("{INVENTED}{}-{index}", self.mark)),
            name: function.name.unwrap_or_default(),
            is_provider_executed: false,
        });
        if let Some(arguments) = function.arguments {
            let arguments = arguments.get();
            // Some servers of this wire give them as text.
            let text: Option<String> = arguments
                .starts_with('"')
                .then(|| serde_json::from_str(arguments).ok())
                .flatten();
            out.push_back(StreamEvent::ToolCallDelta {
                index,
                arguments: text.unwrap_or_else(|| arguments.to_owned()),
            });
        }
        out.push_back(StreamEvent::ToolCallEnd { index, opaque: None });
    }

    fn finish(&mut self, raw: Option<String>, prompt: Option<u64>, answer: Option<u64>, out: &mut Out) {
        self.close(out);
        let mut usage = Usage::default();
        usage.input_tokens = prompt;
        usage.output_tokens = answer; // with what it thought: the wire tells one figure
        if usage != Usage::default() {
            out.push_back(StreamEvent::Usage(usage));
        }
        let is_full = prompt.is_some_and(|prompt| prompt >= self.num_ctx);
        if is_full {
            out.push_back(StreamEvent::Warning(Warning::new(
                "context_full",
                format!(
                    "the prompt filled the context of {} tokens; its beginning may have been left out: raise num_ctx",
                    self.num_ctx
                ),
            )));
        }
        let reason = match raw.as_deref() {
            Some("stop") | None if self.has_calls => FinishReason::ToolCalls,
            Some("stop") | None => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some(_) => FinishReason::Other,
        };
        out.push_back(StreamEvent::Finish {
            reason,
            raw,
            refusal: None,
        });
    }
}

impl Decoder for Lines {
    fn event(&mut self, _name: &str, data: &str, out: &mut Out) -> Result<()> {
        let line: Line<'_> =
            serde_json::from_str(data).map_err(|error| unreadable(VENDOR.name(), "a line", &error))?;
        if let Some(detail) = line.error {
            let failed = VendorFailure::new(VENDOR.name());
            return Err(failure::of_detail(failed, detail.get(), &VENDOR, &self.model));
        }
        if self.mark.is_empty() {
            // Its first line tells when an answer was made, to the nanosecond.
            blake3::hash(data.as_bytes()).to_hex().as_str()[..16].clone_into(&mut self.mark);
            out.push_back(StreamEvent::MessageStart {
                id: None,
                model: line.model.map(Cow::into_owned),
                request_id: None,
            });
        }
        if let Some(said) = line.message {
            self.said(said, out);
        }
        if line.done == Some(true) {
            self.finish(line.done_reason, line.prompt_eval_count, line.eval_count, out);
        }
        Ok(())
    }

    fn framing(&self, content_type: &[u8]) -> Framing {
        if content_type.starts_with(b"application/json") {
            Framing::Values
        } else {
            Framing::Lines
        }
    }

    fn end(&mut self, _out: &mut Out) {
        // Only a line that says `done` ends this wire.
    }
}
