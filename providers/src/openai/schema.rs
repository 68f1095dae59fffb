//! The name of a schema, as both wires want it; and the dialect it is written in.

use std::borrow::Cow;
use stepwell_core::Dialect;

/// The strict dialects of answers and of arguments: OpenAI's own has limits of size that others have not.
pub(crate) fn strict(is_openai: bool) -> (Dialect, Dialect) {
    if is_openai {
        (Dialect::OpenAiStrict, Dialect::OpenAiStrictArguments)
    } else {
        (Dialect::CompatibleStrict, Dialect::CompatibleStrictArguments)
    }
}

/// The vendor takes letters, digits, `_` and `-`, at most 64.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .take(64)
        .collect();
    Cow::Owned(if name.is_empty() {
        "answer".to_owned()
    } else {
        name
    })
}
