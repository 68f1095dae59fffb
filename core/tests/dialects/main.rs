//! Every dialect of the schema compiler, held against its vendor's rules and against what was given.

mod generated;
mod judge;
mod recorded;
mod shapes;
mod suite;

use serde_json::Value;
use std::path::PathBuf;
use stepwell_core::Dialect;

/// All dialects.
const ALL: [Dialect; 11] = [
    Dialect::Plain,
    Dialect::Arguments,
    Dialect::OpenAiStrict,
    Dialect::OpenAiStrictArguments,
    Dialect::CompatibleStrict,
    Dialect::CompatibleStrictArguments,
    Dialect::AnthropicStrict,
    Dialect::AnthropicStrictArguments,
    Dialect::GeminiOpenApi,
    Dialect::GeminiJson,
    Dialect::Ollama,
];

/// The fixtures, where they are.
fn fixtures(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let path = root.join(below);
    path.exists().then_some(path)
}

/// The groups of the JSON Schema suite whose schemas stay in their document.
fn groups() -> Vec<Value> {
    let Some(path) = fixtures("conformance/jsonschema.jsonl") else {
        println!("skipped: 1 (no suite)");
        return Vec::new();
    };
    let text = std::fs::read_to_string(path).expect("a readable suite");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|group: &Value| group["needs_remote"] != true)
        .collect()
}
