//! Nearest vectors through the graph, beside hnswlib in the same run: queries per CPU second at equal recall, CPU of the
//! build, memory, and filters. One thread each, the turns alternate, CPU time counts.
//!
//! 25,000 × 384: sentences of SciFact and Cranfield through MiniLM, 1,000 more as questions. 200,000 × 384: eight
//! vectors around each of those, at a cosine of about .8. 100,000 and 1,000,000 × 128: the same in 128 random directions,
//! four and forty around each. All engines have 16 links and ef_construction 200; of each, the smallest list of
//! candidates counts whose recall@10 is high enough. Ours searches int8 codes and rescores in 16 bits, the peers search f32.
//! faiss and usearch are beside us at 25,000.
//!
//! `STEPWELL_BENCH_PARTS` names the parts to run of `25k`, `200k` and `growth`; without it all run.

#[path = "../collections/mod.rs"]
mod collections;
mod data;
mod peer;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cpu_time::{ProcessTime, ThreadTime};
use stepwell::{
    Document, EmbedKind, Embedder, EmbedderInfo, Embeddings, Filter, FilterValue, HeuristicTokens, Result,
    TokenCounter, Usage,
    rag::{AddOptions, Collection, GraphOptions, Storage, VectorReader, WholeDocuments},
};

use self::collections::Noise;
use self::data::Vectors;
use self::peer::Peer;

const K: usize = 10;
/// What the recall of a search may stay below the one it aims at.
const AIM_MISSED: f32 = 0.01;
/// Turns of each engine; the median of their ratios counts.
const TURNS: usize = 7;
/// Close together: the recall that a size happens to overshoot by would count as its growth.
const EFS: [usize; 47] = [
    10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80,
    88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 448, 512, 768,
];

/// Hands out the vector of the row that a text names.
#[derive(Debug)]
struct Given {
    info: EmbedderInfo,
    values: Arc<Vec<f32>>,
}

#[async_trait]
impl Embedder for Given {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: EmbedKind) -> Result<Embeddings> {
        let dim = self.info.dimension;
        let rows = texts.iter().map(|text| {
            let row: usize = text.parse().expect("a row");
            &self.values[row * dim..][..dim]
        });
        Embeddings::new(dim, rows.flatten().copied().collect(), Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(HeuristicTokens)
    }
}

/// A collection of these vectors in one segment, and the CPU seconds that merging and the graph took.
async fn index(folder: &Path, vectors: &Vectors, storage: Storage) -> Result<(Collection, f64)> {
    let embedder = Arc::new(Given {
        info: EmbedderInfo::new("bench", "given", "1", vectors.dim, 256, true),
        values: Arc::new(vectors.base.clone()),
    });
    let open = |graph| {
        Collection::open(folder)
            .embedder(embedder.clone())
            .chunker(Arc::new(WholeDocuments))
            .storage(storage)
            .graph(graph)
            .build()
    };
    let without = GraphOptions::new().merge_rows(u32::MAX).flush_rows(u32::MAX);
    let collection = open(without).await?;
    let mut noise = Noise::new(41);
    let documents = (0..vectors.rows()).map(|row| {
        let share = i64::try_from(noise.next() % 100).expect("below a hundred");
        Document::new(row.to_string(), row.to_string()).with_metadata("share", share)
    });
    let documents: Vec<Document> = documents.collect();
    collection
        .add_with(documents, AddOptions::new().chunks_per_commit(10_000))
        .await?;
    drop(collection);
    let collection = open(GraphOptions::default()).await?;
    let before = ProcessTime::now();
    collection.optimize().await?;
    let took = before.elapsed().as_secs_f64();
    let stats = collection.index_stats().await?;
    assert_eq!(
        (stats.segments, stats.graph_vectors),
        (1, vectors.rows() as u64),
        "one segment with a graph"
    );
    Ok((collection, took))
}

/// Asks everything: CPU seconds, the slowest but one in a hundred, and what was found.
fn ask(reader: &VectorReader, vectors: &Vectors) -> (f64, Duration, Vec<Vec<stepwell::rag::Neighbour>>) {
    let mut latencies = Vec::with_capacity(vectors.asked());
    let mut found = Vec::with_capacity(vectors.asked());
    let before = ThreadTime::now();
    for at in 0..vectors.asked() {
        let start = Instant::now();
        let nearest = reader.nearest(vectors.question(at), K).expect("a question");
        latencies.push(start.elapsed());
        found.push(nearest.neighbours);
    }
    let took = before.elapsed().as_secs_f64();
    latencies.sort();
    (took, latencies[latencies.len() * 99 / 100], found)
}

fn recall(reader: &VectorReader, found: &[Vec<stepwell::rag::Neighbour>], truth: &[Vec<u32>]) -> f64 {
    let (mut shared, mut wanted) = (0, 0);
    for (found, truth) in found.iter().zip(truth) {
        wanted += truth.len();
        shared += found
            .iter()
            .filter(|neighbour| {
                let chunk = reader.chunk(neighbour).expect("a chunk");
                truth.contains(&chunk.document_id.parse().expect("a row"))
            })
            .count();
    }
    shared as f64 / wanted as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The recall that comes of aiming at one.
async fn aims(name: &str, collection: &Collection, vectors: &Vectors, truth: &[Vec<u32>]) -> Result<()> {
    let reader = collection.vectors(None).await?;
    for aim in [0.9, 0.95, 0.99, 0.999] {
        let reader = reader.clone().recall(aim)?;
        let (took, ..) = ask(&reader, vectors);
        let (_, _, found) = ask(&reader, vectors);
        let told = reader.nearest(vectors.question(0), K)?.segments[0];
        println!(
            "claim {name}_aim{:.0} value={:.4} unit=recall@10 must=>={:.3} ours={:.0}q/cpu-s {} ef={}",
            aim * 1e3,
            recall(&reader, &found, truth),
            aim - AIM_MISSED,
            vectors.asked() as f64 / took,
            told.strategy.as_str(),
            told.ef
        );
    }
    Ok(())
}

/// Queries per second of both at equal recall, .95 and .99. Our readers come back; `None` where it was not reached.
async fn race(
    name: &str,
    collection: &Collection,
    vectors: &Vectors,
    truth: &[Vec<u32>],
    peer: &mut Option<Peer>,
    must: f64,
) -> Result<[Option<VectorReader>; 2]> {
    let mut readers = [None, None];
    let reader = collection.vectors(None).await?;
    for (kept, least) in readers.iter_mut().zip([0.95, 0.99]) {
        let mut ours = None;
        for ef in EFS {
            let reader = reader.clone().ef(ef);
            let (_, _, found) = ask(&reader, vectors);
            let reached = recall(&reader, &found, truth);
            if reached >= least {
                ours = Some((reader, ef, reached));
                break;
            }
        }
        let theirs = peer.as_mut().and_then(|peer| {
            EFS.into_iter()
                .map(|ef| (ef, peer.search(ef).1))
                .find(|(_, reached)| *reached >= least)
        });
        let Some((reader, ef, reached)) = ours else {
            println!("claim {name}_recall{least} value=0 unit=queries/cpu-s must=>=1 (recall not reached)");
            continue;
        };
        let (mut mine, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let rate = vectors.asked() as f64 / ask(&reader, vectors).0;
            mine.push(rate);
            if let (Some(peer), Some((ef, _))) = (peer.as_mut(), theirs) {
                let rate_of_peer = vectors.asked() as f64 / peer.search(ef).0;
                other.push(rate_of_peer);
                ratios.push(rate / rate_of_peer);
            }
        }
        let label = format!("{name}_recall{:.0}", least * 100.0);
        *kept = Some(reader);
        if let (Some((their_ef, their_recall)), Some(peer)) = (theirs, peer.as_ref()) {
            let engine = peer.engine;
            println!(
                "claim {label} value={:.2} unit=times-{engine} must=>={must} peer={engine}:{:.0} ratio={:.2} ours={:.0}q/cpu-s recall={reached:.4} ef={ef} peer_recall={their_recall:.4} peer_ef={their_ef}",
                median(ratios.clone()),
                median(other),
                median(ratios),
                median(mine),
            );
        } else {
            println!(
                "claim {label} value={:.0} unit=queries/cpu-s recall={reached:.4} ef={ef}",
                median(mine)
            );
        }
    }
    Ok(readers)
}

async fn memory(
    name: &str,
    collection: &Collection,
    vectors: &Vectors,
    must: f64,
    peer: Option<f64>,
) -> Result<()> {
    let stats = collection.index_stats().await?;
    let raw = (vectors.base.len() * 4) as f64;
    let beside = peer
        .map(|bytes| {
            let per_vector = stats.vector_bytes as f64 / vectors.rows() as f64;
            format!(" peer=hnswlib:{bytes:.0} ratio={:.3}", per_vector / bytes)
        })
        .unwrap_or_default();
    println!(
        "claim {name} value={:.3} unit=of-raw-f32 must=<={must}{beside} bytes_per_vector={:.0} graph={:.0}",
        stats.vector_bytes as f64 / raw,
        stats.vector_bytes as f64 / vectors.rows() as f64,
        stats.graph_bytes as f64 / vectors.rows() as f64,
    );
    Ok(())
}

/// `exact` is what an exact scan must reach: all, but where 16-bit floats order scores that differ by less.
async fn filters(name: &str, collection: &Collection, vectors: &Vectors, exact: f64) -> Result<()> {
    let shares: Vec<i64> = {
        let mut noise = Noise::new(41);
        (0..vectors.rows())
            .map(|_| i64::try_from(noise.next() % 100).expect("below a hundred"))
            .collect()
    };
    for (percent, must) in [(1_i64, exact), (10, 0.95), (50, 0.95)] {
        let filter = Filter::Range {
            key: "share".to_owned(),
            min: None,
            max: Some(FilterValue::from(percent - 1)),
        };
        let truth = vectors.truth(K, |row| shares[row] < percent);
        let reader = collection.vectors(Some(&filter)).await?;
        ask(&reader, vectors);
        let (took, slow, found) = ask(&reader, vectors);
        let told = reader.nearest(vectors.question(0), K)?.segments[0];
        let reached = recall(&reader, &found, &truth);
        println!(
            "claim vector_filter_{percent}percent_{name}_recall value={reached:.4} unit=recall@10 must=>={must}"
        );
        println!(
            "claim vector_filter_{percent}percent_{name}_cpu value={:.3} unit=cpu-ms must=<=1 p99={:.3}ms {}",
            took / vectors.asked() as f64 * 1e3,
            slow.as_secs_f64() * 1e3,
            told.strategy.as_str()
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        Into::into,
    );
    let Some(real) = Vectors::real(25_000, 1_000, &target.join("bench-vectors")).await? else {
        println!("skipped: 20 (the judged collections are not among the fixtures)");
        return Ok(());
    };
    let parts = std::env::var("STEPWELL_BENCH_PARTS").unwrap_or_else(|_| "25k 200k growth".to_owned());
    for part in parts.split_whitespace() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        match part {
            "25k" => sentences(&real, folder.path()).await?,
            "200k" => more(&real, folder.path()).await?,
            "growth" => growth(&real, folder.path()).await?,
            _ => panic!("there is no part {part}; known: 25k, 200k, growth"),
        }
    }
    Ok(())
}

/// The engine over what was written to this folder; `None` where no Python was given.
fn peer_over(engine: &'static str, folder: &Path) -> Option<Peer> {
    let python = std::env::var_os("STEPWELL_BENCH_PYTHON")?;
    Some(Peer::start(engine, &python, folder))
}

/// 25,000 sentences: beside all peers, in each storage, under filters.
async fn sentences(real: &Vectors, folder: &Path) -> Result<()> {
    let truth = real.truth(K, |_| true);
    real.write(folder, &truth).expect("written");
    let mut peer = peer_over("hnswlib", folder);
    let built = peer.as_mut().map(Peer::build);
    let (collection, took) = index(&folder.join("int16"), real, Storage::Int16).await?;
    build_claim("vector_build_25k", took, built);
    aims("vector_search_25k", &collection, real, &truth).await?;
    race("vector_search_25k", &collection, real, &truth, &mut peer, 1.2).await?;
    let peer_bytes = built.map(|(_, bytes)| bytes);
    memory("vector_memory_int16", &collection, real, 1.15, peer_bytes).await?;
    for engine in ["faiss", "usearch"] {
        let mut other = peer_over(engine, folder);
        if let Some((seconds, bytes)) = other.as_mut().map(Peer::build) {
            eprintln!("# {engine}: built in {seconds:.1} cpu-s, {bytes:.0} bytes per vector");
            let name = format!("vector_search_25k_vs_{engine}");
            race(&name, &collection, real, &truth, &mut other, 1.0).await?;
        }
    }
    filters("int16", &collection, real, 0.999).await?;
    let (f32s, _) = index(&folder.join("f32"), real, Storage::F32).await?;
    filters("f32", &f32s, real, 1.0).await?;
    let (codes, _) = index(&folder.join("codes"), real, Storage::Codes).await?;
    memory("vector_memory_codes", &codes, real, 0.4, peer_bytes).await?;
    aims("vector_search_25k_codes", &codes, real, &truth).await?;
    race("vector_search_25k_codes", &codes, real, &truth, &mut peer, 1.2).await?;
    Ok(())
}

/// 200,000 vectors beside hnswlib.
async fn more(real: &Vectors, folder: &Path) -> Result<()> {
    let mut vectors = real.clustered(8);
    // Half the questions: the truth of each takes 200,000 comparisons.
    vectors.questions.truncate(500 * vectors.dim);
    let truth = vectors.truth(K, |_| true);
    vectors.write(folder, &truth).expect("written");
    let mut peer = peer_over("hnswlib", folder);
    let built = peer.as_mut().map(Peer::build);
    let (collection, took) = index(&folder.join("ours"), &vectors, Storage::Int16).await?;
    build_claim("vector_build_200k", took, built);
    aims("vector_search_200k", &collection, &vectors, &truth).await?;
    race(
        "vector_search_200k",
        &collection,
        &vectors,
        &truth,
        &mut peer,
        1.0,
    )
    .await?;
    Ok(())
}

/// 100,000 and 1,000,000 vectors beside hnswlib; then both sizes in turn, so that the machine is the same for both.
async fn growth(real: &Vectors, folder: &Path) -> Result<()> {
    let mut turned = real.turned(128);
    turned.questions.truncate(500 * turned.dim);
    let mut grown = Vec::new();
    for (name, times) in [("100k", 4), ("1m", 40)] {
        let vectors = turned.clustered(times);
        let truth = vectors.truth(K, |_| true);
        vectors.write(folder, &truth).expect("written");
        let mut peer = peer_over("hnswlib", folder);
        let built = peer.as_mut().map(Peer::build);
        let (collection, took) = index(&folder.join(name), &vectors, Storage::Int16).await?;
        build_claim(&format!("vector_build_{name}"), took, built);
        let label = format!("vector_search_{name}");
        aims(&label, &collection, &vectors, &truth).await?;
        let readers = race(&label, &collection, &vectors, &truth, &mut peer, 1.0).await?;
        let stats = collection.index_stats().await?;
        let bytes = stats.vector_bytes as f64 / vectors.rows() as f64;
        // A reader keeps its index open.
        grown.push((readers, bytes));
    }
    let [(small, small_bytes), (large, large_bytes)] = &grown[..] else {
        unreachable!("two sizes");
    };
    for (recall, (small, large)) in [95, 99].into_iter().zip(small.iter().zip(large)) {
        let (Some(small), Some(large)) = (small, large) else {
            println!(
                "claim vector_growth_recall{recall} value=0 unit=time-at-1m/at-100k must=<=3 (recall not reached)"
            );
            continue;
        };
        let turns = (0..TURNS).map(|_| ask(large, &turned).0 / ask(small, &turned).0);
        let times = median(turns.collect());
        println!("claim vector_growth_recall{recall} value={times:.2} unit=time-at-1m/at-100k must=<=3");
    }
    println!(
        "claim vector_growth_memory value={:.3} unit=bytes-per-vector-at-1m/at-100k must=<=1.1",
        large_bytes / small_bytes
    );
    Ok(())
}

fn build_claim(name: &str, took: f64, peer: Option<(f64, f64)>) {
    match peer {
        Some((theirs, _)) => println!(
            "claim {name} value={:.2} unit=times-hnswlib must=<=1.5 peer=hnswlib:{theirs:.1} ratio={:.2} ours={took:.1}cpu-s",
            took / theirs,
            took / theirs
        ),
        None => println!("claim {name} value={took:.1} unit=cpu-s"),
    }
}
