//! [`Dialect`]: who speaks Chat Completions, and how.

use super::compatible::Quirks;
use crate::http::Vendor;
use std::sync::Arc;

/// A vendor and how its wire differs from OpenAI's own.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) quirks: Quirks,
}

impl Dialect {
    /// As in `vendor/model`.
    pub(crate) fn name(&self) -> &str {
        self.vendor.name()
    }

    /// OpenAI's own.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn openai() -> Self {
        Self {
            vendor: Arc::new(super::VENDOR.clone()),
            quirks: Quirks::OPENAI,
        }
    }
}
