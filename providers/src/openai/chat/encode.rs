//! [`ChatRequest`] → body of `POST /chat/completions`. Pure: the same request gives the same bytes.

use super::wire::{
    Call, Content, File, Format, Function, ImageUrl, InputAudio, JsonSchema, Piece, Request, StreamOptions,
    Tool, ToolChoice as Choice, ToolFunction, ToolName, Turn,
};
use crate::{narrow, openai::VENDOR, options};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Error, Media, MediaSource, Message, ModelInfo, Part, ReasoningEffort, ResponseFormat,
    Result, Role, ToolCall, ToolChoice, ToolResult, Warning,
};

const GRAMMAR: narrow::Grammar = narrow::Grammar {
    requires_all: true,
    refuses: &[
        "default",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "contains",
    ],
};

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// What was not done as asked.
    pub(crate) warnings: Vec<Warning>,
}

/// The body of a streamed answer.
///
/// # Errors
/// [`Error::InvalidInput`] and [`Error::Unsupported`] for what this wire cannot say.
pub(crate) fn chat(info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, VENDOR.name)?;
    let reasons = info
        .abilities
        .reasoning
        .unwrap_or_else(|| is_reasoning(&info.model));
    let mut encoder = Encoder {
        reasons,
        warnings: Vec::new(),
    };
    let messages = encoder.history(&request.messages)?;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "there is nothing to answer; add a message of the user",
        ));
    }
    let effort = request.reasoning.effort;
    // A model that reasons takes no sampling options while it does.
    let samples = !reasons || effort == Some(ReasoningEffort::None);
    let stores = options.is_some_and(|options| options.get("store") == Some(&Value::Bool(true)));
    let metadata = (!request.metadata.is_empty()).then_some(&request.metadata);
    let wire = Request {
        model: &info.model,
        messages,
        tools: tools(request)?,
        tool_choice: tool_choice(request)?,
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| !request.tools.is_empty()),
        response_format: encoder.format(&request.response_format)?,
        reasoning_effort: encoder
            .unless(
                !reasons,
                "reasoning.effort",
                effort.filter(|_| reasons || effort != Some(ReasoningEffort::None)),
            )
            .map(|effort| match effort {
                ReasoningEffort::None => "none",
                ReasoningEffort::Minimal => "minimal",
                ReasoningEffort::Low => "low",
                ReasoningEffort::Medium => "medium",
                ReasoningEffort::Max => "xhigh",
                _ => "high",
            }),
        max_completion_tokens: request.max_output_tokens,
        temperature: encoder.unless(!samples, "temperature", finite(request.temperature)),
        top_p: encoder.unless(!samples, "top_p", finite(request.top_p)),
        stop: &request.stop_sequences,
        seed: request.seed,
        metadata: encoder.unless(!stores, "metadata (set `store` to keep it)", metadata),
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
            include_obfuscation: false,
        },
    };
    let _ = encoder.unless(true, "top_k", request.top_k);
    let _ = encoder.unless(true, "reasoning.budget_tokens", request.reasoning.budget_tokens);
    let _ = encoder.unless(true, "reasoning.show_summary", request.reasoning.show_summary);
    Ok(Encoded {
        body: options::body(&wire, options, &[])?,
        warnings: encoder.warnings,
    })
}

fn finite(number: Option<f64>) -> Option<f64> {
    number.filter(|number| number.is_finite())
}

/// Whether a model reasons, by its name: `o3`, `gpt-5` and later, but not their chat variants.
fn is_reasoning(model: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    if let Some(rest) = model.strip_prefix('o') {
        return is_digit(rest.chars().next());
    }
    let Some(rest) = model.strip_prefix("gpt-") else {
        return false;
    };
    let major: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // `gpt-4o` and `gpt-4.1` do not; `gpt-35-turbo` is another cloud's name for 3.5.
    major.parse::<u32>().is_ok_and(|major| (5..30).contains(&major)) && !rest.contains("-chat")
}

struct Encoder {
    reasons: bool,
    warnings: Vec<Warning>,
}

impl Encoder {
    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The option, or a warning that it cannot be had now.
    fn unless<T>(&mut self, is_impossible: bool, name: &str, option: Option<T>) -> Option<T> {
        if is_impossible && option.is_some() {
            self.warn(Warning::option_ignored(VENDOR.name, name));
            return None;
        }
        option
    }

    fn history<'a>(&mut self, messages: &'a [Message]) -> Result<Vec<Turn<'a>>> {
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
                            _ => self.left_out(part),
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
                Part::Reasoning(_) => self.warn(Warning::new(
                    "reasoning_left_out",
                    "Chat Completions takes no reasoning back; it was left out of the history",
                )),
                _ => self.left_out(part),
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

    fn left_out(&mut self, part: &Part) {
        let what = match part {
            Part::Media(_) => "media in a turn of the model",
            Part::ToolCall(_) => "a call that another vendor ran",
            Part::ToolResult(_) => "a tool result in a turn of the model",
            Part::Reasoning(_) => "reasoning in a turn of the user",
            _ => "a part of another vendor",
        };
        self.warn(Warning::new(
            "part_left_out",
            format!(
                "{} does not take {what}; it was left out of the history",
                VENDOR.name
            ),
        ));
    }

    fn format<'a>(&mut self, format: &'a ResponseFormat) -> Result<Option<Format<'a>>> {
        Ok(match format {
            ResponseFormat::Schema { name, schema } => {
                if schema.as_value().get("type").is_some_and(|kind| kind != "object") {
                    return Err(unsupported(
                        "an answer that is no object",
                        "wrap the schema into an object",
                    ));
                }
                let (schema, dropped) = narrow::schema(schema.as_value(), &GRAMMAR);
                if !dropped.is_empty() {
                    self.warn(Warning::new(
                        "schema_weakened",
                        format!(
                            "{} does not keep to {} in a schema; check the answer",
                            VENDOR.name,
                            dropped.join(", ")
                        ),
                    ));
                }
                Some(Format::JsonSchema {
                    json_schema: JsonSchema {
                        name: schema_name(name),
                        strict: true,
                        schema,
                    },
                })
            }
            ResponseFormat::Json => Some(Format::JsonObject),
            _ => None,
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
            None => Err(unsupported(
                kind,
                "send an image, a PDF, text, or WAV or MP3 audio",
            )),
        },
        _ => Err(unsupported(&format!("{kind} by its address"), "send its bytes")),
    }
}

fn unsupported(what: &str, hint: &str) -> Error {
    Error::Unsupported {
        who: VENDOR.name.to_owned(),
        what: what.to_owned(),
        hint: hint.to_owned(),
    }
}

fn tools(request: &ChatRequest) -> Result<Vec<Tool<'_>>> {
    request
        .tools
        .iter()
        .map(|tool| {
            let parameters = match tool.parameters.get("type").and_then(Value::as_str) {
                Some("object") => Cow::Borrowed(&tool.parameters),
                None if tool.parameters.is_object() => Cow::Borrowed(&tool.parameters),
                Some("null") => Cow::Owned(json!({ "type": "object", "properties": {} })),
                _ => {
                    return Err(unsupported(
                        &format!("the arguments of tool `{}`", tool.name),
                        "make their schema an object",
                    ));
                }
            };
            Ok(Tool {
                kind: "function",
                function: ToolFunction {
                    name: &tool.name,
                    description: &tool.description,
                    parameters,
                },
            })
        })
        .collect()
}

fn tool_choice(request: &ChatRequest) -> Result<Option<Choice<'_>>> {
    let has_tools = !request.tools.is_empty();
    match &request.tool_choice {
        ToolChoice::Any | ToolChoice::Named(_) if !has_tools => Err(Error::invalid(
            "tool_choice",
            "it asks for a call, but there is no tool",
        )),
        ToolChoice::Any => Ok(Some(Choice::Word("required"))),
        ToolChoice::None if has_tools => Ok(Some(Choice::Word("none"))),
        ToolChoice::Named(name) if request.tools.iter().any(|tool| tool.name == *name) => {
            Ok(Some(Choice::Named {
                kind: "function",
                function: ToolName { name },
            }))
        }
        ToolChoice::Named(_) => Err(Error::invalid(
            "tool_choice",
            "it names a tool that is not among the tools",
        )),
        _ => Ok(None),
    }
}

/// The vendor takes letters, digits, `_` and `-`, at most 64.
fn schema_name(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .take(64)
        .collect();
    Cow::Owned(if name.is_empty() {
        "answer".to_owned()
    } else {
        name
    })
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name
            .chars()
            .any(|c| c.is_whitespace() || matches!(c, '<' | '|' | '\\' | '/' | '>'))
}

#[cfg(test)]
mod tests {
    use super::{chat, is_reasoning};
    use serde_json::{Value, json};
    use stepwell_core::{
        ChatRequest, MediaSource, Message, ModelInfo, Origin, Part, ReasoningEffort, Role, ToolCall,
    };

    fn body(model: &str, request: &ChatRequest) -> Value {
        let encoded = chat(&ModelInfo::new("openai", model), request).expect("encodes");
        serde_json::from_slice(&encoded.body).expect("JSON")
    }

    #[test]
    fn a_model_that_reasons_is_told_by_its_name() {
        for name in [
            "o1",
            "o3-mini",
            "o4-mini",
            "gpt-5",
            "gpt-5-nano",
            "gpt-5.6-sol",
            "gpt-6.1-sol",
        ] {
            assert!(is_reasoning(name), "{name}");
        }
        for name in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-5-chat-latest",
            "gpt-35-turbo",
            "omni",
            "llama",
        ] {
            assert!(!is_reasoning(name), "{name}");
        }
    }

    #[test]
    fn a_reasoning_model_gets_developer_words_and_effort_but_no_sampling() {
        let mut request =
            ChatRequest::new([Message::system("Be brief."), Message::user("Hi")]).temperature(0.2);
        request.reasoning.effort = Some(ReasoningEffort::Low);
        let sent = body("gpt-5", &request);
        assert_eq!(sent["messages"][0]["role"], "developer");
        assert_eq!(
            (sent["reasoning_effort"].as_str(), sent.get("temperature")),
            (Some("low"), None)
        );
        let sent = body("gpt-4o", &request);
        assert_eq!(sent["messages"][0]["role"], "system");
        assert_eq!(
            (sent.get("reasoning_effort"), sent["temperature"].as_f64()),
            (None, Some(0.2))
        );
        let warned = chat(&ModelInfo::new("openai", "gpt-5"), &request)
            .expect("encodes")
            .warnings;
        assert!(
            warned
                .iter()
                .any(|warning| warning.message.contains("temperature")),
            "{warned:?}"
        );
    }

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
        let sent = body("gpt-4o", &request);
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

    #[test]
    fn what_the_wire_cannot_say_is_refused_before_anything_is_sent() {
        let video = Message::new(
            Role::User,
            vec![Part::media(
                "video/mp4",
                MediaSource::Url("https://x.example/v".into()),
            )],
        );
        let info = ModelInfo::new("openai", "gpt-4o");
        let error = chat(&info, &ChatRequest::new([video])).expect_err("no video");
        assert_eq!(error.code(), "unsupported");
        let none: [Message; 0] = [];
        assert_eq!(
            chat(&info, &ChatRequest::new(none)).expect_err("empty").code(),
            "invalid_input"
        );
    }
}
