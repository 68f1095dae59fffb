//! [`Exchange`]: one line of a cassette. The fields are those of other collections of recorded exchanges, so that
//! tools which read one read the other; `chunks` is ours.

use base64::{Engine, engine::general_purpose::STANDARD};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version this build writes and the newest it reads.
pub(super) const VERSION: u32 = 1;

/// Largest file written and taken.
pub(super) const FILE_BYTES: u64 = 256 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) stepwell_cassette: u32,
}

/// One exchange.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) provider: String,
    pub(super) request: Request,
    pub(super) response: Response,
}

/// What was asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Value,
}

/// What was answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: IndexMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body_text: Option<String>,
    /// In its place where the body is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body_base64: Option<String>,
    /// Bytes of a piece, and milliseconds since the one before.
    #[serde(default)]
    pub(super) chunks: Vec<(usize, u64)>,
    /// The caller read no further, or the connection broke here: it breaks here again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_cut: bool,
}

impl Response {
    pub(super) fn set_body(&mut self, bytes: Vec<u8>) {
        match String::from_utf8(bytes) {
            Ok(text) => self.body_text = Some(text),
            Err(error) => self.body_base64 = Some(STANDARD.encode(error.as_bytes())),
        }
    }

    /// The body's bytes; `None` where they are written as no base64 is.
    pub(super) fn take_body(&mut self) -> Option<Vec<u8>> {
        match (self.body_text.take(), self.body_base64.take()) {
            (Some(text), _) => Some(text.into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).ok(),
            (None, None) => Some(Vec::new()),
        }
    }
}
