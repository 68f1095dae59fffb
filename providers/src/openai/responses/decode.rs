//! A whole answer of Responses → events. The client streams; servers that do not, answer so. Pure.

use super::{stream::Responses, wire::Response};
use crate::{
    answer::{Out, unreadable},
    http::Vendor,
    openai::failure,
};
use std::sync::Arc;
use stepwell_core::{Error, Result, VendorFailure};

/// The events of a body with status 200.
///
/// # Errors
/// The typed failure when the body is one; [`Error::InvalidResponse`] when it is no answer.
pub(crate) fn body(vendor: &Arc<Vendor>, model: &str, body: &[u8]) -> Result<Out> {
    let response: Response<'_> =
        serde_json::from_slice(body).map_err(|error| unreadable(vendor.name(), "the answer", &error))?;
    if response.output.is_none() && response.status.is_none() {
        if response.error.is_some() {
            let failed = VendorFailure::new(vendor.name());
            return Err(failure::error(failed, body, vendor, model));
        }
        return Err(Error::InvalidResponse {
            provider: vendor.name().to_owned(),
            message: "the answer is no response; check the base URL".to_owned(),
        });
    }
    let (mut decoder, mut out) = (Responses::new(vendor.clone(), model), Out::new());
    decoder.finish(response, "", &mut out)?;
    Ok(out)
}
