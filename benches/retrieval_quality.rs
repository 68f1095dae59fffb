//! nDCG@10 of words, meaning and both, default settings, on two judged collections with the embedder in process.
//!
//! Data: SciFact (5,183 abstracts, 300 questions) and Cranfield (1,400, 225) of the fixtures; an entry's title is part of
//! the text, and given as the document's title too. Peers' figures beside ours are those of tantivy's stemming analyser,
//! of MiniLM's exact cosine and of their convex fusion, all over title and text in one field, as measured for the design;
//! they are constants here, for nothing random is in them. Vectors are kept between runs in `target/bench-vectors`.

#[path = "collections/cached.rs"]
mod cached;
mod collections;

use cached::Cached;
use collections::fixtures;
use std::sync::Arc;
use stepwell::{
    Query, SearchMode,
    providers::MiniLm,
    rag::{
        Collection,
        eval::{JudgedSet, compare, evaluate, fit_fusion, fit_relevance},
    },
};

/// Collection, leg, bar, peer's name and figure.
const CLAIMS: [(&str, SearchMode, &str, f64, &str, f64); 6] = [
    (
        "scifact",
        SearchMode::Lexical,
        "lexical",
        0.68,
        "tantivy_stem",
        0.6838,
    ),
    (
        "scifact",
        SearchMode::Dense,
        "dense",
        0.63,
        "onnxruntime_int8",
        0.6350,
    ),
    ("scifact", SearchMode::Hybrid, "hybrid", 0.73, "convex_z", 0.7322),
    (
        "cranfield",
        SearchMode::Lexical,
        "lexical",
        0.355,
        "tantivy_stem",
        0.3580,
    ),
    // No bar of its own: MiniLM's network in int8, against .3744 of its floats, cut into chunks.
    (
        "cranfield",
        SearchMode::Dense,
        "dense",
        0.36,
        "sentence_transformers_fp32",
        0.3744,
    ),
    (
        "cranfield",
        SearchMode::Hybrid,
        "hybrid",
        0.41,
        "convex_z",
        0.4087,
    ),
];

#[tokio::main]
async fn main() -> stepwell::Result<()> {
    let embedder = Arc::new(Cached::new(Arc::new(MiniLm::new()?))?);
    let sets = ["scifact", "cranfield"].map(|name| (name, fixtures().join("ir").join(name)));
    let mut foreign: Vec<Vec<String>> = Vec::new();
    for (_, folder) in &sets {
        let set = JudgedSet::read(folder);
        foreign.push(
            set.map(|set| set.questions.into_iter().map(|one| one.text).collect())
                .unwrap_or_default(),
        );
    }
    for (at, (name, folder)) in sets.iter().enumerate() {
        if !folder.exists() {
            println!("skipped: 3 ({name} is not among the fixtures)");
            continue;
        }
        let judged = JudgedSet::read(folder)?;
        let collection = Collection::in_memory().embedder(embedder.clone()).build().await?;
        collection.add(judged.documents()?).await?;
        let mut legs: Vec<(&str, Vec<f64>)> = Vec::new();
        for (_, mode, leg, bar, peer, figure) in CLAIMS.into_iter().filter(|claim| claim.0 == *name) {
            let found = evaluate(&collection, &judged, |words| Query::new(words).mode(mode)).await?;
            let (ndcg, recall) = (found.mean.ndcg, found.mean.recall_at_100);
            println!(
                "claim {name}_{leg}_ndcg10 value={ndcg:.4} unit=ndcg@10 must=>={bar} peer={peer}:{figure:.4} ratio={:.3} recall@100={recall:.3}",
                ndcg / figure
            );
            legs.push((leg, found.each.iter().map(|one| one.ndcg).collect()));
        }
        let (hybrid, single) = (&legs[2], &legs[..2]);
        for (leg, other) in single {
            let found = compare(&hybrid.1, other)?;
            println!(
                "# {name} hybrid less {leg}: {:+.4}, p = {:.4}",
                found.difference, found.p_value
            );
        }
        println!("# {name} {:?}", fit_fusion(&collection, &judged).await?);
        println!(
            "# {name} {:?}",
            fit_relevance(&collection, &judged, &foreign[1 - at]).await?
        );
    }
    Ok(())
}
