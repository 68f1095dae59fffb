//! [`Chunker`]: documents in pieces that an embedder reads whole, cut where a reader would pause.

mod meaning;
mod options;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use stepwell_core::{Chunk, Document, Embedder, Error, Result, TokenCounter};
use unicode_segmentation::UnicodeSegmentation;

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
}

impl Chunker {
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

/// The state of cutting one text.
struct Cut<'a> {
    text: &'a str,
    tokens: Vec<Range<usize>>,
    headings: Vec<Range<usize>>,
    /// Places where the meaning turns, in order.
    turns: Vec<usize>,
    style: ChunkStyle,
    counter: &'a dyn TokenCounter,
    budget: usize,
    overlap: usize,
    max_bytes: usize,
}

impl<'a> Cut<'a> {
    fn new(chunker: &'a Chunker, document: &'a Document, turns: Vec<usize>) -> Self {
        let text = document.text.as_str();
        let mut from = 0;
        let mut tokens = chunker.counter.spans(text);
        // A counter of the host's may be careless; what it says is only used where it fits the text.
        tokens.retain(|span| {
            let fits = span.start >= from && span.start < span.end && text.get(span.clone()).is_some();
            if fits {
                from = span.end;
            }
            fits
        });
        let mut from = 0;
        let headings = document.headings.iter().map(|heading| heading.span.clone());
        let style = chunker.options.style;
        let looks_at_headings = matches!(style, ChunkStyle::Structure | ChunkStyle::Meaning { .. });
        let headings = headings
            .filter(|_| looks_at_headings)
            .filter(|span| {
                let fits = span.start >= from && span.start < span.end && text.get(span.clone()).is_some();
                if fits {
                    from = span.end;
                }
                fits
            })
            .collect();
        Self {
            text,
            tokens,
            headings,
            turns,
            style,
            counter: chunker.counter.as_ref(),
            budget: chunker.options.budget(),
            overlap: chunker.options.overlap_tokens,
            max_bytes: chunker.options.max_bytes,
        }
    }

    /// The number of the first token that starts here or later.
    fn token_at(&self, at: usize) -> usize {
        self.tokens.partition_point(|span| span.start < at)
    }

    /// Where the token of this number starts, or the text ends.
    fn start_of(&self, token: usize) -> usize {
        self.tokens.get(token).map_or(self.text.len(), |span| span.start)
    }

    /// The end of the chunk that starts at `start` and must go beyond `covered`.
    fn end(&mut self, start: usize, covered: usize) -> usize {
        let first = self.token_at(start);
        let mut room = self.budget;
        loop {
            let end = self.end_within(start, covered, first, room);
            // Cut inside a word, its halves may count as more tokens than the whole did.
            if room == 1 || (self.is_between_words(start) && self.is_between_words(end)) {
                return end;
            }
            let over = self
                .counter
                .count(&self.text[start..end])
                .saturating_sub(self.budget);
            if over == 0 {
                return end;
            }
            let used = self.token_at(end).saturating_sub(first);
            room = room.min(used).saturating_sub(over).max(1);
        }
    }

    fn end_within(&self, start: usize, covered: usize, first: usize, room: usize) -> usize {
        let by_tokens = self.start_of(first + room);
        let by_bytes = self.text.floor_char_boundary(start + self.max_bytes);
        let limit = by_tokens.min(by_bytes);
        // What is repeated from the chunk before does not count as enough.
        let after = |share: usize| self.start_of(first + room / share).max(covered + 1);
        let breaks = [
            self.heading_break(start, after(4), limit),
            self.turn(start, after(4), limit),
        ];
        if let Some(end) = breaks.into_iter().flatten().min() {
            return end;
        }
        if limit >= self.text.len() {
            return self.text.len();
        }
        let window = covered.max(start)..limit;
        let candidates = match self.style {
            ChunkStyle::Structure | ChunkStyle::Meaning { .. } => [
                self.last_blank_line(&window, after(2)),
                self.last_sentence(&window, after(3)),
                self.last_blank_line(&window, after(4)),
                self.last_word(covered.max(after(8)), limit),
                self.last_token(covered, limit),
            ],
            ChunkStyle::Sentences => [
                self.last_sentence(&window, after(8)),
                self.last_word(covered.max(after(8)), limit),
                self.last_token(covered, limit),
                None,
                None,
            ],
            ChunkStyle::Tokens => [self.last_token(covered, limit), None, None, None, None],
        };
        for end in candidates.into_iter().flatten() {
            if let Some(end) = self.before_headings(start, end).filter(|end| *end > covered) {
                return end;
            }
        }
        if limit > covered && limit > start {
            return limit;
        }
        // One character longer than the limit in bytes.
        let next = covered.max(start);
        next + self.text[next..].chars().next().map_or(0, char::len_utf8)
    }

    /// The first heading that has enough before it.
    fn heading_break(&self, start: usize, least: usize, limit: usize) -> Option<usize> {
        let from = self.headings.partition_point(|span| span.start < least);
        self.headings[from..]
            .iter()
            .take_while(|heading| heading.start <= limit)
            .filter_map(|heading| self.before_headings(start, heading.start))
            .find(|end| *end >= least && *end > start)
    }

    /// The first turn of the meaning that has enough before it; a heading above it goes along.
    fn turn(&self, start: usize, least: usize, limit: usize) -> Option<usize> {
        let from = self.turns.partition_point(|at| *at < least);
        self.turns[from..]
            .iter()
            .take_while(|at| **at <= limit && **at < self.text.len())
            .filter(|at| self.text.is_char_boundary(**at))
            .filter_map(|at| self.before_headings(start, *at))
            .find(|end| *end >= least && *end > start)
    }

    /// Moves an end before headings that would stand last in the chunk without their section; `None` when the chunk
    /// holds nothing but headings.
    fn before_headings(&self, start: usize, end: usize) -> Option<usize> {
        let mut end = end;
        let mut next = self.headings.partition_point(|span| span.start < end);
        while next > 0 {
            let heading = &self.headings[next - 1];
            let is_last = heading.end >= end || self.text[heading.end..end].trim().is_empty();
            if !is_last || heading.start < start {
                break;
            }
            end = heading.start;
            next -= 1;
        }
        (end > start).then_some(end)
    }

    /// Behind the last blank line that ends at `least` or later.
    fn last_blank_line(&self, window: &Range<usize>, least: usize) -> Option<usize> {
        let mut until = window.end;
        while let Some(at) = self.text[window.start..until].rfind("\n\n") {
            let end = self.past_space(window.start + at, window.end);
            if end < least {
                return None;
            }
            if end <= window.end && self.token_at(end) > 0 {
                return Some(end);
            }
            until = window.start + at;
        }
        None
    }

    /// The end of the white space that starts here, if it ends in the window; else the window's end.
    fn past_space(&self, at: usize, limit: usize) -> usize {
        let rest = &self.text[at..limit];
        // Line by line: the indentation of the next line belongs to it.
        let space = rest.len() - rest.trim_start().len();
        match rest[..space].rfind('\n') {
            Some(line) => at + line + 1,
            None => at + space,
        }
    }

    fn last_sentence(&self, window: &Range<usize>, least: usize) -> Option<usize> {
        let sentences = self.text[window.clone()].split_sentence_bound_indices();
        // The last piece of a window is rarely whole.
        sentences
            .map(|(at, _)| window.start + at)
            .filter(|end| *end >= least)
            .last()
    }

    /// The start of the last token in the window that follows a space.
    fn last_word(&self, least: usize, limit: usize) -> Option<usize> {
        let from = self.token_at(limit + 1);
        self.tokens[..from]
            .iter()
            .rev()
            .map(|span| span.start)
            .take_while(|start| *start >= least)
            .find(|start| self.is_between_words(*start))
    }

    fn last_token(&self, covered: usize, limit: usize) -> Option<usize> {
        let from = self.token_at(limit + 1);
        self.tokens[..from]
            .last()
            .map(|span| span.start)
            .filter(|start| *start > covered)
    }

    fn is_between_words(&self, at: usize) -> bool {
        let before = self.text[..at].chars().next_back();
        let after = self.text[at..].chars().next();
        before.is_none_or(char::is_whitespace) || after.is_none_or(char::is_whitespace)
    }

    /// Where the chunk after `start..end` starts: at a sentence or paragraph of its last words, or at its end.
    fn overlap(&self, start: usize, end: usize) -> usize {
        let is_heading = self
            .headings
            .binary_search_by_key(&end, |span| span.start)
            .is_ok();
        if self.overlap == 0 || is_heading || self.turns.binary_search(&end).is_ok() {
            return end;
        }
        if self.style == ChunkStyle::Tokens {
            // No sentence to begin at: so many tokens, as long as there is room for new ones.
            let from = self.start_of(self.token_at(end).saturating_sub(self.overlap));
            let fits = from > start && end.saturating_sub(from) <= self.max_bytes / 2;
            return if fits { from.min(end) } else { end };
        }
        let last = self.token_at(end);
        let from = self.start_of(last.saturating_sub(self.overlap)).max(start + 1);
        // Sentences are found from some way before, so that the first start is a true one.
        let look = self.start_of(last.saturating_sub(self.overlap * 4)).max(start);
        if look >= end {
            return end;
        }
        let sentences = self.text[look..end].split_sentence_bound_indices();
        // What is repeated leaves room for what is new.
        let starts = sentences.map(|(at, _)| look + at);
        starts
            .into_iter()
            .find(|at| *at >= from && *at > start && end - at <= self.max_bytes / 2)
            .unwrap_or(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stepwell_core::{Heading, HeuristicTokens};

    fn chunker(max_tokens: usize, overlap: usize) -> Chunker {
        let options = ChunkOptions::new()
            .with_max_tokens(max_tokens)
            .with_overlap_tokens(overlap);
        Chunker::new(options, Arc::new(HeuristicTokens)).expect("room")
    }

    fn texts(chunks: &[Chunk]) -> Vec<&str> {
        chunks.iter().map(|chunk| chunk.text.as_str()).collect()
    }

    #[test]
    fn a_short_text_is_one_chunk_and_an_empty_one_is_none() {
        let chunker = chunker(256, 32);
        assert_eq!(
            texts(&chunker.chunk(&Document::new("a", " One. Two.\n")).expect("cut")),
            [" One. Two.\n"]
        );
        assert!(chunker.chunk(&Document::new("a", "")).expect("cut").is_empty());
    }

    #[test]
    fn it_breaks_at_blank_lines_then_sentences_then_words() {
        let document = Document::new(
            "a",
            "One two three four five six.\n\nSeven eight nine ten eleven. Twelve is the next.\n\nEnd.",
        );
        let chunks = chunker(12, 0).chunk(&document).expect("cut");
        assert_eq!(
            texts(&chunks),
            [
                "One two three four five six.\n\n",
                "Seven eight nine ten eleven. ",
                "Twelve is the next.\n\nEnd."
            ]
        );
        let long = "word ".repeat(30);
        for chunk in chunker(12, 0).chunk(&Document::new("a", long)).expect("cut") {
            assert_eq!(chunk.text, "word ".repeat(10), "ten tokens, cut at spaces");
        }
    }

    #[test]
    fn a_heading_starts_a_chunk_and_is_never_its_last_line() {
        let text = "# One\n\nThe first part has some words in it, more than a few.\n\n# Two\n\n## Inner\n\nThe second part has words as well.\n";
        let mut document = Document::new("a", text);
        for (level, line) in [(1, "# One"), (1, "# Two"), (2, "## Inner")] {
            let at = text.find(line).expect("there");
            document.headings.push(Heading::new(
                level,
                line.trim_start_matches(['#', ' ']),
                at..at + line.len(),
            ));
        }
        for max_tokens in 10..60 {
            let chunks = chunker(max_tokens, 0).chunk(&document).expect("cut");
            for chunk in &chunks {
                let last = chunk.text.trim_end().lines().last().unwrap_or_default();
                assert!(!last.starts_with('#'), "{max_tokens}: {:?}", texts(&chunks));
            }
            let two = chunks
                .iter()
                .find(|chunk| chunk.text.contains("# Two"))
                .expect("covered");
            if max_tokens == 24 {
                assert!(
                    two.text.starts_with("# Two"),
                    "{max_tokens}: {:?}",
                    texts(&chunks)
                );
                assert_eq!(two.headings, ["Two"]);
            }
        }
    }

    #[test]
    fn a_chunk_repeats_the_last_sentence_before_it() {
        let document = Document::new(
            "a",
            "Alpha beta gamma delta. Short one. Another sentence follows here now. Last words stand here.",
        );
        let chunks = chunker(12, 5).chunk(&document).expect("cut");
        assert_eq!(chunks[0].text, "Alpha beta gamma delta. Short one. ");
        assert!(
            chunks[1].text.starts_with("Short one. Another"),
            "{:?}",
            texts(&chunks)
        );
    }

    #[test]
    fn options_that_leave_no_room_are_refused() {
        for options in [
            ChunkOptions::new().with_max_tokens(9),
            ChunkOptions::new().with_header_tokens(250),
            ChunkOptions::new().with_overlap_tokens(200),
            ChunkOptions::new().with_max_bytes(10),
        ] {
            let error = Chunker::new(options, Arc::new(HeuristicTokens)).expect_err("no room");
            assert_eq!(error.code(), "invalid_input");
        }
    }

    #[test]
    fn thirty_megabytes_without_a_space_are_cut_by_bytes() {
        #[derive(Debug)]
        struct OneToken;
        impl TokenCounter for OneToken {
            fn spans(&self, text: &str) -> Vec<Range<usize>> {
                std::iter::once(0..text.len()).collect()
            }
        }
        let chunker = Chunker::new(ChunkOptions::default(), Arc::new(OneToken)).expect("room");
        let document = Document::new("a", "ä".repeat(15 << 20));
        let chunks = chunker.chunk(&document).expect("cut");
        assert_eq!(chunks.len(), (30 << 20) / (8 << 10));
    }

    fn styled(style: ChunkStyle, max_tokens: usize, overlap: usize) -> Chunker {
        let options = ChunkOptions::new()
            .with_style(style)
            .with_max_tokens(max_tokens)
            .with_overlap_tokens(overlap);
        Chunker::new(options, Arc::new(HeuristicTokens)).expect("room")
    }

    #[test]
    fn each_style_cuts_at_its_own_places() {
        let text =
            "# One\n\nAlpha beta gamma. Delta eta\n\n# Two\n\ntheta. Iota kappa lambda mu nu xi omicron. Pi.";
        let mut document = Document::new("a", text);
        for line in ["# One", "# Two"] {
            let at = text.find(line).expect("there");
            document
                .headings
                .push(Heading::new(1, &line[2..], at..at + line.len()));
        }
        let cut = |style| {
            let chunks = styled(style, 14, 0).chunk(&document).expect("cut");
            chunks.into_iter().map(|chunk| chunk.text).collect::<Vec<_>>()
        };
        let structure = cut(ChunkStyle::Structure);
        assert!(structure[1].starts_with("# Two"), "{structure:?}");
        let sentences = cut(ChunkStyle::Sentences);
        assert!(
            sentences[0].ends_with("# Two\n\n"),
            "a heading is words like others: {sentences:?}"
        );
        assert!(sentences[1].ends_with("omicron. "), "{sentences:?}");
        let tokens = cut(ChunkStyle::Tokens);
        for chunk in &tokens[..tokens.len() - 1] {
            assert_eq!(HeuristicTokens.count(chunk), 12, "{tokens:?}");
        }
        // Without vectors a chunker by meaning cuts by structure.
        assert_eq!(cut(ChunkStyle::Meaning { percentile: 90 }), structure);
        let repeated = styled(ChunkStyle::Tokens, 14, 3).chunk(&document).expect("cut");
        for pair in repeated.windows(2) {
            let common = &text[pair[1].span.start..pair[0].span.end];
            assert_eq!(HeuristicTokens.count(common), 3, "{:?}", texts(&repeated));
        }
    }

    #[test]
    fn a_chunk_by_meaning_ends_where_the_subject_does() {
        let birds = "Herons fish at dawn in the shallow water. They stand still and wait for frogs. ";
        let banks = "Banks lend money to those who build. Interest is paid at the end of each year. ";
        let document = Document::new("a", format!("{birds}{banks}"));
        let chunker = styled(ChunkStyle::Meaning { percentile: 90 }, 60, 10);
        let probes = chunker.probes(&document);
        let vectors: Vec<Vec<f32>> = probes
            .iter()
            .map(|probe| {
                let share =
                    (birds.len().clamp(probe.start, probe.end) - probe.start) as f32 / probe.len() as f32;
                vec![share, 1.0 - share]
            })
            .collect();
        let chunks = chunker.chunk_by(&document, &vectors).expect("cut");
        assert_eq!(texts(&chunks), [birds, banks]);
        assert_eq!(
            chunker.chunk(&document).expect("cut").len(),
            1,
            "it would fit one chunk"
        );
    }

    #[test]
    fn a_header_is_embedded_above_the_words_and_never_longer_than_its_room() {
        let mut document =
            Document::new("a", "# Runs\n\nAll about runs.").with_title("The guide to everything here");
        document.headings.push(Heading::new(1, "Runs", 0..6));
        let mut seen = Vec::new();
        for room in [0, 1, 4, 40] {
            let options = ChunkOptions::new().with_header_tokens(room);
            let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
            let chunks = chunker.chunk(&document).expect("cut");
            assert_eq!(chunks[0].text, document.text, "it is not shown");
            let embedded = chunker.embedded(&chunks[0]).into_owned();
            let header = embedded.strip_suffix(&document.text).expect("the words end it");
            assert!(HeuristicTokens.count(header) <= room, "{room}: {header}");
            seen.push(header.to_owned());
        }
        assert_eq!(
            seen,
            ["", "Runs\n", "Runs\n", "The guide to everything here › Runs\n"]
        );
    }

    #[test]
    fn every_setting_is_in_the_fingerprint_and_the_default_keeps_its_own() {
        let fingerprint = |options| {
            let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
            chunker.fingerprint()
        };
        assert_eq!(fingerprint(ChunkOptions::new()), "chunks/1:256:2:0:32:8192");
        let mut all: Vec<String> = [
            ChunkOptions::new(),
            ChunkOptions::new().with_style(ChunkStyle::Sentences),
            ChunkOptions::new().with_style(ChunkStyle::Tokens),
            ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 90 }),
            ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 95 }),
            ChunkOptions::new().with_header_tokens(16),
        ]
        .map(fingerprint)
        .into();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    /// Pieces that make trouble: no spaces, only spaces, many bytes a character, marks that join.
    fn adversarial() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,9}",
            "[a-z]{40,80}",
            Just(" ".to_owned()),
            Just("\n".to_owned()),
            Just("\n\n".to_owned()),
            Just("\n \n\t".to_owned()),
            Just(". ".to_owned()),
            Just("! \u{200B}?".to_owned()),
            Just("漢字かな交じり文。".to_owned()),
            Just("👩‍👩‍👧e\u{301}\u{302}".to_owned()),
            Just("\u{2028}\u{3000}".to_owned()),
            " {50,120}",
            "\\PC{0,12}",
        ];
        prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
        #[test]
        fn every_byte_is_covered_in_order_within_the_budget(
            text in adversarial(),
            max_tokens in 10_usize..60,
            overlap in 0_usize..20,
            max_bytes in prop_oneof![Just(64_usize), Just(8192)],
            lines in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            style in prop_oneof![
                Just(ChunkStyle::Structure), Just(ChunkStyle::Sentences), Just(ChunkStyle::Tokens),
                (0..=100_u8).prop_map(|percentile| ChunkStyle::Meaning { percentile }),
            ],
            seed: u64,
        ) {
            let budget = max_tokens - 2;
            let options = ChunkOptions::new().with_style(style).with_max_tokens(max_tokens).with_overlap_tokens(overlap.min(budget / 2)).with_max_bytes(max_bytes);
            let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
            let mut document = Document::new("a", text.clone());
            let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
            let mut picked: Vec<usize> = lines.iter().map(|index| *index.get(&starts)).collect();
            picked.sort_unstable();
            picked.dedup();
            for start in picked {
                let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
                document.headings.push(Heading::new(1, "h", start..end));
            }
            // Any vectors will do: the meaning may turn anywhere.
            let probes = chunker.probes(&document);
            prop_assert!(probes.iter().all(|probe| text.get(probe.clone()).is_some()));
            let mut state = seed | 1;
            let vectors: Vec<Vec<f32>> = probes.iter().map(|_| (0..4).map(|_| {
                state ^= state << 13; state ^= state >> 7; state ^= state << 17;
                (state % 2_001) as f32 / 1_000.0 - 1.0
            }).collect()).collect();
            let chunks = chunker.chunk_by(&document, &vectors).expect("cut");
            let mut covered = 0;
            let mut before: Option<Range<usize>> = None;
            for (number, chunk) in chunks.iter().enumerate() {
                prop_assert_eq!(chunk.number as usize, number);
                prop_assert_eq!(&text[chunk.span.clone()], &chunk.text);
                prop_assert!(chunk.span.start <= covered, "a gap before {}", chunk.span.start);
                if let Some(before) = before {
                    prop_assert!(chunk.span.start > before.start && chunk.span.end > before.end);
                }
                prop_assert!(HeuristicTokens.count(&chunk.text) <= budget, "{} tokens", HeuristicTokens.count(&chunk.text));
                prop_assert!(chunk.text.len() <= max_bytes);
                covered = chunk.span.end;
                before = Some(chunk.span.clone());
            }
            prop_assert_eq!(covered, text.len());
            let again = chunker.chunk_by(&document, &vectors).expect("cut");
            prop_assert_eq!(chunks, again);
        }
    }
}
