//! What each commit says of itself, and hands on from the one before.

use serde::{Deserialize, Serialize};
use stepwell_core::{Error, Result, Scope};
use tantivy::{Index, IndexMeta, TantivyError};

use crate::error::Place;

/// More sources than this are not remembered at once.
const MOST_CURSORS: usize = 1_000;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Payload {
    #[serde(default)]
    stepwell: String,
    #[serde(default)]
    commits: u64,
    /// How far the sources of unfinished `add`s were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cursors: Vec<Cursor>,
}

/// How far a source was read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Cursor {
    pub(crate) tenant: String,
    pub(crate) source: String,
    /// Documents that are done; 0 when it was read to its end.
    pub(crate) done: u64,
}

impl Payload {
    /// That of the last commit; needs no lock.
    pub(crate) fn read(index: &Index, place: &Place) -> Result<Self> {
        Ok(Self::of(&place.check("opening", index.load_metas())?))
    }

    pub(super) fn of(state: &IndexMeta) -> Self {
        // Another version's payload tells nothing that could not be found out again.
        let payload = state.payload.as_deref();
        payload
            .and_then(|payload| serde_json::from_str(payload).ok())
            .unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> tantivy::Result<String> {
        serde_json::to_string(self)
            .map_err(|error| TantivyError::InternalError(format!("the payload: {error}")))
    }

    /// How many documents of a source are done.
    pub(crate) fn done(&self, scope: &Scope, source: &str) -> u64 {
        self.cursors
            .iter()
            .find(|cursor| cursor.tenant == scope.tenant() && cursor.source == source)
            .map_or(0, |cursor| cursor.done)
    }

    pub(super) fn next(&self, moved: Option<Cursor>) -> Result<Self> {
        let mut next = Self {
            stepwell: env!("CARGO_PKG_VERSION").to_owned(),
            commits: self.commits + 1,
            cursors: self.cursors.clone(),
        };
        if let Some(moved) = moved {
            next.cursors
                .retain(|cursor| (&cursor.tenant, &cursor.source) != (&moved.tenant, &moved.source));
            if moved.done > 0 {
                next.cursors.push(moved);
            }
        }
        if next.cursors.len() > MOST_CURSORS {
            return Err(Error::LimitExceeded {
                what: "the number of unfinished sources of this index".to_owned(),
                limit: MOST_CURSORS.to_string(),
            });
        }
        Ok(next)
    }
}
