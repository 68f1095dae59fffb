//! [`Chunking`]: how documents are cut; the collection takes any.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

use stepwell_core::{Chunk, Document, Result};

/// Cuts documents into chunks.
pub trait Chunking: Send + Sync + Debug {
    /// The chunks of a document in order, numbered from 0; none for a document without text.
    ///
    /// # Errors
    /// Whatever keeps a document from being cut; it is reported and the other documents go on.
    fn chunk(&self, document: &Document) -> Result<Vec<Chunk>>;

    /// A word that changes when the same document would be cut or embedded otherwise: then it is indexed again.
    fn fingerprint(&self) -> String;

    /// Pieces of the text whose vectors decide where it is cut, in order; none for most. The collection embeds them and
    /// asks [`Chunking::chunk_by`].
    fn probes(&self, document: &Document) -> Vec<Range<usize>> {
        let _ = document;
        Vec::new()
    }

    /// [`Chunking::chunk`], with one vector per probe; called when there are probes.
    ///
    /// # Errors
    /// As [`Chunking::chunk`].
    fn chunk_by(&self, document: &Document, vectors: &[Vec<f32>]) -> Result<Vec<Chunk>> {
        let _ = vectors;
        self.chunk(document)
    }

    /// The words that are embedded for a chunk: its text, perhaps under a header that is not shown.
    fn embedded<'a>(&self, chunk: &'a Chunk) -> Cow<'a, str> {
        Cow::Borrowed(&chunk.text)
    }
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
