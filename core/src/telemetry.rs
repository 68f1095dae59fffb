//! Names of spans and attributes: OpenTelemetry's GenAI conventions (v1.41 and later), in one place.
//!
//! Exporters belong to the application; prompts and answers are not among the attributes.

/// Span around a model call; the model's name follows it.
pub const SPAN_CHAT: &str = "chat";
/// Span around one tool call.
pub const SPAN_EXECUTE_TOOL: &str = "execute_tool";
/// Span around an agent's run.
pub const SPAN_INVOKE_AGENT: &str = "invoke_agent";
/// Span around one graph run.
pub const SPAN_INVOKE_WORKFLOW: &str = "invoke_workflow";
/// Span around one embedding call.
pub const SPAN_EMBEDDINGS: &str = "embeddings";
/// Span around one search.
pub const SPAN_RETRIEVAL: &str = "retrieval";

/// `chat`, `embeddings`, `retrieval`, `execute_tool`, `invoke_agent` …
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// `anthropic`, `openai` …
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// The model asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// The model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// The vendor's id of the answer.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Why the answer ended.
pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Fresh input tokens.
pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Output tokens.
pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Input tokens read from a prompt cache.
pub const USAGE_CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Output tokens spent on reasoning.
pub const USAGE_REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// The tool's name.
pub const TOOL_NAME: &str = "gen_ai.tool.name";
/// The id of one tool call.
pub const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
/// The agent's name.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// How many hits a search asked for.
pub const RETRIEVAL_TOP_K: &str = "gen_ai.retrieval.top_k";
/// The stable word of [`crate::Error::code`].
pub const ERROR_TYPE: &str = "error.type";
/// Milliseconds from sending the request to the first event.
pub const TIME_TO_FIRST_EVENT: &str = "stepwell.time_to_first_event_ms";
/// How many tries the call took.
pub const ATTEMPTS: &str = "stepwell.attempts";
/// The vendor that answered, where it is another than the one asked.
pub const RESPONSE_PROVIDER: &str = "stepwell.response.provider";
/// How an answer was brought into its shape: `native`, `final_tool`, `prompted`, `two_phase`.
pub const STRUCTURED_STRATEGY: &str = "stepwell.structured.strategy";

/// Whether a name from outside, such as a vendor's id of an answer, may stand in a span, a log or an error: it is
/// short and has no blanks, so it is no sentence.
pub fn is_plain_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.chars().any(|sign| sign.is_whitespace() || sign.is_control())
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn a_name_is_shown_and_a_sentence_is_not() {
        for name in ["msg_011C", "openai/gpt-oss-120b", "qwen3:4b", "日本"] {
            assert!(is_plain_name(name), "{name}");
        }
        let long = "x".repeat(129);
        for words in ["", "you sent: a secret", "a\nb", "a\u{a0}b", long.as_str()] {
            assert!(!is_plain_name(words), "{words}");
        }
    }
}
