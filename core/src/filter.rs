//! [`Filter`]: which chunks may be found, as a typed tree.

use serde::{Deserialize, Serialize};

/// A value a fact is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilterValue {
    /// A string; compared byte by byte.
    Text(String),
    /// A whole number; compared exactly, also beyond 2⁵³ and with [`FilterValue::Number`].
    Integer(i64),
    /// A number; 3.0 is the whole number 3, and −0 is 0. One that is not finite is refused.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// A moment, compared as time: RFC 3339 as `2024-05-01T12:00:00+02:00`, or a date as `2024-05-01`, which is its
    /// midnight in UTC. Years 1 to 9999, exact to the microsecond; further digits are cut off. Facts that are strings
    /// of these two forms are dates too, and no others.
    Date(String),
}

impl From<&str> for FilterValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for FilterValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for FilterValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}
impl From<f64> for FilterValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}
impl From<bool> for FilterValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Which chunks may be found: a typed tree over the facts in `metadata`.
///
/// Dots in a key step into objects. A fact that is a list matches when one of its values does, so two conditions on it
/// may be met by two values. Values of different types are never equal: `"1"`, `1` and `true` are three, and a range of
/// one type passes over values of the others. A fact that is null, an empty list or an empty object is not there.
/// [`Filter::Not`] finds what its filter does not, chunks without the fact too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// The fact equals this.
    Eq {
        /// The fact.
        key: String,
        /// The value.
        value: FilterValue,
    },
    /// The fact equals one of these.
    In {
        /// The fact.
        key: String,
        /// The values.
        values: Vec<FilterValue>,
    },
    /// The fact lies between, bounds included; an open side is `None`.
    Range {
        /// The fact.
        key: String,
        /// At least.
        min: Option<FilterValue>,
        /// At most.
        max: Option<FilterValue>,
    },
    /// The fact is there.
    Exists {
        /// The fact.
        key: String,
    },
    /// The fact, a string, begins so.
    Prefix {
        /// The fact.
        key: String,
        /// How it begins.
        prefix: String,
    },
    /// Chunks of these documents.
    Documents {
        /// Their ids.
        ids: Vec<String>,
    },
    /// All of these; with none, every chunk.
    And(Vec<Filter>),
    /// At least one of these; with none, no chunk.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}

impl Filter {
    /// The fact equals this.
    pub fn eq(key: impl Into<String>, value: impl Into<FilterValue>) -> Self {
        Self::Eq {
            key: key.into(),
            value: value.into(),
        }
    }

    /// The fact equals one of these.
    pub fn is_in(key: impl Into<String>, values: impl IntoIterator<Item = impl Into<FilterValue>>) -> Self {
        Self::In {
            key: key.into(),
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// The fact lies between, bounds included.
    pub fn range(key: impl Into<String>, min: Option<FilterValue>, max: Option<FilterValue>) -> Self {
        Self::Range {
            key: key.into(),
            min,
            max,
        }
    }

    /// The fact is there.
    pub fn exists(key: impl Into<String>) -> Self {
        Self::Exists { key: key.into() }
    }

    /// The fact begins so.
    pub fn prefix(key: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::Prefix {
            key: key.into(),
            prefix: prefix.into(),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            first => Self::And(vec![first, other]),
        }
    }

    /// Either.
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Or(mut any) => {
                any.push(other);
                Self::Or(any)
            }
            first => Self::Or(vec![first, other]),
        }
    }

    /// The opposite.
    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }
}
