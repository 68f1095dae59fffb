//! What a query may ask for beyond a plain search: stages of words, units, thresholds, likeness; and how answers are judged.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use stepwell_core::{Document, Filter, Hit, HitUnit, Query, Reranker, Result, Retriever, Scope, SearchMode};
use stepwell_rag::eval::{JudgedQuestion, JudgedSet, evaluate_legs, fit_fusion, fit_relevance};
use stepwell_rag::{ChunkOptions, Collection, FieldBoosts, GraphOptions, RecallOptions, Reranked};
use support::{WordEmbedder, document, documents, in_memory};

async fn words_alone(documents: Vec<Document>) -> Collection {
    let collection = Collection::in_memory()
        .build()
        .await
        .expect("an empty collection");
    collection.add(documents).await.expect("adds");
    collection
}

async fn ids(collection: &Collection, query: &Query) -> Vec<String> {
    let hits = collection.search(query).await.expect("searches");
    hits.into_iter().map(|hit| hit.chunk.document_id).collect()
}

fn with_ids(ids: impl IntoIterator<Item = String>) -> Filter {
    Filter::Documents {
        ids: ids.into_iter().collect(),
    }
}

fn wells() -> Vec<Document> {
    vec![
        Document::new("a", "Sodium cathodes swell in summer.").with_title("Cathodes"),
        Document::new("b", "Cathodes of lithium, and sodium in the sea.").with_title("Salt"),
        Document::new("c", "Wells are deep.")
            .with_title("The Guide")
            .with_uri("https://example.org/Guide"),
    ]
}

#[tokio::test]
async fn highlights_are_the_bytes_of_the_questions_words() {
    let collection = words_alone(wells()).await;
    let hits = collection
        .search(&Query::new("swelling of a cathode").highlight())
        .await
        .expect("searches");
    let marked: Vec<&str> = hits[0]
        .highlights
        .iter()
        .map(|place| &hits[0].chunk.text[place.clone()])
        .collect();
    assert_eq!(marked, ["cathodes", "swell"]);
    let plain = collection.search(&Query::new("cathode")).await.expect("searches");
    assert!(
        plain.iter().all(|hit| hit.highlights.is_empty()),
        "only where asked for"
    );
}

#[tokio::test]
async fn words_side_by_side_count_more_where_a_query_asks_for_it() {
    let collection = words_alone(vec![
        Document::new("apart", "cathodes sodium cathodes sodium cathodes salt"),
        Document::new("together", "the sodium battery and sodium cathodes here"),
    ])
    .await;
    let query = Query::new("sodium cathodes salt").top_k(1);
    assert_eq!(ids(&collection, &query).await, ["apart"]);
    let scores = |query: Query| {
        let collection = collection.clone();
        async move {
            let hits = collection.search(&query.top_k(2)).await.expect("searches");
            hits.iter()
                .find(|hit| hit.chunk.document_id == "together")
                .map(|hit| hit.score)
                .expect("found")
        }
    };
    let query = Query::new("sodium cathodes");
    assert!(scores(query.clone().phrases()).await > scores(query).await + 0.01);
}

#[tokio::test]
async fn a_mistyped_word_finds_nothing_unless_the_query_forgives_it() {
    let collection = words_alone(wells()).await;
    assert!(ids(&collection, &Query::new("cathdoes")).await.is_empty());
    let hits = collection
        .search(&Query::new("cathdoes").fuzzy().highlight())
        .await
        .expect("searches");
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0].explanation.term_coverage, Some(1.0));
    assert!(!hits[0].highlights.is_empty());
    assert!(
        ids(&collection, &Query::new("xylophone").fuzzy())
            .await
            .is_empty()
    );
    // A word that is there is not mended: what is spelt right is not searched as something else.
    assert_eq!(ids(&collection, &Query::new("deep").fuzzy()).await, ["c"]);
}

#[tokio::test]
async fn what_is_called_like_the_question_comes_first_where_asked() {
    let embedder = WordEmbedder::new(64);
    let collection = in_memory(&embedder).await;
    let mut all = wells();
    all.extend(
        (0..40).map(|number| Document::new(format!("guide-{number}"), "the guide to the guide of guides")),
    );
    collection.add(all).await.expect("adds");
    for name in ["The  guide", "https://example.org/guide", "c"] {
        let hits = collection
            .search(&Query::new(name).exact_first().top_k(3))
            .await
            .expect("searches");
        assert_eq!(hits[0].chunk.document_id, "c", "{name}");
        assert_eq!(hits[0].explanation.stage, "exact");
        assert_eq!(hits.len(), 3);
        assert!(hits[0].score > hits[1].score);
        assert_ne!(hits[1].explanation.stage, "exact");
    }
    let plain = collection
        .search(&Query::new("the guide").top_k(1))
        .await
        .expect("searches");
    assert_ne!(plain[0].chunk.document_id, "c");
    // Neither another tenant's document nor a filtered one comes first.
    let other = collection.scoped(Scope::new("other").expect("a scope"));
    assert!(
        other
            .search(&Query::new("The Guide").exact_first())
            .await
            .expect("searches")
            .is_empty()
    );
    let query = Query::new("c").exact_first().filter(with_ids(["a".to_owned()]));
    assert_eq!(ids(&collection, &query).await, ["a"]);
}

#[tokio::test]
async fn an_expression_finds_what_it_says_in_both_legs() {
    let embedder = WordEmbedder::new(64);
    let collection = in_memory(&embedder).await;
    collection.add(wells()).await.expect("adds");
    for (text, found) in [
        ("cathodes -lithium", vec!["a"]),
        ("+sodium +\"sodium cathodes\"", vec!["a"]),
        ("title:cathodes", vec!["a"]),
        ("text:cathodes AND lithium", vec!["b"]),
        ("(wells OR lithium) NOT salt", vec!["c"]),
        ("cath* -title:salt", vec!["a"]),
        ("heading:cathodes", vec![]),
        ("cathodes OR wells", vec!["a", "b", "c"]),
    ] {
        let mut hits = ids(&collection, &Query::new(text).expression()).await;
        hits.sort();
        assert_eq!(hits, found, "{text}");
    }
    let error = collection
        .search(&Query::new("tenant:local").expression())
        .await
        .expect_err("not a field");
    assert_eq!(error.code(), "invalid_input");
    // The same text, not asked to be an expression, is words.
    assert_eq!(
        ids(&collection, &Query::new("cathodes -lithium").top_k(1)).await,
        ["b"]
    );
}

/// A long text.
fn report(number: u64) -> String {
    let lines: Vec<String> = (0..60)
        .map(|line| format!("Sentence {line} of wells in report {number}. "))
        .collect();
    lines.concat()
}

/// Ten documents of many chunks, then one of a single chunk.
async fn long_documents(embedder: &Arc<WordEmbedder>) -> Collection {
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .chunks(ChunkOptions::new().with_max_tokens(20).with_overlap_tokens(4))
        .build()
        .await
        .expect("an empty collection");
    let long = (0..10).map(|number| {
        let text = report(number);
        Document::new(format!("long-{number}"), text)
    });
    let mut all: Vec<Document> = long.collect();
    all.push(Document::new("short", "A note on wells."));
    collection.add(all).await.expect("adds");
    collection
}

#[tokio::test]
async fn no_document_is_found_twice_and_every_one_is_found_where_hits_are_documents() {
    let embedder = WordEmbedder::new(64);
    let collection = long_documents(&embedder).await;
    for mode in [SearchMode::Hybrid, SearchMode::Lexical, SearchMode::Dense] {
        let query = Query::new("report wells").mode(mode).top_k(11);
        let chunks = ids(&collection, &query).await;
        assert!(
            chunks.iter().collect::<std::collections::HashSet<_>>().len() < 11,
            "{mode:?}"
        );
        let mut documents = ids(&collection, &query.clone().unit(HitUnit::BestChunk)).await;
        let best = collection.search(&query).await.expect("searches");
        let folded = collection
            .search(&query.unit(HitUnit::BestChunk))
            .await
            .expect("searches");
        // Of both legs the scores are those of other lists: documents are folded before the lists become one.
        if mode != SearchMode::Hybrid {
            assert!(
                (best[0].score - folded[0].score).abs() < 1e-6,
                "{mode:?}: the best chunk stands for its document"
            );
        }
        documents.sort();
        documents.dedup();
        assert_eq!(documents.len(), 11, "{mode:?}");
    }
}

#[tokio::test]
async fn a_whole_document_comes_back_byte_for_byte_by_its_best_chunk() {
    let embedder = WordEmbedder::new(64);
    let collection = long_documents(&embedder).await;
    let query = Query::new("Sentence 37 report 4")
        .unit(HitUnit::Document)
        .highlight()
        .top_k(3);
    let hits = collection.search(&query).await.expect("searches");
    let text = report(4);
    let hit = hits
        .iter()
        .find(|hit| hit.chunk.document_id == "long-4")
        .expect("found");
    assert_eq!(
        (hit.chunk.text.as_str(), hit.chunk.span.clone()),
        (text.as_str(), 0..text.len())
    );
    assert!(hit.highlights.iter().any(|place| &text[place.clone()] == "37"));
    // A rewritten document is still one run of rows after deletes and merges.
    collection
        .add([Document::new("long-4", "Wells of report 4, new.")])
        .await
        .expect("adds");
    collection.optimize().await.expect("merges");
    let hits = collection.search(&query.top_k(11)).await.expect("searches");
    assert_eq!(hits.len(), 11);
    for hit in hits {
        assert_eq!(hit.chunk.span.start, 0);
        assert!(hit.chunk.text.starts_with(
            if hit.chunk.document_id.starts_with("long") && hit.chunk.document_id != "long-4" {
                "Sentence 0"
            } else if hit.chunk.document_id == "short" {
                "A note"
            } else {
                "Wells of"
            }
        ));
    }
}

#[tokio::test]
async fn a_question_that_nothing_answers_finds_nothing_above_a_relevance() {
    let embedder = WordEmbedder::new(256);
    let collection = in_memory(&embedder).await;
    collection.add(documents(0..200)).await.expect("adds");
    let own = collection
        .search(&Query::new(document(17).text).min_relevance(0.38))
        .await
        .expect("searches");
    assert_eq!(own[0].chunk.document_id, "doc-17");
    assert!(
        own.iter()
            .all(|hit| hit.explanation.relevance.expect("told") >= 0.38)
    );
    let foreign = Query::new("zebra quokka numbat bilby");
    assert_eq!(
        collection.search(&foreign).await.expect("searches").len(),
        10,
        "k or all without a threshold"
    );
    let none = collection
        .search(&foreign.min_relevance(0.38))
        .await
        .expect("searches");
    assert!(none.is_empty(), "{:?}", none.first().map(|hit| &hit.explanation));
    for least in [-0.1, 1.1, f32::NAN] {
        let error = collection
            .search(&Query::new("x").min_relevance(least))
            .await
            .expect_err("no share");
        assert_eq!(error.code(), "invalid_input");
    }
}

#[tokio::test]
async fn diversity_moves_copies_behind_what_is_new() {
    let embedder = WordEmbedder::new(128);
    let collection = in_memory(&embedder).await;
    let mut all: Vec<Document> = (0..5)
        .map(|number| Document::new(format!("copy-{number}"), "sodium cathodes swell in summer heat"))
        .collect();
    all.push(Document::new("other", "lithium cathodes crack under frost"));
    all.push(Document::new("far", "wells are deep"));
    collection.add(all).await.expect("adds");
    let query = Query::new("sodium cathodes").top_k(2);
    assert_eq!(ids(&collection, &query).await, ["copy-0", "copy-1"]);
    let hits = collection
        .search(&query.clone().diversity(0.5))
        .await
        .expect("searches");
    assert_eq!(hits[0].chunk.document_id, "copy-0");
    assert!(!hits[1].chunk.document_id.starts_with("copy"));
    assert_eq!(hits[1].explanation.stage, "diverse");
    assert!(hits[0].score >= hits[1].score);
    assert_eq!(
        ids(&collection, &query.diversity(0.0)).await,
        ["copy-0", "copy-1"]
    );
}

#[tokio::test]
async fn field_boosts_decide_what_a_title_counts() {
    let all = || {
        vec![
            Document::new("titled", "something else entirely is said").with_title("Cathodes"),
            Document::new("told", "cathodes are told about here"),
        ]
    };
    let open = |boosts: FieldBoosts| async move {
        let collection = Collection::in_memory()
            .boosts(boosts)
            .build()
            .await
            .expect("opens");
        collection.add(all()).await.expect("adds");
        ids(&collection, &Query::new("cathodes")).await
    };
    assert_eq!(open(FieldBoosts::default()).await, ["told", "titled"]);
    assert_eq!(
        open(FieldBoosts::default().with_title(3.0)).await,
        ["titled", "told"]
    );
    assert_eq!(open(FieldBoosts::default().with_title(0.0)).await, ["told"]);
    let refused = Collection::in_memory()
        .boosts(FieldBoosts::default().with_body(f32::NAN))
        .build()
        .await;
    assert_eq!(refused.expect_err("no number").code(), "invalid_input");
}

/// Puts the longest text first.
#[derive(Debug)]
struct Longest;

#[async_trait]
impl Reranker for Longest {
    async fn rerank(&self, _: &str, mut hits: Vec<Hit>, top_k: usize) -> Result<Vec<Hit>> {
        for hit in &mut hits {
            hit.score = hit.chunk.text.len() as f32;
            "reranked".clone_into(&mut hit.explanation.stage);
        }
        hits.sort_by(|left, right| right.score.total_cmp(&left.score));
        hits.truncate(top_k);
        Ok(hits)
    }
}

#[tokio::test]
async fn a_reranked_collection_asks_for_more_and_gives_what_was_asked() {
    let collection = words_alone(vec![
        Document::new("short", "wells wells wells"),
        Document::new("long", format!("wells {}", "and more ".repeat(40))),
    ])
    .await;
    let reranked = Reranked::new(Arc::new(collection.clone()), Arc::new(Longest));
    let query = Query::new("wells").top_k(1);
    assert_eq!(ids(&collection, &query).await, ["short"]);
    let hits = reranked.retrieve(&query).await.expect("searches");
    assert_eq!((hits.len(), hits[0].chunk.document_id.as_str()), (1, "long"));
    assert_eq!(hits[0].explanation.stage, "reranked");
    assert!(hits[0].explanation.lexical.is_some(), "the legs are still told");
    assert!(
        reranked
            .retrieve(&query.min_score(1e6))
            .await
            .expect("searches")
            .is_empty()
    );
}

/// Questions of three words of a document each.
fn judged(count: u64) -> JudgedSet {
    let questions = (0..count).map(|number| {
        let text: Vec<String> = document(number)
            .text
            .split(' ')
            .take(3)
            .map(str::to_owned)
            .collect();
        JudgedQuestion::new(
            number.to_string(),
            text.join(" "),
            [(format!("doc-{number}"), 1.0)],
        )
    });
    JudgedSet::new(questions.collect())
}

#[tokio::test]
async fn legs_are_judged_and_compared_on_the_collection_itself() {
    let embedder = WordEmbedder::new(32);
    let collection = in_memory(&embedder).await;
    collection.add(documents(0..300)).await.expect("adds");
    let report = evaluate_legs(&collection, &judged(60)).await.expect("judges");
    let ndcg: Vec<f64> = report.legs.iter().map(|(_, found)| found.mean.ndcg).collect();
    assert_eq!(ndcg.len(), 3);
    assert!(ndcg[0] > 0.8, "three words find their document: {ndcg:?}");
    assert!(ndcg[0] > ndcg[1], "32 numbers hold twenty words badly: {ndcg:?}");
    assert_eq!(report.comparisons.len(), 2);
    let table = report.to_string();
    assert!(
        table.contains("lexical") && table.contains("hybrid − dense"),
        "{table}"
    );
    let words = words_alone(documents(0..50)).await;
    assert_eq!(
        evaluate_legs(&words, &judged(10))
            .await
            .expect("judges")
            .legs
            .len(),
        1
    );
}

#[tokio::test]
async fn a_fitted_weight_is_taken_only_where_it_holds_and_never_loses() {
    let embedder = WordEmbedder::new(8);
    let collection = in_memory(&embedder).await;
    collection.add(documents(0..300)).await.expect("adds");
    let set = judged(60);
    let fitted = fit_fusion(&collection, &set).await.expect("fits");
    // Eight numbers tell little: words must win.
    assert!(fitted.is_better && fitted.weight < 0.5, "{fitted:?}");
    assert!(fitted.held_out > fitted.own);
    let error = fit_fusion(&collection, &judged(5)).await.expect_err("too few");
    assert_eq!(error.code(), "invalid_input");
    let words = words_alone(documents(0..50)).await;
    assert_eq!(
        fit_fusion(&words, &set).await.expect_err("one leg").code(),
        "invalid_input"
    );
}

#[tokio::test]
async fn fitted_relevance_tells_own_questions_from_foreign_ones() {
    let embedder = WordEmbedder::new(64);
    let collection = in_memory(&embedder).await;
    collection.add(documents(0..300)).await.expect("adds");
    let foreign: Vec<String> = (0..60)
        .map(|number| format!("zebra{number} quokka{number} word{number}"))
        .collect();
    let fitted = fit_relevance(&collection, &judged(60), &foreign)
        .await
        .expect("fits");
    assert!(fitted.held_out_loss < fitted.own_loss, "{fitted:?}");
    assert!(fitted.relevant >= 50, "{fitted:?}");
    let curves = fitted.calibration;
    assert!(curves.relevance(Some(0.5), Some(1.0)) > curves.relevance(Some(0.3), Some(0.3)));
}

#[tokio::test]
async fn recall_is_measured_on_the_graph_that_answers() {
    let embedder = WordEmbedder::new(32);
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .graph(GraphOptions::new().merge_rows(500))
        .recall(0.9)
        .build()
        .await
        .expect("opens");
    collection.add(documents(0..3_000)).await.expect("adds");
    collection.optimize().await.expect("merges");
    let options = RecallOptions::new().samples(50).k(5);
    let report = collection
        .measure_recall(options.clone())
        .await
        .expect("measures");
    assert_eq!(report.samples, 50);
    assert!(
        report.recall >= 0.85 && report.lowest <= report.recall,
        "{report:?}"
    );
    let again = collection
        .measure_recall(options.clone())
        .await
        .expect("measures");
    assert_eq!(
        (report.recall, report.lowest),
        (again.recall, again.lowest),
        "the seed decides"
    );
    // A scan misses nothing.
    let few = options.filter(with_ids((0..40).map(|number| format!("doc-{number}"))));
    let exact = collection.measure_recall(few).await.expect("measures");
    assert_eq!((exact.samples, exact.walked), (40, 0));
    assert!((exact.recall - 1.0).abs() < 1e-9);
    let empty = words_alone(documents(0..5)).await;
    assert_eq!(
        empty
            .measure_recall(RecallOptions::new())
            .await
            .expect("measures")
            .samples,
        0
    );
}
