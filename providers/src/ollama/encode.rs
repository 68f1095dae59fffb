//! [`ChatRequest`] → body of `POST /api/chat`. Pure: the same request gives the same bytes.

use super::{
    VENDOR, is_invented,
    wire::{Called, Function, Message as Wire, Options, Request, Think, Tool, ToolCall as Call},
};
use crate::{
    doctor::{self, Alphabet, Arguments, Ids, ReasoningRule, Rules},
    options, schema,
    warnings::Warnings,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Dialect, Error, HeuristicTokens, Media, MediaSource, Message, ModelInfo, Part,
    ReasoningEffort, ResponseFormat, Result, Role, TokenCounter, ToolChoice, Warning,
};

/// An image, by the measure of the smaller models that see.
const IMAGE_TOKENS: u64 = 256;
/// A turn's own signs.
const TURN_TOKENS: u64 = 4;

/// What this wire asks of a history: older servers tie results to calls by their order alone.
pub(crate) const RULES: Rules = Rules {
    results_in_order: true,
    results_named: true,
    ids: Ids::Form {
        min: 1,
        max: 256,
        alphabet: Alphabet::Any,
    },
    arguments: Arguments::Object,
    reasoning: ReasoningRule::Keep,
    ..Rules::LENIENT
};

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// The context it asks for.
    pub(crate) num_ctx: u64,
    /// What was not done as asked.
    pub(crate) warnings: Vec<Warning>,
}

/// What is known of the model's context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Tokens in and out together.
    pub(crate) num_ctx: u64,
    /// Whether it can think, where the server tells.
    pub(crate) thinks: Option<bool>,
}

/// The context that a request asks for by itself.
pub(crate) fn asked_num_ctx(request: &ChatRequest) -> Option<u64> {
    request
        .provider_options
        .get(VENDOR.name())?
        .get("options")?
        .get("num_ctx")?
        .as_u64()
}

/// The body of a streamed answer.
///
/// # Errors
/// [`Error::InvalidInput`] and [`Error::Unsupported`] for what this wire cannot say; [`Error::LimitExceeded`] where
/// the server would have to leave a part of the prompt out.
pub(crate) fn chat(info: &ModelInfo, request: &ChatRequest, context: Context) -> Result<Encoded> {
    let own = options::of(request, VENDOR.name())?;
    let mut encoder = Encoder {
        warnings: Warnings::new(VENDOR.name()),
    };
    let mended = doctor::mend(&request.messages, &RULES, info);
    encoder.warnings.history(&mended);
    let messages = encoder.messages(&mended.messages)?;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "there is nothing to answer; add a message of the user",
        ));
    }
    let tools = encoder.tools(request)?;
    let num_ctx = asked_num_ctx(request).unwrap_or(context.num_ctx);
    fits(&messages, &tools, request.max_output_tokens, num_ctx)?;
    let format = match &request.response_format {
        ResponseFormat::Schema { schema, .. } => {
            let compiled = Dialect::Ollama.compile(schema.as_value())?;
            encoder.warnings.weakened(&compiled.loose_keywords());
            Some(Cow::Owned(compiled.value))
        }
        ResponseFormat::Json => Some(Cow::Owned(json!("json"))),
        _ => None,
    };
    let wire = Request {
        model: &info.model,
        messages,
        tools,
        format,
        think: encoder.think(request, &info.model, context.thinks),
        options: Options {
            num_ctx,
            num_predict: request.max_output_tokens,
            temperature: options::finite(request.temperature),
            top_p: options::finite(request.top_p),
            top_k: request.top_k,
            seed: request.seed,
            stop: &request.stop_sequences,
        },
        truncate: false,
        shift: false,
        stream: true,
    };
    let labels = (!request.metadata.is_empty()).then_some(());
    let _ = encoder.warnings.unless(true, "metadata", labels);
    let _ = encoder
        .warnings
        .unless(true, "citations", request.citations.filter(|asked| *asked));
    Ok(Encoded {
        body: options::body(&wire, own, &[])?,
        num_ctx,
        warnings: encoder.warnings.into(),
    })
}

/// Refuses a prompt that the server would shorten at its beginning without a word (older ones do, whatever the
/// request says).
fn fits(messages: &[Wire<'_>], tools: &[Tool<'_>], answer: Option<u64>, num_ctx: u64) -> Result<()> {
    let count = |text: &str| HeuristicTokens.count(text) as u64;
    let mut tokens = 0;
    for message in messages {
        tokens += TURN_TOKENS + count(&message.content) + message.thinking.as_deref().map_or(0, count);
        tokens += IMAGE_TOKENS * message.images.len() as u64;
        for call in &message.tool_calls {
            tokens += count(call.function.name) + count(&call.function.arguments.to_string());
        }
    }
    for tool in tools {
        tokens += count(tool.function.description) + count(&tool.function.parameters.to_string());
    }
    // The answer needs some room, though not all it may take.
    let room = answer.unwrap_or(num_ctx / 8).min(num_ctx / 4);
    if tokens > num_ctx.saturating_sub(room) {
        return Err(Error::LimitExceeded {
            what: format!(
                "the prompt (about {tokens} tokens, beside {room} for the answer; raise `.num_ctx(..)`)"
            ),
            limit: format!("num_ctx of {num_ctx} tokens"),
        });
    }
    Ok(())
}

struct Encoder {
    warnings: Warnings,
}

impl Encoder {
    fn messages<'a>(&mut self, messages: &'a [Message]) -> Result<Vec<Wire<'a>>> {
        let mut wire = Vec::new();
        for message in messages {
            match message.role {
                Role::System | Role::Developer => {
                    let words = text(&message.parts);
                    if !words.is_empty() {
                        wire.push(turn("system", words));
                    }
                }
                Role::Assistant => wire.extend(self.assistant(message)),
                _ => self.user(message, &mut wire)?,
            }
        }
        Ok(wire)
    }

    fn user<'a>(&mut self, message: &'a Message, wire: &mut Vec<Wire<'a>>) -> Result<()> {
        let mut images = Vec::new();
        for part in &message.parts {
            match part {
                Part::Media(media) => images.push(image(media)?),
                Part::ToolResult(result) => {
                    let mut reply = turn("tool", Cow::Owned(result.text()));
                    reply.tool_name = (!result.name.is_empty()).then_some(result.name.as_str());
                    reply.tool_call_id = known_id(&result.call_id);
                    for part in &result.parts {
                        if let Part::Media(media) = part {
                            reply.images.push(image(media)?);
                        }
                    }
                    wire.push(reply);
                }
                Part::Text(_) | Part::Data(_) => {}
                _ => self.warnings.left_out(part),
            }
        }
        let words = text(&message.parts);
        if !words.is_empty() || !images.is_empty() {
            let mut said = turn("user", words);
            said.images = images;
            wire.push(said);
        }
        Ok(())
    }

    fn assistant<'a>(&mut self, message: &'a Message) -> Option<Wire<'a>> {
        let mut said = turn("assistant", text(&message.parts));
        for part in &message.parts {
            match part {
                Part::Reasoning(thought) => {
                    if !thought.text.is_empty() {
                        let so_far = said.thinking.get_or_insert_default();
                        if so_far.is_empty() {
                            *so_far = Cow::Borrowed(&thought.text);
                        } else {
                            so_far.to_mut().push_str(&thought.text);
                        }
                    }
                }
                Part::ToolCall(call) if !call.is_provider_executed => said.tool_calls.push(Call {
                    id: known_id(&call.id),
                    kind: "function",
                    function: Called {
                        name: &call.name,
                        arguments: object(&call.arguments),
                    },
                }),
                Part::Text(_) | Part::Data(_) => {}
                _ => self.warnings.left_out(part),
            }
        }
        let is_empty = said.content.is_empty() && said.thinking.is_none() && said.tool_calls.is_empty();
        (!is_empty).then_some(said)
    }

    fn tools<'a>(&mut self, request: &'a ChatRequest) -> Result<Vec<Tool<'a>>> {
        let choice = &request.tool_choice;
        if request.tools.is_empty() {
            return match choice {
                ToolChoice::Any | ToolChoice::Named(_) => Err(Error::invalid(
                    "tool_choice",
                    "it asks for a call, but there is no tool",
                )),
                _ => Ok(Vec::new()),
            };
        }
        let is_forced = matches!(choice, ToolChoice::Any | ToolChoice::Named(_));
        let _ = self.warnings.unless(true, "tool_choice", is_forced.then_some(()));
        let one_call = request.parallel_tool_calls == Some(false);
        let _ = self
            .warnings
            .unless(true, "parallel_tool_calls", one_call.then_some(()));
        if *choice == ToolChoice::None {
            return Ok(Vec::new()); // what it does not know it cannot call
        }
        let tools = request.tools.iter().map(|tool| {
            let parameters = schema::plain_arguments(tool, &VENDOR)?;
            Ok(Tool {
                kind: "function",
                function: Function {
                    name: &tool.name,
                    description: &tool.description,
                    parameters,
                },
            })
        });
        tools.collect()
    }

    fn think(&mut self, request: &ChatRequest, model: &str, thinks: Option<bool>) -> Option<Think> {
        let asked = &request.reasoning;
        let budget = asked.budget_tokens;
        let _ = self.warnings.unless(true, "reasoning.budget_tokens", budget);
        let effort = asked.effort.or(budget.map(|budget| match budget {
            0 => ReasoningEffort::None,
            _ => ReasoningEffort::Medium,
        }))?;
        if thinks == Some(false) {
            // The server refuses the word for a model that cannot.
            let is_wanted = effort != ReasoningEffort::None;
            let _ = self.warnings.unless(true, "reasoning", is_wanted.then_some(()));
            return None;
        }
        // One family has levels, and hears no switch.
        if model.contains("gpt-oss") {
            return Some(Think::Level(match effort {
                ReasoningEffort::None => {
                    let _ = self.warnings.unless(
                        true,
                        "reasoning.effort none (it thinks as little as it can)",
                        Some(()),
                    );
                    "low"
                }
                ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
                ReasoningEffort::Medium => "medium",
                _ => "high",
            }));
        }
        Some(Think::Switch(effort != ReasoningEffort::None))
    }
}

fn turn<'a>(role: &'static str, content: Cow<'a, str>) -> Wire<'a> {
    Wire {
        role,
        content,
        thinking: None,
        images: Vec::new(),
        tool_calls: Vec::new(),
        tool_name: None,
        tool_call_id: None,
    }
}

/// The words of a turn; the wire has one string for them.
fn text(parts: &[Part]) -> Cow<'_, str> {
    let mut words = parts
        .iter()
        .filter_map(Part::as_text)
        .filter(|text| !text.is_empty());
    let Some(first) = words.next() else {
        return Cow::Borrowed("");
    };
    let mut joined = Cow::Borrowed(first);
    for more in words {
        let joined = joined.to_mut();
        joined.push('\n');
        joined.push_str(more);
    }
    joined
}

fn image(media: &Media) -> Result<String> {
    let hint = "send an image as bytes, or the text of a document";
    match &media.source {
        MediaSource::Bytes(bytes) if media.media_type.starts_with("image/") => Ok(STANDARD.encode(bytes)),
        MediaSource::Bytes(_) => Err(VENDOR.unsupported(&media.media_type, hint)),
        _ => Err(VENDOR.unsupported("media by address or id", hint)),
    }
}

/// The id, where the server knows it.
fn known_id(id: &str) -> Option<&str> {
    (!id.is_empty() && !is_invented(id)).then_some(id)
}

fn object(arguments: &Value) -> Cow<'_, Value> {
    if arguments.is_object() {
        Cow::Borrowed(arguments)
    } else {
        Cow::Owned(json!({ "value": arguments }))
    }
}
