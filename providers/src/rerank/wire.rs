//! [`Wire`]: how one vendor is asked for a better order and how its answer reads. Pure: no clock, no network.

use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Debug;
use stepwell_core::{Cost, Result, Usage};

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) model: &'a str,
    pub(super) query: &'a str,
    /// At least one.
    pub(super) documents: &'a [&'a str],
    /// How many are wanted, where that is fewer than there are.
    pub(super) top: Option<usize>,
    /// Whether the vendor may cut what is too long.
    pub(super) may_cut: bool,
    /// Any other field of the body.
    pub(super) extra: &'a Map<String, Value>,
}

impl Ask<'_> {
    /// The body, with the host's own fields laid over it.
    pub(super) fn body(&self, wire: &impl Serialize) -> Result<Vec<u8>> {
        crate::options::body(wire, Some(self.extra), &[])
    }
}

/// What an answer holds, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Places of documents, and their scores.
    pub(super) ranked: Vec<(usize, f64)>,
    pub(super) usage: Usage,
    /// Money, where the vendor states it.
    pub(super) cost: Option<Cost>,
}

/// A vendor's wire.
pub(super) trait Wire: Debug + Send + Sync {
    /// Behind the base URL.
    fn path(&self) -> &'static str;

    /// The request.
    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>>;

    /// The answer.
    fn decode(&self, body: &[u8]) -> std::result::Result<Read, serde_json::Error>;

    /// The vendor's number as a score from 0 to 1; a higher number never gives a lower score.
    fn score(&self, raw: f64) -> f64 {
        raw
    }
}
