//! Chunks of Chat Completions → [`StreamEvent`]s. Pure.
//!
//! What compatible servers do otherwise is taken in whatever form it comes, without asking who sends it.

#[cfg(test)]
mod tests;

use super::{
    extras::Extras,
    thought::{Thought, words_of_details},
    usage::{cost_of, usage_of},
    wire,
};
use crate::{
    answer::{Decoder, MOST_PARTS, Out, too_many_parts, unreadable},
    openai::{Dialect, failure},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, value::RawValue};
use stepwell_core::{
    Cost, Error, FinishReason, MediaSource, Opaque, Origin, Part, Refusal, Result, StreamEvent,
    VendorFailure, Warning,
};

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
    /// The vendor's token on it.
    token: Option<Value>,
}

/// The decoder of one answer.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // four facts that come in any order and combination
pub(crate) struct Completion {
    dialect: Dialect,
    model: String,
    id: Option<String>,
    has_started: bool,
    next: u32,
    /// The text part that is open.
    text: Option<u32>,
    thought: Thought,
    calls: Vec<Call>,
    extras: Extras,
    refusal: Option<String>,
    sound: Vec<u8>,
    finish: Option<String>,
    has_usage: bool,
    has_other_choices: bool,
    is_finished: bool,
}

impl Completion {
    /// For an answer of this model.
    pub(crate) fn new(dialect: Dialect, model: impl Into<String>) -> Self {
        Self {
            dialect,
            model: model.into(),
            id: None,
            has_started: false,
            next: 0,
            text: None,
            thought: Thought::default(),
            calls: Vec::new(),
            extras: Extras::default(),
            refusal: None,
            sound: Vec::new(),
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

    fn opaque(&self, value: Value) -> Opaque {
        Opaque {
            provider: self.dialect.name().to_owned(),
            model: self.model.clone(),
            value,
        }
    }

    /// A chunk, or a whole body; neither is a failure as a whole.
    pub(crate) fn chunk(&mut self, chunk: wire::Chunk<'_>, is_whole: bool, out: &mut Out) -> Result<()> {
        if !self.has_started {
            let word = |raw: Option<&RawValue>| {
                raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
                    .filter(|word| !word.is_empty())
            };
            self.id = word(chunk.id);
            // Azure speaks of the prompt before the answer begins, in a chunk without a name.
            let says_nothing = chunk.choices.as_ref().is_none_or(Vec::is_empty) && chunk.usage.is_none();
            if self.id.is_none() && says_nothing {
                return Ok(());
            }
            self.has_started = true;
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
            if let Some(error) = choice.error {
                return Err(self.failure(error.get()));
            }
            // Perplexity sends both: in a stream `message` is the text so far, in a whole answer `delta` is empty.
            let delta = if is_whole {
                choice.message.or(choice.delta)
            } else {
                choice.delta.or(choice.message)
            };
            if let Some(delta) = delta {
                self.delta(delta, out);
            }
            // Calls that have no name yet are no parts yet.
            if self.calls.len() > MOST_PARTS {
                return Err(too_many_parts(self.dialect.name()));
            }
            match choice.finish_reason.filter(|reason| !reason.is_empty()) {
                // The vendor gave up, and says no more about it.
                Some(reason) if matches!(reason.as_str(), "error" | "insufficient_system_resource") => {
                    let mut failed = VendorFailure::new(self.dialect.name());
                    failed.kind = Some(reason);
                    return Err(Error::Overloaded(Box::new(failed)));
                }
                // Some gateways say it twice; the first is the vendor's.
                Some(reason) => {
                    self.finish.get_or_insert(reason);
                }
                None => {}
            }
        }
        self.extras.read(chunk.citations, chunk.search_results);
        if let Some(usage) = chunk
            .usage
            .or_else(|| chunk.x_groq.and_then(|corner| corner.usage))
        {
            self.has_usage = true;
            out.push_back(StreamEvent::Usage(usage_of(
                &usage,
                self.dialect.quirks.hidden_reasoning,
            )));
            out.extend(cost_of(&usage).map(StreamEvent::Cost));
        }
        if let Some(usd) = chunk.cost.and_then(wire::Money::usd) {
            out.extend(Cost::from_usd(usd).map(StreamEvent::Cost));
        }
        Ok(())
    }

    fn delta(&mut self, delta: wire::Delta<'_>, out: &mut Out) {
        let (transcript, sound) = delta
            .audio
            .map_or((None, None), |audio| (audio.transcript, audio.data));
        if let Some(sound) = sound.and_then(|sound| STANDARD.decode(sound).ok()) {
            self.sound.extend_from_slice(&sound);
        }
        if let Some(raw) = delta.reasoning_details {
            self.thought.details(raw);
        }
        if let Some(raw) = delta.extra_content {
            self.thought.token(raw);
        }
        if self.thought.has_token() {
            // It has its place even where no words come with it.
            self.open_thought(out);
        }
        let thoughts = delta
            .reasoning_content
            .filter(|text| !text.is_empty())
            .or(delta.reasoning)
            .filter(|text| !text.is_empty())
            .or_else(|| words_of_details(delta.reasoning_details));
        if let Some(text) = thoughts {
            self.think(text, out);
        }
        let words = match delta.content {
            Some(wire::Said::Text(text)) if !text.is_empty() => Some(text),
            Some(wire::Said::Pieces(pieces)) => {
                for piece in pieces {
                    self.piece(piece, out);
                }
                None
            }
            _ => transcript,
        };
        if let Some(text) = words.filter(|text| !text.is_empty()) {
            self.say(text, out);
        }
        if let Some(refusal) = delta.refusal {
            self.refusal.get_or_insert_default().push_str(&refusal);
        }
        for piece in delta.tool_calls.into_iter().flatten() {
            self.call(piece, out);
        }
        if let Some(raw) = delta.annotations {
            self.extras.annotate(raw);
        }
        if let Some(raw) = delta.executed_tools {
            self.extras.execute(raw);
        }
        if let Some(function) = delta.function_call {
            let piece = wire::CallPiece {
                index: Some(0),
                id: None,
                function: Some(function),
                custom: None,
                extra_content: None,
            };
            self.call(piece, out);
        }
    }

    fn say(&mut self, text: String, out: &mut Out) {
        let index = if let Some(index) = self.text {
            index
        } else {
            self.end_thought(false, out);
            let index = self.index();
            self.text = Some(index);
            out.push_back(StreamEvent::TextStart { index });
            index
        };
        out.push_back(StreamEvent::TextDelta { index, text });
    }

    fn think(&mut self, text: String, out: &mut Out) {
        let index = self.open_thought(out);
        out.push_back(StreamEvent::ReasoningDelta { index, text });
    }

    fn open_thought(&mut self, out: &mut Out) -> u32 {
        if let Some(index) = self.thought.open {
            return index;
        }
        let index = self.index();
        self.thought.open = Some(index);
        out.push_back(StreamEvent::ReasoningStart { index });
        index
    }

    /// Closes the thought; one whose token may still come stays open until the end.
    fn end_thought(&mut self, is_end: bool, out: &mut Out) {
        if !is_end && self.thought.has_token() {
            return;
        }
        let Some(index) = self.thought.open.take() else {
            return;
        };
        let token = self.thought.take_token();
        out.push_back(StreamEvent::ReasoningEnd {
            index,
            opaque: token.map(|value| self.opaque(value)),
            is_redacted: false,
        });
    }

    /// One piece of a content that is a list.
    fn piece(&mut self, raw: &RawValue, out: &mut Out) {
        let piece: Option<wire::SaidPiece<'_>> = serde_json::from_str(raw.get()).ok();
        match piece {
            Some(piece) if piece.kind.as_deref() == Some("thinking") => match piece.thinking {
                Some(wire::Said::Text(text)) if !text.is_empty() => self.think(text, out),
                Some(wire::Said::Pieces(pieces)) => {
                    for raw in pieces {
                        let inner: Option<wire::SaidPiece<'_>> = serde_json::from_str(raw.get()).ok();
                        let text = inner.and_then(|inner| inner.text).filter(|text| !text.is_empty());
                        if let Some(text) = text {
                            self.think(text, out);
                        }
                    }
                }
                _ => {}
            },
            Some(wire::SaidPiece { text: Some(text), .. }) if text.is_empty() => {}
            Some(wire::SaidPiece { text: Some(text), .. }) => self.say(text, out),
            // Such as `reference` (Mistral).
            _ => {
                if let Ok(value) = serde_json::from_str(raw.get()) {
                    let index = self.index();
                    let part = Part::unknown(self.dialect.name(), value, Origin::Model);
                    out.push_back(StreamEvent::Part {
                        index,
                        part: Box::new(part),
                    });
                }
            }
        }
    }

    fn call(&mut self, piece: wire::CallPiece<'_>, out: &mut Out) {
        let id = piece.id.filter(|id| !id.is_empty());
        let (name, arguments) = match (piece.function, piece.custom) {
            (Some(function), _) => (function.name, function.arguments.map(|text| text.0)),
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
                token: None,
            });
            self.calls.len() - 1
        });
        let call = &mut self.calls[position];
        call.id = call.id.take().or(id);
        call.name = call.name.take().or(name.filter(|name| !name.is_empty()));
        if let Some(raw) = piece.extra_content {
            call.token = serde_json::from_str(raw.get()).ok();
        }
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
        self.end_thought(false, out);
        self.end_text(out);
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

    /// Closes the text, with what it rests on where that is known by now.
    fn end_text(&mut self, out: &mut Out) {
        let Some(index) = self.text.take() else { return };
        for citation in self.extras.take_citations() {
            out.push_back(StreamEvent::Citation {
                index,
                citation: Box::new(citation),
            });
        }
        out.push_back(StreamEvent::TextEnd { index, opaque: None });
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
        self.end_thought(true, out);
        self.end_text(out);
        if !self.sound.is_empty() {
            let index = self.index();
            let sound = std::mem::take(&mut self.sound);
            let mut part = Part::media(sound_type(&sound), MediaSource::Bytes(sound.into()));
            if let Part::Media(media) = &mut part {
                media.origin = Origin::Model;
            }
            out.push_back(StreamEvent::Part {
                index,
                part: Box::new(part),
            });
        }
        let mut has_calls = false;
        for call in std::mem::take(&mut self.calls) {
            let Some(index) = call.index else { continue };
            has_calls = true;
            let opaque = call.token.map(|value| self.opaque(value));
            out.push_back(StreamEvent::ToolCallEnd { index, opaque });
        }
        for value in std::mem::take(&mut self.extras.executed) {
            let index = self.index();
            let part = Part::unknown(self.dialect.name(), value, Origin::Model);
            out.push_back(StreamEvent::Part {
                index,
                part: Box::new(part),
            });
        }
        let refusal = self.refusal.take().filter(|refusal| !refusal.is_empty());
        let reason = match self.finish.as_deref() {
            _ if refusal.is_some() => FinishReason::ContentFilter,
            // A call of a tool that was asked for by name ends with `stop`.
            Some("stop" | "eos") if has_calls => FinishReason::ToolCalls,
            // Together, text-generation servers, and such.
            Some("stop" | "eos" | "eos_token" | "stop_sequence") => FinishReason::Stop,
            Some("length" | "model_length" | "max_tokens") => FinishReason::Length,
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
        failure::of_object(
            VendorFailure::new(self.dialect.name()),
            object,
            &self.dialect.vendor,
            &self.model,
        )
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
            Ok(chunk) if name == "error" || chunk.is_failure() => Err(self.failure(data)),
            Ok(chunk) => self.chunk(chunk, false, out),
            Err(_) if name == "error" => Err(self.failure(data)),
            Err(error) => Err(unreadable(self.dialect.name(), "a chunk", &error)),
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

/// The kind of a sound by its first bytes; a stream sends bare samples.
fn sound_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'R', b'I', b'F', b'F', ..] => "audio/wav",
        [b'I', b'D', b'3', ..] => "audio/mpeg",
        [0xFF, second, ..] if *second >= 0xE0 => "audio/mpeg",
        [b'f', b'L', b'a', b'C', ..] => "audio/flac",
        [b'O', b'g', b'g', b'S', ..] => "audio/ogg",
        _ => "audio/pcm",
    }
}
