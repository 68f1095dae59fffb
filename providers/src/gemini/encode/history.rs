//! Messages → the system instruction and the contents of user and model.

use super::{
    super::{
        parts::is_invented,
        wire::{
            Blob, Content, Data, FileData, FunctionCall, FunctionResponse, Known, Part as Wire, Response,
        },
    },
    Encoder,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{Media, MediaSource, Message, Opaque, Part, Result, Role, ToolResult};

/// Where the vendor keeps uploaded files; their ids are told by address.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/";
/// What the vendor documents for calls that it did not sign, in a history from elsewhere.
const UNSIGNED: &str = "skip_thought_signature_validator";

impl<'a> Encoder<'a> {
    /// The token, where this very model made it.
    fn own<'t>(&self, opaque: Option<&'t Opaque>) -> Option<&'t Value> {
        opaque
            .filter(|token| token.provider == self.vendor.name() && token.model == self.info.model)
            .map(|token| &token.value)
    }

    fn signature<'t>(&self, opaque: Option<&'t Opaque>) -> Option<&'t str> {
        self.own(opaque).and_then(Value::as_str)
    }

    /// Parts of the system instruction, and the contents. The results of one turn stand in one content, and so do
    /// the words of the model.
    pub(super) fn history(&mut self, messages: &'a [Message]) -> Result<(Vec<Wire<'a>>, Vec<Content<'a>>)> {
        let mut system = Vec::new();
        let mut contents: Vec<Content<'a>> = Vec::new();
        let mut before = None;
        for message in messages {
            let (role, parts) = match message.role {
                Role::System | Role::Developer => {
                    system.extend(message.parts.iter().filter_map(|part| match part {
                        Part::Text(part) if !part.text.is_empty() => Some(Data::Text(&part.text).into()),
                        _ => None,
                    }));
                    continue;
                }
                Role::Assistant => ("model", self.model(&message.parts)),
                _ => ("user", self.user(&message.parts)?),
            };
            if parts.is_empty() {
                continue;
            }
            let is_one_turn = before == Some(message.role) && message.role != Role::User;
            match contents.last_mut() {
                Some(content) if is_one_turn => content.parts.extend(parts),
                _ => contents.push(Content {
                    role: Some(role),
                    parts,
                }),
            }
            before = Some(message.role);
        }
        if self.is_at_least(3, 0) {
            for content in contents
                .iter_mut()
                .filter(|content| content.role == Some("model"))
            {
                sign_first_call(&mut content.parts);
            }
        }
        Ok((system, contents))
    }

    fn user(&mut self, parts: &'a [Part]) -> Result<Vec<Wire<'a>>> {
        let mut wire = Vec::new();
        for part in parts {
            match part {
                Part::Text(part) if part.text.is_empty() => {}
                Part::Text(part) => wire.push(Data::Text(&part.text).into()),
                Part::Media(media) => wire.push(self.media(media)?),
                Part::ToolResult(result) => self.tool_result(result, &mut wire)?,
                Part::Unknown(part) if part.provider == self.vendor.name() => {
                    wire.push(Wire::Verbatim(Cow::Borrowed(&part.value)));
                }
                Part::Data(_) => {} // for the program, not for the model
                _ => self.warnings.left_out(part),
            }
        }
        Ok(wire)
    }

    fn model(&mut self, parts: &'a [Part]) -> Vec<Wire<'a>> {
        let mut wire = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => {
                    let signature = self.signature(text.opaque.as_ref());
                    if !text.text.is_empty() || signature.is_some() {
                        wire.push(signed(Data::Text(&text.text), signature));
                    }
                }
                Part::Reasoning(thought) => {
                    // Bare ones are summaries: the model's own thoughts are in the signatures of other parts.
                    if let Some(signature) = self.signature(thought.opaque.as_ref()) {
                        wire.push(Wire::Known(Known {
                            data: Data::Text(&thought.text),
                            thought: true,
                            thought_signature: Some(signature),
                        }));
                    }
                }
                Part::ToolCall(call) if call.is_provider_executed => {
                    match call
                        .opaque
                        .as_ref()
                        .filter(|token| token.provider == self.vendor.name())
                    {
                        Some(token) => wire.push(Wire::Verbatim(self.executed(token))),
                        None => self.warnings.left_out(part),
                    }
                }
                Part::ToolCall(call) => wire.push(signed(
                    Data::FunctionCall(FunctionCall {
                        id: known_id(&call.id),
                        name: &call.name,
                        args: object(&call.arguments),
                    }),
                    self.signature(call.opaque.as_ref()),
                )),
                Part::Media(media) => match self.media(media) {
                    Ok(part) => wire.push(part),
                    Err(_) => self.warnings.left_out(part),
                },
                Part::Unknown(part) if part.provider == self.vendor.name() => {
                    wire.push(Wire::Verbatim(Cow::Borrowed(&part.value)));
                }
                Part::Data(_) => {}
                _ => self.warnings.left_out(part),
            }
        }
        wire
    }

    /// What the vendor ran itself, as it came; without its signature where another model signed.
    fn executed<'t>(&self, token: &'t Opaque) -> Cow<'t, Value> {
        if token.model == self.info.model {
            return Cow::Borrowed(&token.value);
        }
        let mut value = token.value.clone();
        if let Value::Object(part) = &mut value {
            part.shift_remove("thoughtSignature");
        }
        Cow::Owned(value)
    }

    fn media(&mut self, media: &'a Media) -> Result<Wire<'a>> {
        let kind = media.media_type.as_str();
        let is_known = ["image/", "audio/", "video/", "text/"]
            .iter()
            .any(|family| kind.starts_with(family))
            || matches!(
                kind,
                "application/pdf"
                    | "application/json"
                    | "application/xml"
                    | "application/rtf"
                    | "application/x-javascript"
                    | "application/x-python-code"
            );
        if !is_known && matches!(media.source, MediaSource::Bytes(_)) {
            return Err(self.vendor.unsupported(
                kind,
                "send an image, sound, video, PDF or text, or upload it and send its id",
            ));
        }
        let data = match &media.source {
            MediaSource::Bytes(bytes) => Data::Inline(Blob {
                mime_type: kind,
                data: STANDARD.encode(bytes),
            }),
            MediaSource::Url(url) => Data::File(FileData {
                mime_type: kind,
                file_uri: Cow::Borrowed(url),
            }),
            MediaSource::FileId(id) if id.contains("://") => Data::File(FileData {
                mime_type: kind,
                file_uri: Cow::Borrowed(id),
            }),
            MediaSource::FileId(id) => Data::File(FileData {
                mime_type: kind,
                file_uri: Cow::Owned(format!(
                    "{FILES}{}{id}",
                    if id.starts_with("files/") { "" } else { "files/" }
                )),
            }),
            _ => {
                return Err(self
                    .vendor
                    .unsupported("media of this source", "send bytes, an address or a file id"));
            }
        };
        Ok(signed(data, self.signature(media.opaque.as_ref())))
    }

    fn tool_result(&mut self, result: &'a ToolResult, wire: &mut Vec<Wire<'a>>) -> Result<()> {
        let mut media = Vec::new();
        for part in &result.parts {
            if let Part::Media(part) = part {
                media.push(self.media(part)?);
            }
        }
        // Media inside of a result are known from 3 on; before, they follow it.
        let (inside, behind) = if self.is_at_least(3, 0) {
            (media, Vec::new())
        } else {
            (Vec::new(), media)
        };
        wire.push(
            Data::FunctionResponse(FunctionResponse {
                id: known_id(&result.call_id),
                name: &result.name,
                response: response(result),
                parts: inside,
            })
            .into(),
        );
        wire.extend(behind);
        Ok(())
    }
}

fn signed<'a>(data: Data<'a>, signature: Option<&'a str>) -> Wire<'a> {
    Wire::Known(Known {
        data,
        thought: false,
        thought_signature: signature,
    })
}

/// Models from 3 on refuse a turn whose first call has no signature; those of a history from elsewhere have none.
fn sign_first_call(parts: &mut [Wire<'_>]) {
    let first = parts.iter_mut().find_map(|part| match part {
        Wire::Known(known) if matches!(known.data, Data::FunctionCall(_)) => Some(known),
        _ => None,
    });
    if let Some(call) = first {
        call.thought_signature.get_or_insert(UNSIGNED);
    }
}

/// The id, where the vendor knows it.
fn known_id(id: &str) -> Option<&str> {
    (!id.is_empty() && !is_invented(id)).then_some(id)
}

fn response(result: &ToolResult) -> Response<'_> {
    let has_words = result
        .parts
        .iter()
        .any(|part| matches!(part, Part::Text(_) | Part::Media(_)));
    let mut data = result.parts.iter().filter_map(|part| match part {
        Part::Data(part) => Some(&part.value),
        _ => None,
    });
    match (data.next(), data.next()) {
        _ if result.is_error => Response::Error { error: result.text() },
        (Some(value @ Value::Object(_)), None) if !has_words => Response::Object(value),
        (Some(value), None) if !has_words => Response::Value { output: value },
        _ => Response::Text {
            output: result.text(),
        },
    }
}

fn object(arguments: &Value) -> Cow<'_, Value> {
    if arguments.is_object() {
        Cow::Borrowed(arguments)
    } else {
        Cow::Owned(json!({ "value": arguments }))
    }
}
