//! Which rows a search may see: a [`Filter`] and a tenant become a set of rows of each segment.
//!
//! Sets are combined by word, which keeps `not` and empty `or` free of special cases; the terms that a filter looks
//! up are those of [`crate::fact`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use stepwell_core::{Error, Filter, Result, Scope};
use tantivy::index::SegmentId;
use tantivy::postings::Postings;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{SegmentReader, TERMINATED};

use crate::error::Place;
use crate::fact::{after_prefix, present_term, range_terms, text_prefix, value_term};
use crate::schema::{DocumentKey, Fields, check_id};

/// Deeper or wider filters are refused.
const MAX_FILTER_DEPTH: usize = 64;
const MAX_FILTER_VALUES: usize = 65_536;
/// Sets kept for the next query.
const CACHED_SETS: usize = 256;

/// A set of rows of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowSet {
    words: Vec<u64>,
    len: u32,
}

impl RowSet {
    pub(crate) fn empty(rows: u32) -> Self {
        Self {
            words: vec![0; (rows as usize).div_ceil(64)],
            len: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn from_rows(rows: u32, members: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::empty(rows);
        members.into_iter().for_each(|row| set.insert(row));
        set
    }

    /// Rows past the last word are left out.
    pub(crate) fn insert(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            let bit = 1_u64 << (row % 64);
            self.len += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        self.words
            .get(row as usize / 64)
            .is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// 64 rows to a word, lowest bit first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The rows, lowest first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut bits = *word;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    fn combine(mut self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = with(*word, *other);
        }
        self.len = self.words.iter().map(|word| word.count_ones()).sum();
        self
    }

    fn full(rows: u32) -> Self {
        let mut words = vec![u64::MAX; (rows as usize).div_ceil(64)];
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(64)) {
            *last = (1 << (rows % 64)) - 1;
        }
        Self { words, len: rows }
    }
}

/// Segment, its deletes, tenant and filter.
type CacheKey = (SegmentId, Option<u64>, String);

/// The sets that past queries made, for segments as they are now.
#[derive(Debug, Default)]
pub(crate) struct FilterCache {
    sets: Mutex<HashMap<CacheKey, Arc<RowSet>>>,
}

impl FilterCache {
    /// The living rows of a segment that this scope and filter let through.
    pub(crate) fn rows(
        &self,
        reader: &SegmentReader,
        fields: &Fields,
        scope: &Scope,
        filter: Option<&Filter>,
        place: &Place,
    ) -> Result<Arc<RowSet>> {
        let filter_key = match filter {
            Some(filter) => serde_json::to_string(filter)
                .map_err(|error| Error::invalid("filter", format!("a number is not finite ({error})")))?,
            None => String::new(),
        };
        let key = (
            reader.segment_id(),
            reader.delete_opstamp(),
            format!("{}\0{filter_key}", scope.tenant()),
        );
        // A poisoned map is still a map of finished sets.
        let lock = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let set = Arc::new(allowed_rows(reader, fields, scope, filter, place)?);
        let mut sets = lock();
        if sets.len() >= CACHED_SETS {
            sets.clear();
        }
        sets.insert(key, Arc::clone(&set));
        Ok(set)
    }
}

fn allowed_rows(
    reader: &SegmentReader,
    fields: &Fields,
    scope: &Scope,
    filter: Option<&Filter>,
    place: &Place,
) -> Result<RowSet> {
    let lookup = Lookup {
        reader,
        fields,
        scope,
        place,
    };
    let tenant = scope.tenant().as_bytes();
    let mut set = lookup.term(fields.tenant, tenant)?;
    if let Some(filter) = filter {
        let chosen = lookup.evaluate(filter, 0)?;
        set = set.combine(&chosen, |left, right| left & right);
    }
    if let Some(alive) = reader.alive_bitset() {
        let mut living = RowSet::empty(reader.max_doc());
        alive.iter_alive().for_each(|row| living.insert(row));
        set = set.combine(&living, |left, right| left & right);
    }
    Ok(set)
}

struct Lookup<'a> {
    reader: &'a SegmentReader,
    fields: &'a Fields,
    scope: &'a Scope,
    place: &'a Place,
}

impl Lookup<'_> {
    fn term(&self, field: Field, term: &[u8]) -> Result<RowSet> {
        let mut set = RowSet::empty(self.reader.max_doc());
        self.place
            .check("searching", self.add_term(field, term, &mut set))?;
        Ok(set)
    }

    fn add_term(&self, field: Field, term: &[u8], set: &mut RowSet) -> tantivy::Result<()> {
        let index = self.reader.inverted_index(field)?;
        if let Some(info) = index.terms().get(term)? {
            let mut postings = index.read_postings_from_terminfo(&info, IndexRecordOption::Basic)?;
            drain(&mut postings, set);
        }
        Ok(())
    }

    /// All rows with a term in `from..to`.
    fn range(&self, field: Field, from: &[u8], to: &[u8]) -> Result<RowSet> {
        let mut set = RowSet::empty(self.reader.max_doc());
        let walk = || -> tantivy::Result<RowSet> {
            let index = self.reader.inverted_index(field)?;
            let mut terms = index.terms().range().ge(from).lt(to).into_stream()?;
            while terms.advance() {
                let mut postings =
                    index.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
                drain(&mut postings, &mut set);
            }
            Ok(set)
        };
        self.place.check("searching", walk())
    }

    fn evaluate(&self, filter: &Filter, depth: usize) -> Result<RowSet> {
        if depth > MAX_FILTER_DEPTH {
            return Err(Error::LimitExceeded {
                what: "the filter's depth".to_owned(),
                limit: format!("{MAX_FILTER_DEPTH} levels"),
            });
        }
        let rows = self.reader.max_doc();
        let facts = self.fields.facts;
        match filter {
            Filter::Eq { key, value } => self.term(facts, &value_term(key, value)?),
            Filter::In { key, values } => {
                check_count(values.len())?;
                let mut set = RowSet::empty(rows);
                for value in values {
                    let term = value_term(key, value)?;
                    self.place
                        .check("searching", self.add_term(facts, &term, &mut set))?;
                }
                Ok(set)
            }
            Filter::Range { key, min, max } => {
                let (from, to) = range_terms(key, min.as_ref(), max.as_ref())?;
                if from >= to {
                    Ok(RowSet::empty(rows))
                } else {
                    self.range(facts, &from, &to)
                }
            }
            Filter::Exists { key } => self.term(facts, &present_term(key)?),
            Filter::Prefix { key, prefix } => {
                let from = text_prefix(key, prefix)?;
                let to = after_prefix(&from);
                self.range(facts, &from, &to)
            }
            Filter::Documents { ids } => {
                check_count(ids.len())?;
                let mut set = RowSet::empty(rows);
                for id in ids {
                    check_id(id)?;
                    let from = DocumentKey::prefix(self.scope, id);
                    let found = self.range(self.fields.document, &from, &after_prefix(&from))?;
                    set = set.combine(&found, |left, right| left | right);
                }
                Ok(set)
            }
            Filter::And(all) => {
                let mut set = RowSet::full(rows);
                for part in all {
                    set = set.combine(&self.evaluate(part, depth + 1)?, |left, right| left & right);
                }
                Ok(set)
            }
            Filter::Or(any) => {
                let mut set = RowSet::empty(rows);
                for part in any {
                    set = set.combine(&self.evaluate(part, depth + 1)?, |left, right| left | right);
                }
                Ok(set)
            }
            Filter::Not(part) => {
                let without = self.evaluate(part, depth + 1)?;
                Ok(RowSet::full(rows).combine(&without, |left, right| left & !right))
            }
            other => Err(Error::Unsupported {
                who: "this index".to_owned(),
                what: format!("the filter {other:?}"),
                hint: "use a newer stepwell".to_owned(),
            }),
        }
    }
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_FILTER_VALUES {
        return Err(Error::LimitExceeded {
            what: "a list in the filter".to_owned(),
            limit: format!("{MAX_FILTER_VALUES} values"),
        });
    }
    Ok(())
}

fn drain(postings: &mut impl Postings, set: &mut RowSet) {
    let mut row = postings.doc();
    while row != TERMINATED {
        set.insert(row);
        row = postings.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::RowSet;

    #[test]
    fn a_full_set_has_no_rows_past_its_end() {
        for rows in [0, 1, 63, 64, 65, 128] {
            let full = RowSet::full(rows);
            assert_eq!(full, RowSet::from_rows(rows, 0..rows));
            assert_eq!(
                full.words().iter().map(|word| word.count_ones()).sum::<u32>(),
                rows
            );
        }
    }
}
