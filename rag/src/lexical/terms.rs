//! [`Terms`]: a question's words as the index has them, looked up once: scored row by row, and counted for the hits.

use std::sync::Arc;

use stepwell_core::Result;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocSet, InvertedIndexReader, Searcher, TERMINATED};

use super::FieldBoosts;
use super::question::Sought;
use crate::best::{Best, Scored, sort_by_address};
use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;

/// How soon more of the same word counts less, and how much long texts are held back: BM25's usual numbers.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Segments of fewer rows for each wanted one are scored row by row. In larger ones whole blocks of postings can be passed
/// over, which sorts a long question's words anew at each step: a hybrid question of 44 words over 10,000 passages took
/// 1.9 ms of CPU so, 1.0 with every row scored by tantivy's union of lists, and .7 scored here.
pub(super) const ROWS_FOR_EACH: usize = 32;
/// Where fewer are wanted, as if so many were.
const WANTED_LEAST: usize = 1_000;

/// How much of a question a row has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Coverage {
    /// Share of the question's words.
    pub(crate) words: f32,
    /// The same, a word counting the more the fewer rows have it (inverse document frequency).
    pub(crate) weight: f32,
}

/// A form of a word in one field of one segment.
struct Listed {
    word: usize,
    form: usize,
    field: usize,
    info: TermInfo,
}

/// A field of all segments.
struct FieldOfIndex {
    field: Field,
    boost: f32,
    words: u64,
}

struct Segment {
    /// By field; `None` where it has no words.
    indexes: Vec<Option<Arc<InvertedIndexReader>>>,
    listed: Vec<Listed>,
}

/// A question's words in one state of the index.
pub(crate) struct Terms<'a> {
    searcher: &'a Searcher,
    words: &'a [Sought],
    fields: Vec<FieldOfIndex>,
    segments: Vec<Segment>,
    /// Rows that have it, by word, form and field.
    frequencies: Vec<Vec<Vec<u64>>>,
    rows: u64,
}

impl<'a> Terms<'a> {
    pub(crate) fn find(
        searcher: &'a Searcher,
        fields: &Fields,
        boosts: FieldBoosts,
        words: &'a [Sought],
        place: &Place,
    ) -> Result<Self> {
        let boosts = [
            (fields.body, boosts.body),
            (fields.title, boosts.title),
            (fields.heading, boosts.heading),
        ];
        let fields = boosts.map(|(field, boost)| FieldOfIndex {
            field,
            boost,
            words: 0,
        });
        let forms = words.iter().map(|word| word.forms.len());
        let mut found = Self {
            searcher,
            words,
            segments: Vec::with_capacity(searcher.segment_readers().len()),
            frequencies: forms.map(|forms| vec![vec![0; fields.len()]; forms]).collect(),
            fields: fields.into(),
            rows: 0,
        };
        place.check("searching", found.look_up())?;
        Ok(found)
    }

    fn look_up(&mut self) -> tantivy::Result<()> {
        for reader in self.searcher.segment_readers() {
            self.rows += u64::from(reader.max_doc());
            let mut segment = Segment {
                indexes: Vec::with_capacity(self.fields.len()),
                listed: Vec::with_capacity(self.words.len()),
            };
            for (at_field, field) in self.fields.iter_mut().enumerate() {
                let index = reader.inverted_index(field.field)?;
                let words = index.total_num_tokens();
                field.words += words;
                if words == 0 {
                    segment.indexes.push(None);
                    continue;
                }
                for (at_word, word) in self.words.iter().enumerate() {
                    for (at_form, (form, _)) in word.forms.iter().enumerate() {
                        let Some(info) = index.terms().get(form.as_bytes())? else {
                            continue;
                        };
                        self.frequencies[at_word][at_form][at_field] += u64::from(info.doc_freq);
                        segment.listed.push(Listed {
                            word: at_word,
                            form: at_form,
                            field: at_field,
                            info,
                        });
                    }
                }
                segment.indexes.push(Some(index));
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Whether every row is scored for so many wanted ones; otherwise the postings are better passed over in blocks.
    pub(crate) fn scores_all(&self, wanted: usize) -> bool {
        let most = wanted.max(WANTED_LEAST).saturating_mul(ROWS_FOR_EACH);
        let mut readers = self.searcher.segment_readers().iter();
        readers.all(|reader| (reader.max_doc() as usize) < most)
    }

    /// How rare a word is: the logarithm of how many rows there are for each that has it.
    fn rarity(&self, frequency: u64) -> f32 {
        // A damaged index may count more rows with a word than rows.
        let without = self.rows.saturating_sub(frequency) as f32;
        (1.0 + (without + 0.5) / (frequency as f32 + 0.5)).ln()
    }

    /// The best `depth` of the allowed rows by BM25 of any of the words, in the order of their addresses.
    pub(crate) fn run(&self, allowed: &[Arc<RowSet>], depth: usize, place: &Place) -> Result<Vec<Scored>> {
        let rows: u32 = allowed.iter().map(|rows| rows.len()).sum();
        let mut best = Best::of_rows(depth, rows as usize);
        let mut walk = || -> tantivy::Result<()> {
            let held_back: Vec<[f32; 256]> = self.fields.iter().map(|field| self.held_back(field)).collect();
            for (segment, allowed) in allowed.iter().enumerate() {
                if allowed.len() > 0 {
                    let scores = self.scores(segment, &held_back)?;
                    for (word, bits) in allowed.words().iter().enumerate() {
                        let mut bits = *bits;
                        while bits != 0 {
                            let row = word as u32 * 64 + bits.trailing_zeros();
                            bits &= bits - 1;
                            let score = scores.get(row as usize).copied().unwrap_or_default();
                            if score > 0.0 {
                                let segment = segment as u32;
                                best.push(Scored { score, segment, row });
                            }
                        }
                    }
                }
            }
            Ok(())
        };
        place.check("searching", walk())?;
        let mut list = best.into_list();
        sort_by_address(&mut list);
        Ok(list)
    }

    /// What a text's length takes from a word, by the byte that lengths are kept as.
    fn held_back(&self, field: &FieldOfIndex) -> [f32; 256] {
        let average = (field.words as f32 / self.rows.max(1) as f32).max(f32::MIN_POSITIVE);
        std::array::from_fn(|byte| {
            let length = FieldNormReader::id_to_fieldnorm(byte as u8) as f32;
            K1 * (1.0 - B + B * length / average)
        })
    }

    /// The score of each row of a segment; 0 where it has none of the words.
    fn scores(&self, at: usize, held_back: &[[f32; 256]]) -> tantivy::Result<Vec<f32>> {
        let (Some(reader), Some(segment)) = (self.searcher.segment_readers().get(at), self.segments.get(at))
        else {
            return Ok(Vec::new());
        };
        let mut scores = vec![0.0_f32; reader.max_doc() as usize];
        let mut lengths: Vec<Option<FieldNormReader>> = vec![None; self.fields.len()];
        for listed in &segment.listed {
            let field = &self.fields[listed.field];
            let (_, weight) = &self.words[listed.word].forms[listed.form];
            let rarity = self.rarity(self.frequencies[listed.word][listed.form][listed.field]);
            let weight = rarity * (1.0 + K1) * field.boost * weight;
            let Some(index) = segment.indexes[listed.field].as_ref().filter(|_| weight > 0.0) else {
                continue;
            };
            let lengths = match &mut lengths[listed.field] {
                Some(lengths) => &*lengths,
                slot => slot.insert(reader.get_fieldnorms_reader(field.field)?),
            };
            let known = lengths.num_docs();
            let held_back = &held_back[listed.field];
            let mut postings =
                index.read_block_postings_from_terminfo(&listed.info, IndexRecordOption::WithFreqs)?;
            while !postings.docs().is_empty() {
                for (row, count) in postings.docs().iter().zip(postings.freqs()) {
                    let score = scores.get_mut(*row as usize).filter(|_| *row < known);
                    if let Some(score) = score {
                        let count = *count as f32;
                        *score +=
                            weight * (count / (count + held_back[usize::from(lengths.fieldnorm_id(*row))]));
                    }
                }
                postings.advance();
            }
        }
        Ok(scores)
    }

    /// How much of the question each row has in its text, title or headings.
    pub(crate) fn coverage(&self, rows: &[(u32, u32)], place: &Place) -> Result<Vec<Coverage>> {
        let mut found = vec![Coverage::default(); rows.len()];
        if self.words.is_empty() || rows.is_empty() {
            return Ok(found);
        }
        // A word is as rare as its most common form in texts.
        let weights = self.frequencies.iter().map(|forms| {
            let frequency = forms.iter().map(|fields| fields[0]).max();
            self.rarity(frequency.unwrap_or_default())
        });
        let weights: Vec<f32> = weights.collect();
        let sum: f32 = weights.iter().sum();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|at| rows[*at]);
        let mut has = vec![false; rows.len() * self.words.len()];
        let mut walk = || -> tantivy::Result<()> {
            for group in order.chunk_by(|left, right| rows[*left].0 == rows[*right].0) {
                let Some(segment) = self.segments.get(rows[group[0]].0 as usize) else {
                    continue;
                };
                for listed in &segment.listed {
                    let Some(index) = &segment.indexes[listed.field] else {
                        continue;
                    };
                    let mut postings =
                        index.read_postings_from_terminfo(&listed.info, IndexRecordOption::Basic)?;
                    let mut doc = postings.doc();
                    for at in group {
                        let row = rows[*at].1;
                        if doc < row {
                            doc = postings.seek(row);
                        }
                        has[at * self.words.len() + listed.word] |= doc == row && doc != TERMINATED;
                    }
                }
            }
            Ok(())
        };
        place.check("searching", walk())?;
        for (found, has) in found.iter_mut().zip(has.chunks(self.words.len())) {
            let count = has.iter().filter(|has| **has).count();
            let weight: f32 = has
                .iter()
                .zip(&weights)
                .map(|(has, weight)| if *has { *weight } else { 0.0 })
                .sum();
            *found = Coverage {
                words: count as f32 / self.words.len() as f32,
                // Sums of shares miss 1 by a rounding.
                weight: (weight / sum.max(f32::MIN_POSITIVE)).min(1.0),
            };
        }
        Ok(found)
    }
}
