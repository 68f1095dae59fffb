//! [`Blocks`]: the content blocks of an answer, from their start over their deltas to their end.

use super::{VENDOR, wire};
use crate::answer::{Out, unreadable};
use serde_json::{Map, Value, value::RawValue};
use stepwell_core::{Citation, Opaque, Origin, Part, Result, StreamEvent};

/// A block that has begun and not ended.
#[derive(Debug)]
enum Block {
    Text {
        index: u32,
        citations: Vec<Value>,
    },
    Thinking {
        index: u32,
        signature: Option<String>,
    },
    ToolUse {
        index: u32,
        /// Arguments that came with the start; used when no delta brings others.
        input: Option<String>,
        opaque: Option<Value>,
    },
    /// A kind we do not know: gathered, and kept whole.
    Other {
        block: Map<String, Value>,
        input: String,
    },
    /// It came whole with its start.
    Done,
}

/// The blocks of one answer.
#[derive(Debug)]
pub(super) struct Blocks {
    model: String,
    /// The vendor's index and the block.
    open: Vec<(u64, Block)>,
    next: u32,
}

impl Blocks {
    /// For an answer of this model; tokens are bound to it.
    pub(super) fn new(model: String) -> Self {
        Self {
            model,
            open: Vec::new(),
            next: 0,
        }
    }

    fn opaque(&self, value: Value) -> Opaque {
        Opaque {
            provider: VENDOR.name().to_owned(),
            model: self.model.clone(),
            value,
        }
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// A block begins; what came with its start is handed out.
    pub(super) fn start(&mut self, at: u64, raw: &RawValue, out: &mut Out) -> Result<()> {
        self.stop(at, out); // a start without the stop before it
        let Ok(start) = serde_json::from_str::<wire::BlockStart<'_>>(raw.get()) else {
            return self.start_other(at, raw);
        };
        let block = match &*start.kind {
            "text" => {
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                if let Some(text) = start.text.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::TextDelta { index, text });
                }
                let citations = start.citations.unwrap_or_default();
                for citation in &citations {
                    out.push_back(StreamEvent::Citation {
                        index,
                        citation: Box::new(citation_of(citation)),
                    });
                }
                Block::Text { index, citations }
            }
            "thinking" => {
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                if let Some(text) = start.thinking.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::ReasoningDelta { index, text });
                }
                Block::Thinking {
                    index,
                    signature: start.signature.filter(|signature| !signature.is_empty()),
                }
            }
            "redacted_thinking" => {
                let index = self.index();
                out.push_back(StreamEvent::ReasoningStart { index });
                out.push_back(StreamEvent::ReasoningEnd {
                    index,
                    opaque: start.data.map(|data| self.opaque(Value::String(data))),
                    is_redacted: true,
                });
                Block::Done
            }
            kind @ ("tool_use" | "server_tool_use" | "mcp_tool_use") if start.name.is_some() => {
                let index = self.index();
                let is_ours = kind == "tool_use";
                out.push_back(StreamEvent::ToolCallStart {
                    index,
                    id: start.id.unwrap_or_else(|| format!("call_{index}")),
                    name: start.name.unwrap_or_default(),
                    is_provider_executed: !is_ours,
                });
                let opaque = if is_ours {
                    // Only a call made from the vendor's own code has to say so when it goes back.
                    start
                        .caller
                        .filter(|caller| caller["type"] != "direct")
                        .map(|caller| serde_json::json!({ "caller": caller }))
                } else {
                    serde_json::from_str::<Map<String, Value>>(raw.get())
                        .ok()
                        .map(|mut block| {
                            block.shift_remove("input");
                            Value::Object(block)
                        })
                };
                Block::ToolUse {
                    index,
                    input: start.input.map(|input| input.get().to_owned()),
                    opaque,
                }
            }
            _ => return self.start_other(at, raw),
        };
        self.open.push((at, block));
        Ok(())
    }

    fn start_other(&mut self, at: u64, raw: &RawValue) -> Result<()> {
        let block = serde_json::from_str(raw.get())
            .map_err(|error| unreadable(VENDOR.name(), "a content block", &error))?;
        self.open.push((
            at,
            Block::Other {
                block,
                input: String::new(),
            },
        ));
        Ok(())
    }

    /// A piece of the block at this index; dropped where none has begun.
    pub(super) fn delta(&mut self, at: u64, delta: wire::Delta<'_>, data: &str, out: &mut Out) {
        let position = self.open.iter().rposition(|(index, _)| *index == at);
        let position = match (position, &*delta.kind) {
            (Some(position), _) => position,
            // Some gateways leave the start of a text out.
            (None, "text_delta") => {
                let index = self.index();
                out.push_back(StreamEvent::TextStart { index });
                self.open.push((
                    at,
                    Block::Text {
                        index,
                        citations: Vec::new(),
                    },
                ));
                self.open.len() - 1
            }
            _ => return,
        };
        match &mut self.open[position].1 {
            Block::Text { index, citations } => {
                if let Some(text) = delta.text.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::TextDelta { index: *index, text });
                }
                if let Some(citation) = delta.citation {
                    out.push_back(StreamEvent::Citation {
                        index: *index,
                        citation: Box::new(citation_of(&citation)),
                    });
                    citations.push(citation);
                }
            }
            Block::Thinking { index, signature } => {
                if let Some(text) = delta.thinking.filter(|text| !text.is_empty()) {
                    out.push_back(StreamEvent::ReasoningDelta { index: *index, text });
                }
                if let Some(piece) = delta.signature {
                    signature.get_or_insert_default().push_str(&piece);
                }
            }
            Block::ToolUse { index, input, .. } => {
                if let Some(arguments) = delta.partial_json.filter(|text| !text.is_empty()) {
                    *input = None;
                    out.push_back(StreamEvent::ToolCallDelta {
                        index: *index,
                        arguments,
                    });
                }
            }
            Block::Other { block, input } => {
                if let Some(piece) = delta.partial_json {
                    input.push_str(&piece);
                } else if let Ok(kind) = serde_json::from_str::<wire::Kind<'_>>(data) {
                    grow(block, kind.delta.as_ref());
                }
            }
            Block::Done => {}
        }
    }

    /// The block at this index ends, if it has begun.
    pub(super) fn stop(&mut self, at: u64, out: &mut Out) {
        let Some(position) = self.open.iter().rposition(|(index, _)| *index == at) else {
            return;
        };
        match self.open.remove(position).1 {
            Block::Text { index, citations } => {
                let opaque = (!citations.is_empty())
                    .then(|| self.opaque(serde_json::json!({ "citations": citations })));
                out.push_back(StreamEvent::TextEnd { index, opaque });
            }
            Block::Thinking { index, signature } => out.push_back(StreamEvent::ReasoningEnd {
                index,
                opaque: signature.map(|signature| self.opaque(Value::String(signature))),
                is_redacted: false,
            }),
            Block::ToolUse { index, input, opaque } => {
                if let Some(arguments) = input.filter(|input| input != "{}") {
                    out.push_back(StreamEvent::ToolCallDelta { index, arguments });
                }
                let opaque = opaque.map(|value| self.opaque(value));
                out.push_back(StreamEvent::ToolCallEnd { index, opaque });
            }
            Block::Other { mut block, input } => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    block.insert("input".to_owned(), input);
                }
                let is_result = block
                    .get("type")
                    .and_then(Value::as_str)
                    .is_some_and(|kind| kind.ends_with("_tool_result"));
                let origin = if is_result { Origin::Tool } else { Origin::Model };
                let index = self.index();
                out.push_back(StreamEvent::Part {
                    index,
                    part: Box::new(Part::unknown(VENDOR.name(), Value::Object(block), origin)),
                });
            }
            Block::Done => {}
        }
    }

    /// The answer ends, and with it what is still open.
    pub(super) fn stop_all(&mut self, out: &mut Out) {
        while let Some((at, _)) = self.open.first() {
            let at = *at;
            self.stop(at, out);
        }
    }

    /// Adds an unknown delta to the block at this index; `false` where no block is gathered there.
    pub(super) fn grow(&mut self, at: u64, delta: Option<&Value>) -> bool {
        let open = self.open.iter_mut().rev().find(|(index, _)| *index == at);
        if let Some((_, Block::Other { block, .. })) = open {
            grow(block, delta);
            return true;
        }
        false
    }
}

/// Adds an unknown delta to the block it belongs to: strings grow, anything else is replaced.
fn grow(block: &mut Map<String, Value>, delta: Option<&Value>) {
    let Some(Value::Object(delta)) = delta else {
        return;
    };
    for (key, value) in delta {
        if key == "type" {
            continue;
        }
        match (block.get_mut(key), value) {
            (Some(Value::String(so_far)), Value::String(piece)) => so_far.push_str(piece),
            (_, value) => {
                block.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A citation as reported. Its offsets count characters of the vendor's copy, not bytes of ours, so the span
/// stays empty; the whole object is in the part's opaque token.
fn citation_of(value: &Value) -> Citation {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let document = value["document_index"]
        .as_u64()
        .map(|index| index.to_string())
        .or_else(|| text("file_id"))
        .or_else(|| text("url"))
        .or_else(|| text("source"))
        .unwrap_or_default();
    let mut citation = Citation::new(document, 0..0, text("cited_text").unwrap_or_default());
    citation.title = text("document_title").or_else(|| text("title"));
    citation.uri = text("url").or_else(|| text("source"));
    citation.page = value["start_page_number"]
        .as_u64()
        .and_then(|page| u32::try_from(page).ok());
    citation
}
