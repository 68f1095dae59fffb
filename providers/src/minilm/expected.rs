//! What the Python tokeniser and onnxruntime give for our awkward strings; tests only.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    pub(super) spans: Vec<(usize, usize)>,
    pub(super) vector: Vec<f32>,
}

pub(super) fn rows() -> Vec<Row> {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../data/minilm/expected.json")).expect("the fixture is JSON");
    assert!(rows.len() > 15, "the fixture has its strings");
    rows
}
