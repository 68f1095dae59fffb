//! [`Client`]: a model's name, the key and the address it is asked with; [`Setup`]: how a vendor's builder gets there.

use crate::{
    http::{Http, HttpOptions, Reply, Vendor},
    verdict::Verdict,
};
use reqwest::header::{HeaderName, HeaderValue};
use stepwell_core::{Error, ModelInfo, Result, Secret, VendorFailure};

/// What the builder of every vendor sets.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) info: ModelInfo,
    pub(crate) key: Option<Secret>,
    pub(crate) base_url: Option<String>,
    pub(crate) http: HttpOptions,
}

impl Setup {
    pub(crate) fn new(vendor: &Vendor, model: impl Into<String>) -> Self {
        Self {
            info: ModelInfo::new(vendor.name, model),
            key: None,
            base_url: None,
            http: HttpOptions::default(),
        }
    }

    /// Takes over what is known of the model; vendor and name stay.
    pub(crate) fn describe(&mut self, info: ModelInfo) {
        let named = std::mem::replace(&mut self.info, info);
        self.info.provider = named.provider;
        self.info.model = named.model;
    }

    /// The client; its key is the one that was set, else the one in the environment. `example` is a model's name.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key, [`Error::InvalidInput`] for a model without a name and for an address
    /// that is none.
    pub(crate) fn build(self, vendor: Vendor, example: &str) -> Result<Client> {
        if self.info.model.trim().is_empty() {
            return Err(Error::invalid(
                "model",
                format!("name one, for example {example}"),
            ));
        }
        let key = self
            .key
            .filter(|key| !key.reveal().trim().is_empty())
            .or_else(|| Secret::from_env(vendor.key_var))
            .ok_or_else(|| Error::MissingKey {
                provider: vendor.name.to_owned(),
                env_var: vendor.key_var.to_owned(),
            })?;
        Ok(Client {
            info: self.info,
            http: Http::new(vendor, self.base_url, self.http)?,
            key,
        })
    }
}

/// One model at one vendor, reachable with a key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) info: ModelInfo,
    pub(crate) http: Http,
    pub(crate) key: Secret,
}

impl Client {
    /// The reply to a request, with status 200; any other is the error that `read_failure` makes of it.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
        read_failure: fn(VendorFailure, &[u8], &Vendor, &str) -> Error,
    ) -> Result<Reply> {
        let reply = self.http.post(path, headers, body).await?;
        if reply.status == 200 {
            return Ok(reply);
        }
        let (vendor, model) = (&self.http.vendor, &self.info.model);
        let failed = self.http.failure(reply.status, &reply.headers);
        // No body of a stranger is read.
        if Verdict::of_status(reply.status) == Verdict::Stranger {
            return Err(Verdict::Stranger.error(failed, vendor, model));
        }
        let body = reply.body.read_failure().await;
        Err(read_failure(failed, &body, vendor, model))
    }
}
