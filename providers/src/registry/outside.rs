//! Names that come from outside the program: a request's field, a stored setting, a person.

use super::{Registry, split};
use crate::{Catalogue, catalogue};
use std::sync::{Arc, PoisonError};
use stepwell_core::{ChatModel, Error, ModelInfo, Result};

/// Longest name that is looked at.
const LONGEST_NAME: usize = 256;

impl Registry {
    /// Sets which models a name from outside may mean: whole names or patterns with `*`, such as
    /// `anthropic/claude-*` or `openai/gpt-6-sol`. It takes the place of an earlier list; an empty one allows
    /// nothing. Names of the program's own ([`Registry::model`]) are not asked about.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use stepwell_providers::{Registry, Scripted};
    /// let registry = Registry::new();
    /// registry.register("acme", |model| Ok(Arc::new(Scripted::new().named("acme", model))));
    /// registry.allow(["acme/small-*"]);
    /// assert!(registry.model_from_outside("acme/small-2").is_ok());
    /// assert_eq!(registry.model_from_outside("acme/large").map(drop).unwrap_err().code(), "not_found");
    /// assert!(registry.model("acme/large").is_ok());
    /// ```
    pub fn allow(&self, patterns: impl IntoIterator<Item = impl Into<String>>) {
        let patterns = patterns
            .into_iter()
            .map(|pattern| one_form(&pattern.into()))
            .collect();
        *self
            .shelves
            .allowed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    /// The model of a name that comes from outside, if [`Registry::allow`] lets it through. Until that is called,
    /// nothing is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for whatever is not allowed, alike whether there is such a vendor or not: neither the
    /// list nor the vendors are told. Then as [`Registry::model`].
    pub fn model_from_outside(&self, name: &str) -> Result<Arc<dyn ChatModel>> {
        let name = one_form(name.trim());
        let is_plain = name.len() <= LONGEST_NAME
            && name.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'@' | b'+')
            })
            && !name
                .split('/')
                .any(|part| part.is_empty() || part.starts_with('.'));
        let is_allowed = is_plain
            && split(&name).is_ok()
            && self
                .shelves
                .allowed
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|pattern| catalogue::is_match(pattern, &name));
        if !is_allowed {
            return Err(Error::NotFound {
                what: "model".to_owned(),
                // What came from outside is not repeated unless it is a plain name.
                name: if is_plain {
                    name.chars().take(64).collect()
                } else {
                    "…".to_owned()
                },
                hint: "choose one that this program offers".to_owned(),
            });
        }
        self.model(&name)
    }

    /// The chat models that the catalogue knows of the vendors here, with what is known of them and the price of
    /// today. A vendor may have others: an unknown model works too.
    ///
    /// # Errors
    /// As [`Catalogue::global`].
    pub fn known_models(&self) -> Result<Vec<ModelInfo>> {
        let known = Catalogue::global()?;
        let day = catalogue::today();
        let mut models = Vec::new();
        for vendor in self.vendors() {
            for entry in known.models(&vendor) {
                if entry.kind == crate::ModelKind::Chat {
                    let mut info = entry.info.clone();
                    info.price = entry.price(&day);
                    models.push(info);
                }
            }
        }
        Ok(models)
    }
}

/// `vendor:model` as `vendor/model`: both mean the same and must not pass the list differently.
fn one_form(name: &str) -> String {
    match name.find(['/', ':']) {
        Some(at) => format!("{}/{}", &name[..at], &name[at + 1..]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Registry, Scripted};
    use std::sync::Arc;

    fn registry() -> Registry {
        let registry = Registry::new();
        for vendor in ["acme", "other"] {
            registry.register(vendor, move |model| {
                Ok(Arc::new(Scripted::new().named(vendor, model)))
            });
        }
        registry
    }

    #[test]
    fn only_what_is_allowed_is_made_and_a_refusal_tells_nothing_of_the_list() {
        let registry = registry();
        let refused = |name: &str| {
            let error = registry.model_from_outside(name).map(drop).expect_err(name);
            assert_eq!(error.code(), "not_found", "{name}");
            error.to_string()
        };
        refused("acme/small");
        registry.allow(["acme/small*", "acme:org/exact"]);
        for name in ["acme/small", "acme:small-2", " acme/small ", "acme/org/exact"] {
            assert!(registry.model_from_outside(name).is_ok(), "{name}");
        }
        let mut told = Vec::new();
        for name in ["acme/large", "other/small", "nobody/small", "acme/org/exact2"] {
            let sentence = refused(name);
            assert!(!sentence.contains("exact`") && !sentence.contains("small*"));
            told.push(sentence.replace(name, ""));
        }
        told.dedup();
        assert_eq!(
            told.len(),
            1,
            "the same sentence whether the vendor exists or not"
        );
        registry.allow(Vec::<String>::new());
        refused("acme/small");
        assert!(
            registry.model("acme/large").is_ok(),
            "the program's own names are its own"
        );
    }

    #[test]
    fn a_name_that_is_no_plain_word_is_refused_and_not_repeated() {
        let registry = registry();
        registry.allow(["*"]);
        for name in [
            "",
            "acme",
            "acme/",
            "acme/../../v1/files",
            "acme/a?key=x",
            "acme/a b",
            "acme/a\ncanary: x",
            "acme//m",
            "acme/é",
        ] {
            let error = registry.model_from_outside(name).map(drop).expect_err(name);
            assert_eq!(error.code(), "not_found", "{name}");
            assert!(!error.to_string().contains("canary"));
        }
        let long = format!("acme/{}", "m".repeat(300));
        assert!(registry.model_from_outside(&long).is_err());
        assert!(registry.model_from_outside("acme/org/m:8b@1").is_ok());
    }

    #[test]
    fn the_known_models_of_a_registry_are_those_of_its_vendors() {
        let registry = registry();
        assert!(registry.known_models().expect("reads").is_empty());
        registry.register("anthropic", |model| {
            Ok(Arc::new(Scripted::new().named("anthropic", model)))
        });
        let known = registry.known_models().expect("reads");
        let sonnet = known
            .iter()
            .find(|info| info.model == "claude-sonnet-5")
            .expect("known");
        assert!(sonnet.price.is_some() && sonnet.context_window.is_some());
        assert!(known.iter().all(|info| info.provider == "anthropic"));
    }
}
