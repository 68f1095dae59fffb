//! [`Registry`]: `vendor/model` → a model, and the place where a host adds vendors of its own.

mod options;
mod outside;
mod shelf;
mod vectors;

pub use options::ModelOptions;
pub use vectors::{embedder, reranker};

use crate::layers::resilient;
use shelf::Shelf;
use std::{
    fmt,
    sync::{Arc, LazyLock, RwLock},
};
use stepwell_core::{ChatModel, Embedder, Error, Reranker, Result};

/// Vendors by name. Clones share it.
///
/// ```
/// use std::sync::Arc;
/// use stepwell_providers::{Registry, Scripted};
/// let registry = Registry::with_vendors();
/// registry.register("echo", |model| Ok(Arc::new(Scripted::new().named("echo", model).say("hi"))));
/// assert_eq!(registry.model("echo/any:thing")?.info().name(), "echo/any:thing");
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    shelves: Arc<Shelves>,
}

struct Shelves {
    models: Shelf<dyn ChatModel>,
    embedders: Shelf<dyn Embedder>,
    rerankers: Shelf<dyn Reranker>,
    /// Patterns for names from outside.
    allowed: RwLock<Vec<String>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shelves: Arc::new(Shelves {
                models: Shelf::new("model vendor"),
                embedders: Shelf::new("embedding vendor"),
                rerankers: Shelf::new("rerank vendor"),
                allowed: RwLock::default(),
            }),
        }
    }
}

/// Vendor and model of a name. The vendor ends at the first `/` or `:`.
fn split(name: &str) -> Result<(&str, &str)> {
    name.trim()
        .split_once(['/', ':'])
        .filter(|(vendor, model)| !vendor.is_empty() && !model.is_empty())
        .ok_or_else(|| {
            Error::invalid(
                "model name",
                "write it as vendor/model, for example anthropic/claude-sonnet-5",
            )
        })
}

impl Registry {
    /// Without any vendor.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the vendors this build has. Their keys are read from the environment when a model is made.
    pub fn with_vendors() -> Self {
        let registry = Self::new();
        registry.add_models();
        registry.add_vectors();
        registry
    }

    /// The chat models this build has.
    fn add_models(&self) {
        let models = &self.shelves.models;
        #[cfg(feature = "anthropic")]
        models.add("anthropic", |model, options| {
            Ok(Arc::new(crate::Anthropic::new(model).options(options).build()?))
        });
        #[cfg(feature = "openai")]
        models.add("openai", |model, options| {
            Ok(Arc::new(crate::OpenAi::new(model).options(options).build()?))
        });
        #[cfg(feature = "gemini")]
        for name in ["gemini", "google"] {
            models.add(name, |model, options| {
                Ok(Arc::new(crate::Gemini::new(model).options(options).build()?))
            });
        }
        #[cfg(feature = "openai")]
        for row in &crate::openai::compatible::table::ROWS {
            models.add(row.vendor.name(), |model, options| {
                let builder = crate::OpenAiCompatible::of_row(row, model);
                Ok(Arc::new(builder.options(options).build()?))
            });
        }
        #[cfg(feature = "ollama")]
        models.add("ollama", |model, options| {
            Ok(Arc::new(crate::Ollama::new(model).options(options).build()?))
        });
        let _ = models; // a build may have none
    }

    /// The one that [`model`] asks, shared by the whole process.
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<Registry> = LazyLock::new(Registry::with_vendors);
        &GLOBAL
    }

    /// Adds a vendor, or takes the place of one. Its models are given as the factory makes them; layers are its own
    /// business, see [`crate::layers`].
    pub fn register(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<dyn ChatModel>> + Send + Sync + 'static,
    ) {
        self.shelves.models.add_host(vendor, factory);
    }

    /// Adds a server of one's own that speaks Chat Completions at an address with its `/v1`. A key, where it wants
    /// one, is read from `MY_VENDOR_API_KEY` for the name `my-vendor`.
    #[cfg(feature = "openai")]
    pub fn register_compatible(
        &self,
        vendor: impl Into<String>,
        base_url: impl Into<String>,
        quirks: crate::quirks::Quirks,
    ) {
        let (vendor, base_url) = (vendor.into(), base_url.into());
        self.shelves.models.add(vendor.clone(), move |model, options| {
            let builder = crate::OpenAiCompatible::new(vendor.as_str(), base_url.as_str(), model);
            Ok(Arc::new(builder.quirks(quirks).options(options).build()?))
        });
    }

    /// The vendors of chat models, sorted.
    pub fn vendors(&self) -> Vec<String> {
        self.shelves.models.vendors()
    }

    /// The model of a name such as `anthropic/claude-sonnet-5` or `openai:gpt-6-sol`. The vendor ends at the
    /// first `/` or `:`; the rest is the model's name, whatever it contains. A vendor's model is asked again when
    /// it fails before its first word, and is given thirty minutes in all: [`crate::layers::resilient`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name of another form, [`Error::NotFound`] for an unknown vendor,
    /// [`Error::MissingKey`] where its key is not set.
    pub fn model(&self, name: &str) -> Result<Arc<dyn ChatModel>> {
        self.make_model(name, None)
    }

    /// The same with a key, an address, timers or headers of the program's own.
    ///
    /// # Errors
    /// As [`Registry::model`], and [`Error::Unsupported`] for a vendor that the host registered by a function.
    pub fn model_with(&self, name: &str, options: ModelOptions) -> Result<Arc<dyn ChatModel>> {
        self.make_model(name, Some(options))
    }

    fn make_model(&self, name: &str, options: Option<ModelOptions>) -> Result<Arc<dyn ChatModel>> {
        let is_bare = options.as_ref().is_some_and(|options| options.is_bare);
        let made = self.shelves.models.make(name, options)?;
        Ok(if made.is_ours && !is_bare {
            resilient(made.thing)
        } else {
            made.thing
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.vendors()).finish()
    }
}

/// The model of a name such as `anthropic/claude-sonnet-5`, its key read from the environment.
///
/// # Errors
/// As [`Registry::model`].
pub fn model(name: &str) -> Result<Arc<dyn ChatModel>> {
    Registry::global().model(name)
}

#[cfg(test)]
mod tests {
    use super::Registry;
    use crate::Scripted;
    use std::sync::Arc;

    #[test]
    fn the_vendor_ends_at_the_first_separator_and_the_model_may_contain_more() {
        let registry = Registry::new();
        registry.register("acme", |model| Ok(Arc::new(Scripted::new().named("acme", model))));
        for (name, model) in [
            ("acme/m", "m"),
            ("acme:m", "m"),
            ("acme/org/m:8b", "org/m:8b"),
            ("acme:org/m", "org/m"),
            (" acme/m ", "m"),
        ] {
            assert_eq!(registry.model(name).expect(name).info().model, model);
        }
        for name in ["", "acme", "acme/", "/m", ":m"] {
            assert_eq!(registry.model(name).expect_err(name).code(), "invalid_input");
        }
    }

    #[test]
    fn an_unknown_vendor_is_told_with_the_known_ones() {
        let registry = Registry::new();
        registry.register("acme", |_| Ok(Arc::new(Scripted::new())));
        let error = registry.model("acne/m").expect_err("a slip");
        assert_eq!(error.code(), "not_found");
        assert_eq!(
            error.to_string(),
            "there is no model vendor `acne`; known are acme"
        );
    }

    #[cfg(feature = "anthropic")]
    #[test]
    fn a_missing_key_is_told_with_its_variable_when_the_model_is_made() {
        if std::env::var_os("ANTHROPIC_API_KEY").is_some() {
            println!("skipped: 1 (a key is set here)");
            return;
        }
        let error = Registry::with_vendors()
            .model("anthropic/claude-sonnet-5")
            .expect_err("no key");
        assert_eq!(error.code(), "missing_key");
        assert!(error.to_string().contains("ANTHROPIC_API_KEY"));
    }
}
