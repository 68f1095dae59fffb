//! [`Registry`]: `vendor/model` → a model, and the place where a host adds vendors of its own.

mod outside;
mod vectors;

pub use vectors::{EmbedderFactory, RerankerFactory, embedder, reranker};

use crate::layers::resilient;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};
use stepwell_core::{ChatModel, Error, Result};

/// Makes a model of a vendor by the model's name.
pub type ModelFactory = Arc<dyn Fn(&str) -> Result<Arc<dyn ChatModel>> + Send + Sync>;

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
#[derive(Clone, Default)]
pub struct Registry {
    vendors: Arc<RwLock<BTreeMap<String, ModelFactory>>>,
    /// Those whose models get [`resilient`] around them: what a host registers itself it gives as it wants it.
    resilient: Arc<RwLock<BTreeSet<String>>>,
    embedders: Arc<RwLock<BTreeMap<String, EmbedderFactory>>>,
    rerankers: Arc<RwLock<BTreeMap<String, RerankerFactory>>>,
    /// Patterns for names from outside.
    allowed: Arc<RwLock<Vec<String>>>,
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
        #[cfg(feature = "anthropic")]
        registry.register("anthropic", |model| {
            Ok(Arc::new(crate::Anthropic::new(model).build()?))
        });
        #[cfg(feature = "openai")]
        registry.register("openai", |model| Ok(Arc::new(crate::OpenAi::new(model).build()?)));
        #[cfg(feature = "gemini")]
        for name in ["gemini", "google"] {
            registry.register(name, |model| Ok(Arc::new(crate::Gemini::new(model).build()?)));
        }
        #[cfg(feature = "openai")]
        for row in &crate::openai::compatible::table::ROWS {
            registry.register(row.vendor.name(), |model| {
                Ok(Arc::new(crate::OpenAiCompatible::of_row(row, model).build()?))
            });
        }
        #[cfg(feature = "ollama")]
        registry.register("ollama", |model| Ok(Arc::new(crate::Ollama::new(model).build()?)));
        registry.add_vectors();
        let vendors = registry.vendors();
        registry
            .resilient
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(vendors);
        registry
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
        let vendor = vendor.into();
        self.resilient
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&vendor);
        self.vendors
            .write()
            .unwrap_or_else(PoisonError::into_inner) // a map of functions is whole whoever panicked
            .insert(vendor, Arc::new(factory));
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
        self.register(vendor.clone(), move |model| {
            let builder = crate::OpenAiCompatible::new(vendor.as_str(), base_url.as_str(), model);
            Ok(resilient(builder.quirks(quirks).build()?))
        });
    }

    /// The vendors, sorted.
    pub fn vendors(&self) -> Vec<String> {
        self.vendors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    /// The model of a name such as `anthropic/claude-sonnet-5` or `openai:gpt-6-sol`. The vendor ends at the
    /// first `/` or `:`; the rest is the model's name, whatever it contains. A vendor's model is asked again when
    /// it fails before its first word, and is given thirty minutes in all: [`crate::layers::resilient`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name of another form, [`Error::NotFound`] for an unknown vendor,
    /// [`Error::MissingKey`] where its key is not set.
    pub fn model(&self, name: &str) -> Result<Arc<dyn ChatModel>> {
        let model = self.bare_model(name)?;
        let vendor = name.trim().split(['/', ':']).next().unwrap_or_default();
        let is_resilient = self
            .resilient
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(vendor);
        Ok(if is_resilient { resilient(model) } else { model })
    }

    /// The same model with no layers around it: for a stack of one's own. Each call is one try.
    ///
    /// # Errors
    /// As [`Registry::model`].
    pub fn bare_model(&self, name: &str) -> Result<Arc<dyn ChatModel>> {
        let (vendor, model) = split(name)?;
        let factory = self
            .vendors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(vendor)
            .cloned();
        match factory {
            Some(factory) => factory(model),
            None => Err(Error::NotFound {
                what: "model vendor".to_owned(),
                name: vendor.chars().take(64).collect(),
                hint: format!("known are {}", self.vendors().join(", ")),
            }),
        }
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
