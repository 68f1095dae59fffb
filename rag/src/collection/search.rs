//! A question through both legs: allowed rows → lists → fusion → chunks with their reasons.

use stepwell_core::{EmbedKind, Error, Explanation, Filter, Hit, LegScore, Query, Result, Scope, SearchMode};
use tantivy::{DocAddress, TantivyDocument};

use super::{Collection, Inner};
use crate::error::blocking;
use crate::fuse::{Fused, Leg, fuse};
use crate::lexical;
use crate::schema;
use crate::snapshot::Snapshot;
use crate::vector::plan::SegmentSearch;
use crate::vector::rows::prepare;
use crate::vector::search::{self, DenseQuery, Scored, exact_score};

/// How deep each leg's list goes: normalisation needs the spread, and depth 1,000 gains up to .026 over 100.
const DEPTH: usize = 1_000;
/// More hits than this are refused.
pub(super) const MOST_HITS: usize = 10_000;

/// An answer with what was done for it.
///
/// `segments` tells how large the parts of the index are, which all tenants share: show it to who runs the index, not
/// to a tenant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// The hits of [`Collection::search`], each with its own [`Explanation`].
    pub hits: Vec<Hit>,
    /// Chunks that scope and filter let through, which the hits were chosen from.
    pub allowed: u64,
    /// How each segment was searched by meaning; empty where only words were searched.
    pub segments: Vec<SegmentSearch>,
}

/// A checked question.
struct Ask {
    terms: Vec<String>,
    vector: Option<DenseQuery>,
    mode: SearchMode,
    top_k: usize,
    filter: Option<Filter>,
    min_score: Option<f32>,
}

pub(super) async fn search(collection: &Collection, query: &Query) -> Result<Explained> {
    let inner = &collection.inner;
    if query.top_k > MOST_HITS {
        return Err(Error::LimitExceeded {
            what: "top_k".to_owned(),
            limit: format!("{MOST_HITS} hits"),
        });
    }
    if query.text.trim().is_empty() && query.vector.is_none() {
        return Err(Error::invalid("question", "write what you look for"));
    }
    let terms = inner.questions.terms(&query.text)?;
    if query.top_k == 0 {
        return Ok(Explained {
            hits: Vec::new(),
            allowed: 0,
            segments: Vec::new(),
        });
    }
    let vector = match query.mode {
        SearchMode::Lexical => None,
        _ => question_vector(inner, query).await?,
    };
    if vector.is_none() && query.mode == SearchMode::Dense {
        return Err(Error::Unsupported {
            who: "a collection without an embedder".to_owned(),
            what: "a search by meaning alone".to_owned(),
            hint: "open it with `.embedder(..)`, or give the query its vector".to_owned(),
        });
    }
    let ask = Ask {
        terms,
        vector,
        mode: query.mode,
        top_k: query.top_k,
        filter: query.filter.clone(),
        min_score: query.min_score,
    };
    let this = collection.clone();
    blocking(&inner.place, move || {
        let snapshot = this.inner.snapshots.latest()?;
        answer(&this.inner, &this.scope, &snapshot, &ask)
    })
    .await
}

async fn question_vector(inner: &Inner, query: &Query) -> Result<Option<DenseQuery>> {
    let spec = &inner.pinned.spec;
    if let Some(vector) = &query.vector {
        if spec.dim == 0 {
            return Err(Error::Unsupported {
                who: "an index of words alone".to_owned(),
                what: "a query vector".to_owned(),
                hint: "index anew with `.embedder(..)`".to_owned(),
            });
        }
        let vector =
            prepare(spec, vector).map_err(|fault| Error::invalid("query vector", fault.to_string()))?;
        return Ok(Some(DenseQuery::new(vector)));
    }
    let Some(embedder) = inner
        .embedder
        .as_deref()
        .filter(|_| !query.text.trim().is_empty())
    else {
        return Ok(None);
    };
    let made = embedder.embed(&[&query.text], EmbedKind::Query).await?;
    let bad = |message: String| Error::InvalidResponse {
        provider: embedder.info().provider.clone(),
        message,
    };
    let row = made
        .rows()
        .next()
        .ok_or_else(|| bad("no vector for the question".to_owned()))?;
    let vector =
        prepare(spec, row).map_err(|fault| bad(format!("the question's vector cannot be used: {fault}")))?;
    Ok(Some(DenseQuery::new(vector)))
}

fn answer(inner: &Inner, scope: &Scope, snapshot: &Snapshot, ask: &Ask) -> Result<Explained> {
    let searcher = &snapshot.searcher;
    let allowed = inner.allowed(snapshot, scope, ask.filter.as_ref())?;
    let allowed_rows: usize = allowed.iter().map(|rows| rows.len() as usize).sum();
    let is_hybrid = ask.mode == SearchMode::Hybrid && ask.vector.is_some();
    let depth = if is_hybrid {
        DEPTH.max(ask.top_k)
    } else {
        ask.top_k
    };

    let words = if ask.mode == SearchMode::Dense {
        Vec::new()
    } else {
        lexical::search(searcher, &inner.fields, &ask.terms, &allowed, depth, &inner.place)?
    };
    let (meaning, segments) = match &ask.vector {
        Some(vector) if ask.mode != SearchMode::Lexical => {
            let segments = snapshot
                .vectors
                .iter()
                .map(AsRef::as_ref)
                .zip(allowed.iter().map(AsRef::as_ref));
            search::search(segments, vector, depth, ask.top_k, inner.effort)
        }
        _ => Default::default(),
    };
    let (mut ranked, stage) = if is_hybrid {
        (
            fuse(inner.fusion, &words, &meaning, allowed_rows, depth, ask.top_k),
            "fused",
        )
    } else if ask.vector.is_some() {
        (alone(&meaning, |leg, none| (none, leg)), "dense")
    } else {
        (alone(&words, |leg, none| (leg, none)), "lexical")
    };
    ranked.truncate(ask.top_k);
    if let Some(least) = ask.min_score {
        ranked.retain(|fused| fused.scored.score >= least);
    }
    let hits = hits(inner, snapshot, ask, &ranked, stage)?;
    Ok(Explained {
        hits,
        allowed: allowed_rows as u64,
        segments,
    })
}

/// One leg's list as it is: the raw score decides.
fn alone(list: &[Scored], place: impl Fn(Leg, Leg) -> (Leg, Leg)) -> Vec<Fused> {
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

fn hits(inner: &Inner, snapshot: &Snapshot, ask: &Ask, ranked: &[Fused], stage: &str) -> Result<Vec<Hit>> {
    let rows: Vec<(u32, u32)> = ranked.iter().map(|fused| fused.scored.address()).collect();
    let matching =
        lexical::matching_terms(&snapshot.searcher, &inner.fields, &ask.terms, &rows, &inner.place)?;
    let mut hits = Vec::with_capacity(ranked.len());
    for (fused, matching) in ranked.iter().zip(matching) {
        let Scored { segment, row, score } = fused.scored;
        let stored: TantivyDocument = inner
            .place
            .check("reading", snapshot.searcher.doc(DocAddress::new(segment, row)))?;
        let chunk = schema::decode(&inner.fields, &stored, &inner.place)?;
        let mut explanation = Explanation::default();
        stage.clone_into(&mut explanation.stage);
        if stage != "dense" {
            explanation.lexical = Some(leg_score(fused.lexical));
        }
        if let Some(vector) = &ask.vector {
            // A hit that only words found gets its cosine too: whether anything is relevant is judged by it.
            let exact = snapshot
                .vectors
                .get(segment as usize)
                .and_then(|file| exact_score(file, row, vector));
            explanation.dense = exact.map(|raw| leg_score(Leg { raw, ..fused.dense }));
        }
        if !ask.terms.is_empty() {
            explanation.term_coverage = Some(matching as f32 / ask.terms.len() as f32);
        }
        hits.push(Hit::new(chunk, score, explanation));
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

fn leg_score(leg: Leg) -> LegScore {
    LegScore::new(leg.rank, leg.raw, leg.normalized)
}
