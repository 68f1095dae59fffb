//! Which rows a search may see: a [`Filter`] and a tenant become a set of rows of each segment.
//!
//! A question's filter is checked once, and its terms ([`crate::fact`]) made: a [`Restriction`]. Each segment looks
//! those up and combines the sets by word, which keeps `not` and empty `or` free of special cases.

mod cache;
mod rows;

use std::sync::Arc;

use stepwell_core::{Error, Filter, Result, Scope};
use tantivy::postings::Postings;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{SegmentReader, TERMINATED};

pub(crate) use self::cache::FilterCache;
pub(crate) use self::rows::RowSet;
use crate::error::Place;
use crate::fact::{after_prefix, present_term, range_terms, text_prefix, value_term};
use crate::schema::{DocumentKey, Fields, check_id};
use crate::snapshot::Snapshot;

/// Deeper filters are refused.
const MAX_DEPTH: usize = 64;
/// Filters with more parts and values are refused.
const MAX_PARTS: usize = 65_536;

/// A tenant and a filter, checked, with the terms to look up.
#[derive(Debug)]
pub(crate) struct Restriction {
    tenant: Vec<u8>,
    condition: Option<Condition>,
    /// Equal for equal restrictions alone.
    hash: [u8; 32],
}

/// A filter as terms.
#[derive(Debug)]
enum Condition {
    /// Rows with one of these facts.
    Facts(Vec<Vec<u8>>),
    /// Rows with a fact from the first up to but without the second.
    Between(Vec<u8>, Vec<u8>),
    /// Rows of documents whose term begins so.
    Documents(Vec<Vec<u8>>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

impl Restriction {
    /// # Errors
    /// `invalid_input` and `limit_exceeded`, also where nothing is stored that it could be tried on.
    pub(crate) fn new(scope: &Scope, filter: Option<&Filter>) -> Result<Self> {
        let mut compiler = Compiler { scope, parts: 0 };
        let condition = filter.map(|filter| compiler.condition(filter, 0)).transpose()?;
        let tenant = scope.tenant().as_bytes().to_vec();
        let mut hasher = blake3::Hasher::new();
        hash_bytes(&mut hasher, &tenant);
        if let Some(condition) = &condition {
            condition.hash(&mut hasher);
        }
        Ok(Self {
            tenant,
            condition,
            hash: *hasher.finalize().as_bytes(),
        })
    }

    /// The rows that may be found, for each segment.
    pub(crate) fn rows(
        &self,
        snapshot: &Snapshot,
        cache: &FilterCache,
        fields: &Fields,
        place: &Place,
    ) -> Result<Vec<Arc<RowSet>>> {
        let readers = snapshot.searcher.segment_readers().iter();
        readers
            .map(|reader| cache.rows(reader, fields, self, place))
            .collect()
    }

    fn living_rows(&self, reader: &SegmentReader, fields: &Fields, place: &Place) -> Result<RowSet> {
        let lookup = Lookup {
            reader,
            fields,
            place,
        };
        let mut set = lookup.any(fields.tenant, std::slice::from_ref(&self.tenant))?;
        if let Some(condition) = self.condition.as_ref().filter(|_| set.len() > 0) {
            set = set.and(&lookup.rows(condition)?);
        }
        if let Some(alive) = reader.alive_bitset().filter(|_| set.len() > 0) {
            let mut living = RowSet::empty(reader.max_doc());
            alive.iter_alive().for_each(|row| living.insert(row));
            set = set.and(&living);
        }
        Ok(set)
    }
}

struct Compiler<'a> {
    scope: &'a Scope,
    parts: usize,
}

impl Compiler<'_> {
    fn count(&mut self, parts: usize) -> Result<()> {
        self.parts += parts;
        if self.parts > MAX_PARTS {
            return Err(Error::LimitExceeded {
                what: "the filter".to_owned(),
                limit: format!("{MAX_PARTS} parts and values"),
            });
        }
        Ok(())
    }

    fn all(&mut self, parts: &[Filter], depth: usize) -> Result<Vec<Condition>> {
        parts.iter().map(|part| self.condition(part, depth + 1)).collect()
    }

    fn condition(&mut self, filter: &Filter, depth: usize) -> Result<Condition> {
        if depth > MAX_DEPTH {
            return Err(Error::LimitExceeded {
                what: "the filter's depth".to_owned(),
                limit: format!("{MAX_DEPTH} levels"),
            });
        }
        self.count(1)?;
        Ok(match filter {
            Filter::Eq { key, value } => Condition::Facts(vec![value_term(key, value)?]),
            Filter::In { key, values } => {
                self.count(values.len())?;
                let terms = values.iter().map(|value| value_term(key, value));
                Condition::Facts(distinct(terms.collect::<Result<_>>()?))
            }
            Filter::Range { key, min, max } => {
                let (from, to) = range_terms(key, min.as_ref(), max.as_ref())?;
                Condition::Between(from, to)
            }
            Filter::Exists { key } => Condition::Facts(vec![present_term(key)?]),
            Filter::Prefix { key, prefix } => {
                let from = text_prefix(key, prefix)?;
                let to = after_prefix(&from);
                Condition::Between(from, to)
            }
            Filter::Documents { ids } => {
                self.count(ids.len())?;
                ids.iter().try_for_each(|id| check_id(id))?;
                let prefixes = ids.iter().map(|id| DocumentKey::prefix(self.scope, id));
                Condition::Documents(distinct(prefixes.collect()))
            }
            Filter::And(parts) => Condition::All(self.all(parts, depth)?),
            Filter::Or(parts) => Condition::Any(self.all(parts, depth)?),
            Filter::Not(part) => Condition::Not(Box::new(self.condition(part, depth + 1)?)),
            other => {
                return Err(Error::Unsupported {
                    who: "this index".to_owned(),
                    what: format!("the filter {other:?}"),
                    hint: "use a newer stepwell".to_owned(),
                });
            }
        })
    }
}

fn distinct(mut terms: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    terms.sort_unstable();
    terms.dedup();
    terms
}

fn hash_bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

impl Condition {
    /// Kinds and lengths first, so that no condition can imitate another.
    fn hash(&self, hasher: &mut blake3::Hasher) {
        let (kind, terms, parts): (u8, &[Vec<u8>], &[Condition]) = match self {
            Self::Facts(terms) => (1, terms, &[]),
            Self::Between(from, to) => {
                hasher.update(&[2]);
                hash_bytes(hasher, from);
                return hash_bytes(hasher, to);
            }
            Self::Documents(prefixes) => (3, prefixes, &[]),
            Self::All(parts) => (4, &[], parts),
            Self::Any(parts) => (5, &[], parts),
            Self::Not(part) => (6, &[], std::slice::from_ref(part)),
        };
        hasher.update(&[kind]);
        hasher.update(&((terms.len() + parts.len()) as u64).to_le_bytes());
        for term in terms {
            hash_bytes(hasher, term);
        }
        for part in parts {
            part.hash(hasher);
        }
    }
}

struct Lookup<'a> {
    reader: &'a SegmentReader,
    fields: &'a Fields,
    place: &'a Place,
}

impl Lookup<'_> {
    /// All rows with one of the terms.
    fn any(&self, field: Field, terms: &[Vec<u8>]) -> Result<RowSet> {
        let mut set = RowSet::empty(self.reader.max_doc());
        let mut walk = || -> tantivy::Result<()> {
            let index = self.reader.inverted_index(field)?;
            for term in terms {
                if let Some(info) = index.terms().get(term)? {
                    let mut postings = index.read_postings_from_terminfo(&info, IndexRecordOption::Basic)?;
                    drain(&mut postings, &mut set);
                }
            }
            Ok(())
        };
        self.place.check("searching", walk())?;
        Ok(set)
    }

    /// All rows with a term in `from..to`.
    fn between(&self, field: Field, from: &[u8], to: &[u8]) -> Result<RowSet> {
        let mut set = RowSet::empty(self.reader.max_doc());
        if from >= to {
            return Ok(set);
        }
        let mut walk = || -> tantivy::Result<()> {
            let index = self.reader.inverted_index(field)?;
            let mut terms = index.terms().range().ge(from).lt(to).into_stream()?;
            while terms.advance() {
                let mut postings =
                    index.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
                drain(&mut postings, &mut set);
            }
            Ok(())
        };
        self.place.check("searching", walk())?;
        Ok(set)
    }

    fn rows(&self, condition: &Condition) -> Result<RowSet> {
        let rows = self.reader.max_doc();
        match condition {
            Condition::Facts(terms) => self.any(self.fields.facts, terms),
            Condition::Between(from, to) => self.between(self.fields.facts, from, to),
            Condition::Documents(prefixes) => {
                let mut set = RowSet::empty(rows);
                for from in prefixes {
                    set = set.or(&self.between(self.fields.document, from, &after_prefix(from))?);
                }
                Ok(set)
            }
            Condition::All(parts) => {
                let mut set = RowSet::full(rows);
                for part in parts {
                    if set.len() == 0 {
                        break;
                    }
                    set = set.and(&self.rows(part)?);
                }
                Ok(set)
            }
            Condition::Any(parts) => {
                let mut set = RowSet::empty(rows);
                for part in parts {
                    set = set.or(&self.rows(part)?);
                }
                Ok(set)
            }
            Condition::Not(part) => Ok(RowSet::full(rows).without(&self.rows(part)?)),
        }
    }
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
    use super::*;

    #[test]
    fn restrictions_share_a_hash_only_where_they_let_the_same_through() {
        let (one, two) = (
            Scope::new("a").expect("a name"),
            Scope::new("ab").expect("a name"),
        );
        let hash = |scope: &Scope, filter: Option<&Filter>| {
            Restriction::new(scope, filter).expect("a good filter").hash
        };
        let filters = [
            Filter::eq("b", "c"),
            Filter::eq("bc", ""),
            Filter::exists("b"),
            Filter::prefix("b", "c"),
            Filter::range("b", Some("c".into()), None),
            Filter::range("b", None, Some("c".into())),
            Filter::is_in("b", ["c", "d"]),
            Filter::eq("b", "c").negate(),
            Filter::And(vec![]),
            Filter::Or(vec![]),
            Filter::And(vec![Filter::eq("b", "c"), Filter::eq("b", "d")]),
            Filter::Or(vec![Filter::eq("b", "c"), Filter::eq("b", "d")]),
            Filter::And(vec![
                Filter::And(vec![Filter::eq("b", "c")]),
                Filter::eq("b", "d"),
            ]),
            Filter::And(vec![Filter::And(vec![
                Filter::eq("b", "c"),
                Filter::eq("b", "d"),
            ])]),
            Filter::Documents {
                ids: vec!["c".to_owned()],
            },
        ];
        let mut seen = vec![hash(&one, None), hash(&two, None)];
        for filter in &filters {
            seen.extend([hash(&one, Some(filter)), hash(&two, Some(filter))]);
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
        assert_eq!(
            hash(&one, Some(&Filter::is_in("b", ["d", "c", "d"]))),
            hash(&one, Some(&Filter::is_in("b", ["c", "d"])))
        );
    }

    #[test]
    fn a_filter_that_is_too_deep_or_too_wide_is_refused() {
        let refused = |filter: &Filter| {
            Restriction::new(&Scope::local(), Some(filter))
                .expect_err("refused")
                .code()
        };
        let mut deep = Filter::exists("kind");
        for _ in 0..100 {
            deep = deep.negate();
        }
        assert_eq!(refused(&deep), "limit_exceeded");
        let half = || Filter::is_in("n", 0..40_000_i64);
        assert!(Restriction::new(&Scope::local(), Some(&half())).is_ok());
        assert_eq!(refused(&half().and(half())), "limit_exceeded");
        assert_eq!(
            refused(&Filter::Or(vec![Filter::exists("a"); 70_000])),
            "limit_exceeded"
        );
    }
}
