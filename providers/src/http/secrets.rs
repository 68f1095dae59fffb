//! [`Secrets`]: what a client sends that nobody else may read, blotted out of whatever a vendor says back.
//!
//! Vendors and gateways quote keys in their failures. Their sentences reach a developer, and cassettes reach a
//! repository: neither may carry a key.

use std::{fmt, sync::Arc};
use stepwell_core::{Error, Secret, StreamEvent};

/// Shorter "keys" are placeholders of local servers; blotting them out would blot out words.
const SHORTEST: usize = 8;

/// The secrets of one client. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<[Secret]>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// These values, and what stands in them behind a word such as `Bearer`, in every form they may come back in.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found: Vec<String> = Vec::new();
        for value in values {
            let last = value.rsplit(' ').next().unwrap_or_default();
            for word in [value, last] {
                // JSON may write a slash with a backslash, and an address writes signs as numbers.
                let escaped = word.replace('/', "\\/");
                let encoded: String = reqwest::Url::parse_with_params("a:b", [("", word)])
                    .ok()
                    .and_then(|url| url.query().map(|query| query.trim_start_matches('=').to_owned()))
                    .unwrap_or_default();
                for form in [word.to_owned(), escaped, encoded] {
                    if form.len() >= SHORTEST && !found.contains(&form) {
                        found.push(form);
                    }
                }
            }
        }
        // The longest first: the shorter ones stand in them.
        found.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self(found.into_iter().map(Secret::new).collect())
    }

    /// Whether one of them stands in a word, in whatever case.
    pub(crate) fn are_in(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        self.0
            .iter()
            .any(|secret| word.contains(&secret.reveal().to_ascii_lowercase()))
    }

    /// Blots them out, byte by byte, so that the lengths of pieces stay right.
    pub(crate) fn blot(&self, bytes: &mut [u8]) {
        for secret in self.0.iter() {
            let secret = secret.reveal().as_bytes();
            let mut from = 0;
            while let Some(at) = memchr::memmem::find(&bytes[from..], secret) {
                bytes[from + at..from + at + secret.len()].fill(b'*');
                from += at + secret.len();
            }
        }
    }

    /// A word that carries none of them.
    pub(crate) fn clean_word(&self, word: &mut Option<String>) {
        if word.as_deref().is_some_and(|word| self.are_in(word)) {
            *word = None;
        }
    }

    /// What a vendor said of its failure, without them.
    pub(crate) fn clean(&self, mut error: Error) -> Error {
        if let Some(failure) = error.vendor_failure_mut() {
            if let Some(message) = &mut failure.message {
                for secret in self.0.iter() {
                    if message.contains(secret.reveal()) {
                        *message = message.replace(secret.reveal(), "***");
                    }
                }
            }
            self.clean_word(&mut failure.kind);
            self.clean_word(&mut failure.request_id);
        }
        error
    }

    /// The names an answer goes by, which spans and logs show.
    pub(crate) fn clean_event(&self, event: &mut StreamEvent) {
        if let StreamEvent::MessageStart {
            id,
            model,
            request_id,
        } = event
        {
            for word in [id, model, request_id] {
                self.clean_word(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Secrets;
    use stepwell_core::{Error, StreamEvent, VendorFailure};

    #[test]
    fn a_key_is_blotted_out_of_bytes_at_its_own_length_in_all_its_forms() {
        let secrets = Secrets::of(["Bearer sk/canary-1+", "short"]);
        for (said, blotted) in [
            (
                "your key sk/canary-1+ is wrong!",
                "your key ************ is wrong!",
            ),
            (r#"{"key":"sk\/canary-1+"}"#, r#"{"key":"*************"}"#),
            ("?key=sk%2Fcanary-1%2B&a=b", "?key=****************&a=b"),
            ("Bearer sk/canary-1+", "*******************"),
            ("short words stay", "short words stay"),
        ] {
            let mut bytes = said.as_bytes().to_vec();
            secrets.blot(&mut bytes);
            assert_eq!(String::from_utf8(bytes).expect("still text"), blotted);
        }
        assert!(!format!("{secrets:?}").contains("canary"));
    }

    #[test]
    fn a_failure_and_a_start_that_quote_a_key_lose_it_in_whatever_case() {
        let secrets = Secrets::of(["Gsk_Canary_42"]);
        let mut failure = VendorFailure::new("acme");
        failure.message = Some("Gsk_Canary_42 is not valid".to_owned());
        failure.kind = Some("gsk_canary_42".to_owned());
        failure.request_id = Some("req-Gsk_Canary_42".to_owned());
        let error = secrets.clean(Error::Rejected(Box::new(failure)));
        assert_eq!(error.vendor_message(), Some("*** is not valid"));
        let failure = error.vendor_failure().expect("of a vendor");
        assert_eq!((&failure.kind, &failure.request_id), (&None, &None));
        let mut start = StreamEvent::MessageStart {
            id: Some("Gsk_Canary_42".to_owned()),
            model: Some("m".to_owned()),
            request_id: None,
        };
        secrets.clean_event(&mut start);
        assert_eq!(
            start,
            StreamEvent::MessageStart {
                id: None,
                model: Some("m".to_owned()),
                request_id: None
            }
        );
    }
}
