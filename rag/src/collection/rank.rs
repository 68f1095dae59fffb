//! Legs → fusion → stages → hits: exact names first, one hit per document, what is not relevant out, likeness down.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use stepwell_core::{Chunk, Explanation, Hit, HitUnit, LegScore, Result, Scope, SearchMode};

use super::Inner;
use super::search::Ask;
use crate::best::{Scored, sort_best_first};
use crate::diversify::diversify;
use crate::filter::RowSet;
use crate::fuse::{Fused, Leg, fuse};
use crate::lexical::exact::{MOST_NAMESAKES, names, namesakes};
use crate::lexical::{self, Coverage, Terms};
use crate::schema::{self, DocumentKey, NUMBER};
use crate::simd::prefetch;
use crate::snapshot::Snapshot;
use crate::spare::Spare;
use crate::vector::file::VectorFile;
use crate::vector::plan::SegmentSearch;
use crate::vector::search::{self, exact_score};

/// How deep each leg's list goes: normalisation needs the spread. One hit per document, nDCG@10 was .7254, .7285, .7351,
/// .7349, .7333 on SciFact and .4160, .4147, .4132, .4121, .4081 on Cranfield at 500, 1,000, 1,200, 1,500 and 2,000; depth
/// 1,000 gained up to .026 over 100.
const DEPTH: usize = 1_200;
/// Candidates that are judged or compared with each other beyond those asked for.
const CANDIDATES: usize = 100;
/// Likeness is compared among so many candidates for each hit asked for.
const DIVERSE_FACTOR: usize = 4;
/// A whole document is returned up to this many bytes; of a longer one what stands around its best chunk.
const DOCUMENT_BYTES: usize = 64 << 10;
/// So much of a stored chunk is asked for before it is read.
const FETCHED_BYTES: usize = 1 << 10;

/// A row on its way to be a hit.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    fused: Fused,
    stage: &'static str,
    coverage: Coverage,
    /// The exact cosine, where there is a vector on both sides.
    cosine: Option<f32>,
    relevance: f32,
}

/// Rows, what put them there, how segments were searched by meaning, and whether there are no other rows.
type Legs = (Vec<Fused>, &'static str, Vec<SegmentSearch>, bool);

/// One question over one snapshot.
pub(super) struct Ranking<'a> {
    pub(super) inner: &'a Inner,
    pub(super) scope: &'a Scope,
    pub(super) snapshot: &'a Snapshot,
    pub(super) ask: &'a Ask,
    pub(super) allowed: &'a [Arc<RowSet>],
    pub(super) terms: &'a Terms<'a>,
    /// What is searched instead of the question's words.
    pub(super) expression: Option<&'a dyn tantivy::query::Query>,
}

impl Ranking<'_> {
    /// The rows of the hits, best first, and how each segment was searched by meaning.
    pub(super) fn rank(&self) -> Result<(Vec<Ranked>, Vec<SegmentSearch>)> {
        let query = &self.ask.query;
        let top_k = query.top_k;
        let rows: usize = self.allowed.iter().map(|rows| rows.len() as usize).sum();
        // Stages that leave hits out or move them look at more than the hits asked for.
        let mut wanted = top_k;
        if query.min_relevance.is_some() {
            wanted = wanted.max(CANDIDATES);
        }
        if query.diversity.is_some() {
            wanted = wanted.max(CANDIDATES).max(top_k * DIVERSE_FACTOR);
        }
        let is_folded = query.unit != HitUnit::Chunk;
        let mut depth = if is_folded {
            wanted * DIVERSE_FACTOR
        } else {
            wanted
        };
        let mut exact = self.exact()?;
        loop {
            let (mut fused, stage, segments, is_all) = self.legs(rows, depth, is_folded)?;
            // `k` documents whenever `k` match: one with many chunks may fill the lists.
            if is_folded && fused.len() < wanted && !is_all {
                depth = (depth * 8).min(rows);
                continue;
            }
            fused.truncate(wanted.max(top_k));
            let mut ranked = self.judge(fused, stage)?;
            if let Some(least) = query.min_score {
                ranked.retain(|ranked| ranked.fused.scored.score >= least);
            }
            self.put_first(&mut ranked, &mut exact)?;
            if let Some(least) = query.min_relevance {
                ranked.retain(|ranked| ranked.relevance >= least || ranked.stage == "exact");
            }
            if let Some(diversity) = query.diversity {
                ranked = self.spread(ranked, diversity);
            }
            ranked.truncate(top_k);
            return Ok((ranked, segments));
        }
    }

    /// The vectors that are asked, by segment.
    fn files(&self) -> &[Arc<VectorFile>] {
        &self.snapshot.vectors[self.ask.field]
    }

    /// The best `depth` rows by the legs that were asked for, and whether there are no others. Folded, a document is one row
    /// in each list before the lists become one: nDCG@10 was .7341 on SciFact and .4131 on Cranfield, .7274 and .4146 with
    /// chunks fused first.
    fn legs(&self, rows: usize, depth: usize, is_folded: bool) -> Result<Legs> {
        let (inner, query) = (self.inner, &self.ask.query);
        let is_hybrid = query.mode == SearchMode::Hybrid && self.ask.vector.is_some();
        let list = if is_hybrid { DEPTH.max(depth) } else { depth };
        let mut words = if query.mode == SearchMode::Dense {
            Spare::default()
        } else {
            self.by_words(list)?
        };
        let (mut meaning, segments) = match &self.ask.vector {
            Some(vector) if query.mode != SearchMode::Lexical => {
                let segments = self
                    .files()
                    .iter()
                    .map(AsRef::as_ref)
                    .zip(self.allowed.iter().map(AsRef::as_ref));
                search::search(segments, vector, list, depth, inner.effort)
            }
            _ => Default::default(),
        };
        let is_all = list >= rows || (words.len() < list && meaning.len() < list);
        let without_words = rows.min(list).saturating_sub(words.len());
        let mut best_rows = [Vec::new(), Vec::new()];
        if is_folded {
            best_rows = [self.fold(&mut words)?, self.fold(&mut meaning)?];
        }
        let (mut ranked, stage) = if is_hybrid {
            let allowed = words.len() + without_words;
            (
                fuse(inner.fusion, &words, &meaning, allowed, list, depth),
                "fused",
            )
        } else if self.ask.vector.is_some() {
            (alone(&meaning, |leg, none| (none, leg)), "dense")
        } else {
            (alone(&words, |leg, none| (leg, none)), "lexical")
        };
        ranked.truncate(depth);
        if is_folded {
            for fused in &mut ranked {
                // The chunk of the leg that likes the document better stands for it.
                let rank = |leg: Leg| leg.rank.unwrap_or(u32::MAX);
                let by_words = rank(fused.lexical) < rank(fused.dense);
                let document = fused.scored.address();
                let (list, best_rows) = if by_words {
                    (&words, &best_rows[0])
                } else {
                    (&meaning, &best_rows[1])
                };
                if let Ok(at) = list.binary_search_by_key(&document, |scored| scored.address()) {
                    fused.scored.row = best_rows[at];
                }
            }
        }
        Ok((ranked, stage, segments, is_all))
    }

    /// The best rows by the question's words, in the order of their addresses.
    fn by_words(&self, depth: usize) -> Result<Spare<Scored>> {
        let (inner, searcher) = (self.inner, &self.snapshot.searcher);
        let (place, has_phrases) = (&inner.place, self.ask.query.words.phrases);
        if let Some(expression) = self.expression {
            return lexical::run(searcher, expression, self.allowed, depth, place);
        }
        if !has_phrases && self.terms.scores_all(depth) {
            return self.terms.run(self.allowed, depth, place);
        }
        let question = &self.ask.question;
        let words = lexical::words_query(
            searcher,
            &inner.fields,
            inner.boosts,
            question,
            has_phrases,
            place,
        )?;
        words.map_or_else(
            || Ok(Spare::default()),
            |words| lexical::run(searcher, words.as_ref(), self.allowed, depth, place),
        )
    }

    /// Leaves the first row of each document, with the score of its best one in the list; that one's row is given back.
    fn fold(&self, list: &mut Spare<Scored>) -> Result<Vec<u32>> {
        let first = self.first_rows(list.iter().map(|scored| scored.address()))?;
        let mut best = Vec::with_capacity(list.len());
        let mut folded: Spare<Scored> = Spare::default();
        for (scored, document) in list.iter().zip(first) {
            match (folded.last_mut(), best.last_mut()) {
                // The list is in the order of addresses, where a document's rows lie side by side.
                (Some(last), Some(row)) if last.address() == document => {
                    if scored.score > last.score {
                        (last.score, *row) = (scored.score, scored.row);
                    }
                }
                _ => {
                    best.push(scored.row);
                    folded.push(Scored {
                        row: document.1,
                        ..*scored
                    });
                }
            }
        }
        *list = folded;
        Ok(best)
    }

    /// The first row of a row's document: the rows of a document lie side by side.
    fn first_rows(&self, rows: impl Iterator<Item = (u32, u32)>) -> Result<Vec<(u32, u32)>> {
        let mut columns = HashMap::new();
        let mut first = Vec::new();
        for (segment, row) in rows {
            let column = match columns.entry(segment) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let reader = self.snapshot.searcher.segment_reader(segment);
                    let numbers = reader.fast_fields().u64(NUMBER);
                    entry.insert(
                        self.inner
                            .place
                            .check("reading", numbers)?
                            .first_or_default_col(0),
                    )
                }
            };
            let number = column.get_val(row);
            let number = u32::try_from(number).ok().filter(|number| *number <= row);
            let number = number.ok_or_else(|| self.inner.place.damaged("a chunk's number is not one"))?;
            first.push((segment, row - number));
        }
        Ok(first)
    }

    /// What both legs say of each row exactly, and how relevant that makes it.
    fn judge(&self, fused: Vec<Fused>, stage: &'static str) -> Result<Vec<Ranked>> {
        let inner = self.inner;
        let rows: Vec<(u32, u32)> = fused.iter().map(|fused| fused.scored.address()).collect();
        let words = &self.ask.question.words;
        let covered = self.terms.coverage(&rows, &inner.place)?;
        let ranked = fused.into_iter().zip(covered).map(|(fused, coverage)| {
            let cosine = self.ask.vector.as_ref().and_then(|vector| {
                let (segment, row) = fused.scored.address();
                let file = self.files().get(segment as usize)?;
                exact_score(file, row, vector)
            });
            Ranked {
                relevance: inner
                    .calibration
                    .relevance(cosine, (!words.is_empty()).then_some(coverage.weight)),
                fused,
                stage,
                coverage,
                cosine,
            }
        });
        Ok(ranked.collect())
    }

    /// First rows of the documents that are called like the question.
    fn exact(&self) -> Result<Vec<(u32, u32)>> {
        let Some((id, name)) = &self.ask.exact else {
            return Ok(Vec::new());
        };
        let (inner, snapshot) = (self.inner, self.snapshot);
        let mut rows = Vec::new();
        if schema::check_id(id).is_ok() {
            inner.each_document(
                snapshot,
                &DocumentKey::prefix(self.scope, id),
                |segment, _, found| {
                    rows.extend(found.first().map(|row| (segment as u32, *row)));
                    Ok(())
                },
            )?;
            rows.retain(|(segment, row)| {
                self.allowed
                    .get(*segment as usize)
                    .is_some_and(|allowed| allowed.contains(*row))
            });
        }
        for row in namesakes(
            &snapshot.searcher,
            &inner.fields,
            name,
            self.allowed,
            &inner.place,
        )? {
            let chunk = self.chunk(row)?;
            if !rows.contains(&row) && names(&chunk).any(|found| found == *name) {
                rows.push(row);
            }
        }
        rows.truncate(MOST_NAMESAKES);
        Ok(rows)
    }

    /// Moves the best hit of each exact document, or its first chunk, to the front.
    fn put_first(&self, ranked: &mut Vec<Ranked>, exact: &mut Vec<(u32, u32)>) -> Result<()> {
        if exact.is_empty() {
            return Ok(());
        }
        let first = self.first_rows(ranked.iter().map(|ranked| ranked.fused.scored.address()))?;
        let top = ranked
            .first()
            .map_or(0.0, |ranked| ranked.fused.scored.score.max(0.0));
        let mut front = Vec::new();
        let mut taken = HashSet::new();
        for document in exact.drain(..) {
            if let Some(at) = first.iter().position(|first| *first == document) {
                taken.insert(at);
                front.push(ranked[at].clone());
            } else {
                let none = Leg {
                    rank: None,
                    raw: 0.0,
                    normalized: 0.0,
                };
                let (segment, row) = document;
                let scored = Scored {
                    score: 0.0,
                    segment,
                    row,
                };
                let fused = Fused {
                    scored,
                    lexical: none,
                    dense: none,
                };
                front.extend(self.judge(vec![fused], "exact")?);
            }
        }
        for hit in &mut front {
            hit.stage = "exact";
            hit.fused.scored.score = top + 1.0;
        }
        let rest = std::mem::take(ranked).into_iter().enumerate();
        front.extend(rest.filter(|(at, _)| !taken.contains(at)).map(|(_, hit)| hit));
        *ranked = front;
        Ok(())
    }

    /// Moves hits down that are like those before them; exact ones stay first.
    fn spread(&self, mut ranked: Vec<Ranked>, diversity: f32) -> Vec<Ranked> {
        let after = ranked.iter().take_while(|ranked| ranked.stage == "exact").count();
        let rest = ranked.split_off(after);
        let vectors: Vec<Option<Vec<f32>>> = rest
            .iter()
            .map(|ranked| {
                let (segment, row) = ranked.fused.scored.address();
                let mut vector = self.files().get(segment as usize)?.vector(row)?;
                let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
                for value in &mut vector {
                    *value /= length.max(f32::MIN_POSITIVE);
                }
                Some(vector)
            })
            .collect();
        let scores: Vec<f32> = rest.iter().map(|ranked| ranked.fused.scored.score).collect();
        let likeness = |left: usize, right: usize| match (&vectors[left], &vectors[right]) {
            (Some(left), Some(right)) => left
                .iter()
                .zip(right)
                .map(|(left, right)| left * right)
                .sum::<f32>()
                .clamp(0.0, 1.0),
            // Without vectors only chunks of one text are known to be alike; folding by document is for that.
            _ => 0.0,
        };
        let wanted = self.ask.query.top_k.saturating_sub(after);
        for (at, value) in diversify(&scores, diversity, wanted, likeness) {
            let mut hit = rest[at].clone();
            (hit.stage, hit.fused.scored.score) = ("diverse", value);
            ranked.push(hit);
        }
        ranked
    }

    fn chunk(&self, (segment, row): (u32, u32)) -> Result<Chunk> {
        let stored = self.inner.stored_chunk(self.snapshot, segment as usize, row)?;
        Ok(stored.chunk)
    }

    /// The hits of these rows, best first.
    pub(super) fn hits(&self, ranked: &[Ranked]) -> Result<Vec<Hit>> {
        let (inner, query) = (self.inner, &self.ask.query);
        let mut stored = Vec::with_capacity(ranked.len());
        for ranked in ranked {
            let bytes = self
                .snapshot
                .stored(ranked.fused.scored.address(), &inner.place)?;
            // All are on their way before the first is read.
            prefetch(&bytes[..bytes.len().min(FETCHED_BYTES)]);
            stored.push(bytes);
        }
        let mut hits = Vec::with_capacity(ranked.len());
        for (ranked, stored) in ranked.iter().zip(stored) {
            let mut chunk = schema::decode(&inner.fields, &stored, &inner.place)?.chunk;
            let address = ranked.fused.scored.address();
            if query.unit == HitUnit::Document {
                chunk = self.whole(address, chunk)?;
            }
            let mut hit = Hit::new(chunk, ranked.fused.scored.score, self.explanation(ranked));
            if query.highlight {
                hit.highlights = self
                    .inner
                    .questions
                    .places(&self.ask.question.words, &hit.chunk.text);
            }
            hits.push(hit);
        }
        // Equal scores come in the order of their names, whatever segments they lie in.
        hits.sort_by(|left, right| {
            right
                .score
                .total_cmp(&left.score)
                .then_with(|| left.chunk.document_id.cmp(&right.chunk.document_id))
                .then_with(|| left.chunk.number.cmp(&right.chunk.number))
        });
        Ok(hits)
    }

    fn explanation(&self, ranked: &Ranked) -> Explanation {
        let mut explanation = Explanation::default();
        ranked.stage.clone_into(&mut explanation.stage);
        if self.ask.vector.is_none() || self.ask.query.mode == SearchMode::Hybrid {
            explanation.lexical = Some(leg_score(ranked.fused.lexical));
        }
        // A hit that only words found has its cosine too: whether anything is relevant is judged by it.
        explanation.dense = ranked.cosine.map(|raw| {
            leg_score(Leg {
                raw,
                ..ranked.fused.dense
            })
        });
        if !self.ask.question.words.is_empty() {
            explanation.term_coverage = Some(ranked.coverage.words);
            explanation.weighted_coverage = Some(ranked.coverage.weight);
        }
        explanation.relevance = Some(ranked.relevance);
        explanation
    }

    /// The text of a chunk's document around it, from the chunks beside it as far as they join.
    fn whole(&self, (segment, row): (u32, u32), chunk: Chunk) -> Result<Chunk> {
        let (_, first) = self.first_rows(std::iter::once((segment, row)))?[0];
        let last = self.snapshot.searcher.segment_reader(segment).max_doc();
        let belongs = |row: u32| -> Result<bool> {
            Ok(row >= first && row < last && self.first_rows(std::iter::once((segment, row)))?[0].1 == first)
        };
        let mut parts = std::collections::VecDeque::from([chunk.clone()]);
        let (mut before, mut after) = (row.checked_sub(1), row + 1);
        let mut span = chunk.span.clone();
        while span.len() < DOCUMENT_BYTES && (before.is_some() || after < last) {
            if let Some(row) = before {
                before = None;
                if belongs(row)? {
                    let part = self.chunk((segment, row))?;
                    if joins(&part.span, &span) {
                        span.start = part.span.start.min(span.start);
                        parts.push_front(part);
                        before = row.checked_sub(1);
                    }
                }
            }
            if after < last {
                let row = std::mem::replace(&mut after, last);
                if belongs(row)? {
                    let part = self.chunk((segment, row))?;
                    if joins(&span, &part.span) {
                        span.end = part.span.end.max(span.end);
                        parts.push_back(part);
                        after = row + 1;
                    }
                }
            }
        }
        Ok(join(chunk, parts.into(), span))
    }
}

/// Whether the second begins where the first ends, or before.
fn joins(left: &Range<usize>, right: &Range<usize>) -> bool {
    left.start <= right.start && left.end >= right.start && left.end <= right.end
}

/// Chunks that follow each other as one, under the best one's id and number.
fn join(best: Chunk, parts: Vec<Chunk>, span: Range<usize>) -> Chunk {
    let mut whole = best;
    let (mut text, mut end) = (String::new(), span.start);
    let (mut pages, mut headings) = (Vec::new(), Vec::new());
    for (at, part) in parts.into_iter().enumerate() {
        if at == 0 {
            (whole.page, whole.headings) = (part.page, part.headings.clone());
        }
        // Overlaps lie on character bounds: both chunks are slices of one text.
        text.push_str(
            part.text
                .get(end.saturating_sub(part.span.start)..)
                .unwrap_or_default(),
        );
        pages.extend(
            part.page_breaks
                .into_iter()
                .filter(|(place, _)| at == 0 || *place >= end),
        );
        headings.extend(
            part.heading_breaks
                .into_iter()
                .filter(|(place, _)| at == 0 || *place >= end),
        );
        end = end.max(part.span.end);
    }
    (whole.text, whole.span) = (text, span);
    (whole.page_breaks, whole.heading_breaks) = (pages, headings);
    whole
}

/// One leg's list as it is: the raw score decides.
fn alone(list: &[Scored], place: impl Fn(Leg, Leg) -> (Leg, Leg)) -> Vec<Fused> {
    let mut list = list.to_vec();
    sort_best_first(&mut list);
    let none = Leg {
        rank: None,
        raw: 0.0,
        normalized: 0.0,
    };
    list.iter()
        .enumerate()
        .map(|(at, scored)| {
            let leg = Leg {
                rank: Some(at as u32 + 1),
                raw: scored.score,
                normalized: scored.score,
            };
            let (lexical, dense) = place(leg, none);
            Fused {
                scored: *scored,
                lexical,
                dense,
            }
        })
        .collect()
}

fn leg_score(leg: Leg) -> LegScore {
    LegScore::new(leg.rank, leg.raw, leg.normalized)
}
