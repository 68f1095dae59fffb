//! What of an exchange may be written down.

use indexmap::IndexMap;
use reqwest::header::HeaderMap;

/// Shorter "keys" are placeholders of local servers; blotting them out would blot out words.
const SHORTEST_KEY: usize = 8;

/// The harmless headers of an answer that decoding needs: kind, waits, limits, ids.
pub(super) fn headers(all: &HeaderMap) -> IndexMap<String, String> {
    let mut kept: IndexMap<String, String> = all
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(
                name,
                "content-type" | "request-id" | "x-request-id" | "x-should-retry" | "openai-processing-ms"
            ) || ["retry-after", "x-ratelimit-", "anthropic-ratelimit-"]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    kept.sort_keys();
    kept
}

/// The keys a request was sent with: the values of its secret headers, without the word before them.
pub(super) fn keys(sent: &HeaderMap) -> Vec<Vec<u8>> {
    sent.values()
        .filter(|value| value.is_sensitive())
        .map(|value| {
            value
                .as_bytes()
                .rsplit(|byte| *byte == b' ')
                .next()
                .unwrap_or_default()
        })
        .filter(|key| key.len() >= SHORTEST_KEY)
        .map(<[u8]>::to_vec)
        .collect()
}

/// Blots the keys out, byte by byte, so that the lengths of pieces stay right.
pub(super) fn blot(bytes: &mut [u8], keys: &[Vec<u8>]) {
    for key in keys {
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&bytes[from..], key) {
            bytes[from + at..from + at + key.len()].fill(b'*');
            from += at + key.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{blot, headers, keys};
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    #[test]
    fn a_key_is_blotted_out_at_its_own_length_and_strange_headers_stay_behind() {
        let mut sent = HeaderMap::new();
        let mut key = HeaderValue::from_static("Bearer sk-canary-1");
        key.set_sensitive(true);
        sent.insert("authorization", key);
        let mut body = b"your key sk-canary-1 is wrong, sk-canary-1!".to_vec();
        blot(&mut body, &keys(&sent));
        assert_eq!(body, b"your key *********** is wrong, ***********!");

        let mut answer = HeaderMap::new();
        for name in [
            "content-type",
            "retry-after-ms",
            "x-ratelimit-limit-tokens",
            "set-cookie",
            "x-account",
        ] {
            answer.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let kept = headers(&answer);
        assert_eq!(
            kept.keys().collect::<Vec<_>>(),
            ["content-type", "retry-after-ms", "x-ratelimit-limit-tokens"]
        );
    }
}
