//! [`Embedder`]: text → vector.

use crate::{Cost, Result, TokenCounter, Usage, Warning};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, sync::Arc};

/// What a text is for: some models embed questions and passages differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedKind {
    /// A question.
    Query,
    /// A passage to be found.
    Document,
}

/// What an embedder makes. Two embedders with equal [`EmbedderInfo::fingerprint`]s make comparable vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbedderInfo {
    /// The vendor, or `minilm` for the one in process.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Which build of the model's weights, where it can be told.
    pub revision: String,
    /// Length of a vector.
    pub dimension: usize,
    /// Longest input in tokens; longer text is cut by the model, so chunks stay below it.
    pub max_input_tokens: usize,
    /// Whether vectors have length 1.
    pub is_normalized: bool,
    /// What else changes the vectors, such as the vendor's words for question and passage or a coarser number
    /// format; empty where nothing does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
}

impl EmbedderInfo {
    /// All facts.
    pub fn new(
        provider: impl Into<String>,
        model: impl Into<String>,
        revision: impl Into<String>,
        dimension: usize,
        max_input_tokens: usize,
        is_normalized: bool,
    ) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            revision: revision.into(),
            dimension,
            max_input_tokens,
            is_normalized,
            settings: String::new(),
        }
    }

    /// With what else changes the vectors.
    pub fn settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = settings.into();
        self
    }

    /// A word that a collection pins; vectors of another one are refused.
    pub fn fingerprint(&self) -> String {
        let kind = if self.is_normalized { "unit" } else { "raw" };
        let mut word = format!(
            "{}/{}@{}:{}:{kind}",
            self.provider, self.model, self.revision, self.dimension
        );
        if !self.settings.is_empty() {
            word.push(':');
            word.push_str(&self.settings);
        }
        word
    }
}

/// Vectors of a batch, row by row in the order of the texts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Embeddings {
    /// Length of a row.
    pub dimension: usize,
    /// All rows, one after another.
    pub values: Vec<f32>,
    /// Tokens read, where known.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
    /// What was not done as asked, such as a text that was cut.
    pub warnings: Vec<Warning>,
}

impl Embeddings {
    /// From rows laid one after another.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the length is not a multiple of the dimension.
    pub fn new(dimension: usize, values: Vec<f32>, usage: Usage) -> Result<Self> {
        if dimension == 0 || !values.len().is_multiple_of(dimension) {
            return Err(crate::Error::invalid(
                "embeddings",
                format!(
                    "{} values are no whole number of rows of {dimension}",
                    values.len()
                ),
            ));
        }
        Ok(Self {
            dimension,
            values,
            usage,
            cost: None,
            warnings: Vec::new(),
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dimension).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension.max(1))
    }
}

/// Turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync + Debug {
    /// What it makes.
    fn info(&self) -> &EmbedderInfo;

    /// One vector per text, in order. Batching to the vendor's or the machine's taste is the embedder's task;
    /// dropping the future stops it at the next batch.
    async fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Embeddings>;

    /// Counts as this embedder's own tokeniser does: what a chunker needs.
    fn tokens(&self) -> Arc<dyn TokenCounter>;
}

#[cfg(test)]
mod tests {
    use super::EmbedderInfo;

    #[test]
    fn settings_are_part_of_the_fingerprint_and_none_leave_it_as_it_was() {
        let info = EmbedderInfo::new("acme", "m", "r1", 8, 256, true);
        assert_eq!(info.fingerprint(), "acme/m@r1:8:unit");
        let info = info.settings("query+document");
        assert_eq!(info.fingerprint(), "acme/m@r1:8:unit:query+document");
    }
}
