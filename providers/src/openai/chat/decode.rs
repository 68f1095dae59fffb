//! A whole answer of Chat Completions → events. The client streams; servers that do not, answer so. Pure.

use super::{stream::Completion, wire};
use crate::{
    answer::{Out, unreadable},
    openai::VENDOR,
};
use stepwell_core::{Error, Result};

/// The events of a body with status 200.
///
/// # Errors
/// The typed failure when the body is one; [`Error::InvalidResponse`] when it is no answer.
pub(crate) fn body(model: &str, body: &[u8]) -> Result<Out> {
    let chunk: wire::Chunk<'_> =
        serde_json::from_slice(body).map_err(|error| unreadable(VENDOR.name(), "the answer", &error))?;
    let (mut decoder, mut out) = (Completion::new(model), Out::new());
    if chunk.error.is_none() && chunk.choices.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::InvalidResponse {
            provider: VENDOR.name().to_owned(),
            message: "the answer is no completion; check the base URL".to_owned(),
        });
    }
    decoder.chunk(chunk, &mut out)?;
    decoder.finish(&mut out);
    Ok(out)
}
