//! [`Cut`]: one text, and where its chunks end and begin.

use std::ops::Range;

use stepwell_core::{Document, TokenCounter};
use unicode_segmentation::UnicodeSegmentation;

use super::{ChunkStyle, Chunker};

/// The state of cutting one text.
pub(super) struct Cut<'a> {
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
    pub(super) fn new(chunker: &'a Chunker, document: &'a Document, turns: Vec<usize>) -> Self {
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
    pub(super) fn end(&mut self, start: usize, covered: usize) -> usize {
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
    pub(super) fn overlap(&self, start: usize, end: usize) -> usize {
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
