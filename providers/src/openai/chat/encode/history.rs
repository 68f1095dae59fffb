//! Messages → the turns of a completion.

use super::{
    super::wire::{Call, Content, File, Function, ImageUrl, InputAudio, Piece, Turn},
    Encoder,
};
use crate::openai::VENDOR;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::borrow::Cow;
use stepwell_core::{Media, MediaSource, Message, Part, Result, Role, ToolCall, ToolResult, Warning};

impl Encoder {
    /// The turns, in which all results of a call stand together.
    pub(super) fn history<'a>(&mut self, messages: &'a [Message]) -> Result<Vec<Turn<'a>>> {
        let mut turns: Vec<Turn<'a>> = Vec::new();
        // Media of tool results: this wire takes words only there, so they follow in a turn of the user,
        // after the last result, for all results have to stand together.
        let mut held: Vec<Piece<'a>> = Vec::new();
        for message in messages {
            let has_results = message
                .parts
                .iter()
                .any(|part| matches!(part, Part::ToolResult(_)));
            if !held.is_empty() && !has_results {
                turns.push(user(std::mem::take(&mut held), None));
            }
            let name = message.name.as_deref().filter(|name| is_name(name));
            match message.role {
                Role::System | Role::Developer => {
                    let text = words(&message.parts);
                    if !text.is_empty() {
                        turns.push(Turn {
                            role: if message.role == Role::Developer || self.reasons {
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
                Role::Assistant => turns.extend(self.assistant(message, name)),
                _ => {
                    let mut pieces = Vec::new();
                    for part in &message.parts {
                        match part {
                            Part::ToolResult(result) => turns.push(tool_result(result, &mut held)?),
                            Part::Text(part) if part.text.is_empty() => {}
                            Part::Text(part) => pieces.push(Piece::Text {
                                text: Cow::Borrowed(&part.text),
                            }),
                            Part::Media(media) => pieces.push(piece(media)?),
                            Part::Data(_) => {} // for the program, not for the model
                            _ => self.warnings.left_out(part),
                        }
                    }
                    if !pieces.is_empty() {
                        held.append(&mut pieces);
                        turns.push(user(std::mem::take(&mut held), name));
                    }
                }
            }
        }
        if !held.is_empty() {
            turns.push(user(held, None));
        }
        Ok(turns)
    }

    fn assistant<'a>(&mut self, message: &'a Message, name: Option<&'a str>) -> Option<Turn<'a>> {
        let mut tool_calls = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text(_) | Part::Data(_) => {}
                Part::ToolCall(call) if !call.is_provider_executed => tool_calls.push(Call {
                    id: &call.id,
                    kind: "function",
                    function: Function {
                        name: &call.name,
                        arguments: arguments(call),
                    },
                }),
                Part::Reasoning(_) => self.warnings.warn(Warning::new(
                    "reasoning_left_out",
                    "Chat Completions takes no reasoning back; it was left out of the history",
                )),
                _ => self.warnings.left_out(part),
            }
        }
        let text = words(&message.parts);
        if text.is_empty() && tool_calls.is_empty() {
            return None;
        }
        Some(Turn {
            role: "assistant",
            content: (!text.is_empty()).then_some(Content::Text(text)),
            name,
            tool_calls,
            tool_call_id: None,
        })
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

fn tool_result<'a>(result: &'a ToolResult, held: &mut Vec<Piece<'a>>) -> Result<Turn<'a>> {
    let mut has_media = false;
    for part in &result.parts {
        if let Part::Media(media) = part {
            if !has_media {
                has_media = true;
                held.push(Piece::Text {
                    text: Cow::Owned(format!("Media of the tool result {}:", result.call_id)),
                });
            }
            held.push(piece(media)?);
        }
    }
    Ok(Turn {
        role: "tool",
        content: Some(Content::Text(Cow::Owned(result.text()))),
        tool_call_id: Some(&result.call_id),
        ..Turn::default()
    })
}

fn arguments(call: &ToolCall) -> Cow<'_, str> {
    match &call.malformed {
        // As it came: the next message tells the model what was wrong with it.
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(call.arguments.to_string()),
    }
}

fn piece(media: &Media) -> Result<Piece<'_>> {
    let kind = media.media_type.as_str();
    let audio = match kind {
        "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
        "audio/mpeg" | "audio/mp3" => Some("mp3"),
        _ => None,
    };
    let data_url = |bytes: &[u8]| format!("data:{kind};base64,{}", STANDARD.encode(bytes));
    match &media.source {
        MediaSource::FileId(file_id) => Ok(Piece::File {
            file: File {
                file_id: Some(file_id),
                ..File::default()
            },
        }),
        MediaSource::Url(url) if kind.starts_with("image/") => Ok(Piece::ImageUrl {
            image_url: ImageUrl {
                url: Cow::Borrowed(url),
            },
        }),
        MediaSource::Bytes(bytes) if kind.starts_with("image/") => Ok(Piece::ImageUrl {
            image_url: ImageUrl {
                url: Cow::Owned(data_url(bytes)),
            },
        }),
        MediaSource::Bytes(bytes) if kind == "application/pdf" => Ok(Piece::File {
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
            None => Err(VENDOR.unsupported(kind, "send an image, a PDF, text, or WAV or MP3 audio")),
        },
        _ => Err(VENDOR.unsupported(&format!("{kind} by its address"), "send its bytes")),
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name
            .chars()
            .any(|c| c.is_whitespace() || matches!(c, '<' | '|' | '\\' | '/' | '>'))
}

#[cfg(test)]
mod tests {
    use super::super::chat;
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
        let encoded = chat(&ModelInfo::new("openai", "gpt-4o"), &request).expect("encodes");
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
