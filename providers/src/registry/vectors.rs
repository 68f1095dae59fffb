//! Embedders and rerankers by name, beside the models.

use super::{Registry, split};
use std::sync::{Arc, PoisonError};
use stepwell_core::{Embedder, Error, Reranker, Result};

/// Makes an embedder of a vendor by the model's name.
pub type EmbedderFactory = Arc<dyn Fn(&str) -> Result<Arc<dyn Embedder>> + Send + Sync>;
/// Makes a reranker of a vendor by the model's name.
pub type RerankerFactory = Arc<dyn Fn(&str) -> Result<Arc<dyn Reranker>> + Send + Sync>;

impl Registry {
    /// The embedders and rerankers this build has.
    pub(super) fn add_vectors(&self) {
        #[cfg(feature = "openai")]
        {
            use crate::{VendorEmbedder, VendorReranker};
            self.register_embedder("openai", |model| {
                Ok(Arc::new(VendorEmbedder::openai(model).build()?))
            });
            for vendor in crate::embeddings::COMPATIBLE {
                self.register_embedder(vendor, move |model| {
                    Ok(Arc::new(VendorEmbedder::of_vendor(vendor, model)?.build()?))
                });
            }
            for vendor in ["llamacpp", "openrouter", "together", "vllm"] {
                self.register_reranker(vendor, move |model| {
                    Ok(Arc::new(VendorReranker::of_vendor(vendor, model)?.build()?))
                });
            }
        }
        #[cfg(feature = "gemini")]
        for name in ["gemini", "google"] {
            self.register_embedder(name, |model| {
                Ok(Arc::new(crate::VendorEmbedder::gemini(model).build()?))
            });
        }
        #[cfg(feature = "voyage")]
        {
            self.register_embedder("voyage", |model| {
                Ok(Arc::new(crate::VendorEmbedder::voyage(model).build()?))
            });
            self.register_reranker("voyage", |model| {
                Ok(Arc::new(crate::VendorReranker::voyage(model).build()?))
            });
        }
        #[cfg(feature = "cohere")]
        {
            self.register_embedder("cohere", |model| {
                Ok(Arc::new(crate::VendorEmbedder::cohere(model).build()?))
            });
            self.register_reranker("cohere", |model| {
                Ok(Arc::new(crate::VendorReranker::cohere(model).build()?))
            });
        }
        #[cfg(feature = "ollama")]
        self.register_embedder("ollama", |model| {
            Ok(Arc::new(crate::VendorEmbedder::ollama(model).build()?))
        });
        #[cfg(feature = "minilm")]
        self.register_embedder("minilm", |_| Ok(Arc::new(crate::MiniLm::new()?)));
    }

    /// Adds a vendor of embedders, or takes the place of one.
    pub fn register_embedder(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<dyn Embedder>> + Send + Sync + 'static,
    ) {
        self.embedders
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(vendor.into(), Arc::new(factory));
    }

    /// Adds a vendor of rerankers, or takes the place of one.
    pub fn register_reranker(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<dyn Reranker>> + Send + Sync + 'static,
    ) {
        self.rerankers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(vendor.into(), Arc::new(factory));
    }

    /// The embedder of a name such as `voyage/voyage-4` or `openai:text-embedding-3-small`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name of another form and for a model whose width nobody knows,
    /// [`Error::NotFound`] for an unknown vendor, [`Error::MissingKey`] where its key is not set.
    pub fn embedder(&self, name: &str) -> Result<Arc<dyn Embedder>> {
        let (vendor, model) = split(name)?;
        let known = self.embedders.read().unwrap_or_else(PoisonError::into_inner);
        let factory = known.get(vendor).cloned();
        let factory = factory.ok_or_else(|| unknown("embedding vendor", vendor, known.keys()))?;
        drop(known);
        factory(model)
    }

    /// The reranker of a name such as `voyage/rerank-2.5` or `cohere/rerank-v4.0-pro`.
    ///
    /// # Errors
    /// As [`Registry::embedder`].
    pub fn reranker(&self, name: &str) -> Result<Arc<dyn Reranker>> {
        let (vendor, model) = split(name)?;
        let known = self.rerankers.read().unwrap_or_else(PoisonError::into_inner);
        let factory = known.get(vendor).cloned();
        let factory = factory.ok_or_else(|| unknown("rerank vendor", vendor, known.keys()))?;
        drop(known);
        factory(model)
    }
}

/// A vendor that is not there, with those that are.
pub(super) fn unknown<'a>(what: &str, vendor: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: Vec<&str> = known.map(String::as_str).collect();
    Error::NotFound {
        what: what.to_owned(),
        name: vendor.chars().take(64).collect(),
        hint: format!("known are {}", known.join(", ")),
    }
}

/// The embedder of a name such as `voyage/voyage-4`, its key read from the environment.
///
/// # Errors
/// As [`Registry::embedder`].
pub fn embedder(name: &str) -> Result<Arc<dyn Embedder>> {
    Registry::global().embedder(name)
}

/// The reranker of a name such as `voyage/rerank-2.5`, its key read from the environment.
///
/// # Errors
/// As [`Registry::reranker`].
pub fn reranker(name: &str) -> Result<Arc<dyn Reranker>> {
    Registry::global().reranker(name)
}

#[cfg(test)]
mod tests {
    use crate::Registry;

    #[test]
    fn embedders_and_rerankers_are_found_by_name_and_a_slip_is_told_with_the_known_vendors() {
        let registry = Registry::with_vendors();
        #[cfg(feature = "openai")]
        {
            let error = registry.embedder("vllm/unknown-width").expect_err("no width");
            assert_eq!(error.code(), "invalid_input");
            assert!(registry.reranker("llamacpp:bge").is_ok());
        }
        #[cfg(feature = "minilm")]
        assert_eq!(
            registry
                .embedder("minilm/all-MiniLM-L6-v2")
                .expect("built in")
                .info()
                .dimension,
            384
        );
        let error = registry.embedder("acne/m").expect_err("a slip");
        assert_eq!(error.code(), "not_found");
        assert_eq!(
            registry.reranker("acne/m").expect_err("a slip").code(),
            "not_found"
        );
        for name in ["", "openai", "openai/", "/m"] {
            assert_eq!(registry.embedder(name).expect_err(name).code(), "invalid_input");
            assert_eq!(registry.reranker(name).expect_err(name).code(), "invalid_input");
        }
    }
}
