//! Events of Responses → [`StreamEvent`]s. Pure.
//!
//! An item is known by its place in the output (`output_index`), never by its id: some gateways give each event
//! an id of its own. What the events of an item left out is taken from the item when it is whole, and what the
//! items left out from the answer at the end.

use super::{
    items::{self, Class, Input},
    open::{Open, Words},
    wire::{AnnotationEvent, Head, ItemEvent, Kind, More, Response, ResponseEvent, Usage as WireUsage},
};
use crate::{
    answer::{Decoder, Out, unreadable},
    http::Vendor,
    openai::failure,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, sync::Arc};
use stepwell_core::{
    Cost, Error, FinishReason, Opaque, Origin, Part, Refusal, Result, StreamEvent, Usage, VendorFailure,
};

/// The decoder of one answer.
#[derive(Debug)]
pub(crate) struct Responses {
    vendor: Arc<Vendor>,
    /// The model that was asked: what it made goes back to it alone.
    model: String,
    id: Option<String>,
    answering: Option<String>,
    has_started: bool,
    next: u32,
    items: Vec<(u64, Open)>,
    has_calls: bool,
    refusal: Option<String>,
    is_finished: bool,
}

impl Responses {
    /// For an answer of this model.
    pub(crate) fn new(vendor: Arc<Vendor>, model: impl Into<String>) -> Self {
        Self {
            vendor,
            model: model.into(),
            id: None,
            answering: None,
            has_started: false,
            next: 0,
            items: Vec::new(),
            has_calls: false,
            refusal: None,
            is_finished: false,
        }
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn opaque(&self, value: Value) -> Opaque {
        Opaque {
            provider: self.vendor.name().to_owned(),
            model: self.model.clone(),
            value,
        }
    }

    fn read<'a, T: Deserialize<'a>>(&self, what: &str, text: &'a str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| unreadable(self.vendor.name(), what, &error))
    }

    /// The vendor has really begun: until then a failure is one of the call, not of the stream.
    fn start(&mut self, out: &mut Out) {
        if !self.has_started {
            self.has_started = true;
            out.push_back(StreamEvent::MessageStart {
                id: self.id.clone(),
                model: self.answering.clone(),
                request_id: None,
            });
        }
    }

    fn note(&mut self, response: &mut Response<'_>) {
        let fill = |known: &mut Option<String>, told: &mut Option<String>| {
            *known = known.take().or(told.take().filter(|word| !word.is_empty()));
        };
        fill(&mut self.id, &mut response.id);
        fill(&mut self.answering, &mut response.model);
    }

    /// Where the newest item of this place stands; without a place the newest of all.
    fn position(&self, at: Option<u64>) -> Option<usize> {
        match at {
            Some(at) => self.items.iter().rposition(|(known, _)| *known == at),
            None => self.items.len().checked_sub(1),
        }
    }

    fn is_open(&self, position: usize) -> bool {
        !matches!(self.items[position].1, Open::Done)
    }

    // ---- items ----

    /// An item begins.
    fn added(&mut self, at: Option<u64>, item: &RawValue, out: &mut Out) -> Result<usize> {
        self.start(out);
        // Some gateways give every item the same place: a new one there ends the old one.
        if let Some(position) = self.position(at)
            && self.is_open(position)
        {
            self.close(position, out);
        }
        let head: Head<'_> = self.read("an item", item.get())?;
        let open = match Class::of(&head, self.vendor.name() == "xai") {
            Class::Message => Open::Message {
                texts: Vec::new(),
                refusal: String::new(),
            },
            Class::Reasoning => {
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                Open::Reasoning(Words::new(0, index))
            }
            Class::Call(call) => {
                let index = self.index();
                self.has_calls |= !call.is_provider_executed;
                out.push_back(StreamEvent::ToolCallStart {
                    index,
                    id: call.id,
                    name: call.name,
                    is_provider_executed: call.is_provider_executed,
                });
                Open::Call {
                    words: Words::new(0, index),
                    input: call.input,
                }
            }
            Class::Other => Open::Other,
        };
        let at = at.unwrap_or_else(|| self.items.last().map_or(0, |(at, _)| at + 1));
        self.items.push((at, open));
        Ok(self.items.len() - 1)
    }

    /// An item is whole, whether its beginning was told or not.
    fn done(&mut self, at: Option<u64>, raw: &RawValue, out: &mut Out) -> Result<()> {
        let position = match self.position(at) {
            Some(position) if self.is_open(position) => position,
            _ => self.added(at, raw, out)?,
        };
        let Value::Object(item) = self.read("an item", raw.get())? else {
            return Ok(());
        };
        match std::mem::replace(&mut self.items[position].1, Open::Done) {
            Open::Message { texts, .. } => self.message(texts, &item, out),
            Open::Reasoning(words) => {
                let text = items::thought(&item);
                let index = words.index;
                if words.length == 0 && !text.is_empty() {
                    out.push_back(StreamEvent::ReasoningDelta {
                        index,
                        text: text.clone(),
                    });
                }
                let is_redacted = words.length == 0 && text.is_empty();
                out.push_back(StreamEvent::ReasoningEnd {
                    index,
                    opaque: Some(self.opaque(Value::Object(item))),
                    is_redacted,
                });
            }
            Open::Call { words, input } => self.call(&words, input, item, out),
            Open::Other => {
                let index = self.index();
                let kind = item.get("type").and_then(Value::as_str);
                let is_result = kind.is_some_and(|kind| kind.ends_with("_output"));
                let origin = if is_result { Origin::Tool } else { Origin::Model };
                let part = Part::unknown(self.vendor.name(), Value::Object(item), origin);
                out.push_back(StreamEvent::Part {
                    index,
                    part: Box::new(part),
                });
            }
            Open::Done => {}
        }
        Ok(())
    }

    /// The end of a message: its texts in order, then what it refused.
    fn message(&mut self, texts: Vec<Words>, item: &Map<String, Value>, out: &mut Out) {
        let id = item.get("id").and_then(Value::as_str);
        let mut streamed = texts.into_iter();
        let pieces = item.get("content").and_then(Value::as_array);
        for piece in pieces.into_iter().flatten() {
            if let Some(words) = piece["refusal"].as_str() {
                self.refuse(words, id, out);
                continue;
            }
            let Some(text) = piece["text"].as_str() else {
                let index = self.index();
                let part = Part::unknown(self.vendor.name(), piece.clone(), Origin::Model);
                out.push_back(StreamEvent::Part {
                    index,
                    part: Box::new(part),
                });
                continue;
            };
            let words = streamed.next().unwrap_or_else(|| self.text(0, out));
            let index = words.index;
            if let Some(rest) = words.rest(text) {
                let text = rest.to_owned();
                out.push_back(StreamEvent::TextDelta { index, text });
            }
            let annotations = piece["annotations"].as_array().map_or(&[][..], Vec::as_slice);
            for annotation in annotations.iter().skip(words.citations) {
                out.push_back(StreamEvent::Citation {
                    index,
                    citation: Box::new(items::citation(annotation)),
                });
            }
            let opaque = self.beside_text(item, annotations);
            out.push_back(StreamEvent::TextEnd { index, opaque });
        }
        for words in streamed {
            let opaque = self.beside_text(item, &[]);
            out.push_back(StreamEvent::TextEnd {
                index: words.index,
                opaque,
            });
        }
    }

    /// What a message says beside its words.
    fn beside_text(&self, item: &Map<String, Value>, annotations: &[Value]) -> Option<Opaque> {
        let mut beside = Map::new();
        for key in ["id", "phase"] {
            if let Some(value) = item.get(key).filter(|value| value.is_string()) {
                beside.insert(key.to_owned(), value.clone());
            }
        }
        if !annotations.is_empty() {
            beside.insert("annotations".to_owned(), Value::Array(annotations.to_vec()));
        }
        (!beside.is_empty()).then(|| self.opaque(Value::Object(beside)))
    }

    fn refuse(&mut self, words: &str, id: Option<&str>, out: &mut Out) {
        let refusal = self.refusal.get_or_insert_default();
        refusal.push_str(words);
        let index = self.index();
        let part = Part::unknown(self.vendor.name(), items::refusal(id, words), Origin::Model);
        out.push_back(StreamEvent::Part {
            index,
            part: Box::new(part),
        });
    }

    /// The end of a call.
    fn call(&mut self, words: &Words, input: Input, item: Map<String, Value>, out: &mut Out) {
        let index = words.index;
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let rest: Option<Cow<'_, str>> = match input {
            Input::Function | Input::Arguments => words.rest(text("arguments")).map(Cow::Borrowed),
            Input::Text => words.rest(text("input")).map(Cow::Borrowed),
            Input::Code => {
                let rest = words.rest(text("code")).unwrap_or_default();
                let head = if words.length == 0 { CODE } else { "" };
                Some(format!("{head}{}\"}}", escaped(rest)).into())
            }
            Input::Fields => items::fields(&item).map(|fields| fields.to_string().into()),
        };
        if let Some(arguments) = rest.map(Cow::into_owned) {
            out.push_back(StreamEvent::ToolCallDelta { index, arguments });
        }
        let image = items::image(&item);
        let opaque = if input == Input::Function {
            items::beside(item)
        } else {
            Some(Value::Object(item))
        };
        let opaque = opaque.map(|value| self.opaque(value));
        out.push_back(StreamEvent::ToolCallEnd { index, opaque });
        if let Some(part) = image {
            let index = self.index();
            out.push_back(StreamEvent::Part {
                index,
                part: Box::new(part),
            });
        }
    }

    /// An item that will not be whole ends as it is.
    fn close(&mut self, position: usize, out: &mut Out) {
        match std::mem::replace(&mut self.items[position].1, Open::Done) {
            Open::Message { texts, refusal } => {
                for words in texts {
                    out.push_back(StreamEvent::TextEnd {
                        index: words.index,
                        opaque: None,
                    });
                }
                if !refusal.is_empty() {
                    self.refuse(&refusal, None, out);
                }
            }
            Open::Reasoning(words) => out.push_back(StreamEvent::ReasoningEnd {
                index: words.index,
                opaque: None,
                is_redacted: false,
            }),
            Open::Call { words, input } => {
                let index = words.index;
                if input == Input::Code && words.length > 0 {
                    let arguments = "\"}".to_owned();
                    out.push_back(StreamEvent::ToolCallDelta { index, arguments });
                }
                out.push_back(StreamEvent::ToolCallEnd { index, opaque: None });
            }
            Open::Other | Open::Done => {}
        }
    }

    // ---- pieces ----

    /// A text part begins.
    fn text(&mut self, at: u64, out: &mut Out) -> Words {
        let index = self.index();
        out.push_back(StreamEvent::TextStart { index });
        Words::new(at, index)
    }

    /// The place of a text part of the message at this place; both begin where their beginning was not told.
    fn text_at(&mut self, event_at: Option<u64>, content: u64, out: &mut Out) -> Option<(usize, usize)> {
        let position = match self.position(event_at) {
            Some(position) if self.is_open(position) => position,
            _ => {
                self.start(out);
                let texts = Vec::new();
                let refusal = String::new();
                self.items
                    .push((event_at.unwrap_or(0), Open::Message { texts, refusal }));
                self.items.len() - 1
            }
        };
        let Open::Message { texts, .. } = &self.items[position].1 else {
            return None;
        };
        if let Some(known) = texts.iter().rposition(|words| words.at == content) {
            return Some((position, known));
        }
        let words = self.text(content, out);
        let Open::Message { texts, .. } = &mut self.items[position].1 else {
            return None;
        };
        texts.push(words);
        Some((position, texts.len() - 1))
    }

    fn said(&mut self, event: More, out: &mut Out) {
        let Some(text) = event.delta.filter(|text| !text.is_empty()) else {
            return;
        };
        let Some((item, part)) = self.text_at(event.output_index, event.content_index.unwrap_or(0), out)
        else {
            return;
        };
        if let Open::Message { texts, .. } = &mut self.items[item].1 {
            let words = &mut texts[part];
            words.length += text.len();
            let index = words.index;
            out.push_back(StreamEvent::TextDelta { index, text });
        }
    }

    fn thought(&mut self, event: More, out: &mut Out) {
        let Some(mut text) = event.delta.filter(|text| !text.is_empty()) else {
            return;
        };
        let position = self.position(event.output_index);
        let Some((_, Open::Reasoning(words))) = position.map(|position| &mut self.items[position]) else {
            return;
        };
        // Summaries and the thought itself count apart.
        let at = match (event.summary_index, event.content_index) {
            (Some(at), _) => at << 1,
            (None, at) => at.unwrap_or(0) << 1 | 1,
        };
        if words.length > 0 && words.at != at {
            text.insert_str(0, items::PARAGRAPH);
        }
        words.at = at;
        words.length += text.len();
        let index = words.index;
        out.push_back(StreamEvent::ReasoningDelta { index, text });
    }

    fn argued(&mut self, event: More, out: &mut Out) {
        let Some(mut arguments) = event.delta.filter(|text| !text.is_empty()) else {
            return;
        };
        let position = self.position(event.output_index);
        // A call that has not begun has no name; its arguments come again when it is whole.
        let Some((_, Open::Call { words, input })) = position.map(|position| &mut self.items[position])
        else {
            return;
        };
        let index = words.index;
        let had = words.length;
        words.length += arguments.len();
        match input {
            Input::Code => {
                let head = if had == 0 { CODE } else { "" };
                arguments = format!("{head}{}", escaped(&arguments));
            }
            Input::Fields => {
                words.length = 0;
                return;
            }
            Input::Function | Input::Arguments | Input::Text => {}
        }
        out.push_back(StreamEvent::ToolCallDelta { index, arguments });
    }

    fn cited(&mut self, event: &AnnotationEvent, out: &mut Out) {
        let content = event.content_index.unwrap_or(0);
        let Some((item, part)) = self.text_at(event.output_index, content, out) else {
            return;
        };
        if let Open::Message { texts, .. } = &mut self.items[item].1 {
            texts[part].citations += 1;
            out.push_back(StreamEvent::Citation {
                index: texts[part].index,
                citation: Box::new(items::citation(&event.annotation)),
            });
        }
    }

    fn refused(&mut self, event: More) {
        let position = self.position(event.output_index);
        if let Some((_, Open::Message { refusal, .. })) = position.map(|position| &mut self.items[position]) {
            refusal.push_str(&event.delta.unwrap_or_default());
        }
    }

    // ---- the end ----

    /// The answer is whole. `event` is the event that says so, where one does.
    pub(crate) fn finish(&mut self, mut response: Response<'_>, event: &str, out: &mut Out) -> Result<()> {
        if self.is_finished {
            return Ok(());
        }
        self.note(&mut response);
        let status = response.status.as_deref().unwrap_or(match event {
            "response.incomplete" => "incomplete",
            "response.failed" => "failed",
            "response.cancelled" => "cancelled",
            _ => "completed",
        });
        let has_output = response.output.as_ref().is_some_and(|output| !output.is_empty());
        let is_whole = has_output || response.status.as_deref() == Some("completed");
        if status == "failed" || (response.error.is_some() && !is_whole) {
            return Err(self.failed(response.error));
        }
        self.start(out);
        let output = response.output.unwrap_or_default();
        let told = self
            .items
            .iter()
            .filter(|(_, open)| matches!(open, Open::Done))
            .count();
        if told < output.len() {
            for (at, item) in (0..).zip(&output) {
                let is_told = self
                    .position(Some(at))
                    .is_some_and(|position| !self.is_open(position));
                if !is_told {
                    self.done(Some(at), item, out)?;
                }
            }
        }
        for position in 0..self.items.len() {
            if self.is_open(position) {
                self.close(position, out);
            }
        }
        self.is_finished = true;
        if let Some(usage) = &response.usage {
            let searches = response.tool_usage.and_then(|usage| usage.web_search);
            out.push_back(StreamEvent::Usage(usage_of(
                usage,
                searches.and_then(|searches| searches.num_requests),
            )));
            out.extend(cost_of(usage).map(StreamEvent::Cost));
        }
        let cut = response.incomplete_details.and_then(|details| details.reason);
        let refusal = self.refusal.take();
        let reason = match (status, cut.as_deref()) {
            _ if refusal.is_some() => FinishReason::ContentFilter,
            ("completed", _) if self.has_calls => FinishReason::ToolCalls,
            ("completed", _) => FinishReason::Stop,
            ("incomplete", Some("max_output_tokens" | "max_tokens")) => FinishReason::Length,
            ("incomplete", Some("content_filter")) => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        let refusal = (reason == FinishReason::ContentFilter).then(|| Refusal::new(refusal, None));
        let raw = match cut {
            Some(cut) if status == "incomplete" => cut,
            _ => status.to_owned(),
        };
        out.push_back(StreamEvent::Finish {
            reason,
            raw: Some(raw),
            refusal,
        });
        Ok(())
    }

    fn failed(&self, error: Option<&RawValue>) -> Error {
        let object = error.map_or("{}", RawValue::get);
        let failed = VendorFailure::new(self.vendor.name());
        failure::of_object(failed, object, &self.vendor, &self.model)
    }
}

impl Decoder for Responses {
    fn event(&mut self, name: &str, data: &str, out: &mut Out) -> Result<()> {
        if self.is_finished || data == "[DONE]" || data.trim().is_empty() {
            return Ok(());
        }
        // The name is the type; only servers that give none have it read from the data.
        let known = name.starts_with("response.") || name == "error";
        let kind = if known {
            Cow::Borrowed(name)
        } else {
            let kind: Kind<'_> = self.read("an event", data)?;
            match kind.kind {
                Some(kind) => kind,
                None if kind.error.is_some() => Cow::Borrowed("error"),
                None => return Ok(()),
            }
        };
        match &*kind {
            "response.output_text.delta" => self.said(self.read("a text delta", data)?, out),
            "response.reasoning_summary_text.delta"
            | "response.reasoning_text.delta"
            | "response.reasoning_summary.delta"
            | "response.reasoning.delta" => self.thought(self.read("a reasoning delta", data)?, out),
            "response.function_call_arguments.delta"
            | "response.mcp_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.code_interpreter_call_code.delta" => {
                self.argued(self.read("an arguments delta", data)?, out);
            }
            "response.refusal.delta" => self.refused(self.read("a refusal delta", data)?),
            "response.output_text.annotation.added" => {
                self.cited(&self.read("an annotation", data)?, out);
            }
            "response.output_item.added" => {
                let event: ItemEvent<'_> = self.read("an item event", data)?;
                self.added(event.output_index, event.item, out)?;
            }
            "response.output_item.done" => {
                let event: ItemEvent<'_> = self.read("an item event", data)?;
                self.done(event.output_index, event.item, out)?;
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                if self.id.is_none() || self.answering.is_none() {
                    let mut event: ResponseEvent<'_> = self.read("a response event", data)?;
                    self.note(&mut event.response);
                }
                out.push_back(StreamEvent::Ping);
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => {
                let event: ResponseEvent<'_> = self.read("the last event", data)?;
                self.finish(event.response, &kind, out)?;
            }
            // Its words lie in an `error` object or beside the type.
            "error" => {
                let failed = VendorFailure::new(self.vendor.name());
                return Err(failure::of_object(failed, data, &self.vendor, &self.model));
            }
            // Parts told again when their item is whole, the progress of the vendor's tools, and what is to come.
            _ => out.push_back(StreamEvent::Ping),
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Out) {
        // Without its last event an answer is cut, whatever came.
    }
}

/// How the arguments of a call whose input is program code begin.
const CODE: &str = "{\"code\":\"";

/// The inside of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The vendor's totals in disjoint parts.
fn usage_of(wire: &WireUsage, searches: Option<u64>) -> Usage {
    let input = wire.input_tokens_details.unwrap_or_default();
    let mut usage = Usage::default();
    usage.cache_read_tokens = input.cached_tokens;
    usage.cache_write_tokens = input.cache_write_tokens;
    usage.input_tokens = wire.input_tokens.map(|total| {
        total
            .saturating_sub(input.cached_tokens.unwrap_or(0))
            .saturating_sub(input.cache_write_tokens.unwrap_or(0))
    });
    usage.reasoning_tokens = wire
        .output_tokens_details
        .and_then(|details| details.reasoning_tokens);
    usage.output_tokens = wire
        .output_tokens
        .map(|total| total.saturating_sub(usage.reasoning_tokens.unwrap_or(0)));
    usage.searches = searches.or_else(|| {
        let tools = wire.server_side_tool_usage_details?;
        let (web, posts) = (tools.web_search_calls, tools.x_search_calls);
        (web.is_some() || posts.is_some()).then(|| web.unwrap_or(0).saturating_add(posts.unwrap_or(0)))
    });
    usage
}

/// What the vendor says the call cost.
fn cost_of(wire: &WireUsage) -> Option<Cost> {
    match wire.cost_in_usd_ticks {
        // A tick is 1e-10 dollars.
        Some(ticks) => Cost::from_pico_usd(u128::from(ticks) * 100),
        None => Cost::from_usd(wire.cost?),
    }
}
