//! How long a chunk may be.

use stepwell_core::{EmbedderInfo, Error, Result};

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkStyle {
    /// At a heading, else a blank line, a sentence's end, a space, a token, in this order. The default.
    #[default]
    Structure,
    /// At a sentence's end, else a space, a token; headings and blank lines are not looked at.
    Sentences,
    /// At tokens alone: chunks of one length.
    Tokens,
    /// As [`ChunkStyle::Structure`], and where the meaning turns: between sentences whose vectors are further apart than
    /// those of most of the document's. The collection's embedder reads the document once more for it.
    Meaning {
        /// Which share of the document's turns is none, in percent; 90 cuts at a tenth of its sentences.
        percentile: u8,
    },
}

impl ChunkStyle {
    /// Its word in a fingerprint; the first style has none, for it came first.
    pub(super) fn word(self) -> String {
        match self {
            Self::Structure => String::new(),
            Self::Sentences => ":sentences".to_owned(),
            Self::Tokens => ":tokens".to_owned(),
            Self::Meaning { percentile } => format!(":meaning{percentile}"),
        }
    }
}

/// Limits of a chunk. The defaults fit embedders that read 256 tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkOptions {
    /// Where a text may be cut: by its structure.
    pub style: ChunkStyle,
    /// Most tokens the embedder reads of one chunk, all included: 256.
    pub max_tokens: usize,
    /// Tokens the embedder adds by itself, at start and end: 2.
    pub special_tokens: usize,
    /// Most tokens of a header, title and headings, that is embedded above the words and not shown: 0, none. Title and
    /// headings are found by their words whatever it says.
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
            style: ChunkStyle::Structure,
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

    /// Cut at other places.
    pub fn with_style(mut self, style: ChunkStyle) -> Self {
        self.style = style;
        self
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

    /// Embeds title and headings above the words of each chunk, as far as they have so many tokens; the words get that much
    /// less room.
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
        } else if let ChunkStyle::Meaning { percentile } = self.style
            && percentile > 100
        {
            format!("a percentile of {percentile} is more than 100")
        } else {
            return Ok(());
        };
        Err(Error::invalid("chunk options", fault))
    }
}
