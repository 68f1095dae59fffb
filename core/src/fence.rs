//! [`fence`]: a key for the frames that documents stand in when a model reads them.

/// Twelve signs, made from these texts, that occur in none of them.
///
/// Words of a document stand in a request between lines that carry such a key: nothing that they say can end their frame
/// or begin another, and they are not changed. The same texts give the same key, so that a vendor's cache of prompts holds.
///
/// ```
/// let key = stepwell_core::fence(&["Cats sleep.", "Dogs bark."]);
/// assert_eq!(key.len(), 12);
/// assert_ne!(key, stepwell_core::fence(&["Cats sleep.", "Dogs bark.", &key]));
/// ```
pub fn fence(texts: &[&str]) -> String {
    for turn in 0_u64.. {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&turn.to_le_bytes());
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        let key = hasher.finalize().to_hex()[..12].to_owned();
        if !texts.iter().any(|text| text.contains(&key)) {
            return key;
        }
    }
    unreachable!("texts of finite length do not hold all keys")
}
