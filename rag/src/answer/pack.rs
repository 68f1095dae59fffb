//! [`pack`]: hits → the passages a model reads, within a bound of tokens.

use super::{frame, passage::Passage};
use std::{collections::HashSet, sync::Arc};
use stepwell_core::{HeuristicTokens, Hit, TokenCounter};
use unicode_segmentation::UnicodeSegmentation;

/// In which order a model reads its passages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PassageOrder {
    /// The best first.
    #[default]
    BestFirst,
    /// The best at both ends, the weakest in the middle, where models read least closely.
    BestAtEnds,
    /// As they stand in their documents; the document with the best passage first.
    Document,
}

/// What fits: how much of the hits a model reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackOptions {
    /// Most tokens of the passages with all that stands around them; 4,000.
    pub max_tokens: usize,
    /// Whether a passage that does not fit whole is cut at a sentence's end; it is. Otherwise it is left out, and a
    /// shorter one behind it may be taken.
    pub cuts: bool,
    /// In which order they are read.
    pub order: PassageOrder,
    /// Counts the tokens; an estimate that errs to the high side where nothing is set.
    pub counter: Arc<dyn TokenCounter>,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self {
            max_tokens: 4_000,
            cuts: true,
            order: PassageOrder::BestFirst,
            counter: Arc::new(HeuristicTokens),
        }
    }
}

impl PackOptions {
    /// The defaults within so many tokens.
    pub fn new(max_tokens: usize) -> Self {
        Self {
            max_tokens,
            ..Self::default()
        }
    }

    /// Whole passages alone, or cut ones as well.
    pub fn cuts(mut self, cuts: bool) -> Self {
        self.cuts = cuts;
        self
    }

    /// In this order.
    pub fn order(mut self, order: PassageOrder) -> Self {
        self.order = order;
        self
    }

    /// Counted as this counter does.
    pub fn counter(mut self, counter: Arc<dyn TokenCounter>) -> Self {
        self.counter = counter;
        self
    }
}

/// Passages that fit.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Packed {
    /// The passages in the order they are read, numbered from 1.
    pub passages: Vec<Passage>,
    /// Their tokens with all that stands around them.
    pub tokens: usize,
    /// Hits of which nothing is read: no room was left.
    pub left_out: usize,
    /// Hits that said nothing new.
    pub duplicates: usize,
}

/// The best of the hits as passages for a model, never more than so many tokens.
///
/// Hits are taken best first. Chunks of one document that touch or overlap become one passage; words that are there
/// already, in the same place or in a copy, are dropped. What does not fit is cut at a sentence's end or left out. The
/// same hits give the same passages.
///
/// ```
/// use stepwell_core::{Chunk, Document, Explanation, Hit};
/// use stepwell_rag::answer::{PackOptions, pack};
/// let note = Document::new("note.md", "A journal only grows. It is read again after a crash.");
/// let hit = |number, span| Hit::new(Chunk::of(&note, number, span).unwrap(), 1.0, Explanation::default());
/// let packed = pack(&[hit(1, 22..53), hit(0, 0..22)], &PackOptions::new(200));
/// assert_eq!(packed.passages[0].chunk.text, note.text); // they touch: one passage
/// ```
pub fn pack(hits: &[Hit], options: &PackOptions) -> Packed {
    let mut packed = Packed::default();
    let counter = options.counter.as_ref();
    let tokens_of = |passages: &[Passage]| counter.count(&frame::render("", passages));
    let mut seen: HashSet<blake3::Hash> = HashSet::new();
    let mut taken: Vec<Passage> = Vec::new();
    let mut is_full = false;
    for hit in hits {
        let words = blake3::hash(
            hit.chunk
                .text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .as_bytes(),
        );
        if hit.chunk.text.trim().is_empty()
            || seen.contains(&words)
            || taken.iter().any(|passage| passage.holds(&hit.chunk))
        {
            packed.duplicates += 1;
            continue;
        }
        if is_full {
            packed.left_out += 1;
            continue;
        }
        let passage = Passage::new(taken.len() + 1, hit.clone());
        let whole = joined(&taken, &passage);
        if tokens_of(&whole) <= options.max_tokens {
            seen.insert(words);
            taken = whole;
            continue;
        }
        let fitting = options
            .cuts
            .then(|| {
                cut(&taken, &passage, |passages| {
                    tokens_of(passages) <= options.max_tokens
                })
            })
            .flatten();
        match fitting {
            Some(cut) => {
                is_full = true;
                taken = cut;
            }
            None => packed.left_out += 1,
        }
    }
    loop {
        let passages = ordered(taken.clone(), options.order);
        let tokens = if passages.is_empty() {
            0
        } else {
            tokens_of(&passages)
        };
        // Numbers and order change a count by a token or two.
        if tokens <= options.max_tokens {
            packed.passages = passages;
            packed.tokens = tokens;
            return packed;
        }
        packed.left_out += taken.pop().map_or(0, |passage| passage.chunks.len());
    }
}

/// The passages with another one, joined to those it touches; the place is that of the best among them.
fn joined(taken: &[Passage], passage: &Passage) -> Vec<Passage> {
    let mut taken = taken.to_vec();
    let mut open = passage.clone();
    let mut place = taken.len();
    // Once joined, it may touch one more: the gap between two is closed from both sides.
    while let Some((at, both)) = taken
        .iter()
        .enumerate()
        .find_map(|(at, other)| other.joined(&open).map(|both| (at, both)))
    {
        taken.remove(at);
        place = place.min(at);
        open = both;
    }
    taken.insert(place.min(taken.len()), open);
    taken
}

/// The passages with as many whole sentences of another one as fit; `None` where not one does.
fn cut(taken: &[Passage], passage: &Passage, fits: impl Fn(&[Passage]) -> bool) -> Option<Vec<Passage>> {
    let text = &passage.chunk.text;
    let ends: Vec<usize> = text
        .split_sentence_bound_indices()
        .map(|(at, sentence)| at + sentence.len())
        .filter(|end| *end < text.len())
        .collect();
    let (mut low, mut high) = (0, ends.len());
    let mut best = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let with = passage.cut(ends[middle]).map(|cut| joined(taken, &cut));
        match with.filter(|with| fits(with)) {
            Some(with) => {
                best = Some(with);
                low = middle + 1;
            }
            None => high = middle,
        }
    }
    best
}

fn ordered(mut passages: Vec<Passage>, order: PassageOrder) -> Vec<Passage> {
    match order {
        PassageOrder::BestFirst => {}
        PassageOrder::BestAtEnds => {
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for (place, passage) in passages.into_iter().enumerate() {
                if place % 2 == 0 {
                    front.push(passage);
                } else {
                    back.push(passage);
                }
            }
            back.reverse();
            front.extend(back);
            passages = front;
        }
        PassageOrder::Document => {
            let documents: Vec<String> = passages
                .iter()
                .map(|passage| passage.chunk.document_id.clone())
                .collect();
            passages.sort_by_key(|passage| {
                let first = documents.iter().position(|id| *id == passage.chunk.document_id);
                (first, passage.chunk.span.start)
            });
        }
    }
    for (number, passage) in (1..).zip(&mut passages) {
        passage.number = number;
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::{PackOptions, PassageOrder, pack};
    use crate::answer::frame;
    use proptest::prelude::*;
    use stepwell_core::{Chunk, Document, Explanation, HeuristicTokens, Hit, TokenCounter};
    use unicode_segmentation::UnicodeSegmentation;

    fn hit(document: &Document, number: u32, span: std::ops::Range<usize>) -> Hit {
        Hit::new(
            Chunk::of(document, number, span).expect("a slice"),
            1.0,
            Explanation::default(),
        )
    }

    #[test]
    fn copies_are_read_once_and_what_has_no_room_is_cut_at_a_sentence() {
        let one = Document::new(
            "one",
            "Cats sleep all day long. Dogs walk in the park. Birds sing at dawn.",
        );
        let copy = Document::new("copy", "Cats  sleep all day long. ");
        let hits = [hit(&one, 0, 0..25), hit(&copy, 0, 0..26), hit(&one, 1, 25..67)];
        let all = pack(&hits, &PackOptions::default());
        assert_eq!((all.passages.len(), all.duplicates, all.left_out), (1, 1, 0));
        let few = pack(&hits, &PackOptions::new(all.tokens - 2));
        assert_eq!(
            few.passages[0].chunk.text,
            "Cats sleep all day long. Dogs walk in the park. "
        );
        assert!(few.passages[0].is_cut && few.tokens <= all.tokens - 2);
        let whole = pack(&hits, &PackOptions::new(all.tokens - 2).cuts(false));
        assert_eq!(
            (whole.passages[0].chunk.text.as_str(), whole.left_out),
            ("Cats sleep all day long. ", 1)
        );
        assert!(pack(&hits, &PackOptions::new(3)).passages.is_empty());
    }

    #[test]
    fn the_best_stand_at_both_ends_or_as_in_their_documents_where_asked() {
        let documents: Vec<Document> = (0..5)
            .map(|n| Document::new(format!("d{n}"), format!("Words of number {n}.")))
            .collect();
        let hits: Vec<Hit> = documents
            .iter()
            .map(|document| hit(document, 0, 0..document.text.len()))
            .collect();
        let order = |order| {
            let packed = pack(&hits, &PackOptions::default().order(order));
            let ids = packed
                .passages
                .iter()
                .map(|passage| passage.chunk.document_id[1..].to_owned());
            ids.collect::<Vec<_>>().concat()
        };
        assert_eq!(
            (
                order(PassageOrder::BestFirst).as_str(),
                order(PassageOrder::BestAtEnds).as_str()
            ),
            ("01234", "02431")
        );
        let book = Document::new("book", "First words. Second words. Third words.");
        let hits = [
            hit(&book, 2, 27..39),
            hit(&documents[0], 0, 0..18),
            hit(&book, 0, 0..12),
        ];
        let packed = pack(&hits, &PackOptions::default().order(PassageOrder::Document));
        let starts: Vec<usize> = packed
            .passages
            .iter()
            .map(|passage| passage.chunk.span.start)
            .collect();
        assert_eq!(starts, [0, 27, 0]);
        assert_eq!(packed.passages[1].number, 2);
    }

    /// Documents of odd characters, and chunks of them that overlap, touch or lie apart, in any order.
    fn hits() -> impl Strategy<Value = (Vec<Document>, Vec<Hit>)> {
        let text = "([a-zé東😀]{1,9}[ .!?\n]{1,2}){1,60}";
        let places = proptest::collection::vec((0..3usize, 0..1_000usize, 0..1_000usize), 1..14);
        (proptest::collection::vec(text, 3), places).prop_map(|(texts, places)| {
            let documents: Vec<Document> = texts
                .into_iter()
                .enumerate()
                .map(|(at, text)| Document::new(format!("d{at}"), text))
                .collect();
            let hits = places
                .into_iter()
                .enumerate()
                .map(|(number, (at, from, length))| {
                    let text = &documents[at].text;
                    let start = text.floor_char_boundary(from * text.len() / 1_000);
                    let end = start + length * (text.len() - start) / 1_000;
                    hit(
                        &documents[at],
                        number as u32,
                        start..text.floor_char_boundary(end),
                    )
                });
            let hits = hits.collect();
            (documents, hits)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn passages_never_pass_the_bound_and_are_exact_slices_that_do_not_overlap(
            (documents, hits) in hits(),
            max_tokens in 0..400usize,
            cuts: bool,
            order in prop_oneof![Just(PassageOrder::BestFirst), Just(PassageOrder::BestAtEnds), Just(PassageOrder::Document)],
        ) {
            let options = PackOptions::new(max_tokens).cuts(cuts).order(order);
            let packed = pack(&hits, &options);
            prop_assert!(packed.tokens <= max_tokens);
            if !packed.passages.is_empty() {
                prop_assert_eq!(HeuristicTokens.count(&frame::render("", &packed.passages)), packed.tokens);
            }
            for (at, passage) in packed.passages.iter().enumerate() {
                let document = documents.iter().find(|document| document.id == passage.chunk.document_id).expect("known");
                prop_assert_eq!(Some(passage.chunk.text.as_str()), document.text.get(passage.chunk.span.clone()));
                prop_assert_eq!(passage.number, at + 1);
                prop_assert!(cuts || !passage.is_cut);
                for (word_at, word) in passage.chunk.text.split_word_bound_indices() {
                    let citation = passage.cite(word_at..word_at + word.len()).expect("character bounds");
                    prop_assert_eq!(&document.text[citation.span.clone()], &citation.quote);
                    prop_assert!(hits.iter().any(|hit| hit.chunk.id == citation.chunk_id && hit.chunk.span.contains(&citation.span.start)));
                }
                for other in &packed.passages[..at] {
                    let apart = other.chunk.document_id != passage.chunk.document_id
                        || other.chunk.span.end < passage.chunk.span.start
                        || passage.chunk.span.end < other.chunk.span.start;
                    prop_assert!(apart, "two passages touch or overlap");
                }
            }
            prop_assert_eq!(pack(&hits, &options), packed);
        }
    }
}
