//! Messages → the turns of a completion.

use super::{
    super::wire::{Call, Content, File, Function, ImageUrl, InputAudio, Piece, Turn},
    Encoder,
};
use crate::{
    doctor,
    openai::compatible::quirks::{Documents, Prefill, ReasoningBack, ReasoningField},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::borrow::Cow;
use stepwell_core::{
    Media, MediaSource, Message, Opaque, Part, Reasoning, Result, Role, ToolCall, ToolResult, Warning,
};

impl Encoder<'_> {
    /// The turns, in which all results of a call stand together.
    pub(super) fn history<'a>(&mut self, messages: &'a [Message]) -> Result<Vec<Turn<'a>>> {
        let mut turns: Vec<Turn<'a>> = Vec::new();
        // Media of tool results: this wire takes words only there, so they follow in a turn of the user,
        // after the last result, for all results have to stand together.
        let mut held: Vec<Piece<'a>> = Vec::new();
        let is_persons = |message: &Message| {
            message.role == Role::User
                && message
                    .parts
                    .iter()
                    .any(|part| !matches!(part, Part::ToolResult(_)))
        };
        let last_asked = messages.iter().rposition(is_persons);
        for (at, message) in messages.iter().enumerate() {
            let has_results = message
                .parts
                .iter()
                .any(|part| matches!(part, Part::ToolResult(_)));
            // Where user and assistant come by turns, they go with what the user says next.
            let waits = self.quirks().alternates && message.role == Role::User;
            if !held.is_empty() && !has_results && !waits {
                self.say(&mut turns, std::mem::take(&mut held), None);
            }
            let name = message.name.as_deref().filter(|name| is_name(name));
            match message.role {
                Role::System | Role::Developer => {
                    let text = words(&message.parts);
                    if !text.is_empty() {
                        turns.push(Turn {
                            role: if self.quirks().developer_role
                                && (message.role == Role::Developer || self.reasons)
                            {
                                "developer"
                            } else {
                                "system"
                            },
                            content: Some(Content::Text(text)),
                            name,
                            ..Turn::default()
                        });
                    }
                }
                Role::Assistant => {
                    let is_in_loop = last_asked.is_none_or(|asked| at > asked);
                    turns.extend(self.assistant(message, name, is_in_loop));
                }
                _ => {
                    let mut pieces = Vec::new();
                    for part in &message.parts {
                        match part {
                            Part::ToolResult(result) => turns.push(self.tool_result(result, &mut held)?),
                            Part::Text(part) if part.text.is_empty() => {}
                            Part::Text(part) => pieces.push(Piece::Text {
                                text: Cow::Borrowed(&part.text),
                            }),
                            Part::Media(media) => pieces.push(self.piece(media)?),
                            Part::Data(_) => {} // for the program, not for the model
                            _ => self.warnings.left_out(part),
                        }
                    }
                    if !pieces.is_empty() {
                        held.append(&mut pieces);
                        self.say(&mut turns, std::mem::take(&mut held), name);
                    }
                }
            }
        }
        if !held.is_empty() {
            self.say(&mut turns, held, None);
        }
        if self.quirks().prefill == Prefill::Flagged
            && let Some(last) = turns.last_mut().filter(|turn| turn.role == "assistant")
        {
            last.prefix = Some(true);
        }
        Ok(turns)
    }

    /// Adds a turn of the user; behind results with a word of the model in between, where the server wants one.
    fn say<'a>(&self, turns: &mut Vec<Turn<'a>>, pieces: Vec<Piece<'a>>, name: Option<&'a str>) {
        let is_behind_results = turns.last().is_some_and(|last| last.role == "tool");
        if is_behind_results && !self.quirks().user_after_results {
            turns.push(Turn {
                role: "assistant",
                content: Some(Content::Text(Cow::Borrowed(doctor::NOTED))),
                ..Turn::default()
            });
        }
        turns.push(user(pieces, name));
    }

    fn assistant<'a>(
        &mut self,
        message: &'a Message,
        name: Option<&'a str>,
        is_in_loop: bool,
    ) -> Option<Turn<'a>> {
        let mut turn = Turn {
            role: "assistant",
            name,
            ..Turn::default()
        };
        let field = self.reasoning_field(is_in_loop);
        let mut thoughts: Vec<&'a Reasoning> = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text(_) | Part::Data(_) => {}
                Part::ToolCall(call) if !call.is_provider_executed => turn.tool_calls.push(Call {
                    id: &call.id,
                    kind: "function",
                    function: Function {
                        name: &call.name,
                        arguments: arguments(call),
                    },
                    extra_content: self.own(call.opaque.as_ref()),
                }),
                Part::Reasoning(part) if field.is_some() => thoughts.push(part),
                // Nobody misses what the server forgets itself.
                Part::Reasoning(_) if !matches!(self.quirks().reasoning_back, ReasoningBack::Never) => {}
                Part::Reasoning(_) => self.warnings.warn(Warning::new(
                    "reasoning_left_out",
                    "Chat Completions takes no reasoning back; it was left out of the history",
                )),
                _ => self.warnings.left_out(part),
            }
        }
        let text = words(&message.parts);
        let mut thinking = None;
        if let Some(field) = field {
            thinking = self.think(&mut turn, field, &thoughts);
        }
        if self.must_think {
            turn.reasoning_content.get_or_insert_default();
        }
        if text.is_empty() && turn.tool_calls.is_empty() {
            return None;
        }
        turn.content = match thinking {
            Some(thinking) => {
                let mut pieces = vec![thinking];
                if !text.is_empty() {
                    pieces.push(Piece::Text { text });
                }
                Some(Content::Parts(pieces))
            }
            None => (!text.is_empty()).then_some(Content::Text(text)),
        };
        Some(turn)
    }

    /// Puts reasoning back where the server wants it; what belongs into the content is returned.
    fn think<'a>(
        &self,
        turn: &mut Turn<'a>,
        field: ReasoningField,
        thoughts: &[&'a Reasoning],
    ) -> Option<Piece<'a>> {
        // Another model's signed thought is not this one's.
        let own: Vec<&'a Reasoning> = thoughts
            .iter()
            .copied()
            .filter(|part| part.opaque.is_none() || self.own(part.opaque.as_ref()).is_some())
            .collect();
        let tokens: Vec<&'a Value> = own
            .iter()
            .filter_map(|part| part.opaque.as_ref())
            .map(|token| &token.value)
            .collect();
        let texts: Vec<&str> = own
            .iter()
            .map(|part| part.text.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        let words = || match texts.as_slice() {
            [] => None,
            [only] => Some(Cow::Borrowed(*only)),
            several => Some(Cow::Owned(several.concat())),
        };
        match field {
            ReasoningField::Content => turn.reasoning_content = words(),
            ReasoningField::Details if !tokens.is_empty() => {
                turn.reasoning_details = Some(one_list(&tokens));
            }
            ReasoningField::Plain | ReasoningField::Details => turn.reasoning = words(),
            ReasoningField::ExtraContent => turn.extra_content = tokens.last().copied(),
            ReasoningField::Pieces => {
                let pieces = texts.iter().map(|text| Piece::Text {
                    text: Cow::Borrowed(*text),
                });
                let thinking: Vec<_> = pieces.collect();
                return (!thinking.is_empty()).then_some(Piece::Thinking { thinking });
            }
        }
        None
    }

    /// The token, where this very model made it.
    fn own<'a>(&self, token: Option<&'a Opaque>) -> Option<&'a Value> {
        token
            .filter(|token| token.provider == self.dialect.name() && token.model == self.model)
            .map(|token| &token.value)
    }

    fn tool_result<'a>(&self, result: &'a ToolResult, held: &mut Vec<Piece<'a>>) -> Result<Turn<'a>> {
        let turn = |content: Content<'a>| Turn {
            role: "tool",
            content: Some(content),
            tool_call_id: Some(&result.call_id),
            ..Turn::default()
        };
        let has_media = result.parts.iter().any(|part| matches!(part, Part::Media(_)));
        if has_media && self.quirks().result_media {
            let mut pieces = Vec::new();
            for part in &result.parts {
                match part {
                    Part::Text(part) if !part.text.is_empty() => pieces.push(Piece::Text {
                        text: Cow::Borrowed(&part.text),
                    }),
                    Part::Media(media) => pieces.push(self.piece(media)?),
                    _ => {}
                }
            }
            return Ok(turn(Content::Parts(pieces)));
        }
        let mut has_media = false;
        for part in &result.parts {
            if let Part::Media(media) = part {
                if !has_media {
                    has_media = true;
                    held.push(Piece::Text {
                        text: Cow::Owned(format!("Media of the tool result {}:", result.call_id)),
                    });
                }
                held.push(self.piece(media)?);
            }
        }
        Ok(turn(Content::Text(Cow::Owned(result.text()))))
    }

    fn piece<'a>(&self, media: &'a Media) -> Result<Piece<'a>> {
        let (kind, quirks) = (media.media_type.as_str(), self.quirks());
        let audio = match kind {
            "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
            "audio/mpeg" | "audio/mp3" => Some("mp3"),
            _ => None,
        }
        .filter(|_| quirks.audio);
        let is_image = kind.starts_with("image/");
        let is_document = kind == "application/pdf";
        if (is_image && !quirks.images) || (is_document && quirks.documents == Documents::Refused) {
            return Err(self.dialect.vendor.unsupported(kind, "send its words as text"));
        }
        let data_url = |bytes: &[u8]| format!("data:{kind};base64,{}", STANDARD.encode(bytes));
        match &media.source {
            MediaSource::FileId(file_id) if quirks.documents == Documents::File => Ok(Piece::File {
                file: File {
                    file_id: Some(file_id),
                    ..File::default()
                },
            }),
            MediaSource::Url(url) if is_image => Ok(Piece::ImageUrl {
                image_url: ImageUrl {
                    url: Cow::Borrowed(url),
                },
            }),
            MediaSource::Bytes(bytes) if is_image => Ok(Piece::ImageUrl {
                image_url: ImageUrl {
                    url: Cow::Owned(data_url(bytes)),
                },
            }),
            MediaSource::Url(url) if is_document && quirks.documents == Documents::DocumentUrl => {
                Ok(Piece::DocumentUrl {
                    document_url: Cow::Borrowed(url),
                    document_name: media.name.as_deref(),
                })
            }
            MediaSource::Bytes(bytes) if is_document && quirks.documents == Documents::DocumentUrl => {
                Ok(Piece::DocumentUrl {
                    document_url: Cow::Owned(data_url(bytes)),
                    document_name: media.name.as_deref(),
                })
            }
            MediaSource::Bytes(bytes) if is_document => Ok(Piece::File {
                file: File {
                    filename: Some(media.name.as_deref().unwrap_or("document.pdf")),
                    file_data: Some(data_url(bytes)),
                    file_id: None,
                },
            }),
            MediaSource::Bytes(bytes) if kind.starts_with("text/") => Ok(Piece::Text {
                text: String::from_utf8_lossy(bytes),
            }),
            MediaSource::Bytes(bytes) => match audio {
                Some(format) => Ok(Piece::InputAudio {
                    input_audio: InputAudio {
                        data: STANDARD.encode(bytes),
                        format,
                    },
                }),
                None => Err(self.dialect.vendor.unsupported(kind, self.taken())),
            },
            MediaSource::FileId(_) => Err(self
                .dialect
                .vendor
                .unsupported("a file by its id", "send its bytes")),
            _ => Err(self
                .dialect
                .vendor
                .unsupported(&format!("{kind} by its address"), "send its bytes")),
        }
    }

    /// What media it takes, said to a person.
    fn taken(&self) -> &'static str {
        let quirks = self.quirks();
        match (
            quirks.images,
            quirks.documents != Documents::Refused,
            quirks.audio,
        ) {
            (true, true, true) => "send an image, a PDF, text, or WAV or MP3 audio",
            (true, true, false) => "send an image, a PDF or text",
            (true, false, true) => "send an image, text, or WAV or MP3 audio",
            (true, false, false) => "send an image or text",
            (false, ..) => "send text",
        }
    }
}

fn words(parts: &[Part]) -> Cow<'_, str> {
    let mut texts = parts
        .iter()
        .filter_map(Part::as_text)
        .filter(|text| !text.is_empty());
    match (texts.next(), texts.next()) {
        (None, _) => Cow::Borrowed(""),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(first), Some(second)) => {
            let mut all = format!("{first}{second}");
            all.extend(texts);
            Cow::Owned(all)
        }
    }
}

fn user<'a>(mut pieces: Vec<Piece<'a>>, name: Option<&'a str>) -> Turn<'a> {
    let content = match pieces.pop() {
        Some(Piece::Text { text }) if pieces.is_empty() => Content::Text(text),
        last => {
            pieces.extend(last);
            Content::Parts(pieces)
        }
    };
    Turn {
        role: "user",
        content: Some(content),
        name,
        ..Turn::default()
    }
}

fn arguments(call: &ToolCall) -> Cow<'_, str> {
    match &call.malformed {
        // As it came: the next message tells the model what was wrong with it.
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(call.arguments.to_string()),
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name
            .chars()
            .any(|c| c.is_whitespace() || matches!(c, '<' | '|' | '\\' | '/' | '>'))
}

/// The blocks of several thoughts, in their order.
fn one_list<'a>(tokens: &[&'a Value]) -> Cow<'a, Value> {
    match tokens {
        [only] => Cow::Borrowed(*only),
        several => {
            let blocks = several.iter().flat_map(|token| match token {
                Value::Array(blocks) => blocks.as_slice(),
                other => std::slice::from_ref(*other),
            });
            Cow::Owned(blocks.cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat;
    use crate::openai::Dialect;
    use serde_json::{Value, json};
    use stepwell_core::{ChatRequest, MediaSource, Message, ModelInfo, Origin, Part, Role, ToolCall};

    #[test]
    fn results_stand_together_and_their_media_follow_in_a_turn_of_the_user() {
        let (a, b) = (
            ToolCall::new("a", "f", json!({})),
            ToolCall::new("b", "f", json!({})),
        );
        let image = Part::media("image/png", MediaSource::Url("https://x.example/i.png".into()));
        let request = ChatRequest::new([
            Message::user("look"),
            Message::new(
                Role::Assistant,
                vec![Part::ToolCall(a.clone()), Part::ToolCall(b.clone())],
            ),
            Message::tool(vec![Part::tool_result(&a, vec![image], false, Origin::Tool)]),
            Message::tool(vec![Part::tool_result(
                &b,
                vec![Part::text("ok", Origin::Tool)],
                false,
                Origin::Tool,
            )]),
        ]);
        let encoded =
            chat(&Dialect::openai(), &ModelInfo::new("openai", "gpt-4o"), &request).expect("encodes");
        let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        let roles: Vec<_> = sent["messages"]
            .as_array()
            .expect("turns")
            .iter()
            .map(|turn| turn["role"].as_str().expect("a role"))
            .collect();
        assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
        assert_eq!(
            sent["messages"][4]["content"][1]["image_url"]["url"],
            "https://x.example/i.png"
        );
    }
}
