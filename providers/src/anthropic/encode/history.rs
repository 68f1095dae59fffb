//! Messages → system blocks and the turns of user and assistant.

use super::{
    super::{
        VENDOR,
        wire::{Block, Citations, Known, Source, Turn},
    },
    Encoder, cache_control,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{Media, MediaSource, Message, Part, Result, Role, ToolCall, ToolResult};

impl<'a> Encoder<'a> {
    /// System blocks, and turns in which user and assistant alternate, of a mended history.
    pub(super) fn history(&mut self, messages: &'a [Message]) -> Result<(Vec<Block<'a>>, Vec<Turn<'a>>)> {
        let mut system = Vec::new();
        let mut turns: Vec<Turn<'a>> = Vec::new();
        for message in messages {
            let (role, blocks) = match message.role {
                Role::System | Role::Developer => {
                    system.extend(message.parts.iter().filter_map(|part| match part {
                        Part::Text(part) if !part.text.is_empty() => Some(Block::Known(Known::Text {
                            text: Cow::Borrowed(&part.text),
                            citations: None,
                            cache_control: part.cache.map(cache_control),
                        })),
                        _ => None,
                    }));
                    continue;
                }
                Role::Assistant => ("assistant", self.assistant(&message.parts)),
                _ => ("user", self.user(&message.parts)?),
            };
            if blocks.is_empty() {
                continue;
            }
            match turns.last_mut() {
                Some(turn) if turn.role == role => turn.content.extend(blocks),
                _ => turns.push(Turn {
                    role,
                    content: blocks,
                }),
            }
        }
        Ok((system, turns))
    }

    fn user(&mut self, parts: &'a [Part]) -> Result<Vec<Block<'a>>> {
        let mut blocks = Vec::new();
        for part in parts {
            match part {
                Part::Text(part) if part.text.is_empty() => {}
                Part::Text(part) => blocks.push(Block::Known(Known::Text {
                    text: Cow::Borrowed(&part.text),
                    citations: None,
                    cache_control: part.cache.map(cache_control),
                })),
                Part::Media(media) => blocks.push(self.media(media)?),
                Part::ToolResult(result) => blocks.push(self.tool_result(result)?),
                Part::Unknown(part) if part.provider == VENDOR.name() => {
                    blocks.push(Block::Verbatim(Cow::Borrowed(&part.value)));
                }
                Part::Data(_) => {} // for the program, not for the model
                _ => self.warnings.left_out(part),
            }
        }
        Ok(blocks)
    }

    fn assistant(&mut self, parts: &'a [Part]) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        for part in parts {
            let block = match part {
                Part::Text(part) if part.text.is_empty() => continue,
                Part::Text(part) => Block::Known(Known::Text {
                    text: Cow::Borrowed(&part.text),
                    citations: part
                        .opaque
                        .as_ref()
                        .and_then(|token| token.value.get("citations")),
                    cache_control: part.cache.map(cache_control),
                }),
                Part::Reasoning(part) => match part.opaque.as_ref().map(|token| &token.value) {
                    Some(Value::String(data)) if part.is_redacted => {
                        Block::Known(Known::RedactedThinking { data })
                    }
                    Some(Value::String(signature)) => Block::Known(Known::Thinking {
                        thinking: &part.text,
                        signature,
                    }),
                    _ => continue, // no token of this wire
                },
                Part::ToolCall(call) if call.is_provider_executed => {
                    let Some(token) = &call.opaque else { continue };
                    server_tool_use(call, &token.value)
                }
                Part::ToolCall(call) => Block::Known(Known::ToolUse {
                    id: &call.id,
                    name: &call.name,
                    input: &call.arguments,
                    caller: call.opaque.as_ref().and_then(|token| token.value.get("caller")),
                    cache_control: None,
                }),
                Part::Unknown(part) if part.provider == VENDOR.name() => {
                    Block::Verbatim(Cow::Borrowed(&part.value))
                }
                Part::Data(_) => continue,
                _ => {
                    self.warnings.left_out(part);
                    continue;
                }
            };
            blocks.push(block);
        }
        blocks
    }

    fn media(&mut self, media: &'a Media) -> Result<Block<'a>> {
        let cache_control = media.cache.map(cache_control);
        let kind = media.media_type.as_str();
        let is_image = matches!(kind, "image/jpeg" | "image/png" | "image/gif" | "image/webp")
            || (kind.starts_with("image/") && !matches!(media.source, MediaSource::Bytes(_)));
        let is_text = kind.starts_with("text/");
        if !is_image && !is_text && kind != "application/pdf" {
            return Err(VENDOR.unsupported(kind, "send an image (JPEG, PNG, GIF, WebP), a PDF or text"));
        }
        let source = match &media.source {
            MediaSource::Bytes(bytes) if is_text => Source::Text {
                media_type: "text/plain",
                data: String::from_utf8_lossy(bytes),
            },
            MediaSource::Bytes(bytes) => Source::Base64 {
                media_type: kind,
                data: STANDARD.encode(bytes),
            },
            MediaSource::Url(_) if is_text => {
                return Err(VENDOR.unsupported("text by its address", "send its bytes"));
            }
            MediaSource::Url(url) => Source::Url { url },
            MediaSource::FileId(file_id) => {
                self.uses_files = true;
                Source::File { file_id }
            }
            _ => {
                return Err(VENDOR.unsupported("media of this source", "send bytes, an address or a file id"));
            }
        };
        Ok(Block::Known(if is_image {
            Known::Image {
                source,
                cache_control,
            }
        } else {
            Known::Document {
                source,
                title: media.name.as_deref(),
                citations: self.citations.map(|enabled| Citations { enabled }),
                cache_control,
            }
        }))
    }

    fn tool_result(&mut self, result: &'a ToolResult) -> Result<Block<'a>> {
        let mut content = Vec::new();
        let text = result.text();
        if !text.is_empty() {
            content.push(Block::Known(Known::Text {
                text: Cow::Owned(text),
                citations: None,
                cache_control: None,
            }));
        }
        for part in &result.parts {
            if let Part::Media(media) = part {
                content.push(self.media(media)?);
            }
        }
        Ok(Block::Known(Known::ToolResult {
            tool_use_id: &result.call_id,
            content,
            is_error: result.is_error,
            cache_control: result.cache.map(cache_control),
        }))
    }
}

fn object(arguments: &Value) -> Cow<'_, Value> {
    if arguments.is_object() {
        Cow::Borrowed(arguments)
    } else {
        Cow::Owned(json!({ "value": arguments }))
    }
}

fn server_tool_use<'a>(call: &ToolCall, token: &Value) -> Block<'a> {
    let mut block = token.as_object().cloned().unwrap_or_default();
    block.entry("type").or_insert_with(|| json!("server_tool_use"));
    block.entry("id").or_insert_with(|| json!(call.id));
    block.entry("name").or_insert_with(|| json!(call.name));
    block.insert("input".to_owned(), object(&call.arguments).into_owned());
    Block::Verbatim(Cow::Owned(Value::Object(block)))
}
