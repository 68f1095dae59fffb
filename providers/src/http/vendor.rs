//! [`Vendor`]: who is called, and how it wants its key.

use std::{borrow::Cow, fmt};
use stepwell_core::Error;

/// Who is called, and how it wants its key.
#[derive(Clone)]
pub(crate) struct Vendor {
    name: Cow<'static, str>,
    key_var: Cow<'static, str>,
    base_var: Cow<'static, str>,
    base: Cow<'static, str>,
    pub(crate) auth: Auth,
}

/// Without its address: one that a host gave may hold a password.
impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vendor").field(&self.name).finish()
    }
}

/// Where a vendor's key travels.
#[derive(Clone, Debug)]
#[allow(dead_code)] // not every set of features has every kind
pub(crate) enum Auth {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of this name, in lower case, with the bare key.
    Header(Cow<'static, str>),
    /// Nowhere: it asks for none, and none is sent.
    None,
}

impl Vendor {
    /// A vendor that stands in the code. `base` may be empty: then an address has to be given.
    pub(crate) const fn new(
        name: &'static str,
        key_var: &'static str,
        base_var: &'static str,
        base: &'static str,
        auth: Auth,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            key_var: Cow::Borrowed(key_var),
            base_var: Cow::Borrowed(base_var),
            base: Cow::Borrowed(base),
            auth,
        }
    }

    /// A vendor that a host names: `my-vendor` reads `MY_VENDOR_API_KEY` and `MY_VENDOR_BASE_URL`.
    #[cfg(feature = "openai")]
    pub(crate) fn named(name: String, base: String, auth: Auth) -> Self {
        let stem: String = name
            .chars()
            .map(|c| match c {
                c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
                _ => '_',
            })
            .collect();
        Self {
            name: name.into(),
            key_var: format!("{stem}_API_KEY").into(),
            base_var: format!("{stem}_BASE_URL").into(),
            base: base.into(),
            auth,
        }
    }

    /// As in `vendor/model`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its key is read from.
    pub(crate) fn key_var(&self) -> &str {
        &self.key_var
    }

    /// Where its address is read from.
    pub(crate) fn base_var(&self) -> &str {
        &self.base_var
    }

    /// Its own address, if it has one.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// An address of the right form for a sentence. What a host gave is not told again: it may hold a password.
    pub(crate) fn example(&self) -> &str {
        match &self.base {
            Cow::Borrowed(base) if !base.is_empty() => base,
            _ => "https://my-resource.example/v1",
        }
    }

    /// What its wire cannot say.
    pub(crate) fn unsupported(&self, what: &str, hint: &str) -> Error {
        Error::Unsupported {
            who: self.name().to_owned(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        }
    }
}
