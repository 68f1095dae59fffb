//! [`Wire`]: every streamed decoder under its name, and the readers of whole answers.

use crate::answer::{Decoder, Out, run};
use bytes::Bytes;
use futures::executor::block_on;
use stepwell_core::{Error, Result, StreamEvent};

pub(super) const MODEL: &str = "some-model";

/// Events, and how they ended.
pub(super) type Ending = (Vec<StreamEvent>, Option<Error>);

/// A streamed wire.
#[derive(Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) name: &'static str,
    /// What its bodies are said to be.
    pub(crate) content_type: &'static [u8],
    decode: fn(Vec<Result<Bytes>>, &'static [u8]) -> Ending,
}

impl Wire {
    /// A stream that comes so.
    pub(crate) fn read(&self, body: Vec<Result<Bytes>>) -> Ending {
        (self.decode)(body, self.content_type)
    }
}

fn decode(body: Vec<Result<Bytes>>, kind: &[u8], decoder: impl Decoder) -> Ending {
    block_on(run(body, kind, decoder, "acme"))
}

/// All streamed wires there are.
pub(crate) fn wires() -> Vec<Wire> {
    const EVENTS: &[u8] = b"text/event-stream";
    vec![
        #[cfg(feature = "anthropic")]
        Wire {
            name: "messages",
            content_type: EVENTS,
            decode: |body, kind| decode(body, kind, crate::anthropic::stream::Messages::new(MODEL)),
        },
        #[cfg(feature = "openai")]
        Wire {
            name: "chat_completions",
            content_type: EVENTS,
            decode: |body, kind| {
                let dialect = crate::openai::dialect::Dialect::openai();
                decode(
                    body,
                    kind,
                    crate::openai::chat::stream::Completion::new(dialect, MODEL),
                )
            },
        },
        #[cfg(feature = "openai")]
        Wire {
            name: "responses",
            content_type: EVENTS,
            decode: |body, kind| {
                let vendor = std::sync::Arc::new(crate::openai::VENDOR.clone());
                decode(
                    body,
                    kind,
                    crate::openai::responses::stream::Responses::new(vendor, MODEL),
                )
            },
        },
        #[cfg(feature = "gemini")]
        Wire {
            name: "generate_content",
            content_type: EVENTS,
            decode: |body, kind| {
                let vendor = &crate::gemini::GEMINI;
                decode(body, kind, crate::gemini::stream::Generated::new(vendor, MODEL))
            },
        },
        #[cfg(feature = "gemini")]
        Wire {
            name: "generate_content_array",
            content_type: b"application/json",
            decode: |body, kind| {
                let vendor = &crate::gemini::GEMINI;
                decode(body, kind, crate::gemini::stream::Generated::new(vendor, MODEL))
            },
        },
        #[cfg(feature = "ollama")]
        Wire {
            name: "ollama_native",
            content_type: b"application/x-ndjson",
            decode: |body, kind| decode(body, kind, crate::ollama::stream::Lines::new(MODEL, 4096)),
        },
    ]
}

/// A way to read a body that is whole.
pub(super) type Whole = fn(&[u8]) -> Result<Out>;

/// All readers of whole answers there are.
pub(super) fn wholes() -> Vec<(&'static str, Whole)> {
    vec![
        #[cfg(feature = "anthropic")]
        ("messages_whole", |body| {
            crate::anthropic::decode::body(MODEL, body)
        }),
        #[cfg(feature = "openai")]
        ("chat_completions_whole", |body| {
            let dialect = crate::openai::dialect::Dialect::openai();
            crate::openai::chat::decode::body(&dialect, MODEL, body)
        }),
        #[cfg(feature = "openai")]
        ("responses_whole", |body| {
            let vendor = std::sync::Arc::new(crate::openai::VENDOR.clone());
            crate::openai::responses::decode::body(&vendor, MODEL, body)
        }),
    ]
}
