//! The vendors: address, key, wire, and how much one call may hold.

use super::{Limits, VendorEmbedder, VendorEmbedderBuilder, builder};
#[cfg(any(
    feature = "gemini",
    feature = "voyage",
    feature = "cohere",
    feature = "ollama"
))]
use crate::http::Auth;
use crate::http::Vendor;
#[cfg(feature = "openai")]
use crate::openai::compatible::table;
#[cfg(feature = "openai")]
use stepwell_core::{Error, Result};

const fn limits(texts: usize, tokens: usize) -> Limits {
    Limits {
        texts,
        tokens,
        concurrency: 4,
    }
}

/// Those of the compatible vendors that make vectors.
#[cfg(feature = "openai")]
pub(crate) const COMPATIBLE: [&str; 12] = [
    "azure",
    "doubleword",
    "gemini-openai",
    "huggingface",
    "llamacpp",
    "lmstudio",
    "mistral",
    "openrouter",
    "perplexity",
    "together",
    "venice",
    "vllm",
];

#[cfg(feature = "voyage")]
pub(crate) fn voyage_vendor() -> Vendor {
    Vendor::new(
        "voyage",
        "VOYAGE_API_KEY",
        "VOYAGE_BASE_URL",
        "https://api.voyageai.com/v1",
        Auth::Bearer,
    )
}

#[cfg(feature = "cohere")]
pub(crate) fn cohere_vendor() -> Vendor {
    Vendor::new(
        "cohere",
        "COHERE_API_KEY",
        "COHERE_BASE_URL",
        "https://api.cohere.com",
        Auth::Bearer,
    )
}

impl VendorEmbedder {
    /// A model of OpenAI; 2,048 texts and 300,000 tokens a call.
    #[cfg(feature = "openai")]
    pub fn openai(model: impl Into<String>) -> VendorEmbedderBuilder {
        builder(
            crate::openai::VENDOR.clone(),
            model.into(),
            &super::openai::OpenAi,
            limits(2_048, 300_000),
        )
        .base64(true)
    }

    /// A model of one of the compatible vendors that make vectors, by its name: `azure`, `doubleword`,
    /// `gemini-openai`, `huggingface`, `llamacpp`, `lmstudio`, `mistral`, `openrouter`, `perplexity`, `together`,
    /// `venice`, `vllm`. Keys and addresses are those of their chat models.
    ///
    /// # Errors
    /// [`Error::NotFound`] for any other name.
    #[cfg(feature = "openai")]
    pub fn of_vendor(vendor: &str, model: impl Into<String>) -> Result<VendorEmbedderBuilder> {
        let row = table::row(vendor).filter(|_| COMPATIBLE.contains(&vendor));
        let Some(row) = row else {
            return Err(Error::NotFound {
                what: "embedding vendor".to_owned(),
                name: vendor.chars().take(64).collect(),
                hint: format!(
                    "known are {}; for another server name its address with `VendorEmbedder::compatible(..)`",
                    COMPATIBLE.join(", ")
                ),
            });
        };
        let (vendor, model) = (row.vendor.clone(), model.into());
        let mut made = match vendor.name() {
            "mistral" => builder(vendor, model, &super::mistral::Mistral, limits(256, 16_000)),
            "azure" => builder(vendor, model, &super::openai::OpenAi, limits(2_048, 300_000)),
            _ => builder(vendor, model, &super::openai::OpenAi, limits(256, 100_000)),
        };
        made.is_azure = row.route == table::Route::Azure;
        made.setup.is_key_optional = row.is_key_optional;
        Ok(made)
    }

    /// A model behind OpenRouter, with its vendor (`openai/text-embedding-3-small`). It states the money itself.
    #[cfg(feature = "openai")]
    pub fn openrouter(model: impl Into<String>) -> VendorEmbedderBuilder {
        Self::of_vendor("openrouter", model).expect("a test finds every row")
    }

    /// A deployment of Azure OpenAI; address and [`VendorEmbedderBuilder::api_version`] are as for its chat models.
    #[cfg(feature = "openai")]
    pub fn azure(deployment: impl Into<String>) -> VendorEmbedderBuilder {
        Self::of_vendor("azure", deployment).expect("a test finds every row")
    }

    /// A model of Mistral; 256 texts and 16,000 tokens a call.
    #[cfg(feature = "openai")]
    pub fn mistral(model: impl Into<String>) -> VendorEmbedderBuilder {
        Self::of_vendor("mistral", model).expect("a test finds every row")
    }

    /// A model of any other server that speaks OpenAI's `/embeddings`, at this address (with its `/v1`). `name` is
    /// what it is called in a fingerprint; `my-server` reads its key, if it needs one, from `MY_SERVER_API_KEY`.
    #[cfg(feature = "openai")]
    pub fn compatible(
        name: impl Into<String>,
        base_url: impl Into<String>,
        model: impl Into<String>,
    ) -> VendorEmbedderBuilder {
        let vendor = Vendor::named(name.into(), base_url.into(), crate::http::Auth::Bearer);
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
            Auth::Header("x-goog-api-key".into()),
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
        builder(
            voyage_vendor(),
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
        builder(
            cohere_vendor(),
            model.into(),
            &super::cohere::Cohere,
            limits(96, 200_000),
        )
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
