//! Chat Completions of OpenAI and of the vendors that speak it: recorded requests into our words, recorded answers
//! into a [`Gist`]. A vendor's quirks are fields of [`Completions`].

use super::{
    Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, blob, gist::source,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, FinishReason, MediaSource, Message, Origin, Part, ReasoningEffort, Refusal,
    ResponseFormat, Role, Schema, ToolCall, ToolChoice, ToolSpec, Usage, providers::OpenAi,
};

const STREAM: Allowed = Allowed {
    name: "always_streamed",
    reason: "we always ask for a stream; `chat` folds it, and an answer that comes whole is read too",
};
const STREAM_OPTIONS: Allowed = Allowed {
    name: "stream_options",
    reason: "we always ask for usage, and for no padding",
};
const TEXT: Allowed = Allowed {
    name: "text_as_part",
    reason: "a string is the short form of one text part",
};
const AUTO: Allowed = Allowed {
    name: "choice_auto",
    reason: "`auto` is the default of tool_choice",
};
const MAX_TOKENS: Allowed = Allowed {
    name: "max_tokens",
    reason: "the older name of max_completion_tokens; the models that reason refuse it",
};
const NO_CONTENT: Allowed = Allowed {
    name: "content_null",
    reason: "a turn of calls alone has no content; null, an empty string and no field say the same",
};
const ARGUMENTS: Allowed = Allowed {
    name: "arguments_spacing",
    reason: "arguments are JSON in a string; blanks in it mean nothing",
};
const DEVELOPER: Allowed = Allowed {
    name: "developer",
    reason: "to a model that reasons the program's words go as `developer`; the vendor takes `system` as that too",
};
const NO_TOOLS: Allowed = Allowed {
    name: "no_tools",
    reason: "an empty list of tools is none",
};
const NO_WORDS: Allowed = Allowed {
    name: "no_description",
    reason: "an empty description is none",
};
const NOT_STRICT: Allowed = Allowed {
    name: "strict_false",
    reason: "false is the default of strict",
};
const DETAIL: Allowed = Allowed {
    name: "detail_auto",
    reason: "`auto` is the default of an image's detail",
};

/// The wire of one vendor.
#[derive(Clone, Copy)]
pub struct Completions {
    /// As the corpus names the vendor.
    pub provider: &'static str,
    /// As `provider_options` names it.
    pub options: &'static str,
    /// The field we send the limit of the answer in.
    pub max_tokens: &'static str,
    /// The field of a message or delta that carries reasoning, where there is one.
    pub reasoning: &'static [&'static str],
    /// The end mark has to come; without, a finish reason is enough.
    pub needs_done: bool,
    /// Builds the model.
    pub build: fn(&Exchange, &str) -> stepwell::Result<Arc<dyn ChatModel>>,
    /// What else is the same in a body of this vendor.
    pub quirks: fn(&mut Value, &mut Notes),
    /// Usage, where the vendor tells it its own way.
    pub usage: fn(&Value) -> Usage,
    /// A failure by its `error` object (or the whole body where there is none), where it is not what its status says.
    pub failure: fn(&Value) -> Option<&'static str>,
}

/// OpenAI's own.
pub const OPENAI: Completions = Completions {
    provider: "openai",
    options: "openai",
    max_tokens: "max_completion_tokens",
    reasoning: &[],
    needs_done: false,
    build: |exchange, url| {
        let model = OpenAi::new(exchange.model())
            .api_key(KEY)
            .base_url(format!("{url}/v1"))
            .build()?;
        Ok(Arc::new(model))
    },
    quirks: |_, _| {},
    usage: usage_of,
    failure: failure_of,
};

impl ChatWire for Completions {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == self.provider && exchange.api == "chat_completions"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        (self.build)(exchange, url)
    }

    fn read_request(&self, _exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        request(&asked.body, self.options)
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        canonical(body, notes, self.max_tokens);
        (self.quirks)(body, notes);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        self.answer(exchange)
    }
}

// ---- requests ----

fn word(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no word where one should be: {value}"))
}

fn parts(content: &Value, origin: Origin) -> Result<Vec<Part>, String> {
    let pieces = match content {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) => return Ok(vec![Part::text(text.clone(), origin)]),
        Value::Array(pieces) => pieces,
        other => return Err(format!("content of another kind: {other}")),
    };
    pieces
        .iter()
        .map(|piece| {
            let url = |url: &str, usual: &str| match blob::data_url(url) {
                Some((kind, bytes)) => Part::media(kind, MediaSource::Bytes(bytes.into())),
                None => Part::media(usual, MediaSource::Url(url.to_owned())),
            };
            Ok(match piece["type"].as_str() {
                Some("text") => Part::text(word(&piece["text"])?, origin),
                Some("image_url") => url(&word(&piece["image_url"]["url"])?, "image/png"),
                Some("input_audio") => {
                    let kind = match piece["input_audio"]["format"].as_str() {
                        Some("mp3") => "audio/mpeg".to_owned(),
                        Some(format) => format!("audio/{format}"),
                        None => return Err("audio without a format".to_owned()),
                    };
                    let bytes = blob::bytes(&word(&piece["input_audio"]["data"])?);
                    Part::media(kind, MediaSource::Bytes(bytes.into()))
                }
                Some("file") if piece["file"]["file_id"].is_string() => Part::media(
                    "application/pdf",
                    MediaSource::FileId(word(&piece["file"]["file_id"])?),
                ),
                Some("file") => {
                    let mut part = url(&word(&piece["file"]["file_data"])?, "application/pdf");
                    if let Part::Media(media) = &mut part {
                        media.name = piece["file"]["filename"].as_str().map(str::to_owned);
                    }
                    part
                }
                other => return Err(format!("content of kind {other:?}")),
            })
        })
        .collect()
}

fn turn(turn: &Value) -> Result<Message, String> {
    let content = &turn["content"];
    let mut message = match turn["role"].as_str() {
        Some("system") => Message::new(Role::System, parts(content, Origin::System)?),
        Some("developer") => Message::new(Role::Developer, parts(content, Origin::System)?),
        Some("user") => Message::new(Role::User, parts(content, Origin::User)?),
        Some("tool") => {
            let call = ToolCall::new(word(&turn["tool_call_id"])?, "", json!({}));
            Message::tool(vec![Part::tool_result(
                &call,
                parts(content, Origin::Tool)?,
                false,
                Origin::Tool,
            )])
        }
        Some("assistant") => {
            let mut all = parts(content, Origin::Model)?;
            all.retain(|part| part.as_text() != Some(""));
            for call in turn["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                let arguments = function["arguments"].as_str().unwrap_or_default();
                let call = ToolCall::from_text(word(&call["id"])?, word(&function["name"])?, arguments);
                all.push(Part::ToolCall(call));
            }
            Message::new(Role::Assistant, all)
        }
        other => return Err(format!("a turn of {other:?}")),
    };
    message.name = turn["name"].as_str().map(str::to_owned);
    let known = ["role", "content", "name", "tool_calls", "tool_call_id", "refusal"];
    match turn
        .as_object()
        .into_iter()
        .flatten()
        .find(|(key, _)| !known.contains(&key.as_str()))
    {
        Some((key, _)) => Err(format!("a turn with `{key}`")),
        None => Ok(message),
    }
}

/// The recorded body in our words; `vendor` names its options.
///
/// # Errors
/// One sentence where it says what this reader has not learned.
pub fn request(body: &Value, vendor: &str) -> Result<ChatRequest, String> {
    let mut request = ChatRequest::default();
    let mut extras = Map::new();
    let fields = body.as_object().ok_or("the body is no object")?;
    for (key, value) in fields {
        match key.as_str() {
            "model" | "stream" | "stream_options" => {}
            "messages" => {
                let turns = value.as_array().into_iter().flatten();
                request.messages = turns.map(turn).collect::<Result<_, _>>()?;
            }
            "max_tokens" | "max_completion_tokens" => request.max_output_tokens = value.as_u64(),
            "temperature" => request.temperature = value.as_f64(),
            "top_p" => request.top_p = value.as_f64(),
            "seed" => request.seed = value.as_u64(),
            "parallel_tool_calls" => request.parallel_tool_calls = value.as_bool(),
            "stop" => {
                request.stop_sequences = match value {
                    Value::String(stop) => vec![stop.clone()],
                    stops => stops
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(word)
                        .collect::<Result<_, _>>()?,
                };
            }
            "reasoning_effort" => {
                request.reasoning.effort = Some(match value.as_str() {
                    Some("none") => ReasoningEffort::None,
                    Some("minimal") => ReasoningEffort::Minimal,
                    Some("low") => ReasoningEffort::Low,
                    Some("medium") => ReasoningEffort::Medium,
                    Some("high") => ReasoningEffort::High,
                    Some("xhigh") => ReasoningEffort::Max,
                    _ => return Err(format!("an effort of {value}")),
                });
            }
            "response_format" => match value["type"].as_str() {
                Some("json_schema") => {
                    let format = &value["json_schema"];
                    let schema =
                        Schema::from_value(format["schema"].clone()).map_err(|error| error.to_string())?;
                    request = request.schema(word(&format["name"])?, schema);
                }
                Some("json_object") => request.response_format = ResponseFormat::Json,
                _ => {}
            },
            "tools" => {
                let mut more = Vec::new();
                for tool in value.as_array().into_iter().flatten() {
                    if tool["type"] != "function" {
                        more.push(tool.clone());
                        continue;
                    }
                    let tool = &tool["function"];
                    let schema = match &tool["parameters"] {
                        Value::Null => json!({ "type": "object", "properties": {} }),
                        schema => schema.clone(),
                    };
                    let schema = Schema::from_value(schema).map_err(|error| error.to_string())?;
                    let description = tool["description"].as_str().unwrap_or("");
                    let mut spec = ToolSpec::new(word(&tool["name"])?, description, &schema)
                        .map_err(|error| error.to_string())?;
                    spec.strict = tool["strict"].as_bool();
                    request.tools.push(spec);
                }
                if !more.is_empty() {
                    extras.insert("tools".into(), Value::Array(more));
                }
            }
            "tool_choice" => {
                request.tool_choice = match (value.as_str(), value["function"]["name"].as_str()) {
                    (Some("required" | "any"), _) => ToolChoice::Any,
                    (Some("none"), _) => ToolChoice::None,
                    (_, Some(name)) => ToolChoice::Named(name.to_owned()),
                    _ => ToolChoice::Auto,
                }
            }
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    request.metadata.insert(key.clone(), word(value)?);
                }
            }
            _ => {
                extras.insert(key.clone(), value.clone());
            }
        }
    }
    if !extras.is_empty() {
        request = request.provider_option(vendor, Value::Object(extras));
    }
    Ok(request)
}

/// What is the same on all servers of this wire; `max_tokens` is the name under which we send the limit.
pub fn canonical(body: &mut Value, notes: &mut Notes, max_tokens: &str) {
    if body["stream"] != true {
        notes.allow(&STREAM);
    }
    if let Some(fields) = body.as_object_mut() {
        fields.shift_remove("stream");
    }
    notes.drop_if(body, "stream_options", |_| true, &STREAM_OPTIONS);
    notes.drop_if(body, "tool_choice", |choice| choice == "auto", &AUTO);
    notes.drop_if(body, "tools", |tools| *tools == json!([]), &NO_TOOLS);
    for name in ["max_tokens", "max_completion_tokens"] {
        if name != max_tokens {
            notes.rename(body, name, max_tokens, &MAX_TOKENS);
        }
    }
    for tool in body["tools"].as_array_mut().into_iter().flatten() {
        if tool["function"].is_object() {
            notes.drop_if(
                &mut tool["function"],
                "description",
                |words| words == "",
                &NO_WORDS,
            );
            notes.drop_if(
                &mut tool["function"],
                "strict",
                |strict| *strict == json!(false),
                &NOT_STRICT,
            );
        }
    }
    for turn in body["messages"].as_array_mut().into_iter().flatten() {
        if turn["role"] == "developer" {
            turn["role"] = json!("system");
            notes.allow(&DEVELOPER);
        }
        if let Value::Array(pieces) = &mut turn["content"] {
            for piece in pieces.iter_mut().filter(|piece| piece["image_url"].is_object()) {
                notes.drop_if(
                    &mut piece["image_url"],
                    "detail",
                    |detail| detail == "auto",
                    &DETAIL,
                );
            }
            if let [piece] = pieces.as_slice()
                && piece["type"] == "text"
                && piece.as_object().is_some_and(|piece| piece.len() == 2)
            {
                turn["content"] = piece["text"].clone();
                notes.allow(&TEXT);
            }
        }
        if turn["role"] == "assistant" {
            notes.drop_if(
                turn,
                "content",
                |content| content.is_null() || content == "",
                &NO_CONTENT,
            );
            for call in turn["tool_calls"].as_array_mut().into_iter().flatten() {
                notes.parse_inside(&mut call["function"]["arguments"], &ARGUMENTS);
            }
        }
    }
}

// ---- answers ----

fn usage_of(told: &Value) -> Usage {
    let mut usage = Usage::default();
    usage.cache_read_tokens = told["prompt_tokens_details"]["cached_tokens"].as_u64();
    usage.cache_write_tokens = told["prompt_tokens_details"]["cache_write_tokens"].as_u64();
    usage.input_tokens = told["prompt_tokens"]
        .as_u64()
        .map(|total| total - usage.cache_read_tokens.unwrap_or(0) - usage.cache_write_tokens.unwrap_or(0));
    usage.reasoning_tokens = told["completion_tokens_details"]["reasoning_tokens"].as_u64();
    usage.output_tokens = told["completion_tokens"]
        .as_u64()
        .map(|total| total - usage.reasoning_tokens.unwrap_or(0));
    usage
}

fn failure_of(error: &Value) -> Option<&'static str> {
    match (error["code"].as_str(), error["type"].as_str()) {
        (Some("insufficient_quota" | "billing_hard_limit_reached"), _) | (_, Some("insufficient_quota")) => {
            Some("quota_exceeded")
        }
        (Some("model_not_found"), _) => Some("not_found"),
        _ => None,
    }
}

#[derive(Default)]
struct Call {
    at: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    /// Its place among the parts.
    part: usize,
}

impl Completions {
    fn failed(&self, exchange: &Exchange) -> Failure {
        let body = exchange.json().unwrap_or_default();
        let error = if body["error"].is_object() {
            &body["error"]
        } else {
            &body
        };
        let message = [&error["message"], &error["error"], &error["detail"]];
        let message = message
            .iter()
            .find_map(|message| message.as_str().map(str::to_owned));
        let mut failure = Failure::of_status(exchange, message);
        if let Some(code) = (self.failure)(error) {
            failure.code = code;
        }
        failure
    }

    fn answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        if exchange.status != 200 {
            return Ok(Outcome::Failure(self.failed(exchange)));
        }
        let is_stream = exchange.is_event_stream();
        let chunks = if is_stream {
            exchange.data()
        } else {
            vec![exchange.json()?]
        };
        let mut gist = Gist::start(exchange);
        let mut calls: Vec<Call> = Vec::new();
        let mut refusal = String::new();
        let mut has_told = false;
        for chunk in &chunks {
            if chunk["error"].is_object() {
                let error = &chunk["error"];
                let message = error["message"].as_str().map(str::to_owned);
                let code = (self.failure)(error).unwrap_or(match error["type"].as_str() {
                    Some("invalid_request_error") => "rejected",
                    Some("rate_limit_error" | "tokens" | "requests") => "rate_limited",
                    _ => "overloaded",
                });
                return Ok(Outcome::Failure(Failure::new(code, message)));
            }
            let word = |key: &str| {
                chunk[key]
                    .as_str()
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
            };
            if !has_told {
                (gist.id, gist.model, has_told) = (word("id"), word("model"), true);
            }
            if chunk["usage"].is_object() {
                gist.usage = (self.usage)(&chunk["usage"]);
            }
            for choice in chunk["choices"].as_array().into_iter().flatten() {
                if choice["index"].as_u64().unwrap_or(0) != 0 {
                    continue;
                }
                let delta = if choice["delta"].is_object() {
                    &choice["delta"]
                } else {
                    &choice["message"]
                };
                self.delta(delta, &mut gist, &mut calls, &mut refusal);
                if let Some(reason) = choice["finish_reason"]
                    .as_str()
                    .filter(|reason| !reason.is_empty())
                {
                    gist.raw_finish.get_or_insert_with(|| reason.to_owned());
                }
            }
        }
        for call in &calls {
            gist.parts[call.part] = Piece::Call {
                id: Some(call.id.clone()).filter(|id| !id.is_empty()),
                name: call.name.clone(),
                arguments: Piece::arguments(&call.arguments),
                token: None,
                is_by_vendor: false,
            };
        }
        let has_done = exchange.events().iter().any(|(_, data)| data.trim() == "[DONE]");
        if is_stream && !has_done && (self.needs_done || gist.raw_finish.is_none()) {
            return Ok(Outcome::Truncated(gist.text()));
        }
        gist.finish = match gist.raw_finish.as_deref() {
            _ if !refusal.is_empty() => FinishReason::ContentFilter,
            Some("stop") if !calls.is_empty() => FinishReason::ToolCalls,
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        if gist.finish == FinishReason::ContentFilter {
            gist.refusal = Some(Refusal::new((!refusal.is_empty()).then_some(refusal), None));
        }
        Ok(Outcome::Answer(Box::new(gist)))
    }

    fn delta(&self, delta: &Value, gist: &mut Gist, calls: &mut Vec<Call>, refusal: &mut String) {
        let reasoning = self.reasoning.iter().find_map(|key| delta[*key].as_str());
        gist.think(reasoning.unwrap_or_default());
        gist.say(delta["content"].as_str().unwrap_or_default());
        gist.say(delta["audio"]["transcript"].as_str().unwrap_or_default());
        refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
        let links = delta["annotations"].as_array().into_iter().flatten();
        let links: Vec<Value> = links
            .map(|link| &link["url_citation"])
            .map(|link| source(&link["title"], &link["url"]))
            .collect();
        if !links.is_empty()
            && let Some(Piece::Text { citations, .. }) = gist
                .parts
                .iter_mut()
                .rev()
                .find(|piece| matches!(piece, Piece::Text { .. }))
        {
            citations.extend(links);
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let (at, id) = (piece["index"].as_u64(), piece["id"].as_str().unwrap_or_default());
            let known = calls.iter().rposition(|call| match (at, id) {
                (_, id) if !id.is_empty() => {
                    call.id == id || (call.id.is_empty() && call.at == at && at.is_some())
                }
                (Some(at), _) => call.at == Some(at),
                (None, _) => true,
            });
            let known = known.unwrap_or_else(|| {
                calls.push(Call {
                    at,
                    part: gist.parts.len(),
                    ..Call::default()
                });
                gist.parts.push(Piece::Other(Value::Null)); // its place
                calls.len() - 1
            });
            let call = &mut calls[known];
            if call.id.is_empty() {
                id.clone_into(&mut call.id);
            }
            let function = &piece["function"];
            if call.name.is_empty() {
                function["name"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut call.name);
            }
            call.arguments
                .push_str(function["arguments"].as_str().unwrap_or_default());
        }
    }
}
