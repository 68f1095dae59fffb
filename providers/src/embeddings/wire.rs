//! [`Wire`]: how one vendor is asked for vectors and how its answer reads. Pure: no clock, no network.

use super::numbers::{NumberFormat, Row};
use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Debug;
use stepwell_core::{Cost, EmbedKind, Result, Usage};

/// One call for vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) model: &'a str,
    /// At least one.
    pub(crate) texts: &'a [&'a str],
    pub(crate) kind: EmbedKind,
    pub(crate) options: &'a Options,
}

impl<'a> Ask<'a> {
    /// The vendor's word for what the texts are, where it has one.
    pub(crate) fn word(&self) -> Option<&'a str> {
        let words = self.options.words.as_ref()?;
        Some(match self.kind {
            EmbedKind::Query => &words.0,
            EmbedKind::Document => &words.1,
        })
    }

    /// The body, with the host's own fields laid over it.
    pub(crate) fn body(&self, wire: &impl Serialize) -> Result<Vec<u8>> {
        crate::options::body(wire, Some(&self.options.extra), &[])
    }
}

/// What is asked of every call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The width to ask for; the model's own where `None`.
    pub(crate) dimension: Option<usize>,
    /// Whether to ask for base64 (`true`), for lists (`false`), or not to say.
    pub(crate) base64: Option<bool>,
    pub(crate) number: NumberFormat,
    /// The vendor's words for question and passage.
    pub(crate) words: Option<(String, String)>,
    /// What stands before a question and a passage.
    pub(crate) prefixes: Option<(String, String)>,
    /// Whether the vendor may cut a text that is too long.
    pub(crate) may_cut: bool,
    /// The longest text in tokens, where it is known.
    pub(crate) longest: Option<usize>,
    /// Any other field of the body.
    pub(crate) extra: Map<String, Value>,
}

/// What an answer holds, before it is checked.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Rows with the places of their texts; without any where the wire has none.
    pub(crate) rows: Vec<(Option<usize>, Row)>,
    pub(crate) usage: Usage,
    /// Money, where the vendor states it.
    pub(crate) cost: Option<Cost>,
}

/// What becomes of a text that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlong {
    /// The vendor refuses it.
    Refused,
    /// The vendor refuses or cuts it, as it is asked.
    Asked,
    /// The vendor cuts it and says nothing.
    Silent,
}

/// A vendor's wire.
pub(crate) trait Wire: Debug + Send + Sync {
    /// Behind the base URL.
    fn path(&self, base: &Url, model: &str) -> String;

    /// The request.
    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>>;

    /// The answer.
    fn decode(&self, body: &[u8], number: NumberFormat) -> std::result::Result<Read, serde_json::Error>;

    /// Whether it knows other number formats than floats.
    fn has_formats(&self) -> bool {
        false
    }

    /// What it does with a text that is too long.
    fn overlong(&self) -> Overlong {
        Overlong::Refused
    }
}
