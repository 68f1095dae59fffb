//! Graphs through a collection's life: merges, deletes, reopening, damage, budgets, searches meanwhile.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stepwell_core::{Filter, FilterValue, Query, Scope, SearchMode};
use stepwell_rag::{
    AddOptions, Collection, CollectionBuilder, GraphOptions, GraphState, Metric, Storage, Strategy,
};
use support::{Seeded, WordEmbedder, document, documents, score, truth};

const DIM: usize = 32;

/// Graphs from a hundred vectors on.
fn small() -> GraphOptions {
    GraphOptions::new()
        .merge_rows(100)
        .flush_rows(100)
        .links(8)
        .ef_construction(60)
}

fn open_at(folder: &Path, embedder: &Arc<WordEmbedder>) -> CollectionBuilder {
    Collection::open(folder).embedder(embedder.clone()).graph(small())
}

async fn answers(collection: &Collection, question: &[f32], k: usize) -> Vec<(u64, f32, f32)> {
    let query = Query::new("")
        .vector(question.to_vec())
        .mode(SearchMode::Dense)
        .top_k(k);
    let hits = collection.search(&query).await.expect("hits");
    hits.into_iter()
        .map(|hit| {
            let number = hit.chunk.document_id[4..].parse().expect("a number");
            (number, hit.score, hit.explanation.dense.expect("by meaning").raw)
        })
        .collect()
}

/// Recall@10 of ten questions, each answered with ten hits.
async fn recall(
    collection: &Collection,
    embedder: &WordEmbedder,
    metric: Metric,
    living: &BTreeSet<u64>,
) -> f64 {
    let mut shared = 0;
    for at in 0..10 {
        let question = embedder.vector(&document(50_000 + at).text);
        let want = truth(embedder, metric, living, &question, 10);
        let got = answers(collection, &question, 10).await;
        assert_eq!(got.len(), 10);
        shared += got
            .iter()
            .filter(|(number, ..)| want.iter().any(|(_, wanted)| wanted == number))
            .count();
    }
    shared as f64 / 100.0
}

#[tokio::test]
async fn graphs_answer_as_brute_force_through_deletes_merges_and_reopening() {
    let embedder = WordEmbedder::new(DIM);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open_at(folder.path(), &embedder).build().await.expect("new");
    let mut living: BTreeSet<u64> = (0..1_500).collect();
    collection
        .add_with(documents(0..1_500), AddOptions::new().chunks_per_commit(300))
        .await
        .expect("added");
    let mut seed = Seeded::new(9);
    for phase in 0..3 {
        // Half of what is left goes, at random; then some comes, and everything is merged.
        let gone: Vec<u64> = living.iter().copied().filter(|_| seed.below(2) == 0).collect();
        collection
            .delete(gone.iter().map(|number| format!("doc-{number}")))
            .await
            .expect("deleted");
        living.retain(|number| !gone.contains(number));
        assert!(
            recall(&collection, &embedder, Metric::Cosine, &living).await >= 0.95,
            "deleted"
        );
        let from = 2_000 + phase * 600;
        collection.add(documents(from..from + 600)).await.expect("added");
        living.extend(from..from + 600);
        assert!(
            recall(&collection, &embedder, Metric::Cosine, &living).await >= 0.95,
            "added"
        );
        collection.optimize().await.expect("merged");
        assert!(
            recall(&collection, &embedder, Metric::Cosine, &living).await >= 0.95,
            "merged"
        );
        let stats = collection.index_stats().await.expect("sizes");
        assert_eq!((stats.segments, stats.deleted_chunks), (1, 0));
        assert_eq!(stats.chunks, living.len() as u64);
        assert_eq!(stats.graph_vectors, living.len() as u64);
        assert!(stats.graph_bytes > 0 && stats.graph_bytes < stats.vector_bytes);
        assert_eq!(stats.segment_sizes.len(), 1);
        assert_eq!(stats.segment_sizes[0].graph, GraphState::Ready);
    }
    collection.verify().await.expect("whole");
    let question = embedder.vector(&document(77_777).text);
    let before = answers(&collection, &question, 50).await;
    drop(collection);
    let reopened = open_at(folder.path(), &embedder).build().await.expect("there");
    assert_eq!(answers(&reopened, &question, 50).await, before);
    // Nothing is left to be done.
    let names = || {
        let entries = std::fs::read_dir(folder.path()).expect("the folder");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect::<BTreeSet<_>>()
    };
    let files = names();
    reopened.optimize().await.expect("nothing to do");
    assert_eq!(names(), files);
}

#[tokio::test]
async fn explain_says_how_each_segment_was_searched() {
    let embedder = WordEmbedder::new(DIM);
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .graph(small())
        .recall(0.5)
        .build()
        .await
        .expect("new");
    collection.add(documents(0..3_000)).await.expect("added");
    collection.optimize().await.expect("merged");
    let ask = |filter: Option<Filter>, mode| {
        let mut query = Query::new(document(9_000).text).mode(mode).top_k(1);
        query.filter = filter;
        let collection = collection.clone();
        async move {
            let explained = collection.explain(&query).await.expect("explained");
            assert_eq!(explained.hits, collection.search(&query).await.expect("hits"));
            explained.segments
        }
    };
    let walked = ask(None, SearchMode::Dense).await;
    assert_eq!((walked.len(), walked[0].strategy), (1, Strategy::Walk));
    assert_eq!((walked[0].vectors, walked[0].allowed), (3_000, 3_000));
    assert!(walked[0].compared < 1_000 && walked[0].ef >= 1, "{walked:?}");
    let even = Filter::eq("parity", "even");
    let filtered = ask(Some(even), SearchMode::Dense).await;
    assert_eq!(
        (filtered[0].strategy, filtered[0].allowed),
        (Strategy::FilteredWalk, 1_500)
    );
    let few = Filter::Range {
        key: "number".to_owned(),
        min: None,
        max: Some(FilterValue::from(40)),
    };
    let scanned = ask(Some(few), SearchMode::Dense).await;
    assert_eq!(
        (scanned[0].strategy, scanned[0].reason),
        (Strategy::Scan, "few rows match")
    );
    let none = ask(Some(Filter::eq("parity", "prime")), SearchMode::Dense).await;
    assert_eq!(none[0].strategy, Strategy::Skipped);
    assert!(ask(None, SearchMode::Lexical).await.is_empty());
}

#[tokio::test]
async fn each_metric_and_storage_orders_and_scores_as_brute_force() {
    let embedder = WordEmbedder::new(DIM);
    let living: BTreeSet<u64> = (0..800).collect();
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for storage in [Storage::Codes, Storage::Int16, Storage::F32] {
            let folder = tempfile::tempdir().expect("folder");
            let build = || open_at(folder.path(), &embedder).metric(metric).storage(storage);
            let collection = build().build().await.expect("new");
            collection.add(documents(0..800)).await.expect("added");
            collection.optimize().await.expect("merged");
            drop(collection);
            let collection = build().build().await.expect("there");
            let least = if storage == Storage::Codes { 0.9 } else { 0.97 };
            let found = recall(&collection, &embedder, metric, &living).await;
            assert!(found >= least, "{metric:?} {storage:?}: {found}");
            let question = embedder.vector(&document(60_000).text);
            for (number, score_of_hit, raw) in answers(&collection, &question, 10).await {
                let want = score(metric, &embedder.vector(&document(number).text), &question);
                let tolerance = match storage {
                    Storage::F32 => 1e-5,
                    Storage::Int16 => 2e-4,
                    _ => 2e-2,
                };
                assert!(
                    (f64::from(raw) - want).abs() <= tolerance * want.abs().max(1.0),
                    "{metric:?} {storage:?}: {raw} for {want}"
                );
                assert!((score_of_hit - raw).abs() < 1e-6);
            }
            let other = if metric == Metric::L2 {
                Metric::Dot
            } else {
                Metric::L2
            };
            let error = open_at(folder.path(), &embedder).metric(other).build().await;
            assert_eq!(error.expect_err("another metric").code(), "invalid_input");
            let other = if storage == Storage::Int16 {
                Storage::F32
            } else {
                Storage::Int16
            };
            let error = open_at(folder.path(), &embedder).storage(other).build().await;
            assert_eq!(error.expect_err("another storage").code(), "invalid_input");
        }
    }
}

#[tokio::test]
async fn a_graph_over_the_budget_is_left_out_told_and_built_when_there_is_room() {
    let embedder = WordEmbedder::new(DIM);
    let folder = tempfile::tempdir().expect("folder");
    let tight = open_at(folder.path(), &embedder).graph(small().memory_bytes(10_000));
    let collection = tight.build().await.expect("new");
    collection
        .add(documents(0..500))
        .await
        .expect("added all the same");
    collection.compact().await.expect("merged all the same");
    let stats = collection.index_stats().await.expect("sizes");
    assert_eq!((stats.graph_vectors, stats.graph_bytes), (0, 0));
    let why = stats.graph_skipped.expect("told");
    assert!(why.contains("500 vectors") && why.contains("10000"), "{why}");
    // Trying again would change nothing.
    collection.optimize().await.expect("nothing to do");
    let question = embedder.vector(&document(4).text);
    assert_eq!(answers(&collection, &question, 1).await[0].0, 4);
    drop(collection);
    let collection = open_at(folder.path(), &embedder).build().await.expect("there");
    collection.optimize().await.expect("built");
    let stats = collection.index_stats().await.expect("sizes");
    assert_eq!((stats.graph_vectors, stats.graph_skipped), (500, None));
    assert_eq!(answers(&collection, &question, 1).await[0].0, 4);
}

#[tokio::test]
async fn a_damaged_graph_costs_no_answer_is_told_by_verify_and_is_built_again() {
    let embedder = WordEmbedder::new(DIM);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open_at(folder.path(), &embedder).build().await.expect("new");
    collection.add(documents(0..700)).await.expect("added");
    collection.optimize().await.expect("merged");
    let exact = open_at(folder.path(), &embedder)
        .recall(1.0)
        .build()
        .await
        .expect("there");
    let questions: Vec<Vec<f32>> = (0..5)
        .map(|at| embedder.vector(&document(8_000 + at).text))
        .collect();
    let mut want = Vec::new();
    for question in &questions {
        want.push(answers(&exact, question, 10).await);
    }
    drop((collection, exact));
    let file = std::fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "swv"))
        .expect("a vector file");
    let good = std::fs::read(&file).expect("readable");
    // The base level of the graph stands last, before the footer.
    let base = good.len() - 400;
    for flip in 0..12 {
        let mut bad = good.clone();
        bad[base - flip * 3_000] ^= 1 << (flip % 8);
        std::fs::write(&file, &bad).expect("written");
        let collection = open_at(folder.path(), &embedder).build().await.expect("opens");
        for (question, want) in questions.iter().zip(&want) {
            assert_eq!(&answers(&collection, question, 10).await, want);
        }
        let stats = collection.index_stats().await.expect("sizes");
        assert_eq!(stats.segment_sizes[0].graph, GraphState::Damaged);
        let error = collection.verify().await.expect_err("told");
        assert_eq!(error.code(), "damaged");
        assert!(error.to_string().contains("graph"), "{error}");
    }
    let collection = open_at(folder.path(), &embedder).build().await.expect("opens");
    collection.optimize().await.expect("built again");
    collection.verify().await.expect("whole");
    assert_eq!(collection.index_stats().await.expect("sizes").graph_vectors, 700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_find_k_while_graphs_are_built_and_merged_away() {
    let embedder = WordEmbedder::new(DIM);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open_at(folder.path(), &embedder).build().await.expect("new");
    collection.add(documents(0..400)).await.expect("added");
    let is_done = Arc::new(AtomicBool::new(false));
    let mut searches = Vec::new();
    for at in 0..3_u64 {
        let (collection, is_done, embedder) = (collection.clone(), Arc::clone(&is_done), embedder.clone());
        searches.push(tokio::spawn(async move {
            let mut asked = 0_u64;
            while !is_done.load(Ordering::SeqCst) {
                let number = (asked * 7 + at * 100) % 400;
                let question = embedder.vector(&document(number).text);
                let got = answers(&collection, &question, 10).await;
                assert_eq!((got.len(), got[0].0), (10, number));
                asked += 1;
            }
            asked
        }));
    }
    for round in 0..8_u64 {
        let from = 1_000 + round * 150;
        collection
            .add_with(
                documents(from..from + 150),
                AddOptions::new().chunks_per_commit(50),
            )
            .await
            .expect("added");
        if round % 3 == 2 {
            collection.optimize().await.expect("merged");
        }
    }
    is_done.store(true, Ordering::SeqCst);
    for search in searches {
        assert!(search.await.expect("no search failed") > 3);
    }
}

#[tokio::test]
async fn a_vector_reader_keeps_its_state_its_filter_and_its_tenant() {
    let embedder = WordEmbedder::new(DIM);
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .graph(small())
        .build()
        .await
        .expect("new");
    let other = collection.scoped(Scope::new("other").expect("a name"));
    collection.add(documents(0..600)).await.expect("added");
    other.add(documents(600..900)).await.expect("added");
    collection.optimize().await.expect("merged");
    let question = embedder.vector(&document(31).text);
    let all = collection.vectors(None).await.expect("a reader");
    let odd = collection
        .vectors(Some(&Filter::eq("parity", "odd")))
        .await
        .expect("a reader");
    let theirs = other.vectors(None).await.expect("a reader");
    for (reader, matches) in [(&all, 600), (&odd, 300), (&theirs, 300)] {
        let efforts = [
            reader.clone().ef(50),
            reader.clone().recall(0.9).expect("a share"),
            reader.clone().recall(1.0).expect("a share"),
        ];
        for reader in efforts {
            for k in [0, 1, 10, 299, 300, 601] {
                let nearest = reader.nearest(&question, k).expect("found").neighbours;
                assert_eq!(nearest.len(), k.min(matches));
                assert!(nearest.is_sorted_by(|left, right| left.score >= right.score));
            }
        }
    }
    let count = |reader: &stepwell_rag::VectorReader| {
        reader.nearest(&question, 1_000).expect("found").neighbours.len()
    };
    assert_eq!((count(&all), count(&odd), count(&theirs)), (600, 300, 300));
    let best = all.nearest(&question, 1).expect("found").neighbours[0];
    assert_eq!(all.chunk(&best).expect("a chunk").document_id, "doc-31");
    assert_eq!(
        theirs.chunk(&best).expect_err("not theirs").code(),
        "invalid_input"
    );
    for neighbour in odd.nearest(&question, 20).expect("found").neighbours {
        let number: u64 = odd.chunk(&neighbour).expect("a chunk").document_id[4..]
            .parse()
            .expect("a number");
        assert_eq!(number % 2, 1);
    }
    // What comes later is not seen.
    collection.delete(["doc-31"]).await.expect("deleted");
    assert_eq!(count(&all), 600);
    assert_eq!(count(&collection.vectors(None).await.expect("a reader")), 599);
    assert_eq!(
        all.nearest(&[0.5; 3], 1).expect_err("too short").code(),
        "invalid_input"
    );
    assert_eq!(
        all.nearest(&[f32::NAN; DIM], 1).expect_err("no numbers").code(),
        "invalid_input"
    );
    assert_eq!(
        all.nearest(&question, 10_001).expect_err("too many").code(),
        "limit_exceeded"
    );
    assert_eq!(all.recall(0.2).expect_err("too low").code(), "invalid_input");
}

#[tokio::test]
async fn settings_of_graphs_are_checked() {
    for graph in [
        GraphOptions::new().links(1),
        GraphOptions::new().links(129),
        GraphOptions::new().ef_construction(15),
        GraphOptions::new().ef_construction(5_000),
    ] {
        let error = Collection::in_memory()
            .graph(graph)
            .build()
            .await
            .expect_err("refused");
        assert_eq!(error.code(), "invalid_input");
    }
    for recall in [0.0, 0.49, 1.01, f32::NAN] {
        let error = Collection::in_memory()
            .recall(recall)
            .build()
            .await
            .expect_err("refused");
        assert_eq!(error.code(), "invalid_input");
    }
}
