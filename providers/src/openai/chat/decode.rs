//! A whole answer of Chat Completions → events. The client streams; servers that do not, answer so. Pure.

use super::{stream::Completion, wire};
use crate::{
    answer::{Out, unreadable},
    openai::{Dialect, failure},
};
use stepwell_core::{Error, Result, VendorFailure};

/// The events of a body with status 200.
///
/// # Errors
/// The typed failure when the body is one; [`Error::InvalidResponse`] when it is no answer.
pub(crate) fn body(dialect: &Dialect, model: &str, body: &[u8]) -> Result<Out> {
    let chunk: wire::Chunk<'_> =
        serde_json::from_slice(body).map_err(|error| unreadable(dialect.name(), "the answer", &error))?;
    let has_answer = chunk.choices.as_ref().is_some_and(|choices| !choices.is_empty());
    // Some servers send their failures with status 200.
    if chunk.is_failure() || (!has_answer && failure::is_one(body)) {
        let failed = VendorFailure::new(dialect.name());
        return Err(failure::error(failed, body, &dialect.vendor, model));
    }
    if !has_answer {
        return Err(Error::InvalidResponse {
            provider: dialect.name().to_owned(),
            message: "the answer is no completion; check the base URL".to_owned(),
        });
    }
    let (mut decoder, mut out) = (Completion::new(dialect.clone(), model), Out::new());
    decoder.chunk(chunk, true, &mut out)?;
    decoder.finish(&mut out);
    Ok(out)
}
