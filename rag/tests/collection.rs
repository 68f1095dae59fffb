//! A collection's life: add, search, filter, update, delete, reopen, share.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use serde_json::json;
use stepwell_core::{Cancel, Document, Filter, FilterValue, Query, Retriever, Scope, SearchMode};
use stepwell_rag::{AddEvent, AddOptions, Collection, Fusion, Language, SkipReason};
use support::{Seeded, WordEmbedder, document, documents, in_memory, open};

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    (dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()) as f32
}

#[tokio::test]
async fn a_question_finds_the_document_that_answers_it_and_says_why() {
    let embedder = WordEmbedder::new(64);
    let collection = in_memory(&embedder).await;
    let mut all = documents(0..50);
    all.push(
        Document::new(
            "cathodes.md",
            "Sodium cathodes swell when they are charged too fast.",
        )
        .with_title("Cathodes")
        .with_uri("notes/cathodes.md"),
    );
    let report = collection.add(all).await.expect("added");
    assert_eq!(
        (report.progress.documents_added, report.progress.chunks),
        (51, 51)
    );

    let hits = collection
        .search(&Query::new("Why do sodium cathodes swell?").top_k(3))
        .await
        .expect("hits");
    assert_eq!(hits.len(), 3);
    let best = &hits[0];
    assert_eq!(best.chunk.document_id, "cathodes.md");
    assert_eq!(best.chunk.uri.as_deref(), Some("notes/cathodes.md"));
    let explanation = &best.explanation;
    assert_eq!(explanation.stage, "fused");
    let (lexical, dense) = (
        explanation.lexical.expect("words"),
        explanation.dense.expect("meaning"),
    );
    assert_eq!(lexical.rank, Some(1));
    assert!(lexical.raw > 0.0 && lexical.normalized > 0.0);
    let want = cosine(
        &embedder.vector("Why do sodium cathodes swell?"),
        &embedder.vector(&best.chunk.text),
    );
    assert!((dense.raw - want).abs() < 0.002, "{} for {want}", dense.raw);
    // why, do, sodium, cathod, swell: three of five.
    assert!((explanation.term_coverage.expect("words") - 0.6).abs() < 1e-6);
    assert!(hits.is_sorted_by(|left, right| left.score >= right.score));
    // Hits that only meaning found have a cosine and no word.
    let other = hits[2].explanation.clone();
    assert_eq!(
        (other.term_coverage, other.lexical.expect("a floor").rank),
        (Some(0.0), None)
    );
}

#[tokio::test]
async fn each_mode_uses_its_own_leg_and_k_or_all_come_back() {
    let embedder = WordEmbedder::new(64);
    let collection = in_memory(&embedder).await;
    collection.add(documents(0..30)).await.expect("added");
    let text = document(7).text;
    for (mode, stage) in [
        (SearchMode::Hybrid, "fused"),
        (SearchMode::Dense, "dense"),
        (SearchMode::Lexical, "lexical"),
    ] {
        let hits = collection
            .retrieve(&Query::new(&text).mode(mode).top_k(5))
            .await
            .expect("hits");
        assert_eq!(
            (
                hits[0].chunk.document_id.as_str(),
                hits[0].explanation.stage.as_str()
            ),
            ("doc-7", stage)
        );
        assert_eq!(hits.len(), 5);
    }
    for mode in [SearchMode::Hybrid, SearchMode::Dense] {
        for top_k in [0, 1, 29, 30, 31, 500] {
            let hits = collection
                .search(&Query::new("anything").mode(mode).top_k(top_k))
                .await
                .expect("hits");
            let ids: BTreeSet<String> = hits.iter().map(|hit| hit.chunk.id.clone()).collect();
            assert_eq!(
                (hits.len(), ids.len()),
                (top_k.min(30), top_k.min(30)),
                "{mode:?} {top_k}"
            );
        }
    }
    let hits = collection
        .search(&Query::new("zzz qqq").mode(SearchMode::Lexical))
        .await
        .expect("no hits");
    assert!(hits.is_empty());
}

#[tokio::test]
async fn dense_answers_equal_brute_force_under_filters_deletes_and_merges() {
    let embedder = WordEmbedder::new(48);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    let options = || AddOptions::new().chunks_per_commit(70);
    collection
        .add_with(documents(0..600), options())
        .await
        .expect("added");
    let gone: BTreeSet<u64> = (0..600).filter(|number| number % 7 == 3).collect();
    collection
        .delete(gone.iter().map(|number| format!("doc-{number}")))
        .await
        .expect("deleted");

    let mut seed = Seeded::new(5);
    for phase in ["deleted", "compacted", "reopened"] {
        let collection = match phase {
            "compacted" => {
                collection.compact().await.expect("compacted");
                assert_eq!(collection.index_stats().await.expect("stats").segments, 1);
                collection.clone()
            }
            "reopened" => open(folder.path(), &embedder).await,
            _ => collection.clone(),
        };
        for limit in [1_u32, 3, 10, 60, 200, 600] {
            let query_text = document(10_000 + seed.below(1_000)).text;
            let vector = embedder.vector(&query_text);
            let filter = Filter::range("number", None, Some(FilterValue::Integer(i64::from(limit) - 1)));
            let mut want: Vec<(f32, u64)> = (0..u64::from(limit))
                .filter(|number| !gone.contains(number))
                .map(|number| (cosine(&vector, &embedder.vector(&document(number).text)), number))
                .collect();
            want.sort_by(|left, right| right.0.total_cmp(&left.0));
            let query = Query::new(&query_text)
                .mode(SearchMode::Dense)
                .top_k(10)
                .filter(filter.clone());
            let hits = collection.search(&query).await.expect("hits");
            assert_eq!(hits.len(), want.len().min(10), "{phase}: k or all of {limit}");
            assert_eq!(
                collection.count(Some(&filter)).await.expect("count"),
                want.len() as u64
            );
            for (hit, (score, _)) in hits.iter().zip(&want) {
                assert!(
                    (hit.score - score).abs() < 0.002,
                    "{phase}, {limit}: {} for {score}",
                    hit.score
                );
            }
            let hybrid = collection
                .search(&Query::new(&query_text).filter(filter))
                .await
                .expect("hits");
            assert_eq!(hybrid.len(), want.len().min(10));
        }
    }
}

#[tokio::test]
async fn an_unchanged_document_is_not_embedded_again_and_a_changed_one_replaces_its_old_self() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    collection.add(documents(0..20)).await.expect("added");
    assert_eq!(embedder.texts(), 20);
    let again = open(folder.path(), &embedder).await;
    let mut all = documents(0..20);
    all[4] = Document::new("doc-4", "quite another text about herons");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let options = AddOptions::new().progress(move |event| sink.lock().expect("one task").push(event.clone()));
    let report = again.add_with(all, options).await.expect("synced");
    assert_eq!(embedder.texts(), 21);
    let progress = &report.progress;
    assert_eq!(
        (
            progress.documents_unchanged,
            progress.documents_updated,
            progress.documents_added
        ),
        (19, 1, 0)
    );
    assert_eq!(
        (progress.documents_total, progress.documents_done),
        (Some(20), 20)
    );
    let skipped = AddEvent::Skipped {
        document_id: "doc-0".to_owned(),
        reason: SkipReason::Unchanged,
    };
    assert!(seen.lock().expect("done").contains(&skipped));

    assert_eq!(again.count(None).await.expect("count"), 20);
    let hits = again
        .search(&Query::new("herons").mode(SearchMode::Lexical))
        .await
        .expect("hits");
    assert_eq!(
        hits.iter()
            .map(|hit| hit.chunk.document_id.as_str())
            .collect::<Vec<_>>(),
        ["doc-4"]
    );
    let old = document(4).text;
    let hits = again
        .search(&Query::new(old).mode(SearchMode::Lexical).top_k(100))
        .await
        .expect("hits");
    assert!(
        hits.iter().all(|hit| hit.chunk.document_id != "doc-4"),
        "the old version is gone"
    );
    let entries = again.documents().await.expect("entries");
    assert_eq!(entries.len(), 20);
    let entry = entries.iter().find(|entry| entry.id == "doc-5").expect("there");
    assert_eq!(
        (entry.content_hash.clone(), entry.chunks),
        (document(5).content_hash(), 1)
    );
}

#[tokio::test]
async fn a_failing_embedder_leaves_the_old_version_and_the_next_add_works() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    collection.add(documents(0..10)).await.expect("added");
    for flag in [&embedder.fails, &embedder.gives_zeros] {
        flag.store(true, Ordering::SeqCst);
        let changed = Document::new("doc-3", "new words that never arrive");
        match collection.add([changed, document(99)]).await {
            Err(error) => assert_eq!(error.code(), "host"),
            // Vectors that cannot be indexed cost their documents alone.
            Ok(report) => {
                assert!(embedder.gives_zeros.load(Ordering::SeqCst));
                assert_eq!((report.failed.len(), report.progress.documents_failed), (2, 2));
                assert!(
                    report
                        .failed
                        .iter()
                        .all(|failed| failed.error.code() == "invalid_response")
                );
            }
        }
        flag.store(false, Ordering::SeqCst);
        assert_eq!(collection.count(None).await.expect("count"), 10);
        let entries = collection.documents().await.expect("entries");
        assert!(
            entries
                .iter()
                .any(|entry| entry.content_hash == document(3).content_hash())
        );
    }
    collection.add([document(99)]).await.expect("works again");
    assert_eq!(collection.count(None).await.expect("count"), 11);
}

#[tokio::test]
async fn filters_compare_strings_numbers_dates_truths_lists_and_nested_facts() {
    let embedder = WordEmbedder::new(16);
    let collection = in_memory(&embedder).await;
    let facts = [
        json!({"kind": "paper", "year": 2019, "price": 1.5, "open": true, "tags": ["a", "b"], "day": "2024-05-01"}),
        json!({"kind": "paper", "year": 2020, "price": -3, "open": false, "tags": ["b"], "day": "2024-05-02T10:00:00Z"}),
        json!({"kind": "patent", "year": 2020.5, "author": {"name": "Ada", "born": 1815}}),
        json!({"kind": "pa", "year": 9_007_199_254_740_993_i64, "note": null, "tags": []}),
        json!({}),
    ];
    let all: Vec<Document> = facts
        .iter()
        .enumerate()
        .map(|(at, facts)| {
            let mut document = Document::new(format!("d{at}"), format!("text number {at}"));
            document.metadata = facts.as_object().expect("an object").clone();
            document
        })
        .collect();
    collection.add(all).await.expect("added");
    let int = FilterValue::Integer;
    let date = |text: &str| FilterValue::Date(text.to_owned());
    let cases: Vec<(Filter, &[u32])> = vec![
        (Filter::eq("kind", "paper"), &[0, 1]),
        (Filter::eq("kind", "pap"), &[]),
        (Filter::prefix("kind", "pap"), &[0, 1]),
        (Filter::prefix("kind", "pa"), &[0, 1, 2, 3]),
        (Filter::eq("year", 2020_i64), &[1]),
        (Filter::eq("year", 2020.0), &[1]),
        (Filter::eq("year", 2020.5), &[2]),
        (Filter::eq("year", 9_007_199_254_740_992_i64), &[]),
        (Filter::eq("year", 9_007_199_254_740_993_i64), &[3]),
        (Filter::range("year", Some(int(2020)), Some(int(2021))), &[1, 2]),
        (Filter::range("year", Some(int(2021)), None), &[3]),
        (Filter::range("year", None, Some(int(2019))), &[0]),
        (Filter::range("year", Some(int(5)), Some(int(1))), &[]),
        (Filter::range("price", None, Some(FilterValue::Number(0.0))), &[1]),
        (Filter::eq("open", true), &[0]),
        (Filter::eq("open", false), &[1]),
        (Filter::eq("tags", "b"), &[0, 1]),
        (Filter::is_in("tags", ["a", "z"]), &[0]),
        (Filter::is_in("tags", Vec::<String>::new()), &[]),
        (Filter::exists("tags"), &[0, 1]),
        (Filter::exists("note"), &[]),
        (Filter::exists("author"), &[2]),
        (Filter::eq("author.name", "Ada"), &[2]),
        (Filter::range("author.born", Some(int(1800)), None), &[2]),
        (Filter::eq("day", "2024-05-01"), &[0]),
        (
            Filter::range(
                "day",
                Some(date("2024-05-01T00:00:00Z")),
                Some(date("2024-05-02")),
            ),
            &[0],
        ),
        (
            Filter::range("day", Some(date("2024-05-02T12:00:00+02:00")), None),
            &[1],
        ),
        (
            Filter::range("kind", Some("paper".into()), Some("paper".into())),
            &[0, 1],
        ),
        (Filter::eq("kind", "paper").and(Filter::eq("open", true)), &[0]),
        (Filter::eq("kind", "patent").or(Filter::eq("open", true)), &[0, 2]),
        (Filter::eq("kind", "paper").negate(), &[2, 3, 4]),
        (Filter::And(vec![]), &[0, 1, 2, 3, 4]),
        (Filter::Or(vec![]), &[]),
        (Filter::Not(Box::new(Filter::And(vec![]))), &[]),
        (
            Filter::Documents {
                ids: vec!["d1".to_owned(), "d4".to_owned(), "d44".to_owned()],
            },
            &[1, 4],
        ),
    ];
    for (filter, want) in cases {
        for mode in [SearchMode::Dense, SearchMode::Hybrid, SearchMode::Lexical] {
            let query = Query::new("text number").mode(mode).filter(filter.clone());
            let hits = collection.search(&query).await.expect("hits");
            let mut got: Vec<u32> = hits
                .iter()
                .map(|hit| hit.chunk.document_id[1..].parse().expect("a number"))
                .collect();
            got.sort_unstable();
            assert_eq!(got, want, "{filter:?} {mode:?}");
        }
    }
    for bad in [
        Filter::eq("", "x"),
        Filter::eq("year", f64::NAN),
        Filter::eq("day", date("yesterday")),
        Filter::range("year", None, None),
        Filter::range("year", Some(int(1)), Some("x".into())),
        Filter::prefix("kind", "x".repeat(300)),
    ] {
        let error = collection.count(Some(&bad)).await.expect_err("refused");
        assert_eq!(error.code(), "invalid_input", "{bad:?}");
    }
    let mut deep = Filter::exists("kind");
    for _ in 0..100 {
        deep = deep.negate();
    }
    assert_eq!(
        collection.count(Some(&deep)).await.expect_err("deep").code(),
        "limit_exceeded"
    );
    let deleted = collection
        .delete_where(&Filter::eq("kind", "paper"))
        .await
        .expect("deleted");
    assert_eq!((deleted, collection.count(None).await.expect("count")), (2, 3));
}

#[tokio::test]
async fn two_tenants_with_equal_ids_never_see_each_other() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let one = open(folder.path(), &embedder)
        .await
        .scoped(Scope::new("one").expect("a name"));
    let two = one.scoped(Scope::new("two").expect("a name"));
    one.add([Document::new("shared", "herons fish at dawn").with_metadata("n", 1)])
        .await
        .expect("added");
    two.add([Document::new("shared", "herons sleep at noon").with_metadata("n", 1)])
        .await
        .expect("added");
    for (collection, word) in [(&one, "dawn"), (&two, "noon")] {
        for mode in [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical] {
            let hits = collection
                .search(&Query::new("herons").mode(mode))
                .await
                .expect("hits");
            assert_eq!(hits.len(), 1);
            assert!(hits[0].chunk.text.contains(word));
        }
        assert_eq!(collection.count(None).await.expect("count"), 1);
        assert_eq!(collection.documents().await.expect("entries").len(), 1);
    }
    assert_eq!(two.delete(["shared"]).await.expect("deleted"), 1);
    assert_eq!(one.count(None).await.expect("count"), 1);
    one.add([Document::new("shared", "herons fish at dusk").with_metadata("n", 1)])
        .await
        .expect("updated");
    assert_eq!(
        two.delete_where(&Filter::eq("n", 1_i64))
            .await
            .expect("nothing there"),
        0
    );
    let hits = one.search(&Query::new("herons")).await.expect("hits");
    assert!(hits.len() == 1 && hits[0].chunk.text.contains("dusk"));
    // A tenant whose name begins like another's is another.
    assert_eq!(
        one.scoped(Scope::new("on").expect("a name"))
            .count(None)
            .await
            .expect("count"),
        0
    );
}

#[tokio::test]
async fn cancel_keeps_what_was_committed_and_the_next_run_goes_on_from_there() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let options = AddOptions::new()
        .chunks_per_commit(10)
        .cancel(cancel)
        .progress(move |event| {
            if let AddEvent::Progress(progress) = event
                && progress.commits == 3
            {
                switch.cancel();
            }
        });
    let error = collection
        .add_with(documents(0..100), options)
        .await
        .expect_err("cancelled");
    assert_eq!(error.code(), "cancelled");
    assert_eq!(collection.count(None).await.expect("count"), 30);
    let before = embedder.texts();
    let report = open(folder.path(), &embedder)
        .await
        .add(documents(0..100))
        .await
        .expect("goes on");
    assert_eq!(report.progress.documents_unchanged, 30);
    assert_eq!(embedder.texts() - before, 70);
    assert_eq!(
        collection.count(None).await.expect("seen by the first handle"),
        100
    );
}

#[tokio::test]
async fn a_dropped_add_leaves_no_half_document_and_no_lock() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    for polls in [1, 3, 9, 30] {
        let mut adding =
            Box::pin(collection.add_with(documents(0..60), AddOptions::new().chunks_per_commit(7)));
        for _ in 0..polls {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(3), &mut adding).await;
        }
        drop(adding);
        // A commit that was under way may still end; whoever writes next waits for it.
        collection.add([document(1_000 + polls)]).await.expect("its turn");
        collection.verify().await.expect("whole");
    }
    collection.add(documents(0..60)).await.expect("added");
    assert_eq!(collection.count(None).await.expect("count"), 64);
}

#[tokio::test]
async fn a_reader_in_another_handle_sees_each_commit_and_a_second_writer_is_refused() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let writer = open(folder.path(), &embedder).await;
    let reader = open(folder.path(), &embedder).await;
    let other = open(folder.path(), &embedder).await;
    assert_eq!(reader.count(None).await.expect("count"), 0);
    let refused = Arc::new(Mutex::new(None));
    let (sink, runtime) = (Arc::clone(&refused), tokio::runtime::Handle::current());
    let counted = Arc::new(Mutex::new(Vec::new()));
    let counts = Arc::clone(&counted);
    let options = AddOptions::new().chunks_per_commit(20).progress(move |event| {
        let AddEvent::Progress(progress) = event else {
            return;
        };
        if progress.commits == 0 || progress.chunks % 20 != 0 {
            return;
        }
        let (other, reader, runtime) = (other.clone(), reader.clone(), runtime.clone());
        let (error, count) = std::thread::spawn(move || {
            runtime.block_on(async { (other.add([document(999)]).await.err(), reader.count(None).await) })
        })
        .join()
        .expect("the thread ends");
        *sink.lock().expect("free") = error;
        counts
            .lock()
            .expect("free")
            .push((progress.commits, count.expect("count")));
    });
    writer.add_with(documents(0..100), options).await.expect("added");
    let error = refused.lock().expect("done").take().expect("refused");
    assert_eq!(error.code(), "locked");
    assert!(error.to_string().contains("another process or handle"));
    for (commits, count) in counted.lock().expect("done").iter() {
        assert_eq!(*count, commits * 20);
    }
    assert!(counted.lock().expect("done").len() >= 5);
}

#[tokio::test]
async fn searches_go_on_while_segments_are_merged_away() {
    let embedder = WordEmbedder::new(32);
    let folder = tempfile::tempdir().expect("folder");
    let collection = open(folder.path(), &embedder).await;
    collection.add(documents(0..40)).await.expect("added");
    let stop = Cancel::new();
    let mut searches = Vec::new();
    for handle in [collection.clone(), open(folder.path(), &embedder).await] {
        let stop = stop.clone();
        searches.push(tokio::spawn(async move {
            let mut count = 0_u32;
            while !stop.is_cancelled() {
                let hits = handle
                    .search(&Query::new(document(7).text).top_k(5))
                    .await
                    .expect("searchable throughout");
                assert_eq!((hits.len(), hits[0].chunk.document_id.as_str()), (5, "doc-7"));
                count += 1;
            }
            count
        }));
    }
    for round in 0..12_u64 {
        let from = 100 + round * 15;
        collection
            .add_with(documents(from..from + 15), AddOptions::new().chunks_per_commit(5))
            .await
            .expect("added");
        collection.delete([format!("doc-{from}")]).await.expect("deleted");
        if round % 3 == 2 {
            collection.compact().await.expect("compacted");
        }
    }
    stop.cancel();
    for search in searches {
        assert!(search.await.expect("no panic") > 0);
    }
    assert_eq!(collection.count(None).await.expect("count"), 40 + 12 * 14);
    collection.verify().await.expect("whole");
}

#[tokio::test]
async fn documents_without_text_or_with_the_same_id_are_told_and_left_out() {
    let embedder = WordEmbedder::new(32);
    let collection = in_memory(&embedder).await;
    collection
        .add([Document::new("a", "first text")])
        .await
        .expect("added");
    let report = collection
        .add([
            Document::new("a", " \n"),
            Document::new("b", "one"),
            Document::new("b", "two"),
        ])
        .await
        .expect("added");
    let skipped: BTreeSet<(String, &str)> = report
        .skipped
        .iter()
        .map(|(id, reason)| (id.clone(), reason.as_str()))
        .collect();
    assert!(skipped.contains(&("a".to_owned(), SkipReason::Empty.as_str())));
    assert!(skipped.contains(&("b".to_owned(), SkipReason::Replaced.as_str())));
    assert_eq!(report.progress.documents_done, 3);
    let entries = collection.documents().await.expect("entries");
    assert_eq!(
        entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(entries[0].content_hash, Document::new("b", "two").content_hash());
    for bad in [String::new(), "x".repeat(2_000)] {
        let report = collection.add([Document::new(bad, "text")]).await.expect("told");
        assert_eq!(report.failed[0].error.code(), "invalid_input");
    }
}

#[tokio::test]
async fn questions_that_cannot_be_answered_are_refused_in_one_sentence() {
    let embedder = WordEmbedder::new(32);
    let collection = in_memory(&embedder).await;
    assert!(
        collection
            .search(&Query::new("anything"))
            .await
            .expect("an empty collection")
            .is_empty()
    );
    collection.add(documents(0..5)).await.expect("added");
    for (query, code) in [
        (Query::new("  "), "invalid_input"),
        (Query::new("x").vector(vec![1.0; 31]), "invalid_input"),
        (Query::new("x").vector(vec![f32::NAN; 32]), "invalid_input"),
        (Query::new("x").vector(vec![0.0; 32]), "invalid_input"),
        (Query::new("x").top_k(1_000_000), "limit_exceeded"),
        (Query::new("x".repeat(100_000)), "limit_exceeded"),
    ] {
        assert_eq!(collection.search(&query).await.expect_err("refused").code(), code);
    }
    let operators = "AND OR NOT (unbalanced \"quotes field:value [a TO * ~ ^";
    assert_eq!(
        collection
            .search(&Query::new(operators))
            .await
            .expect("only words")
            .len(),
        5
    );
    let hits = collection
        .search(&Query::new("").vector(embedder.vector(&document(2).text)))
        .await
        .expect("a vector will do");
    assert_eq!(hits[0].chunk.document_id, "doc-2");
}

#[tokio::test]
async fn a_collection_of_words_alone_needs_no_embedder() {
    let collection = Collection::in_memory()
        .language(Language::German)
        .build()
        .await
        .expect("made");
    collection
        .add([
            Document::new("a", "Die Häuser am Fluss"),
            Document::new("b", "Ein Boot"),
        ])
        .await
        .expect("added");
    let hits = collection
        .search(&Query::new("Welches Haus?"))
        .await
        .expect("hits");
    assert_eq!(hits.len(), 1);
    assert_eq!(
        (
            hits[0].chunk.document_id.as_str(),
            hits[0].explanation.stage.as_str()
        ),
        ("a", "lexical")
    );
    let dense = Query::new("Haus").mode(SearchMode::Dense);
    assert_eq!(
        collection.search(&dense).await.expect_err("no vectors").code(),
        "unsupported"
    );
    assert_eq!(
        collection
            .search(&Query::new("x").vector(vec![1.0]))
            .await
            .expect_err("no vectors")
            .code(),
        "unsupported"
    );
}

#[tokio::test]
async fn settings_are_checked_and_every_fusion_finds_the_best_document() {
    let embedder = WordEmbedder::new(32);
    for fusion in [
        Fusion::ZScore { weight: 0.3 },
        Fusion::MinMax { weight: 0.7 },
        Fusion::ReciprocalRank { k: 60.0 },
    ] {
        let collection = Collection::in_memory()
            .embedder(embedder.clone())
            .fusion(fusion)
            .codes_only(true)
            .build()
            .await
            .expect("made");
        collection.add(documents(0..40)).await.expect("added");
        let hits = collection
            .search(&Query::new(document(11).text))
            .await
            .expect("hits");
        assert_eq!(hits[0].chunk.document_id, "doc-11", "{fusion:?}");
        let least = hits[2].score;
        let fewer = collection
            .search(&Query::new(document(11).text).min_score(least))
            .await
            .expect("hits");
        assert_eq!(fewer.len(), 3);
    }
    let bad = Collection::in_memory()
        .fusion(Fusion::ZScore { weight: 2.0 })
        .build()
        .await;
    assert_eq!(bad.expect_err("refused").code(), "invalid_input");
}
