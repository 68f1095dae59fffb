//! Terms → BM25 → the best rows, and how much of a question a row has.

use std::sync::Arc;

use stepwell_core::{Error, Result};
use tantivy::query::{BooleanQuery, BoostQuery, EnableScoring, Occur, PhraseQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Term};
use tantivy::{DocSet, Searcher, TERMINATED};

use super::question::{Question, Sought};
use crate::best::{Best, Scored};
use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;

/// What two neighbours count where they stand so, beside what they count as words.
const PHRASE_BOOST: f32 = 0.5;

/// What a word counts in each field; the scores of the fields are added.
///
/// A title stands with each chunk of its document, so its words count little: a quarter of a word of the text. Judged on
/// titled documents cut into chunks (nDCG@10 of words alone), titles at 0, ¼ and ½ gave .677, .681 and .671 on SciFact and
/// .362, .376 and .379 on Cranfield: ¼ is what gains on both. Neither has headings.
///
/// ```
/// use stepwell_rag::FieldBoosts;
/// let boosts = FieldBoosts::default().with_title(1.0);
/// assert_eq!((boosts.title, boosts.heading, boosts.body), (1.0, 0.5, 1.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct FieldBoosts {
    /// The document's title: 0.25.
    pub title: f32,
    /// The headings a chunk stands under: 0.5. They repeat for every chunk below them.
    pub heading: f32,
    /// The chunk's text: 1.
    pub body: f32,
}

impl Default for FieldBoosts {
    fn default() -> Self {
        Self {
            title: 0.25,
            heading: 0.5,
            body: 1.0,
        }
    }
}

impl FieldBoosts {
    /// With another boost of titles; 0 leaves them out.
    pub fn with_title(mut self, title: f32) -> Self {
        self.title = title;
        self
    }

    /// With another boost of headings; 0 leaves them out.
    pub fn with_heading(mut self, heading: f32) -> Self {
        self.heading = heading;
        self
    }

    /// With another boost of texts; 0 leaves them out.
    pub fn with_body(mut self, body: f32) -> Self {
        self.body = body;
        self
    }

    /// Checks what a caller set.
    pub(crate) fn check(self) -> Result<()> {
        let all = [self.title, self.heading, self.body];
        if all.iter().all(|boost| (0.0..=100.0).contains(boost)) && all.iter().any(|boost| *boost > 0.0) {
            return Ok(());
        }
        Err(Error::invalid(
            "field boosts",
            "give numbers between 0 and 100, one of them above 0",
        ))
    }

    /// The fields that count and have words in this state of the index.
    pub(super) fn fields(self, searcher: &Searcher, fields: &Fields) -> tantivy::Result<Vec<(Field, f32)>> {
        let mut found = Vec::with_capacity(3);
        for (field, boost) in [
            (fields.body, self.body),
            (fields.title, self.title),
            (fields.heading, self.heading),
        ] {
            let mut has_words = false;
            for reader in searcher.segment_readers() {
                has_words |= reader.inverted_index(field)?.total_num_tokens() > 0;
            }
            if boost > 0.0 && has_words {
                found.push((field, boost));
            }
        }
        Ok(found)
    }
}

pub(super) fn term(field: Field, word: &str, boost: f32) -> Box<dyn Query> {
    let term = TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs);
    boosted(Box::new(term), boost)
}

pub(super) fn boosted(query: Box<dyn Query>, boost: f32) -> Box<dyn Query> {
    if (boost - 1.0).abs() < f32::EPSILON {
        query
    } else {
        Box::new(BoostQuery::new(query, boost))
    }
}

/// Any of a question's words in any field; `None` where nothing can match.
pub(crate) fn words_query(
    searcher: &Searcher,
    fields: &Fields,
    boosts: FieldBoosts,
    question: &Question,
    with_pairs: bool,
    place: &Place,
) -> Result<Option<Box<dyn Query>>> {
    let counted = place.check("searching", boosts.fields(searcher, fields))?;
    let mut clauses = Vec::new();
    for word in &question.words {
        for (form, weight) in &word.forms {
            for (field, boost) in &counted {
                clauses.push((Occur::Should, term(*field, form, boost * weight)));
            }
        }
    }
    if with_pairs {
        for pair in &question.pairs {
            for (field, boost) in &counted {
                let terms = pair.iter().map(|word| Term::from_field_text(*field, word));
                let phrase = Box::new(PhraseQuery::new(terms.collect()));
                clauses.push((Occur::Should, boosted(phrase, boost * PHRASE_BOOST)));
            }
        }
    }
    Ok((!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>))
}

/// With fewer rows than this for each wanted one, all are scored: pruning would skip little, and sorts a long question's
/// words anew at each step. A hybrid question of 44 words over 10,000 passages took 1.0 ms instead of 1.9.
const PRUNED_FROM: usize = 32;

/// The best `depth` of the allowed rows by the query's score.
pub(crate) fn run(
    searcher: &Searcher,
    query: &dyn Query,
    allowed: &[Arc<RowSet>],
    depth: usize,
    place: &Place,
) -> Result<Vec<Scored>> {
    let mut best = Best::new(depth);
    let walk = |best: &mut Best| -> tantivy::Result<()> {
        let weight = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
        for (segment, (reader, allowed)) in searcher.segment_readers().iter().zip(allowed).enumerate() {
            if allowed.len() == 0 {
                continue;
            }
            let segment = segment as u32;
            let best_before = best.threshold().next_down();
            let mut see = |row: u32, score: f32| {
                if allowed.contains(row) {
                    best.push(Scored { score, segment, row });
                }
                best.threshold().next_down()
            };
            if reader.max_doc() as usize / PRUNED_FROM < depth {
                weight.for_each(reader, &mut |row, score| {
                    see(row, score);
                })?;
            } else {
                // The threshold prunes whole blocks of postings; one step below it keeps equal scores in the race.
                weight.for_each_pruning(best_before, reader, &mut see)?;
            }
        }
        Ok(())
    };
    place.check("searching", walk(&mut best))?;
    Ok(best.into_sorted())
}

/// The allowed rows that a query matches.
pub(crate) fn matching_rows(
    searcher: &Searcher,
    query: &dyn Query,
    allowed: &[Arc<RowSet>],
    place: &Place,
) -> Result<Vec<Arc<RowSet>>> {
    let walk = || -> tantivy::Result<Vec<Arc<RowSet>>> {
        let weight = query.weight(EnableScoring::disabled_from_searcher(searcher))?;
        let mut sets = Vec::with_capacity(allowed.len());
        for (reader, allowed) in searcher.segment_readers().iter().zip(allowed) {
            let mut set = RowSet::empty(reader.max_doc());
            if allowed.len() > 0 {
                weight.for_each_no_score(reader, &mut |rows| {
                    rows.iter()
                        .filter(|row| allowed.contains(**row))
                        .for_each(|row| set.insert(*row));
                })?;
            }
            sets.push(Arc::new(set));
        }
        Ok(sets)
    };
    place.check("searching", walk())
}

/// How much of a question a row has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Coverage {
    /// Share of the question's words.
    pub(crate) words: f32,
    /// The same, a word counting the more the fewer rows have it (inverse document frequency).
    pub(crate) weight: f32,
}

/// How much of the question each row has in its text, title or headings.
pub(crate) fn coverage(
    searcher: &Searcher,
    fields: &Fields,
    words: &[Sought],
    rows: &[(u32, u32)],
    place: &Place,
) -> Result<Vec<Coverage>> {
    if words.is_empty() || rows.is_empty() {
        return Ok(vec![Coverage::default(); rows.len()]);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by_key(|at| rows[*at]);
    let mut found = vec![Coverage::default(); rows.len()];
    let searched = [fields.body, fields.title, fields.heading];
    let mut walk = || -> tantivy::Result<()> {
        let total = searcher
            .segment_readers()
            .iter()
            .map(|reader| f64::from(reader.max_doc()))
            .sum::<f64>();
        let mut weights = Vec::with_capacity(words.len());
        for word in words {
            let mut frequency = 0;
            for (form, _) in &word.forms {
                frequency = frequency.max(searcher.doc_freq(&Term::from_field_text(fields.body, form))?);
            }
            let frequency = frequency as f64;
            weights.push((1.0 + (total - frequency + 0.5) / (frequency + 0.5)).ln() as f32);
        }
        let sum: f32 = weights.iter().sum();
        for group in order.chunk_by(|left, right| rows[*left].0 == rows[*right].0) {
            let Some(reader) = searcher.segment_readers().get(rows[group[0]].0 as usize) else {
                continue;
            };
            let mut indexes = Vec::with_capacity(searched.len());
            for field in searched {
                let index = reader.inverted_index(field)?;
                if index.total_num_tokens() > 0 {
                    indexes.push((index, field));
                }
            }
            for (word, weight) in words.iter().zip(&weights) {
                let mut has = vec![false; group.len()];
                for ((form, _), (index, field)) in word
                    .forms
                    .iter()
                    .flat_map(|form| indexes.iter().map(move |index| (form, index)))
                {
                    let term = Term::from_field_text(*field, form);
                    let Some(mut postings) = index.read_postings(&term, IndexRecordOption::Basic)? else {
                        continue;
                    };
                    let mut doc = postings.doc();
                    for (has, at) in has.iter_mut().zip(group) {
                        let row = rows[*at].1;
                        if doc < row {
                            doc = postings.seek(row);
                        }
                        *has |= doc == row && doc != TERMINATED;
                    }
                }
                for (has, at) in has.into_iter().zip(group) {
                    if has {
                        found[*at].words += 1.0 / words.len() as f32;
                        found[*at].weight += weight / sum.max(f32::MIN_POSITIVE);
                    }
                }
            }
        }
        Ok(())
    };
    place.check("searching", walk())?;
    // Sums of shares miss 1 by a rounding.
    for coverage in &mut found {
        (coverage.words, coverage.weight) = (coverage.words.min(1.0), coverage.weight.min(1.0));
    }
    Ok(found)
}
