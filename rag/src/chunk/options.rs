//! How long a chunk may be.

use stepwell_core::{EmbedderInfo, Error, Result};

/// Limits of a chunk. The defaults fit embedders that read 256 tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkOptions {
    /// Most tokens the embedder reads of one chunk, all included: 256.
    pub max_tokens: usize,
    /// Tokens the embedder adds by itself, at start and end: 2.
    pub special_tokens: usize,
    /// Tokens kept free for a header that is embedded with the words, such as title and headings: 0.
    pub header_tokens: usize,
    /// Most tokens that a chunk repeats of the one before, from a sentence's start: 32.
    pub overlap_tokens: usize,
    /// Most bytes of a chunk, for text whose tokens are very long or that is all space: 8 KiB. Only where this is
    /// reached, a token is cut.
    pub max_bytes: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            special_tokens: 2,
            header_tokens: 0,
            overlap_tokens: 32,
            max_bytes: 8 << 10,
        }
    }
}

impl ChunkOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults, shorter where the embedder reads less.
    pub fn for_embedder(info: &EmbedderInfo) -> Self {
        let mut options = Self::default();
        options.max_tokens = options.max_tokens.min(info.max_input_tokens);
        options.overlap_tokens = options.overlap_tokens.min(options.max_tokens / 8);
        options
    }

    /// With another limit, in tokens, all included.
    pub fn with_max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// With another number of tokens that the embedder adds.
    pub fn with_special_tokens(mut self, special_tokens: usize) -> Self {
        self.special_tokens = special_tokens;
        self
    }

    /// With room for a header.
    pub fn with_header_tokens(mut self, header_tokens: usize) -> Self {
        self.header_tokens = header_tokens;
        self
    }

    /// With another overlap; 0 for none.
    pub fn with_overlap_tokens(mut self, overlap_tokens: usize) -> Self {
        self.overlap_tokens = overlap_tokens;
        self
    }

    /// With another limit in bytes.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Tokens left for the words of a chunk.
    pub fn budget(&self) -> usize {
        self.max_tokens
            .saturating_sub(self.special_tokens)
            .saturating_sub(self.header_tokens)
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = if self.budget() < 8 {
            format!(
                "{} tokens less {} special and {} of header leave {}; leave at least 8",
                self.max_tokens,
                self.special_tokens,
                self.header_tokens,
                self.budget()
            )
        } else if self.overlap_tokens > self.budget() / 2 {
            format!(
                "an overlap of {} is more than half of the {} tokens of a chunk; use less",
                self.overlap_tokens,
                self.budget()
            )
        } else if self.max_bytes < 64 {
            format!(
                "{} bytes are too few for a chunk; use at least 64",
                self.max_bytes
            )
        } else {
            return Ok(());
        };
        Err(Error::invalid("chunk options", fault))
    }
}
