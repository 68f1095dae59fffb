//! What a fuzzer starts with: `words.dict` and a folder of first inputs per target, from the words of the wires, from the
//! bodies below `STEPWELL_FIXTURES`, and from small files of each format.

use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use stepwell_providers::fuzz::{WORDS, targets};

/// Longest seed: the fuzzer's own inputs are no longer.
const LONGEST: usize = 16 << 10;
/// Most seeds of a target.
const MOST: usize = 60;

/// Writes both, and prints the targets.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let entry = |word: &&str| {
        let bytes = word.bytes().map(|byte| format!("\\x{byte:02x}"));
        format!("\"{}\"\n", bytes.collect::<String>())
    };
    fs::write(
        folder.join("words.dict"),
        WORDS
            .iter()
            .chain(&stepwell_rag::fuzz::WORDS)
            .map(entry)
            .collect::<String>(),
    )?;
    let bodies = bodies();
    for target in targets() {
        let seeds = folder.join(target);
        fs::create_dir_all(&seeds)?;
        let mut inputs: Vec<Vec<u8>> = bodies
            .iter()
            .filter(|(api, body)| fits(target, api, body))
            .map(|(_, body)| body.as_bytes().to_vec())
            .take(MOST)
            .collect();
        inputs.extend(WORDS.iter().map(|word| word.as_bytes().to_vec()));
        for (at, body) in inputs.iter().enumerate() {
            let seed = u8::try_from(at % 256).unwrap_or_default();
            fs::write(
                seeds.join(format!("seed-{at}")),
                [&[seed], body.as_slice()].concat(),
            )?;
        }
        println!("{target}");
    }
    for target in stepwell_rag::fuzz::targets() {
        let seeds = folder.join(target);
        fs::create_dir_all(&seeds)?;
        for (at, seed) in stepwell_rag::fuzz::seeds(target).iter().enumerate() {
            fs::write(seeds.join(format!("seed-{at}")), seed)?;
        }
        println!("{target}");
    }
    Ok(())
}

/// Whether a body is of the kind a target reads.
fn fits(target: &str, api: &str, body: &str) -> bool {
    let is_stream = body.starts_with("data:") || body.starts_with("event:");
    match target {
        "sse" => is_stream,
        "lines" => api == "ollama_native",
        "values" | "generate_content_array" => api == "generate_content" && !is_stream,
        "vectors" => matches!(api, "embeddings" | "rerank"),
        "failures" => body.contains("\"error\"") && !is_stream,
        "partial_json" => body.starts_with('{'),
        "headers" | "cassettes" => false,
        _ => match target.strip_suffix("_whole") {
            Some(wire) => api == wire && !is_stream,
            None => api == target && (is_stream || api == "ollama_native"),
        },
    }
}

/// The wire and the body of every recorded exchange, the shortest first; none where the recordings are not there.
fn bodies() -> Vec<(String, String)> {
    let Some(root) = std::env::var_os("STEPWELL_FIXTURES") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for vendor in entries(&Path::new(&root).join("wire")) {
        for file in entries(&vendor) {
            let exchange: Option<Value> = fs::read(&file)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let Some(exchange) = exchange else { continue };
            let text = |value: &Value| value.as_str().map(str::to_owned);
            if let (Some(api), Some(body)) =
                (text(&exchange["api"]), text(&exchange["response"]["body_text"]))
                && body.len() < LONGEST
            {
                found.push((api, body));
            }
        }
    }
    found.sort_by_key(|(_, body)| body.len());
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    found.sort();
    found
}
