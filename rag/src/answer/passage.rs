//! [`Passage`]: what a model reads of a document under one number.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use stepwell_core::{Chunk, Citation, Explanation, Hit, Result, find_quote};

/// A stretch of a document that a model reads under a number. It may be several chunks that touch, or the beginning of
/// one: `chunk.text` is `document.text[chunk.span]`, exactly, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Passage {
    /// The number it is cited by, from 1.
    pub number: usize,
    /// The words, where they stand, and whose they are; the id is that of its first chunk.
    pub chunk: Chunk,
    /// The chunks it was made of: their ids, and the bytes of the document's text that each brought.
    pub chunks: Vec<(String, Range<usize>)>,
    /// The best score among its hits.
    pub score: f32,
    /// Why the best of them was found.
    #[serde(default)]
    pub explanation: Explanation,
    /// Whether it was cut at a sentence's end to fit.
    pub is_cut: bool,
}

impl Passage {
    /// The passage of one hit, under a number.
    pub fn new(number: usize, hit: Hit) -> Self {
        Self {
            number,
            chunks: vec![(hit.chunk.id.clone(), hit.chunk.span.clone())],
            chunk: hit.chunk,
            score: hit.score,
            explanation: hit.explanation,
            is_cut: false,
        }
    }

    /// A citation of a part of it, by bytes of its own text. It names the chunk the part begins in.
    ///
    /// # Errors
    /// `invalid_input` when the range does not lie on character bounds of the text.
    pub fn cite(&self, range: Range<usize>) -> Result<Citation> {
        let mut citation = self.chunk.cite(range)?;
        let whole = self
            .chunks
            .iter()
            .find(|(_, span)| span.start <= citation.span.start && citation.span.end <= span.end);
        let begun = || {
            let mut chunks = self.chunks.iter();
            chunks.find(|(_, span)| span.contains(&citation.span.start))
        };
        if let Some((id, _)) = whole.or_else(begun) {
            citation.chunk_id.clone_from(id);
        }
        Ok(citation)
    }

    /// A citation of these words, where the passage has them: see [`find_quote`].
    pub fn cite_quote(&self, quote: &str) -> Option<Citation> {
        self.cite(find_quote(&self.chunk.text, quote)?).ok()
    }

    /// File, then page or heading.
    pub fn place(&self) -> String {
        let words = self.chunk.text.trim_start();
        let first = self.chunk.text.len() - words.len();
        self.chunk
            .cite(first..first)
            .map_or_else(|_| self.chunk.document_id.clone(), |citation| citation.place())
    }

    /// The same as a hit, for models that read hits.
    pub fn to_hit(&self) -> Hit {
        Hit::new(self.chunk.clone(), self.score, self.explanation.clone())
    }

    /// Whether a chunk is of the same document as far as can be told: two collections may use one id.
    pub(super) fn is_of(&self, chunk: &Chunk) -> bool {
        let own = &self.chunk;
        own.document_id == chunk.document_id && own.uri == chunk.uri && own.title == chunk.title
    }

    /// Whether it has all words of a chunk already.
    pub(super) fn holds(&self, chunk: &Chunk) -> bool {
        let own = &self.chunk.span;
        self.is_of(chunk)
            && own.start <= chunk.span.start
            && chunk.span.end <= own.end
            && self
                .chunk
                .text
                .get(chunk.span.start - own.start..chunk.span.end - own.start)
                == Some(chunk.text.as_str())
    }

    /// Both as one, where they are of one document, touch or overlap, and agree where they overlap.
    pub(super) fn joined(&self, other: &Self) -> Option<Self> {
        if !self.is_of(&other.chunk) {
            return None;
        }
        let (first, second) = if self.chunk.span.start <= other.chunk.span.start {
            (self, other)
        } else {
            (other, self)
        };
        let (a, b) = (&first.chunk, &second.chunk);
        if b.span.start > a.span.end {
            return None;
        }
        let (overlap, rest) = b
            .text
            .split_at_checked((a.span.end - b.span.start).min(b.text.len()))?;
        let from = b.span.start - a.span.start;
        if a.text.get(from..from + overlap.len()) != Some(overlap) {
            return None; // not the same version of the text
        }
        let mut whole = first.clone();
        let chunk = &mut whole.chunk;
        if !rest.is_empty() {
            let seam = a.span.end;
            chunk.text.push_str(rest);
            chunk.span.end = b.span.end;
            let page_of = |chunk: &Chunk, at: usize| {
                let mut breaks = chunk.page_breaks.iter().rev();
                breaks
                    .find(|(place, _)| *place <= at)
                    .map_or(chunk.page, |(_, page)| Some(*page))
            };
            let (before, after) = (page_of(a, seam), page_of(b, seam));
            if let Some(page) = after.filter(|_| after != before) {
                chunk.page_breaks.push((seam, page));
            }
            chunk
                .page_breaks
                .extend(b.page_breaks.iter().filter(|(at, _)| *at > seam));
            let section_of = |chunk: &Chunk, at: usize| {
                let mut breaks = chunk.heading_breaks.iter().rev();
                breaks
                    .find(|(place, _)| *place <= at)
                    .map_or(&chunk.headings, |(_, headings)| headings)
                    .clone()
            };
            let (before, after) = (section_of(a, seam), section_of(b, seam));
            if before != after {
                chunk.heading_breaks.push((seam, after));
            }
            let later = b.heading_breaks.iter().filter(|(at, _)| *at > seam);
            chunk.heading_breaks.extend(later.cloned());
        }
        whole.chunks.extend(second.chunks.iter().cloned());
        whole.chunks.sort_by_key(|(_, span)| span.start);
        let best = if other.score > self.score { other } else { self };
        whole.score = best.score;
        whole.explanation = best.explanation.clone();
        // The more words of the question are in one of them, the more are in the whole.
        let coverages = [self, other].map(|passage| passage.explanation.term_coverage);
        whole.explanation.term_coverage = coverages.into_iter().flatten().reduce(f32::max);
        whole.number = self.number;
        // What was cut off comes after the cut: only the end of the later one stays open.
        whole.is_cut = if rest.is_empty() {
            first.is_cut
        } else {
            second.is_cut
        };
        Some(whole)
    }

    /// Its first bytes alone, up to a character's bound.
    pub(super) fn cut(&self, length: usize) -> Option<Self> {
        let text = self.chunk.text.get(..length)?;
        let mut cut = self.clone();
        text.clone_into(&mut cut.chunk.text);
        let end = cut.chunk.span.start + length;
        cut.chunk.span.end = end;
        cut.chunk.page_breaks.retain(|(at, _)| *at < end);
        cut.chunk.heading_breaks.retain(|(at, _)| *at < end);
        cut.chunks.retain(|(_, span)| span.start < end);
        for (_, span) in &mut cut.chunks {
            span.end = span.end.min(end);
        }
        cut.is_cut = true;
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::Passage;
    use stepwell_core::{Chunk, Document, Explanation, Heading, Hit, PageSpan};

    fn document() -> Document {
        let mut document = Document::new("guide.md", "One. Two.\nThree. Four.\nFive. Six.");
        document.pages = vec![PageSpan::new(1, 0..10), PageSpan::new(2, 10..33)];
        document.headings = vec![Heading::new(1, "Later", 23..28)];
        document
    }

    fn passage(document: &Document, number: u32, span: std::ops::Range<usize>) -> Passage {
        let chunk = Chunk::of(document, number, span).expect("a slice");
        Passage::new(1, Hit::new(chunk, 0.5, Explanation::default()))
    }

    #[test]
    fn chunks_that_touch_or_overlap_become_one_and_a_quote_names_its_own_page_and_heading() {
        let document = document();
        let whole = passage(&document, 0, 0..14)
            .joined(&passage(&document, 1, 10..23))
            .and_then(|two| passage(&document, 2, 23..33).joined(&two))
            .expect("they touch");
        assert_eq!(
            (&whole.chunk.text, whole.chunk.span.clone()),
            (&document.text, 0..33)
        );
        let three = whole.cite_quote("Three.").expect("there");
        assert_eq!(
            (three.page, three.chunk_id.as_str(), &document.text[three.span]),
            (Some(2), "guide.md#1", "Three.")
        );
        let six = whole.cite_quote("Six.").expect("there");
        assert_eq!(
            (six.headings, six.chunk_id.as_str()),
            (vec!["Later".to_owned()], "guide.md#2")
        );
        assert!(whole.cite_quote("One.").expect("there").headings.is_empty());
    }

    #[test]
    fn what_lies_apart_or_says_something_else_stays_apart() {
        let document = document();
        let first = passage(&document, 0, 0..4);
        assert!(first.joined(&passage(&document, 1, 10..23)).is_none(), "a gap");
        let other = Document::new("guide.md", "Uno. Two.\nThree. Four.\nFive. Six.");
        assert!(
            first.joined(&passage(&other, 1, 0..9)).is_none(),
            "another version"
        );
        assert!(first.holds(&Chunk::of(&document, 1, 0..3).expect("a slice")));
        assert!(!first.holds(&Chunk::of(&other, 1, 0..3).expect("a slice")));
    }
}
