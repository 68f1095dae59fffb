//! The one batcher of all vendors: cuts by count and tokens, asks side by side, puts the rows where they belong.
//!
//! When a batch fails, those on their way are let through, and what is finished is kept for the next call with the
//! same texts: a retry around the embedder pays only for what is missing.

use super::{
    numbers::{NumberFormat, Row},
    wire::{Ask, Options, Read, Wire},
};
use crate::{answer, client::Client, vendor_failure};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Mutex, PoisonError},
};
use stepwell_core::{Cost, EmbedKind, Error, Price, Result, Usage};

/// How much of unfinished calls is kept.
const KEPT_BYTES: usize = 64 << 20;

/// What one call may hold, and how many run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) texts: usize,
    pub(crate) tokens: usize,
    pub(crate) concurrency: usize,
}

/// Runs of texts that fit one call each; a text over the limit is alone in its own.
pub(crate) fn plan(tokens: &[usize], limits: Limits) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut sum) = (0, 0_usize);
    for (at, &count) in tokens.iter().enumerate() {
        let is_full = at - start >= limits.texts.max(1) || sum.saturating_add(count) > limits.tokens;
        if is_full && at > start {
            batches.push(start..at);
            (start, sum) = (at, 0);
        }
        sum = sum.saturating_add(count);
    }
    if start < tokens.len() {
        batches.push(start..tokens.len());
    }
    batches
}

/// Rows that a call had finished when it failed or was dropped.
#[derive(Default)]
pub(super) struct Kept {
    rows: HashMap<[u8; 32], Vec<f32>>,
    bytes: usize,
    spent: Spent,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// What the calls took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) usage: Usage,
    /// Millionths of millionths of a dollar: the price of a short text is far below a millionth.
    pico_usd: u128,
    is_cost_unknown: bool,
}

impl Spent {
    pub(crate) fn add_call(&mut self, usage: &Usage, stated: Option<Cost>, price: Option<&Price>) {
        self.usage.add(usage);
        let pico_usd = stated
            .map(|cost| u128::from(cost.micro_usd) * 1_000_000)
            .or_else(|| price?.pico_usd(usage));
        match pico_usd {
            Some(pico_usd) => self.pico_usd += pico_usd,
            None => self.is_cost_unknown = true,
        }
    }

    fn add(&mut self, other: &Self) {
        self.usage.add(&other.usage);
        self.pico_usd += other.pico_usd;
        self.is_cost_unknown |= other.is_cost_unknown;
    }

    pub(crate) fn cost(&self) -> Option<Cost> {
        (!self.is_cost_unknown)
            .then(|| Cost::from_pico_usd(self.pico_usd))
            .flatten()
    }
}

/// What all calls of an embedder have in common.
pub(super) struct Caller<'a> {
    pub(super) client: &'a Client,
    pub(super) path: &'a str,
    pub(super) wire: &'static dyn Wire,
    pub(super) options: &'a Options,
    pub(super) limits: Limits,
    pub(super) price: Option<&'a Price>,
    /// 0 where the width is still to be learnt.
    pub(super) dimension: usize,
    pub(super) normalize: bool,
    pub(super) kept: &'a Mutex<Kept>,
}

/// One call's rows, kept when it does not come to its end.
struct Progress<'a> {
    caller: &'a Caller<'a>,
    texts: &'a [&'a str],
    kind: EmbedKind,
    rows: Vec<Option<Vec<f32>>>,
    spent: Spent,
    is_whole: bool,
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.is_whole || self.rows.iter().all(Option::is_none) {
            return;
        }
        let mut kept = self.caller.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.spent.add(&self.spent);
        for (text, row) in self.texts.iter().zip(&mut self.rows) {
            let Some(row) = row.take() else { continue };
            let bytes = row.len() * size_of::<f32>();
            if kept.bytes + bytes > KEPT_BYTES {
                break;
            }
            if kept.rows.insert(key(text, self.kind), row).is_none() {
                kept.bytes += bytes;
            }
        }
    }
}

fn key(text: &str, kind: EmbedKind) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(kind == EmbedKind::Query)]);
    hasher.update(text.as_bytes());
    *hasher.finalize().as_bytes()
}

impl Caller<'_> {
    /// One row per text, in the order of the texts.
    pub(super) async fn run(
        &self,
        texts: &[&str],
        tokens: &[usize],
        kind: EmbedKind,
    ) -> Result<(Vec<Vec<f32>>, Spent)> {
        let mut progress = Progress {
            caller: self,
            texts,
            kind,
            rows: vec![None; texts.len()],
            spent: Spent::default(),
            is_whole: false,
        };
        self.take_kept(&mut progress);
        let missing: Vec<usize> = (0..texts.len())
            .filter(|&at| progress.rows[at].is_none())
            .collect();
        let missing_texts: Vec<&str> = missing.iter().map(|&at| texts[at]).collect();
        let missing_tokens: Vec<usize> = missing.iter().map(|&at| tokens[at]).collect();
        let mut failure = None;
        let mut waiting = plan(&missing_tokens, self.limits).into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            // After a failure nothing new is begun; what is on its way has been paid for.
            while failure.is_none() && running.len() < self.limits.concurrency.max(1) {
                let Some(batch) = waiting.next() else { break };
                running.push(self.call(&missing_texts, batch, kind));
            }
            match running.next().await {
                None => break,
                Some(Ok((batch, rows, usage, cost))) => {
                    progress.spent.add_call(&usage, cost, self.price);
                    for (at, row) in batch.zip(rows) {
                        progress.rows[missing[at]] = Some(row);
                    }
                }
                Some(Err(error)) => failure = failure.or(Some(error)),
            }
        }
        drop(running);
        if let Some(error) = failure {
            return Err(error);
        }
        progress.is_whole = true;
        let spent = std::mem::take(&mut progress.spent);
        let rows = std::mem::take(&mut progress.rows);
        let rows: Option<Vec<Vec<f32>>> = rows.into_iter().collect();
        let rows = rows.ok_or_else(|| Error::internal("a batch of texts was planned and not asked"))?;
        Ok((rows, spent))
    }

    /// What an earlier call that failed had finished.
    fn take_kept(&self, progress: &mut Progress<'_>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.rows.is_empty() {
            return;
        }
        let mut found = false;
        for (text, row) in progress.texts.iter().zip(&mut progress.rows) {
            *row = kept.rows.get(&key(text, progress.kind)).cloned();
            found |= row.is_some();
        }
        // They were for this call, or its texts have changed.
        if found {
            progress.spent = std::mem::take(&mut *kept).spent;
        }
    }

    async fn call(
        &self,
        texts: &[&str],
        batch: Range<usize>,
        kind: EmbedKind,
    ) -> Result<(Range<usize>, Vec<Vec<f32>>, Usage, Option<Cost>)> {
        let model = self.client.info.model.as_str();
        let ask = Ask {
            model,
            texts: &texts[batch.clone()],
            kind,
            options: self.options,
        };
        let body = self.wire.encode(&ask)?;
        let reply = self
            .client
            .post(self.path, vec![], body, vendor_failure::error)
            .await?;
        let body = reply.body.read().await?;
        let vendor = self.client.http.vendor.name();
        let read = self
            .wire
            .decode(&body, self.options.number)
            .map_err(|error| answer::unreadable(vendor, "a list of vectors", &error))?;
        let Read { rows, usage, cost } = read;
        let mut rows = self.order(rows, batch.len(), self.options.number)?;
        for row in &mut rows {
            self.check(row)?;
        }
        Ok((batch, rows, usage, cost))
    }

    fn invalid(&self, message: String) -> Error {
        Error::InvalidResponse {
            provider: self.client.http.vendor.name().to_owned(),
            message,
        }
    }

    /// Rows where their indexes say, each place once.
    fn order(
        &self,
        rows: Vec<(Option<usize>, Row)>,
        count: usize,
        number: NumberFormat,
    ) -> Result<Vec<Vec<f32>>> {
        if rows.len() != count {
            return Err(self.invalid(format!("{} vectors for {count} texts", rows.len())));
        }
        let is_indexed = rows.iter().any(|(index, _)| index.is_some());
        let mut places: Vec<Option<Vec<f32>>> = vec![None; count];
        for (at, (index, row)) in rows.into_iter().enumerate() {
            let at = match (index, is_indexed) {
                (Some(index), _) => index,
                (None, false) => at,
                (None, true) => return Err(self.invalid("a vector without its index".to_owned())),
            };
            let Some(place) = places.get_mut(at) else {
                return Err(self.invalid(format!("a vector for text {at} of {count}")));
            };
            if place.is_some() {
                return Err(self.invalid(format!("two vectors for text {at}")));
            }
            let values = number.unpack(row);
            *place = Some(values.ok_or_else(|| {
                self.invalid(format!("a vector that is not in the format {}", number.word()))
            })?);
        }
        // As many rows as places, none twice: no place is empty.
        Ok(places.into_iter().flatten().collect())
    }

    /// The width, every number, and length 1 where that is promised.
    fn check(&self, row: &mut [f32]) -> Result<()> {
        if self.dimension != 0 && row.len() != self.dimension {
            return Err(self.invalid(format!(
                "a vector of {} numbers where {} were expected; set the dimension",
                row.len(),
                self.dimension
            )));
        }
        if row.iter().any(|value| !value.is_finite()) {
            return Err(self.invalid("a vector with a number that is none".to_owned()));
        }
        if !self.normalize {
            return Ok(());
        }
        let square: f64 = row
            .iter()
            .map(|value| f64::from(*value) * f64::from(*value))
            .sum();
        let length = square.sqrt();
        if length == 0.0 {
            return Err(self.invalid("a vector of nothing but noughts, which has no direction".to_owned()));
        }
        // A vendor's own rounding stays as it came.
        if (length - 1.0).abs() > 0.01 {
            for value in row {
                #[allow(clippy::cast_possible_truncation)] // back to the precision it came in
                let scaled = (f64::from(*value) / length) as f32;
                *value = scaled;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, plan};
    use proptest::prelude::*;

    #[test]
    fn batches_keep_to_count_and_tokens_and_a_long_text_goes_alone() {
        let limits = Limits {
            texts: 3,
            tokens: 10,
            concurrency: 1,
        };
        assert_eq!(plan(&[1, 1, 1, 1], limits), [0..3, 3..4]);
        assert_eq!(plan(&[6, 4, 1], limits), [0..2, 2..3]);
        assert_eq!(plan(&[1, 99, 1], limits), [0..1, 1..2, 2..3]);
        assert_eq!(plan(&[99], limits).len(), 1);
        assert!(plan(&[], limits).is_empty());
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_in_order(
            tokens in prop::collection::vec(0_usize..40, 0..60),
            texts in 0_usize..9,
            limit in 0_usize..60,
        ) {
            let limits = Limits { texts, tokens: limit, concurrency: 1 };
            let batches = plan(&tokens, limits);
            let mut next = 0;
            for batch in batches {
                prop_assert_eq!(batch.start, next);
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.len() <= texts.max(1));
                let sum: usize = tokens[batch.clone()].iter().sum();
                prop_assert!(batch.len() == 1 || sum <= limit);
                next = batch.end;
            }
            prop_assert_eq!(next, tokens.len());
        }
    }
}
