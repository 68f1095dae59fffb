//! Anthropic Messages: recorded requests into our words, recorded answers into a [`Gist`].

use super::{Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, blob, gist};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    CachePoint, ChatModel, ChatRequest, FinishReason, MediaSource, Message, Opaque, Origin, Part,
    ReasoningEffort, Refusal, ResponseFormat, Role, Schema, ToolCall, ToolChoice, ToolSpec, Usage,
    providers::Anthropic,
};

const STREAM: Allowed = Allowed {
    name: "always_streamed",
    reason: "we always ask for a stream; `chat` folds it, and an answer that comes whole is read too",
};
const TEXT: Allowed = Allowed {
    name: "text_as_block",
    reason: "a string is the short form of one text block",
};
const AUTO: Allowed = Allowed {
    name: "choice_auto",
    reason: "`auto` is the default of tool_choice",
};
const NO_ERROR: Allowed = Allowed {
    name: "is_error_false",
    reason: "false is the default of is_error",
};
const OLD_FORMAT: Allowed = Allowed {
    name: "output_format",
    reason: "the beta's name of what is output_config.format now; its beta header is no longer needed",
};
const EFFORT: Allowed = Allowed {
    name: "effort_high",
    reason: "high is the default effort of adaptive thinking; our request asks for thinking by its effort",
};
const NO_TOOLS: Allowed = Allowed {
    name: "no_tools",
    reason: "an empty list of tools is none",
};

/// The wire.
#[derive(Debug)]
pub struct Messages;

impl ChatWire for Messages {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == "anthropic" && exchange.api == "messages"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        let model = Anthropic::new(exchange.model())
            .api_key(KEY)
            .base_url(url)
            .build()?;
        Ok(Arc::new(model))
    }

    fn key_header(&self) -> &'static str {
        "x-api-key"
    }

    fn headers(&self, asked: &Asked, _notes: &mut Notes) -> Vec<(String, String)> {
        let needed = |name: &str, value: &str| match name {
            "anthropic-version" => true,
            "anthropic-beta" => !value.starts_with("structured-outputs-"),
            _ => false,
        };
        let headers = asked.headers.iter();
        headers
            .filter(|(name, value)| needed(name, value))
            .cloned()
            .collect()
    }

    fn read_request(&self, _exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        request(asked)
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        canonical(body, notes);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        if exchange.status != 200 {
            return Ok(Outcome::Failure(failure(exchange)?));
        }
        if exchange.is_event_stream() {
            Ok(stream(exchange))
        } else {
            whole(exchange)
        }
    }
}

// ---- requests ----

fn word(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no word where one should be: {value}"))
}

fn point(block: &Value) -> Option<CachePoint> {
    let control = block.get("cache_control")?;
    Some(if control["ttl"] == "1h" {
        CachePoint::Long
    } else {
        CachePoint::Short
    })
}

fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn text(block: &Value, origin: Origin) -> Result<Part, String> {
    let mut part = Part::text(word(&block["text"])?, origin);
    if let Part::Text(text) = &mut part {
        text.cache = point(block);
    }
    Ok(part)
}

fn media(block: &Value) -> Result<Part, String> {
    let source = &block["source"];
    let is_image = block["type"] == "image";
    let usual = if is_image { "image/png" } else { "application/pdf" };
    let kind = source["media_type"].as_str().unwrap_or(usual);
    let source = match source["type"].as_str() {
        Some("base64") => MediaSource::Bytes(blob::bytes(&word(&source["data"])?).into()),
        Some("text") => MediaSource::Bytes(word(&source["data"])?.into()),
        Some("url") => MediaSource::Url(word(&source["url"])?),
        Some("file") => MediaSource::FileId(word(&source["file_id"])?),
        other => return Err(format!("a source of kind {other:?}")),
    };
    let mut part = Part::media(kind, source);
    if let Part::Media(media) = &mut part {
        media.name = block["title"].as_str().map(str::to_owned);
        media.cache = point(block);
    }
    Ok(part)
}

fn turn(turn: &Value, model: &str) -> Result<Message, String> {
    let (role, origin) = match turn["role"].as_str() {
        Some("user") => (Role::User, Origin::User),
        Some("assistant") => (Role::Assistant, Origin::Model),
        Some("system") => (Role::System, Origin::System),
        other => return Err(format!("a turn of {other:?}")),
    };
    let token = |value: &Value| Opaque {
        provider: "anthropic".into(),
        model: model.into(),
        value: value.clone(),
    };
    let mut parts = Vec::new();
    for block in blocks(&turn["content"]) {
        parts.push(match block["type"].as_str() {
            Some("text") => {
                let mut part = text(&block, origin)?;
                if let (Part::Text(text), Some(citations)) = (&mut part, block.get("citations")) {
                    text.opaque = Some(token(&json!({ "citations": citations })));
                }
                part
            }
            Some("image" | "document") => media(&block)?,
            Some("thinking") => Part::reasoning(word(&block["thinking"])?, Some(token(&block["signature"]))),
            Some("redacted_thinking") => {
                let mut part = Part::reasoning("", Some(token(&block["data"])));
                if let Part::Reasoning(reasoning) = &mut part {
                    reasoning.is_redacted = true;
                }
                part
            }
            Some("tool_use") => {
                let mut call =
                    ToolCall::new(word(&block["id"])?, word(&block["name"])?, block["input"].clone());
                call.opaque = block
                    .get("caller")
                    .map(|caller| token(&json!({ "caller": caller })));
                Part::ToolCall(call)
            }
            Some("tool_result") => {
                let call = ToolCall::new(word(&block["tool_use_id"])?, "", json!({}));
                let parts = blocks(&block["content"])
                    .iter()
                    .map(|block| match block["type"].as_str() {
                        Some("text") => text(block, Origin::Tool),
                        _ => media(block),
                    })
                    .collect::<Result<Vec<Part>, String>>()?;
                let mut part = Part::tool_result(&call, parts, block["is_error"] == true, Origin::Tool);
                if let Part::ToolResult(result) = &mut part {
                    result.cache = point(&block);
                }
                part
            }
            // Server tools and whatever else the vendor has: kept as it came.
            _ => Part::unknown("anthropic", block.clone(), origin),
        });
    }
    Ok(Message::new(role, parts))
}

fn request(asked: &Asked) -> Result<ChatRequest, String> {
    let body = asked.body.as_object().ok_or("the body is no object")?;
    let model = word(&asked.body["model"])?;
    let mut request = ChatRequest::default();
    let mut extras = Map::new();
    for (key, value) in body {
        match key.as_str() {
            "model" | "messages" | "system" | "stream" => {}
            "max_tokens" => request.max_output_tokens = value.as_u64(),
            "temperature" => request.temperature = value.as_f64(),
            "top_p" => request.top_p = value.as_f64(),
            "top_k" => request.top_k = value.as_u64().and_then(|value| u32::try_from(value).ok()),
            "stop_sequences" => {
                let stops = value.as_array().into_iter().flatten();
                request.stop_sequences = stops.map(word).collect::<Result<_, _>>()?;
            }
            "metadata" if value["user_id"].is_string() => {
                request
                    .metadata
                    .insert("user_id".into(), word(&value["user_id"])?);
            }
            "tools" => {
                let mut more = Vec::new();
                for tool in value.as_array().into_iter().flatten() {
                    if tool.get("type").is_some_and(|kind| kind != "custom") {
                        more.push(tool.clone());
                        continue;
                    }
                    let schema = Schema::from_value(tool["input_schema"].clone())
                        .map_err(|error| error.to_string())?;
                    let description = tool["description"].as_str().unwrap_or("");
                    let mut spec = ToolSpec::new(word(&tool["name"])?, description, &schema)
                        .map_err(|error| error.to_string())?;
                    spec.strict = tool["strict"].as_bool();
                    spec.cache = point(tool);
                    request.tools.push(spec);
                }
                if !more.is_empty() {
                    extras.insert("tools".into(), Value::Array(more));
                }
            }
            "tool_choice" => {
                request.tool_choice = match value["type"].as_str() {
                    Some("any") => ToolChoice::Any,
                    Some("none") => ToolChoice::None,
                    Some("tool") => ToolChoice::Named(word(&value["name"])?),
                    _ => ToolChoice::Auto,
                };
                if value["disable_parallel_tool_use"] == true {
                    request.parallel_tool_calls = Some(false);
                }
            }
            "thinking" => {
                request.reasoning.budget_tokens = value["budget_tokens"].as_u64();
                request.reasoning.show_summary =
                    value["display"].as_str().map(|display| display == "summarized");
                match value["type"].as_str() {
                    Some("adaptive") => {
                        request.reasoning.effort = Some(effort(&asked.body["output_config"]["effort"])?);
                    }
                    Some("disabled") => request.reasoning.effort = Some(ReasoningEffort::None),
                    _ => {}
                }
            }
            "output_config" | "output_format" => {
                let format = if key == "output_config" {
                    &value["format"]
                } else {
                    value
                };
                if format["type"] == "json_schema" {
                    let schema =
                        Schema::from_value(format["schema"].clone()).map_err(|error| error.to_string())?;
                    request = request.schema("answer", schema);
                }
                if !value["effort"].is_null() {
                    request.reasoning.effort = Some(effort(&value["effort"])?);
                }
            }
            _ => {
                extras.insert(key.clone(), value.clone());
            }
        }
    }
    let system = blocks(&asked.body["system"]);
    if !system.is_empty() {
        let parts: Result<Vec<Part>, String> =
            system.iter().map(|block| text(block, Origin::System)).collect();
        request.messages.push(Message::new(Role::System, parts?));
    }
    for message in asked.body["messages"].as_array().into_iter().flatten() {
        request.messages.push(turn(message, &model)?);
        let documents = blocks(&message["content"]);
        if documents
            .iter()
            .any(|block| block["citations"]["enabled"] == true)
        {
            request.citations = Some(true);
        }
    }
    let betas: Vec<Value> = asked
        .headers
        .iter()
        .filter(|(name, _)| name == "anthropic-beta")
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        // What our own request brings along, or needs no longer.
        .filter(|beta| !beta.starts_with("files-api-") && !beta.starts_with("structured-outputs-"))
        .map(|beta| json!(beta))
        .collect();
    if !betas.is_empty() {
        extras.insert("betas".into(), Value::Array(betas));
    }
    debug_assert!(matches!(
        request.response_format,
        ResponseFormat::Text | ResponseFormat::Schema { .. }
    ));
    if !extras.is_empty() {
        request = request.provider_option("anthropic", Value::Object(extras));
    }
    Ok(request)
}

fn effort(value: &Value) -> Result<ReasoningEffort, String> {
    Ok(match value.as_str() {
        Some("low") => ReasoningEffort::Low,
        Some("medium") => ReasoningEffort::Medium,
        Some("high") | None => ReasoningEffort::High,
        Some("max") => ReasoningEffort::Max,
        Some(other) => return Err(format!("an effort of {other}")),
    })
}

const STRICT: Allowed = Allowed {
    name: "strict_refused",
    reason: "recorded to show what the vendor refuses: with more than 24 optional parameters we send no `strict`, and a \
             parameter of any kind as one of words, numbers, booleans and null",
};

/// What of a strict tool the vendor is known to refuse.
fn strict(tool: &mut Value, notes: &mut Notes) {
    if tool["strict"] != true {
        return;
    }
    let schema = &mut tool["input_schema"];
    let required = schema["required"].as_array().map_or(0, Vec::len);
    let mut count = 0;
    for property in schema["properties"]
        .as_object_mut()
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        count += 1;
        if *property == true {
            *property = json!({ "type": ["string", "number", "boolean", "null"] });
            notes.allow(&STRICT);
        }
    }
    if count > required + 24 {
        notes.drop_if(tool, "strict", |_| true, &STRICT);
    }
}

fn canonical(body: &mut Value, notes: &mut Notes) {
    let as_blocks = |content: &mut Value, notes: &mut Notes| {
        if let Value::String(text) = content {
            *content = json!([{ "type": "text", "text": text }]);
            notes.allow(&TEXT);
        }
    };
    // Only a recording lacks it or says no.
    if body["stream"] != true {
        notes.allow(&STREAM);
    }
    if let Some(fields) = body.as_object_mut() {
        fields.shift_remove("stream");
    }
    notes.drop_if(
        body,
        "tool_choice",
        |choice| *choice == json!({ "type": "auto" }),
        &AUTO,
    );
    notes.drop_if(body, "tools", |tools| *tools == json!([]), &NO_TOOLS);
    for tool in body["tools"].as_array_mut().into_iter().flatten() {
        strict(tool, notes);
    }
    if let Some(format) = body
        .as_object_mut()
        .and_then(|fields| fields.shift_remove("output_format"))
    {
        body["output_config"] = json!({ "format": format });
        notes.allow(&OLD_FORMAT);
    }
    if body["thinking"]["type"] == "adaptive" && body["output_config"].is_object() {
        notes.drop_if(
            &mut body["output_config"],
            "effort",
            |effort| effort == "high",
            &EFFORT,
        );
        notes.drop_if(body, "output_config", |config| *config == json!({}), &EFFORT);
    }
    if body.get("system").is_some() {
        as_blocks(&mut body["system"], notes);
    }
    for turn in body["messages"].as_array_mut().into_iter().flatten() {
        as_blocks(&mut turn["content"], notes);
        for block in turn["content"].as_array_mut().into_iter().flatten() {
            if block["type"] == "tool_result" {
                if block.get("content").is_some() {
                    as_blocks(&mut block["content"], notes);
                }
                notes.drop_if(block, "is_error", |flag| *flag == json!(false), &NO_ERROR);
            }
        }
    }
}

// ---- answers ----

fn failure(exchange: &Exchange) -> Result<Failure, String> {
    let body = exchange.json()?;
    let mut failure = Failure::of_status(exchange, body["error"]["message"].as_str().map(str::to_owned));
    if body["error"]["type"] == "not_found_error" && exchange.status == 404 {
        failure.code = "not_found"; // of a model: there is no message to keep apart
    }
    Ok(failure)
}

fn usage(told: &Map<String, Value>) -> Usage {
    let number = |key: &str| told.get(key).and_then(Value::as_u64);
    let mut usage = Usage::default();
    usage.input_tokens = number("input_tokens");
    usage.cache_read_tokens = number("cache_read_input_tokens");
    let split = told.get("cache_creation").cloned().unwrap_or_default();
    usage.cache_write_1h_tokens = split["ephemeral_1h_input_tokens"].as_u64();
    usage.cache_write_tokens = number("cache_creation_input_tokens")
        .map(|total| total - usage.cache_write_1h_tokens.unwrap_or(0))
        .or_else(|| split["ephemeral_5m_input_tokens"].as_u64());
    usage.reasoning_tokens = told
        .get("output_tokens_details")
        .and_then(|details| details["thinking_tokens"].as_u64());
    usage.searches = told
        .get("server_tool_use")
        .and_then(|used| used["web_search_requests"].as_u64());
    usage.output_tokens = number("output_tokens").map(|total| total - usage.reasoning_tokens.unwrap_or(0));
    usage
}

fn piece(block: &Value) -> Piece {
    let text = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
    let token = |key: &str| {
        Some(block[key].clone()).filter(|token| token.as_str().is_some_and(|token| !token.is_empty()))
    };
    match block["type"].as_str() {
        Some("text") => {
            let citations = block["citations"].as_array().cloned().unwrap_or_default();
            Piece::Text {
                text: text("text"),
                citations: citations
                    .iter()
                    .map(|place| {
                        let first = |names: [&str; 2]| {
                            let found = names.iter().map(|name| &place[*name]);
                            found
                                .into_iter()
                                .find(|value| value.is_string())
                                .cloned()
                                .unwrap_or_default()
                        };
                        gist::source(&first(["document_title", "title"]), &first(["url", "source"]))
                    })
                    .collect(),
                token: (!citations.is_empty()).then(|| json!({ "citations": citations })),
            }
        }
        Some("thinking") => Piece::Reasoning {
            text: text("thinking"),
            token: token("signature"),
            is_redacted: false,
        },
        Some("redacted_thinking") => Piece::Reasoning {
            text: String::new(),
            token: token("data"),
            is_redacted: true,
        },
        Some(kind @ ("tool_use" | "server_tool_use" | "mcp_tool_use")) => {
            let is_ours = kind == "tool_use";
            let token = if is_ours {
                let caller = block.get("caller").filter(|caller| caller["type"] != "direct");
                caller.map(|caller| json!({ "caller": caller }))
            } else {
                let mut rest = block.clone();
                rest.as_object_mut().and_then(|rest| rest.shift_remove("input"));
                Some(rest)
            };
            Piece::Call {
                id: Some(text("id")),
                name: text("name"),
                arguments: block["input"].clone(),
                token,
                is_by_vendor: !is_ours,
            }
        }
        _ => Piece::Other(block.clone()),
    }
}

fn finish(gist: &mut Gist, stop: &Value, details: &Value) {
    gist.raw_finish = stop.as_str().map(str::to_owned);
    gist.finish = match stop.as_str() {
        Some("end_turn" | "stop_sequence") => FinishReason::Stop,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("refusal") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    };
    if gist.finish == FinishReason::ContentFilter {
        let word = |key: &str| details[key].as_str().map(str::to_owned);
        gist.refusal = Some(Refusal::new(word("explanation"), word("category")));
    }
}

/// Where the vendor ran code is told beside the answer, as data of that name.
fn container(gist: &mut Gist, container: &Value) {
    if !container.is_null() {
        gist.parts
            .push(Piece::Data("container".to_owned(), container.clone()));
    }
}

fn whole(exchange: &Exchange) -> Result<Outcome, String> {
    let body = exchange.json()?;
    let mut gist = Gist::start(exchange);
    gist.parts = blocks(&body["content"]).iter().map(piece).collect();
    gist.usage = usage(body["usage"].as_object().ok_or("no usage")?);
    gist.id = body["id"].as_str().map(str::to_owned);
    gist.model = body["model"].as_str().map(str::to_owned);
    container(&mut gist, &body["container"]);
    finish(&mut gist, &body["stop_reason"], &body["stop_details"]);
    Ok(Outcome::Answer(Box::new(gist)))
}

fn stream(exchange: &Exchange) -> Outcome {
    let mut gist = Gist::start(exchange);
    let mut blocks: Vec<Value> = Vec::new();
    let mut inputs: Vec<String> = Vec::new();
    // The vendor's index → ours; blocks that came with the start have none.
    let mut places: Map<String, Value> = Map::new();
    let (mut told, mut stop, mut details) = (Map::new(), Value::Null, Value::Null);
    let mut place = Value::Null;
    let (mut has_started, mut has_stopped) = (false, false);
    for event in exchange.data() {
        let at = places.get(&event["index"].to_string()).and_then(Value::as_u64);
        let at = at.and_then(|at| usize::try_from(at).ok());
        match event["type"].as_str() {
            Some("message_start") => {
                let message = &event["message"];
                if !has_started {
                    for block in message["content"].as_array().into_iter().flatten() {
                        blocks.push(block.clone());
                        inputs.push(String::new());
                    }
                    gist.id = message["id"].as_str().map(str::to_owned);
                    gist.model = message["model"].as_str().map(str::to_owned);
                }
                has_started = true;
                if message["stop_reason"].is_string() {
                    stop = message["stop_reason"].clone();
                }
                told.extend(message["usage"].as_object().cloned().unwrap_or_default());
            }
            Some("content_block_start") => {
                places.insert(event["index"].to_string(), json!(blocks.len()));
                blocks.push(event["content_block"].clone());
                inputs.push(String::new());
            }
            Some("content_block_delta") => {
                let (Some(at), Some(delta)) = (at, event["delta"].as_object()) else {
                    continue;
                };
                for (key, value) in delta {
                    match (key.as_str(), value) {
                        ("type", _) => {}
                        ("partial_json", Value::String(piece)) => inputs[at].push_str(piece),
                        ("citation", citation) => {
                            let mut citations =
                                blocks[at]["citations"].as_array().cloned().unwrap_or_default();
                            citations.push(citation.clone());
                            blocks[at]["citations"] = Value::Array(citations);
                        }
                        (key, Value::String(piece)) => {
                            let so_far = blocks[at][key].as_str().unwrap_or("").to_owned();
                            blocks[at][key] = json!(so_far + piece);
                        }
                        (key, value) => blocks[at][key] = value.clone(),
                    }
                }
            }
            Some("message_delta") => {
                if event["delta"]["stop_reason"].is_string() {
                    stop = event["delta"]["stop_reason"].clone();
                }
                if event["delta"]["container"].is_object() {
                    place = event["delta"]["container"].clone();
                }
                if event["delta"]["stop_details"].is_object() {
                    details = event["delta"]["stop_details"].clone();
                }
                let usage = event["usage"].as_object().cloned().unwrap_or_default();
                told.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
            }
            Some("message_stop") => has_stopped = true,
            Some("error") => {
                let code = match event["error"]["type"].as_str() {
                    Some("rate_limit_error") => "rate_limited",
                    Some("invalid_request_error") => "rejected",
                    Some("authentication_error" | "permission_error") => "unauthorized",
                    Some("billing_error") => "quota_exceeded",
                    _ => "overloaded",
                };
                let message = event["error"]["message"].as_str().map(str::to_owned);
                return Outcome::Failure(Failure::new(code, message));
            }
            _ => {}
        }
    }
    for (block, input) in blocks.iter_mut().zip(inputs) {
        if !input.is_empty() {
            block["input"] = Piece::arguments(&input);
        }
    }
    gist.parts = blocks.iter().map(piece).collect();
    container(&mut gist, &place);
    gist.usage = usage(&told);
    finish(&mut gist, &stop, &details);
    if has_stopped {
        Outcome::Answer(Box::new(gist))
    } else {
        Outcome::Truncated(gist.text())
    }
}
