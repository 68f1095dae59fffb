//! [`rules_of`]: the rules of the wire that a vendor's model is asked over.

use super::Rules;
use stepwell_core::ModelInfo;

/// The rules of a model's wire, by its vendor; `None` for a vendor this build does not know.
pub fn rules_of(info: &ModelInfo) -> Option<Rules> {
    match info.provider.as_str() {
        #[cfg(feature = "anthropic")]
        "anthropic" => Some(crate::anthropic::rules(info)),
        #[cfg(feature = "gemini")]
        "gemini" | "google" | "vertex" => Some(crate::gemini::RULES),
        #[cfg(feature = "ollama")]
        "ollama" => Some(crate::ollama::RULES),
        #[cfg(feature = "openai")]
        _ => crate::openai::rules(info),
        #[cfg(not(feature = "openai"))]
        _ => None,
    }
}
