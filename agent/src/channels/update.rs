//! [`ChannelsUpdate`]: a change of [`crate::Channels`].

use crate::{Update, Write, WriteKind};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::HashSet;
use stepwell_core::{Error, Result};

/// A change of [`crate::Channels`]. In the journal it is what a typed update is: `{key: {"w": value}}` for what is folded
/// in, `{key: {"o": value}}` for what replaces a slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelsUpdate {
    pub(super) writes: IndexMap<String, Write<Value, Value>>,
    /// Keys that are not serialised.
    pub(super) untracked: HashSet<String>,
}

impl ChannelsUpdate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds a value into a slot.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.writes.insert(key.into(), Write::Fold(value.into()));
        self
    }

    /// Replaces a slot.
    pub fn overwrite(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.writes.insert(key.into(), Write::Overwrite(value.into()));
        self
    }

    /// An update as plain JSON: an object of keys and values, where `{"$overwrite": value}` replaces a slot.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is no object.
    pub fn from_json(value: Value) -> Result<Self> {
        let Value::Object(fields) = value else {
            return Err(Error::invalid("update", "give an object of keys and values"));
        };
        let mut update = Self::new();
        for (key, value) in fields {
            update = match value {
                Value::Object(mut inner) if inner.len() == 1 && inner.contains_key("$overwrite") => {
                    update.overwrite(key, inner.remove("$overwrite").unwrap_or_default())
                }
                value => update.set(key, value),
            };
        }
        Ok(update)
    }
}

impl Serialize for ChannelsUpdate {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let tracked = self
            .writes
            .iter()
            .filter(|(key, _)| !self.untracked.contains(*key));
        serializer.collect_map(tracked)
    }
}

impl<'de> Deserialize<'de> for ChannelsUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            writes: IndexMap::deserialize(deserializer)?,
            untracked: HashSet::new(),
        })
    }
}

impl Update for ChannelsUpdate {
    fn visit<'a>(&'a self, found: &mut dyn FnMut(&'a str, WriteKind)) {
        for (key, write) in &self.writes {
            found(key, write.kind());
        }
    }

    fn discard_fold(&mut self, key: &str) {
        if self
            .writes
            .get(key)
            .is_some_and(|write| write.kind() == WriteKind::Fold)
        {
            self.writes.shift_remove(key);
        }
    }
}
