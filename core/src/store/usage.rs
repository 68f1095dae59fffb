//! [`UsageLedger`]: what calls took, by tenant.

use super::{Page, PageRequest, Scope};
use crate::{Cost, Result, Usage};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What one call took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageRow {
    /// An id of its own: recording the same one twice counts once.
    pub id: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What for: `chat`, `title`, `summary`, `embed` …
    pub purpose: String,
    /// The vendor.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The run, where there is one.
    pub run_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
}

impl UsageRow {
    /// A row.
    pub fn new(
        id: impl Into<String>,
        at_ms: u64,
        purpose: impl Into<String>,
        provider: impl Into<String>,
        model: impl Into<String>,
        usage: Usage,
    ) -> Self {
        Self {
            id: id.into(),
            at_ms,
            purpose: purpose.into(),
            provider: provider.into(),
            model: model.into(),
            run_id: None,
            actor: None,
            usage,
            cost: None,
        }
    }
}

/// By what totals are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsageGroup {
    /// One sum.
    None,
    /// By `vendor/model`.
    Model,
    /// By purpose.
    Purpose,
    /// By who acted.
    Actor,
    /// By day (UTC), `YYYY-MM-DD`.
    Day,
}

/// A sum of usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageTotal {
    /// The group's name; empty for one sum.
    pub group: String,
    /// Calls.
    pub calls: u64,
    /// Tokens.
    pub usage: Usage,
    /// Money of the calls whose price is known.
    pub cost: Cost,
    /// Calls whose price is unknown.
    pub unpriced_calls: u64,
}

/// What calls took, by tenant.
#[async_trait]
pub trait UsageLedger: Send + Sync + Debug {
    /// Books a call; a row of a known id changes nothing.
    async fn record(&self, scope: &Scope, row: UsageRow) -> Result<()>;

    /// Sums over `from_ms..to_ms`, groups in order of their names.
    async fn totals(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        group: UsageGroup,
    ) -> Result<Vec<UsageTotal>>;

    /// Rows of `from_ms..to_ms`, oldest first.
    async fn rows(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        page: PageRequest,
    ) -> Result<Page<UsageRow>>;

    /// Deletes rows before this moment; how many.
    async fn prune(&self, scope: &Scope, before_ms: u64) -> Result<u64>;
}
