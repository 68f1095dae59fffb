//! [`ChatRequest`] → body of `:streamGenerateContent`. Pure: the same request gives the same bytes.

mod history;
mod thinking;

use super::wire::{
    CountRequest, CountedRequest, FunctionCallingConfig, FunctionDeclaration, GenerationConfig, Request,
    Tool, ToolConfig,
};
use crate::{
    doctor::{self, Alphabet, Arguments, Ids, Names, ReasoningRule, Rules, SystemPlace, Turns},
    http::Vendor,
    options, schema,
    structured::Means,
    warnings::Warnings,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Dialect, Error, Message, ModelInfo, ResponseFormat, Result, ToolChoice, Warning,
};

/// The options of both forms of the wire stand under this name.
const OPTIONS: &str = "gemini";

/// What this wire asks of a history. Calls may come without ids, so order and names tie results to them; a bare
/// summary of reasoning is kept by the doctor and left out here, for the model's own thoughts are in its tokens.
pub(crate) const RULES: Rules = Rules {
    system: SystemPlace::Top,
    turns: Turns::Joined,
    results_in_order: true,
    results_named: true,
    ids: Ids::Form {
        min: 1,
        max: 256,
        alphabet: Alphabet::Any,
    },
    names: Names::Form { max: 128, more: ".:" },
    arguments: Arguments::Object,
    reasoning: ReasoningRule::Keep,
    tokens: true,
    own_parts: true,
    assistant_media: true,
    empty_text: true,
    assistant_first: false,
    ..Rules::LENIENT
};

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// What was not done as asked.
    pub(crate) warnings: Vec<Warning>,
}

/// The body of an answer, streamed or whole: the path says which.
///
/// # Errors
/// [`Error::InvalidInput`] and [`Error::Unsupported`] for what this wire cannot say.
pub(crate) fn chat(vendor: &'static Vendor, info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, OPTIONS)?;
    let mut encoder = Encoder::new(vendor, info);
    let mended = doctor::mend(&request.messages, &RULES, info);
    encoder.warnings.history(&mended);
    let wire = encoder.request(request, &mended.messages, options)?;
    Ok(Encoded {
        body: options::body(&wire, options, &[])?,
        warnings: encoder.warnings.into(),
    })
}

/// The body of `:countTokens`: at the Gemini API the whole request, at Vertex AI some of its fields.
///
/// # Errors
/// As [`chat`].
pub(crate) fn count(
    vendor: &'static Vendor,
    info: &ModelInfo,
    request: &ChatRequest,
    is_vertex: bool,
) -> Result<Vec<u8>> {
    let options = options::of(request, OPTIONS)?;
    let mended = doctor::mend(&request.messages, &RULES, info);
    let wire = Encoder::new(vendor, info).request(request, &mended.messages, options)?;
    if is_vertex {
        let wire = Request {
            labels: None,
            tool_config: None,
            ..wire
        };
        return options::body(
            &wire,
            options,
            &["toolConfig", "safetySettings", "labels", "cachedContent"],
        );
    }
    let model = if info.model.contains('/') {
        Cow::Borrowed(info.model.as_str())
    } else {
        Cow::Owned(format!("models/{}", info.model))
    };
    // The options are fields of the request that is counted.
    let counted = options::body(&CountedRequest { model, request: wire }, options, &[])?;
    let request: Value =
        serde_json::from_slice(&counted).map_err(|_| Error::internal("a request could not be read back"))?;
    options::body(
        &CountRequest {
            generate_content_request: request,
        },
        None,
        &[],
    )
}

struct Encoder<'a> {
    vendor: &'static Vendor,
    info: &'a ModelInfo,
    generation: Option<(u32, u32)>,
    warnings: Warnings,
}

impl<'a> Encoder<'a> {
    fn new(vendor: &'static Vendor, info: &'a ModelInfo) -> Self {
        Self {
            vendor,
            info,
            generation: generation(&info.model),
            warnings: Warnings::new(vendor.name()),
        }
    }

    /// Whether the model is of this generation or a later one; a name that tells none is of the latest.
    fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.generation
            .is_none_or(|generation| generation >= (major, minor))
    }

    /// JSON Schema is taken from 2.5 on°; models before that have a part of OpenAPI.
    fn dialect(&self) -> Dialect {
        if self.is_at_least(2, 5) {
            Dialect::GeminiJson
        } else {
            Dialect::GeminiOpenApi
        }
    }

    fn request(
        &mut self,
        request: &'a ChatRequest,
        messages: &'a [Message],
        options: Option<&Map<String, Value>>,
    ) -> Result<Request<'a>> {
        let (system, contents) = self.history(messages)?;
        if contents.is_empty() {
            return Err(Error::invalid(
                "messages",
                "there is nothing to answer; add a message of the user",
            ));
        }
        let tools = self.tools(request)?;
        let tool_config = tool_config(request)?;
        let generation_config = self.generation_config(request)?;
        let one_call = request.parallel_tool_calls == Some(false) && !request.tools.is_empty();
        let _ = self
            .warnings
            .unless(true, "parallel_tool_calls", one_call.then_some(()));
        let _ = self
            .warnings
            .unless(true, "citations", request.citations.filter(|asked| *asked));
        let is_vertex = self.vendor.name() == super::VERTEX.name();
        let labels = (!request.metadata.is_empty()).then_some(&request.metadata);
        let labels = self.warnings.unless(!is_vertex, "metadata", labels);
        let mut wire = Request {
            system_instruction: (!system.is_empty()).then_some(super::wire::Content {
                role: None,
                parts: system,
            }),
            tools,
            tool_config,
            contents,
            generation_config,
            labels,
        };
        let is_cached = options.is_some_and(|options| {
            ["cachedContent", "cached_content"]
                .iter()
                .any(|key| options.get(*key).is_some_and(Value::is_string))
        });
        if is_cached {
            // The vendor refuses them beside it: they are a part of what was cached.
            let had_any =
                wire.system_instruction.is_some() || !wire.tools.is_empty() || wire.tool_config.is_some();
            let _ = self.warnings.unless(
                true,
                "instructions and tools beside cachedContent (those of the cached content hold)",
                had_any.then_some(()),
            );
            wire.system_instruction = None;
            wire.tools = Vec::new();
            wire.tool_config = None;
        }
        Ok(wire)
    }

    fn tools(&mut self, request: &'a ChatRequest) -> Result<Vec<Tool<'a>>> {
        if request.tools.is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.dialect();
        let function_declarations = request
            .tools
            .iter()
            .map(|tool| {
                // A tool of no arguments.
                let is_empty = tool.parameters.get("type").is_some_and(|kind| kind == "null");
                let schema = if is_empty {
                    None
                } else {
                    let plain = schema::plain_arguments(tool, self.vendor)?;
                    Some(dialect.compile(&plain)?.value)
                };
                let (open, json) = if dialect == Dialect::GeminiOpenApi {
                    (schema, None)
                } else {
                    (None, schema)
                };
                Ok(FunctionDeclaration {
                    name: &tool.name,
                    description: &tool.description,
                    parameters: open.map(Cow::Owned),
                    parameters_json_schema: json.map(Cow::Owned),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![Tool {
            function_declarations,
        }])
    }

    fn generation_config(&mut self, request: &'a ChatRequest) -> Result<GenerationConfig<'a>> {
        let mut config = GenerationConfig {
            max_output_tokens: request.max_output_tokens,
            temperature: options::finite(request.temperature),
            top_p: options::finite(request.top_p),
            top_k: request.top_k,
            seed: request.seed,
            stop_sequences: &request.stop_sequences,
            thinking_config: self.thinking(request),
            ..GenerationConfig::default()
        };
        let is_text = matches!(request.response_format, ResponseFormat::Text);
        if !is_text && !request.tools.is_empty() && !self.is_at_least(3, 0) {
            // The vendor refuses both together; the structured layer asks in two steps.
            let _ = self
                .warnings
                .unless(true, "response_format beside tools", Some(()));
            return Ok(config);
        }
        match &request.response_format {
            ResponseFormat::Json => config.response_mime_type = Some("application/json"),
            ResponseFormat::Schema { schema, .. } => {
                config.response_mime_type = Some("application/json");
                let dialect = self.dialect();
                let compiled = dialect.compile(schema.as_value())?;
                self.warnings.weakened(&compiled.loose_keywords());
                let written = Some(Cow::Owned(compiled.value));
                if dialect == Dialect::GeminiOpenApi {
                    config.response_schema = written;
                } else {
                    config.response_json_schema = written;
                }
            }
            _ => {}
        }
        Ok(config)
    }
}

/// What the model can for the shape of an answer.
pub(crate) fn means(vendor: &'static Vendor, info: &ModelInfo) -> Means {
    let encoder = Encoder::new(vendor, info);
    let can = info.abilities.structured_output != Some(false);
    Means {
        native: can.then(|| encoder.dialect()),
        is_lenient: true,
        beside_tools: encoder.is_at_least(3, 0),
        object_root: false,
        json_mode: true,
        tools: info.abilities.tools != Some(false),
        forces_calls: true,
        strict_tools: false, // a forced call keeps to its schema anyway
    }
}

fn tool_config(request: &ChatRequest) -> Result<Option<ToolConfig<'_>>> {
    let choice = &request.tool_choice;
    if request.tools.is_empty() {
        return match choice {
            ToolChoice::Any | ToolChoice::Named(_) => Err(Error::invalid(
                "tool_choice",
                "it asks for a call, but there is no tool",
            )),
            _ => Ok(None),
        };
    }
    let (mode, name) = match choice {
        ToolChoice::None => ("NONE", None),
        ToolChoice::Any => ("ANY", None),
        ToolChoice::Named(name) if request.tools.iter().any(|tool| tool.name == *name) => {
            ("ANY", Some([name.as_str()]))
        }
        ToolChoice::Named(_) => {
            return Err(Error::invalid(
                "tool_choice",
                "it names a tool that is not among the tools",
            ));
        }
        // The one mode that holds the model to the schemas and leaves the choice to it.
        _ if request.tools.iter().any(|tool| tool.strict == Some(true)) => ("VALIDATED", None),
        _ => return Ok(None),
    };
    Ok(Some(ToolConfig {
        function_calling_config: FunctionCallingConfig {
            mode,
            allowed_function_names: name,
        },
    }))
}

/// Generation of a model by its name: `gemini-2.5-flash` is (2, 5), `gemini-3-pro-preview` is (3, 0).
fn generation(model: &str) -> Option<(u32, u32)> {
    let (_, rest) = model.split_once("gemini-")?;
    let number = rest.split('-').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}
