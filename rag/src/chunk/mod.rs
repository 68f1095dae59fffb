//! [`Chunker`]: documents in pieces that an embedder reads whole, cut where a reader would pause.

mod cut;
mod meaning;
mod options;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use stepwell_core::{Chunk, Document, Embedder, Error, Result, TokenCounter};

use self::cut::Cut;
pub use self::options::{ChunkOptions, ChunkStyle};
use crate::collection::Chunking;

/// Raised when the same text would be cut otherwise.
const VERSION: u32 = 1;

/// Cuts documents. Every byte of a text lies in some chunk, in order; a chunk is `text[span]`, exactly, never cut
/// inside a character, and inside a token only where [`ChunkOptions::max_bytes`] asks for it.
///
/// It breaks at a heading, else at a blank line, a sentence's end, a space, a token, in this order, unless another
/// [`ChunkStyle`] is chosen. A heading stays with its section.
#[derive(Clone, Debug)]
pub struct Chunker {
    options: ChunkOptions,
    counter: Arc<dyn TokenCounter>,
}

impl Chunker {
    /// A chunker that counts as this counter does.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stepwell_core::{Document, HeuristicTokens};
    /// use stepwell_rag::{ChunkOptions, Chunker};
    /// let chunker = Chunker::new(ChunkOptions::default(), Arc::new(HeuristicTokens))?;
    /// let note = Document::new("note", "One sentence. Another one.");
    /// assert_eq!(chunker.chunk(&note)?[0].text, note.text);
    /// # Ok::<(), stepwell_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `invalid_input` when the options leave no room for words.
    pub fn new(options: ChunkOptions, counter: Arc<dyn TokenCounter>) -> Result<Self> {
        options.check()?;
        Ok(Self { options, counter })
    }

    /// A chunker whose chunks this embedder reads whole, counted as it counts.
    ///
    /// # Errors
    /// `invalid_input` when the embedder reads less than a chunk needs.
    pub fn for_embedder(embedder: &dyn Embedder) -> Result<Self> {
        Self::new(ChunkOptions::for_embedder(embedder.info()), embedder.tokens())
    }

    /// Its options.
    pub fn options(&self) -> &ChunkOptions {
        &self.options
    }

    /// The chunks of a document, in order; none for an empty text.
    ///
    /// # Errors
    /// `limit_exceeded` for more chunks than numbers.
    pub fn chunk(&self, document: &Document) -> Result<Vec<Chunk>> {
        self.chunk_at(document, Vec::new())
    }

    /// The chunks of a document that begins a new one at each of these places, where there is enough before it.
    fn chunk_at(&self, document: &Document, turns: Vec<usize>) -> Result<Vec<Chunk>> {
        let spans = self.spans(document, turns);
        let mut chunks = Vec::with_capacity(spans.len());
        for (number, span) in spans.into_iter().enumerate() {
            let number = u32::try_from(number).map_err(|_| Error::LimitExceeded {
                what: format!("the number of chunks of `{}`", document.id),
                limit: u32::MAX.to_string(),
            })?;
            chunks.push(Chunk::of(document, number, span)?);
        }
        Ok(chunks)
    }

    fn spans(&self, document: &Document, turns: Vec<usize>) -> Vec<Range<usize>> {
        let text = document.text.as_str();
        let mut cut = Cut::new(self, document, turns);
        let mut spans = Vec::new();
        let (mut start, mut covered) = (0, 0);
        while covered < text.len() {
            let end = cut.end(start, covered);
            spans.push(start..end);
            start = if end < text.len() {
                cut.overlap(start, end)
            } else {
                end
            };
            covered = end;
        }
        spans
    }

    /// Title and headings of a chunk in one line, as far as they fit; empty without room for them.
    fn header(&self, chunk: &Chunk) -> String {
        let room = self.options.header_tokens;
        if room == 0 {
            return String::new();
        }
        let title = chunk
            .title
            .as_ref()
            .filter(|title| chunk.headings.first() != Some(title));
        let mut parts: Vec<&str> = title
            .into_iter()
            .chain(&chunk.headings)
            .map(String::as_str)
            .collect();
        // The lowest heading says most of the chunk.
        while parts.len() > 1 && self.counter.count(&parts.join(" › ")) > room {
            parts.remove(0);
        }
        let mut header = parts.join(" › ");
        let spans = self.counter.spans(&header);
        if let Some(over) = spans.get(room)
            && header.is_char_boundary(over.start)
        {
            header.truncate(over.start);
        }
        // A tokeniser may count the pieces of a cut word higher.
        while self.counter.count(&header) > room {
            header.pop();
        }
        header
    }
}

impl Chunking for Chunker {
    fn chunk(&self, document: &Document) -> Result<Vec<Chunk>> {
        Chunker::chunk(self, document)
    }

    fn probes(&self, document: &Document) -> Vec<Range<usize>> {
        match self.options.style {
            ChunkStyle::Meaning { .. } => meaning::probes(&document.text),
            _ => Vec::new(),
        }
    }

    fn chunk_by(&self, document: &Document, vectors: &[Vec<f32>]) -> Result<Vec<Chunk>> {
        let turns = match self.options.style {
            ChunkStyle::Meaning { percentile } => meaning::turns(&document.text, vectors, percentile),
            _ => Vec::new(),
        };
        self.chunk_at(document, turns)
    }

    fn embedded<'a>(&self, chunk: &'a Chunk) -> Cow<'a, str> {
        let header = self.header(chunk);
        if header.is_empty() {
            return Cow::Borrowed(&chunk.text);
        }
        Cow::Owned(format!("{header}\n{}", chunk.text))
    }

    fn fingerprint(&self) -> String {
        let ChunkOptions {
            style,
            max_tokens,
            special_tokens,
            header_tokens,
            overlap_tokens,
            max_bytes,
        } = &self.options;
        let style = style.word();
        format!(
            "chunks/{VERSION}:{max_tokens}:{special_tokens}:{header_tokens}:{overlap_tokens}:{max_bytes}{style}"
        )
    }
}
