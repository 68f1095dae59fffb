//! A query of tantivy's → the best rows: phrases, expressions, and words in large segments.

use std::sync::Arc;

use stepwell_core::{Error, Result};
use tantivy::Searcher;
use tantivy::query::{BooleanQuery, BoostQuery, EnableScoring, Occur, PhraseQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Term};

use super::question::Question;
use super::terms::ROWS_FOR_EACH;
use crate::best::{Best, Scored, sort_by_address};
use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;
use crate::spare::Spare;

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
        for (form, weight) in word.forms() {
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

/// The best `depth` of the allowed rows by the query's score, in the order of their addresses.
pub(crate) fn run(
    searcher: &Searcher,
    query: &dyn Query,
    allowed: &[Arc<RowSet>],
    depth: usize,
    place: &Place,
) -> Result<Spare<Scored>> {
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
            if (reader.max_doc() as usize) < depth.saturating_mul(ROWS_FOR_EACH) {
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
    let mut list = best.into_list();
    sort_by_address(&mut list);
    Ok(list)
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
