//! nDCG@10 of words, meaning and both, default settings, on two judged collections with the embedder in process.
//!
//! Data: SciFact (5,183 abstracts, 300 questions) and Cranfield (1,400, 225) of the fixtures. Peers' figures beside
//! ours are those of tantivy's stemming analyser, of MiniLM's exact cosine and of their convex fusion, as measured
//! for the design; they are constants here, for nothing random is in them.

mod collections;

use collections::Judged;
use std::{collections::HashSet, sync::Arc};
use stepwell::{Query, SearchMode, providers::MiniLm, rag::Collection};

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
    ("scifact", SearchMode::Hybrid, "hybrid", 0.725, "convex_z", 0.7322),
    (
        "cranfield",
        SearchMode::Lexical,
        "lexical",
        0.355,
        "tantivy_stem",
        0.3580,
    ),
    (
        "cranfield",
        SearchMode::Dense,
        "dense",
        0.37,
        "sentence_transformers_fp32",
        0.3744,
    ),
    (
        "cranfield",
        SearchMode::Hybrid,
        "hybrid",
        0.405,
        "convex_z",
        0.4087,
    ),
];

#[tokio::main]
async fn main() -> stepwell::Result<()> {
    let embedder = Arc::new(MiniLm::new()?);
    for name in ["scifact", "cranfield"] {
        let Some(judged) = Judged::read(name) else {
            println!("skipped: 3 ({name} is not among the fixtures)");
            continue;
        };
        let collection = Collection::in_memory().embedder(embedder.clone()).build().await?;
        collection.add(judged.documents.clone()).await?;
        for (_, mode, leg, bar, peer, figure) in CLAIMS.into_iter().filter(|claim| claim.0 == name) {
            let (mut ndcg, mut recall) = (0.0, 0.0);
            for (id, words) in &judged.questions {
                // A document counts once, at its best chunk.
                let hits = collection
                    .search(&Query::new(words.as_str()).mode(mode).top_k(300))
                    .await?;
                let mut seen = HashSet::new();
                let ranking: Vec<String> = hits
                    .into_iter()
                    .map(|hit| hit.chunk.document_id)
                    .filter(|document| seen.insert(document.clone()))
                    .collect();
                let (gain, found) = judged.judge(id, &ranking);
                ndcg += gain;
                recall += found;
            }
            let questions = judged.questions.len() as f64;
            let (ndcg, recall) = (ndcg / questions, recall / questions);
            println!(
                "claim {name}_{leg}_ndcg10 value={ndcg:.4} unit=ndcg@10 must=>={bar} peer={peer}:{figure:.4} ratio={:.3} recall@100={recall:.3}",
                ndcg / figure
            );
        }
    }
    Ok(())
}
