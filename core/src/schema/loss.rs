//! [`SchemaLoss`]: one place where a vendor's schema says something else than the given one.

use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt};

/// What became of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchemaChange {
    /// The vendor does not know the keyword: it was left out, and the answer is checked here.
    Dropped,
    /// The vendor's schema lets more through than the given one: the answer is checked here.
    Widened,
    /// The vendor's schema lets less through: what keeps to it keeps to the given one.
    Narrowed,
    /// Another form of the same meaning, once a `null` that stands for an absent property is taken out.
    Rewritten,
}

impl SchemaChange {
    /// Whether an answer may keep to the vendor's schema and not to the given one.
    pub fn is_loose(self) -> bool {
        matches!(self, Self::Dropped | Self::Widened)
    }
}

/// One place where a vendor's schema says something else than the given one. It names keywords and places of the
/// schema, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SchemaLoss {
    /// JSON pointer of the keyword in the given schema; where the keyword was put in, the place it would have.
    pub pointer: String,
    /// The keyword.
    pub keyword: String,
    /// What became of it.
    pub change: SchemaChange,
    /// In plain words.
    pub message: String,
}

impl fmt::Display for SchemaLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// Most losses that are told one by one.
const TOLD: usize = 1_000;

/// The losses of one schema, each told once.
#[derive(Debug, Default)]
pub(super) struct Report {
    losses: Vec<SchemaLoss>,
    /// Places told, so that a look-up is one step.
    told: HashSet<(String, SchemaChange)>,
}

impl Report {
    pub(super) fn tell(&mut self, at: &str, keyword: &str, change: SchemaChange, message: impl Into<String>) {
        let pointer = format!("{at}/{}", escape(keyword));
        // The same place is met again where a definition is inlined.
        if self.told.contains(&(pointer.clone(), change)) {
            return;
        }
        if self.losses.len() >= TOLD {
            // Of a keyword that was not told yet, one place is told all the same.
            let is_told = |loss: &SchemaLoss| loss.keyword == keyword && loss.change.is_loose();
            if !change.is_loose() || self.losses.iter().any(is_told) {
                return;
            }
        }
        self.told.insert((pointer.clone(), change));
        self.losses.push(SchemaLoss {
            pointer,
            keyword: keyword.to_owned(),
            change,
            message: message.into(),
        });
    }

    pub(super) fn into_losses(self) -> Vec<SchemaLoss> {
        self.losses
    }
}

/// A segment of a JSON pointer.
pub(super) fn escape(segment: &str) -> std::borrow::Cow<'_, str> {
    if segment.contains(['~', '/']) {
        segment.replace('~', "~0").replace('/', "~1").into()
    } else {
        segment.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, SchemaChange};

    #[test]
    fn a_loss_is_told_once_with_an_escaped_pointer_and_many_are_bounded() {
        let mut report = Report::default();
        for _ in 0..2 {
            report.tell("/properties/a~1b", "minimum", SchemaChange::Dropped, "m");
        }
        for at in 0..5_000 {
            report.tell(&format!("/{at}"), "pattern", SchemaChange::Dropped, "p");
        }
        report.tell("", "x/y", SchemaChange::Dropped, "not told yet");
        let losses = report.into_losses();
        assert_eq!(losses[0].pointer, "/properties/a~1b/minimum");
        assert_eq!(losses.last().map(|loss| loss.pointer.as_str()), Some("/x~1y"));
        assert_eq!(losses.len(), 1_001);
    }
}
