//! [`ChatRequest`] → body of `POST /responses`. Pure: the same request gives the same bytes.

mod history;
mod media;
mod results;

use super::wire::{Format, Reasoning, Request, StreamOptions, Text, Tool, ToolChoice as Choice};
use crate::{
    doctor::{self, Mended, Names, ReasoningRule, Rules},
    http::Vendor,
    openai::{
        family::{is_reasoning, reasons},
        schema::{name, strict},
    },
    options, schema,
    warnings::Warnings,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Error, Message, ModelInfo, ReasoningEffort, ResponseFormat, Result, ToolChoice, Warning,
};

/// The thoughts of a model, sealed: without them a stateless model has forgotten why it called a tool.
const SEALED: &str = "reasoning.encrypted_content";

/// Options that are ours, not fields of the body.
const OURS: &[&str] = &["wire", "include"];

/// What the counting endpoint takes beside the conversation.
const COUNTED: &[&str] = &[
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "parallel_tool_calls",
    "previous_response_id",
    "conversation",
    "truncation",
    "instructions",
];

/// What this wire asks of a history.
pub(crate) fn rules() -> Rules {
    Rules {
        names: Names::Form { max: 64, more: "" },
        reasoning: ReasoningRule::Own,
        reasoning_leads: true,
        tokens: true,
        own_parts: true,
        // Images that the vendor made stand behind the call that holds them; only the call goes back.
        assistant_media: true,
        ..Rules::LENIENT
    }
}

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
pub(crate) fn answer(vendor: &Vendor, info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, vendor.name())?;
    let mut encoder = Encoder::new(vendor, info, options);
    let mended = encoder.mend(request, info);
    let mut wire = encoder.asked(request, &mended.messages)?;
    let include = encoder.include(options);
    wire.include = include;
    wire.store = Some(encoder.stores);
    wire.max_output_tokens = request.max_output_tokens;
    // A model that reasons takes no sampling options while it does.
    let is_fixed =
        encoder.is_of_openai_that_reasons && request.reasoning.effort != Some(ReasoningEffort::None);
    wire.temperature = encoder
        .warnings
        .unless(is_fixed, "temperature", options::finite(request.temperature));
    wire.top_p = encoder
        .warnings
        .unless(is_fixed, "top_p", options::finite(request.top_p));
    wire.metadata = (!request.metadata.is_empty()).then_some(&request.metadata);
    wire.stream = Some(true);
    wire.stream_options = encoder.is_openai.then_some(StreamOptions {
        include_obfuscation: false,
    });
    encoder.ignored(request);
    Ok(Encoded {
        body: options::body(&wire, options, OURS)?,
        warnings: encoder.warnings.into(),
    })
}

/// The body of a count of the same request.
///
/// # Errors
/// As [`answer`].
pub(crate) fn count(vendor: &Vendor, info: &ModelInfo, request: &ChatRequest) -> Result<Vec<u8>> {
    let options = options::of(request, vendor.name())?;
    let mut encoder = Encoder::new(vendor, info, options);
    let mended = encoder.mend(request, info);
    let wire = encoder.asked(request, &mended.messages)?;
    let counted: Map<String, Value> = options
        .into_iter()
        .flatten()
        .filter(|(key, _)| COUNTED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    options::body(&wire, Some(&counted), OURS)
}

#[allow(clippy::struct_excessive_bools)] // facts about a vendor, a model and a request, in any combination
struct Encoder<'a> {
    vendor: &'a Vendor,
    model: &'a str,
    /// OpenAI itself, or its models at Azure: there a thought that is not sealed is refused.
    is_openai: bool,
    /// By its name a model of OpenAI that reasons, at whichever vendor.
    is_of_openai_that_reasons: bool,
    /// It does, or nobody knows that it does not.
    reasons: bool,
    /// The vendor keeps the answer: items may be named by their ids.
    stores: bool,
    /// What came before lies with the vendor.
    leans: bool,
    warnings: Warnings,
}

impl<'a> Encoder<'a> {
    fn new(vendor: &'a Vendor, info: &'a ModelInfo, options: Option<&Map<String, Value>>) -> Self {
        let name = vendor.name();
        let is_openai = name == "openai" || name.starts_with("azure");
        // Gateways put the maker before the name.
        let bare = info.model.rsplit('/').next().unwrap_or_default();
        let told = info.abilities.reasoning;
        let is_of_openai_that_reasons =
            told != Some(false) && is_reasoning(bare) || is_openai && told == Some(true);
        let reasons = told.or_else(|| reasons(bare)).unwrap_or(true);
        let option = |key: &str| options.and_then(|options| options.get(key));
        let is_given = |key: &str| option(key).is_some_and(|value| !value.is_null());
        let leans = is_given("previous_response_id") || is_given("conversation");
        Self {
            vendor,
            model: &info.model,
            is_openai,
            is_of_openai_that_reasons,
            reasons,
            stores: match option("store") {
                Some(Value::Bool(stores)) => *stores,
                // Taken away: the vendor's own default, which is to keep.
                Some(Value::Null) => true,
                // Whoever leans on what is kept wants to go on so.
                _ => leans || option("background") == Some(&Value::Bool(true)),
            },
            leans,
            warnings: Warnings::new(name.to_owned()),
        }
    }

    /// The history, valid for this wire. One whose beginning lies with the vendor is left as it is: a result in it
    /// may answer a call that is not.
    fn mend<'m>(&mut self, request: &'m ChatRequest, info: &ModelInfo) -> Mended<'m> {
        if self.leans {
            return Mended {
                messages: Cow::Borrowed(&request.messages),
                changes: Vec::new(),
            };
        }
        let mended = doctor::mend(&request.messages, &rules(), info);
        self.warnings.history(&mended);
        mended
    }

    /// What is asked, without how the answer comes.
    fn asked(&mut self, request: &'a ChatRequest, messages: &'a [Message]) -> Result<Request<'a>> {
        let options = options::of(request, self.vendor.name())?;
        let history = self.history(messages)?;
        let is_elsewhere = options.is_some_and(|options| {
            let mut keys = ["input", "prompt"].iter();
            keys.any(|key| options.contains_key(*key))
        });
        if history.items.is_empty() && !self.leans && !is_elsewhere {
            return Err(Error::invalid(
                "messages",
                "there is nothing to answer; add a message of the user",
            ));
        }
        let has_tools = !request.tools.is_empty() || !vendor_tools(options).is_empty();
        Ok(Request {
            model: self.model,
            instructions: history.instructions,
            input: history.items,
            tools: self.tools(request)?,
            tool_choice: tool_choice(request, vendor_tools(options))?,
            parallel_tool_calls: request.parallel_tool_calls.filter(|_| has_tools),
            text: self
                .format(&request.response_format)?
                .map(|format| Text { format }),
            reasoning: self.reasoning(request),
            ..Request::default()
        })
    }

    fn tools(&mut self, request: &'a ChatRequest) -> Result<Vec<Tool<'a>>> {
        let (_, arguments) = strict(self.vendor.name() == "openai");
        let mut tools = Vec::with_capacity(request.tools.len());
        for tool in &request.tools {
            let dialect = (tool.strict == Some(true)).then_some(arguments);
            let written = schema::arguments(tool, dialect, self.vendor, &mut self.warnings, |_| true)?;
            tools.push(Tool {
                kind: "function",
                name: &tool.name,
                description: &tool.description,
                parameters: written.value,
                strict: written.is_strict,
            });
        }
        Ok(tools)
    }

    fn format(&mut self, format: &'a ResponseFormat) -> Result<Option<Format<'a>>> {
        Ok(match format {
            ResponseFormat::Schema {
                name: given_name,
                schema,
            } => {
                let (dialect, _) = strict(self.vendor.name() == "openai");
                let written = schema::answer(schema, dialect, self.vendor, &mut self.warnings)?;
                Some(Format::JsonSchema {
                    name: name(given_name),
                    strict: written.is_strict,
                    schema: written.value,
                })
            }
            ResponseFormat::Json => Some(Format::JsonObject),
            _ => None,
        })
    }

    fn reasoning(&mut self, request: &ChatRequest) -> Option<Reasoning> {
        let asked = &request.reasoning;
        let none = Some(ReasoningEffort::None);
        // Not to think is what a model that cannot does anyway.
        let effort = asked.effort.filter(|_| self.reasons || asked.effort != none);
        let effort = self
            .warnings
            .unless(!self.reasons, "reasoning.effort", effort)
            .map(|effort| match effort {
                ReasoningEffort::None => "none",
                ReasoningEffort::Minimal => "minimal",
                ReasoningEffort::Low => "low",
                ReasoningEffort::Medium => "medium",
                ReasoningEffort::Max => "xhigh",
                _ => "high",
            });
        let is_shown = asked.show_summary.filter(|is_shown| *is_shown);
        let summary = self
            .warnings
            .unless(!self.reasons, "reasoning.show_summary", is_shown)
            .map(|_| "auto");
        (effort.is_some() || summary.is_some()).then_some(Reasoning { effort, summary })
    }

    /// What the answer brings beside the usual: the sealed thoughts where nobody keeps them, and what was asked.
    fn include(&self, options: Option<&'a Map<String, Value>>) -> Vec<&'a str> {
        let asked = options.and_then(|options| options.get("include"));
        if asked == Some(&Value::Null) {
            return Vec::new();
        }
        // A model that cannot seal its thoughts refuses to be asked for it, so only those that are known to.
        let seals = self.is_of_openai_that_reasons || (self.vendor.name() == "xai" && self.reasons);
        let mut include = Vec::new();
        if seals && !self.stores {
            include.push(SEALED);
        }
        for word in asked.and_then(Value::as_array).into_iter().flatten() {
            include.extend(
                word.as_str()
                    .filter(|word| *word != SEALED || !include.contains(word)),
            );
        }
        include
    }

    /// What this wire has no field for.
    fn ignored(&mut self, request: &ChatRequest) {
        let warnings = &mut self.warnings;
        let stops = (!request.stop_sequences.is_empty()).then_some(());
        let _ = warnings.unless(true, "stop_sequences", stops);
        let _ = warnings.unless(true, "seed", request.seed);
        let _ = warnings.unless(true, "top_k", request.top_k);
        let _ = warnings.unless(true, "reasoning.budget_tokens", request.reasoning.budget_tokens);
    }
}

/// The tools of the vendor that were asked for.
fn vendor_tools(options: Option<&Map<String, Value>>) -> &[Value] {
    options
        .and_then(|options| options.get("tools"))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn tool_choice<'a>(request: &'a ChatRequest, vendor_tools: &'a [Value]) -> Result<Option<Choice<'a>>> {
    let has_tools = !request.tools.is_empty() || !vendor_tools.is_empty();
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
                name: Some(name),
            }))
        }
        ToolChoice::Named(name) => {
            let mut own = vendor_tools.iter().filter_map(|tool| {
                let kind = tool.get("type")?.as_str()?;
                let named = tool.get("name").and_then(Value::as_str);
                match named {
                    Some(named) => (named == name).then_some((kind, Some(named))),
                    None => (kind == name).then_some((kind, None)),
                }
            });
            match own.next() {
                Some((kind, name)) => Ok(Some(Choice::Named { kind, name })),
                None => Err(Error::invalid(
                    "tool_choice",
                    "it names a tool that is not among the tools",
                )),
            }
        }
        _ => Ok(None),
    }
}
