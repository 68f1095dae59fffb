//! The vendors: address, key, wire, and how much one call may hold.

use super::{Limits, VendorEmbedder, VendorEmbedderBuilder, builder};
use crate::http::{Auth, Vendor};
use std::borrow::Cow;

const fn limits(texts: usize, tokens: usize) -> Limits {
    Limits {
        texts,
        tokens,
        concurrency: 4,
    }
}

impl VendorEmbedder {
    /// A model of OpenAI; 2,048 texts and 300,000 tokens a call.
    #[cfg(feature = "openai")]
    pub fn openai(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "openai",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "https://api.openai.com/v1",
            Auth::Bearer,
        );
        builder(
            vendor,
            model.into(),
            &super::openai::OpenAi,
            limits(2_048, 300_000),
        )
        .base64(true)
    }

    /// A model behind OpenRouter, with its vendor (`openai/text-embedding-3-small`). It states the money itself.
    #[cfg(feature = "openai")]
    pub fn openrouter(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "openrouter",
            "OPENROUTER_API_KEY",
            "OPENROUTER_BASE_URL",
            "https://openrouter.ai/api/v1",
            Auth::Bearer,
        );
        builder(vendor, model.into(), &super::openai::OpenAi, limits(256, 100_000))
    }

    /// A deployment of Azure OpenAI. The address is that of the resource with `/openai/v1`, or with
    /// `/openai/deployments/NAME` and an `api-version` set by [`VendorEmbedderBuilder::query`].
    #[cfg(feature = "openai")]
    pub fn azure(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "azure",
            "AZURE_OPENAI_API_KEY",
            "AZURE_OPENAI_BASE_URL",
            "",
            Auth::Header(Cow::Borrowed("api-key")),
        );
        builder(
            vendor,
            model.into(),
            &super::openai::OpenAi,
            limits(2_048, 300_000),
        )
    }

    /// A model of Mistral; 256 texts and 16,000 tokens a call.
    #[cfg(feature = "openai")]
    pub fn mistral(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "mistral",
            "MISTRAL_API_KEY",
            "MISTRAL_BASE_URL",
            "https://api.mistral.ai/v1",
            Auth::Bearer,
        );
        builder(
            vendor,
            model.into(),
            &super::mistral::Mistral,
            limits(256, 16_000),
        )
    }

    /// A model of any server that speaks OpenAI's `/embeddings`, at this address (with its `/v1`): llama.cpp, vLLM,
    /// LM Studio, Together and their like. `name` is what it is called in a fingerprint; `my-server` reads its key,
    /// if it needs one, from `MY_SERVER_API_KEY`.
    #[cfg(feature = "openai")]
    pub fn compatible(
        name: impl Into<String>,
        base_url: impl Into<String>,
        model: impl Into<String>,
    ) -> VendorEmbedderBuilder {
        let vendor = Vendor::named(name.into(), base_url.into(), Auth::Bearer);
        let mut made = builder(vendor, model.into(), &super::openai::OpenAi, limits(256, 100_000));
        made.setup.is_key_optional = true;
        made
    }

    /// A model of Google's Gemini; 100 texts a call. Questions and passages are told apart by `taskType`, by the
    /// newer models through words before the text. Shortened vectors of the older ones are brought to length 1.
    #[cfg(feature = "gemini")]
    pub fn gemini(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "gemini",
            "GEMINI_API_KEY",
            "GEMINI_BASE_URL",
            "https://generativelanguage.googleapis.com",
            Auth::Header(Cow::Borrowed("x-goog-api-key")),
        );
        let model = model.into();
        let takes_task_type = super::gemini::takes_task_type(&model);
        let made = builder(vendor, model, &super::gemini::Gemini, limits(100, 200_000));
        if takes_task_type {
            made.input_types("RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT")
        } else {
            made.prefixes("task: search result | query: ", "title: none | text: ")
        }
    }

    /// A model of Voyage; 1,000 texts and 120,000 tokens a call.
    #[cfg(feature = "voyage")]
    pub fn voyage(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "voyage",
            "VOYAGE_API_KEY",
            "VOYAGE_BASE_URL",
            "https://api.voyageai.com/v1",
            Auth::Bearer,
        );
        builder(
            vendor,
            model.into(),
            &super::voyage::Voyage,
            limits(1_000, 120_000),
        )
        .input_types("query", "document")
        .base64(true)
    }

    /// A model of Cohere; 96 texts a call.
    #[cfg(feature = "cohere")]
    pub fn cohere(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "cohere",
            "COHERE_API_KEY",
            "COHERE_BASE_URL",
            "https://api.cohere.com",
            Auth::Bearer,
        );
        builder(vendor, model.into(), &super::cohere::Cohere, limits(96, 200_000))
            .input_types("search_query", "search_document")
    }

    /// A model of Ollama on this machine, or where `OLLAMA_BASE_URL` says; no key is needed.
    #[cfg(feature = "ollama")]
    pub fn ollama(model: impl Into<String>) -> VendorEmbedderBuilder {
        let vendor = Vendor::new(
            "ollama",
            "OLLAMA_API_KEY",
            "OLLAMA_BASE_URL",
            "http://localhost:11434",
            Auth::Bearer,
        );
        let mut made = builder(vendor, model.into(), &super::ollama::Ollama, limits(64, 64_000));
        made.setup.is_key_optional = true;
        made.concurrency(2)
    }
}
