//! [`Shelf`]: who makes the things of one kind (models, embedders, rerankers), by vendor.

use super::{ModelOptions, split};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};
use stepwell_core::{Error, Result};

/// Makes a thing by the name of its model.
type Factory<T> = Arc<dyn Fn(&str) -> Result<Arc<T>> + Send + Sync>;
/// The same, from options.
type OptionsFactory<T> = Arc<dyn Fn(&str, ModelOptions) -> Result<Arc<T>> + Send + Sync>;

/// Who makes it.
enum Maker<T: ?Sized> {
    /// A vendor of ours, which takes options.
    Vendor(OptionsFactory<T>),
    /// The host's own, as it wants it.
    Host(Factory<T>),
}

impl<T: ?Sized> Clone for Maker<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Vendor(factory) => Self::Vendor(Arc::clone(factory)),
            Self::Host(factory) => Self::Host(Arc::clone(factory)),
        }
    }
}

/// What a name led to.
pub(super) struct Made<T: ?Sized> {
    pub(super) thing: Arc<T>,
    /// Whether a vendor of ours made it.
    pub(super) is_ours: bool,
}

/// Vendors of one kind of thing. A map of functions is whole whoever panicked, so a poisoned lock is taken.
pub(super) struct Shelf<T: ?Sized> {
    what: &'static str,
    makers: RwLock<BTreeMap<String, Maker<T>>>,
}

impl<T: ?Sized> Shelf<T> {
    /// An empty one. `what` names its vendors in errors.
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            makers: RwLock::default(),
        }
    }

    /// Adds a vendor of ours.
    pub(super) fn add(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str, ModelOptions) -> Result<Arc<T>> + Send + Sync + 'static,
    ) {
        self.put(vendor.into(), Maker::Vendor(Arc::new(factory)));
    }

    /// Adds one of the host's.
    pub(super) fn add_host(
        &self,
        vendor: impl Into<String>,
        factory: impl Fn(&str) -> Result<Arc<T>> + Send + Sync + 'static,
    ) {
        self.put(vendor.into(), Maker::Host(Arc::new(factory)));
    }

    fn put(&self, vendor: String, maker: Maker<T>) {
        let mut makers = self.makers.write().unwrap_or_else(PoisonError::into_inner);
        makers.insert(vendor, maker);
    }

    /// The vendors, sorted.
    pub(super) fn vendors(&self) -> Vec<String> {
        let makers = self.makers.read().unwrap_or_else(PoisonError::into_inner);
        makers.keys().cloned().collect()
    }

    /// The thing of a name, with the options of the program where it gave some.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name of another form, [`Error::NotFound`] for an unknown vendor,
    /// [`Error::Unsupported`] for options where the host makes the thing, and what the factory says.
    pub(super) fn make(&self, name: &str, options: Option<ModelOptions>) -> Result<Made<T>> {
        let (vendor, model) = split(name)?;
        // The factory may ask the registry, so no lock is held while it runs.
        let makers = self.makers.read().unwrap_or_else(PoisonError::into_inner);
        let maker = makers.get(vendor).cloned();
        drop(makers);
        match (maker, options) {
            (Some(Maker::Vendor(factory)), options) => Ok(Made {
                thing: factory(model, options.unwrap_or_default())?,
                is_ours: true,
            }),
            (Some(Maker::Host(factory)), None) => Ok(Made {
                thing: factory(model)?,
                is_ours: false,
            }),
            (Some(Maker::Host(_)), Some(_)) => Err(Error::Unsupported {
                who: vendor.to_owned(),
                what: "options given with its name".into(),
                hint: "leave them out, or give them where the vendor is registered".into(),
            }),
            (None, _) => Err(Error::NotFound {
                what: self.what.to_owned(),
                name: vendor.chars().take(64).collect(),
                hint: format!("known are {}", self.vendors().join(", ")),
            }),
        }
    }
}
