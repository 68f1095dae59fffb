//! [`Gist`]: all that an answer says. Each wire reads it from the raw body with plain JSON, without our decoders;
//! [`Gist::of`] takes it from our answer; the two are compared field by field.

use super::exchange::Exchange;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fmt::Write as _;
use stepwell::{ChatResponse, Error, FinishReason, MediaSource, Part, Refusal, Usage};

/// One part of an answer, in order.
#[derive(Clone, Debug)]
pub enum Piece {
    Text {
        text: String,
        /// Title and address of each; see [`source`].
        citations: Vec<Value>,
        /// The value of the vendor's token.
        token: Option<Value>,
    },
    Reasoning {
        text: String,
        token: Option<Value>,
        is_redacted: bool,
    },
    Call {
        /// `None`: the vendor gave none, any will do.
        id: Option<String>,
        name: String,
        /// JSON, or the text where it is none.
        arguments: Value,
        token: Option<Value>,
        is_by_vendor: bool,
    },
    Media {
        media_type: String,
        bytes: Vec<u8>,
    },
    /// Beside the answer, under a name.
    Data(String, Value),
    /// The whole part.
    Other(Value),
}

impl Piece {
    /// A call's arguments as a caller gets them: empty and `null` are `{}`, what is no JSON stays text.
    pub fn arguments(text: &str) -> Value {
        match text.trim() {
            "" | "null" => json!({}),
            trimmed => serde_json::from_str(trimmed).unwrap_or_else(|_| json!(text)),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Text {
                text,
                citations,
                token,
            } => json!({ "text": text, "citations": citations, "token": token }),
            Self::Reasoning {
                text,
                token,
                is_redacted,
            } => {
                json!({ "reasoning": text, "token": token, "redacted": is_redacted })
            }
            Self::Call {
                id,
                name,
                arguments,
                token,
                is_by_vendor,
            } => {
                json!({ "call": name, "id": id, "arguments": arguments, "token": token, "by_vendor": is_by_vendor })
            }
            Self::Media { media_type, bytes } => {
                json!({ "media": media_type, "bytes": STANDARD.encode(bytes) })
            }
            Self::Data(name, value) => json!({ "data": name, "value": value }),
            Self::Other(value) => json!({ "other": value }),
        }
    }
}

/// What a text rests on, by its title and address: the first of the names that is there.
pub fn source(title: &Value, uri: &Value) -> Value {
    json!({ "title": title, "uri": uri })
}

/// A limit told in a header.
#[derive(Clone, Debug)]
pub struct Limit {
    pub name: String,
    pub most: Option<u64>,
    pub remaining: Option<u64>,
    /// Whether it says when the window starts anew.
    pub has_reset: bool,
}

/// All that an answer says.
#[derive(Clone, Debug, Default)]
pub struct Gist {
    pub parts: Vec<Piece>,
    pub finish: FinishReason,
    /// The vendor's own word.
    pub raw_finish: Option<String>,
    pub refusal: Option<Refusal>,
    pub usage: Usage,
    /// What the vendor says the call cost, in dollars.
    pub cost: Option<f64>,
    pub id: Option<String>,
    /// `None`: the vendor told none, so the one that was asked for stands.
    pub model: Option<String>,
    pub request_id: Option<String>,
    pub limits: Vec<Limit>,
    /// The vendor's values as they came.
    pub raw: Vec<Value>,
}

impl Gist {
    /// What the frame can tell of an answer without its wire: the headers and the raw values.
    pub fn start(exchange: &Exchange) -> Self {
        let id = exchange.header("request-id").or(exchange.header("x-request-id"));
        Self {
            request_id: id.map(str::to_owned),
            limits: limits(exchange),
            raw: if exchange.is_event_stream() {
                exchange.data()
            } else {
                exchange.json().into_iter().collect()
            },
            ..Self::default()
        }
    }

    /// Adds words to the text part that is last, or begins one.
    pub fn say(&mut self, words: &str) {
        if words.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(Piece::Text { text, .. }) => text.push_str(words),
            _ => self.parts.push(Piece::Text {
                text: words.to_owned(),
                citations: Vec::new(),
                token: None,
            }),
        }
    }

    /// Adds words to the reasoning part that is last, or begins one.
    pub fn think(&mut self, words: &str) {
        if words.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(Piece::Reasoning { text, .. }) => text.push_str(words),
            _ => self.parts.push(Piece::Reasoning {
                text: words.to_owned(),
                token: None,
                is_redacted: false,
            }),
        }
    }

    /// All words.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().map(|piece| match piece {
            Piece::Text { text, .. } => text.as_str(),
            _ => "",
        });
        texts.collect()
    }

    /// What our answer says.
    pub fn of(answer: &ChatResponse) -> Self {
        let parts = answer.message.parts.iter().map(|part| match part {
            Part::Text(part) => Piece::Text {
                text: part.text.clone(),
                citations: part
                    .citations
                    .iter()
                    .map(|place| source(&json!(place.title), &json!(place.uri)))
                    .collect(),
                token: part.opaque.as_ref().map(|token| token.value.clone()),
            },
            Part::Reasoning(part) => Piece::Reasoning {
                text: part.text.clone(),
                token: part.opaque.as_ref().map(|token| token.value.clone()),
                is_redacted: part.is_redacted,
            },
            Part::ToolCall(call) => Piece::Call {
                id: Some(call.id.clone()),
                name: call.name.clone(),
                arguments: call
                    .malformed
                    .as_ref()
                    .map_or_else(|| call.arguments.clone(), |text| json!(text)),
                token: call.opaque.as_ref().map(|token| token.value.clone()),
                is_by_vendor: call.is_provider_executed,
            },
            Part::Media(media) => Piece::Media {
                media_type: media.media_type.clone(),
                bytes: match &media.source {
                    MediaSource::Bytes(bytes) => bytes.to_vec(),
                    _ => Vec::new(),
                },
            },
            Part::Data(part) => Piece::Data(part.name.clone(), part.value.clone()),
            Part::Unknown(part) => Piece::Other(part.value.clone()),
            part => Piece::Other(serde_json::to_value(part).unwrap_or_default()),
        });
        Self {
            parts: parts.collect(),
            finish: answer.finish_reason,
            raw_finish: answer.raw_finish_reason.clone(),
            refusal: answer.refusal.clone(),
            usage: answer.usage.clone(),
            cost: None, // without the vendor's word it is reckoned
            id: answer.id.clone(),
            model: Some(answer.model.clone()),
            request_id: answer.request_id.clone(),
            limits: answer
                .rate_limits
                .iter()
                .map(|limit| Limit {
                    name: limit.name.clone(),
                    most: limit.limit,
                    remaining: limit.remaining,
                    has_reset: limit.reset_ms.is_some(),
                })
                .collect(),
            raw: match &answer.raw {
                Some(Value::Array(values)) => values.clone(),
                _ => Vec::new(),
            },
        }
    }

    /// Where our answer differs from this reading of the raw body.
    pub fn compare(&self, answer: &ChatResponse) -> Vec<String> {
        let mut ours = Self::of(answer);
        let mut ids = Vec::new();
        for (expected, got) in self.parts.iter().zip(&mut ours.parts) {
            if let (Piece::Call { id: expected, .. }, Piece::Call { id, .. }) = (expected, got) {
                ids.push(id.clone());
                if expected.is_none() && id.as_ref().is_some_and(|id| !id.is_empty()) {
                    *id = None;
                }
            }
        }
        if self.model.is_none() {
            ours.model = None;
        }
        let mut found = super::difference::between(&self.value(), &ours.value());
        ids.sort();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            found.push(".parts: two calls have one id".to_owned());
        }
        if let Some(usd) = self.cost {
            let told = answer.cost.as_ref().map(|cost| cost.micro_usd as f64);
            if told.is_none_or(|micro| (micro - usd * 1e6).abs() > 1.0) {
                found.push(format!(".cost: ${usd} expected, {told:?} millionths there"));
            }
        }
        for part in &answer.message.parts {
            let token = match part {
                Part::Text(part) => part.opaque.as_ref(),
                Part::Reasoning(part) => part.opaque.as_ref(),
                Part::ToolCall(part) => part.opaque.as_ref(),
                _ => None,
            };
            if token.is_some_and(|token| token.provider != answer.provider) {
                found.push(".parts: a token is bound to another vendor".to_owned());
            }
        }
        found
    }

    fn value(&self) -> Value {
        let limits: serde_json::Map<String, Value> = self
            .limits
            .iter()
            .map(|limit| {
                let told = json!({ "limit": limit.most, "remaining": limit.remaining, "has_reset": limit.has_reset });
                (limit.name.clone(), told)
            })
            .collect();
        json!({
            "parts": self.parts.iter().map(Piece::value).collect::<Vec<_>>(),
            "finish": self.finish, "raw_finish": self.raw_finish, "refusal": self.refusal, "usage": self.usage,
            "id": self.id, "model": self.model, "request_id": self.request_id, "limits": limits, "raw": self.raw,
        })
    }
}

/// The limits in the headers of an answer.
fn limits(exchange: &Exchange) -> Vec<Limit> {
    let mut found: Vec<Limit> = Vec::new();
    for (name, value) in &exchange.headers {
        let (kind, field) = if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            rest.rsplit_once('-').unwrap_or_default()
        } else if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            let (field, kind) = rest.split_once('-').unwrap_or((rest, ""));
            (kind, field)
        } else {
            continue;
        };
        // Others tell of penalties, costs and periods.
        if kind.is_empty() || !matches!(field, "limit" | "remaining" | "reset") {
            continue;
        }
        let kind = kind.replace('-', "_");
        let at = found
            .iter()
            .position(|limit| limit.name == kind)
            .unwrap_or_else(|| {
                found.push(Limit {
                    name: kind,
                    most: None,
                    remaining: None,
                    has_reset: false,
                });
                found.len() - 1
            });
        match field {
            "limit" => found[at].most = value.parse().ok(),
            "remaining" => found[at].remaining = value.parse().ok(),
            // Some recorders ran several headers into one; that is no moment any more.
            "reset" => found[at].has_reset = !value.contains(','),
            _ => {}
        }
    }
    found
}

/// How a call fails.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As [`Error::code`].
    pub code: &'static str,
    pub is_retryable: bool,
    /// The vendor's sentence, which no `Display` and no `Debug` may show.
    pub message: Option<String>,
    /// `None` inside a stream.
    pub status: Option<u16>,
}

impl Failure {
    /// What a status means on every wire; wires refine it.
    pub fn of_status(exchange: &Exchange, message: Option<String>) -> Self {
        let code = match exchange.status {
            401 | 403 => "unauthorized",
            402 => "quota_exceeded",
            429 => "rate_limited",
            408 | 409 | 500..=599 => "overloaded",
            400..=499 => "rejected",
            _ => "invalid_response",
        };
        let mut failure = Self::new(code, message);
        failure.status = Some(exchange.status);
        match exchange.header("x-should-retry") {
            Some("true") => failure.is_retryable = true,
            Some("false") => failure.is_retryable = false,
            _ => {}
        }
        failure
    }

    /// A failure of this code, retried or not as the code says.
    pub fn new(code: &'static str, message: Option<String>) -> Self {
        Self {
            code,
            is_retryable: matches!(code, "rate_limited" | "overloaded"),
            message,
            status: None,
        }
    }

    /// Where our error differs from this reading.
    pub fn compare(&self, error: &Error) -> Vec<String> {
        let mut found = Vec::new();
        if error.code() != self.code {
            found.push(format!(
                "error: code {} expected, {} there",
                self.code,
                error.code()
            ));
        }
        let verdict = error.vendor_failure().and_then(|failure| failure.should_retry);
        let is_retryable = verdict.unwrap_or_else(|| error.is_retryable());
        if is_retryable != self.is_retryable {
            found.push(format!(
                "error: a retry is {}, expected the other",
                word(is_retryable)
            ));
        }
        if let Some(message) = &self.message {
            if error.vendor_message() != Some(message) && error.vendor_failure().is_some() {
                found.push("error: the vendor's sentence is lost".to_owned());
            }
            if message.len() > 12 && shown(error).contains(message.as_str()) {
                found.push("error: the vendor's sentence is in its Display or Debug".to_owned());
            }
        }
        if let (Some(status), Some(failure)) = (self.status, error.vendor_failure())
            && failure.status != Some(status)
        {
            found.push(format!(
                "error: status {status} expected, {:?} there",
                failure.status
            ));
        }
        found
    }
}

fn word(is_retryable: bool) -> &'static str {
    if is_retryable { "worth it" } else { "pointless" }
}

/// Everything an error shows: its sentence, its `Debug`, and those of its causes.
pub fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, " {error} {error:?}");
        cause = error.source();
    }
    text
}

/// How a call ends.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Box<Gist>),
    Failure(Failure),
    /// The stream broke off; these words had come.
    Truncated(String),
}
