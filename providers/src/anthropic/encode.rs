//! [`ChatRequest`] → body of `POST /v1/messages`. Pure: the same request gives the same bytes.

mod history;
mod strict;

use self::strict::Strict;
use super::{
    VENDOR,
    stream::CONTAINER,
    wire::{
        Block, CacheControl, Format, Known, Metadata, OutputConfig, Request, Thinking, Tool,
        ToolChoice as Choice, Turn,
    },
};
use crate::{
    doctor::{self, Alphabet, Arguments, Ids, Names, Prefill, ReasoningRule, Rules, SystemPlace, Turns},
    options, schema,
    structured::Means,
    warnings::Warnings,
};
use serde_json::Value;
use stepwell_core::{
    CacheMode, CachePoint, ChatRequest, Dialect, Error, Message, ModelInfo, Part, ReasoningEffort,
    ResponseFormat, Result, Role, ToolCall, ToolChoice, Warning,
};

/// Most places at which the vendor caches.
const CACHE_POINTS: usize = 4;
/// Least thinking budget the vendor takes.
const LEAST_BUDGET: u64 = 1024;
/// What this wire asks of a history.
pub(crate) fn rules(info: &ModelInfo) -> Rules {
    Rules {
        system: SystemPlace::Top,
        turns: Turns::Joined,
        ids: Ids::Form {
            min: 1,
            max: 256,
            alphabet: Alphabet::Word,
        },
        names: Names::Form { max: 128, more: "" },
        arguments: Arguments::Object,
        reasoning: ReasoningRule::Own,
        reasoning_leads: true,
        tokens: true,
        own_parts: true,
        server_results: true,
        blank_text: false,
        // "This model does not support assistant message prefill", says the vendor from 4.6 on.
        prefill: if version(&info.model).is_some_and(|version| version >= (4, 6)) {
            Prefill::Refused
        } else {
            Prefill::Trimmed
        },
        ..Rules::LENIENT
    }
}

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// Names for the `anthropic-beta` header.
    pub(crate) betas: Vec<String>,
    /// What was not done as asked.
    pub(crate) warnings: Vec<Warning>,
}

/// Fields of a request that count; the others are refused where tokens are only counted.
const COUNTED: [&str; 9] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "mcp_servers",
    "cache_control",
];

/// The body that asks how many tokens a request has.
///
/// # Errors
/// As [`chat`].
pub(crate) fn count(info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let mut encoded = chat(info, request)?;
    let broken = |_| Error::internal("a request could not be read back as JSON");
    let mut body: serde_json::Map<String, Value> = serde_json::from_slice(&encoded.body).map_err(broken)?;
    body.retain(|field, _| COUNTED.contains(&field.as_str()));
    encoded.body = serde_json::to_vec(&body).map_err(broken)?;
    Ok(encoded)
}

/// The body of a streamed answer.
///
/// # Errors
/// [`Error::InvalidInput`] and [`Error::Unsupported`] for what this wire cannot say.
pub(crate) fn chat(info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, VENDOR.name())?;
    let mut encoder = Encoder {
        info,
        warnings: Warnings::new(VENDOR.name()),
        uses_files: false,
        citations: request.citations,
        strict: Strict::default(),
    };
    let mended = doctor::mend(&request.messages, &rules(info), info);
    encoder.warnings.history(&mended);
    let (system, messages) = encoder.history(&mended.messages)?;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "there is nothing to answer; add a message of the user",
        ));
    }
    let format = encoder.format(&request.response_format)?;
    let tools = encoder.tools(request)?;
    let vendor_tools = options.and_then(|options| options.get("tools")?.as_array());
    let tool_choice = tool_choice(request, vendor_tools.map_or(&[], Vec::as_slice))?;
    let max_tokens = request
        .max_output_tokens
        .or(info.max_output_tokens)
        .unwrap_or_else(|| usual_max_tokens(&info.model));
    let (thinking, effort) = encoder.thinking(request, max_tokens);
    // With a budget, a turn that calls tools has to begin with a thought; one from elsewhere has none to begin with.
    let is_budgeted = thinking
        .as_ref()
        .is_some_and(|thinking| thinking.kind == "enabled");
    let thinking = encoder.warnings.unless(
        is_budgeted && waits_without_thought(&messages),
        "reasoning (the turn that waits for its results began without a thought)",
        thinking,
    );
    let thinks = thinking
        .as_ref()
        .is_some_and(|thinking| thinking.kind != "disabled");
    let mut wire = Request {
        model: &info.model,
        max_tokens,
        tools,
        tool_choice,
        system,
        messages,
        thinking,
        output_config: (effort.is_some() || format.is_some()).then_some(OutputConfig { effort, format }),
        temperature: encoder
            .warnings
            .unless(thinks, "temperature", options::finite(request.temperature)),
        top_p: options::finite(request.top_p),
        top_k: encoder.warnings.unless(thinks, "top_k", request.top_k),
        stop_sequences: &request.stop_sequences,
        metadata: request
            .metadata
            .get("user_id")
            .map(|user_id| Metadata { user_id }),
        container: container(&mended.messages),
        stream: true,
    };
    cache_points(&mut wire, request.cache);
    let _ = encoder.warnings.unless(true, "seed", request.seed);
    let other_labels = request.metadata.keys().any(|key| key != "user_id");
    let _ = encoder
        .warnings
        .unless(true, "metadata other than user_id", other_labels.then_some(()));

    let mut betas: Vec<String> = Vec::new();
    if encoder.uses_files {
        betas.push("files-api-2025-04-14".to_owned());
    }
    if let Some(Value::Array(more)) = options.and_then(|options| options.get("betas")) {
        betas.extend(more.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(Encoded {
        body: options::body(&wire, options, &["betas"])?,
        betas,
        warnings: encoder.warnings.into(),
    })
}

/// Whether results are sent to a turn of the model, up to the last words of the user, in which it never thought.
fn waits_without_thought(turns: &[Turn<'_>]) -> bool {
    let is_result = |block: &Block<'_>| matches!(block, Block::Known(Known::ToolResult { .. }));
    let is_thought = |block: &Block<'_>| {
        matches!(
            block,
            Block::Known(Known::Thinking { .. } | Known::RedactedThinking { .. })
        )
    };
    let in_loop = turns
        .iter()
        .rev()
        .take_while(|turn| turn.role == "assistant" || turn.content.iter().all(is_result));
    let (mut waits, mut thought) = (false, false);
    for (place, turn) in in_loop.enumerate() {
        waits |= place == 0 && turn.role == "user";
        thought |= turn.role == "assistant" && turn.content.iter().any(is_thought);
    }
    waits && !thought
}

struct Encoder<'a> {
    info: &'a ModelInfo,
    warnings: Warnings,
    uses_files: bool,
    /// On all documents of a request or on none: the vendor refuses a mixture.
    citations: Option<bool>,
    strict: Strict,
}

impl Encoder<'_> {
    fn thinking(
        &mut self,
        request: &ChatRequest,
        max_tokens: u64,
    ) -> (Option<Thinking>, Option<&'static str>) {
        let asked = &request.reasoning;
        let display = asked
            .show_summary
            .map(|show| if show { "summarized" } else { "omitted" });
        let is_always_on = ["fable", "mythos"]
            .iter()
            .any(|name| self.info.model.contains(name));
        if asked.effort == Some(ReasoningEffort::None) && is_always_on {
            let _ = self
                .warnings
                .unless(true, "reasoning.effort none (the model always thinks)", Some(()));
            return (None, None);
        }
        if asked.effort == Some(ReasoningEffort::None) {
            let off = Thinking {
                kind: "disabled",
                budget_tokens: None,
                display: None,
            };
            return (Some(off), None);
        }
        let is_adaptive = version(&self.info.model).is_none_or(|version| version >= (4, 6));
        if asked.budget_tokens.is_none() && is_adaptive {
            let effort = asked.effort.map(|effort| match effort {
                ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
                ReasoningEffort::Medium => "medium",
                ReasoningEffort::Max => "max",
                _ => "high",
            });
            let thinking = (effort.is_some() || display.is_some()).then_some(Thinking {
                kind: "adaptive",
                budget_tokens: None,
                display,
            });
            return (thinking, effort);
        }
        let budget = asked.budget_tokens.or(asked.effort.map(|effort| match effort {
            ReasoningEffort::Minimal => LEAST_BUDGET,
            ReasoningEffort::Low => 2_048,
            ReasoningEffort::Medium => 8_192,
            ReasoningEffort::Max => 32_000,
            _ => 16_384,
        }));
        let _ = self.warnings.unless(true, "reasoning.show_summary", display);
        let Some(budget) = budget else { return (None, None) };
        // The budget is a part of the answer's tokens, and has to leave some for the answer.
        let budget = budget
            .min(max_tokens.saturating_sub(LEAST_BUDGET))
            .max(LEAST_BUDGET);
        if budget >= max_tokens {
            let _ = self.warnings.unless(
                true,
                "reasoning (max_output_tokens leaves no room for it)",
                Some(()),
            );
            return (None, None);
        }
        let thinking = Thinking {
            kind: "enabled",
            budget_tokens: Some(budget),
            display: None,
        };
        (Some(thinking), None)
    }

    fn tools<'t>(&mut self, request: &'t ChatRequest) -> Result<Vec<Tool<'t>>> {
        let mut tools = Vec::with_capacity(request.tools.len());
        for tool in &request.tools {
            let dialect = (tool.strict == Some(true)).then_some(Dialect::AnthropicStrictArguments);
            let strict = &mut self.strict;
            let written = schema::arguments(tool, dialect, &VENDOR, &mut self.warnings, |size| {
                strict.takes_tool(size)
            })?;
            tools.push(Tool {
                name: &tool.name,
                description: &tool.description,
                input_schema: written.value,
                strict: written.is_strict.then_some(true), // false is the default
                cache_control: tool.cache.map(cache_control),
            });
        }
        Ok(tools)
    }

    fn format(&mut self, format: &ResponseFormat) -> Result<Option<Format>> {
        Ok(match format {
            ResponseFormat::Schema { schema, .. } => {
                let compiled = schema::strictly(Dialect::AnthropicStrict, schema.as_value())?;
                let Some(compiled) = compiled.filter(|compiled| self.strict.takes(&compiled.size)) else {
                    // The structured layer asks in another way; here the shape can only be checked.
                    self.warnings.warn(Warning::new(
                        "schema_not_kept",
                        "anthropic cannot keep to the schema of the answer; it is checked here",
                    ));
                    return Ok(None);
                };
                self.warnings.weakened(&compiled.loose_keywords());
                Some(Format {
                    kind: "json_schema",
                    schema: compiled.value,
                })
            }
            ResponseFormat::Json => {
                let _ = self
                    .warnings
                    .unless(true, "response_format without a schema", Some(()));
                None
            }
            _ => None,
        })
    }
}

/// `more` are the vendor's own tools, which come with its options.
fn tool_choice<'a>(request: &'a ChatRequest, more: &[Value]) -> Result<Option<Choice<'a>>> {
    let choice = &request.tool_choice;
    if request.tools.is_empty() && more.is_empty() {
        return match choice {
            ToolChoice::Any | ToolChoice::Named(_) => Err(Error::invalid(
                "tool_choice",
                "it asks for a call, but there is no tool",
            )),
            _ => Ok(None),
        };
    }
    let is_known = |name: &str| {
        request.tools.iter().any(|tool| tool.name == name) || more.iter().any(|tool| tool["name"] == name)
    };
    let disable = (request.parallel_tool_calls == Some(false) && *choice != ToolChoice::None).then_some(true);
    let (kind, name) = match choice {
        ToolChoice::Auto if disable.is_none() => return Ok(None),
        ToolChoice::None => ("none", None),
        ToolChoice::Any => ("any", None),
        ToolChoice::Named(name) if is_known(name) => ("tool", Some(name.as_str())),
        ToolChoice::Named(_) => {
            return Err(Error::invalid(
                "tool_choice",
                "it names a tool that is not among the tools",
            ));
        }
        _ => ("auto", None),
    };
    Ok(Some(Choice {
        kind,
        name,
        disable_parallel_tool_use: disable,
    }))
}

/// Where the vendor's code waits for results of calls that it made itself: they have to come back to that place.
fn container(messages: &[Message]) -> Option<&str> {
    let last = messages
        .iter()
        .rev()
        .find(|message| message.role == Role::Assistant)?;
    let called = |call: &ToolCall| {
        let token = call
            .opaque
            .as_ref()
            .filter(|token| token.provider == VENDOR.name());
        token.is_some_and(|token| token.value.get("caller").is_some())
    };
    if !last.tool_calls().any(called) {
        return None;
    }
    last.parts.iter().find_map(|part| match part {
        Part::Data(data) if data.name == CONTAINER => data.value["id"].as_str(),
        _ => None,
    })
}

fn cache_control(point: CachePoint) -> CacheControl {
    CacheControl {
        kind: "ephemeral",
        ttl: matches!(point, CachePoint::Long).then_some("1h"),
    }
}

/// Adds the automatic points, and keeps at most as many as the vendor takes: those of the instructions, and the
/// latest of the conversation.
fn cache_points(wire: &mut Request<'_>, mode: CacheMode) {
    if mode == CacheMode::Automatic {
        let short = cache_control(CachePoint::Short);
        // Tools stand before the instructions, so a point behind these covers both.
        match (wire.system.last_mut(), wire.tools.last_mut()) {
            (Some(block), _) => {
                if let Some(slot) = block.cache_control() {
                    slot.get_or_insert(short);
                }
            }
            (None, Some(tool)) => {
                tool.cache_control.get_or_insert(short);
            }
            (None, None) => {}
        }
        let last = wire
            .messages
            .last_mut()
            .and_then(|turn| turn.content.iter_mut().rev().find_map(Block::cache_control));
        if let Some(slot) = last {
            slot.get_or_insert(short);
        }
    }
    let mut points: Vec<&mut Option<CacheControl>> = wire
        .messages
        .iter_mut()
        .flat_map(|turn| &mut turn.content)
        .chain(&mut wire.system)
        .filter_map(Block::cache_control)
        .chain(wire.tools.iter_mut().map(|tool| &mut tool.cache_control))
        .filter(|slot| slot.is_some())
        .collect();
    let surplus = points.len().saturating_sub(CACHE_POINTS);
    for slot in points.iter_mut().take(surplus) {
        **slot = None;
    }
}

/// Generation of a model by its name: `claude-sonnet-4-6` is (4, 6), `claude-3-7-sonnet-…` is (3, 7).
fn version(model: &str) -> Option<(u32, u32)> {
    let mut numbers = model
        .strip_prefix("claude-")?
        .split('-')
        .filter_map(|word| word.parse::<u32>().ok().filter(|_| word.len() <= 2));
    let major = numbers.next()?;
    Some((major, numbers.next().unwrap_or(0)))
}

/// What the model can for the shape of an answer. It keeps to schemas from 4.5 on, as Opus 4.1 does; a call can only be
/// forced while it does not think, which from 4.6 on it may do unasked.
pub(crate) fn means(info: &ModelInfo, request: &ChatRequest) -> Means {
    let version = version(&info.model);
    let is_able = version.is_none_or(|version| version >= (4, 5)) || info.model.contains("opus-4-1");
    let asked = &request.reasoning;
    let thinks = asked.budget_tokens.is_some()
        || asked.effort.is_some()
        || version.is_none_or(|version| version >= (4, 6));
    Means {
        native: info
            .abilities
            .structured_output
            .unwrap_or(is_able)
            .then_some(Dialect::AnthropicStrict),
        is_lenient: false,
        beside_tools: true,
        object_root: true,
        json_mode: false,
        tools: info.abilities.tools != Some(false),
        forces_calls: asked.effort == Some(ReasoningEffort::None) || !thinks,
        // A schema the vendor cannot keep to in an answer it cannot keep to in a tool either.
        strict_tools: false,
    }
}

/// What the generation can answer at most; the vendor wants the figure.
fn usual_max_tokens(model: &str) -> u64 {
    match version(model) {
        Some((major, minor)) if (major, minor) >= (4, 5) => 64_000,
        Some((4, _)) => 32_000,
        Some((3, 7)) => 64_000,
        Some((3, 0)) => 4_096,
        _ => 8_192,
    }
}

#[cfg(test)]
mod tests;
