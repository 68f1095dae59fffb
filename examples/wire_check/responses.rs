//! Responses of OpenAI and of the vendors that speak it: recorded requests into our words, recorded answers into a
//! [`Gist`].

use super::{
    Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, blob, gist::source,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, FinishReason, Media, MediaSource, Message, Opaque, Origin, Part, ReasoningEffort,
    Refusal, ResponseFormat, Role, Schema, Text, ToolCall, ToolChoice, ToolSpec, Usage,
    providers::{OpenAi, OpenAiCompatible, OpenAiWire},
};

const STREAM: Allowed = Allowed {
    name: "always_streamed",
    reason: "we always ask for a stream; `chat` folds it, and an answer that comes whole is read too",
};
const PADDING: Allowed = Allowed {
    name: "no_padding",
    reason: "OpenAI is asked to leave out the padding of its events",
};
const NULL: Allowed = Allowed {
    name: "null_field",
    reason: "a field that is null or an empty list says what its absence says",
};
const AUTO: Allowed = Allowed {
    name: "choice_auto",
    reason: "`auto` is the default of tool_choice",
};
const MESSAGE: Allowed = Allowed {
    name: "message_form",
    reason: "an item without a type is a message, and a string is the short form of one text piece",
};
const INSTRUCTIONS: Allowed = Allowed {
    name: "instructions",
    reason: "the program's words at the beginning go as `instructions`, which stand before the input",
};
const NAMES: Allowed = Allowed {
    name: "item_names",
    reason: "a stateless call names nothing by id, and the status of a past item says nothing to the model",
};
const ARGUMENTS: Allowed = Allowed {
    name: "arguments_spacing",
    reason: "arguments are JSON in a string; blanks in it mean nothing",
};
const NOT_STRICT: Allowed = Allowed {
    name: "strict_said",
    reason: "left out, `strict` is true where the vendor can make the schema so, and optional arguments become required; we say which it is",
};
const STRICT_ANSWER: Allowed = Allowed {
    name: "strict_answer",
    reason: "the schema of an answer is always kept to strictly",
};
const NO_WORDS: Allowed = Allowed {
    name: "no_description",
    reason: "an empty description is none",
};
const DETAIL: Allowed = Allowed {
    name: "detail_auto",
    reason: "`auto` is the default of an image's detail",
};
const FILE_NAME: Allowed = Allowed {
    name: "file_name",
    reason: "the vendor wants a name beside a file's bytes; we give one where the caller has none",
};
const SOUND: Allowed = Allowed {
    name: "sound_as_file",
    reason: "a recorder sent sound as a file, which the vendor refused; we send it as sound",
};

/// The wire, whoever speaks it.
#[derive(Clone, Copy)]
pub struct Responses {
    /// Azure takes its key in a header of its own.
    is_azure: bool,
}

/// OpenAI, xAI and every vendor that takes a bearer's key.
pub const BEARER: Responses = Responses { is_azure: false };
/// Azure.
pub const AZURE: Responses = Responses { is_azure: true };

impl ChatWire for Responses {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.api == "responses" && (exchange.provider == "azure_openai") == self.is_azure
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        let path = exchange
            .request
            .as_ref()
            .map_or("/v1/responses", |asked| &asked.path);
        let path = path.split('?').next().unwrap_or_default();
        let base = format!("{url}{}", path.strip_suffix("/responses").unwrap_or(path));
        let vendor = vendor(exchange);
        if vendor == "openai" {
            let model = OpenAi::new(exchange.model())
                .api_key(KEY)
                .base_url(base)
                .wire(OpenAiWire::Responses)
                .build()?;
            return Ok(Arc::new(model));
        }
        let builder = match OpenAiCompatible::vendor(vendor, exchange.model()) {
            Ok(builder) => builder.base_url(base),
            // No vendor of the table: a host's own.
            Err(_) => OpenAiCompatible::new(vendor, base, exchange.model()),
        };
        Ok(Arc::new(
            builder.api_key(KEY).wire(OpenAiWire::Responses).build()?,
        ))
    }

    fn key_header(&self) -> &'static str {
        if self.is_azure { "api-key" } else { "authorization" }
    }

    fn read_request(&self, exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        Reader {
            vendor: vendor(exchange),
            model: &exchange.model(),
        }
        .request(&asked.body)
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        canonical(body, notes);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        answer(exchange)
    }
}

/// As `provider_options` and tokens name it.
fn vendor(exchange: &Exchange) -> &str {
    match exchange.provider.as_str() {
        "azure_openai" => "azure",
        name => name,
    }
}

// ---- requests ----

fn word(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no word where one should be: {value}"))
}

fn only(value: &Value, known: &[&str]) -> Result<(), String> {
    let mut keys = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    match keys.find(|key| !known.contains(key)) {
        Some(key) => Err(format!("a field `{key}` in {}", value["type"])),
        None => Ok(()),
    }
}

fn media(kind: &str, source: MediaSource, name: Option<&str>) -> Part {
    let mut part = Part::media(kind, source);
    if let Part::Media(Media { name: slot, .. }) = &mut part {
        *slot = name.map(str::to_owned);
    }
    part
}

/// What a `data:` URL or an address means.
fn at(url: &str, usual: &str, name: Option<&str>) -> Part {
    match blob::data_url(url) {
        Some((kind, bytes)) => media(&kind, MediaSource::Bytes(bytes.into()), name),
        None => media(usual, MediaSource::Url(url.to_owned()), name),
    }
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
            let name = piece["filename"].as_str();
            Ok(match piece["type"].as_str() {
                Some("input_text" | "output_text") => Part::text(word(&piece["text"])?, origin),
                Some("input_image") if piece["image_url"].is_string() => {
                    at(&word(&piece["image_url"])?, "image/png", None)
                }
                Some("input_image") => {
                    media("image/png", MediaSource::FileId(word(&piece["file_id"])?), None)
                }
                Some("input_file") if piece["file_id"].is_string() => media(
                    "application/pdf",
                    MediaSource::FileId(word(&piece["file_id"])?),
                    name,
                ),
                Some("input_file") if piece["file_url"].is_string() => {
                    at(&word(&piece["file_url"])?, "application/pdf", name)
                }
                Some("input_file") => at(&word(&piece["file_data"])?, "application/octet-stream", name),
                other => return Err(format!("content of kind {other:?}")),
            })
        })
        .collect()
}

/// Reads the requests to one model.
#[derive(Clone, Copy)]
struct Reader<'a> {
    vendor: &'a str,
    model: &'a str,
}

impl Reader<'_> {
    /// What an item says beside what our part says, for this very model.
    fn opaque(self, value: Value) -> Opaque {
        Opaque {
            provider: self.vendor.to_owned(),
            model: self.model.to_owned(),
            value,
        }
    }

    fn items(self, input: &Value) -> Result<Vec<Message>, String> {
        let items = match input {
            Value::String(text) => return Ok(vec![Message::user(text.clone())]),
            Value::Array(items) => items,
            other => return Err(format!("input of another kind: {other}")),
        };
        let mut messages: Vec<Message> = Vec::new();
        for item in items {
            let beside = |keys: &[&str]| {
                let found = keys
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone())));
                let found: Map<String, Value> = found.collect();
                (!found.is_empty()).then(|| self.opaque(Value::Object(found)))
            };
            let (role, mut parts) = match item["type"].as_str() {
                None | Some("message") => {
                    only(item, &["type", "id", "role", "status", "phase", "content"])?;
                    let (role, origin) = match item["role"].as_str() {
                        Some("system") => (Role::System, Origin::System),
                        Some("developer") => (Role::Developer, Origin::System),
                        Some("user") => (Role::User, Origin::User),
                        Some("assistant") => (Role::Assistant, Origin::Model),
                        other => return Err(format!("a message of {other:?}")),
                    };
                    let mut parts = parts(&item["content"], origin)?;
                    for part in &mut parts {
                        if let (Role::Assistant, Part::Text(Text { opaque, .. })) = (role, part) {
                            *opaque = beside(&["id", "phase"]);
                        }
                    }
                    (role, parts)
                }
                Some("reasoning") => {
                    let texts = item["summary"].as_array().into_iter().flatten();
                    let texts: Vec<&str> = texts.filter_map(|text| text["text"].as_str()).collect();
                    let token = self.opaque(item.clone());
                    (
                        Role::Assistant,
                        vec![Part::reasoning(texts.join("\n\n"), Some(token))],
                    )
                }
                Some("function_call") => {
                    only(item, &["type", "id", "call_id", "name", "arguments", "status"])?;
                    let arguments = word(&item["arguments"])?;
                    let mut call =
                        ToolCall::from_text(word(&item["call_id"])?, word(&item["name"])?, &arguments);
                    call.opaque = beside(&["id"]);
                    (Role::Assistant, vec![Part::ToolCall(call)])
                }
                Some("function_call_output") => {
                    only(item, &["type", "id", "call_id", "output", "status"])?;
                    let call = ToolCall::new(word(&item["call_id"])?, "", json!({}));
                    let said = parts(&item["output"], Origin::Tool)?;
                    (
                        Role::Tool,
                        vec![Part::tool_result(&call, said, false, Origin::Tool)],
                    )
                }
                other => return Err(format!("an item of {other:?}")),
            };
            // What the model said in one go is one turn, and so are the results of its calls.
            match messages.last_mut() {
                Some(last) if last.role == role && matches!(role, Role::Assistant | Role::Tool) => {
                    last.parts.append(&mut parts);
                }
                _ => messages.push(Message::new(role, parts)),
            }
        }
        Ok(messages)
    }

    /// The recorded body in our words.
    fn request(self, body: &Value) -> Result<ChatRequest, String> {
        let mut request = ChatRequest::default();
        let mut extras = Map::new();
        let fields = body.as_object().ok_or("the body is no object")?;
        for (key, value) in fields {
            match key.as_str() {
                "model" | "stream" | "instructions" => {}
                "input" => request.messages = self.items(value)?,
                "max_output_tokens" => request.max_output_tokens = value.as_u64(),
                "temperature" => request.temperature = value.as_f64(),
                "top_p" => request.top_p = value.as_f64(),
                "parallel_tool_calls" => request.parallel_tool_calls = value.as_bool(),
                "reasoning" => reasoning(value, &mut request, &mut extras)?,
                "text" => {
                    let format = &value["format"];
                    only(value, &["format"])?;
                    match format["type"].as_str() {
                        Some("json_schema") => {
                            let schema = Schema::from_value(format["schema"].clone())
                                .map_err(|error| error.to_string())?;
                            request = request.schema(word(&format["name"])?, schema);
                        }
                        Some("json_object") => request.response_format = ResponseFormat::Json,
                        _ => {}
                    }
                }
                "tools" => tools(value, &mut request, &mut extras)?,
                "tool_choice" => {
                    request.tool_choice =
                        match (value.as_str(), value["type"].as_str(), value["name"].as_str()) {
                            (Some("required"), ..) => ToolChoice::Any,
                            (Some("none"), ..) => ToolChoice::None,
                            (_, Some("function"), Some(name)) => ToolChoice::Named(name.to_owned()),
                            (Some("auto"), ..) => ToolChoice::Auto,
                            _ => return Err(format!("a choice of {value}")),
                        }
                }
                "store" if *value == json!(false) => {}
                _ => {
                    extras.insert(key.clone(), value.clone());
                }
            }
        }
        if let Some(text) = body["instructions"].as_str().filter(|text| !text.is_empty()) {
            request.messages.insert(0, Message::system(text));
        }
        // Left out it is true: a call that leans on what the vendor keeps.
        if body.get("store").is_none() {
            extras.insert("store".to_owned(), Value::Null);
        }
        if !extras.is_empty() {
            request = request.provider_option(self.vendor, Value::Object(extras));
        }
        Ok(request)
    }
}

fn reasoning(
    value: &Value,
    request: &mut ChatRequest,
    extras: &mut Map<String, Value>,
) -> Result<(), String> {
    let mut rest = value.as_object().cloned().unwrap_or_default();
    request.reasoning.effort = match rest.shift_remove("effort").as_ref().and_then(Value::as_str) {
        None => None,
        Some("none") => Some(ReasoningEffort::None),
        Some("minimal") => Some(ReasoningEffort::Minimal),
        Some("low") => Some(ReasoningEffort::Low),
        Some("medium") => Some(ReasoningEffort::Medium),
        Some("high") => Some(ReasoningEffort::High),
        Some("xhigh") => Some(ReasoningEffort::Max),
        Some(other) => return Err(format!("an effort of {other}")),
    };
    if rest.get("summary").is_some_and(|summary| summary == "auto") {
        rest.shift_remove("summary");
        request.reasoning.show_summary = Some(true);
    }
    if !rest.is_empty() {
        extras.insert("reasoning".to_owned(), Value::Object(rest));
    }
    Ok(())
}

fn tools(value: &Value, request: &mut ChatRequest, extras: &mut Map<String, Value>) -> Result<(), String> {
    let mut more = Vec::new();
    for tool in value.as_array().into_iter().flatten() {
        if tool["type"] != "function" {
            more.push(tool.clone());
            continue;
        }
        only(tool, &["type", "name", "description", "parameters", "strict"])?;
        let schema = match &tool["parameters"] {
            Value::Null => json!({ "type": "object", "properties": {} }),
            schema => schema.clone(),
        };
        let schema = Schema::from_value(schema).map_err(|error| error.to_string())?;
        let description = tool["description"].as_str().unwrap_or("");
        let mut spec =
            ToolSpec::new(word(&tool["name"])?, description, &schema).map_err(|error| error.to_string())?;
        spec.strict = tool["strict"].as_bool();
        request.tools.push(spec);
    }
    if !more.is_empty() {
        extras.insert("tools".to_owned(), Value::Array(more));
    }
    Ok(())
}

fn canonical(body: &mut Value, notes: &mut Notes) {
    if body["stream"] != true {
        notes.allow(&STREAM);
    }
    let Some(fields) = body.as_object_mut() else {
        return;
    };
    fields.shift_remove("stream");
    let idle: Vec<String> = fields
        .iter()
        .filter(|(_, value)| value.is_null() || **value == json!([]) || **value == json!(""))
        .map(|(key, _)| key.clone())
        .collect();
    for key in idle {
        fields.shift_remove(&key);
        notes.allow(&NULL);
    }
    let is_kept = fields.get("store") != Some(&json!(false));
    let padding = json!({ "include_obfuscation": false });
    notes.drop_if(body, "stream_options", |options| *options == padding, &PADDING);
    notes.drop_if(body, "tool_choice", |choice| choice == "auto", &AUTO);
    if let Value::String(text) = &body["input"] {
        body["input"] = json!([{ "role": "user", "content": text }]);
        notes.allow(&MESSAGE);
    }
    for item in body["input"].as_array_mut().into_iter().flatten() {
        canonical_item(item, is_kept, notes);
    }
    lead(body, notes);
    for tool in body["tools"].as_array_mut().into_iter().flatten() {
        if tool["type"] == "function" {
            notes.drop_if(
                tool,
                "description",
                |words| words == "" || words.is_null(),
                &NO_WORDS,
            );
            if tool.get("strict").is_none_or(Value::is_null) {
                tool["strict"] = json!(false);
                notes.allow(&NOT_STRICT);
            }
        }
    }
    if body["text"]["format"]["type"] == "json_schema" && body["text"]["format"]["strict"] != true {
        body["text"]["format"]["strict"] = json!(true);
        notes.allow(&STRICT_ANSWER);
    }
}

fn canonical_item(item: &mut Value, is_kept: bool, notes: &mut Notes) {
    if item.get("type").is_none() {
        item["type"] = json!("message");
        notes.allow(&MESSAGE);
    }
    match item["type"].as_str() {
        Some("message") => {
            let is_model = item["role"] == "assistant";
            if let Value::String(text) = &item["content"] {
                let kind = if is_model { "output_text" } else { "input_text" };
                item["content"] = json!([{ "type": kind, "text": text }]);
                notes.allow(&MESSAGE);
            }
            for piece in item["content"].as_array_mut().into_iter().flatten() {
                sound(piece, notes);
                notes.drop_if(piece, "detail", |detail| detail == "auto", &DETAIL);
                if piece["type"] == "input_file" && piece["file_data"].is_string() {
                    let is_ours = |name: &Value| name == "document.pdf" || name == "document";
                    notes.drop_if(piece, "filename", is_ours, &FILE_NAME);
                }
            }
        }
        Some("function_call") => notes.parse_inside(&mut item["arguments"], &ARGUMENTS),
        Some("function_call_output") => {}
        _ => return, // whole or not at all
    }
    notes.drop_if(item, "status", |status| status == "completed", &NAMES);
    if !is_kept {
        notes.drop_if(item, "id", Value::is_string, &NAMES);
    }
}

/// Sound in the form of a file has the form of sound.
fn sound(piece: &mut Value, notes: &mut Notes) {
    let data = piece["file_data"]
        .as_str()
        .and_then(|url| url.strip_prefix("data:audio/mpeg;base64,"));
    if let Some(data) = data {
        *piece = json!({ "type": "input_audio", "input_audio": { "data": data, "format": "mp3" } });
        notes.allow(&SOUND);
    }
}

/// The program's words at the beginning of the input stand before it.
fn lead(body: &mut Value, notes: &mut Notes) {
    let mut words: Vec<String> = body["instructions"]
        .as_str()
        .map(str::to_owned)
        .into_iter()
        .collect();
    while body["input"][0]["role"] == "system" {
        let Some(items) = body["input"].as_array_mut() else {
            return;
        };
        let item = items.remove(0);
        let texts = item["content"].as_array().into_iter().flatten();
        words.push(texts.filter_map(|text| text["text"].as_str()).collect());
        notes.allow(&INSTRUCTIONS);
    }
    if !words.is_empty() {
        body["instructions"] = json!(words.join("\n\n"));
    }
}

// ---- answers ----

fn usage_of(response: &Value) -> Usage {
    let told = &response["usage"];
    let mut usage = Usage::default();
    let (input, output) = (&told["input_tokens_details"], &told["output_tokens_details"]);
    usage.cache_read_tokens = input["cached_tokens"].as_u64();
    usage.cache_write_tokens = input["cache_write_tokens"].as_u64();
    usage.input_tokens = told["input_tokens"]
        .as_u64()
        .map(|total| total - usage.cache_read_tokens.unwrap_or(0) - usage.cache_write_tokens.unwrap_or(0));
    usage.reasoning_tokens = output["reasoning_tokens"].as_u64();
    usage.output_tokens = told["output_tokens"]
        .as_u64()
        .map(|total| total - usage.reasoning_tokens.unwrap_or(0));
    let tools = &told["server_side_tool_usage_details"];
    usage.searches = response["tool_usage"]["web_search"]["num_requests"]
        .as_u64()
        .or_else(|| {
            let found = [&tools["web_search_calls"], &tools["x_search_calls"]];
            found
                .iter()
                .filter_map(|count| count.as_u64())
                .reduce(|a, b| a + b)
        });
    usage
}

fn code_of(error: &Value) -> Option<&'static str> {
    match (error["code"].as_str(), error["type"].as_str()) {
        (Some("insufficient_quota"), _) | (_, Some("insufficient_quota")) => Some("quota_exceeded"),
        (Some("model_not_found"), _) => Some("not_found"),
        (Some("rate_limit_exceeded"), _) => Some("rate_limited"),
        _ => None,
    }
}

fn failed(exchange: &Exchange) -> Failure {
    let body = exchange.json().unwrap_or_default();
    let error = &body["error"];
    let message = [&error["message"], error, &body["detail"]];
    let message = message
        .iter()
        .find_map(|message| message.as_str().map(str::to_owned));
    let is_unknown = message
        .as_deref()
        .is_some_and(|message| message.starts_with("Model not found"));
    let mut failure = Failure::of_status(exchange, message);
    if let Some(code) = code_of(error).or(is_unknown.then_some("not_found")) {
        failure.code = code;
    }
    failure
}

/// How the answer ends: the object that says so, and the items in order.
fn whole(exchange: &Exchange) -> Result<Result<(Value, Vec<Value>), Outcome>, String> {
    let failure = |error: &Value| {
        let code = code_of(error).unwrap_or("overloaded");
        Outcome::Failure(Failure::new(code, error["message"].as_str().map(str::to_owned)))
    };
    let listed = |response: &Value| response["output"].as_array().cloned().unwrap_or_default();
    if !exchange.is_event_stream() {
        let response = exchange.json()?;
        let items = listed(&response);
        return Ok(Ok((response, items)));
    }
    let mut done: Vec<(u64, Value)> = Vec::new();
    let mut words = String::new();
    for event in exchange.data() {
        match event["type"].as_str() {
            Some("error") if event["error"].is_object() => return Ok(Err(failure(&event["error"]))),
            Some("error") => return Ok(Err(failure(&event))),
            Some("response.failed") => return Ok(Err(failure(&event["response"]["error"]))),
            Some("response.output_text.delta") => words += event["delta"].as_str().unwrap_or_default(),
            Some("response.output_item.done") => {
                done.push((event["output_index"].as_u64().unwrap_or(0), event["item"].clone()));
            }
            Some("response.completed" | "response.incomplete") => {
                let response = event["response"].clone();
                done.sort_by_key(|(at, _)| *at);
                let mut items: Vec<Value> = done.into_iter().map(|(_, item)| item).collect();
                if items.len() < listed(&response).len() {
                    items = listed(&response);
                }
                return Ok(Ok((response, items)));
            }
            _ => {}
        }
    }
    Ok(Err(Outcome::Truncated(words)))
}

fn answer(exchange: &Exchange) -> Result<Outcome, String> {
    if exchange.status != 200 {
        return Ok(Outcome::Failure(failed(exchange)));
    }
    let (response, items) = match whole(exchange)? {
        Ok(found) => found,
        Err(outcome) => return Ok(outcome),
    };
    let mut gist = Gist::start(exchange);
    let (mut refused, mut has_calls) = (String::new(), false);
    for item in &items {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        match text("type") {
            "message" => message(item, &mut gist, &mut refused),
            "reasoning" => {
                let pieces = [&item["summary"], &item["content"]]
                    .into_iter()
                    .filter_map(Value::as_array);
                let texts: Vec<&str> = pieces
                    .flatten()
                    .filter_map(|text| text["text"].as_str())
                    .collect();
                let text = texts.join("\n\n");
                gist.parts.push(Piece::Reasoning {
                    is_redacted: text.is_empty(),
                    text,
                    token: Some(item.clone()),
                });
            }
            "function_call" => {
                has_calls = true;
                gist.parts.push(Piece::Call {
                    id: Some(text("call_id").to_owned()),
                    name: text("name").to_owned(),
                    arguments: Piece::arguments(text("arguments")),
                    token: beside(item),
                    is_by_vendor: false,
                });
            }
            "web_search_call" => served(item, "web_search", item["action"].clone(), &mut gist),
            "code_interpreter_call" => {
                served(
                    item,
                    "code_interpreter",
                    json!({ "code": item["code"] }),
                    &mut gist,
                );
            }
            "mcp_call" => served(item, text("name"), Piece::arguments(text("arguments")), &mut gist),
            "mcp_list_tools" => gist.parts.push(Piece::Other(item.clone())),
            other => return Err(format!("an item of {other}")),
        }
    }
    // Some gateways give each event an id of its own: the first stands.
    let told = if exchange.is_event_stream() {
        exchange.data()
    } else {
        Vec::new()
    };
    let begun = told
        .iter()
        .map(|event| &event["response"])
        .find(|begun| begun["id"].is_string());
    let begun = begun.unwrap_or(&response);
    let filled = |key: &str| begun[key].as_str().map(str::to_owned);
    (gist.id, gist.model, gist.usage) = (filled("id"), filled("model"), usage_of(&response));
    let told = &response["usage"];
    // A tick is a ten-thousandth of a millionth.
    let ticks = told["cost_in_usd_ticks"].as_f64().map(|ticks| ticks / 1e10);
    gist.cost = ticks.or_else(|| told["cost"].as_f64());
    let cut = response["incomplete_details"]["reason"].as_str();
    let status = response["status"].as_str().unwrap_or_default();
    gist.finish = match (status, cut) {
        _ if !refused.is_empty() => FinishReason::ContentFilter,
        ("completed", _) if has_calls => FinishReason::ToolCalls,
        ("completed", _) => FinishReason::Stop,
        ("incomplete", Some("max_output_tokens")) => FinishReason::Length,
        other => return Err(format!("an end of {other:?}")),
    };
    gist.raw_finish = Some(cut.unwrap_or(status).to_owned());
    if !refused.is_empty() {
        gist.refusal = Some(Refusal::new(Some(refused), None));
    }
    Ok(Outcome::Answer(Box::new(gist)))
}

fn message(item: &Value, gist: &mut Gist, refused: &mut String) {
    for piece in item["content"].as_array().into_iter().flatten() {
        if let Some(words) = piece["refusal"].as_str() {
            *refused += words;
            gist.parts.push(Piece::Other(json!({
                "type": "message", "id": item["id"], "role": "assistant", "status": "completed", "content": [piece],
            })));
            continue;
        }
        let mut token = Map::new();
        for key in ["id", "phase"] {
            if item[key].is_string() {
                token.insert(key.to_owned(), item[key].clone());
            }
        }
        let places = piece["annotations"].as_array().into_iter().flatten();
        let citations: Vec<Value> = places
            .map(|place| {
                let title = if place["title"].is_string() {
                    &place["title"]
                } else {
                    &place["filename"]
                };
                source(title, &place["url"])
            })
            .collect();
        if !citations.is_empty() {
            token.insert("annotations".to_owned(), piece["annotations"].clone());
        }
        gist.parts.push(Piece::Text {
            text: piece["text"].as_str().unwrap_or_default().to_owned(),
            citations,
            token: (!token.is_empty()).then_some(Value::Object(token)),
        });
    }
}

/// What a call says beside its id, name and arguments, and the arguments where we would write them otherwise.
fn beside(item: &Value) -> Option<Value> {
    let mut fields = item.as_object()?.clone();
    fields.retain(|key, value| match key.as_str() {
        "type" | "call_id" | "name" => false,
        "status" => value != "completed",
        "arguments" => {
            let text = value.as_str().unwrap_or_default();
            let ours = serde_json::from_str::<Value>(text).map(|value| value.to_string());
            ours.is_ok_and(|ours| ours != text)
        }
        _ => true,
    });
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn served(item: &Value, name: &str, arguments: Value, gist: &mut Gist) {
    gist.parts.push(Piece::Call {
        id: item["id"].as_str().map(str::to_owned),
        name: name.to_owned(),
        arguments,
        token: Some(item.clone()),
        is_by_vendor: true,
    });
}
