//! [`Reply`]: the head of an answer, and whether its body can be read at all.

use super::{Body, Vendor};
use bytes::Bytes;
use futures::stream::BoxStream;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use stepwell_core::{Error, Result};

/// An answer as the connection, or a cassette, gives it.
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BoxStream<'static, Result<Bytes>>,
}

/// An answer whose body has not been read, under the timers and the cap.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Reply {
    /// What the body is said to be, in lower case and without its parameters; empty where nothing is said.
    pub(crate) fn kind(&self) -> Vec<u8> {
        let kind = self
            .headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let end = kind.iter().position(|byte| *byte == b';').unwrap_or(kind.len());
        kind[..end].trim_ascii().to_ascii_lowercase()
    }

    /// Refuses what is no answer of a model's service: a web page, and a body that comes compressed though nothing
    /// compressed was asked for. So no body is ever inflated, and none can be a bomb.
    pub(crate) fn check_form(&self, vendor: &Vendor) -> Result<()> {
        let invalid = |message: &str| {
            Err(Error::InvalidResponse {
                provider: vendor.name().to_owned(),
                message: message.to_owned(),
            })
        };
        if matches!(self.kind().as_slice(), b"text/html" | b"application/xhtml+xml") {
            return invalid(WEB_PAGE);
        }
        let is_plain = |coding: &HeaderValue| {
            let coding = coding.as_bytes().trim_ascii();
            coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
        };
        if !self.headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            return invalid(
                "it is compressed, which was not asked for; check the proxy or gateway in between",
            );
        }
        Ok(())
    }
}

/// The sentence on a page that came in place of an answer.
pub(crate) const WEB_PAGE: &str = "it is a web page; check the base URL";
