//! [`Cited`]: a model's words, marks and own citations → the text to show, with checked citations.

use super::{
    marks::{Marks, Piece},
    passage::Passage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, ops::Range};
use stepwell_core::{Citation, Warning, find_quote, quote_for, words::all_sentences};

/// Words of a quotation from which on it is held against its source; shorter ones are names and irony.
const QUOTED_WORDS: usize = 3;
/// Bytes before a mark in which its sentence is looked for.
const TAIL: usize = 4 << 10;

/// A sentence of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AnswerClaim {
    /// Bytes of the answer's text.
    pub span: Range<usize>,
    /// What it rests on: places in the answer's citations, from 0.
    pub citations: Vec<usize>,
}

impl AnswerClaim {
    /// A sentence that rests on these.
    pub fn new(span: Range<usize>, citations: Vec<usize>) -> Self {
        Self { span, citations }
    }
}

/// What a piece of an answer came to.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Text(String),
    /// A citation of the words that end at this byte of the text.
    Citation(Box<Citation>, usize),
    Warning(Warning),
}

/// Reads an answer as it comes.
#[derive(Debug, Default)]
pub(super) struct Cited {
    marks: Marks,
    pub(super) text: String,
    pub(super) citations: Vec<Citation>,
    /// Bytes of the text that a citation is for, and which; an empty range is for the sentence before it.
    places: Vec<(Range<usize>, usize)>,
    /// Where the open part of the answer begins.
    part: usize,
    /// Numbers that were named and are no passage.
    unknown: BTreeSet<usize>,
    misquotes: bool,
}

impl Cited {
    /// Takes words in.
    pub(super) fn words(&mut self, words: &str, passages: &[Passage]) -> Vec<Told> {
        let pieces = self.marks.push(words);
        self.pieces(pieces, passages)
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self, passages: &[Passage]) -> Vec<Told> {
        let pieces = self.marks.finish();
        let mut told = self.pieces(pieces, passages);
        let kept = self.text.trim_end().len();
        self.text.truncate(kept);
        // A quotation has to stand in one of the places its sentence names.
        for claim in self.claims() {
            let is_found = |quote: &str| {
                let mut cited = claim.citations.iter().map(|at| &self.citations[*at].quote);
                cited.any(|source| find_quote(source, quote).is_some())
            };
            let quotes = quotations(&self.text[claim.span.clone()]);
            self.misquotes |= !claim.citations.is_empty() && !quotes.iter().all(|quote| is_found(quote));
        }
        if self.misquotes {
            told.push(Told::Warning(Warning::new(
                "quote_not_found",
                "the answer has a quotation that its source does not have; look for the sentence that `check` marks",
            )));
        }
        if !self.unknown.is_empty() {
            let numbers: Vec<String> = self.unknown.iter().map(ToString::to_string).collect();
            told.push(Told::Warning(Warning::new(
                "mark_unknown",
                format!(
                    "the answer cited [{}], and there is no such passage; the mark was removed",
                    numbers.join(", ")
                ),
            )));
        }
        told
    }

    fn pieces(&mut self, pieces: Vec<Piece>, passages: &[Passage]) -> Vec<Told> {
        let mut told = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(words) => {
                    // Space before the first word is nothing to show.
                    let words = if self.text.is_empty() {
                        words.trim_start()
                    } else {
                        &words
                    };
                    self.text.push_str(words);
                    if !words.is_empty() {
                        told.push(Told::Text(words.to_owned()));
                    }
                }
                Piece::Mark(numbers) => {
                    for number in numbers {
                        match passages.iter().find(|passage| passage.number == number) {
                            Some(passage) => {
                                let end = self.text.trim_end().len();
                                for citation in self.of_mark(passage) {
                                    self.add(citation, end..end, &mut told);
                                }
                            }
                            None => {
                                self.unknown.insert(number);
                            }
                        }
                    }
                }
            }
        }
        told
    }

    /// What the words before a mark rest on in a passage: their quotations, or the sentence that shares most.
    fn of_mark(&mut self, passage: &Passage) -> Vec<Citation> {
        // A long answer is not cut in sentences anew for each mark.
        let tail = &self.text[self
            .text
            .floor_char_boundary(self.text.len().saturating_sub(TAIL))..];
        let last = all_sentences(tail).pop();
        let claim = last.map_or(tail, |range| &tail[range.start..]);
        let quotes = quotations(claim);
        if quotes.is_empty() {
            let best = quote_for(claim, &passage.chunk.text);
            return best
                .and_then(|range| passage.cite(range).ok())
                .into_iter()
                .collect();
        }
        let found: Vec<Citation> = quotes
            .iter()
            .filter_map(|quote| passage.cite_quote(quote))
            .collect();
        self.misquotes |= found.is_empty();
        found
    }

    fn add(&mut self, citation: Citation, words: Range<usize>, told: &mut Vec<Told>) {
        let at = self
            .citations
            .iter()
            .position(|known| *known == citation)
            .unwrap_or_else(|| {
                self.citations.push(citation.clone());
                self.citations.len() - 1
            });
        let end = words.end;
        let place = (words, at);
        if !self.places.contains(&place) {
            self.places.push(place);
            told.push(Told::Citation(Box::new(citation), end));
        }
    }

    /// The citations a model gave by itself for the part that ends here, each looked up in its passage.
    pub(super) fn own(
        &mut self,
        citations: Vec<Citation>,
        tokens: Option<&Value>,
        passages: &[Passage],
    ) -> Vec<Told> {
        let mut told = Vec::new();
        let mut lost = 0;
        let words = self.part..self.text.trim_end().len().max(self.part);
        self.part = self.text.len();
        for (at, citation) in citations.into_iter().enumerate() {
            let offset = tokens
                .and_then(|token| token["citations"][at]["start_char_index"].as_u64())
                .and_then(|offset| usize::try_from(offset).ok());
            match exact(&citation, offset, passages) {
                Some(citation) => self.add(citation, words.clone(), &mut told),
                None => lost += 1,
            }
        }
        if lost > 0 {
            told.push(Told::Warning(Warning::new(
                "citation_not_found",
                format!("{lost} citation(s) of the model are in none of the passages and were left out"),
            )));
        }
        told
    }

    /// The sentences of the text with what they rest on.
    pub(super) fn claims(&self) -> Vec<AnswerClaim> {
        let mut spans = all_sentences(&self.text);
        if spans.is_empty() && !self.text.trim().is_empty() {
            spans.push(0..self.text.len());
        }
        let mut claims: Vec<AnswerClaim> = spans
            .into_iter()
            .map(|span| AnswerClaim::new(span, Vec::new()))
            .collect();
        for (words, citation) in &self.places {
            // The last sentence that begins before the mark, or all that a model's own citation was given for.
            let last = claims
                .partition_point(|claim| claim.span.start < words.end)
                .saturating_sub(1);
            let first = claims.partition_point(|claim| claim.span.end <= words.start);
            for claim in claims.iter_mut().take(last + 1).skip(first.min(last)) {
                if !claim.citations.contains(citation) {
                    claim.citations.push(*citation);
                }
            }
        }
        claims
    }
}

/// A model's own citation as bytes of a passage; `None` where no passage has its words.
fn exact(citation: &Citation, offset: Option<usize>, passages: &[Passage]) -> Option<Citation> {
    // Models of ours name the document and its bytes.
    let named = passages.iter().find(|passage| {
        let chunk = &passage.chunk;
        let inside = chunk.span.start <= citation.span.start && citation.span.end <= chunk.span.end;
        inside && !citation.span.is_empty() && chunk.document_id == citation.document_id
    });
    if let Some(passage) = named {
        let base = passage.chunk.span.start;
        let found = passage
            .cite(citation.span.start - base..citation.span.end - base)
            .ok()?;
        return (found.quote == citation.quote).then_some(found);
    }
    // Vendors name the place of the document in the request, and its words.
    let place: usize = citation.document_id.parse().ok()?;
    let passage = passages.get(place)?;
    let text = &passage.chunk.text;
    let words = citation.quote.trim();
    // A quote that stands there twice is the one at the vendor's offset, which counts characters.
    let at_offset = offset
        .and_then(|offset| {
            let skipped = citation
                .quote
                .chars()
                .take_while(|sign| sign.is_whitespace())
                .count();
            text.char_indices().nth(offset + skipped)
        })
        .filter(|(at, _)| !words.is_empty() && text[*at..].starts_with(words))
        .map(|(at, _)| at..at + words.len());
    passage.cite(at_offset.or_else(|| find_quote(text, words))?).ok()
}

/// What stands between quotation marks in a sentence, from three words on, without the sentence's own full stop.
pub(super) fn quotations(sentence: &str) -> Vec<&str> {
    let mut quotes = Vec::new();
    let mut open: Option<usize> = None;
    for (at, sign) in sentence.char_indices() {
        if !matches!(
            sign,
            '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}'
        ) {
            continue;
        }
        match open.take() {
            Some(start) => {
                let quote = sentence[start..at]
                    .trim()
                    .trim_end_matches(['.', ',', ';', '!', '?']);
                if quote.split_whitespace().count() >= QUOTED_WORDS {
                    quotes.push(quote);
                }
            }
            None => open = Some(at + sign.len_utf8()),
        }
    }
    quotes
}
