//! Messages → the instructions and items of a request.

use super::{
    super::wire::{Content, FunctionCall, Item, Message as Turn, Piece},
    Encoder,
    media::piece,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use stepwell_core::{Message, Opaque, Part, Reasoning, Result, Role, Text, ToolCall, Warning};

/// The conversation as this wire has it.
pub(super) struct History<'a> {
    pub(super) instructions: Option<Cow<'a, str>>,
    pub(super) items: Vec<Item<'a>>,
}

/// Texts of one message of the model.
struct Words<'a> {
    id: Option<&'a str>,
    phase: Option<&'a str>,
    texts: Vec<(&'a str, Option<&'a Value>)>,
}

impl<'a> Encoder<'a> {
    /// What of the vendor's own this very model made.
    fn own<'t>(&self, opaque: Option<&'t Opaque>) -> Option<&'t Map<String, Value>> {
        opaque
            .filter(|token| token.provider == self.vendor.name() && token.model == self.model)
            .and_then(|token| token.value.as_object())
    }

    /// The instructions of the beginning, then every item in its place.
    pub(super) fn history(&mut self, messages: &'a [Message]) -> Result<History<'a>> {
        let head = messages
            .iter()
            .take_while(|message| message.role == Role::System)
            .count();
        let mut history = History {
            instructions: instructions(&messages[..head]),
            items: Vec::new(),
        };
        let items = &mut history.items;
        // Media of tool results, where the vendor takes words only there.
        let mut held: Vec<Piece<'a>> = Vec::new();
        for message in &messages[head..] {
            if message.name.is_some() {
                self.warnings.warn(Warning::option_ignored(
                    self.vendor.name(),
                    "the name of a message",
                ));
            }
            let is_result = |part: &Part| matches!(part, Part::ToolResult(_));
            if !held.is_empty() && !message.parts.iter().any(is_result) {
                items.push(said("user", std::mem::take(&mut held)));
            }
            match message.role {
                Role::Assistant => self.assistant(&message.parts, items, &mut held)?,
                Role::System => items.extend(words(&message.parts).map(|text| told("system", text))),
                Role::Developer => items.extend(words(&message.parts).map(|text| told("developer", text))),
                _ => self.user(&message.parts, items, &mut held)?,
            }
        }
        if !held.is_empty() {
            items.push(said("user", held));
        }
        Ok(history)
    }

    fn user(
        &mut self,
        parts: &'a [Part],
        items: &mut Vec<Item<'a>>,
        held: &mut Vec<Piece<'a>>,
    ) -> Result<()> {
        let mut pieces = Vec::new();
        for part in parts {
            match part {
                Part::ToolResult(result) => {
                    let kind = kind_of_call(items, &result.call_id);
                    let item = self.result(result, kind.as_deref(), held)?;
                    items.push(item);
                }
                Part::Text(part) if part.text.is_empty() => {}
                Part::Text(part) => pieces.push(Piece::InputText {
                    text: Cow::Borrowed(&part.text),
                }),
                Part::Media(media) => pieces.push(piece(media, self.vendor)?),
                Part::Unknown(part) if part.provider == self.vendor.name() && part.value.is_object() => {
                    items.push(Item::Own(Cow::Borrowed(&part.value)));
                }
                Part::Data(_) => {} // for the program, not for the model
                _ => self.warnings.left_out(part),
            }
        }
        if !pieces.is_empty() {
            held.append(&mut pieces);
            items.push(said("user", std::mem::take(held)));
        }
        Ok(())
    }

    /// The items of a turn of the model, in its order.
    fn assistant(
        &mut self,
        parts: &'a [Part],
        items: &mut Vec<Item<'a>>,
        held: &mut Vec<Piece<'a>>,
    ) -> Result<()> {
        let mut open: Option<Words<'a>> = None;
        for (position, part) in parts.iter().enumerate() {
            if let Part::Text(text) = part {
                self.text(text, &mut open, items);
                continue;
            }
            if matches!(part, Part::Data(_)) {
                continue; // for the program, not for the model
            }
            items.extend(open.take().map(|words| self.message(words)));
            match part {
                Part::Reasoning(reasoning) => items.extend(self.thought(reasoning)),
                Part::ToolCall(call) => match self.call(call) {
                    Some(item) => items.push(item),
                    None => self.warnings.left_out(part),
                },
                Part::ToolResult(result) => {
                    let kind = kind_of_call(items, &result.call_id);
                    let item = self.result(result, kind.as_deref(), held)?;
                    items.push(item);
                }
                Part::Unknown(part) if part.provider == self.vendor.name() && part.value.is_object() => {
                    items.push(Item::Own(Cow::Borrowed(&part.value)));
                }
                // The image of a call that holds it.
                Part::Media(_) if position > 0 && is_image_call(&parts[position - 1]) => {}
                _ => self.warnings.left_out(part),
            }
        }
        items.extend(open.take().map(|words| self.message(words)));
        Ok(())
    }

    /// Adds a text to the message it belongs to.
    fn text(&self, text: &'a Text, open: &mut Option<Words<'a>>, items: &mut Vec<Item<'a>>) {
        if text.text.is_empty() {
            return;
        }
        let beside = self.own(text.opaque.as_ref());
        let word = |key: &str| beside.and_then(|beside| beside.get(key)).and_then(Value::as_str);
        let (id, phase) = (word("id"), word("phase"));
        let annotations = beside.and_then(|beside| beside.get("annotations"));
        match open {
            Some(words) if words.id == id && words.phase == phase => {
                words.texts.push((&text.text, annotations));
            }
            _ => {
                let words = Words {
                    id,
                    phase,
                    texts: vec![(&text.text, annotations)],
                };
                items.extend(open.replace(words).map(|words| self.message(words)));
            }
        }
    }

    /// A message of the model: its id only where the vendor has kept it, for nowhere else it names anything.
    fn message(&self, words: Words<'a>) -> Item<'a> {
        let id = words.id.filter(|_| self.stores);
        let content = match words.texts.as_slice() {
            // The short form is the one that every server takes.
            [(text, _)] if id.is_none() => Content::Text(Cow::Borrowed(text)),
            texts => Content::Pieces(
                texts
                    .iter()
                    .map(|(text, annotations)| Piece::OutputText {
                        text: Cow::Borrowed(text),
                        annotations: annotations.filter(|_| id.is_some()),
                    })
                    .collect(),
            ),
        };
        Item::Message(Turn {
            kind: "message",
            id,
            role: "assistant",
            status: id.map(|_| "completed"),
            phase: words.phase,
            content,
        })
    }

    /// A thought, whole and unchanged, where this model had it and can be told it.
    fn thought(&mut self, reasoning: &'a Reasoning) -> Option<Item<'a>> {
        let token = reasoning.opaque.as_ref();
        let own = self
            .own(token)
            .filter(|item| item.get("type").is_some_and(|kind| kind == "reasoning"));
        let Some(item) = own else {
            self.warnings.warn(Warning::new(
                "reasoning_left_out",
                format!(
                    "{} takes only what this model has thought itself; other reasoning was left out of the history",
                    self.vendor.name()
                ),
            ));
            return None;
        };
        let is_sealed = item.get("encrypted_content").is_some_and(Value::is_string);
        // Without its seal it is only a name, and the vendor has kept nothing of that name.
        if self.is_openai && !is_sealed && !self.stores {
            self.warnings.warn(Warning::new(
                "reasoning_left_out",
                format!(
                    "{} keeps no reasoning of a stateless call; what came without its encrypted content was left out of the history",
                    self.vendor.name()
                ),
            ));
            return None;
        }
        token.map(|token| Item::Own(Cow::Borrowed(&token.value)))
    }

    fn call(&self, call: &'a ToolCall) -> Option<Item<'a>> {
        let beside = self.own(call.opaque.as_ref());
        let word = |key: &str| beside.and_then(|beside| beside.get(key)).and_then(Value::as_str);
        if let Some(kind) = word("type") {
            // What was changed since is told as it is now.
            let is_same = match word("input") {
                Some(input) if kind == "custom_tool_call" => {
                    let told = ToolCall::from_text("", "", input);
                    (&told.arguments, &told.malformed) == (&call.arguments, &call.malformed)
                }
                _ => true,
            };
            if call.is_provider_executed || (is_same && word("call_id") == Some(&call.id)) {
                return call
                    .opaque
                    .as_ref()
                    .map(|token| Item::Own(Cow::Borrowed(&token.value)));
            }
        }
        if call.is_provider_executed {
            return None;
        }
        let arguments = arguments(call, word("arguments"));
        // The one field beside these that says which tool is meant.
        if let Some(namespace) = beside.and_then(|beside| beside.get("namespace")) {
            let mut item = Map::new();
            item.insert("type".to_owned(), "function_call".into());
            item.insert("call_id".to_owned(), call.id.as_str().into());
            item.insert("namespace".to_owned(), namespace.clone());
            item.insert("name".to_owned(), call.name.as_str().into());
            item.insert("arguments".to_owned(), arguments.into_owned().into());
            return Some(Item::Own(Cow::Owned(Value::Object(item))));
        }
        Some(Item::Call(FunctionCall {
            kind: "function_call",
            id: word("id").filter(|_| self.stores),
            call_id: &call.id,
            name: &call.name,
            arguments,
        }))
    }
}

fn is_image_call(part: &Part) -> bool {
    let Part::ToolCall(call) = part else {
        return false;
    };
    let kind = call.opaque.as_ref().map(|token| &token.value["type"]);
    kind.is_some_and(|kind| kind == "image_generation_call")
}

/// Which kind of item the call of this id is, where it asks for a result of its own form.
fn kind_of_call(items: &[Item<'_>], id: &str) -> Option<String> {
    items.iter().rev().find_map(|item| match item {
        Item::Own(value) if value["call_id"] == id => value["type"].as_str().map(str::to_owned),
        _ => None,
    })
}

/// The arguments as the model wrote them, where they still say the same.
fn arguments<'a>(call: &'a ToolCall, as_came: Option<&'a str>) -> Cow<'a, str> {
    if let Some(text) = &call.malformed {
        // As it came: the next message tells the model what was wrong with it.
        return Cow::Borrowed(text);
    }
    match as_came {
        Some(text) if serde_json::from_str::<Value>(text).is_ok_and(|value| value == call.arguments) => {
            Cow::Borrowed(text)
        }
        _ => Cow::Owned(call.arguments.to_string()),
    }
}

/// The texts of these parts as one; `None` where there is none.
fn words(parts: &[Part]) -> Option<Cow<'_, str>> {
    let mut texts = parts
        .iter()
        .filter_map(Part::as_text)
        .filter(|text| !text.is_empty());
    let first = texts.next()?;
    Some(texts.fold(Cow::Borrowed(first), |all, text| {
        Cow::Owned(all.into_owned() + text)
    }))
}

fn instructions(messages: &[Message]) -> Option<Cow<'_, str>> {
    let mut texts = messages.iter().filter_map(|message| words(&message.parts));
    let first = texts.next()?;
    Some(texts.fold(first, |all, text| Cow::Owned(format!("{all}\n\n{text}"))))
}

fn told<'a>(role: &'static str, text: Cow<'a, str>) -> Item<'a> {
    Item::Message(Turn {
        kind: "message",
        id: None,
        role,
        status: None,
        phase: None,
        content: Content::Text(text),
    })
}

fn said<'a>(role: &'static str, mut pieces: Vec<Piece<'a>>) -> Item<'a> {
    let content = match pieces.pop() {
        Some(Piece::InputText { text }) if pieces.is_empty() => Content::Text(text),
        last => {
            pieces.extend(last);
            Content::Pieces(pieces)
        }
    };
    Item::Message(Turn {
        kind: "message",
        id: None,
        role,
        status: None,
        phase: None,
        content,
    })
}
