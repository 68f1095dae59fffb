//! [`Terms`]: a question's words as the index has them, looked up once: scored row by row, and counted for the hits.

use std::sync::Arc;

use stepwell_core::Result;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{InvertedIndexReader, Searcher};

use super::FieldBoosts;
use super::question::Sought;
use crate::best::{Best, Scored, sort_by_address};
use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;
use crate::spare::Spare;

/// How soon more of the same word counts less, and how much long texts are held back: BM25's usual numbers.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Segments of fewer rows for each wanted one are scored row by row. In larger ones whole blocks of postings can be passed
/// over, which sorts a long question's words anew at each step: a hybrid question of 44 words over 10,000 passages took
/// 1.9 ms of CPU so, 1.0 with every row scored by tantivy's union of lists, and .7 scored here.
pub(super) const ROWS_FOR_EACH: usize = 32;
/// Where fewer are wanted, as if so many were.
const WANTED_LEAST: usize = 1_000;

/// Rows with less have none of the words.
const LEAST: f32 = f32::from_bits(1);

/// How much of a question a row has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Coverage {
    /// Share of the question's words.
    pub(crate) words: f32,
    /// The same, a word counting the more the fewer rows have it (inverse document frequency).
    pub(crate) weight: f32,
}

/// Text, title, heading.
const FIELDS: usize = 3;

/// A form of a word.
struct Form<'a> {
    /// Place of the word in the question.
    word: usize,
    term: &'a str,
    weight: f32,
    /// Rows that have it, by field.
    frequencies: [u64; FIELDS],
}

/// A form of a word in one field of one segment.
struct Listed {
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

/// Reads the postings of one word after the other.
struct Lists<'a> {
    index: &'a InvertedIndexReader,
    reads: IndexRecordOption,
    postings: Option<BlockSegmentPostings>,
}

impl<'a> Lists<'a> {
    fn new(index: &'a InvertedIndexReader, reads: IndexRecordOption) -> Self {
        Self {
            index,
            reads,
            postings: None,
        }
    }

    fn open(&mut self, info: &TermInfo) -> std::io::Result<&mut BlockSegmentPostings> {
        match &mut self.postings {
            Some(postings) => {
                self.index.reset_block_postings_from_terminfo(info, postings)?;
                Ok(postings)
            }
            slot => Ok(slot.insert(self.index.read_block_postings_from_terminfo(info, self.reads)?)),
        }
    }
}

/// A question's words in one state of the index.
pub(crate) struct Terms<'a> {
    searcher: &'a Searcher,
    /// How many words there are.
    words: usize,
    forms: Vec<Form<'a>>,
    fields: [FieldOfIndex; FIELDS],
    segments: Vec<Segment>,
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
        let forms = words.iter().enumerate().flat_map(|(at, word)| {
            word.forms().map(move |(term, weight)| Form {
                word: at,
                term,
                weight,
                frequencies: [0; FIELDS],
            })
        });
        let mut found = Self {
            searcher,
            words: words.len(),
            forms: forms.collect(),
            fields,
            segments: Vec::with_capacity(searcher.segment_readers().len()),
            rows: 0,
        };
        place.check("searching", found.look_up())?;
        Ok(found)
    }

    fn look_up(&mut self) -> tantivy::Result<()> {
        for reader in self.searcher.segment_readers() {
            self.rows += u64::from(reader.max_doc());
            let mut segment = Segment {
                indexes: Vec::with_capacity(FIELDS),
                listed: Vec::with_capacity(self.forms.len() * 2),
            };
            for (at_field, field) in self.fields.iter_mut().enumerate() {
                let index = reader.inverted_index(field.field)?;
                let words = index.total_num_tokens();
                field.words += words;
                if words == 0 {
                    segment.indexes.push(None);
                    continue;
                }
                for (at_form, form) in self.forms.iter_mut().enumerate() {
                    let Some(info) = index.terms().get(form.term.as_bytes())? else {
                        continue;
                    };
                    form.frequencies[at_field] += u64::from(info.doc_freq);
                    segment.listed.push(Listed {
                        form: at_form,
                        field: at_field,
                        info,
                    });
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
    pub(crate) fn run(&self, allowed: &[Arc<RowSet>], depth: usize, place: &Place) -> Result<Spare<Scored>> {
        let mut best = Best::new(depth);
        let mut walk = || -> tantivy::Result<()> {
            let held_back = self.fields.each_ref().map(|field| self.held_back(field));
            for (segment, allowed) in allowed.iter().enumerate() {
                if allowed.len() > 0 {
                    let scores = self.scores(segment, &held_back)?;
                    best.push_rows(segment as u32, 0, allowed.words(), &scores, LEAST);
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
    fn scores(&self, at: usize, held_back: &[[f32; 256]; FIELDS]) -> tantivy::Result<Spare<f32>> {
        let (Some(reader), Some(segment)) = (self.searcher.segment_readers().get(at), self.segments.get(at))
        else {
            return Ok(Spare::default());
        };
        let mut scores = Spare::default();
        scores.resize(reader.max_doc() as usize, 0.0);
        // A field's words come one after the other.
        for listed in segment.listed.chunk_by(|left, right| left.field == right.field) {
            let at_field = listed[0].field;
            let (field, held_back) = (&self.fields[at_field], &held_back[at_field]);
            let Some(index) = segment.indexes[at_field].as_ref().filter(|_| field.boost > 0.0) else {
                continue;
            };
            let lengths = reader.get_fieldnorms_reader(field.field)?;
            let known = lengths.num_docs();
            let mut lists = Lists::new(index, IndexRecordOption::WithFreqs);
            for listed in listed {
                let form = &self.forms[listed.form];
                let weight = self.rarity(form.frequencies[at_field]) * (1.0 + K1) * field.boost * form.weight;
                let postings = lists.open(&listed.info)?;
                while !postings.docs().is_empty() {
                    for (row, count) in postings.docs().iter().zip(postings.freqs()) {
                        let score = scores.get_mut(*row as usize).filter(|_| *row < known);
                        if let Some(score) = score {
                            let count = *count as f32;
                            *score += weight
                                * (count / (count + held_back[usize::from(lengths.fieldnorm_id(*row))]));
                        }
                    }
                    postings.advance();
                }
            }
        }
        Ok(scores)
    }

    /// How much of the question each row has in its text, title or headings.
    pub(crate) fn coverage(&self, rows: &[(u32, u32)], place: &Place) -> Result<Vec<Coverage>> {
        let mut found = vec![Coverage::default(); rows.len()];
        if self.words == 0 || rows.is_empty() {
            return Ok(found);
        }
        // A word is as rare as its most common form in texts.
        let mut common = vec![0; self.words];
        for form in &self.forms {
            common[form.word] = form.frequencies[0].max(common[form.word]);
        }
        let weights: Vec<f32> = common
            .into_iter()
            .map(|frequency| self.rarity(frequency))
            .collect();
        let sum: f32 = weights.iter().sum();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|at| rows[*at]);
        let mut has = vec![false; rows.len() * self.words];
        let mut walk = || -> tantivy::Result<()> {
            for group in order.chunk_by(|left, right| rows[*left].0 == rows[*right].0) {
                let Some(segment) = self.segments.get(rows[group[0]].0 as usize) else {
                    continue;
                };
                for listed in segment.listed.chunk_by(|left, right| left.field == right.field) {
                    let Some(index) = &segment.indexes[listed[0].field] else {
                        continue;
                    };
                    let mut lists = Lists::new(index, IndexRecordOption::Basic);
                    for listed in listed {
                        let postings = lists.open(&listed.info)?;
                        let word = self.forms[listed.form].word;
                        let mut next = postings.doc(0);
                        for at in group {
                            let row = rows[*at].1;
                            if next < row {
                                let place = postings.seek(row);
                                next = postings.doc(place);
                            }
                            has[at * self.words + word] |= next == row;
                        }
                    }
                }
            }
            Ok(())
        };
        place.check("searching", walk())?;
        for (found, has) in found.iter_mut().zip(has.chunks(self.words)) {
            let count = has.iter().filter(|has| **has).count();
            let weight: f32 = has
                .iter()
                .zip(&weights)
                .map(|(has, weight)| if *has { *weight } else { 0.0 })
                .sum();
            *found = Coverage {
                words: count as f32 / self.words as f32,
                // Sums of shares miss 1 by a rounding.
                weight: (weight / sum.max(f32::MIN_POSITIVE)).min(1.0),
            };
        }
        Ok(found)
    }
}
