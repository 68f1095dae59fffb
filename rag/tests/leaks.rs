//! Tenants who share an index, with equal ids and texts that name their owner: nobody sees, counts or deletes what is
//! another's. `tests/mutants` takes each condition that keeps them apart out of the source and sees these tests fail.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;
use stepwell_core::{Chunk, Document, Filter, FilterValue, Hit, HitUnit, Query, Scope, SearchMode};
use stepwell_rag::{
    Collection, CollectionBuilder, GraphOptions, Metric, Neighbour, SyncOptions, VectorField, WholeDocuments,
};
use support::{Seeded, WordEmbedder, oracle};

/// Names that begin like each other, or differ in case alone.
const TENANTS: [&str; 8] = [
    "t",
    "t1",
    "t12",
    "T1",
    "t1 ",
    "t\u{e9}",
    "local",
    "tenant-of-a-longer-name",
];
/// Ids that begin like each other; every tenant has all of them.
const IDS: [&str; 12] = [
    "a",
    "ab",
    "abc",
    "a/b",
    "b",
    "shared",
    "shared.md",
    "shared.md#1",
    "A",
    "\u{e9}",
    "1",
    "12",
];
const MODES: [SearchMode; 3] = [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical];

fn is_long() -> bool {
    std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1")
}

/// Another vector of each chunk.
const SECOND: &str = "second";

/// What a tenant holds.
type Held = BTreeMap<String, Document>;

fn owner(tenant: usize) -> String {
    format!("owner{tenant}x")
}

fn builder(folder: Option<&Path>) -> CollectionBuilder {
    folder
        .map_or_else(Collection::in_memory, Collection::open)
        .embedder(WordEmbedder::new(12))
        .vector_field(VectorField::new(SECOND, WordEmbedder::named(SECOND, 20)).metric(Metric::L2))
        .chunker(Arc::new(WholeDocuments))
        // Small enough that segments get graphs, and walks cross other tenants' rows.
        .graph(GraphOptions::new().merge_rows(24).flush_rows(24))
}

struct World {
    seed: Seeded,
    shared: Collection,
    held: Vec<Held>,
    revision: u64,
    /// What some tenant's reader found, to be shown to another's.
    strays: Vec<(usize, Neighbour)>,
    folder: Option<tempfile::TempDir>,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    async fn new(seed: u64, on_disk: bool) -> Self {
        let folder = on_disk.then(|| tempfile::tempdir().expect("a folder"));
        let path = folder.as_ref().map(tempfile::TempDir::path);
        Self {
            seed: Seeded::new(seed),
            shared: builder(path).build().await.expect("empty"),
            held: vec![Held::new(); TENANTS.len()],
            revision: 0,
            strays: Vec::new(),
            folder,
            counts: BTreeMap::new(),
        }
    }

    fn handle(&self, tenant: usize) -> Collection {
        self.shared.scoped(Scope::new(TENANTS[tenant]).expect("a name"))
    }

    fn document(&mut self, tenant: usize) -> Document {
        self.revision += 1;
        let id = IDS[self.seed.below(IDS.len() as u64) as usize];
        // Few words, so that everybody's chunks lie close to each other.
        let word = self.seed.below(4);
        let text = format!("common {} word{word} revision{}", owner(tenant), self.revision);
        let mut document = Document::new(id, text);
        document.metadata = oracle::metadata(&mut self.seed);
        // Facts that all share, beside the random ones.
        document.metadata.insert("n".to_owned(), json!(self.revision % 5));
        document
    }

    fn filter(&mut self) -> Option<Filter> {
        let n = |value: u64| FilterValue::Integer(i64::try_from(value).expect("small"));
        match self.seed.below(6) {
            0..=1 => None,
            2 => Some(Filter::range("n", Some(n(self.seed.below(5))), None)),
            3 => Some(Filter::Eq {
                key: "n".to_owned(),
                value: n(self.seed.below(5)),
            }),
            _ => Some(oracle::filter(&mut self.seed, &IDS, 0)),
        }
    }

    fn matching(&self, tenant: usize, filter: Option<&Filter>) -> BTreeSet<&str> {
        self.held[tenant]
            .values()
            .filter(|document| {
                filter.is_none_or(|filter| oracle::passes(filter, &document.id, &document.metadata))
            })
            .map(|document| document.id.as_str())
            .collect()
    }

    /// A chunk is the tenant's own, as it stands now.
    fn check_chunk(&self, tenant: usize, chunk: &Chunk) {
        let own = self.held[tenant].get(&chunk.document_id);
        let own = own.unwrap_or_else(|| panic!("{} was shown {chunk:?}", TENANTS[tenant]));
        assert!(
            chunk.text.contains(&owner(tenant)),
            "{} was shown {chunk:?}",
            TENANTS[tenant]
        );
        assert_eq!((&chunk.text, &chunk.metadata), (&own.text, &own.metadata));
    }

    fn check_hits(&self, tenant: usize, hits: &[Hit], filter: Option<&Filter>, k: usize) {
        let want = self.matching(tenant, filter);
        let got: BTreeSet<&str> = hits.iter().map(|hit| hit.chunk.document_id.as_str()).collect();
        assert_eq!(got.len(), hits.len(), "none twice");
        assert_eq!(
            got.len(),
            want.len().min(k),
            "{} with {filter:?}",
            TENANTS[tenant]
        );
        assert!(
            got.is_subset(&want),
            "{} with {filter:?}: {got:?} in {want:?}",
            TENANTS[tenant]
        );
        for hit in hits {
            self.check_chunk(tenant, &hit.chunk);
        }
    }

    async fn step(&mut self) {
        let tenant = self.seed.below(TENANTS.len() as u64) as usize;
        let handle = self.handle(tenant);
        let name = match self.seed.below(1_000) {
            0..40 => self.add(tenant, &handle).await,
            40..60 => self.delete(tenant, &handle).await,
            60..66 => self.delete_where(tenant, &handle).await,
            66..68 => {
                handle.compact().await.expect("compacted");
                "compact"
            }
            68..69 => self.reopen().await,
            69..600 => self.search(tenant, &handle).await,
            600..760 => {
                let filter = self.filter();
                let count = handle.count(filter.as_ref()).await.expect("counts");
                assert_eq!(
                    count,
                    self.matching(tenant, filter.as_ref()).len() as u64,
                    "{filter:?}"
                );
                "count"
            }
            760..880 => self.nearest(tenant, &handle).await,
            880..940 => {
                let entries = handle.documents().await.expect("listed");
                let got: Vec<(String, String, u64)> = entries
                    .into_iter()
                    .map(|entry| (entry.id, entry.content_hash, entry.chunks))
                    .collect();
                let own = self.held[tenant].values();
                let want: Vec<_> = own.map(|own| (own.id.clone(), own.content_hash(), 1)).collect();
                assert_eq!(got, want);
                "documents"
            }
            _ => {
                let stats = handle.stats().await.expect("sizes");
                let own = self.held[tenant].len() as u64;
                assert_eq!((stats.documents, stats.chunks, stats.vectors), (own, own, own));
                "stats"
            }
        };
        *self.counts.entry(name).or_default() += 1;
    }

    async fn add(&mut self, tenant: usize, handle: &Collection) -> &'static str {
        let mut documents = Held::new();
        for _ in 0..=self.seed.below(4) {
            let document = self.document(tenant);
            documents.insert(document.id.clone(), document);
        }
        let report = handle
            .add(documents.values().cloned().collect::<Vec<_>>())
            .await
            .expect("added");
        let replaced = documents
            .keys()
            .filter(|id| self.held[tenant].contains_key(*id))
            .count() as u64;
        assert_eq!(report.progress.documents_updated, replaced);
        // The same again is the tenant's own and unchanged, whatever others have under that id.
        let again = handle
            .add(documents.values().cloned().collect::<Vec<_>>())
            .await
            .expect("added");
        assert_eq!(again.progress.documents_unchanged, documents.len() as u64);
        self.held[tenant].append(&mut documents);
        "add"
    }

    async fn delete(&mut self, tenant: usize, handle: &Collection) -> &'static str {
        let ids: BTreeSet<&str> = (0..=self.seed.below(3))
            .map(|_| IDS[self.seed.below(IDS.len() as u64) as usize])
            .collect();
        let deleted = handle.delete(ids.iter().copied()).await.expect("deleted");
        let there = ids
            .iter()
            .filter(|id| self.held[tenant].remove(**id).is_some())
            .count();
        assert_eq!(deleted, there as u64);
        "delete"
    }

    async fn delete_where(&mut self, tenant: usize, handle: &Collection) -> &'static str {
        let Some(filter) = self.filter() else {
            return "delete_where";
        };
        let deleted = handle.delete_where(&filter).await.expect("deleted");
        let gone: Vec<String> = self
            .matching(tenant, Some(&filter))
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(deleted, gone.len() as u64, "{filter:?}");
        for id in gone {
            self.held[tenant].remove(&id);
        }
        "delete_where"
    }

    async fn reopen(&mut self) -> &'static str {
        let Some(folder) = &self.folder else {
            return "reopen";
        };
        self.shared = builder(Some(folder.path())).build().await.expect("opens");
        self.strays.clear();
        "reopen"
    }

    async fn search(&mut self, tenant: usize, handle: &Collection) -> &'static str {
        let mode = MODES[self.seed.below(3) as usize];
        let filter = self.filter();
        let k = [1, 3, 10, 100][self.seed.below(4) as usize];
        // As often as not the question names another tenant: nothing of it may come back.
        let named = owner(self.seed.below(TENANTS.len() as u64) as usize);
        let mut query = Query::new(format!("common {named} word1")).mode(mode).top_k(k);
        query.filter.clone_from(&filter);
        if self.seed.below(3) == 0 {
            query = query.vector_field(SECOND);
        }
        if self.seed.below(4) == 0 {
            let told = handle.explain(&query).await.expect("hits");
            assert_eq!(told.allowed, self.matching(tenant, filter.as_ref()).len() as u64);
            self.check_hits(tenant, &told.hits, filter.as_ref(), k);
            return "explain";
        }
        let hits = handle.search(&query).await.expect("hits");
        self.check_hits(tenant, &hits, filter.as_ref(), k);
        ["search hybrid", "search dense", "search lexical"]
            [MODES.iter().position(|one| *one == mode).expect("one")]
    }

    async fn nearest(&mut self, tenant: usize, handle: &Collection) -> &'static str {
        let filter = self.filter();
        let k = [1, 5, 50][self.seed.below(3) as usize];
        let named = owner(self.seed.below(TENANTS.len() as u64) as usize);
        let mut reader = handle.vectors(filter.as_ref()).await.expect("a reader");
        let mut embedder = WordEmbedder::new(12);
        if self.seed.below(3) == 0 {
            reader = reader.vector_field(SECOND).expect("there");
            embedder = WordEmbedder::named(SECOND, 20);
        }
        let vector = embedder.vector(&format!("common {named} word2"));
        let reader = match self.seed.below(3) {
            0 => reader,
            1 => reader.recall(0.6).expect("a share"),
            _ => reader.ef(4),
        };
        let found = reader.nearest(&vector, k).expect("neighbours").neighbours;
        let want = self.matching(tenant, filter.as_ref());
        assert_eq!(
            found.len(),
            want.len().min(k),
            "{} with {filter:?}",
            TENANTS[tenant]
        );
        for neighbour in &found {
            let chunk = reader.chunk(neighbour).expect("found by it");
            assert!(want.contains(chunk.document_id.as_str()));
            self.check_chunk(tenant, &chunk);
        }
        // What another tenant's reader found is refused, or is a row of this tenant that stands there now.
        for (from, stray) in &self.strays {
            if let Ok(chunk) = reader.chunk(stray) {
                assert!(
                    want.contains(chunk.document_id.as_str()),
                    "{} by way of {}: {chunk:?}",
                    TENANTS[tenant],
                    TENANTS[*from]
                );
                self.check_chunk(tenant, &chunk);
            }
        }
        let limit = 16;
        self.strays
            .extend(found.first().map(|neighbour| (tenant, *neighbour)));
        if self.strays.len() > limit {
            self.strays.remove(0);
        }
        "nearest"
    }
}

#[test]
fn eight_tenants_with_equal_ids_see_count_and_delete_their_own_alone() {
    let (seeds, operations) = if is_long() { (10, 100_000) } else { (2, 800) };
    let next = AtomicU64::new(1);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed > seeds {
                break;
            }
            runtime.block_on(live(seed, operations));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
}

/// A world of this seed with so many operations.
async fn live(seed: u64, operations: usize) {
    let start = Instant::now();
    let mut world = World::new(seed * 77, seed.is_multiple_of(2)).await;
    for tenant in 0..TENANTS.len() {
        let handle = world.handle(tenant);
        world.add(tenant, &handle).await;
    }
    for _ in 0..operations {
        world.step().await;
    }
    for tenant in 0..TENANTS.len() {
        let hits = world
            .handle(tenant)
            .search(&Query::new("common").top_k(100))
            .await
            .expect("hits");
        world.check_hits(tenant, &hits, None, 100);
    }
    world.shared.verify().await.expect("whole");
    println!(
        "seed {seed}: {operations} operations in {:?}, {:?}",
        start.elapsed(),
        world.counts
    );
}

#[tokio::test]
async fn a_folder_synced_by_two_tenants_is_compared_with_each_ones_own_files() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("one.md"), "# One\n\nherons fish at dawn\n").expect("written");
    std::fs::write(folder.path().join("two.md"), "# Two\n\nherons sleep at noon\n").expect("written");
    let shared = builder(None).build().await.expect("empty");
    let [first, second] = ["t", "t1"].map(|name| shared.scoped(Scope::new(name).expect("a name")));
    let sync = |collection: Collection| {
        let path = folder.path().to_owned();
        async move {
            let report = collection.sync([path], SyncOptions::new()).await.expect("synced");
            let progress = report.progress;
            (
                progress.files_added,
                progress.files_updated,
                progress.files_unchanged,
                progress.documents_removed,
            )
        }
    };
    assert_eq!(sync(first.clone()).await, (2, 0, 0, 0));
    assert_eq!(
        sync(second.clone()).await,
        (2, 0, 0, 0),
        "the other's files are not its own"
    );
    assert_eq!(sync(second.clone()).await, (0, 0, 2, 0));
    std::fs::remove_file(folder.path().join("two.md")).expect("removed");
    assert_eq!(sync(first.clone()).await, (0, 0, 1, 1));
    assert_eq!(
        second.count(None).await.expect("counts"),
        2,
        "its own sync has not run"
    );
    assert_eq!(first.count(None).await.expect("counts"), 1);
}

#[tokio::test]
async fn names_expressions_mended_words_and_counts_lead_to_ones_own_documents_alone() {
    let shared = builder(None).build().await.expect("empty");
    let [one, two] = ["one", "two"].map(|name| shared.scoped(Scope::new(name).expect("a name")));
    let ledger = || Document::new("plan.md", "zebra quartz").with_title("Secret Ledger");
    let plain = Document::new("plain.md", "heron water").with_metadata("kind", "x");
    one.add([plain]).await.expect("added");
    two.add([ledger()]).await.expect("added");
    // In one segment: a segment without a row of the tenant's is not looked at.
    shared.compact().await.expect("merged");
    let asked = |text: &str| {
        let query = Query::new(text);
        [
            query.clone().exact_first(),
            query.clone().fuzzy(),
            query.clone().phrases(),
            query.clone().expression(),
            query.clone().unit(HitUnit::Document).exact_first(),
            query.unit(HitUnit::BestChunk).fuzzy(),
        ]
    };
    for mode in [SearchMode::Hybrid, SearchMode::Lexical, SearchMode::Dense] {
        for text in [
            "Secret Ledger",
            "plan.md",
            "zebrs quartz",
            "title:secret",
            "zebra OR text:quartz",
        ] {
            for query in asked(text) {
                // What is no expression is refused, for both alike.
                let Ok(hits) = one.search(&query.clone().mode(mode)).await else {
                    assert!(two.search(&query.mode(mode)).await.is_err(), "{text}");
                    continue;
                };
                for hit in &hits {
                    assert_eq!(hit.chunk.document_id, "plain.md", "{text} {query:?}");
                    assert_eq!(hit.chunk.text, "heron water");
                }
            }
        }
        let query = Query::new("title:secret").expression().mode(mode);
        assert_eq!(one.search(&query).await.expect("searched").len(), 0);
        assert_eq!(two.search(&query).await.expect("searched").len(), 1);
    }
    // A filter holds for what is called like the question too.
    let named = Query::new("plain.md").exact_first();
    let among = |kind: &str| Filter::Eq {
        key: "kind".to_owned(),
        value: FilterValue::from(kind),
    };
    let hits = one
        .search(&named.clone().filter(among("x")))
        .await
        .expect("searched");
    assert_eq!(hits[0].explanation.stage, "exact");
    let hits = one.search(&named.filter(among("y"))).await.expect("searched");
    assert_eq!(hits.len(), 0);
    let counted = one.term_counts("zebra heron").await.expect("counted");
    assert_eq!(counted.chunks, 1);
    assert_eq!(
        counted.counts.into_iter().collect::<Vec<_>>(),
        [("heron".to_owned(), 1)]
    );
}

#[tokio::test]
async fn words_are_weighed_over_all_tenants_which_moves_scores_and_never_the_set_of_hits() {
    let shared = builder(None).build().await.expect("empty");
    let [one, two] = ["one", "two"].map(|name| shared.scoped(Scope::new(name).expect("a name")));
    let own = ["herons fish", "storks fish", "storks sleep", "nothing"];
    one.add(
        own.iter()
            .enumerate()
            .map(|(at, text)| Document::new(at.to_string(), *text))
            .collect::<Vec<_>>(),
    )
    .await
    .expect("added");
    let ask = || async {
        let hits = one
            .search(&Query::new("herons").mode(SearchMode::Lexical))
            .await
            .expect("hits");
        let ids: BTreeSet<String> = hits.iter().map(|hit| hit.chunk.document_id.clone()).collect();
        (ids, hits[0].score)
    };
    let (ids, score) = ask().await;
    let more = (0..40).map(|at| Document::new(at.to_string(), "herons herons"));
    two.add(more.collect::<Vec<_>>()).await.expect("added");
    let (ids_now, score_now) = ask().await;
    assert_eq!(ids, ids_now);
    // This is what `Collection` documents as shared; a separate folder shares nothing.
    assert!(score_now < score, "{score_now} after {score}");
}

/// How each public method of a type that leads to content is bound to a scope. A new one is written down here when its
/// scope is settled and the operations above have it, where it can show, count or change content.
const METHODS: [(&str, &[(&str, &str)]); 2] = [
    (
        "Collection",
        &[
            ("open", "makes a builder"),
            ("in_memory", "makes a builder"),
            ("scoped", "changes the scope"),
            ("scope", "tells the scope"),
            ("count", "scope"),
            ("documents", "scope"),
            ("delete", "scope"),
            ("delete_where", "scope"),
            ("search", "scope"),
            ("explain", "scope; sizes of segments, for who runs the index"),
            ("vectors", "scope"),
            ("stats", "scope"),
            ("add", "scope"),
            ("add_with", "scope"),
            ("add_stream", "scope"),
            ("sync", "scope"),
            ("index_stats", "sizes of the index, for who runs it"),
            ("compact", "the index, no content"),
            ("optimize", "the index, no content"),
            (
                "verify",
                "the files of the index, no content; coverage in the scope",
            ),
            ("coverage", "scope"),
            ("cursor", "scope"),
            ("plan_sync", "scope"),
            ("measure_recall", "scope"),
            ("term_counts", "scope"),
            ("fusion", "a setting"),
            ("calibration", "a setting"),
            ("has_embedder", "a setting"),
        ],
    ),
    (
        "VectorReader",
        &[
            ("recall", "a setting"),
            ("ef", "a setting"),
            ("vector_field", "a setting"),
            ("nearest", "the scope it was made with"),
            ("chunk", "the scope it was made with"),
        ],
    ),
];

fn sources(folder: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn every_public_method_that_leads_to_content_has_its_scope_written_down() {
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut handles = BTreeSet::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("text");
        let mut of = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("impl ") {
                let name = rest.trim_end_matches(" {");
                of = METHODS.iter().map(|(of, _)| *of).find(|of| *of == name);
            } else if line.starts_with('}') {
                of = None;
            }
            let public = line
                .strip_prefix("    pub ")
                .map(|rest| rest.trim_start_matches("async "));
            if let (Some(of), Some(rest)) = (of, public.and_then(|rest| rest.strip_prefix("fn "))) {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                found.entry(of).or_default().insert(name.to_owned());
            }
            // Whoever holds a snapshot or the insides can get at content: only what stands above may.
            if line.contains("snapshot: Arc<Snapshot>") || line.contains("inner: Arc<Inner>") {
                handles.insert(path.file_name().expect("a name").to_string_lossy().into_owned());
            }
        }
    }
    for (of, methods) in METHODS {
        let known: BTreeSet<String> = methods.iter().map(|(name, _)| (*name).to_owned()).collect();
        let found = found.remove(of).unwrap_or_default();
        assert_eq!(
            found, known,
            "methods of {of}: settle whose data a new one shows, and write it down"
        );
    }
    assert_eq!(
        handles,
        BTreeSet::from(["mod.rs".to_owned(), "vectors.rs".to_owned()])
    );
}
