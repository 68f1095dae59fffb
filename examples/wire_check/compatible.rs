//! Chat Completions of the vendors of the compatible table: what each does otherwise than OpenAI, as values of
//! [`Compatible`]. Requests are read by [`completions::request`] once the vendor's own words are put aside; answers
//! are read here, in every form that any of them sends.

use super::{
    Allowed, Asked, ChatWire, Exchange, Failure, Gist, KEY, Notes, Outcome, Piece, ReplayServer, Verdict,
    Wire, completions, gist::source,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, FinishReason, Opaque, Part, ReasoningEffort, Refusal, Usage,
    providers::OpenAiCompatible,
};

const DEPLOYMENT: Allowed = Allowed {
    name: "deployment",
    reason: "Azure reads the deployment from the path, and no model from the body",
};
const NULL: Allowed = Allowed {
    name: "null",
    reason: "a field that is null is none",
};
const CALL_INDEX: Allowed = Allowed {
    name: "call_index",
    reason: "the index of a call is for streams; in a history its place says it",
};
const CALL_IDS: Allowed = Allowed {
    name: "call_ids",
    reason: "Mistral takes nine letters and digits; other ids are renamed, calls and results alike",
};
const PREFIX: Allowed = Allowed {
    name: "prefix_false",
    reason: "false is the default of Mistral's prefix",
};
const AUDIO: Allowed = Allowed {
    name: "audio_as_text",
    reason: "Mistral takes sound as base64 alone, and as an object with its format",
};
const TWICE: Allowed = Allowed {
    name: "reasoning_twice",
    reason: "the recorder sent the same thought in `reasoning` and `reasoning_content`; one is enough",
};
const SCHEMA_NAME: Allowed = Allowed {
    name: "schema_name",
    reason: "Perplexity needs no name of a schema; we send one",
};
const DESCRIPTION: Allowed = Allowed {
    name: "format_description",
    reason: "our request describes an answer in its schema, not beside it",
};
const THINKING: Allowed = Allowed {
    name: "thinking_told",
    reason: "DeepSeek: an effort says that the model thinks, and a forced call that it does not; we say so in words too",
};
const BRIDGE: Allowed = Allowed {
    name: "word_in_between",
    reason: "most models of Mistral refuse a user directly behind results, so the model says a word in between; those \
             that were recorded take both",
};
const NO_CALLS: Allowed = Allowed {
    name: "no_calls",
    reason: "an empty list of calls is none",
};

/// One vendor.
#[derive(Clone, Copy)]
pub struct Compatible {
    /// As the corpus names it.
    provider: &'static str,
    /// Its row of the table.
    row: &'static str,
    /// The field we send the limit of the answer in.
    max_tokens: &'static str,
    /// Fields of a message or delta that carry reasoning: the first that is there counts.
    reasoning: &'static [&'static str],
    /// Tokens that are neither input nor output are reasoning.
    hides_reasoning: bool,
    /// A server fault with a JSON body is the request's fault.
    final_500: bool,
}

const USUAL: Compatible = Compatible {
    provider: "",
    row: "",
    max_tokens: "max_tokens",
    reasoning: &["reasoning_content", "reasoning"],
    hides_reasoning: false,
    final_500: false,
};

const fn usual(name: &'static str) -> Compatible {
    Compatible {
        provider: name,
        row: name,
        ..USUAL
    }
}

const VENDORS: [Compatible; 19] = [
    Compatible {
        provider: "azure_openai",
        row: "azure",
        max_tokens: "max_completion_tokens",
        ..USUAL
    },
    usual("bedrock"),
    Compatible {
        max_tokens: "max_completion_tokens",
        ..usual("cerebras")
    },
    usual("copilot"),
    usual("deepseek"),
    usual("doubleword"),
    Compatible {
        provider: "gemini",
        row: "gemini-openai",
        hides_reasoning: true,
        ..USUAL
    },
    usual("groq"),
    usual("huggingface"),
    Compatible {
        final_500: true,
        ..usual("llamacpp")
    },
    usual("lmstudio"),
    usual("mistral"),
    usual("mistralrs"),
    Compatible {
        provider: "ollama",
        row: "ollama-openai",
        ..USUAL
    },
    usual("openrouter"),
    usual("perplexity"),
    usual("together"),
    usual("venice"),
    Compatible {
        max_tokens: "max_completion_tokens",
        ..usual("xai")
    },
];

/// The wires of all of them.
pub fn chats() -> impl Iterator<Item = Box<dyn ChatWire>> {
    VENDORS
        .into_iter()
        .map(|vendor| Box::new(vendor) as Box<dyn ChatWire>)
}

impl ChatWire for Compatible {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == self.provider && exchange.api == "chat_completions"
    }

    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>> {
        let asked = exchange
            .request
            .as_ref()
            .map_or("/v1/chat/completions", |asked| &asked.path);
        let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
        let root = path.strip_suffix("/chat/completions").unwrap_or("/v1");
        let version = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("api-version="));
        let deployment = root.strip_prefix("/openai/deployments/");
        let model = deployment.map_or_else(|| exchange.model(), str::to_owned);
        let root = if deployment.is_some() { "" } else { root };
        let mut builder = OpenAiCompatible::vendor(self.row, model)?
            .api_key(KEY)
            .base_url(format!("{url}{root}"));
        if let Some(version) = version {
            builder = builder.api_version(version);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn read_request(&self, _exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String> {
        self.request(&asked.body)
    }

    fn canonical(&self, body: &mut Value, notes: &mut Notes) {
        self.same(body, notes);
        completions::canonical(body, notes, self.max_tokens);
    }

    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        self.answer(exchange)
    }

    fn key_header(&self) -> &'static str {
        if self.row == "azure" {
            "api-key"
        } else {
            "authorization"
        }
    }
}

/// What a vendor refused with 400 for its media, and we refuse before anything is sent.
pub struct RefusedBefore;

#[async_trait]
impl Wire for RefusedBefore {
    fn takes(&self, exchange: &Exchange) -> bool {
        let has_media = exchange.request.as_ref().is_some_and(|asked| {
            let text = asked.body["messages"].to_string();
            ["image_url", "input_audio", "file"]
                .iter()
                .any(|kind| text.contains(&format!("\"type\":\"{kind}\"")))
        });
        exchange.provider == "deepseek" && exchange.status == 400 && has_media
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let mut notes = Notes::default();
        notes.refuse();
        let wire = usual("deepseek");
        let asked = exchange.request.clone().unwrap_or_default();
        let mut faults = Vec::new();
        match (wire.model(exchange, &server.url), wire.request(&asked.body)) {
            (Ok(model), Ok(request)) => {
                server.take();
                match model.chat(request).await {
                    Err(error) if error.code() == "unsupported" => {}
                    Err(error) => faults.push(format!("request: unsupported expected, {error} there")),
                    Ok(_) => faults.push("request: unsupported expected, an answer there".to_owned()),
                }
                if !server.take().is_empty() {
                    faults.push("request: it was sent".to_owned());
                }
            }
            (Err(error), _) => faults.push(format!("no model: {error}")),
            (_, Err(fault)) => faults.push(fault),
        }
        Verdict::of(faults, notes)
    }
}

// ---- requests ----

/// A thought of a recorded turn: words, and what came with them.
#[derive(Default)]
struct Thought {
    words: Vec<String>,
    token: Option<Value>,
}

impl Compatible {
    fn request(&self, recorded: &Value) -> Result<ChatRequest, String> {
        let mut body = recorded.clone();
        let mut thoughts = Vec::new();
        for turn in body["messages"].as_array_mut().into_iter().flatten() {
            thoughts.push(thought(turn));
            for piece in turn["content"].as_array_mut().into_iter().flatten() {
                plain_piece(piece);
            }
            for call in turn["tool_calls"].as_array_mut().into_iter().flatten() {
                drop(call, "index");
            }
        }
        let mut extras = Map::new();
        let mut reasoning = (None, None);
        if let Some(fields) = body.as_object_mut() {
            if let Some(told) = fields.shift_remove("reasoning") {
                reasoning.0 = told["effort"].as_str().map(str::to_owned);
                reasoning.1 = told["max_tokens"].as_u64();
            }
            match fields.get("thinking").and_then(|told| told["type"].as_str()) {
                Some("disabled") => {
                    fields.shift_remove("thinking");
                    reasoning.0 = Some("none".to_owned());
                }
                // How hard says that it thinks.
                Some("enabled") if fields.contains_key("reasoning_effort") => {
                    fields.shift_remove("thinking");
                }
                _ => {}
            }
            // Nonsense is passed on as it is.
            for key in ["temperature", "top_p"] {
                if fields
                    .get(key)
                    .is_some_and(|value| !value.is_number() && !value.is_null())
                    && let Some(value) = fields.shift_remove(key)
                {
                    extras.insert(key.to_owned(), value);
                }
            }
            if let Some(seed) = fields.shift_remove("random_seed") {
                fields.insert("seed".to_owned(), seed);
            }
        }
        let format = &mut body["response_format"];
        if format["type"] == "json_schema" && format["json_schema"]["name"].is_null() {
            format["json_schema"]["name"] = json!("answer");
        } else if format.is_null() {
            drop(&mut body, "response_format");
        }
        let mut request = completions::request(&body, self.row)?;
        match reasoning.0.as_deref() {
            None => {}
            Some("none") => request.reasoning.effort = Some(ReasoningEffort::None),
            Some("low") => request.reasoning.effort = Some(ReasoningEffort::Low),
            Some("medium") => request.reasoning.effort = Some(ReasoningEffort::Medium),
            Some("high") => request.reasoning.effort = Some(ReasoningEffort::High),
            Some(other) => return Err(format!("an effort of {other}")),
        }
        request.reasoning.budget_tokens = reasoning.1;
        let model = body["model"].as_str().unwrap_or_default();
        for (message, thought) in request.messages.iter_mut().zip(thoughts) {
            let opaque = thought.token.map(|value| Opaque {
                provider: self.row.to_owned(),
                model: model.to_owned(),
                value,
            });
            let mut words = thought.words;
            if words.is_empty() && opaque.is_some() {
                words.push(String::new());
            }
            let parts = words
                .into_iter()
                .map(|text| Part::reasoning(text, opaque.clone()));
            message.parts.splice(0..0, parts);
        }
        if !extras.is_empty() {
            let known = request
                .provider_options
                .entry(self.row.to_owned())
                .or_insert(json!({}));
            known
                .as_object_mut()
                .ok_or("options that are no object")?
                .extend(extras);
        }
        Ok(request)
    }

    /// Rewrites what is the same at these vendors.
    fn same(&self, body: &mut Value, notes: &mut Notes) {
        if self.row == "azure" {
            notes.drop_if(body, "model", |_| true, &DEPLOYMENT);
        }
        notes.drop_if(body, "tool_choice", Value::is_null, &NULL);
        if self.row == "deepseek" {
            // `deepseek-chat` is the name under which the model does not think.
            let is_forced = body["tool_choice"] == "required" && body["model"] == "deepseek-chat";
            let is_told = body["reasoning_effort"].is_string();
            let says = |kind: &'static str| move |thinking: &Value| thinking["type"] == kind;
            if is_told {
                notes.drop_if(body, "thinking", says("enabled"), &THINKING);
            } else if is_forced {
                notes.drop_if(body, "thinking", says("disabled"), &THINKING);
            }
        }
        if self.row == "perplexity" && body["response_format"]["json_schema"].is_object() {
            notes.drop_if(
                &mut body["response_format"]["json_schema"],
                "name",
                |_| true,
                &SCHEMA_NAME,
            );
        }
        if body["response_format"]["json_schema"].is_object() {
            let format = &mut body["response_format"]["json_schema"];
            notes.drop_if(format, "description", Value::is_string, &DESCRIPTION);
        }
        if let (Some(turns), "mistral") = (body["messages"].as_array_mut(), self.row) {
            let is_bridge = |at: usize, turns: &[Value]| {
                let role = |at: usize| turns.get(at).map(|turn| &turn["role"]);
                at > 0
                    && turns[at] == json!({ "role": "assistant", "content": "Noted." })
                    && role(at - 1).is_some_and(|role| role == "tool")
                    && role(at + 1).is_some_and(|role| role == "user")
            };
            if let Some(at) = (0..turns.len()).find(|at| is_bridge(*at, turns)) {
                turns.remove(at);
                notes.allow(&BRIDGE);
            }
        }
        let mut ids: Vec<String> = Vec::new();
        let mut rename = |id: &mut Value, notes: &mut Notes| {
            if self.row != "mistral" {
                return;
            }
            let Some(text) = id.as_str() else { return };
            let at = ids.iter().position(|known| known == text).unwrap_or_else(|| {
                ids.push(text.to_owned());
                ids.len() - 1
            });
            *id = json!(format!("#{at}"));
            notes.allow(&CALL_IDS);
        };
        for turn in body["messages"].as_array_mut().into_iter().flatten() {
            let has_twice = turn["reasoning"].is_string() && turn["reasoning"] == turn["reasoning_content"];
            notes.drop_if(turn, "reasoning_content", |_| has_twice, &TWICE);
            notes.drop_if(turn, "tool_calls", |calls| *calls == json!([]), &NO_CALLS);
            notes.drop_if(turn, "prefix", |prefix| *prefix == json!(false), &PREFIX);
            for call in turn["tool_calls"].as_array_mut().into_iter().flatten() {
                notes.drop_if(call, "index", |_| true, &CALL_INDEX);
                rename(&mut call["id"], notes);
            }
            if turn["tool_call_id"].is_string() {
                rename(&mut turn["tool_call_id"], notes);
            }
            for piece in turn["content"].as_array_mut().into_iter().flatten() {
                if piece["input_audio"].is_string() {
                    plain_piece(piece);
                    notes.allow(&AUDIO);
                }
            }
            if turn["content"].is_null() {
                drop(turn, "content");
            }
        }
    }
}

fn drop(value: &mut Value, key: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove(key);
    }
}

/// Takes the thought out of a turn.
fn thought(turn: &mut Value) -> Thought {
    let mut found = Thought::default();
    let Some(fields) = turn.as_object_mut() else {
        return found;
    };
    let words = ["reasoning", "reasoning_content"].map(|key| fields.shift_remove(key));
    found.token = ["reasoning_details", "extra_content"]
        .into_iter()
        .find_map(|key| fields.shift_remove(key));
    fields.shift_remove("prefix");
    let words = words.iter().flatten().find_map(Value::as_str);
    found.words.extend(words.map(str::to_owned));
    if let Some(pieces) = fields.get_mut("content").and_then(Value::as_array_mut) {
        pieces.retain(|piece| {
            for inner in piece["thinking"].as_array().into_iter().flatten() {
                found.words.extend(inner["text"].as_str().map(str::to_owned));
            }
            piece["type"] != "thinking"
        });
    }
    found
}

/// A piece of content in OpenAI's own form.
fn plain_piece(piece: &mut Value) {
    if let Some(data) = piece["input_audio"].as_str() {
        piece["input_audio"] = json!({ "data": data, "format": "mp3" });
    }
    if let Some(url) = piece["document_url"].as_str() {
        *piece = json!({ "type": "file", "file": { "file_data": url, "filename": piece["document_name"] } });
    }
}

// ---- answers ----

#[derive(Default)]
struct Call {
    at: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    token: Option<Value>,
    /// Its place among the parts.
    part: usize,
}

/// What stands in an answer as a whole.
#[derive(Default)]
struct Whole {
    calls: Vec<Call>,
    refusal: String,
    links: Vec<Value>,
    sources: Vec<Value>,
    executed: Vec<Value>,
    /// Blocks by index and type.
    blocks: Vec<Value>,
    token: Option<Value>,
    /// The place of the thought that has a token.
    thought: Option<usize>,
}

impl Compatible {
    fn failed(&self, body: &Value, exchange: Option<&Exchange>) -> Failure {
        let first = if body.is_array() { &body[0] } else { body };
        let error = if first["error"].is_object() {
            &first["error"]
        } else {
            first
        };
        let places = [&error["message"], &error["error"], &error["detail"]];
        let mut message = places.iter().find_map(|place| place.as_str().map(str::to_owned));
        if let (Some(message), Some(written)) = (&mut message, error["failed_generation"].as_str()) {
            message.push_str("\nThe model wrote: ");
            message.push_str(written);
        }
        let code = error["code"].as_str().unwrap_or_default().to_ascii_lowercase();
        let kind = error["type"].as_str().unwrap_or_default().to_ascii_lowercase();
        let said = [code.as_str(), kind.as_str()]
            .into_iter()
            .find_map(|word| match word {
                "insufficient_quota" | "insufficient_balance" => Some("quota_exceeded"),
                "model_not_found" | "invalid_model" | "deploymentnotfound" => Some("not_found"),
                "ratelimitreached" | "rate_limit_exceeded" => Some("rate_limited"),
                "tool_use_failed" => Some("overloaded"),
                "invalid_api_key" => Some("unauthorized"),
                _ => None,
            });
        let mut failure = match exchange {
            Some(exchange) => Failure::of_status(exchange, message),
            None => Failure::new("overloaded", message),
        };
        if let Some(code) = said {
            failure = Failure {
                code,
                is_retryable: matches!(code, "rate_limited" | "overloaded"),
                ..failure
            };
        } else if self.final_500 && failure.status == Some(500) {
            (failure.code, failure.is_retryable) = ("rejected", false);
        }
        failure
    }

    fn answer(&self, exchange: &Exchange) -> Result<Outcome, String> {
        if exchange.status != 200 {
            let body = exchange.json().unwrap_or_default();
            return Ok(Outcome::Failure(self.failed(&body, Some(exchange))));
        }
        let is_stream = exchange.is_event_stream();
        let chunks = if is_stream {
            exchange.data()
        } else {
            vec![exchange.json()?]
        };
        let mut gist = Gist::start(exchange);
        let mut whole = Whole::default();
        let mut has_told = false;
        for chunk in &chunks {
            if !chunk["error"].is_null() {
                return Ok(Outcome::Failure(self.failed(chunk, None)));
            }
            let word = |key: &str| {
                let word = chunk[key].as_str().filter(|word| !word.is_empty());
                word.map(str::to_owned)
            };
            let choices = chunk["choices"].as_array().map_or(&[][..], Vec::as_slice);
            if !has_told && (!choices.is_empty() || word("id").is_some()) {
                (gist.id, gist.model, has_told) = (word("id"), word("model"), true);
            }
            for usage in [&chunk["x_groq"]["usage"], &chunk["usage"]] {
                if usage.is_object() {
                    gist.usage = self.usage(usage);
                    gist.cost = usage["cost"].as_f64().or(gist.cost);
                }
            }
            let told = [&chunk["search_results"], &chunk["citations"]];
            if let Some(told) = told.iter().find_map(|list| list.as_array()) {
                let place = |place: &Value| match place {
                    Value::String(_) => source(&Value::Null, place),
                    place => source(&place["title"], &place["url"]),
                };
                whole.sources = told.iter().map(place).collect();
            }
            for choice in choices
                .iter()
                .filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0)
            {
                let delta = match (&choice["delta"], &choice["message"]) {
                    (delta, message) if delta.is_object() && (is_stream || message.is_null()) => delta,
                    (_, message) => message,
                };
                self.delta(delta, &mut gist, &mut whole);
                if let Some(reason) = choice["finish_reason"]
                    .as_str()
                    .filter(|reason| !reason.is_empty())
                {
                    gist.raw_finish.get_or_insert_with(|| reason.to_owned());
                }
            }
        }
        if is_stream && gist.raw_finish.is_none() {
            return Ok(Outcome::Truncated(gist.text()));
        }
        Ok(Outcome::Answer(Box::new(whole.into_gist(gist))))
    }

    fn delta(&self, delta: &Value, gist: &mut Gist, whole: &mut Whole) {
        let details = delta["reasoning_details"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let words = self.reasoning.iter().find_map(|key| {
            let words = delta[*key].as_str()?;
            (!words.is_empty()).then_some(words)
        });
        let has_token = !details.is_empty() || delta["extra_content"].is_object();
        if has_token && whole.thought.is_none() {
            if !matches!(gist.parts.last(), Some(Piece::Reasoning { .. })) {
                gist.parts.push(Piece::Reasoning {
                    text: String::new(),
                    token: None,
                    is_redacted: false,
                });
            }
            whole.thought = Some(gist.parts.len() - 1);
        }
        match (whole.thought, words) {
            // A thought with a token is one, whatever comes between.
            (Some(at), Some(words)) => {
                if let Piece::Reasoning { text, .. } = &mut gist.parts[at] {
                    text.push_str(words);
                }
            }
            (None, Some(words)) => gist.think(words),
            _ => {}
        }
        for piece in details {
            whole.block(piece);
        }
        if delta["extra_content"].is_object() {
            whole.token = Some(delta["extra_content"].clone());
        }
        match &delta["content"] {
            Value::String(text) => gist.say(text),
            Value::Array(pieces) => {
                for piece in pieces {
                    match piece["type"].as_str() {
                        Some("thinking") => {
                            for inner in piece["thinking"].as_array().into_iter().flatten() {
                                gist.think(inner["text"].as_str().unwrap_or_default());
                            }
                        }
                        Some("text") => gist.say(piece["text"].as_str().unwrap_or_default()),
                        _ => gist.parts.push(Piece::Other(piece.clone())),
                    }
                }
            }
            _ => {}
        }
        whole
            .refusal
            .push_str(delta["refusal"].as_str().unwrap_or_default());
        let links = delta["annotations"].as_array().into_iter().flatten();
        let links = links
            .map(|link| &link["url_citation"])
            .filter(|link| link.is_object());
        whole
            .links
            .extend(links.map(|link| source(&link["title"], &link["url"])));
        for tool in delta["executed_tools"].as_array().into_iter().flatten() {
            whole.executed.retain(|known| known["index"] != tool["index"]);
            whole.executed.push(tool.clone());
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            whole.call(piece, gist);
        }
    }

    fn usage(&self, told: &Value) -> Usage {
        let count = |places: &[&Value]| places.iter().find_map(|place| place.as_u64());
        let prompt = &told["prompt_tokens_details"];
        let mut input = count(&[&told["prompt_tokens"]]);
        let output = count(&[&told["completion_tokens"]]);
        let known = input.unwrap_or(0) + output.unwrap_or(0);
        let rest = count(&[&told["total_tokens"]]).map_or(0, |total| total.saturating_sub(known));
        if rest > 0 && prompt["audio_tokens"] == rest {
            input = input.map(|input| input + rest);
        }
        let cached = count(&[
            &prompt["cached_tokens"],
            &told["prompt_cache_hit_tokens"],
            &told["cache_read_input_tokens"],
        ]);
        let mut usage = Usage::default();
        usage.cache_read_tokens = match (cached, input) {
            (Some(cached), Some(input)) if cached > input => Some(input),
            (cached, _) => cached,
        };
        usage.cache_write_tokens = count(&[&prompt["cache_write_tokens"]]);
        usage.input_tokens = input.map(|input| {
            input - usage.cache_read_tokens.unwrap_or(0) - usage.cache_write_tokens.unwrap_or(0)
        });
        let detail = &told["completion_tokens_details"]["reasoning_tokens"];
        let thought = count(&[detail, &told["reasoning_tokens"]]);
        usage.reasoning_tokens = thought.or((self.hides_reasoning && rest > 0).then_some(rest));
        usage.output_tokens = match usage.reasoning_tokens {
            Some(thought) if rest > 0 && rest == thought => output,
            Some(thought) => output.map(|output| output - thought),
            None => output,
        };
        usage
    }
}

impl Whole {
    fn block(&mut self, piece: &Value) {
        let known = self.blocks.iter_mut().find(|block| {
            block["index"].is_number() && block["index"] == piece["index"] && block["type"] == piece["type"]
        });
        let Some(block) = known else {
            self.blocks.push(piece.clone());
            return;
        };
        for (key, value) in piece.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("text" | "summary" | "data", Value::String(more)) => {
                    let so_far = block[key].as_str().unwrap_or_default();
                    block[key] = json!(format!("{so_far}{more}"));
                }
                (_, Value::Null) => {}
                (_, value) => block[key] = value.clone(),
            }
        }
    }

    fn call(&mut self, piece: &Value, gist: &mut Gist) {
        let (at, id) = (piece["index"].as_u64(), piece["id"].as_str().unwrap_or_default());
        let known = self.calls.iter().rposition(|call| {
            if id.is_empty() {
                at.is_none() || call.at == at
            } else {
                call.id == id
            }
        });
        // In a whole answer every call without an id is one of its own.
        let known =
            known.filter(|_| !(id.is_empty() && piece["function"]["name"].is_string() && at.is_none()));
        let known = known.unwrap_or_else(|| {
            self.calls.push(Call {
                at,
                part: gist.parts.len(),
                ..Call::default()
            });
            gist.parts.push(Piece::Other(Value::Null)); // its place
            self.calls.len() - 1
        });
        let call = &mut self.calls[known];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if piece["extra_content"].is_object() {
            call.token = Some(piece["extra_content"].clone());
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

    fn into_gist(self, mut gist: Gist) -> Gist {
        for call in &self.calls {
            gist.parts[call.part] = Piece::Call {
                id: Some(call.id.clone()).filter(|id| !id.is_empty()),
                name: call.name.clone(),
                arguments: Piece::arguments(&call.arguments),
                token: call.token.clone(),
                is_by_vendor: false,
            };
        }
        if let Some(Piece::Reasoning { token, .. }) = self.thought.and_then(|at| gist.parts.get_mut(at)) {
            *token = if self.blocks.is_empty() {
                self.token
            } else {
                Some(Value::Array(self.blocks))
            };
        }
        let text = gist.parts.iter_mut().rev();
        if let Some(Piece::Text { citations, .. }) =
            text.into_iter().find(|piece| matches!(piece, Piece::Text { .. }))
        {
            citations.extend(self.links.into_iter().chain(self.sources));
        }
        gist.parts.extend(self.executed.into_iter().map(Piece::Other));
        let has_calls = !self.calls.is_empty();
        gist.finish = match gist.raw_finish.as_deref() {
            _ if !self.refusal.is_empty() => FinishReason::ContentFilter,
            Some("stop") if has_calls => FinishReason::ToolCalls,
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        if gist.finish == FinishReason::ContentFilter {
            let words = (!self.refusal.is_empty()).then_some(self.refusal);
            gist.refusal = Some(Refusal::new(words, None));
        }
        gist
    }
}
