//! Every wire of chat with a good answer, so that each evil is tried on all of them.

use std::{fmt::Write as _, sync::Arc};
use stepwell_core::{ChatModel, Error};
use stepwell_providers::{Anthropic, Gemini, HttpOptions, Ollama, OpenAi, OpenAiWire};

/// What every good answer says.
pub(crate) const WORDS: &str = "Grüße aus 東京";

/// A wire of chat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) name: &'static str,
    /// Of its streams.
    pub(crate) kind: &'static str,
    pub(crate) stream: &'static str,
    /// A failure inside a stream that is worth another try.
    pub(crate) failure: &'static str,
    /// What ends a good stream: no part of the body before it makes an answer whole.
    pub(crate) end: &'static str,
    pub(crate) build: fn(&str, &str, HttpOptions) -> Arc<dyn ChatModel>,
}

impl Wire {
    /// Where the end mark stands.
    pub(crate) fn end_at(&self) -> usize {
        self.stream.find(self.end).expect("the mark is there")
    }

    /// The body without the whole events that the end mark is part of.
    pub(crate) fn begun(&self) -> &'static str {
        let end = self.end_at();
        let separator = if self.kind == "application/x-ndjson" {
            "\n"
        } else {
            "\n\n"
        };
        let at = self.stream[..end].rfind(separator).expect("more than one event");
        &self.stream[..at + separator.len()]
    }
}

const MESSAGES: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße \"}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"aus 東京\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const CHAT: &str = concat!(
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße \"}}]}\n\n",
    ": keep-alive\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"aus 東京\"}}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n",
    "data: [DONE]\n\n",
);

const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r1\",\"model\":\"m\",\"status\":\"in_progress\",\"output\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"type\":\"message\",\"id\":\"i1\",\"role\":\"assistant\",\"status\":\"in_progress\",\"content\":[]}}\n\n",
    "event: response.content_part.added\ndata: {\"type\":\"response.content_part.added\",\"sequence_number\":2,\"output_index\":0,\"content_index\":0,\"item_id\":\"i1\",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"output_index\":0,\"content_index\":0,\"item_id\":\"i1\",\"delta\":\"Grüße \"}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"output_index\":0,\"content_index\":0,\"item_id\":\"i1\",\"delta\":\"aus 東京\"}\n\n",
    "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"sequence_number\":5,\"output_index\":0,\"content_index\":0,\"item_id\":\"i1\",\"text\":\"Grüße aus 東京\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"sequence_number\":6,\"output_index\":0,\"item\":{\"type\":\"message\",\"id\":\"i1\",\"role\":\"assistant\",\"status\":\"completed\",\"content\":[{\"type\":\"output_text\",\"text\":\"Grüße aus 東京\",\"annotations\":[]}]}}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":7,\"response\":{\"id\":\"r1\",\"model\":\"m\",\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"id\":\"i1\",\"role\":\"assistant\",\"status\":\"completed\",\"content\":[{\"type\":\"output_text\",\"text\":\"Grüße aus 東京\",\"annotations\":[]}]}],\"usage\":{\"input_tokens\":9,\"output_tokens\":4,\"total_tokens\":13}}}\n\n",
);

const GENERATED: &str = concat!(
    "data: {\"responseId\":\"g1\",\"modelVersion\":\"m\",\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Grüße \"}]}}],\"usageMetadata\":{\"promptTokenCount\":9}}\n\n",
    "data: {\"responseId\":\"g1\",\"modelVersion\":\"m\",\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"aus 東京\"}]}}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":4}}\n\n",
    "data: {\"responseId\":\"g1\",\"modelVersion\":\"m\",\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":4}}\n\n",
);

const NATIVE: &str = concat!(
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Grüße \"},\"done\":false}\n",
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"aus 東京\"},\"done\":false}\n",
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":9,\"eval_count\":4}\n",
);

/// All of them.
pub(crate) fn wires() -> [Wire; 5] {
    const EVENTS: &str = "text/event-stream";
    [
        Wire {
            name: "messages",
            kind: EVENTS,
            stream: MESSAGES,
            failure: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            end: "data: {\"type\":\"message_stop\"}",
            build: |url, key, options| {
                let model = Anthropic::new("m").api_key(key).base_url(url).http(options);
                Arc::new(model.build().expect("builds"))
            },
        },
        Wire {
            name: "chat_completions",
            kind: EVENTS,
            stream: CHAT,
            failure: "data: {\"error\":{\"type\":\"server_error\",\"code\":null,\"message\":\"busy\"}}\n\n",
            // What ends it is the reason; the other marks may be missing.
            end: "\"finish_reason\":\"stop\"}]}",
            build: |url, key, options| {
                let model = OpenAi::new("m").wire(OpenAiWire::Chat).api_key(key).base_url(url);
                Arc::new(model.http(options).build().expect("builds"))
            },
        },
        Wire {
            name: "responses",
            kind: EVENTS,
            stream: RESPONSES,
            failure: "event: error\ndata: {\"type\":\"error\",\"sequence_number\":1,\"error\":{\"type\":\"server_error\",\"code\":null,\"message\":\"busy\"}}\n\n",
            end: "data: {\"type\":\"response.completed\"",
            build: |url, key, options| {
                let model = OpenAi::new("m")
                    .wire(OpenAiWire::Responses)
                    .api_key(key)
                    .base_url(url);
                Arc::new(model.http(options).build().expect("builds"))
            },
        },
        Wire {
            name: "generate_content",
            kind: EVENTS,
            stream: GENERATED,
            failure: "data: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"busy\"}}\n\n",
            end: "\"finishReason\":\"STOP\"",
            build: |url, key, options| {
                let model = Gemini::new("m").api_key(key).base_url(url).http(options);
                Arc::new(model.build().expect("builds"))
            },
        },
        Wire {
            name: "ollama_native",
            kind: "application/x-ndjson",
            stream: NATIVE,
            failure: "{\"error\":\"the runner stopped\"}\n",
            end: "\"done\":true",
            build: |url, key, options| {
                let model = Ollama::new("m")
                    .num_ctx(4096)
                    .api_key(key)
                    .base_url(url)
                    .http(options);
                Arc::new(model.build().expect("builds"))
            },
        },
    ]
}

/// Everything an error shows: its sentence, its `Debug`, and those of its causes.
pub(crate) fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(text, " {error} {error:?}").expect("a String takes all");
        cause = error.source();
    }
    text
}
