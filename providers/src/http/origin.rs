//! [`Origin`]: the one place a key is meant for. Every address that is called lies on it.

use super::Vendor;
use reqwest::Url;
use std::{fmt, sync::Arc};
use stepwell_core::{Error, Result, Secret};

/// An address under which paths are asked, and the parameters every call has. Clones share both.
#[derive(Clone)]
pub(crate) struct Origin {
    base: Arc<Url>,
    /// They are part of the address as far as errors go: never told.
    query: Arc<[(String, Secret)]>,
}

/// Host alone: a path may tell of an account, a parameter is a secret.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.base.host_str()).finish()
    }
}

impl Origin {
    /// The address that was set, else the one in the environment, else the vendor's own.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], which never quotes it.
    pub(super) fn new(vendor: &Vendor, base: Option<String>) -> Result<Self> {
        let base = base
            .or_else(|| {
                std::env::var(vendor.base_var())
                    .ok()
                    .filter(|value| !value.trim().is_empty())
            })
            .unwrap_or_else(|| vendor.base().to_owned());
        let wrong = |why: &str| {
            Error::invalid(
                "base_url",
                format!(
                    "{why}; give an address such as {}, with `.base_url(..)` or in {}",
                    vendor.example(),
                    vendor.base_var()
                ),
            )
        };
        if base.trim().is_empty() {
            return Err(wrong(&format!("{} has no address of its own", vendor.name())));
        }
        let base = Url::parse(base.trim()).map_err(|_| wrong("it is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong("it is no http or https address"));
        }
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(wrong("it has a user, a query or a fragment"));
        }
        Ok(Self {
            base: Arc::new(base),
            query: Arc::from([]),
        })
    }

    /// Sends these with every call.
    pub(super) fn set_query(&mut self, query: Vec<(String, Secret)>) {
        self.query = query.into();
    }

    /// The values of the parameters.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.query.iter().map(|(_, value)| value)
    }

    /// The address under which paths are asked, for wires whose path depends on it.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The address of a path.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a path that leads elsewhere.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let mut url = Url::parse(&url)
            .ok()
            .filter(|url| url.origin() == self.base.origin())
            .ok_or_else(|| Error::invalid("path", "it does not stay on the vendor's origin"))?;
        if !self.query.is_empty() {
            let pairs = self.query.iter().map(|(name, value)| (name, value.reveal()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;
    use crate::http::{Auth, Vendor};
    use stepwell_core::Secret;

    const VENDOR: Vendor = Vendor::new(
        "acme",
        "ACME_API_KEY",
        "ACME_BASE_URL",
        "https://api.acme.example",
        Auth::Bearer,
    );

    #[test]
    fn an_address_that_is_none_or_carries_secrets_is_refused_with_one_sentence() {
        for bad in [
            "",
            " ",
            "api.acme.example",
            "ftp://canary",
            "http://u:canary@x",
            "http://canary@x",
            "https://x/?key=canary",
            "https://x/#canary",
            "http://",
        ] {
            let error = Origin::new(&VENDOR, Some(bad.to_owned())).expect_err(bad);
            assert_eq!(error.code(), "invalid_input", "{bad}");
            assert!(error.to_string().contains("https://api.acme.example"));
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[cfg(feature = "openai")]
    #[test]
    fn an_address_that_a_host_gave_its_own_vendor_is_no_example_for_its_mending() {
        let own = Vendor::named("own".to_owned(), "http://u:canary@x/v1".to_owned(), Auth::Bearer);
        let error = Origin::new(&own, None).expect_err("a password in it");
        assert!(error.to_string().contains("OWN_BASE_URL"), "{error}");
        assert!(
            !format!("{error} {error:?} {own:?}").contains("canary"),
            "{error}"
        );
    }

    #[test]
    fn a_path_that_leaves_the_origin_of_the_key_is_not_called() {
        let origin = Origin::new(&VENDOR, Some("http://127.0.0.1:1/v1".to_owned())).expect("an address");
        for path in ["/chat", "/chat?alt=sse", "//evil.example/x", "/\\evil.example/"] {
            let url = origin.url(path).expect(path);
            assert_eq!(
                (url.host_str(), url.port()),
                (Some("127.0.0.1"), Some(1)),
                "{path}"
            );
        }
        let bare = Origin::new(&VENDOR, Some("http://127.0.0.1:1".to_owned())).expect("an address");
        for path in ["@evil.example/x", "2/x", ".evil.example/", "0"] {
            assert_eq!(bare.url(path).expect_err(path).code(), "invalid_input", "{path}");
        }
    }

    #[test]
    fn fixed_parameters_stand_behind_those_of_the_path() {
        let mut origin = Origin::new(&VENDOR, None).expect("its own");
        origin.set_query(vec![("api-version".to_owned(), Secret::new("canary & more"))]);
        let url = origin.url("/chat?alt=sse").expect("a path");
        assert_eq!(
            url.as_str(),
            "https://api.acme.example/chat?alt=sse&api-version=canary+%26+more"
        );
        assert!(!format!("{origin:?}").contains("canary"));
    }
}
