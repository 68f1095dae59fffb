//! Filters against an oracle: what they let through, and `k` results whenever `k` match.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
use serde_json::{Map, Value};
use stepwell_core::{Document, Filter, FilterValue, Query, Scope, SearchMode};
use stepwell_rag::{AddOptions, Collection, GraphOptions, SegmentSearch, Storage, Strategy, WholeDocuments};
use support::{Seeded, WordEmbedder, document, oracle};

const MODES: [SearchMode; 3] = [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical];

fn is_long() -> bool {
    std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1")
}

/// Documents by id, as the oracle holds them.
type Held = BTreeMap<String, Map<String, Value>>;

/// A collection in several segments, with deletes and a second tenant of the same ids, and what it holds.
async fn random_collection(seed: &mut Seeded) -> (Collection, Held) {
    let collection = Collection::in_memory()
        .embedder(WordEmbedder::new(8))
        .chunker(Arc::new(WholeDocuments))
        .build()
        .await
        .expect("empty");
    let other = collection.scoped(Scope::new("other").expect("a name"));
    let mut held = Held::new();
    for _ in 0..3 {
        for collection in [&collection, &other] {
            let mut documents = Vec::new();
            for _ in 0..12 {
                let id = format!("d{}", seed.below(30));
                let mut document = Document::new(&id, format!("common text {}", seed.below(50)));
                document.metadata = oracle::metadata(seed);
                if collection.scope() == &Scope::local() {
                    held.insert(id, document.metadata.clone());
                }
                documents.push(document);
            }
            collection.add(documents).await.expect("added");
        }
        let gone = format!("d{}", seed.below(30));
        held.remove(&gone);
        collection.delete([gone]).await.expect("deleted");
    }
    (collection, held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_long() { 400 } else { 24 }))]

    #[test]
    fn a_filter_lets_through_what_the_oracle_says_over_values_of_any_type(seed in 1_u64..u64::MAX) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut seed = Seeded::new(seed);
            let (collection, held) = random_collection(&mut seed).await;
            let ids: Vec<String> = (0..30).map(|at| format!("d{at}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            for turn in 0..60_usize {
                let filter = oracle::filter(&mut seed, &ids, 0);
                let want: BTreeSet<&str> = held
                    .iter()
                    .filter(|(id, metadata)| oracle::passes(&filter, id, metadata))
                    .map(|(id, _)| id.as_str())
                    .collect();
                let count = collection.count(Some(&filter)).await.expect("counts");
                prop_assert_eq!(count, want.len() as u64, "{:?}", filter);
                let query = Query::new("common text").mode(MODES[turn % 3]).top_k(100).filter(filter.clone());
                let told = collection.explain(&query).await.expect("hits");
                prop_assert_eq!(told.allowed, want.len() as u64);
                let got: BTreeSet<&str> = told.hits.iter().map(|hit| hit.chunk.document_id.as_str()).collect();
                prop_assert_eq!(got.len(), told.hits.len(), "none twice");
                prop_assert_eq!(&got, &want, "{:?} in {:?}", MODES[turn % 3], filter);
                // A second time, from the cache; and the other side of it.
                let rest = collection.count(Some(&filter.negate())).await.expect("counts");
                prop_assert_eq!(rest, (held.len() - want.len()) as u64);
            }
            Ok(())
        })?;
    }
}

/// Where each document of the selectivity test stands: `slot` is a permutation, so `slot < s · n` is a share `s`.
fn slot(number: u64, count: u64) -> u64 {
    // Odd and without a divisor of the counts used.
    number.wrapping_mul(7_919) % count
}

struct Sample {
    collection: Collection,
    embedder: Arc<WordEmbedder>,
    count: u64,
    gone: BTreeSet<u64>,
}

/// One segment with a graph (or without, where `merge_rows` is never reached) and flat ones; a tenth is deleted.
async fn sample(count: u64, has_graph: bool, storage: Storage) -> Sample {
    let embedder = WordEmbedder::new(24);
    let graph = GraphOptions::new()
        .merge_rows(if has_graph { 1_000 } else { u32::MAX })
        .flush_rows(u32::MAX);
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .chunker(Arc::new(WholeDocuments))
        .storage(storage)
        .recall(0.98)
        .graph(graph)
        .build()
        .await
        .expect("empty");
    let with_slot = |number: u64| {
        let mut document = document(number).with_metadata("slot", slot(number, count));
        document.text.push_str(" common");
        document
    };
    let flat = count / 20;
    let old = (0..count - 3 * flat).map(with_slot);
    let options = AddOptions::new().chunks_per_commit(4_000);
    collection
        .add_with(old.collect::<Vec<_>>(), options)
        .await
        .expect("added");
    collection.compact().await.expect("one segment");
    for part in 0..3 {
        let from = count - (3 - part) * flat;
        let new: Vec<_> = (from..from + flat).map(with_slot).collect();
        collection.add(new).await.expect("added");
    }
    let gone: BTreeSet<u64> = (0..count).filter(|number| number % 10 == 3).collect();
    let ids = gone.iter().map(|number| format!("doc-{number}"));
    collection.delete(ids).await.expect("deleted");
    let sizes = collection.index_stats().await.expect("sizes");
    assert!(sizes.segments >= 2, "{sizes:?}");
    assert_eq!(sizes.graph_vectors > 0, has_graph, "{sizes:?}");
    Sample {
        collection,
        embedder,
        count,
        gone,
    }
}

/// A vector as the collection keeps it.
fn kept(vector: &[f32], storage: Storage) -> Vec<f64> {
    let norm = vector
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt();
    let unit = vector.iter().map(|value| (f64::from(*value) / norm) as f32);
    match storage {
        // 256ths of a 127th of the largest.
        Storage::Int16 => {
            let unit: Vec<f32> = unit.collect();
            let largest = unit.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let step = f64::from(largest) / 127.0 / 256.0;
            unit.iter()
                .map(|value| (f64::from(*value) / step).round() * step)
                .collect()
        }
        Storage::F32 => unit.map(f64::from).collect(),
        other => panic!("not compared: {other:?}"),
    }
}

#[derive(Default)]
struct Tally {
    approximate: Vec<f64>,
    exact: usize,
    strategies: BTreeMap<&'static str, usize>,
    slowest: Duration,
}

impl Sample {
    fn living(&self, limit: u64) -> impl Iterator<Item = u64> {
        let numbers = (0..self.count).filter(move |number| slot(*number, self.count) < limit);
        numbers.filter(|number| !self.gone.contains(number))
    }

    /// Holds found scores, by what is kept, against the k best of all.
    fn judge(found: &[u64], truth: &[(f64, u64)], told: &[SegmentSearch], tally: &mut Tally) {
        for search in told {
            *tally.strategies.entry(search.strategy.as_str()).or_default() += 1;
        }
        let Some((worst, _)) = truth.last() else { return };
        let scores: BTreeMap<u64, f64> = truth.iter().map(|(score, number)| (*number, *score)).collect();
        let hit = found.iter().filter(|number| scores.contains_key(number)).count();
        if told.iter().all(|search| search.strategy.is_exact()) {
            tally.exact += 1;
            assert_eq!(hit, truth.len(), "exact means 1.0, but for {worst}: {told:?}");
        } else {
            tally.approximate.push(hit as f64 / truth.len() as f64);
        }
    }
}

async fn every_selectivity(count: u64, has_graph: bool, storage: Storage) -> Tally {
    let sample = sample(count, has_graph, storage).await;
    let vectors: Vec<Vec<f64>> = (0..count)
        .map(|number| {
            let mut text = document(number).text;
            text.push_str(" common");
            kept(&sample.embedder.vector(&text), storage)
        })
        .collect();
    let mut tally = Tally::default();
    let mut seed = Seeded::new(count + u64::from(has_graph));
    for step in 0..100_u64 {
        let limit = step * count / 99;
        let filter = Filter::range(
            "slot",
            None,
            Some(FilterValue::Integer(i64::try_from(limit).expect("small") - 1)),
        );
        let living: Vec<u64> = sample.living(limit).collect();
        assert_eq!(
            sample.collection.count(Some(&filter)).await.expect("counts"),
            living.len() as u64
        );
        let question = format!("{} common", document(1_000_000 + seed.below(1_000_000)).text);
        let vector = sample.embedder.vector(&question);
        let asked = kept(&vector, Storage::F32);
        let mut truth: Vec<(f64, u64)> = living
            .iter()
            .map(|number| {
                let pairs = vectors[*number as usize].iter().zip(&asked);
                (pairs.map(|(left, right)| left * right).sum(), *number)
            })
            .collect();
        truth.sort_by(|left, right| right.0.total_cmp(&left.0));
        let k = [1, 10, 10, 50][step as usize % 4];
        let wanted = truth.len().min(k);
        truth.truncate(k);
        for mode in MODES {
            let query = Query::new(&question).mode(mode).top_k(k).filter(filter.clone());
            let start = Instant::now();
            let told = sample.collection.explain(&query).await.expect("hits");
            tally.slowest = tally.slowest.max(start.elapsed());
            let found: Vec<u64> = told
                .hits
                .iter()
                .map(|hit| hit.chunk.metadata["number"].as_u64().expect("a number"))
                .collect();
            let distinct: BTreeSet<u64> = found.iter().copied().collect();
            assert_eq!(
                (found.len(), distinct.len()),
                (wanted, wanted),
                "{mode:?}: k or all of {}",
                living.len()
            );
            for number in &found {
                assert!(
                    slot(*number, count) < limit && !sample.gone.contains(number),
                    "{mode:?} {number}"
                );
            }
            if mode == SearchMode::Dense {
                Sample::judge(&found, &truth, &told.segments, &mut tally);
            }
        }
        // Through the graph whatever it costs, and with a walk that must often give up.
        let reader = sample.collection.vectors(Some(&filter)).await.expect("a reader");
        for reader in [reader.clone().ef(120), reader.recall(0.95).expect("a share")] {
            let nearest = reader.nearest(&vector, k).expect("neighbours");
            assert_eq!(nearest.neighbours.len(), wanted);
            let found: Vec<u64> = nearest
                .neighbours
                .iter()
                .map(|neighbour| {
                    reader.chunk(neighbour).expect("ours").metadata["number"]
                        .as_u64()
                        .expect("a number")
                })
                .collect();
            Sample::judge(&found, &truth, &nearest.segments, &mut tally);
        }
    }
    let recall = tally.approximate.iter().sum::<f64>() / tally.approximate.len().max(1) as f64;
    println!(
        "{count} documents, graph {has_graph}, {storage:?}: exact {} at 1.0, approximate {} at {recall:.4}, slowest {:?}, {:?}",
        tally.exact,
        tally.approximate.len(),
        tally.slowest,
        tally.strategies
    );
    assert!(recall >= 0.95 || tally.approximate.is_empty(), "{recall}");
    tally
}

#[tokio::test]
async fn k_or_all_come_back_at_a_hundred_selectivities_from_segments_with_a_graph() {
    let count = if is_long() { 25_003 } else { 6_007 };
    let tally = every_selectivity(count, true, Storage::Int16).await;
    let is_seen = |strategy: Strategy| tally.strategies.contains_key(strategy.as_str());
    for strategy in [Strategy::Scan, Strategy::FilteredWalk, Strategy::Skipped] {
        assert!(is_seen(strategy), "{strategy:?} in {:?}", tally.strategies);
    }
    assert!(tally.exact > 100 && tally.approximate.len() > 50);
}

#[tokio::test]
async fn k_or_all_come_back_at_a_hundred_selectivities_from_flat_segments_and_all_answers_are_exact() {
    for storage in [Storage::Int16, Storage::F32] {
        let tally = every_selectivity(2_003, false, storage).await;
        // At the first selectivity nothing matches, so nothing is judged.
        assert_eq!((tally.exact, tally.approximate.len()), (297, 0));
    }
}

#[tokio::test]
async fn a_filter_that_cannot_be_meant_is_refused_by_an_empty_collection_too() {
    let collection = Collection::in_memory().build().await.expect("empty");
    for bad in [
        Filter::eq("n", f64::NAN),
        Filter::eq("n", f64::INFINITY),
        Filter::eq("", "x"),
        Filter::eq("day", FilterValue::Date("2024-05-01T12:00:00+99:00".to_owned())),
        Filter::range("n", None, None),
        Filter::range("n", Some(FilterValue::Integer(1)), Some("x".into())),
        Filter::exists("n")
            .and(Filter::prefix("n", "x".repeat(257)))
            .negate(),
    ] {
        let error = collection.count(Some(&bad)).await.expect_err("refused");
        assert_eq!(error.code(), "invalid_input", "{bad:?}");
        let error = collection.delete_where(&bad).await.expect_err("refused");
        assert_eq!(error.code(), "invalid_input", "{bad:?}");
        let query = Query::new("x").filter(bad.clone());
        assert_eq!(
            collection.search(&query).await.expect_err("refused").code(),
            "invalid_input"
        );
    }
}
