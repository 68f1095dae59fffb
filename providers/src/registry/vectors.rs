//! Embedders and rerankers by name, beside the models.

use super::{ModelOptions, Registry};
use std::sync::Arc;
use stepwell_core::{Embedder, Reranker, Result};

impl Registry {
    /// The embedders and rerankers this build has.
    pub(super) fn add_vectors(&self) {
        let (embedders, rerankers) = (&self.shelves.embedders, &self.shelves.rerankers);
        #[cfg(feature = "openai")]
        {
            use crate::{VendorEmbedder, VendorReranker};
            embedders.add("openai", |model, options| {
                Ok(Arc::new(VendorEmbedder::openai(model).options(options).build()?))
            });
            for vendor in crate::embeddings::COMPATIBLE {
                embedders.add(vendor, move |model, options| {
                    let builder = VendorEmbedder::of_vendor(vendor, model)?;
                    Ok(Arc::new(builder.options(options).build()?))
                });
            }
            for vendor in ["llamacpp", "openrouter", "together", "vllm"] {
                rerankers.add(vendor, move |model, options| {
                    let builder = VendorReranker::of_vendor(vendor, model)?;
                    Ok(Arc::new(builder.options(options).build()?))
                });
            }
        }
        #[cfg(feature = "gemini")]
        for name in ["gemini", "google"] {
            embedders.add(name, |model, options| {
                let builder = crate::VendorEmbedder::gemini(model);
                Ok(Arc::new(builder.options(options).build()?))
            });
        }
        #[cfg(feature = "voyage")]
        {
            embedders.add("voyage", |model, options| {
                let builder = crate::VendorEmbedder::voyage(model);
                Ok(Arc::new(builder.options(options).build()?))
            });
            rerankers.add("voyage", |model, options| {
                let builder = crate::VendorReranker::voyage(model);
                Ok(Arc::new(builder.options(options).build()?))
            });
        }
        #[cfg(feature = "cohere")]
        {
            embedders.add("cohere", |model, options| {
                let builder = crate::VendorEmbedder::cohere(model);
                Ok(Arc::new(builder.options(options).build()?))
            });
            rerankers.add("cohere", |model, options| {
                let builder = crate::VendorReranker::cohere(model);
                Ok(Arc::new(builder.options(options).build()?))
            });
        }
        #[cfg(feature = "ollama")]
        embedders.add("ollama", |model, options| {
            let builder = crate::VendorEmbedder::ollama(model);
            Ok(Arc::new(builder.options(options).build()?))
        });
        #[cfg(feature = "minilm")]
        embedders.add_host("minilm", |_| Ok(Arc::new(crate::MiniLm::new()?)));
        let _ = (embedders, rerankers); // a build may have none
    }

    /// Adds a vendor of embedders, or takes the place of one.
    pub fn register_embedder(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<dyn Embedder>> + Send + Sync + 'static,
    ) {
        self.shelves.embedders.add_host(vendor, factory);
    }

    /// Adds a vendor of rerankers, or takes the place of one.
    pub fn register_reranker(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<dyn Reranker>> + Send + Sync + 'static,
    ) {
        self.shelves.rerankers.add_host(vendor, factory);
    }

    /// The vendors of embedders, sorted.
    pub fn embedding_vendors(&self) -> Vec<String> {
        self.shelves.embedders.vendors()
    }

    /// The vendors of rerankers, sorted.
    pub fn rerank_vendors(&self) -> Vec<String> {
        self.shelves.rerankers.vendors()
    }

    /// The embedder of a name such as `voyage/voyage-4` or `openai:text-embedding-3-small`.
    ///
    /// # Errors
    /// [`stepwell_core::Error::InvalidInput`] for a name of another form and for a model whose width nobody knows,
    /// [`stepwell_core::Error::NotFound`] for an unknown vendor, [`stepwell_core::Error::MissingKey`] where its key is not set.
    pub fn embedder(&self, name: &str) -> Result<Arc<dyn Embedder>> {
        Ok(self.shelves.embedders.make(name, None)?.thing)
    }

    /// The same with a key, an address, timers, headers or a width of the program's own.
    ///
    /// # Errors
    /// As [`Registry::embedder`], and [`stepwell_core::Error::Unsupported`] for what runs in process or was registered by the host.
    pub fn embedder_with(&self, name: &str, options: ModelOptions) -> Result<Arc<dyn Embedder>> {
        Ok(self.shelves.embedders.make(name, Some(options))?.thing)
    }

    /// The reranker of a name such as `voyage/rerank-2.5` or `cohere/rerank-v4.0-pro`.
    ///
    /// # Errors
    /// As [`Registry::embedder`].
    pub fn reranker(&self, name: &str) -> Result<Arc<dyn Reranker>> {
        Ok(self.shelves.rerankers.make(name, None)?.thing)
    }

    /// The same with a key, an address, timers or headers of the program's own.
    ///
    /// # Errors
    /// As [`Registry::embedder_with`].
    pub fn reranker_with(&self, name: &str, options: ModelOptions) -> Result<Arc<dyn Reranker>> {
        Ok(self.shelves.rerankers.make(name, Some(options))?.thing)
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
