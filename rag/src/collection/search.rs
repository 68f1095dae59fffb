//! A question through both legs: allowed rows → lists → fusion → chunks with their reasons.

use stepwell_core::{EmbedKind, Error, Hit, HitUnit, Query, Result, Scope, SearchMode};

use super::rank::Ranking;
use super::{Collection, Inner};
use crate::error::{blocking, guarded};
use crate::lexical::exact::plain_name;
use crate::lexical::{self, Expression, Question, Terms};
use crate::snapshot::Snapshot;
use crate::vector::plan::SegmentSearch;
use crate::vector::rows::prepare;
use crate::vector::search::DenseQuery;

/// An index of so few rows is read into memory after the first question since its last commit, and a plain question takes
/// less than half a millisecond there: it is answered where it was asked. Another thread would make that 70 µs more.
const SMALL_ROWS: u64 = 16_384;
/// A question for more hits reads too much to count as plain.
const QUICK_HITS: usize = 100;
/// More hits than this are refused.
pub(super) const MOST_HITS: usize = 10_000;
/// More whole documents than this are refused.
const MOST_DOCUMENTS: usize = 1_000;

/// An answer with what was done for it.
///
/// `segments` tells how large the parts of the index are, which all tenants share: show it to who runs the index, not
/// to a tenant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// The hits of [`Collection::search`], each with its own [`stepwell_core::Explanation`].
    pub hits: Vec<Hit>,
    /// Chunks that scope and filter let through, which the hits were chosen from.
    pub allowed: u64,
    /// How each segment was searched by meaning; empty where only words were searched.
    pub segments: Vec<SegmentSearch>,
}

/// A checked question.
pub(super) struct Ask {
    pub(super) question: Question,
    pub(super) expression: Option<Expression>,
    /// Documents of this id, or of this plain name, come first.
    pub(super) exact: Option<(String, String)>,
    pub(super) vector: Option<DenseQuery>,
    /// Which vector field that is of.
    pub(super) field: usize,
    pub(super) query: Query,
}

pub(super) async fn search(collection: &Collection, query: &Query) -> Result<Explained> {
    let inner = &collection.inner;
    check(query)?;
    let (question, expression) = if query.words.expression && !query.text.trim().is_empty() {
        let expression = Expression::read(&query.text, &inner.questions)?;
        (expression.question.clone(), Some(expression))
    } else {
        (inner.questions.read(&query.text, query.words.phrases)?, None)
    };
    if query.top_k == 0 {
        return Ok(Explained {
            hits: Vec::new(),
            allowed: 0,
            segments: Vec::new(),
        });
    }
    let field = inner.pinned.field(query.vector_field.as_deref())?;
    let vector = match query.mode {
        SearchMode::Lexical => None,
        _ => question_vector(inner, query, field).await?,
    };
    if vector.is_none() && query.mode == SearchMode::Dense {
        return Err(Error::Unsupported {
            who: "a collection without an embedder".to_owned(),
            what: "a search by meaning alone".to_owned(),
            hint: "open it with `.embedder(..)`, or give the query its vector".to_owned(),
        });
    }
    let is_name = query.words.exact_first && expression.is_none();
    let name = is_name.then(|| plain_name(&query.text)).flatten();
    let ask = Ask {
        question,
        expression,
        exact: name.map(|name| (query.text.trim().to_owned(), name)),
        vector,
        field,
        query: query.clone(),
    };
    if let Some(snapshot) = inner.snapshots.if_warm().filter(|_| is_plain(query))
        && snapshot.rows() <= SMALL_ROWS
    {
        tokio::task::yield_now().await; // whoever asks in a loop lets others in between
        return guarded(&inner.place, || answer(inner, &collection.scope, &snapshot, ask));
    }
    let this = collection.clone();
    let (answered, snapshot) = blocking(&inner.place, move || {
        let snapshot = this.inner.snapshots.latest()?;
        let answered = answer(&this.inner, &this.scope, &snapshot, ask)?;
        Ok((answered, snapshot))
    })
    .await?;
    if snapshot.rows() <= SMALL_ROWS {
        snapshot.warm_up(&inner.place);
    }
    Ok(answered)
}

/// Whether its work is bounded by the rows of the index alone.
fn is_plain(query: &Query) -> bool {
    let words = &query.words;
    !(words.expression || words.phrases || words.fuzzy || words.exact_first)
        && query.filter.is_none()
        && query.vector_field.is_none()
        && query.unit == HitUnit::Chunk
        && query.top_k <= QUICK_HITS
}

fn check(query: &Query) -> Result<()> {
    if query.top_k > MOST_HITS {
        return Err(Error::LimitExceeded {
            what: "top_k".to_owned(),
            limit: format!("{MOST_HITS} hits"),
        });
    }
    if query.unit == HitUnit::Document && query.top_k > MOST_DOCUMENTS {
        return Err(Error::LimitExceeded {
            what: "top_k".to_owned(),
            limit: format!("{MOST_DOCUMENTS} whole documents"),
        });
    }
    if query.text.trim().is_empty() && query.vector.is_none() {
        return Err(Error::invalid("question", "write what you look for"));
    }
    let is_share = |share: Option<f32>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
    if !is_share(query.min_relevance) {
        return Err(Error::invalid("min_relevance", "give a number between 0 and 1"));
    }
    if !is_share(query.diversity) {
        return Err(Error::invalid("diversity", "give a number between 0 and 1"));
    }
    Ok(())
}

async fn question_vector(inner: &Inner, query: &Query, field: usize) -> Result<Option<DenseQuery>> {
    let spec = &inner.pinned.vectors[field].spec;
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
    let Some(embedder) = inner.sources[field]
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

fn answer(inner: &Inner, scope: &Scope, snapshot: &Snapshot, mut ask: Ask) -> Result<Explained> {
    let searcher = &snapshot.searcher;
    let mut allowed = inner.allowed(snapshot, scope, ask.query.filter.as_ref())?;
    if ask.query.words.fuzzy && ask.expression.is_none() {
        lexical::mend(searcher, &inner.fields, &mut ask.question.words, &inner.place)?;
    }
    let expression = match &ask.expression {
        Some(expression) => {
            let query = expression.query(searcher, &inner.fields, inner.boosts, &inner.place)?;
            // What does not match the expression is not found by meaning either.
            allowed = lexical::matching_rows(searcher, query.as_ref(), &allowed, &inner.place)?;
            Some(query)
        }
        None => None,
    };
    let terms = Terms::find(
        searcher,
        &inner.fields,
        inner.boosts,
        &ask.question.words,
        &inner.place,
    )?;
    let allowed_rows: usize = allowed.iter().map(|rows| rows.len() as usize).sum();
    let ranking = Ranking {
        inner,
        scope,
        snapshot,
        ask: &ask,
        allowed: &allowed,
        terms: &terms,
        expression: expression.as_deref(),
    };
    let (ranked, segments) = ranking.rank()?;
    let hits = ranking.hits(&ranked)?;
    Ok(Explained {
        hits,
        allowed: allowed_rows as u64,
        segments,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stepwell_core::Document;

    use super::*;
    use crate::FieldBoosts;
    use crate::best::Scored;
    use crate::filter::RowSet;

    /// Waits until the index is read ahead.
    async fn warm(collection: &Collection) {
        for _ in 0..1_000 {
            if collection.inner.snapshots.if_warm().is_some() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it was not read ahead in ten seconds");
    }

    /// Words of a small language, the first far more common than the last.
    fn text(seed: &mut u64, count: usize) -> String {
        let words = (0..count).map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = (*seed >> 33) % 60;
            format!("word{} ", word * word / 60)
        });
        words.collect()
    }

    #[tokio::test]
    async fn words_scored_here_and_by_tantivy_find_the_same_rows_with_the_same_scores() {
        let boosts = FieldBoosts::default();
        let collection = Collection::in_memory()
            .boosts(boosts)
            .build()
            .await
            .expect("opens");
        let mut seed = 5;
        for batch in 0..3 {
            let documents = (0..80).map(|number| {
                let body = format!("# {}\n\n{}", text(&mut seed, 2), text(&mut seed, 20 + number * 7));
                Document::new(format!("{batch}-{number}"), body).with_title(text(&mut seed, 3))
            });
            collection
                .add(documents.collect::<Vec<_>>())
                .await
                .expect("added");
        }
        collection.delete(["0-3", "1-70", "2-0"]).await.expect("deleted");
        let inner = &collection.inner;
        let snapshot = inner.snapshots.latest().expect("reads");
        let searcher = &snapshot.searcher;
        let allowed = inner
            .allowed(&snapshot, &collection.scope, None)
            .expect("allowed");
        let third = allowed.iter().map(|rows| {
            let members = rows.rows().filter(|row| row % 3 == 0);
            Arc::new(RowSet::from_rows(rows.words().len() as u32 * 64, members))
        });
        let third: Vec<Arc<RowSet>> = third.collect();
        for count in [1, 2, 9, 44] {
            let asked = format!("{} unheard", text(&mut seed, count));
            let mut question = inner.questions.read(&asked, false).expect("short");
            question.words[0].others.push(("word7".to_owned(), 0.5));
            let terms =
                Terms::find(searcher, &inner.fields, boosts, &question.words, &inner.place).expect("found");
            let query = lexical::words_query(searcher, &inner.fields, boosts, &question, false, &inner.place)
                .expect("made")
                .expect("words");
            for allowed in [&allowed, &third] {
                let rows: usize = allowed.iter().map(|rows| rows.len() as usize).sum();
                assert!(rows > 60, "{rows}");
                for depth in [1, 10, rows] {
                    let ours = terms.run(allowed, depth, &inner.place).expect("scored");
                    let theirs =
                        lexical::run(searcher, query.as_ref(), allowed, depth, &inner.place).expect("scored");
                    let addresses = |list: &[Scored]| -> Vec<(u32, u32)> {
                        list.iter().map(|scored| scored.address()).collect()
                    };
                    assert_eq!(
                        addresses(&ours),
                        addresses(&theirs),
                        "{asked:?}, {depth} of {rows}"
                    );
                    for (ours, theirs) in ours.iter().zip(theirs.iter()) {
                        let far = (ours.score - theirs.score).abs();
                        assert!(far <= 1e-5 * theirs.score, "{ours:?} {theirs:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_small_index_answers_alike_on_this_thread_and_beside_it_and_lets_others_in_between() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let collection = Collection::in_memory().build().await.expect("opens");
        let mut seed = 8;
        let documents = (0..50).map(|number| Document::new(number.to_string(), text(&mut seed, 40)));
        collection
            .add(documents.collect::<Vec<_>>())
            .await
            .expect("added");
        let query = Query::new("word3 word11 word26").top_k(20);
        let snapshots = &collection.inner.snapshots;
        assert!(snapshots.if_warm().is_none(), "nobody has searched");
        let beside = collection.explain(&query).await.expect("found");
        warm(&collection).await;
        let turns = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counting.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        for turn in 0..20 {
            assert_eq!(collection.explain(&query).await.expect("found"), beside);
            assert!(turns.load(Ordering::SeqCst) > turn, "the other had its turn");
        }
        other.abort();
        // A commit is seen by the next question, after which what it made is read as well.
        collection
            .add([Document::new("new", "word3 word11 word26")])
            .await
            .expect("added");
        assert!(snapshots.if_warm().is_none());
        let found = collection.search(&query).await.expect("found");
        assert_eq!(found[0].chunk.document_id, "new");
        warm(&collection).await;
        assert_eq!(collection.search(&query).await.expect("found"), found);
    }

    #[tokio::test]
    async fn an_index_on_disk_is_read_ahead_and_a_file_cut_short_meanwhile_ends_no_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = Collection::open(folder.path()).build().await.expect("opens");
        let mut seed = 9;
        let documents = (0..50).map(|number| Document::new(number.to_string(), text(&mut seed, 400)));
        collection
            .add(documents.collect::<Vec<_>>())
            .await
            .expect("added");
        let store = std::fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.extension().is_some_and(|extension| extension == "store"))
            .expect("stored chunks");
        // Once the clock has moved on, the index is not read again.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let snapshot = collection.inner.snapshots.latest().expect("reads");
        // It is mapped in the snapshot: what is read of it there now is a bus error.
        let store = std::fs::File::options().write(true).open(store).expect("opens");
        store.set_len(0).expect("cut");
        snapshot.warm_up(&collection.inner.place);
        warm(&collection).await;
    }
}
