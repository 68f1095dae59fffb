//! Every recorded exchange, request and answer.

use crate::frame;
use std::path::PathBuf;

/// The corpus, or the part of it that `STEPWELL_WIRE` names, such as `openai`; `None` (and a line that says so)
/// where it is not there.
pub(crate) fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let part = std::env::var_os("STEPWELL_WIRE").unwrap_or_default();
    let path = root.join("wire").join(part);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: 1 (no fixtures)");
    None
}

/// Whether everything is tried, not a sample.
pub(crate) fn is_long() -> bool {
    std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_exchange_is_sent_and_read_as_it_was_recorded() {
    let Some(path) = corpus() else { return };
    let report = frame::run(&path, true, |line| {
        if line.starts_with("FAIL") {
            println!("{line}");
        }
    })
    .await
    .expect("it can be run");
    println!("{}\n{}\n{}", report.table(), report.differences(), report.sum());
    assert!(report.passed > 0, "nothing was checked");
    assert_eq!(report.failed, 0, "see the lines above");
}
