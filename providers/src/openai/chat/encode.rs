//! [`ChatRequest`] → body of `POST /chat/completions`. Pure: the same request gives the same bytes.

mod history;

use super::wire::{
    Format, JsonSchema, Request, StreamOptions, Tool, ToolChoice as Choice, ToolFunction, ToolName,
};
use crate::{
    doctor::{self, Rules},
    narrow,
    openai::{VENDOR, family::is_reasoning, schema},
    options,
    warnings::Warnings,
};
use serde_json::Value;
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Error, ModelInfo, ReasoningEffort, ResponseFormat, Result, ToolChoice, Warning,
};

/// What this wire asks of a history.
pub(crate) fn rules(_info: &ModelInfo) -> Rules {
    Rules::LENIENT
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
pub(crate) fn chat(info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, VENDOR.name())?;
    let reasons = info
        .abilities
        .reasoning
        .unwrap_or_else(|| is_reasoning(&info.model));
    let mut encoder = Encoder {
        reasons,
        warnings: Warnings::new(VENDOR.name()),
    };
    let mended = doctor::mend(&request.messages, &rules(info), info);
    encoder.warnings.history(&mended);
    let messages = encoder.history(&mended.messages)?;
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
        tools: encoder.tools(request)?,
        tool_choice: tool_choice(request)?,
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| !request.tools.is_empty()),
        response_format: encoder.format(&request.response_format)?,
        reasoning_effort: encoder
            .warnings
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
        temperature: encoder
            .warnings
            .unless(!samples, "temperature", options::finite(request.temperature)),
        top_p: encoder
            .warnings
            .unless(!samples, "top_p", options::finite(request.top_p)),
        stop: &request.stop_sequences,
        seed: request.seed,
        metadata: encoder
            .warnings
            .unless(!stores, "metadata (set `store` to keep it)", metadata),
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
            include_obfuscation: false,
        },
    };
    let _ = encoder.warnings.unless(true, "top_k", request.top_k);
    let _ = encoder
        .warnings
        .unless(true, "reasoning.budget_tokens", request.reasoning.budget_tokens);
    let _ = encoder
        .warnings
        .unless(true, "reasoning.show_summary", request.reasoning.show_summary);
    Ok(Encoded {
        body: options::body(&wire, options, &[])?,
        warnings: encoder.warnings.into(),
    })
}

struct Encoder {
    reasons: bool,
    warnings: Warnings,
}

impl Encoder {
    fn tools<'a>(&mut self, request: &'a ChatRequest) -> Result<Vec<Tool<'a>>> {
        let mut tools = Vec::with_capacity(request.tools.len());
        for tool in &request.tools {
            let mut parameters = schema::parameters(tool, &VENDOR)?;
            if tool.strict == Some(true) {
                let (narrow, dropped) = narrow::schema(&parameters, &schema::GRAMMAR);
                self.warnings.weakened(&dropped);
                parameters = Cow::Owned(narrow);
            }
            tools.push(Tool {
                kind: "function",
                function: ToolFunction {
                    name: &tool.name,
                    description: &tool.description,
                    parameters,
                    strict: tool.strict.filter(|strict| *strict), // false is the default
                },
            });
        }
        Ok(tools)
    }

    fn format<'a>(&mut self, format: &'a ResponseFormat) -> Result<Option<Format<'a>>> {
        Ok(match format {
            ResponseFormat::Schema { name, schema } => {
                if schema.as_value().get("type").is_some_and(|kind| kind != "object") {
                    return Err(
                        VENDOR.unsupported("an answer that is no object", "wrap the schema into an object")
                    );
                }
                let (schema, dropped) = narrow::schema(schema.as_value(), &schema::GRAMMAR);
                self.warnings.weakened(&dropped);
                Some(Format::JsonSchema {
                    json_schema: JsonSchema {
                        name: schema::name(name),
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

#[cfg(test)]
mod tests {
    use super::chat;
    use serde_json::Value;
    use stepwell_core::{ChatRequest, MediaSource, Message, ModelInfo, Part, ReasoningEffort, Role};

    fn body(model: &str, request: &ChatRequest) -> Value {
        let encoded = chat(&ModelInfo::new("openai", model), request).expect("encodes");
        serde_json::from_slice(&encoded.body).expect("JSON")
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
