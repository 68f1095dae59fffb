//! Ollama's native wire: recorded requests into our words, recorded answers into a [`Gist`].

use super::{Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, blob};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, FinishReason, MediaSource, Message, Origin, Part, ReasoningEffort, Role, Schema,
    ToolCall, ToolSpec, Usage, providers::Ollama,
};

const STREAM: Allowed = Allowed {
    name: "always_streamed",
    reason: "we always ask for a stream; `chat` folds it, and an answer that comes whole is read too",
};
const CONTEXT: Allowed = Allowed {
    name: "num_ctx_told",
    reason: "we always tell num_ctx, and forbid the server to cut the prompt or to shift the context",
};
const IDLE: Allowed = Allowed {
    name: "idle_fields",
    reason: "an empty format, an empty list and null say what their absence says",
};

const FUNCTION: Allowed = Allowed {
    name: "function_calls",
    reason: "`function` is the one type of calls",
};
const TOOL_NAME: Allowed = Allowed {
    name: "tool_name",
    reason: "a result without a name is that of the next call; ours name it",
};

/// The context the models are built with: the recordings tell none.
const NUM_CTX: u64 = 65_536;

/// The wire.
#[derive(Debug)]
pub struct NativeChat;

impl ChatWire for NativeChat {
    fn takes(&self, exchange: &Exchange) -> bool {
        let path = exchange
            .request
            .as_ref()
            .map_or("/api/chat", |asked| asked.path.as_str());
        exchange.provider == "ollama" && exchange.api == "ollama_native" && path == "/api/chat"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        let told = || {
            lines(exchange)
                .iter()
                .find_map(|line| line["model"].as_str().map(str::to_owned))
        };
        let asked = exchange
            .request
            .as_ref()
            .and_then(|asked| asked.body["model"].as_str().map(str::to_owned));
        let model = asked.or_else(told).unwrap_or_else(|| "some-model".to_owned());
        Ok(Arc::new(
            Ollama::new(model)
                .api_key(KEY)
                .base_url(url)
                .num_ctx(NUM_CTX)
                .build()?,
        ))
    }

    fn read_request(&self, _exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        request(asked)
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        if body["stream"] != true {
            notes.allow(&STREAM);
        }
        let is_ours =
            body["options"]["num_ctx"] == NUM_CTX && body["truncate"] == false && body["shift"] == false;
        if let (Some(fields), true) = (body.as_object_mut(), is_ours) {
            notes.allow(&CONTEXT);
            fields.shift_remove("truncate");
            fields.shift_remove("shift");
        }
        if let (Some(options), true) = (body["options"].as_object_mut(), is_ours) {
            options.shift_remove("num_ctx");
        }
        if let Some(fields) = body.as_object_mut() {
            fields.shift_remove("stream");
        }
        let is_idle = |value: &Value| {
            value.is_null() || *value == json!("") || *value == json!([]) || *value == json!({})
        };
        for key in ["format", "keep_alive", "tools", "options"] {
            notes.drop_if(body, key, is_idle, &IDLE);
        }
        let mut called = Vec::new();
        for message in body["messages"].as_array_mut().into_iter().flatten() {
            for key in ["images", "tool_calls", "thinking"] {
                notes.drop_if(message, key, is_idle, &IDLE);
            }
            for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
                notes.drop_if(call, "type", |kind| kind == "function", &FUNCTION);
                called.push(call["function"]["name"].clone());
            }
            if message["role"] == "tool" && !called.is_empty() {
                let name = called.remove(0);
                if message.get("tool_name").is_none() {
                    message["tool_name"] = name;
                    notes.allow(&TOOL_NAME);
                }
            }
        }
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        if exchange.status != 200 {
            let body = exchange.json()?;
            let mut failure = Failure::of_status(exchange, body["error"].as_str().map(str::to_owned));
            if exchange.status == 404 {
                (failure.code, failure.message) = ("not_found", None);
            }
            return Ok(Outcome::Failure(failure));
        }
        Ok(answer(exchange))
    }
}

// ---- requests ----

fn word(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no word where one should be: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn images(message: &Value) -> Result<Vec<Part>, String> {
    let images = list(&message["images"]).iter();
    images
        .map(|image| {
            Ok(Part::media(
                "image/png",
                MediaSource::Bytes(blob::bytes(&word(image)?).into()),
            ))
        })
        .collect()
}

fn request(asked: &Asked) -> Result<ChatRequest, String> {
    let body = asked.body.as_object().ok_or("the body is no object")?;
    let mut request = ChatRequest::default();
    let mut extras = Map::new();
    // Calls were recorded without ids: a result answers the earliest call of its name.
    let (mut open, mut count): (Vec<(String, String)>, usize) = (Vec::new(), 0);
    for message in list(&asked.body["messages"]) {
        let text = message["content"].as_str().unwrap_or_default();
        let (role, origin) = match message["role"].as_str() {
            Some("system") => (Role::System, Origin::System),
            Some("user") => (Role::User, Origin::User),
            Some("assistant") => (Role::Assistant, Origin::Model),
            Some("tool") => {
                let name = message["tool_name"].as_str().unwrap_or_default();
                let at = open
                    .iter()
                    .position(|(known, _)| known == name || name.is_empty());
                let (name, id) = at.map_or((name.to_owned(), "ollama-nowhere".to_owned()), |at| {
                    open.remove(at)
                });
                let call = ToolCall::new(id, name, json!({}));
                let mut parts = vec![Part::text(text, Origin::Tool)];
                parts.extend(images(message)?);
                request.messages.push(Message::tool(vec![Part::tool_result(
                    &call,
                    parts,
                    false,
                    Origin::Tool,
                )]));
                continue;
            }
            other => return Err(format!("a message of {other:?}")),
        };
        let mut parts = Vec::new();
        if let Some(thought) = message["thinking"].as_str() {
            parts.push(Part::reasoning(thought, None));
        }
        if !text.is_empty() {
            parts.push(Part::text(text, origin));
        }
        parts.extend(images(message)?);
        for call in list(&message["tool_calls"]) {
            count += 1;
            let (id, name) = (
                format!("ollama-recorded-{count}"),
                word(&call["function"]["name"])?,
            );
            open.push((name.clone(), id.clone()));
            parts.push(Part::tool_call(id, name, call["function"]["arguments"].clone()));
        }
        request.messages.push(Message::new(role, parts));
    }
    for (key, value) in body {
        match key.as_str() {
            "model" | "messages" | "stream" => {}
            _ if value.is_null() || value == "" => {}
            "think" => {
                request.reasoning.effort = Some(match value {
                    Value::Bool(false) => ReasoningEffort::None,
                    Value::Bool(true) => ReasoningEffort::Medium,
                    other => return Err(format!("think of {other}")),
                });
            }
            "format" => {
                let schema = Schema::from_value(value.clone()).map_err(|error| error.to_string())?;
                request = request.schema("answer", schema);
            }
            "options" => {
                let mut rest = Map::new();
                for (key, value) in value.as_object().into_iter().flatten() {
                    match key.as_str() {
                        "num_predict" => request.max_output_tokens = value.as_u64(),
                        "temperature" => request.temperature = value.as_f64(),
                        "top_p" => request.top_p = value.as_f64(),
                        "seed" => request.seed = value.as_u64(),
                        _ => {
                            rest.insert(key.clone(), value.clone());
                        }
                    }
                }
                if !rest.is_empty() {
                    extras.insert("options".into(), Value::Object(rest));
                }
            }
            "tools" => {
                for tool in list(value) {
                    let function = &tool["function"];
                    let schema = Schema::from_value(function["parameters"].clone())
                        .map_err(|error| error.to_string())?;
                    let description = function["description"].as_str().unwrap_or_default();
                    let spec = ToolSpec::new(word(&function["name"])?, description, &schema);
                    request.tools.push(spec.map_err(|error| error.to_string())?);
                }
            }
            _ => {
                extras.insert(key.clone(), value.clone());
            }
        }
    }
    if !extras.is_empty() {
        request = request.provider_option("ollama", Value::Object(extras));
    }
    Ok(request)
}

// ---- answers ----

fn lines(exchange: &Exchange) -> Vec<Value> {
    let lines = exchange
        .body
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn answer(exchange: &Exchange) -> Outcome {
    let mut gist = Gist::start(exchange);
    gist.raw = lines(exchange);
    let lines = gist.raw.clone();
    let mut has_calls = false;
    for line in &lines {
        let said = &line["message"];
        gist.think(said["thinking"].as_str().unwrap_or_default());
        gist.say(said["content"].as_str().unwrap_or_default());
        for call in list(&said["tool_calls"]) {
            has_calls = true;
            gist.parts.push(Piece::Call {
                id: call["id"].as_str().map(str::to_owned),
                name: call["function"]["name"].as_str().unwrap_or_default().to_owned(),
                arguments: call["function"]["arguments"].clone(),
                token: None,
                is_by_vendor: false,
            });
        }
    }
    let Some(last) = lines.last().filter(|line| line["done"] == true) else {
        return Outcome::Truncated(gist.text());
    };
    gist.model = lines[0]["model"].as_str().map(str::to_owned);
    let mut usage = Usage::default();
    usage.input_tokens = last["prompt_eval_count"].as_u64();
    usage.output_tokens = last["eval_count"].as_u64();
    gist.usage = usage;
    gist.raw_finish = last["done_reason"].as_str().map(str::to_owned);
    gist.finish = match last["done_reason"].as_str() {
        Some("stop") if has_calls => FinishReason::ToolCalls,
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        _ => FinishReason::Other,
    };
    Outcome::Answer(Box::new(gist))
}
