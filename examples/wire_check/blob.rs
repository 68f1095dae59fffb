//! Bytes of media in recorded requests. The corpus cuts long base64 to its beginning and a note, which is no
//! base64 any more: such text stands for itself, goes through our request as bytes, and is found again in what was sent.

use super::difference::{Allowed, Notes};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

const CUT: Allowed = Allowed {
    name: "cut_media",
    reason: "the corpus keeps only the beginning of long base64; its text stands in for the bytes",
};
const MARK: &str = "cut by the corpus: ";

/// The bytes of recorded base64, or the stand-in where it was cut.
pub fn bytes(base64: &str) -> Vec<u8> {
    match STANDARD.decode(base64) {
        Ok(bytes) => bytes,
        Err(_) => format!("{MARK}{base64}").into_bytes(),
    }
}

/// The media type and bytes of a `data:` URL.
pub fn data_url(url: &str) -> Option<(String, Vec<u8>)> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some((kind.to_owned(), bytes(data)))
}

/// Puts the recorded text back wherever a stand-in was sent, in base64 or a `data:` URL.
pub fn restore(value: &mut Value, notes: &mut Notes) {
    match value {
        Value::String(text) => {
            let (prefix, data) = match text.split_once(";base64,") {
                Some((kind, data)) if kind.starts_with("data:") => (format!("{kind};base64,"), data),
                _ => (String::new(), text.as_str()),
            };
            let sent = STANDARD
                .decode(data)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(cut) = sent.as_deref().and_then(|text| text.strip_prefix(MARK)) {
                *text = format!("{prefix}{cut}");
                notes.allow(&CUT);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| restore(item, notes)),
        Value::Object(fields) => fields.values_mut().for_each(|field| restore(field, notes)),
        _ => {}
    }
}
