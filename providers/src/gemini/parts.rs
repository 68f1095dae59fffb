//! [`Parts`]: the parts of an answer, from whole chunks to the parts of one message.
//!
//! Text that comes in pieces is one part, but a piece with a signature is a part of its own: signed and unsigned
//! text must not run together, and a signature goes back in the place where it came.

use super::{
    partial_args::PartialArgs,
    wire::{AnswerBlob, AnswerCall, AnswerPart, Citations, Grounding, Source},
};
use crate::answer::Out;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json, value::RawValue};
use stepwell_core::{Citation, MediaSource, Opaque, Origin, Part, StreamEvent};

/// Ids of calls that the vendor gave none begin so; they are not sent to it.
const INVENTED: &str = "gemini-";

/// Whether the id was invented by us, and is none the vendor knows.
pub(super) fn is_invented(id: &str) -> bool {
    id.starts_with(INVENTED)
}

/// The part that is being said.
#[derive(Debug)]
enum Open {
    Nothing,
    Text {
        index: u32,
        signature: Option<String>,
    },
    Thought {
        index: u32,
        signature: Option<String>,
    },
    /// A call whose arguments come in pieces.
    Call {
        index: u32,
        signature: Option<String>,
        args: PartialArgs,
    },
}

/// The parts of one answer.
#[derive(Debug)]
pub(super) struct Parts {
    provider: &'static str,
    model: String,
    open: Open,
    next: u32,
    /// Makes invented ids differ between answers.
    pub(super) response_id: String,
    pub(super) has_calls: bool,
    /// Addresses that were cited already: later chunks repeat them.
    cited: Vec<String>,
    /// What the vendor tells of its sources, as it came last.
    sources: Map<String, Value>,
}

impl Parts {
    /// For an answer of this vendor and model; tokens are bound to them.
    pub(super) fn new(provider: &'static str, model: String) -> Self {
        Self {
            provider,
            model,
            open: Open::Nothing,
            next: 0,
            response_id: String::new(),
            has_calls: false,
            cited: Vec::new(),
            sources: Map::new(),
        }
    }

    fn opaque(&self, value: Value) -> Opaque {
        Opaque {
            provider: self.provider.to_owned(),
            model: self.model.clone(),
            value,
        }
    }

    fn signed(&self, signature: Option<String>) -> Option<Opaque> {
        signature.map(|signature| self.opaque(Value::String(signature)))
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// One part. `whole` gives its JSON, for parts that are kept as they came.
    pub(super) fn part(
        &mut self,
        part: AnswerPart<'_>,
        whole: impl FnOnce() -> Option<Value>,
        out: &mut Out,
    ) {
        match part {
            AnswerPart {
                is_other: false,
                call: Some(call),
                signature,
                ..
            } => self.call(call, signature, out),
            AnswerPart {
                is_other: false,
                blob: Some(blob),
                is_thought: false,
                signature,
                ..
            } => {
                self.blob(blob, signature, whole, out);
            }
            AnswerPart {
                is_other: false,
                blob: None,
                text: Some(text),
                is_thought: true,
                signature,
                ..
            } => {
                self.thought(text, signature, out);
            }
            AnswerPart {
                is_other: false,
                blob: None,
                text: Some(text),
                signature,
                ..
            } => {
                self.text(text, signature, out);
            }
            // A signature without anything else is an empty text that is signed.
            AnswerPart {
                is_other: false,
                blob: None,
                text: None,
                signature: Some(_),
                ..
            } => self.other(whole(), out),
            AnswerPart {
                is_other: false,
                blob: None,
                text: None,
                ..
            } => {}
            _ => self.other(whole(), out),
        }
    }

    fn text(&mut self, text: String, signature: Option<String>, out: &mut Out) {
        let index = match self.open {
            Open::Text {
                index,
                signature: None,
            } if signature.is_none() => index,
            _ if text.is_empty() && signature.is_none() => return,
            _ => {
                self.close(out);
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                self.open = Open::Text { index, signature };
                index
            }
        };
        if !text.is_empty() {
            out.push_back(StreamEvent::TextDelta { index, text });
        }
    }

    fn thought(&mut self, text: String, signature: Option<String>, out: &mut Out) {
        let index = match self.open {
            Open::Thought {
                index,
                signature: None,
            } if signature.is_none() => index,
            _ if text.is_empty() && signature.is_none() => return,
            _ => {
                self.close(out);
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                self.open = Open::Thought { index, signature };
                index
            }
        };
        if !text.is_empty() {
            out.push_back(StreamEvent::ReasoningDelta { index, text });
        }
    }

    fn call(&mut self, call: AnswerCall<'_>, signature: Option<String>, out: &mut Out) {
        let pieces = call.partial_args.unwrap_or_default();
        let goes_on = call.will_continue.unwrap_or_default();
        if call.name.is_none()
            && let Open::Call {
                signature: held,
                args,
                ..
            } = &mut self.open
        {
            args.add(&pieces);
            *held = held.take().or(signature);
            if !goes_on {
                self.close(out);
            }
            return;
        }
        self.close(out);
        self.has_calls = true;
        let index = self.index();
        out.push_back(StreamEvent::ToolCallStart {
            index,
            id: call.id.unwrap_or_else(|| self.invented(index)),
            name: call.name.unwrap_or_default(),
            is_provider_executed: false,
        });
        if goes_on || !pieces.is_empty() {
            let mut args = PartialArgs::default();
            args.add(&pieces);
            self.open = Open::Call {
                index,
                signature,
                args,
            };
            if !goes_on {
                self.close(out);
            }
            return;
        }
        if let Some(args) = call.args.map(RawValue::get).filter(|args| *args != "null") {
            out.push_back(StreamEvent::ToolCallDelta {
                index,
                arguments: args.to_owned(),
            });
        }
        let opaque = self.signed(signature);
        out.push_back(StreamEvent::ToolCallEnd { index, opaque });
    }

    /// An id that no other answer has, as far as the vendor tells its answers apart.
    fn invented(&self, index: u32) -> String {
        format!("{INVENTED}{}-{index}", self.response_id)
    }

    fn blob(
        &mut self,
        blob: AnswerBlob,
        signature: Option<String>,
        whole: impl FnOnce() -> Option<Value>,
        out: &mut Out,
    ) {
        let Ok(bytes) = STANDARD.decode(&blob.data) else {
            return self.other(whole(), out);
        };
        self.close(out);
        let media_type = blob
            .mime_type
            .unwrap_or_else(|| "application/octet-stream".to_owned());
        let mut part = Part::media(media_type, MediaSource::Bytes(Bytes::from(bytes)));
        let opaque = self.signed(signature);
        if let Part::Media(media) = &mut part {
            media.origin = Origin::Model;
            media.opaque = opaque;
        }
        let index = self.index();
        out.push_back(StreamEvent::Part {
            index,
            part: Box::new(part),
        });
    }

    /// A part that is kept whole: code the vendor ran is a call of its own, everything else stays as it is.
    fn other(&mut self, whole: Option<Value>, out: &mut Out) {
        let Some(whole) = whole else { return };
        if let (Some(text), 1) = (
            whole.get("thoughtSignature").and_then(Value::as_str),
            whole.as_object().map_or(0, Map::len),
        ) {
            return self.text(String::new(), Some(text.to_owned()), out);
        }
        self.close(out);
        let index = self.index();
        if let Some(code) = whole.get("executableCode").filter(|code| code.is_object()) {
            let id = code["id"]
                .as_str()
                .map_or_else(|| self.invented(index), str::to_owned);
            let arguments = json!({ "language": code["language"], "code": code["code"] }).to_string();
            out.push_back(StreamEvent::ToolCallStart {
                index,
                id,
                name: "code_execution".to_owned(),
                is_provider_executed: true,
            });
            out.push_back(StreamEvent::ToolCallDelta { index, arguments });
            let opaque = Some(self.opaque(whole));
            out.push_back(StreamEvent::ToolCallEnd { index, opaque });
            return;
        }
        let is_result = whole.get("codeExecutionResult").is_some() || whole.get("toolResponse").is_some();
        let origin = if is_result { Origin::Tool } else { Origin::Model };
        let part = Part::unknown(self.provider, whole, origin);
        out.push_back(StreamEvent::Part {
            index,
            part: Box::new(part),
        });
    }

    /// What the open part ends with.
    fn close(&mut self, out: &mut Out) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Text { index, signature } => {
                let opaque = self.signed(signature);
                out.push_back(StreamEvent::TextEnd { index, opaque });
            }
            Open::Thought { index, signature } => {
                let opaque = self.signed(signature);
                out.push_back(StreamEvent::ReasoningEnd {
                    index,
                    opaque,
                    is_redacted: false,
                });
            }
            Open::Call {
                index,
                signature,
                args,
            } => {
                out.push_back(StreamEvent::ToolCallDelta {
                    index,
                    arguments: args.into_json(),
                });
                let opaque = self.signed(signature);
                out.push_back(StreamEvent::ToolCallEnd { index, opaque });
            }
        }
    }

    /// Whether a text is being said, to which sources can be tied.
    pub(super) fn is_saying_text(&self) -> bool {
        matches!(self.open, Open::Text { .. })
    }

    /// What the vendor tells of its sources: citations of the text being said, and kept whole.
    pub(super) fn sources(&mut self, name: &str, raw: &RawValue, out: &mut Out) {
        if let Open::Text { index, .. } = self.open {
            for citation in citations(name, raw.get()) {
                let address = citation
                    .uri
                    .clone()
                    .unwrap_or_else(|| citation.document_id.clone());
                if !self.cited.contains(&address) {
                    self.cited.push(address);
                    out.push_back(StreamEvent::Citation {
                        index,
                        citation: Box::new(citation),
                    });
                }
            }
        }
        if let Ok(value) = serde_json::from_str(raw.get()) {
            self.sources.insert(name.to_owned(), value);
        }
    }

    /// The answer ends, and with it what is still open.
    pub(super) fn finish(&mut self, out: &mut Out) {
        self.close(out);
        if !self.sources.is_empty() {
            let index = self.index();
            let value = Value::Object(std::mem::take(&mut self.sources));
            let part = Part::data("gemini_sources", value, Origin::Tool);
            out.push_back(StreamEvent::Part {
                index,
                part: Box::new(part),
            });
        }
    }
}

/// The sources that words of the answer rest on. The vendor tells which words of the answer, not which of the
/// source, so quote and span stay empty; its whole account is in a data part.
fn citations(name: &str, raw: &str) -> Vec<Citation> {
    let sources: Vec<Source> = match name {
        "groundingMetadata" => {
            let Ok(Grounding {
                grounding_chunks,
                grounding_supports,
            }) = serde_json::from_str(raw)
            else {
                return Vec::new();
            };
            let is_used = |at: usize| {
                grounding_supports
                    .iter()
                    .any(|support| support.grounding_chunk_indices.contains(&at))
            };
            let chunks = grounding_chunks.into_iter().enumerate();
            chunks
                .filter(|(at, _)| is_used(*at))
                .filter_map(|(_, chunk)| chunk.web.or(chunk.retrieved_context).or(chunk.maps))
                .collect()
        }
        "citationMetadata" => {
            serde_json::from_str::<Citations>(raw).map_or_else(|_| Vec::new(), |found| found.citations)
        }
        _ => Vec::new(),
    };
    sources
        .into_iter()
        .filter(|source| source.uri.is_some() || source.title.is_some())
        .map(|source| {
            let document = source
                .uri
                .clone()
                .or_else(|| source.title.clone())
                .unwrap_or_default();
            let mut citation = Citation::new(document, 0..0, source.text.unwrap_or_default());
            citation.uri = source.uri;
            citation.title = source.title;
            citation
        })
        .collect()
}
