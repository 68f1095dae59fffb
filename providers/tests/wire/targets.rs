//! [`Target`]: a model that a conversation is carried to, and the law of its wire.

use crate::{
    frame::{KEY, random::Random},
    laws::{Calls, Law},
    recorded::is_long,
};
use std::sync::Arc;
use stepwell_core::ChatModel;
use stepwell_providers::{Anthropic, Gemini, Ollama, OpenAi, OpenAiCompatible, OpenAiWire};

/// Where a conversation goes.
pub(crate) struct Target {
    pub(crate) model: Arc<dyn ChatModel>,
    pub(crate) law: Law,
}

impl Target {
    /// Vendor and model, as [`stepwell_providers::doctor::examine`] takes them.
    pub(crate) fn name(&self) -> String {
        let info = self.model.info();
        format!("{}/{}", info.provider, info.model)
    }

    /// Whether it made what these made.
    pub(crate) fn is(&self, provider: &str, model: &str) -> bool {
        let info = self.model.info();
        info.provider == provider && info.model == model
    }
}

/// The vendor's own wire for a model of this name; `None` for vendors that are a host's own.
pub(crate) fn target(provider: &str, model: &str, url: &str) -> Option<Target> {
    let built = |model: stepwell_core::Result<Arc<dyn ChatModel>>| model.expect("it builds");
    let (model, law) = match provider {
        "anthropic" => {
            let built = built(
                Anthropic::new(model)
                    .api_key(KEY)
                    .base_url(url)
                    .build()
                    .map(|model| Arc::new(model) as _),
            );
            // As the vendor tells: none from 4.6 on.
            let refuses = [
                "-4-6", "-4-7", "-4-8", "opus-5", "sonnet-5", "haiku-5", "fable", "mythos",
            ];
            let is_refused = refuses.iter().any(|mark| model.contains(mark));
            (
                built,
                Law::Messages {
                    may_prefill: !is_refused,
                },
            )
        }
        "gemini" | "vertex" => {
            let mut builder = Gemini::new(model).api_key(KEY).base_url(url);
            if provider == "vertex" {
                builder = builder.vertex("project", "location");
            }
            let built = built(builder.build().map(|model| Arc::new(model) as _));
            (
                built,
                Law::Contents {
                    must_sign: model.contains("gemini-3"),
                },
            )
        }
        "ollama" => {
            let builder = Ollama::new(model).api_key(KEY).base_url(url).num_ctx(2_000_000);
            (
                built(builder.build().map(|model| Arc::new(model) as _)),
                Law::Ollama,
            )
        }
        "openai" => {
            let is_new = model.starts_with("gpt-5") || model.starts_with("gpt-6") || model.starts_with('o');
            let wire = if is_new {
                OpenAiWire::Responses
            } else {
                OpenAiWire::Chat
            };
            let builder = OpenAi::new(model).api_key(KEY).base_url(url).wire(wire);
            let law = if is_new {
                Law::Responses { must_seal: true }
            } else {
                Law::Completions(Calls::default())
            };
            (built(builder.build().map(|model| Arc::new(model) as _)), law)
        }
        vendor => {
            let builder = OpenAiCompatible::vendor(vendor, model)
                .ok()?
                .api_key(KEY)
                .base_url(url);
            let usual = Calls::default();
            // Servers that run whatever model: its template decides, and the strictest want this.
            let local = Calls {
                one_system: true,
                alternates: true,
                ..usual
            };
            let law = match vendor {
                "xai" => Law::Responses { must_seal: false },
                "mistral" => Law::Completions(Calls {
                    nine: true,
                    user_after_results: false,
                    assistant_last: Some("prefix"),
                    ..usual
                }),
                "perplexity" => Law::Completions(Calls {
                    has_tools: false,
                    alternates: true,
                    one_system: true,
                    assistant_last: None,
                    ..usual
                }),
                "deepseek" => Law::Completions(Calls {
                    must_think: !model.starts_with("deepseek-chat"),
                    ..usual
                }),
                "llamacpp" | "lmstudio" | "mistralrs" | "ollama-openai" | "vllm" => Law::Completions(local),
                _ => Law::Completions(usual),
            };
            (built(builder.build().map(|model| Arc::new(model) as _)), law)
        }
    };
    Some(Target { model, law })
}

/// One of every wire and of every kind of quirk.
const NAMES: [(&str, &str); 20] = [
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-5-5"),
    ("openai", "gpt-4o"),
    ("openai", "gpt-6-sol"),
    ("xai", "grok-4.7"),
    ("gemini", "gemini-2.5-flash"),
    ("gemini", "gemini-3.1-pro-preview"),
    ("vertex", "gemini-3.8-flash"),
    ("ollama", "qwen3:8b"),
    ("mistral", "mistral-large-latest"),
    ("deepseek", "deepseek-v4-flash"),
    ("openrouter", "anthropic/claude-haiku-4.5"),
    ("gemini-openai", "gemini-3.8-flash"),
    ("perplexity", "sonar"),
    ("groq", "openai/gpt-oss-120b"),
    ("llamacpp", "some-model"),
    ("ollama-openai", "qwen3:8b"),
    ("vllm", "openai/gpt-oss-20b"),
    ("cerebras", "gpt-oss-120b"),
    ("copilot", "gpt-4o"),
];

/// All of them in the long run; else so many, others every time.
pub(crate) fn chosen<'t>(targets: &'t [Target], count: usize, random: &mut Random) -> Vec<&'t Target> {
    if is_long() {
        return targets.iter().collect();
    }
    let first = random.below(targets.len());
    // A step that has no divisor in common with their number, so that none comes twice.
    let places = (0..count).map(|place| (first + place * 3) % targets.len());
    places.map(|place| &targets[place]).collect()
}

/// Models of every wire and of every kind of quirk.
pub(crate) fn all(url: &str) -> Vec<Target> {
    NAMES
        .iter()
        .map(|(provider, model)| target(provider, model, url).expect("a known vendor"))
        .collect()
}
