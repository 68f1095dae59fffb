//! Tokens embedded per second of CPU time, one thread, beside onnxruntime on the same int8 model and texts.
//!
//! Texts: the first 64 SciFact abstracts of more than 400 letters, whole (some 240 tokens) and cut to 130 letters (some 30).
//! The peer runs in turn with us, three times; the best of each counts. Both times include tokenising.

mod collections;

use collections::Judged;
use cpu_time::ProcessTime;
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};
use stepwell::{EmbedKind, Embedder, Result, providers::MiniLm};

const TEXTS: usize = 64;
const ROUNDS: usize = 3;

/// Tokens per CPU second of the peer, where a Python that has it was given.
fn peer(texts: &Path) -> Option<f64> {
    let python = std::env::var_os("STEPWELL_BENCH_PYTHON").filter(|python| !python.is_empty())?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let model = root.join("providers/data/minilm");
    let output = Command::new(python)
        .arg(root.join("benches/peers/embed_onnxruntime.py"))
        .args([model.join("model.onnx"), model.join("tokenizer.json")])
        .arg(texts)
        .output()
        .ok()?;
    let output = String::from_utf8_lossy(&output.stdout);
    let figure = output
        .split_whitespace()
        .find_map(|word| word.strip_prefix("tokens_per_cpu_s="))?;
    figure.parse().ok()
}

/// Tokens per CPU second of ours.
async fn ours(minilm: &MiniLm, texts: &[&str]) -> Result<f64> {
    minilm.embed(texts, EmbedKind::Document).await?;
    let before = ProcessTime::now();
    let found = minilm.embed(texts, EmbedKind::Document).await?;
    let tokens = found.usage.input_tokens.unwrap_or_default();
    Ok(tokens as f64 / before.elapsed().as_secs_f64())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Some(judged) = Judged::read("scifact") else {
        println!("skipped: 3 (scifact is not among the fixtures)");
        return Ok(());
    };
    let begun = Instant::now();
    let minilm = MiniLm::with_threads(NonZeroUsize::MIN)?;
    let load = begun.elapsed().as_secs_f64() * 1e3;
    println!("claim embed_load value={load:.1} unit=ms must=<=150");

    let long: Vec<&str> = judged
        .documents
        .iter()
        .map(|document| &*document.text)
        .filter(|text| text.len() > 400)
        .take(TEXTS)
        .collect();
    let short: Vec<&str> = long
        .iter()
        .map(|text| &text[..text.floor_char_boundary(130)])
        .collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, texts) in [
        ("embed_tokens_per_cpu_s", long),
        ("embed_short_tokens_per_cpu_s", short),
    ] {
        let file = folder.path().join("texts.json");
        std::fs::write(&file, serde_json::to_vec(&texts).expect("strings serialise")).expect("written");
        let (mut best, mut beside) = (0.0_f64, None::<f64>);
        for _ in 0..ROUNDS {
            best = best.max(ours(&minilm, &texts).await?);
            beside = peer(&file)
                .map(|figure| beside.unwrap_or(0.0).max(figure))
                .or(beside);
        }
        let peer = beside.map_or_else(String::new, |peer| {
            format!(" peer=onnxruntime:{peer:.0} ratio={:.3}", best / peer)
        });
        println!("claim {name} value={best:.0} unit=tokens/cpu-s must=>=0.75x{peer}");
    }
    Ok(())
}
