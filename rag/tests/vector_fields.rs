//! Several vectors of each chunk: by other embedders, of other lengths, compared in other ways.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use stepwell_core::{
    Document, EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, Filter, FilterValue, Query, Scope,
    SearchMode, TokenCounter,
};
use stepwell_rag::{
    Collection, CollectionBuilder, GraphOptions, GraphState, Metric, RecallOptions, Storage, VectorField,
};
use support::{WordEmbedder, document, documents, score, truth};

/// What a collection of these tests is made with.
struct Embedders {
    first: Arc<WordEmbedder>,
    small: Arc<WordEmbedder>,
    large: Arc<WordEmbedder>,
}

impl Embedders {
    fn new() -> Self {
        Self {
            first: WordEmbedder::new(32),
            small: WordEmbedder::named("small", 12),
            large: WordEmbedder::named("large", 70),
        }
    }

    fn open(&self, folder: &Path) -> CollectionBuilder {
        let graph = GraphOptions::new().merge_rows(100).links(8).ef_construction(60);
        Collection::open(folder)
            .embedder(self.first.clone())
            .vector_field(VectorField::new("small", self.small.clone()).metric(Metric::L2))
            .vector_field(
                VectorField::new("_large_2", self.large.clone())
                    .metric(Metric::Dot)
                    .storage(Storage::F32),
            )
            .graph(graph)
    }

    /// Name, embedder and metric of each field.
    fn fields(&self) -> [(Option<&'static str>, &WordEmbedder, Metric); 3] {
        [
            (None, &self.first, Metric::Cosine),
            (Some("small"), &self.small, Metric::L2),
            (Some("_large_2"), &self.large, Metric::Dot),
        ]
    }
}

fn by(field: Option<&str>, query: Query) -> Query {
    match field {
        Some(name) => query.vector_field(name),
        None => query,
    }
}

/// Share of the true ten nearest, by each field.
async fn check(collection: &Collection, embedders: &Embedders, living: &BTreeSet<u64>) {
    for (field, embedder, metric) in embedders.fields() {
        let mut shared = 0;
        for at in 0..10 {
            let text = document(50_000 + at).text;
            let want = truth(embedder, metric, living, &embedder.vector(&text), 10);
            let query = by(field, Query::new(text.as_str()).mode(SearchMode::Dense));
            let hits = collection.search(&query).await.expect("hits");
            assert_eq!(hits.len(), 10, "{field:?}");
            for hit in &hits {
                let number: u64 = hit.chunk.document_id[4..].parse().expect("a number");
                let raw = hit.explanation.dense.as_ref().expect("by meaning").raw;
                let vector = embedder.vector(&document(number).text);
                let exact = score(metric, &vector, &embedder.vector(&text));
                assert!(
                    (f64::from(raw) - exact).abs() < 2e-3 * exact.abs().max(1.0),
                    "{field:?} {raw} {exact}"
                );
                shared += usize::from(want.iter().any(|(_, wanted)| *wanted == number));
            }
            // The same by its vector, and both legs.
            let given = by(field, Query::new("").mode(SearchMode::Dense)).vector(embedder.vector(&text));
            assert_eq!(ids(&collection.search(&given).await.expect("hits")), ids(&hits));
            let hybrid = by(field, Query::new(text.as_str()));
            assert_eq!(collection.search(&hybrid).await.expect("hits").len(), 10);
        }
        assert!(shared >= 95, "{field:?}: {shared} of 100");
    }
}

fn ids(hits: &[stepwell_core::Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.chunk.document_id.clone()).collect()
}

#[tokio::test]
async fn each_field_answers_as_brute_force_through_deletes_merges_and_reopening() {
    let embedders = Embedders::new();
    let folder = tempfile::tempdir().expect("a folder");
    let collection = embedders.open(folder.path()).build().await.expect("new");
    let mut living: BTreeSet<u64> = (0..360).collect();
    for part in 0..3 {
        collection
            .add(documents(part * 120..part * 120 + 120))
            .await
            .expect("added");
    }
    check(&collection, &embedders, &living).await;
    let gone: Vec<String> = (0..360)
        .step_by(5)
        .map(|number| format!("doc-{number}"))
        .collect();
    collection.delete(gone).await.expect("deleted");
    living.retain(|number| number % 5 != 0);
    check(&collection, &embedders, &living).await;
    collection.optimize().await.expect("merged");
    check(&collection, &embedders, &living).await;
    let sizes = collection.index_stats().await.expect("sizes");
    assert_eq!(sizes.segment_sizes[0].graph, GraphState::Ready);
    assert_eq!((sizes.vectors, sizes.graph_vectors), (288, 288));
    let stats = collection.stats().await.expect("counted");
    assert_eq!((stats.vectors, stats.dimension), (288, 32));
    let others: Vec<_> = stats
        .vector_fields
        .iter()
        .map(|field| (&field.name[..], field.vectors, field.dimension))
        .collect();
    assert_eq!(others, [("small", 288, 12), ("_large_2", 288, 70)]);
    collection.verify().await.expect("whole");
    drop(collection);

    let collection = embedders.open(folder.path()).build().await.expect("there");
    check(&collection, &embedders, &living).await;
    let all = collection.vectors(None).await.expect("a reader");
    for (field, embedder, metric) in embedders.fields() {
        let mut reader = all.clone();
        let mut options = RecallOptions::new().samples(40);
        if let Some(name) = field {
            reader = reader.vector_field(name).expect("there");
            options = options.vector_field(name);
        }
        let question = embedder.vector(&document(7).text);
        let nearest = reader
            .recall(1.0)
            .expect("exact")
            .nearest(&question, 5)
            .expect("found");
        let want = truth(embedder, metric, &living, &question, 5);
        for (found, (exact, _)) in nearest.neighbours.iter().zip(&want) {
            assert!((f64::from(found.score) - exact).abs() < 2e-3 * exact.abs().max(1.0));
        }
        let report = collection.measure_recall(options).await.expect("measured");
        assert!(report.samples == 40 && report.recall > 0.9, "{report:?}");
    }
}

#[tokio::test]
async fn a_field_keeps_to_its_tenant_and_its_filter() {
    let embedders = Embedders::new();
    let folder = tempfile::tempdir().expect("a folder");
    let collection = embedders.open(folder.path()).build().await.expect("new");
    let theirs = collection.scoped(Scope::new("them").expect("a name"));
    collection.add(documents(0..40)).await.expect("added");
    theirs.add(documents(40..80)).await.expect("added");
    let odd = Filter::eq("parity", FilterValue::from("odd"));
    for (field, ..) in embedders.fields() {
        let query = by(
            field,
            Query::new(document(41).text).mode(SearchMode::Dense).top_k(80),
        );
        let numbers = |hits: &[stepwell_core::Hit]| -> BTreeSet<u64> {
            let numbers = hits
                .iter()
                .map(|hit| hit.chunk.document_id[4..].parse().expect("a number"));
            numbers.collect()
        };
        let ours = numbers(&collection.search(&query).await.expect("hits"));
        assert_eq!(ours, (0..40).collect(), "{field:?}");
        let odd_ones = theirs
            .search(&query.clone().filter(odd.clone()))
            .await
            .expect("hits");
        assert_eq!(numbers(&odd_ones), (41..80).step_by(2).collect(), "{field:?}");
    }
}

#[tokio::test]
async fn what_is_unchanged_is_embedded_again_by_none_and_a_failure_of_one_loses_nothing() {
    let embedders = Embedders::new();
    let folder = tempfile::tempdir().expect("a folder");
    let collection = embedders.open(folder.path()).build().await.expect("new");
    collection.add(documents(0..20)).await.expect("added");
    let counts = || embedders.fields().map(|(_, embedder, _)| embedder.texts());
    assert_eq!(counts(), [20, 20, 20]);
    // Other metadata, the same words.
    let moved = document(3).with_metadata("place", "elsewhere");
    collection.add([moved, document(4)]).await.expect("added");
    assert_eq!(counts(), [20, 20, 20]);
    collection.add([document(20)]).await.expect("added");
    assert_eq!(counts(), [21, 21, 21]);

    embedders.large.fails.store(true, Ordering::SeqCst);
    let error = collection
        .add([Document::new("doc-3", "new words"), document(30)])
        .await
        .expect_err("it fails");
    assert_eq!(error.code(), "host");
    embedders.large.fails.store(false, Ordering::SeqCst);
    embedders.small.gives_zeros.store(true, Ordering::SeqCst);
    // Zeros have no direction, but a place: L2 takes them. The dot of the other field does too.
    collection.add([document(31)]).await.expect("added");
    embedders.small.gives_zeros.store(false, Ordering::SeqCst);
    embedders.first.gives_zeros.store(true, Ordering::SeqCst);
    let report = collection.add([document(32)]).await.expect("told");
    assert_eq!(report.failed[0].error.code(), "invalid_response");
    embedders.first.gives_zeros.store(false, Ordering::SeqCst);
    assert_eq!(collection.count(None).await.expect("counted"), 22);
    assert_eq!(collection.stats().await.expect("counted").vectors, 22);
    collection.verify().await.expect("whole");
}

#[tokio::test]
async fn fields_that_do_not_fit_are_refused_in_one_sentence() {
    let embedders = Embedders::new();
    let folder = tempfile::tempdir().expect("a folder");
    let collection = embedders.open(folder.path()).build().await.expect("new");
    collection.add(documents(0..5)).await.expect("added");
    let query = Query::new("word1").vector_field("other");
    let error = collection.search(&query).await.expect_err("no such field");
    assert_eq!(error.code(), "invalid_input");
    assert!(error.to_string().contains("no vector field `other`"), "{error}");
    let reader = collection.vectors(None).await.expect("a reader");
    assert_eq!(
        reader.vector_field("").expect_err("the first has no name").code(),
        "invalid_input"
    );
    let short = Query::new("").vector_field("small").vector(vec![1.0; 32]);
    let error = collection.search(&short).await.expect_err("of another length");
    assert_eq!(error.code(), "invalid_input");
    drop(collection);

    let field = |name: &str| VectorField::new(name, embedders.small.clone());
    let plain = || Collection::open(folder.path()).embedder(embedders.first.clone());
    for (builder, code) in [
        (
            plain().vector_field(field("small").metric(Metric::Cosine)),
            "invalid_input",
        ),
        (
            plain().vector_field(field("small").storage(Storage::Codes)),
            "invalid_input",
        ),
        (plain().vector_field(field("new")), "invalid_input"),
        (plain().vector_field(field("_large_2")), "embedder_mismatch"),
    ] {
        let error = builder.build().await.expect_err("another index");
        assert_eq!(error.code(), code, "{error}");
    }
    let many = (0..8).fold(plain(), |builder, at| {
        builder.vector_field(field(&format!("f{at}")))
    });
    for (builder, code) in [
        (plain().vector_field(field("")), "invalid_input"),
        (plain().vector_field(field("no-lines")), "invalid_input"),
        (plain().vector_field(field(&"n".repeat(65))), "invalid_input"),
        (
            plain().vector_field(field("a")).vector_field(field("a")),
            "invalid_input",
        ),
        (many, "limit_exceeded"),
    ] {
        assert_eq!(builder.build().await.expect_err("refused").code(), code);
    }

    // Without its embedder a field is searched by given vectors, and nothing is added.
    let collection = plain().build().await.expect("opens");
    let given = Query::new("")
        .vector_field("small")
        .vector(embedders.small.vector("word1"));
    assert_eq!(collection.search(&given).await.expect("hits").len(), 5);
    let by_text = Query::new("word1").vector_field("small").mode(SearchMode::Dense);
    assert_eq!(
        collection.search(&by_text).await.expect_err("no embedder").code(),
        "unsupported"
    );
    let error = collection.add([document(9)]).await.expect_err("no embedder");
    assert_eq!(error.code(), "unsupported");
    assert!(error.to_string().contains("`small`"), "{error}");
    collection.delete(["doc-1"]).await.expect("deleted");
    collection.compact().await.expect("merged");
    drop(collection);
    let collection = embedders.open(folder.path()).build().await.expect("opens");
    collection.verify().await.expect("whole");
    assert_eq!(
        collection.stats().await.expect("counted").vector_fields[1].vectors,
        4
    );
}

#[tokio::test]
async fn a_field_beside_words_alone_is_searched_and_put_in_order_once() {
    let embedder = WordEmbedder::new(12);
    let folder = tempfile::tempdir().expect("a folder");
    let collection = Collection::open(folder.path())
        .vector_field(VectorField::new("only", embedder.clone()))
        .graph(GraphOptions::new().merge_rows(100))
        .build()
        .await
        .expect("new");
    collection.add(documents(0..150)).await.expect("added");
    let query = Query::new(document(7).text)
        .vector_field("only")
        .mode(SearchMode::Dense);
    assert_eq!(ids(&collection.search(&query).await.expect("hits"))[0], "doc-7");
    collection.optimize().await.expect("merged");
    let sizes = collection.index_stats().await.expect("sizes");
    assert_eq!(
        (sizes.segment_sizes[0].graph, sizes.vectors),
        (GraphState::Ready, 150)
    );
    let files = || {
        let entries = std::fs::read_dir(folder.path()).expect("listed");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.collect::<BTreeSet<_>>()
    };
    let before = files();
    collection.optimize().await.expect("nothing to do");
    assert_eq!(files(), before);
}

#[tokio::test]
async fn as_many_fields_as_there_may_be_are_kept_merged_and_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let small: Vec<Arc<WordEmbedder>> = (0..7)
        .map(|at| WordEmbedder::named(&format!("model{at}"), 8 + at))
        .collect();
    let open = || {
        let first = Collection::open(folder.path()).embedder(WordEmbedder::new(32));
        small.iter().enumerate().fold(first, |builder, (at, embedder)| {
            builder.vector_field(VectorField::new(format!("f{at}"), embedder.clone()))
        })
    };
    let collection = open().build().await.expect("new");
    collection.add(documents(0..30)).await.expect("added");
    collection.add(documents(30..60)).await.expect("added");
    collection.delete(["doc-4", "doc-40"]).await.expect("deleted");
    collection.compact().await.expect("merged");
    drop(collection);
    let collection = open().build().await.expect("there");
    collection.verify().await.expect("whole");
    for at in 0..small.len() {
        for number in [0, 33, 59] {
            let query = Query::new(document(number).text)
                .mode(SearchMode::Dense)
                .vector_field(format!("f{at}"));
            let hits = collection.search(&query).await.expect("hits");
            assert_eq!(hits[0].chunk.document_id, format!("doc-{number}"), "field f{at}");
            assert!(hits[0].score > 0.999, "field f{at}: {}", hits[0].score);
        }
    }
    let stats = collection.stats().await.expect("counted");
    let counted: Vec<_> = stats.vector_fields.iter().map(|field| field.vectors).collect();
    assert_eq!(counted, [58; 7]);
}

/// Answers the first call and never another.
#[derive(Debug)]
struct Hanging {
    inner: Arc<WordEmbedder>,
    calls: AtomicU64,
}

#[async_trait]
impl Embedder for Hanging {
    fn info(&self) -> &EmbedderInfo {
        self.inner.info()
    }

    async fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Embeddings, Error> {
        if self.calls.fetch_add(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        self.inner.embed(texts, kind).await
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        self.inner.tokens()
    }
}

#[tokio::test]
async fn an_add_that_waits_for_a_fields_embedder_for_ever_can_be_dropped_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |second: Arc<dyn Embedder>| {
        Collection::open(folder.path())
            .embedder(WordEmbedder::new(32))
            .vector_field(VectorField::new("small", second))
            .build()
    };
    let small = WordEmbedder::named("small", 12);
    let hanging = Arc::new(Hanging {
        inner: small.clone(),
        calls: AtomicU64::new(0),
    });
    let collection = open(hanging.clone()).await.expect("new");
    collection
        .add([document(1)])
        .await
        .expect("the first call answers");
    let changed = Document::new("doc-1", "quite another text");
    let waited = tokio::time::timeout(Duration::from_millis(200), collection.add([changed.clone()])).await;
    assert!(waited.is_err(), "it waits");
    assert_eq!(hanging.calls.load(Ordering::SeqCst), 2);
    // The old version stands, and the collection can be written to.
    let by_words = Query::new(document(1).text).mode(SearchMode::Lexical);
    let hits = collection.search(&by_words).await.expect("hits");
    assert_eq!(hits[0].chunk.text, document(1).text);
    assert_eq!(collection.delete(["doc-9"]).await.expect("no lock is left"), 0);
    drop(collection);

    let collection = open(small).await.expect("opens");
    collection.add([changed]).await.expect("added");
    let query = Query::new("quite another text")
        .mode(SearchMode::Dense)
        .vector_field("small");
    let hits = collection.search(&query).await.expect("hits");
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].chunk.text, "quite another text");
}
