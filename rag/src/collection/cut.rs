//! [`Chunking`]: how documents are cut; the collection takes any.

use std::fmt::Debug;

use stepwell_core::{Chunk, Document, Result};

/// Cuts documents into chunks.
pub trait Chunking: Send + Sync + Debug {
    /// The chunks of a document in order, numbered from 0; none for a document without text.
    ///
    /// # Errors
    /// Whatever keeps a document from being cut; it stops the `add`.
    fn chunk(&self, document: &Document) -> Result<Vec<Chunk>>;

    /// A word that changes when the same document would be cut otherwise: then it is indexed again.
    fn fingerprint(&self) -> String;
}

/// Each document is one chunk: for texts that are short by nature, such as abstracts or messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeDocuments;

impl Chunking for WholeDocuments {
    fn chunk(&self, document: &Document) -> Result<Vec<Chunk>> {
        if document.text.trim().is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Chunk::of(document, 0, 0..document.text.len())?])
    }

    fn fingerprint(&self) -> String {
        "whole/1".to_owned()
    }
}
