//! What does not go well: wrong folders, other embedders, damaged files.

mod support;

use std::path::{Path, PathBuf};

use stepwell_core::{Filter, FilterValue, Query, SearchMode};
use stepwell_rag::{AddOptions, Collection, CollectionBuilder, GraphOptions, Language, VectorField};
use support::{Seeded, WordEmbedder, document, documents, open};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// Opens, asks everything there is to ask, and goes on: the answers, or the code of the first error.
async fn answers(folder: &Path) -> Result<Vec<String>, String> {
    let work = async {
        let collection = builder(folder).build().await?;
        let mut answers = Vec::new();
        let filters = [
            None,
            Some(Filter::eq("parity", "even")),
            Some(Filter::range("number", Some(FilterValue::Integer(20)), None)),
        ];
        for filter in &filters {
            for mode in [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical] {
                let mut query = Query::new(document(5).text).mode(mode).top_k(20);
                query.filter.clone_from(filter);
                for hit in collection.search(&query).await? {
                    answers.push(format!("{} {:.4} {}", hit.chunk.id, hit.score, hit.chunk.text));
                }
            }
            let mut query = Query::new(document(5).text)
                .mode(SearchMode::Dense)
                .vector_field("small");
            query.filter.clone_from(filter);
            for hit in collection.search(&query).await? {
                answers.push(format!("small {} {:.4}", hit.chunk.id, hit.score));
            }
            answers.push(collection.count(filter.as_ref()).await?.to_string());
            // Through the graph, where there is one that is whole.
            let reader = collection.vectors(filter.as_ref()).await?.ef(400);
            let vector = WordEmbedder::new(24).vector(&document(7).text);
            for neighbour in reader.nearest(&vector, 10)?.neighbours {
                answers.push(format!("{} {:.4}", reader.chunk(&neighbour)?.id, neighbour.score));
            }
            let reader = reader.vector_field("small")?;
            let vector = WordEmbedder::named("small", 12).vector(&document(7).text);
            for neighbour in reader.nearest(&vector, 10)?.neighbours {
                answers.push(format!("{} {:.4}", reader.chunk(&neighbour)?.id, neighbour.score));
            }
        }
        for entry in collection.documents().await? {
            answers.push(format!("{entry:?}"));
        }
        answers.push(format!("{:?}", collection.stats().await?));
        collection.index_stats().await?;
        Ok::<_, stepwell_core::Error>(answers)
    };
    work.await.map_err(code)
}

/// Writes to what was opened: everything is there afterwards, or a typed error says why not.
async fn write(folder: &Path, number: u64) -> Result<(), String> {
    let work = async {
        let collection = builder(folder).build().await?;
        // That it is damaged is told by an error or, of a graph alone, costs nothing.
        let _ = collection.verify().await;
        collection.add([document(number)]).await?;
        collection.delete(["doc-8"]).await?;
        collection.optimize().await?;
        collection.verify().await?;
        let want = Query::new(document(number).text).top_k(1);
        for mode in [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical] {
            let hits = collection.search(&want.clone().mode(mode)).await?;
            assert_eq!(hits[0].chunk.document_id, format!("doc-{number}"));
        }
        let by_small = want.mode(SearchMode::Dense).vector_field("small");
        let hits = collection.search(&by_small).await?;
        assert_eq!(hits[0].chunk.document_id, format!("doc-{number}"), "small");
        Ok::<_, stepwell_core::Error>(())
    };
    work.await.map_err(code)
}

fn code(error: stepwell_core::Error) -> String {
    assert!(!error.to_string().contains('\n'), "one sentence: {error}");
    let code = error.code();
    let is_known = ["damaged", "foreign", "unknown_version", "embedder_mismatch", "io"].contains(&code);
    assert!(is_known, "{code}: {error}");
    code.to_owned()
}

fn builder(folder: &Path) -> CollectionBuilder {
    Collection::open(folder)
        .embedder(WordEmbedder::new(24))
        .vector_field(VectorField::new("small", WordEmbedder::named("small", 12)))
        .graph(GraphOptions::new().merge_rows(30))
}

/// Segments with and without a graph, and deletes.
async fn sample(folder: &Path) -> Vec<String> {
    let collection = builder(folder).build().await.expect("made");
    collection.add(documents(0..40)).await.expect("added");
    collection.compact().await.expect("compacted");
    collection
        .add_with(documents(40..70), AddOptions::new().chunks_per_commit(16))
        .await
        .expect("added");
    collection
        .delete(["doc-3", "doc-30", "doc-60"])
        .await
        .expect("deleted");
    let sizes = collection.index_stats().await.expect("sizes");
    assert!(
        sizes.segments > 1 && sizes.graph_vectors > 0 && sizes.deleted_chunks > 0,
        "{sizes:?}"
    );
    drop(collection);
    answers(folder).await.expect("a whole index")
}

#[derive(Default)]
struct Tally {
    errors: usize,
    same: usize,
    writes_refused: usize,
    writes_done: usize,
}

/// Puts a file in the place of another in a copy, reads it and writes to it.
async fn try_broken(
    folder: &Path,
    name: &std::ffi::OsStr,
    content: Option<&[u8]>,
    want: &[String],
    what: &str,
    tally: &mut Tally,
) {
    let broken = tempfile::tempdir().expect("folder");
    copy(folder, broken.path());
    let target = broken.path().join(name);
    match content {
        Some(bytes) => std::fs::write(&target, bytes).expect("written"),
        None => std::fs::remove_file(&target).expect("removed"),
    }
    let name = name.to_string_lossy();
    match answers(broken.path()).await {
        Ok(got) => {
            assert_eq!(got, want, "{name} {what}");
            tally.same += 1;
        }
        Err(_) => tally.errors += 1,
    }
    match write(broken.path(), 900).await {
        Ok(()) => tally.writes_done += 1,
        Err(_) => tally.writes_refused += 1,
    }
}

fn is_long() -> bool {
    std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1")
}

#[tokio::test]
async fn a_flipped_bit_in_any_file_is_an_error_or_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let want = sample(folder.path()).await;
    let mut tally = Tally::default();
    let mut seed = Seeded::new(40);
    let all = files(folder.path());
    let each = if is_long() {
        1 + 1_500 / all.len() as u64
    } else {
        5
    };
    for path in &all {
        let whole = std::fs::read(path).expect("readable");
        let length = whole.len() as u64;
        // Beginning, end, and anywhere between; each a different bit.
        let mut places: Vec<u64> = vec![0, 1, 9, length.saturating_sub(1), length.saturating_sub(20)];
        // The list of all others, where a name that is not known any more is passed over.
        let is_list = path.file_name().is_some_and(|name| name == "meta.json");
        let each = if is_list { each * 8 } else { each };
        places.extend((0..each).filter(|_| length > 0).map(|_| seed.below(length)));
        for (turn, place) in places.into_iter().filter(|place| *place < length).enumerate() {
            let mut bytes = whole.clone();
            bytes[usize::try_from(place).expect("small")] ^= 1 << (turn % 8);
            let name = path.file_name().expect("a name");
            try_broken(
                folder.path(),
                name,
                Some(&bytes),
                &want,
                &format!("at byte {place}"),
                &mut tally,
            )
            .await;
        }
    }
    let Tally {
        errors,
        same,
        writes_refused,
        writes_done,
    } = tally;
    println!("{errors} errors, {same} the same; {writes_refused} writes refused, {writes_done} done");
    assert!(errors > 100 && same > 0 && writes_done > 0);
}

#[tokio::test]
async fn a_file_cut_short_longer_emptied_or_missing_is_an_error_or_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let want = sample(folder.path()).await;
    let mut tally = Tally::default();
    let mut seed = Seeded::new(41);
    let all = files(folder.path());
    let each = if is_long() { 500 / all.len() } else { 2 };
    for path in &all {
        let name = path.file_name().expect("a name");
        let bytes = std::fs::read(path).expect("readable");
        let mut kept = vec![0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)];
        kept.extend((0..each).map(|_| usize::try_from(seed.below(bytes.len() as u64 + 1)).expect("small")));
        for length in kept.into_iter().filter(|length| *length <= bytes.len()) {
            let cut = Some(&bytes[..length]);
            try_broken(
                folder.path(),
                name,
                cut,
                &want,
                &format!("cut to {length}"),
                &mut tally,
            )
            .await;
        }
        let longer = [&bytes[..], &[0; 40]].concat();
        try_broken(folder.path(), name, Some(&longer), &want, "longer", &mut tally).await;
        let zeros = vec![0; bytes.len()];
        try_broken(folder.path(), name, Some(&zeros), &want, "zeros", &mut tally).await;
        try_broken(folder.path(), name, None, &want, "missing", &mut tally).await;
    }
    println!(
        "{} errors, {} the same; {} writes refused, {} done",
        tally.errors, tally.same, tally.writes_refused, tally.writes_done
    );
    assert!(tally.errors > 50);
}

#[tokio::test]
async fn verify_names_a_damaged_vector_file() {
    let folder = tempfile::tempdir().expect("folder");
    sample(folder.path()).await;
    let collection = open(folder.path(), &WordEmbedder::new(24)).await;
    collection.verify().await.expect("whole");
    let path = files(folder.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "swv"))
        .expect("a vector file");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[600] ^= 4;
    std::fs::write(&path, bytes).expect("written");
    let error = collection.verify().await.expect_err("damaged");
    assert_eq!(error.code(), "damaged");
    assert!(error.to_string().contains(".swv"), "{error}");
}

#[tokio::test]
async fn folders_that_are_not_ours_are_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let build = |path: PathBuf| async move { Collection::open(path).build().await.map(drop) };
    let full = folder.path().join("full");
    std::fs::create_dir(&full).expect("made");
    std::fs::write(full.join("thesis.txt"), "words").expect("written");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::write(other.join("meta.json"), r#"{"name":"a web page"}"#).expect("written");
    let file = folder.path().join("file");
    std::fs::write(&file, "words").expect("written");
    for path in [full.clone(), other, file.clone(), file.join("below")] {
        let error = build(path.clone()).await.expect_err("foreign");
        assert_eq!(error.code(), "foreign", "{}: {error}", path.display());
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(files(&full).len(), 1, "nothing was written there");
    assert_eq!(
        build(PathBuf::new()).await.expect_err("no path").code(),
        "invalid_input"
    );
    build(folder.path().join("new/deep"))
        .await
        .expect("a new folder is made");
}

#[tokio::test]
async fn an_index_of_another_embedder_is_refused_and_without_one_it_can_be_read() {
    let folder = tempfile::tempdir().expect("folder");
    sample(folder.path()).await;
    for other in [WordEmbedder::new(32), WordEmbedder::named("other", 24)] {
        let error = Collection::open(folder.path())
            .embedder(other)
            .build()
            .await
            .expect_err("another");
        assert_eq!(error.code(), "embedder_mismatch");
        assert!(error.to_string().contains("test/words@1:24"), "{error}");
    }
    let error = Collection::open(folder.path())
        .language(Language::French)
        .build()
        .await
        .expect_err("another");
    assert_eq!(error.code(), "invalid_input");
    let reader = Collection::open(folder.path()).build().await.expect("readable");
    let hits = reader
        .search(&Query::new(document(5).text))
        .await
        .expect("by words");
    assert_eq!(
        (
            hits[0].chunk.document_id.as_str(),
            hits[0].explanation.stage.as_str()
        ),
        ("doc-5", "lexical")
    );
    let vector = WordEmbedder::new(24).vector(&document(5).text);
    let hits = reader
        .search(&Query::new("").vector(vector))
        .await
        .expect("by a given vector");
    assert_eq!(hits[0].chunk.document_id, "doc-5");
    let error = reader.add([document(99)]).await.expect_err("no embedder");
    assert_eq!(error.code(), "unsupported");
    assert_eq!(reader.delete(["doc-5"]).await.expect("deleting needs none"), 1);
}
