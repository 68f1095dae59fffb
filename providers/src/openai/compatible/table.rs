//! The vendors that speak Chat Completions, one [`Row`] each. A new one is a row here and a folder of recordings.
//! Its line in `table.md` is what the docs show.
//!
//! Facts are from recorded exchanges; those marked ° are from the vendors' documentation and not met in a recording.

use super::quirks::{
    CallIds, Documents, EffortField, ForcedCall, Formats, Prefill, Quirks, ReasoningBack, ReasoningField,
    SeedField, StreamOptions, TokenLimit,
};
use crate::http::{Auth, Vendor};
use std::borrow::Cow;

/// Where a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/chat/completions` below the base.
    Plain,
    /// Azure's: by version and deployment, or `/openai/v1`; see [`super::azure_path`].
    Azure,
}

/// One vendor.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) vendor: Vendor,
    pub(crate) is_key_optional: bool,
    pub(crate) route: Route,
    /// A model's name, for a sentence that asks for one.
    pub(crate) example: &'static str,
    pub(crate) quirks: Quirks,
}

/// A vendor that asks for a key.
const fn cloud(
    name: &'static str,
    key_var: &'static str,
    base_var: &'static str,
    base: &'static str,
    example: &'static str,
    quirks: Quirks,
) -> Row {
    Row {
        vendor: Vendor::new(name, key_var, base_var, base, Auth::Bearer),
        is_key_optional: false,
        route: Route::Plain,
        example,
        quirks,
    }
}

/// A server on one's own machine.
const fn local(
    name: &'static str,
    key_var: &'static str,
    base_var: &'static str,
    base: &'static str,
    example: &'static str,
    quirks: Quirks,
) -> Row {
    Row {
        vendor: Vendor::new(name, key_var, base_var, base, Auth::Bearer),
        is_key_optional: true,
        route: Route::Plain,
        example,
        quirks,
    }
}

const USUAL: Quirks = Quirks::USUAL;
/// A server of open models: what it takes is up to the template of each, and the strictest want this.
const TEMPLATED: Quirks = USUAL.one_system(true).alternates(true);

/// All of them, by name.
pub(crate) static ROWS: [Row; 20] = [
    Row {
        vendor: Vendor::new(
            "azure",
            "AZURE_OPENAI_API_KEY",
            "AZURE_OPENAI_ENDPOINT",
            "",
            Auth::Header(Cow::Borrowed("api-key")),
        ),
        is_key_optional: false,
        route: Route::Azure,
        example: "my-deployment",
        // Models of other vendors are served too, and older versions refuse the padding option°.
        quirks: Quirks::OPENAI.stream_options(StreamOptions::Usage),
    },
    cloud(
        "bedrock",
        "AWS_BEARER_TOKEN_BEDROCK",
        "BEDROCK_OPENAI_BASE_URL",
        "",
        "openai.gpt-oss-120b-1:0",
        USUAL.audio(true),
    ),
    cloud(
        "cerebras",
        "CEREBRAS_API_KEY",
        "CEREBRAS_BASE_URL",
        "https://api.cerebras.ai/v1",
        "gpt-oss-120b",
        USUAL
            .token_limit(TokenLimit::MaxCompletionTokens)
            .images(false) // °
            .format_beside_tools(false), // °
    ),
    // Its key is a token that the host gets for it, and it wants headers of the editor: `.header(..)`.
    cloud(
        "copilot",
        "COPILOT_API_KEY",
        "COPILOT_BASE_URL",
        "https://api.githubcopilot.com",
        "gpt-4o",
        USUAL.openai_names(true),
    ),
    cloud(
        "deepseek",
        "DEEPSEEK_API_KEY",
        "DEEPSEEK_BASE_URL",
        "https://api.deepseek.com",
        "deepseek-v4-flash",
        USUAL
            .formats(Formats::JsonObject)
            .strict_schemas(false)
            .forced_call(ForcedCall::NotWhileThinking)
            .effort(EffortField::Thinking)
            .reasoning_back(ReasoningBack::Always(ReasoningField::Content))
            .reasoning_required(true) // °
            .prefill(Prefill::Refused) // °
            .images(false)
            .seed(SeedField::Ignored), // °
    ),
    cloud(
        "doubleword",
        "DOUBLEWORD_API_KEY",
        "DOUBLEWORD_BASE_URL",
        "https://api.doubleword.ai/v1",
        "Qwen/Qwen3.5-9B",
        USUAL.reasoning_back(ReasoningBack::Always(ReasoningField::Content)),
    ),
    cloud(
        "gemini-openai",
        "GEMINI_API_KEY",
        "GEMINI_OPENAI_BASE_URL",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-3.8-flash",
        USUAL
            .reasoning_back(ReasoningBack::Always(ReasoningField::ExtraContent))
            .parallel_tool_calls(false) // °
            .seed(SeedField::Ignored) // °
            .hidden_reasoning(true),
    ),
    cloud(
        "groq",
        "GROQ_API_KEY",
        "GROQ_BASE_URL",
        "https://api.groq.com/openai/v1",
        "openai/gpt-oss-120b",
        USUAL.format_beside_tools(false), // °
    ),
    cloud(
        "huggingface",
        "HF_TOKEN",
        "HUGGINGFACE_BASE_URL",
        "https://router.huggingface.co/v1",
        "openai/gpt-oss-120b",
        USUAL,
    ),
    local(
        "llamacpp",
        "LLAMACPP_API_KEY",
        "LLAMACPP_BASE_URL",
        "http://localhost:8080/v1",
        "the name does not matter",
        TEMPLATED
            .forced_call(ForcedCall::Unnamed)
            .reasoning_back(ReasoningBack::Always(ReasoningField::Content))
            .top_k(true) // °
            .final_500(true),
    ),
    local(
        "lmstudio",
        "LMSTUDIO_API_KEY",
        "LMSTUDIO_BASE_URL",
        "http://localhost:1234/v1",
        "qwen3-8b",
        TEMPLATED
            .forced_call(ForcedCall::Unnamed) // °
            .top_k(true) // °
            .final_500(true), // °
    ),
    cloud(
        "mistral",
        "MISTRAL_API_KEY",
        "MISTRAL_BASE_URL",
        "https://api.mistral.ai/v1",
        "mistral-large-latest",
        USUAL
            .stream_options(StreamOptions::Refused)
            .forced_call(ForcedCall::Any)
            .call_ids(CallIds::NineAlphanumerics) // °
            .user_after_results(false) // some models take it, others answer 400
            .prefill(Prefill::Flagged)
            .reasoning_back(ReasoningBack::Always(ReasoningField::Pieces))
            .documents(Documents::DocumentUrl)
            .audio(true)
            .seed(SeedField::RandomSeed), // °
    ),
    local(
        "mistralrs",
        "MISTRALRS_API_KEY",
        "MISTRALRS_BASE_URL",
        "http://localhost:1234/v1",
        "default",
        TEMPLATED
            .reasoning_back(ReasoningBack::Always(ReasoningField::Content)) // °
            .top_k(true), // °
    ),
    // The native wire knows the size of the context: prefer `ollama`.
    local(
        "ollama-openai",
        "OLLAMA_API_KEY",
        "OLLAMA_OPENAI_BASE_URL",
        "http://localhost:11434/v1",
        "qwen3:8b",
        TEMPLATED
            .forced_call(ForcedCall::Unnamed) // °
            .parallel_tool_calls(false) // °
            .reasoning_back(ReasoningBack::Always(ReasoningField::Plain)),
    ),
    cloud(
        "openrouter",
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "https://openrouter.ai/api/v1",
        "anthropic/claude-haiku-4.5",
        USUAL
            .effort(EffortField::Object)
            .reasoning_back(ReasoningBack::Always(ReasoningField::Details))
            .documents(Documents::File)
            .result_media(true)
            .audio(true) // °
            .top_k(true), // °
    ),
    cloud(
        "perplexity",
        "PERPLEXITY_API_KEY",
        "PERPLEXITY_BASE_URL",
        "https://api.perplexity.ai",
        "sonar",
        USUAL
            .stream_options(StreamOptions::Refused)
            .strict_schemas(false)
            .tools(false) // °
            .one_system(true) // °
            .alternates(true) // °
            .prefill(Prefill::Refused) // °
            .parallel_tool_calls(false)
            .seed(SeedField::Ignored) // °
            .top_k(true), // °
    ),
    cloud(
        "together",
        "TOGETHER_API_KEY",
        "TOGETHER_BASE_URL",
        "https://api.together.xyz/v1",
        "openai/gpt-oss-120b",
        USUAL.top_k(true), // ° nothing of this row is met in a recording
    ),
    cloud(
        "venice",
        "VENICE_API_KEY",
        "VENICE_BASE_URL",
        "https://api.venice.ai/api/v1",
        "venice-uncensored-1-2",
        USUAL.top_k(true), // °
    ),
    local(
        "vllm",
        "VLLM_API_KEY",
        "VLLM_BASE_URL",
        "http://localhost:8000/v1",
        "openai/gpt-oss-20b",
        TEMPLATED
            .reasoning_back(ReasoningBack::Always(ReasoningField::Content)) // °
            .audio(true) // °
            .top_k(true) // °
            .final_500(true),
    ),
    cloud(
        "xai",
        "XAI_API_KEY",
        "XAI_BASE_URL",
        "https://api.x.ai/v1",
        "grok-4.7",
        USUAL.token_limit(TokenLimit::MaxCompletionTokens), // °
    ),
];

/// The row of a name.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.vendor.name() == name)
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn rows_are_sorted_differ_and_stand_in_the_table_of_the_docs() {
        let table: Vec<&str> = include_str!("table.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .collect();
        assert_eq!(table.len(), ROWS.len());
        for (row, line) in ROWS.iter().zip(table) {
            let vendor = &row.vendor;
            assert!(
                line.starts_with(&format!("{}` | `{}`", vendor.name(), vendor.key_var())),
                "{line}"
            );
            assert_eq!(line.contains("none needed"), row.is_key_optional, "{line}");
            assert!(line.contains(&format!("`{}`", vendor.base_var())), "{line}");
            let base = vendor.base();
            assert!(
                if base.is_empty() {
                    line.contains("has to be given")
                } else {
                    line.ends_with(&format!("| `{base}` |"))
                },
                "{line}"
            );
        }
        assert!(
            ROWS.windows(2)
                .all(|pair| pair[0].vendor.name() < pair[1].vendor.name())
        );
    }
}
