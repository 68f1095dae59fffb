//! [`ChatRequest`] → body of `POST /chat/completions`. Pure: the same request gives the same bytes.

mod history;

use super::wire::{
    Effort, Format, JsonSchema, Request, StreamOptions, Thinking, Tool, ToolChoice as Choice, ToolFunction,
    ToolName,
};
use crate::{
    doctor::{self, Alphabet, Ids, Names, Prefill, ReasoningRule, Rules, SystemPlace, Turns},
    openai::{
        Dialect,
        compatible::quirks::{
            self, CallIds, EffortField, ForcedCall, Formats, Quirks, ReasoningBack, ReasoningField,
            SeedField, TokenLimit,
        },
        family::is_reasoning,
        schema::{name, strict},
    },
    options, schema,
    warnings::Warnings,
};
use serde_json::{Map, Value};
use stepwell_core::{
    ChatRequest, Dialect as SchemaDialect, Error, ModelInfo, ReasoningEffort, ResponseFormat, Result,
    ToolChoice, Warning,
};

/// What a server with these quirks asks of a history.
pub(crate) fn rules(quirks: &Quirks) -> Rules {
    let takes_back = quirks.reasoning_back != ReasoningBack::Never;
    Rules {
        system: if quirks.one_system {
            SystemPlace::First
        } else {
            SystemPlace::InPlace
        },
        turns: if quirks.alternates {
            Turns::Alternating
        } else {
            Turns::Separate
        },
        assistant_first: !quirks.alternates,
        user_after_results: quirks.user_after_results,
        prefill: if quirks.prefill == quirks::Prefill::Refused {
            Prefill::Refused
        } else {
            Prefill::Kept
        },
        names: Names::Form { max: 64, more: "" },
        has_tools: quirks.tools,
        ids: match quirks.call_ids {
            CallIds::Any => Rules::LENIENT.ids,
            CallIds::NineAlphanumerics => Ids::Form {
                min: 9,
                max: 9,
                alphabet: Alphabet::Alphanumeric,
            },
        },
        reasoning: if takes_back {
            ReasoningRule::Keep
        } else {
            ReasoningRule::Drop
        },
        reasoning_alone: false,
        one_reasoning_token: matches!(
            quirks.reasoning_back,
            ReasoningBack::InToolLoop(ReasoningField::ExtraContent)
                | ReasoningBack::Always(ReasoningField::ExtraContent)
        ),
        tokens: takes_back,
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
pub(crate) fn chat(dialect: &Dialect, info: &ModelInfo, request: &ChatRequest) -> Result<Encoded> {
    let options = options::of(request, dialect.name())?;
    let quirks = &dialect.quirks;
    let reasons = info
        .abilities
        .reasoning
        .unwrap_or_else(|| !quirks.openai_names || is_reasoning(&info.model));
    let mut encoder = Encoder {
        dialect,
        model: &info.model,
        reasons,
        must_think: false,
        warnings: Warnings::new(dialect.name().to_owned()),
    };
    let mended = doctor::mend(&request.messages, &rules(quirks), info);
    encoder.warnings.history(&mended);
    let tool_choice = encoder.tool_choice(request)?;
    let thinking = encoder.thinking(request, options, tool_choice.is_some())?;
    let is_off = |kind: &str| kind == "disabled";
    let own = options.and_then(|options| options.get("thinking")?.get("type")?.as_str());
    encoder.must_think = quirks.reasoning_required
        && !thinking.as_ref().is_some_and(|thinking| is_off(thinking.kind))
        && !own.is_some_and(is_off)
        && info.abilities.reasoning != Some(false)
        // The name under which the model does not think.
        && !info.model.starts_with("deepseek-chat");
    let messages = encoder.history(&mended.messages)?;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "there is nothing to answer; add a message of the user",
        ));
    }
    // A model of OpenAI's that reasons takes no sampling options while it does.
    let effort = request.reasoning.effort;
    let samples = !quirks.openai_names || !reasons || effort == Some(ReasoningEffort::None);
    let stores = options.is_some_and(|options| options.get("store") == Some(&Value::Bool(true)));
    let metadata = (!request.metadata.is_empty()).then_some(&request.metadata);
    let tools = encoder.tools(request)?;
    let response_format = encoder.format(&request.response_format)?;
    let told = encoder.effort(request);
    let warnings = &mut encoder.warnings;
    let parallel = request.parallel_tool_calls.filter(|_| !request.tools.is_empty());
    let limit_in = |field: TokenLimit| request.max_output_tokens.filter(|_| quirks.token_limit == field);
    let seed = warnings.unless(quirks.seed == SeedField::Ignored, "seed", request.seed);
    let wire = Request {
        model: &info.model,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: warnings.unless(!quirks.parallel_tool_calls, "parallel_tool_calls", parallel),
        response_format,
        reasoning_effort: told.word,
        reasoning: told.object,
        thinking,
        max_completion_tokens: limit_in(TokenLimit::MaxCompletionTokens),
        max_tokens: limit_in(TokenLimit::MaxTokens),
        temperature: warnings.unless(!samples, "temperature", options::finite(request.temperature)),
        top_p: warnings.unless(!samples, "top_p", options::finite(request.top_p)),
        top_k: warnings.unless(!quirks.top_k, "top_k", request.top_k),
        stop: &request.stop_sequences,
        seed: seed.filter(|_| quirks.seed == SeedField::Seed),
        random_seed: seed.filter(|_| quirks.seed == SeedField::RandomSeed),
        metadata: if quirks.metadata {
            warnings.unless(!stores, "metadata (set `store` to keep it)", metadata)
        } else {
            warnings.unless(true, "metadata", metadata)
        },
        stream: true,
        stream_options: match quirks.stream_options {
            quirks::StreamOptions::Refused => None,
            taken => Some(StreamOptions {
                include_usage: true,
                include_obfuscation: (taken == quirks::StreamOptions::Full).then_some(false),
            }),
        },
    };
    let _ = warnings.unless(true, "reasoning.show_summary", request.reasoning.show_summary);
    Ok(Encoded {
        body: options::body(&wire, options, &["wire"])?,
        warnings: encoder.warnings.into(),
    })
}

/// How hard to think, in the field the server has for it.
#[derive(Default)]
struct Told {
    word: Option<&'static str>,
    object: Option<Effort>,
}

struct Encoder<'e> {
    dialect: &'e Dialect,
    model: &'e str,
    reasons: bool,
    /// Every turn of the model has to carry its reasoning.
    must_think: bool,
    warnings: Warnings,
}

impl Encoder<'_> {
    fn quirks(&self) -> &Quirks {
        &self.dialect.quirks
    }

    fn format<'a>(&mut self, format: &'a ResponseFormat) -> Result<Option<Format<'a>>> {
        let formats = self.quirks().formats;
        let is_refused = formats == Formats::Words;
        Ok(match format {
            ResponseFormat::Schema { .. } | ResponseFormat::Json if is_refused => {
                let _ = self.warnings.unless(true, "response_format", Some(()));
                None
            }
            ResponseFormat::Schema { .. } if formats == Formats::JsonObject => {
                self.warnings.warn(Warning::new(
                    "schema_not_kept",
                    format!(
                        "{} promises JSON but no schema; tell the model the shape, and check the answer",
                        self.dialect.name()
                    ),
                ));
                Some(Format::JsonObject)
            }
            ResponseFormat::Schema {
                name: given_name,
                schema,
            } => {
                let (answers, _) = strict(self.quirks().openai_names);
                let dialect = if self.quirks().strict_schemas {
                    answers
                } else {
                    SchemaDialect::Plain
                };
                let written = schema::answer(schema, dialect, &self.dialect.vendor, &mut self.warnings)?;
                Some(Format::JsonSchema {
                    json_schema: JsonSchema {
                        name: name(given_name),
                        strict: written.is_strict && self.quirks().strict_schemas,
                        schema: written.value,
                    },
                })
            }
            ResponseFormat::Json => Some(Format::JsonObject),
            _ => None,
        })
    }

    fn tools<'a>(&mut self, request: &'a ChatRequest) -> Result<Vec<Tool<'a>>> {
        let vendor = &self.dialect.vendor;
        if !self.quirks().tools && !request.tools.is_empty() {
            return Err(vendor.unsupported("tools", "ask without them, or another model"));
        }
        let takes_strict = self.quirks().strict_schemas;
        let (_, strict_arguments) = strict(self.quirks().openai_names);
        let mut tools = Vec::with_capacity(request.tools.len());
        for tool in &request.tools {
            // false is the default
            let asked = tool.strict.filter(|strict| *strict);
            let asked = self.warnings.unless(!takes_strict, "strict", asked);
            let dialect = asked.map(|_| strict_arguments);
            let written = schema::arguments(tool, dialect, vendor, &mut self.warnings, |_| true)?;
            tools.push(Tool {
                kind: "function",
                function: ToolFunction {
                    name: &tool.name,
                    description: &tool.description,
                    parameters: written.value,
                    strict: written.is_strict.then_some(true),
                },
            });
        }
        Ok(tools)
    }

    fn tool_choice<'a>(&self, request: &'a ChatRequest) -> Result<Option<Choice<'a>>> {
        let has_tools = !request.tools.is_empty();
        let forced = self.quirks().forced_call;
        match &request.tool_choice {
            ToolChoice::Any | ToolChoice::Named(_) if !has_tools => Err(Error::invalid(
                "tool_choice",
                "it asks for a call, but there is no tool",
            )),
            ToolChoice::Any if forced == ForcedCall::Any => Ok(Some(Choice::Word("any"))),
            ToolChoice::Any => Ok(Some(Choice::Word("required"))),
            ToolChoice::None if has_tools => Ok(Some(Choice::Word("none"))),
            ToolChoice::Named(_) if forced == ForcedCall::Unnamed => Err(self.dialect.vendor.unsupported(
                "a tool choice by name",
                "it would be ignored; send that tool alone and choose `Any`",
            )),
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

    /// Whether to think, at servers that want it told apart from how hard. There a call cannot be forced while
    /// the model thinks, and it may think unasked.
    fn thinking(
        &mut self,
        request: &ChatRequest,
        options: Option<&Map<String, Value>>,
        has_choice: bool,
    ) -> Result<Option<Thinking>> {
        let forces = has_choice && matches!(request.tool_choice, ToolChoice::Any | ToolChoice::Named(_));
        let cannot = self.quirks().forced_call == ForcedCall::NotWhileThinking && forces;
        let effort = request.reasoning.effort;
        let kind = match effort {
            Some(ReasoningEffort::None) => Some("disabled"),
            Some(_) if cannot => {
                return Err(self.dialect.vendor.unsupported(
                    "a forced call while the model thinks",
                    "set `reasoning.effort` to `None`, or let the model choose",
                ));
            }
            Some(_) => Some("enabled"),
            None if cannot && !options.is_some_and(|options| options.contains_key("thinking")) => {
                self.warnings.warn(Warning::new(
                    "thinking_switched_off",
                    format!(
                        "{} takes no forced call while the model thinks; it does not for this answer",
                        self.dialect.name()
                    ),
                ));
                Some("disabled")
            }
            None => None,
        };
        Ok(kind
            .filter(|_| self.quirks().effort == EffortField::Thinking)
            .map(|kind| Thinking { kind }))
    }

    fn effort(&mut self, request: &ChatRequest) -> Told {
        let field = self.quirks().effort;
        let (effort, budget) = (request.reasoning.effort, request.reasoning.budget_tokens);
        // That a model does not think which never does needs no words.
        let wanted = effort.filter(|effort| self.reasons || *effort != ReasoningEffort::None);
        let is_impossible = !self.reasons || field == EffortField::Ignored;
        let wanted = self.warnings.unless(is_impossible, "reasoning.effort", wanted);
        let budget = self.warnings.unless(
            is_impossible || field != EffortField::Object,
            "reasoning.budget_tokens",
            budget,
        );
        let is_plain = matches!(field, EffortField::PlainEffort | EffortField::Thinking);
        let word = wanted.map(|effort| match effort {
            ReasoningEffort::None => "none",
            ReasoningEffort::Minimal if is_plain => "low",
            ReasoningEffort::Minimal => "minimal",
            ReasoningEffort::Low => "low",
            ReasoningEffort::Medium => "medium",
            ReasoningEffort::Max if !is_plain => "xhigh",
            _ => "high",
        });
        match field {
            EffortField::Object => Told {
                word: None,
                object: (word.is_some() || budget.is_some()).then_some(Effort {
                    // Either the one or the other.
                    effort: word.filter(|_| budget.is_none()),
                    max_tokens: budget,
                }),
            },
            // `thinking` says it.
            EffortField::Thinking => Told {
                word: word.filter(|word| *word != "none"),
                object: None,
            },
            _ => Told { word, object: None },
        }
    }

    /// Where the reasoning of a turn goes, if it goes back at all.
    fn reasoning_field(&self, is_in_loop: bool) -> Option<ReasoningField> {
        match self.quirks().reasoning_back {
            ReasoningBack::Always(field) => Some(field),
            ReasoningBack::InToolLoop(field) if is_in_loop => Some(field),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::chat;
    use crate::openai::Dialect;
    use serde_json::Value;
    use stepwell_core::{ChatRequest, MediaSource, Message, ModelInfo, Part, ReasoningEffort, Role};

    fn body(model: &str, request: &ChatRequest) -> Value {
        let encoded = chat(&Dialect::openai(), &ModelInfo::new("openai", model), request).expect("encodes");
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
        let warned = chat(&Dialect::openai(), &ModelInfo::new("openai", "gpt-5"), &request)
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
        let error = chat(&Dialect::openai(), &info, &ChatRequest::new([video])).expect_err("no video");
        assert_eq!(error.code(), "unsupported");
        let none: [Message; 0] = [];
        assert_eq!(
            chat(&Dialect::openai(), &info, &ChatRequest::new(none))
                .expect_err("empty")
                .code(),
            "invalid_input"
        );
    }
}
