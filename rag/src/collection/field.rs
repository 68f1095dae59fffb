//! [`VectorField`]: a second opinion on what chunks mean, with an embedder of its own.

use std::sync::Arc;

use stepwell_core::{Embedder, Error, Result};

use super::embeddings::Shelf;
use super::storage::Storage;
use crate::Metric;
use crate::schema::PinnedVectors;
use crate::vector::format::EXTENSIONS;

/// Longer names are refused.
const MOST_NAME_BYTES: usize = 64;

/// Another vector of every chunk, beside that of [`crate::CollectionBuilder::embedder`]: by another embedder, of another
/// length, compared in another way. A question says with `vector_field` which one it means. Fixed when the index is made.
#[derive(Clone, Debug)]
pub struct VectorField {
    pub(super) name: String,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) metric: Option<Metric>,
    pub(super) storage: Option<Storage>,
}

impl VectorField {
    /// A field with this name, 1 to 64 letters, digits and underscores of ASCII.
    pub fn new(name: impl Into<String>, embedder: Arc<dyn Embedder>) -> Self {
        Self {
            name: name.into(),
            embedder,
            metric: None,
            storage: None,
        }
    }

    /// How its vectors are compared; [`Metric::Cosine`] when not set.
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }

    /// What is kept of its vectors; [`Storage::Int16`] when not set.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    pub(super) fn pinned(&self) -> Result<PinnedVectors> {
        PinnedVectors::new(
            &self.name,
            Some(self.embedder.info()),
            self.metric.unwrap_or_default(),
            self.storage.unwrap_or_default().encoding(),
        )
    }
}

/// Refuses names that cannot be used and fields that are too many.
pub(super) fn check(fields: &[VectorField]) -> Result<()> {
    let most = EXTENSIONS.len() - 1;
    if fields.len() > most {
        return Err(Error::LimitExceeded {
            what: "the number of vector fields".to_owned(),
            limit: format!("{most} beside that of the embedder"),
        });
    }
    for (at, field) in fields.iter().enumerate() {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if field.name.is_empty() || field.name.len() > MOST_NAME_BYTES || !field.name.bytes().all(is_word) {
            return Err(Error::invalid(
                "vector_field",
                format!("name it with 1 to {MOST_NAME_BYTES} letters, digits and underscores of ASCII"),
            ));
        }
        if fields[..at].iter().any(|other| other.name == field.name) {
            return Err(Error::invalid(
                "vector_field",
                format!("`{}` is there twice; give each a name of its own", field.name),
            ));
        }
    }
    Ok(())
}

/// Where a field's vectors come from, as far as this handle knows.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    /// Where they are kept between calls, if anywhere.
    pub(super) shelf: Option<Shelf>,
}
