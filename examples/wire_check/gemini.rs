//! Gemini's generateContent and countTokens, at the Gemini API and at Vertex AI: recorded requests into our words,
//! recorded answers into a [`Gist`].

use super::{
    Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, ReplayServer, Verdict,
    Wire, blob, chat, difference, gist,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, FinishReason, MediaSource, Message, Opaque, Origin, Part, ReasoningEffort,
    Refusal, Role, Schema, ToolCall, ToolChoice, ToolSpec, Usage, providers::Gemini,
};

const SNAKE: Allowed = Allowed {
    name: "snake_case",
    reason: "the vendor reads both `inline_data` and `inlineData`; we write the documented one",
};
const NULLS: Allowed = Allowed {
    name: "idle_fields",
    reason: "null, an empty generationConfig and `thought: false` say what their absence says",
};
const SYSTEM_ROLE: Allowed = Allowed {
    name: "system_role",
    reason: "the role of the system instruction is not read by the vendor",
};
const ONE_TOOL: Allowed = Allowed {
    name: "tools_list",
    reason: "one tool outside of a list is a list of one",
};
const SCHEMAS: Allowed = Allowed {
    name: "json_schema_fields",
    reason: "`parameters` and `responseSchema` are the older fields; the same schema goes into parametersJsonSchema and \
             responseJsonSchema, where types are written in small letters",
};
const SUMMARIES: Allowed = Allowed {
    name: "summaries_stay",
    reason: "a thought summary without a signature is not sent back: the thoughts are in the signatures",
};
const NEIGHBOURS: Allowed = Allowed {
    name: "one_turn",
    reason: "neighbouring contents of one role are one turn to the vendor",
};
const BESIDE_MEDIA: Allowed = Allowed {
    name: "result_beside_media",
    reason: "what a result says beside media is words to us, and stands under `output`",
};
const COUNTED: Allowed = Allowed {
    name: "counted_request",
    reason: "contents alone are the short form of generateContentRequest",
};

/// The wire.
#[derive(Debug)]
pub struct GenerateContent;

fn vendor(exchange: &Exchange) -> &'static str {
    if exchange.provider == "gemini_vertex" {
        "vertex"
    } else {
        "gemini"
    }
}

/// The model that the path names, else the one that answered.
fn model_of(exchange: &Exchange) -> String {
    let path = exchange.request.as_ref().map_or("", |asked| asked.path.as_str());
    let named = path
        .split_once("/models/")
        .and_then(|(_, rest)| rest.split_once(':'));
    let told = || {
        chunks(exchange)
            .iter()
            .find_map(|chunk| chunk["modelVersion"].as_str().map(str::to_owned))
    };
    named
        .map(|(model, _)| model.to_owned())
        .or_else(told)
        .unwrap_or_else(|| "gemini-2.5-flash".to_owned())
}

fn model(exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
    let mut model = Gemini::new(model_of(exchange)).api_key(KEY).base_url(url);
    if vendor(exchange) == "vertex" {
        model = model.vertex("project", "location");
    }
    Ok(Arc::new(model.build()?))
}

/// The recorded path with our project, and with the method of a stream.
fn path_of(recorded: &str) -> String {
    let mut words: Vec<&str> = recorded.split('/').collect();
    for at in 1..words.len() {
        match words[at - 1] {
            "projects" => words[at] = "project",
            "locations" => words[at] = "location",
            _ => {}
        }
    }
    words
        .join("/")
        .replace(":generateContent", ":streamGenerateContent")
}

impl ChatWire for GenerateContent {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == "gemini" && exchange.api == "generate_content"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        model(exchange, url)
    }

    fn key_header(&self) -> &'static str {
        "x-goog-api-key"
    }

    fn path(&self, recorded: &str) -> String {
        path_of(recorded)
    }

    fn read_request(&self, exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        request(asked, vendor(exchange), &model_of(exchange))
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        canonical(body, notes);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        answer(exchange)
    }
}

/// The same at Vertex AI, whose key is a bearer's token.
#[derive(Debug)]
pub struct Vertex;

impl ChatWire for Vertex {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == "gemini_vertex" && exchange.api == "generate_content"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        model(exchange, url)
    }

    fn path(&self, recorded: &str) -> String {
        path_of(recorded)
    }

    fn read_request(&self, exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        request(asked, vendor(exchange), &model_of(exchange))
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        canonical(body, notes);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        answer(exchange)
    }
}

/// Counting without answering.
#[derive(Debug)]
pub struct CountTokens;

#[async_trait]
impl Wire for CountTokens {
    fn takes(&self, exchange: &Exchange) -> bool {
        matches!(exchange.provider.as_str(), "gemini" | "gemini_vertex") && exchange.api == "count_tokens"
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let mut notes = Notes::default();
        let faults = count(exchange, server, &mut notes).await;
        Verdict::of(faults.unwrap_or_else(|fault| vec![fault]), notes)
    }
}

async fn count(exchange: &Exchange, server: &ReplayServer, notes: &mut Notes) -> Result<Vec<String>, String> {
    let asked = exchange.request.as_ref().ok_or("there is no request")?;
    let mut recorded = asked.body.clone();
    let unwrap = |body: &mut Value| {
        if let Some(mut counted) = body
            .as_object_mut()
            .and_then(|body| body.shift_remove("generateContentRequest"))
        {
            counted
                .as_object_mut()
                .and_then(|counted| counted.shift_remove("model"));
            *body = counted;
        }
    };
    if recorded.get("generateContentRequest").is_none() {
        notes.allow(&COUNTED);
    }
    unwrap(&mut recorded);
    let plain = Asked {
        body: recorded.clone(),
        ..asked.clone()
    };
    let request = request(&plain, vendor(exchange), &model_of(exchange))?;
    let model = model(exchange, &server.url).map_err(|error| error.to_string())?;
    server.take();
    server.expect(chat::answer(exchange, vec![exchange.body.as_bytes().to_vec()]));
    let counted = model
        .count_tokens(&request)
        .await
        .map_err(|error| format!("count: {error}"))?;
    let seen = server.take();
    let [sent] = seen.as_slice() else {
        return Err(format!("request: sent {} times", seen.len()));
    };
    let mut faults = Vec::new();
    if sent.path != path_of(&asked.path) {
        faults.push(format!(
            "request: path {} expected, {} sent",
            path_of(&asked.path),
            sent.path
        ));
    }
    let mut body: Value = serde_json::from_slice(&sent.body).map_err(|error| error.to_string())?;
    unwrap(&mut body);
    blob::restore(&mut body, notes);
    canonical(&mut recorded, notes);
    canonical(&mut body, notes);
    difference::align_required(&recorded, &mut body, notes);
    faults.extend(
        difference::between(&recorded, &body)
            .into_iter()
            .map(|fault| format!("request: {fault}")),
    );
    let mut expected = Usage::default();
    expected.input_tokens = exchange.json()?["totalTokens"].as_u64();
    if counted != expected {
        faults.push(format!("count: {expected:?} expected, {counted:?} there"));
    }
    Ok(faults)
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

/// The names of the wire's own fields as documented. What is the caller's (schemas, arguments, results) stays.
fn in_camel(value: &mut Value, notes: &mut Notes) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| in_camel(item, notes)),
        Value::Object(fields) => {
            for (key, mut value) in std::mem::take(fields) {
                let mut camel = String::new();
                let mut is_after = false;
                for sign in key.chars() {
                    if sign == '_' {
                        is_after = true;
                    } else {
                        camel.extend(if is_after {
                            sign.to_uppercase().next()
                        } else {
                            Some(sign)
                        });
                        is_after = false;
                    }
                }
                if camel != key {
                    notes.allow(&SNAKE);
                }
                let is_theirs = matches!(
                    camel.as_str(),
                    "args"
                        | "response"
                        | "parameters"
                        | "parametersJsonSchema"
                        | "responseSchema"
                        | "responseJsonSchema"
                );
                if !is_theirs {
                    in_camel(&mut value, notes);
                }
                fields.insert(camel, value);
            }
        }
        _ => {}
    }
}

/// The vendor's older schemas write types in capitals.
fn small_types(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(small_types),
        Value::Object(fields) => {
            if let Some(Value::String(kind)) = fields.get_mut("type") {
                *kind = kind.to_lowercase();
            }
            fields.values_mut().for_each(small_types);
        }
        _ => {}
    }
}

fn canonical(body: &mut Value, notes: &mut Notes) {
    in_camel(body, notes);
    let is_idle = |value: &Value| value.is_null() || *value == json!({});
    for key in [
        "safetySettings",
        "systemInstruction",
        "toolConfig",
        "generationConfig",
        "tools",
    ] {
        notes.drop_if(body, key, is_idle, &NULLS);
    }
    if body["systemInstruction"].is_object() {
        notes.drop_if(
            &mut body["systemInstruction"],
            "role",
            Value::is_string,
            &SYSTEM_ROLE,
        );
    }
    if body["tools"].is_object() {
        body["tools"] = json!([body["tools"]]);
        notes.allow(&ONE_TOOL);
    }
    if body["generationConfig"].is_object() {
        newer_schema(
            &mut body["generationConfig"],
            "responseSchema",
            "responseJsonSchema",
            notes,
        );
    }
    for tool in body["tools"].as_array_mut().into_iter().flatten() {
        notes.drop_if(tool, "codeExecution", Value::is_null, &NULLS);
        for function in tool
            .get_mut("functionDeclarations")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            newer_schema(function, "parameters", "parametersJsonSchema", notes);
        }
    }
    let system = body.get_mut("systemInstruction").into_iter();
    let mut parts: Vec<&mut Value> = system
        .filter_map(|content| content.get_mut("parts"))
        .filter_map(|parts| parts.as_array_mut())
        .flatten()
        .collect();
    for part in &mut parts {
        notes.drop_if(part, "thought", |thought| *thought == json!(false), &NULLS);
    }
    let Some(contents) = body.get_mut("contents").and_then(Value::as_array_mut) else {
        return;
    };
    let mut joined: Vec<Value> = Vec::new();
    for mut content in std::mem::take(contents) {
        let Some(parts) = content.get_mut("parts").and_then(Value::as_array_mut) else {
            joined.push(content);
            continue;
        };
        let count = parts.len();
        parts.retain(|part| part["thought"] != true || part.get("thoughtSignature").is_some());
        if parts.len() < count {
            notes.allow(&SUMMARIES);
        }
        for part in parts.iter_mut() {
            notes.drop_if(part, "thought", |thought| *thought == json!(false), &NULLS);
            if part["functionResponse"]["parts"].is_array() {
                let response = &mut part["functionResponse"]["response"];
                if response["output"].is_string() {
                    let mut words = response["output"].take();
                    notes.parse_inside(&mut words, &BESIDE_MEDIA);
                    *response = words;
                }
            }
        }
        let parts = std::mem::take(parts);
        match joined.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last["role"] == content["role"] => {
                notes.allow(&NEIGHBOURS);
                if let Some(so_far) = last["parts"].as_array_mut() {
                    so_far.extend(parts);
                }
            }
            _ => {
                content["parts"] = Value::Array(parts);
                joined.push(content);
            }
        }
    }
    *contents = joined;
}

fn newer_schema(holder: &mut Value, old: &str, new: &str, notes: &mut Notes) {
    if let Some(schema) = holder.get_mut(old) {
        small_types(schema);
    }
    notes.rename(holder, old, new, &SCHEMAS);
}

/// Ids for calls that were recorded without: a result answers the earliest call of its name.
#[derive(Default)]
struct Ids {
    open: Vec<(String, String)>,
    count: usize,
}

impl Ids {
    fn of_call(&mut self, call: &Value) -> String {
        let name = call["name"].as_str().unwrap_or_default();
        let id = call["id"].as_str().map_or_else(
            || {
                self.count += 1;
                // The form that ours have where the vendor gives none.
                format!("gemini-recorded-{}", self.count)
            },
            str::to_owned,
        );
        self.open.push((name.to_owned(), id.clone()));
        id
    }

    fn of_result(&mut self, result: &Value) -> String {
        let (name, id) = (result["name"].as_str(), result["id"].as_str());
        let found = self.open.iter().position(|(known, of)| match id {
            Some(id) => of == id,
            None => Some(known.as_str()) == name,
        });
        found.map_or_else(
            || id.unwrap_or("gemini-nowhere").to_owned(),
            |at| self.open.remove(at).1,
        )
    }
}

fn media(part: &Value) -> Result<Option<Part>, String> {
    if let Some(data) = part.get("inlineData") {
        let bytes = blob::bytes(&word(&data["data"])?).into();
        return Ok(Some(Part::media(
            word(&data["mimeType"])?,
            MediaSource::Bytes(bytes),
        )));
    }
    if let Some(file) = part.get("fileData") {
        let kind = file["mimeType"].as_str().unwrap_or_default();
        return Ok(Some(Part::media(kind, MediaSource::Url(word(&file["fileUri"])?))));
    }
    Ok(None)
}

fn turn(content: &Value, vendor: &str, model: &str, ids: &mut Ids) -> Result<Message, String> {
    let is_model = content["role"] == "model";
    let origin = if is_model { Origin::Model } else { Origin::User };
    let mut parts = Vec::new();
    for part in list(&content["parts"]) {
        let token = part.get("thoughtSignature").map(|value| Opaque {
            provider: vendor.into(),
            model: model.into(),
            value: value.clone(),
        });
        if let Some(text) = part["text"].as_str() {
            if part["thought"] == true {
                parts.push(Part::reasoning(text, token));
                continue;
            }
            let mut words = Part::text(text, origin);
            if let Part::Text(words) = &mut words {
                words.opaque = token;
            }
            parts.push(words);
        } else if let Some(call) = part.get("functionCall") {
            let mut said = ToolCall::new(ids.of_call(call), word(&call["name"])?, call["args"].clone());
            said.opaque = token;
            parts.push(Part::ToolCall(said));
        } else if let Some(result) = part.get("functionResponse") {
            let call = ToolCall::new(ids.of_result(result), word(&result["name"])?, json!({}));
            let response = &result["response"];
            let inside = list(&result["parts"])
                .iter()
                .filter_map(|part| media(part).transpose());
            let inside = inside.collect::<Result<Vec<Part>, String>>()?;
            let mut said = if inside.is_empty() {
                vec![Part::data("response", response.clone(), Origin::Tool)]
            } else {
                vec![Part::text(response.to_string(), Origin::Tool)]
            };
            said.extend(inside);
            parts.push(Part::tool_result(&call, said, false, Origin::Tool));
        } else if let Some(part) = media(part)? {
            parts.push(part);
        } else {
            parts.push(Part::unknown(vendor, part.clone(), origin));
        }
    }
    Ok(Message::new(
        if is_model { Role::Assistant } else { Role::User },
        parts,
    ))
}

fn request(asked: &Asked, vendor: &str, model: &str) -> Result<ChatRequest, String> {
    let mut body = asked.body.clone();
    in_camel(&mut body, &mut Notes::default());
    if body["tools"].is_object() {
        body["tools"] = json!([body["tools"]]);
    }
    let mut request = ChatRequest::default();
    let mut extras = Map::new();
    let system: Vec<Part> = list(&body["systemInstruction"]["parts"])
        .iter()
        .map(|part| Ok(Part::text(word(&part["text"])?, Origin::System)))
        .collect::<Result<_, String>>()?;
    if !system.is_empty() {
        request.messages.push(Message::new(Role::System, system));
    }
    let mut ids = Ids::default();
    for content in list(&body["contents"]) {
        request.messages.push(turn(content, vendor, model, &mut ids)?);
    }
    let mut more = Vec::new();
    for tool in list(&body["tools"]) {
        for function in list(&tool["functionDeclarations"]) {
            let schema = ["parametersJsonSchema", "parameters"]
                .iter()
                .find_map(|key| function.get(*key));
            // No schema: a tool of no arguments.
            let mut schema = schema.cloned().unwrap_or_else(|| json!({ "type": "null" }));
            small_types(&mut schema);
            let schema = Schema::from_value(schema).map_err(|error| error.to_string())?;
            let description = function["description"].as_str().unwrap_or_default();
            let spec = ToolSpec::new(word(&function["name"])?, description, &schema)
                .map_err(|error| error.to_string())?;
            request.tools.push(spec);
        }
        let own = tool.as_object().into_iter().flatten();
        let own: Map<String, Value> = own
            .filter(|(key, value)| *key != "functionDeclarations" && !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !own.is_empty() {
            more.push(Value::Object(own));
        }
    }
    if !more.is_empty() {
        extras.insert("tools".into(), Value::Array(more));
    }
    for (key, value) in body.as_object().into_iter().flatten() {
        match key.as_str() {
            "contents" | "systemInstruction" | "tools" => {}
            _ if value.is_null() => {}
            "generationConfig" => generation_config(value, &mut request, &mut extras)?,
            "toolConfig" => {
                let config = &value["functionCallingConfig"];
                let names = list(&config["allowedFunctionNames"]);
                match (config["mode"].as_str(), names) {
                    (Some("ANY"), [name]) => request.tool_choice = ToolChoice::Named(word(name)?),
                    (Some("ANY"), []) => request.tool_choice = ToolChoice::Any,
                    (Some("NONE"), []) => request.tool_choice = ToolChoice::None,
                    // What the common request cannot say.
                    _ => {
                        extras.insert(key.clone(), value.clone());
                    }
                }
            }
            _ => {
                extras.insert(key.clone(), value.clone());
            }
        }
    }
    if !extras.is_empty() {
        request = request.provider_option("gemini", Value::Object(extras));
    }
    Ok(request)
}

fn generation_config(
    config: &Value,
    request: &mut ChatRequest,
    extras: &mut Map<String, Value>,
) -> Result<(), String> {
    let mut rest = Map::new();
    for (key, value) in config.as_object().into_iter().flatten() {
        match key.as_str() {
            _ if value.is_null() => {}
            "maxOutputTokens" => request.max_output_tokens = value.as_u64(),
            "temperature" => request.temperature = value.as_f64(),
            "topP" => request.top_p = value.as_f64(),
            "topK" => request.top_k = value.as_u64().and_then(|value| u32::try_from(value).ok()),
            "seed" => request.seed = value.as_u64(),
            "stopSequences" => {
                request.stop_sequences = list(value).iter().map(word).collect::<Result<_, _>>()?;
            }
            "responseMimeType" if value == "application/json" => {}
            "responseSchema" | "responseJsonSchema" => {
                let mut schema = value.clone();
                if key == "responseSchema" {
                    small_types(&mut schema);
                }
                let schema = Schema::from_value(schema).map_err(|error| error.to_string())?;
                *request = std::mem::take(request).schema("answer", schema);
            }
            "thinkingConfig" => {
                let reasoning = &mut request.reasoning;
                reasoning.budget_tokens = value["thinkingBudget"].as_u64();
                reasoning.show_summary = value["includeThoughts"].as_bool();
                reasoning.effort = match value["thinkingLevel"].as_str() {
                    None => None,
                    Some("minimal") => Some(ReasoningEffort::Minimal),
                    Some("low") => Some(ReasoningEffort::Low),
                    Some("medium") => Some(ReasoningEffort::Medium),
                    Some("high") => Some(ReasoningEffort::High),
                    Some(other) => return Err(format!("a level of {other}")),
                };
            }
            _ => {
                rest.insert(key.clone(), value.clone());
            }
        }
    }
    if !rest.is_empty() {
        extras.insert("generationConfig".into(), Value::Object(rest));
    }
    Ok(())
}

// ---- answers ----

/// The chunks of an answer, however they are framed.
fn chunks(exchange: &Exchange) -> Vec<Value> {
    if exchange.is_event_stream() {
        return exchange.data();
    }
    match exchange.json() {
        Ok(Value::Array(chunks)) => chunks,
        Ok(chunk) => vec![chunk],
        Err(_) => Vec::new(),
    }
}

fn failure(exchange: &Exchange) -> Failure {
    let body = exchange.json().unwrap_or_default();
    let error = if body.is_array() {
        &body[0]["error"]
    } else {
        &body["error"]
    };
    let mut failure = Failure::of_status(exchange, error["message"].as_str().map(str::to_owned));
    let reasons = list(&error["details"])
        .iter()
        .filter_map(|detail| detail["reason"].as_str());
    if reasons.into_iter().any(|reason| reason.starts_with("API_KEY")) {
        failure.code = "unauthorized";
    }
    failure
}

fn answer(exchange: &Exchange) -> Result<Outcome, String> {
    if exchange.status != 200 {
        return Ok(Outcome::Failure(failure(exchange)));
    }
    let chunks = chunks(exchange);
    let last = chunks.last().ok_or("there is no answer")?.clone();
    let mut gist = Gist::start(exchange);
    let (mut sources, mut cited, mut has_calls) = (Map::new(), Vec::new(), false);
    let (mut reason, mut message) = (None, None);
    for chunk in &chunks {
        let candidate = &chunk["candidates"][0];
        for part in list(&candidate["content"]["parts"]) {
            has_calls |= part.get("functionCall").is_some();
            say(&mut gist.parts, part);
        }
        for key in ["groundingMetadata", "urlContextMetadata", "citationMetadata"] {
            if let Some(found) = candidate.get(key) {
                sources.insert(key.to_owned(), found.clone());
            }
        }
        for support in list(&candidate["groundingMetadata"]["groundingSupports"]) {
            for at in list(&support["groundingChunkIndices"]) {
                let at = at
                    .as_u64()
                    .and_then(|at| usize::try_from(at).ok())
                    .unwrap_or(usize::MAX);
                let place = &candidate["groundingMetadata"]["groundingChunks"][at];
                let kinds = place.as_object().into_iter().flatten();
                for (_, place) in kinds.take(1) {
                    let place = gist::source(&place["title"], &place["uri"]);
                    if !cited.contains(&place) {
                        cited.push(place);
                    }
                }
            }
        }
        if let Some(word) = candidate["finishReason"].as_str() {
            reason = Some(word.to_owned());
            message = candidate["finishMessage"].as_str().map(str::to_owned);
        }
    }
    let said = gist.parts.iter_mut().rev().find_map(|piece| match piece {
        Piece::Text { text, citations, .. } if !text.is_empty() => Some(citations),
        _ => None,
    });
    if let Some(count) = said {
        *count = cited;
    }
    if !sources.is_empty() {
        gist.parts
            .push(Piece::Data("gemini_sources".to_owned(), Value::Object(sources)));
    }
    gist.id = chunks[0]["responseId"].as_str().map(str::to_owned);
    gist.model = chunks[0]["modelVersion"].as_str().map(str::to_owned);
    gist.usage = usage(&last["usageMetadata"]);
    let reason = reason.or_else(|| last["promptFeedback"]["blockReason"].as_str().map(str::to_owned));
    gist.raw.clone_from(&chunks);
    let Some(reason) = reason else {
        return Ok(Outcome::Truncated(gist.text()));
    };
    gist.finish = match reason.as_str() {
        "STOP" if has_calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    };
    if gist.finish == FinishReason::ContentFilter {
        gist.refusal = Some(Refusal::new(message, Some(reason.clone())));
    }
    gist.raw_finish = Some(reason);
    Ok(Outcome::Answer(Box::new(gist)))
}

/// Adds a part: words run together, but for those that are signed.
fn say(pieces: &mut Vec<Piece>, part: &Value) {
    let token = part.get("thoughtSignature").cloned();
    if let Some(words) = part["text"].as_str() {
        let is_thought = part["thought"] == true;
        match pieces.last_mut() {
            _ if words.is_empty() && token.is_none() => {}
            Some(Piece::Text {
                text, token: None, ..
            }) if !is_thought && token.is_none() => text.push_str(words),
            Some(Piece::Reasoning {
                text, token: None, ..
            }) if is_thought && token.is_none() => text.push_str(words),
            _ if is_thought => pieces.push(Piece::Reasoning {
                text: words.to_owned(),
                token,
                is_redacted: false,
            }),
            _ => pieces.push(Piece::Text {
                text: words.to_owned(),
                citations: Vec::new(),
                token,
            }),
        }
    } else if let Some(call) = part.get("functionCall") {
        pieces.push(Piece::Call {
            id: call["id"].as_str().map(str::to_owned),
            name: call["name"].as_str().unwrap_or_default().to_owned(),
            arguments: call["args"].clone(),
            token,
            is_by_vendor: false,
        });
    } else if let Some(code) = part.get("executableCode") {
        pieces.push(Piece::Call {
            id: code["id"].as_str().map(str::to_owned),
            name: "code_execution".to_owned(),
            arguments: json!({ "language": code["language"], "code": code["code"] }),
            token: Some(part.clone()),
            is_by_vendor: true,
        });
    } else if let Some(data) = part.get("inlineData") {
        pieces.push(Piece::Media {
            media_type: data["mimeType"].as_str().unwrap_or_default().to_owned(),
            bytes: blob::bytes(data["data"].as_str().unwrap_or_default()),
        });
    } else {
        pieces.push(Piece::Other(part.clone()));
    }
}

fn usage(told: &Value) -> Usage {
    let number = |key: &str| told[key].as_u64();
    let mut usage = Usage::default();
    usage.cache_read_tokens = number("cachedContentTokenCount");
    usage.input_tokens = number("promptTokenCount").map(|prompt| {
        prompt - usage.cache_read_tokens.unwrap_or(0) + number("toolUsePromptTokenCount").unwrap_or(0)
    });
    usage.output_tokens = number("candidatesTokenCount");
    usage.reasoning_tokens = number("thoughtsTokenCount");
    usage
}
