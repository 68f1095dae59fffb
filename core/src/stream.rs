//! [`StreamEvent`]: one step of an answer; [`Fold`]: events back into a whole answer.

use crate::{
    Attempt, ChatResponse, Citation, Cost, Data, Error, FinishReason, Opaque, Origin, Part, RateLimit,
    Refusal, Result, Structured, ToolCall, Usage, Warning,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer as it comes. Dropping it cancels the call.
pub type ChatStream = BoxStream<'static, Result<StreamEvent>>;

/// One step of an answer. Parts have an index that counts up from 0; events of one part share it; a delta is the
/// new piece alone, never the text so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StreamEvent {
    /// The vendor began to answer.
    MessageStart {
        /// The vendor's id of the answer.
        id: Option<String>,
        /// The model that answers, as the vendor names it.
        model: Option<String>,
        /// The vendor's id of the request.
        request_id: Option<String>,
    },
    /// A text part begins.
    TextStart {
        /// Its place.
        index: u32,
    },
    /// More of it.
    TextDelta {
        /// Its place.
        index: u32,
        /// The new piece.
        text: String,
    },
    /// It is whole.
    TextEnd {
        /// Its place.
        index: u32,
        /// The vendor's token on it.
        opaque: Option<Opaque>,
    },
    /// A thought begins.
    ReasoningStart {
        /// Its place.
        index: u32,
    },
    /// More of it.
    ReasoningDelta {
        /// Its place.
        index: u32,
        /// The new piece.
        text: String,
    },
    /// It is whole.
    ReasoningEnd {
        /// Its place.
        index: u32,
        /// Its signature or encrypted block.
        opaque: Option<Opaque>,
        /// The vendor hid the text.
        is_redacted: bool,
    },
    /// A tool call begins; its name is known.
    ToolCallStart {
        /// Its place.
        index: u32,
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// The vendor runs it itself.
        is_provider_executed: bool,
    },
    /// More of its arguments, as JSON text.
    ToolCallDelta {
        /// Its place.
        index: u32,
        /// The new piece.
        arguments: String,
    },
    /// Its arguments are whole.
    ToolCallEnd {
        /// Its place.
        index: u32,
        /// The vendor's token on it.
        opaque: Option<Opaque>,
    },
    /// A part that comes whole: media, a vendor's own tool result, anything unknown.
    Part {
        /// Its place.
        index: u32,
        /// The part.
        part: Box<Part>,
    },
    /// What a text part rests on.
    Citation {
        /// The text part.
        index: u32,
        /// The place in the source.
        citation: Box<Citation>,
    },
    /// Data for the program beside the answer; it becomes a part of the message.
    Data(Data),
    /// Something that was not done as asked.
    Warning(Warning),
    /// The tokens so far; a later one replaces it.
    Usage(Usage),
    /// The money so far; a later one replaces it. From the vendor where it says so, else by the model's price.
    Cost(Cost),
    /// The vendor's limits.
    RateLimits {
        /// One for each kind.
        limits: Vec<RateLimit>,
    },
    /// The answer's JSON, checked against the shape that was asked for. It comes last before the end mark.
    Structured(Structured),
    /// A try that failed before the answer came; the answer keeps it.
    Attempt(Box<Attempt>),
    /// Another model than the one asked answers from here on.
    Fallback {
        /// Its vendor.
        provider: String,
        /// Its name.
        model: String,
    },
    /// A sign of life that brings nothing.
    Ping,
    /// A vendor event as it came, when asked for.
    Raw {
        /// The event.
        value: Value,
    },
    /// The vendor's end mark. Exactly one, and the last.
    Finish {
        /// Why.
        reason: FinishReason,
        /// The vendor's word for it.
        raw: Option<String>,
        /// Set when the model or the vendor would not answer.
        refusal: Option<Refusal>,
    },
}

/// Most parts of an answer: far more than any model says, and few enough to be looked through for each event.
const MOST_PARTS: usize = 10_000;

#[derive(Debug)]
enum Open {
    Text(String, Vec<Citation>),
    Reasoning(String),
    ToolCall {
        id: String,
        name: String,
        arguments: String,
        is_provider_executed: bool,
    },
    Closed(Part),
}

/// Folds events into a whole answer. [`collect`] uses it; so does whoever watches a stream and wants both.
#[derive(Debug)]
pub struct Fold {
    response: ChatResponse,
    parts: Vec<(u32, Open)>,
    raw: Option<Vec<Value>>,
    is_finished: bool,
}

impl Fold {
    /// For an answer of this model.
    pub fn new(provider: &str, model: &str, include_raw: bool) -> Self {
        Self {
            response: ChatResponse::new(provider, model, Vec::new(), FinishReason::Other),
            parts: Vec::new(),
            raw: include_raw.then(Vec::new),
            is_finished: false,
        }
    }

    fn open(&mut self, index: u32, part: Open) -> Result<()> {
        if self.parts.len() >= MOST_PARTS {
            return Err(Error::LimitExceeded {
                what: format!("the answer of {}", self.response.provider),
                limit: format!("{MOST_PARTS} parts"),
            });
        }
        if self.parts.iter().any(|(at, _)| *at == index) {
            return Err(self.broken(&format!("part {index} begins twice")));
        }
        self.parts.push((index, part));
        Ok(())
    }

    fn at(&mut self, index: u32) -> Result<&mut Open> {
        // The newest part is nearly always the one meant.
        if let Some(position) = self.parts.iter().rposition(|(at, _)| *at == index) {
            return Ok(&mut self.parts[position].1);
        }
        Err(self.broken(&format!("part {index} goes on without a start")))
    }

    fn broken(&self, message: &str) -> Error {
        Error::InvalidResponse {
            provider: self.response.provider.clone(),
            message: message.to_owned(),
        }
    }

    /// Takes one event in.
    ///
    /// # Errors
    /// [`Error::InvalidResponse`] when events contradict each other: a delta without its start, two ends, anything after
    /// the end mark. [`Error::LimitExceeded`] for more than 10,000 parts.
    pub fn push(&mut self, event: StreamEvent) -> Result<()> {
        if self.is_finished {
            return Err(self.broken("an event follows the end mark"));
        }
        match event {
            StreamEvent::MessageStart {
                id,
                model,
                request_id,
            } => {
                self.response.id = id.or(self.response.id.take());
                if let Some(model) = model {
                    self.response.model = model;
                }
                self.response.request_id = request_id.or(self.response.request_id.take());
            }
            StreamEvent::TextStart { index } => self.open(index, Open::Text(String::new(), Vec::new()))?,
            StreamEvent::TextDelta { index, text } => match self.at(index)? {
                Open::Text(so_far, _) => so_far.push_str(&text),
                _ => return Err(self.broken(&format!("text for part {index}, which is none"))),
            },
            StreamEvent::Citation { index, citation } => match self.at(index)? {
                Open::Text(_, citations) => citations.push(*citation),
                _ => return Err(self.broken(&format!("a citation for part {index}, which is no text"))),
            },
            StreamEvent::ReasoningStart { index } => self.open(index, Open::Reasoning(String::new()))?,
            StreamEvent::ReasoningDelta { index, text } => match self.at(index)? {
                Open::Reasoning(so_far) => so_far.push_str(&text),
                _ => return Err(self.broken(&format!("reasoning for part {index}, which is none"))),
            },
            StreamEvent::ToolCallStart {
                index,
                id,
                name,
                is_provider_executed,
            } => {
                self.open(
                    index,
                    Open::ToolCall {
                        id,
                        name,
                        arguments: String::new(),
                        is_provider_executed,
                    },
                )?;
            }
            StreamEvent::ToolCallDelta {
                index,
                arguments: piece,
            } => match self.at(index)? {
                Open::ToolCall { arguments, .. } => arguments.push_str(&piece),
                _ => return Err(self.broken(&format!("arguments for part {index}, which is no call"))),
            },
            StreamEvent::TextEnd { index, opaque } | StreamEvent::ToolCallEnd { index, opaque } => {
                self.close(index, opaque, false)?;
            }
            StreamEvent::ReasoningEnd {
                index,
                opaque,
                is_redacted,
            } => self.close(index, opaque, is_redacted)?,
            StreamEvent::Part { index, part } => self.open(index, Open::Closed(*part))?,
            StreamEvent::Data(data) => {
                let index = self.parts.iter().map(|(at, _)| at + 1).max().unwrap_or(0);
                self.open(index, Open::Closed(Part::Data(data)))?;
            }
            StreamEvent::Warning(warning) => self.response.warnings.push(warning),
            StreamEvent::Usage(usage) => self.response.usage = usage,
            StreamEvent::Cost(cost) => self.response.cost = Some(cost),
            StreamEvent::RateLimits { limits } => self.response.rate_limits = limits,
            StreamEvent::Structured(structured) => self.response.structured = Some(structured),
            StreamEvent::Attempt(attempt) => self.response.attempts.push(*attempt),
            StreamEvent::Fallback { provider, model } => {
                self.response.provider = provider;
                self.response.model = model;
            }
            StreamEvent::Ping => {}
            StreamEvent::Raw { value } => {
                if let Some(raw) = &mut self.raw {
                    raw.push(value);
                }
            }
            StreamEvent::Finish { reason, raw, refusal } => {
                self.response.finish_reason = reason;
                self.response.raw_finish_reason = raw;
                self.response.refusal = refusal;
                self.is_finished = true;
            }
        }
        Ok(())
    }

    fn close(&mut self, index: u32, token: Option<Opaque>, hidden: bool) -> Result<()> {
        let slot = self.at(index)?;
        let open = std::mem::replace(slot, Open::Closed(Part::text("", Origin::Model)));
        if matches!(open, Open::Closed(_)) {
            *slot = open;
            return Err(self.broken(&format!("part {index} ends twice")));
        }
        *slot = Open::Closed(whole_part(open, token, hidden));
        Ok(())
    }

    /// Whether the end mark has come.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// What has come so far, open parts as they are; the finish reason says `Other` until the end mark.
    pub fn partial(self) -> ChatResponse {
        let Self {
            mut response,
            mut parts,
            raw,
            ..
        } = self;
        parts.sort_by_key(|(index, _)| *index);
        response.message.parts = parts
            .into_iter()
            .map(|(_, open)| whole_part(open, None, false))
            .collect();
        response.raw = raw.map(Value::Array);
        response
    }

    /// The whole answer.
    ///
    /// # Errors
    /// [`Error::StreamTruncated`] with the partial answer when the end mark has not come.
    pub fn finish(self) -> Result<ChatResponse> {
        let (is_finished, provider) = (self.is_finished, self.response.provider.clone());
        let response = self.partial();
        if is_finished {
            Ok(response)
        } else {
            Err(Error::StreamTruncated {
                provider,
                partial: Box::new(response),
            })
        }
    }
}

fn whole_part(open: Open, token: Option<Opaque>, hidden: bool) -> Part {
    match open {
        Open::Text(text, citations) => {
            let mut part = Part::text(text, Origin::Model);
            if let Part::Text(text) = &mut part {
                text.citations = citations;
                text.opaque = token;
            }
            part
        }
        Open::Reasoning(text) => {
            let mut part = Part::reasoning(text, token);
            if let Part::Reasoning(reasoning) = &mut part {
                reasoning.is_redacted = hidden;
            }
            part
        }
        Open::ToolCall {
            id,
            name,
            arguments,
            is_provider_executed,
        } => {
            let mut call = ToolCall::from_text(id, name, &arguments);
            call.is_provider_executed = is_provider_executed;
            call.opaque = token;
            Part::ToolCall(call)
        }
        Open::Closed(part) => part,
    }
}

/// Folds a stream into one answer of this model.
///
/// # Errors
/// What the stream fails with; [`Error::StreamTruncated`] when it ends without its end mark.
pub async fn collect(
    stream: impl Stream<Item = Result<StreamEvent>>,
    provider: &str,
    model: &str,
    include_raw: bool,
) -> Result<ChatResponse> {
    let mut fold = Fold::new(provider, model, include_raw);
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        fold.push(event?)?;
    }
    fold.finish()
}

/// The events of an answer that came whole: for vendors and models that do not stream.
pub fn whole(response: ChatResponse) -> Vec<StreamEvent> {
    let mut events: Vec<StreamEvent> = response
        .attempts
        .into_iter()
        .map(|attempt| StreamEvent::Attempt(Box::new(attempt)))
        .collect();
    events.push(StreamEvent::MessageStart {
        id: response.id,
        model: Some(response.model),
        request_id: response.request_id,
    });
    for (index, part) in (0u32..).zip(response.message.parts) {
        match part {
            Part::Text(text) => {
                events.push(StreamEvent::TextStart { index });
                events.push(StreamEvent::TextDelta {
                    index,
                    text: text.text,
                });
                events.extend(text.citations.into_iter().map(|citation| StreamEvent::Citation {
                    index,
                    citation: Box::new(citation),
                }));
                events.push(StreamEvent::TextEnd {
                    index,
                    opaque: text.opaque,
                });
            }
            Part::Reasoning(part) => {
                events.push(StreamEvent::ReasoningStart { index });
                events.push(StreamEvent::ReasoningDelta {
                    index,
                    text: part.text,
                });
                events.push(StreamEvent::ReasoningEnd {
                    index,
                    opaque: part.opaque,
                    is_redacted: part.is_redacted,
                });
            }
            Part::ToolCall(call) => {
                let ToolCall {
                    id,
                    name,
                    arguments,
                    malformed,
                    is_provider_executed,
                    opaque,
                    ..
                } = call;
                events.push(StreamEvent::ToolCallStart {
                    index,
                    id,
                    name,
                    is_provider_executed,
                });
                events.push(StreamEvent::ToolCallDelta {
                    index,
                    arguments: malformed.unwrap_or_else(|| arguments.to_string()),
                });
                events.push(StreamEvent::ToolCallEnd { index, opaque });
            }
            part => events.push(StreamEvent::Part {
                index,
                part: Box::new(part),
            }),
        }
    }
    events.extend(response.warnings.into_iter().map(StreamEvent::Warning));
    if !response.rate_limits.is_empty() {
        events.push(StreamEvent::RateLimits {
            limits: response.rate_limits,
        });
    }
    events.push(StreamEvent::Usage(response.usage));
    events.extend(response.cost.map(StreamEvent::Cost));
    events.extend(response.structured.map(StreamEvent::Structured));
    events.push(StreamEvent::Finish {
        reason: response.finish_reason,
        raw: response.raw_finish_reason,
        refusal: response.refusal,
    });
    events
}

#[cfg(test)]
mod tests {
    use super::{Fold, StreamEvent, whole};
    use crate::{ChatResponse, Cost, Error, FinishReason, Origin, Part, Usage};
    use serde_json::json;

    fn fold(events: Vec<StreamEvent>) -> crate::Result<ChatResponse> {
        let mut fold = Fold::new("acme", "m", false);
        for event in events {
            fold.push(event)?;
        }
        fold.finish()
    }

    #[test]
    fn an_answer_taken_apart_and_folded_is_the_same_answer() {
        let mut answer = ChatResponse::new(
            "acme",
            "m",
            vec![
                Part::reasoning("let me see", None),
                Part::text("Hello", Origin::Model),
                Part::tool_call("c1", "search", json!({ "q": "x" })),
                Part::unknown("acme", json!({ "new": 1 }), Origin::Model),
            ],
            FinishReason::ToolCalls,
        );
        answer.id = Some("a1".into());
        answer.raw_finish_reason = Some("tool_use".into());
        answer.cost = Some(Cost { micro_usd: 7 });
        answer.usage = Usage {
            input_tokens: Some(3),
            output_tokens: Some(4),
            ..Usage::default()
        };
        assert_eq!(fold(whole(answer.clone())).expect("folds"), answer);
    }

    #[test]
    fn a_stream_without_its_end_mark_is_an_error_that_keeps_what_came() {
        let events = vec![
            StreamEvent::TextStart { index: 0 },
            StreamEvent::TextDelta {
                index: 0,
                text: "Hel".into(),
            },
            StreamEvent::Usage(Usage {
                input_tokens: Some(9),
                ..Usage::default()
            }),
        ];
        match fold(events) {
            Err(Error::StreamTruncated { partial, .. }) => {
                assert_eq!(
                    (partial.text().as_str(), partial.usage.input_tokens),
                    ("Hel", Some(9))
                );
            }
            other => panic!("expected a truncated stream, got {other:?}"),
        }
    }

    #[test]
    fn events_that_contradict_each_other_are_refused() {
        let finish = || StreamEvent::Finish {
            reason: FinishReason::Stop,
            raw: None,
            refusal: None,
        };
        for events in [
            vec![StreamEvent::TextDelta {
                index: 0,
                text: "x".into(),
            }],
            vec![
                StreamEvent::TextStart { index: 0 },
                StreamEvent::TextStart { index: 0 },
            ],
            vec![finish(), finish()],
            vec![
                StreamEvent::ReasoningStart { index: 0 },
                StreamEvent::TextDelta {
                    index: 0,
                    text: "x".into(),
                },
            ],
        ] {
            assert_eq!(
                fold(events).expect_err("contradiction").code(),
                "invalid_response"
            );
        }
    }

    #[test]
    fn interleaved_parallel_calls_fold_by_index() {
        let start = |index, id: &str| StreamEvent::ToolCallStart {
            index,
            id: id.into(),
            name: "t".into(),
            is_provider_executed: false,
        };
        let delta = |index, text: &str| StreamEvent::ToolCallDelta {
            index,
            arguments: text.into(),
        };
        let answer = fold(vec![
            start(0, "a"),
            start(1, "b"),
            delta(1, "{\"n\":"),
            delta(0, "{\"n\":1}"),
            delta(1, "2}"),
            StreamEvent::ToolCallEnd {
                index: 0,
                opaque: None,
            },
            StreamEvent::ToolCallEnd {
                index: 1,
                opaque: None,
            },
            StreamEvent::Finish {
                reason: FinishReason::ToolCalls,
                raw: None,
                refusal: None,
            },
        ])
        .expect("folds");
        let calls: Vec<_> = answer
            .message
            .tool_calls()
            .map(|call| (call.id.as_str(), call.arguments.clone()))
            .collect();
        assert_eq!(calls, [("a", json!({ "n": 1 })), ("b", json!({ "n": 2 }))]);
    }
}
