//! Every recorded exchange of the vendors we speak to, by the same code as the example `wire_check`.

#![allow(missing_docs)]

// The frame names the crate a user sees; here that is this crate and its core alone.
extern crate self as stepwell;
pub use stepwell_core::*;
pub mod providers {
    pub use stepwell_providers::*;
}

#[path = "../../examples/wire_check/frame.rs"]
#[allow(unreachable_pub)] // the same files are a module of an example
mod frame;

use std::path::PathBuf;

/// The corpus, or the part of it that `STEPWELL_WIRE` names, such as `openai`.
fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let part = std::env::var_os("STEPWELL_WIRE").unwrap_or_default();
    let path = root.join("wire").join(part);
    path.exists().then_some(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_exchange_is_sent_and_read_as_it_was_recorded() {
    let Some(path) = corpus() else {
        println!("skipped: 1 (no fixtures)");
        return;
    };
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
