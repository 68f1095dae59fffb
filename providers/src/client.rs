//! [`Client`]: a model's name, the key and the address it is asked with; [`Setup`]: how a vendor's builder gets there.

use crate::{
    cassette::Cassette,
    catalogue, header,
    http::{Auth, Http, HttpOptions, Reply, Vendor, secret_header},
    registry::ModelOptions,
    verdict::Verdict,
};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use std::fmt;
use stepwell_core::{Error, ModelInfo, Result, Secret, VendorFailure};

/// What the builder of every vendor sets.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) info: ModelInfo,
    pub(crate) key: Option<Secret>,
    pub(crate) base_url: Option<String>,
    pub(crate) http: HttpOptions,
    /// A server that works without a key gets one only where there is one.
    pub(crate) is_key_optional: bool,
    /// Sent with every call. A value may be a secret of its own.
    pub(crate) headers: Vec<(String, Secret)>,
    /// Sent with every call, behind the path. A value may be a secret too.
    pub(crate) query: Vec<(String, Secret)>,
}

impl Setup {
    pub(crate) fn new(vendor: &Vendor, model: impl Into<String>) -> Self {
        Self {
            info: ModelInfo::new(vendor.name(), model),
            key: None,
            base_url: None,
            http: HttpOptions::default(),
            is_key_optional: false,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }

    /// `Debug` of the builders: the model alone. An address may hold a password, an option a token, and the name of
    /// an organization is the host's own business.
    pub(crate) fn show(&self, builder: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(builder)
            .field("provider", &self.info.provider)
            .field("model", &self.info.model)
            .finish_non_exhaustive()
    }

    /// Takes over what the program says at the registry; what it does not say stays.
    pub(crate) fn take(&mut self, options: ModelOptions) {
        self.key = options.api_key.or(self.key.take());
        self.base_url = options.base_url.or(self.base_url.take());
        self.headers.extend(options.headers);
        self.http = options.http;
    }

    /// Takes over what is known of the model; vendor and name stay.
    pub(crate) fn describe(&mut self, info: ModelInfo) {
        let named = std::mem::replace(&mut self.info, info);
        self.info.provider = named.provider;
        self.info.model = named.model;
    }

    /// The client; its key is the one that was set, else the one in the environment. What the host did not say of
    /// the model is the catalogue's. `example` is a model's name.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key where one is needed, [`Error::InvalidInput`] for a model without a
    /// name, for an address that is none, for a header or key that cannot be sent, and for a file of models that
    /// cannot be read.
    pub(crate) fn build(self, vendor: &Vendor, example: &str) -> Result<Client> {
        if self.info.model.trim().is_empty() {
            return Err(Error::invalid(
                "model",
                format!("name one, for example {example}"),
            ));
        }
        let key = self
            .key
            .filter(|key| !key.reveal().trim().is_empty())
            .or_else(|| Secret::from_env(vendor.key_var()))
            .filter(|_| !matches!(vendor.auth, Auth::None));
        // What plays from a cassette dials nobody.
        let plays = self.http.cassette.as_ref().is_some_and(Cassette::is_playing);
        if key.is_none() && !plays && !self.is_key_optional && !matches!(vendor.auth, Auth::None) {
            return Err(Error::MissingKey {
                provider: vendor.name().to_owned(),
                env_var: vendor.key_var().to_owned(),
            });
        }
        let header = |name: &str| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Error::invalid("header", "its name has characters that no header can carry"))
        };
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            headers.push((header(name)?, secret_header("", value)?));
        }
        match (&vendor.auth, &key) {
            (Auth::Bearer, Some(key)) => headers.push((AUTHORIZATION, secret_header("Bearer ", key)?)),
            (Auth::Header(name), Some(key)) => headers.push((header(name)?, secret_header("", key)?)),
            _ => {}
        }
        let mut info = self.info;
        catalogue::describe(&mut info)?;
        let http = Http::new(vendor.clone(), self.base_url, self.http)?.query(self.query);
        let secrets = self.headers.iter().map(|(_, value)| value).chain(&key);
        Ok(Client {
            info,
            http: http.keep(secrets),
            headers,
        })
    }
}

/// What every vendor's builder lets one set; the documentation of key and address is the vendor's own.
macro_rules! setters {
    (key: $($key:literal)+, address: $($address:literal)+) => {
        $(#[doc = $key])+
        pub fn api_key(mut self, key: impl Into<stepwell_core::Secret>) -> Self {
            self.setup.key = Some(key.into());
            self
        }

        $(#[doc = $address])+
        pub fn base_url(mut self, url: impl Into<String>) -> Self {
            self.setup.base_url = Some(url.into());
            self
        }

        /// A header that goes with every call. Its value is kept out of every `Debug`.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<stepwell_core::Secret>) -> Self {
            self.setup.headers.push((name.into(), value.into()));
            self
        }

        /// Timers, limits, proxy, cassette.
        pub fn http(mut self, options: $crate::HttpOptions) -> Self {
            self.setup.http = options;
            self
        }
    };
}
pub(crate) use setters;

/// What the builder of every vendor's chat model lets one set besides.
macro_rules! model_setters {
    () => {
        /// What the program says at the registry.
        pub(crate) fn options(mut self, options: $crate::ModelOptions) -> Self {
            self.setup.take(options);
            self
        }

        /// What is known of the model, such as its limits; vendor and name stay.
        pub fn info(mut self, info: stepwell_core::ModelInfo) -> Self {
            self.setup.describe(info);
            self
        }
    };
}
pub(crate) use model_setters;

/// One model at one vendor. Its key is among the headers and goes to the one origin of `http`.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) info: ModelInfo,
    pub(crate) http: Http,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Client {
    /// The reply to a request, with status 200; any other is the error that `read_failure` makes of it. The key
    /// and the fixed headers are added here.
    pub(crate) async fn post(
        &self,
        path: &str,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
        read_failure: impl FnOnce(VendorFailure, &[u8], &Vendor, &str) -> Error,
    ) -> Result<Reply> {
        headers.extend(self.headers.iter().cloned());
        let reply = self.http.post(path, headers, body).await?;
        let (vendor, model) = (&self.http.vendor, &self.info.model);
        if reply.status == 200 {
            reply.check_form(vendor)?;
            return Ok(reply);
        }
        let mut failed = self.http.failure(reply.status, &reply.headers);
        // No body of a stranger is read.
        if Verdict::of_status(reply.status) == Verdict::Stranger {
            return Err(Verdict::Stranger.error(failed, vendor, model));
        }
        let body = reply.body.read_failure().await;
        failed.retry_after = failed.retry_after.or_else(|| header::retry_after_in(&body));
        Err(self
            .http
            .secrets
            .clean(read_failure(failed, &body, vendor, model)))
    }
}

#[cfg(test)]
mod tests {
    use super::Setup;
    use crate::{
        fixtures::{Act, Server, shown},
        http::{Auth, Vendor},
    };
    use std::borrow::Cow;
    use stepwell_core::Error;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    fn vendor(auth: Auth) -> Vendor {
        Vendor::named("acme-test".to_owned(), "http://127.0.0.1:1".to_owned(), auth)
    }

    #[tokio::test]
    async fn the_key_goes_where_the_vendor_wants_it_beside_the_fixed_headers() {
        for (auth, header, value) in [
            (Auth::Bearer, "authorization", Some("Bearer k")),
            (Auth::Header(Cow::Borrowed("api-key")), "api-key", Some("k")),
            (Auth::None, "authorization", None),
        ] {
            let server = Server::start(vec![vec![Act::Send(ANSWER.to_vec())]]).await;
            let mut setup = Setup::new(&vendor(Auth::Bearer), "m");
            setup.key = Some("k".into());
            setup.base_url = Some(server.url.clone());
            setup.headers.push(("X-Title".to_owned(), "a program".into()));
            let client = setup.build(&vendor(auth), "m").expect("builds");
            let fail = |_, _: &[u8], _: &Vendor, _: &str| Error::Cancelled;
            client.post("/x", vec![], vec![], fail).await.expect("an answer");
            let seen = &server.requests()[0];
            assert_eq!(seen.header(header), value);
            assert_eq!(seen.header("x-title"), Some("a program"));
        }
    }

    #[test]
    fn a_key_is_asked_for_only_where_one_is_needed_and_never_shown() {
        let setup = |key: Option<&str>, is_key_optional| {
            let mut setup = Setup::new(&vendor(Auth::Bearer), "m");
            setup.key = key.map(Into::into);
            setup.is_key_optional = is_key_optional;
            setup
        };
        let error = setup(None, false).build(&vendor(Auth::Bearer), "m").err();
        assert!(matches!(error, Some(Error::MissingKey { env_var, .. }) if env_var == "ACME_TEST_API_KEY"));
        assert!(setup(None, true).build(&vendor(Auth::Bearer), "m").is_ok());
        assert!(setup(None, false).build(&vendor(Auth::None), "m").is_ok());
        let mut bad = setup(Some("k-canary\n"), false);
        bad.headers.push(("x".to_owned(), "v-canary".into()));
        let error = bad.build(&vendor(Auth::Bearer), "m").err().expect("a line end");
        assert_eq!(error.code(), "invalid_input");
        assert!(!shown(&error).contains("canary"));
        let mut bad = setup(None, true);
        bad.headers.push(("no header".to_owned(), "v".into()));
        assert!(bad.build(&vendor(Auth::Bearer), "m").is_err());
    }
}
