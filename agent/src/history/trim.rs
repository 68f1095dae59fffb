//! [`Trim`]: leaves the oldest turns out.

use super::{
    ContextPolicy, History,
    units::{Unit, UnitKind, units},
};
use crate::RunContext;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stepwell_core::{HeuristicTokens, Result, TokenCounter};

/// The name it keeps its cut under.
const NAME: &str = "trim";

/// Leaves the oldest turns out once a request is longer than so many tokens.
///
/// It cuts down to three quarters of the bound and keeps the cut until the request is too long again, so that a vendor's
/// prompt cache finds the same beginning in most turns. System messages stay. The last turns stay; where they alone are
/// too long, the oldest rounds of tool calls in them go, but never the last. What is left may still be over the bound:
/// the vendor decides then.
#[derive(Clone, Debug)]
pub struct Trim {
    tokens: u64,
    keep_turns: usize,
    keeps_first: bool,
    counter: Arc<dyn TokenCounter>,
}

impl Trim {
    /// To so many tokens, instructions and tools counted.
    pub fn to_tokens(tokens: u64) -> Self {
        Self {
            tokens,
            keep_turns: 1,
            keeps_first: false,
            counter: Arc::new(HeuristicTokens),
        }
    }

    /// The last turns that stay, each from a person's message on; 1, and at least that.
    pub fn keep_turns(mut self, turns: usize) -> Self {
        self.keep_turns = turns.max(1);
        self
    }

    /// Keeps what the person said first: it often says what all of it is about.
    pub fn keep_first(mut self) -> Self {
        self.keeps_first = true;
        self
    }

    /// Counts with the model's own tokeniser instead of the estimate.
    pub fn counter(mut self, counter: Arc<dyn TokenCounter>) -> Self {
        self.counter = counter;
        self
    }

    fn is_left_out(&self, unit: &Unit, cut: Cut, is_last: bool) -> bool {
        match unit.kind {
            UnitKind::Fixed => false,
            UnitKind::Question if self.keeps_first && unit.turn == 0 => false,
            _ if unit.turn < cut.turns => true,
            UnitKind::Round => unit.at < cut.rounds && !is_last,
            _ => false,
        }
    }

    fn tokens_left(&self, units: &[Unit], counts: &[u64], cut: Cut) -> u64 {
        let last = units.len().saturating_sub(1);
        units
            .iter()
            .zip(counts)
            .enumerate()
            .filter(|(index, (unit, _))| !self.is_left_out(unit, cut, *index == last))
            .map(|(_, (_, count))| count)
            .sum()
    }
}

/// Where it cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    /// So many turns are left out.
    turns: usize,
    /// So are rounds of calls that begin before this place of the conversation.
    rounds: usize,
    /// So many messages there were: fewer are another conversation.
    messages: usize,
}

#[async_trait]
impl ContextPolicy for Trim {
    async fn shape<'a>(&self, history: &mut History<'a>, _: &RunContext) -> Result<()> {
        let units = units(history.entries());
        let turns = units.last().map_or(0, |unit| unit.turn + 1);
        let messages = history.whole().len();
        let counts: Vec<u64> = units
            .iter()
            .map(|unit| {
                let entries = &history.entries()[unit.entries.clone()];
                let tokens: usize = entries
                    .iter()
                    .map(|entry| self.counter.count_message(&entry.message))
                    .sum();
                tokens as u64
            })
            .collect();
        let known = history
            .recall(NAME)
            .and_then(|known| Cut::deserialize(known).ok())
            .filter(|known| known.messages <= messages && known.turns < turns.max(1))
            .unwrap_or_default();
        let mut cut = known;
        let left = |cut| history.tokens_around() + self.tokens_left(&units, &counts, cut);
        if left(cut) > self.tokens {
            let enough = self.tokens - self.tokens / 4;
            while left(cut) > enough && cut.turns + self.keep_turns < turns {
                cut.turns += 1;
            }
            if left(cut) > self.tokens {
                for unit in units.iter().filter(|unit| unit.kind == UnitKind::Round) {
                    if unit.turn >= cut.turns && left(cut) > enough {
                        cut.rounds = cut.rounds.max(unit.at + 1);
                    }
                }
            }
        }
        if cut != known {
            cut.messages = messages;
            history.keep(NAME, serde_json::to_value(cut).unwrap_or_default());
        }
        let last = units.len().saturating_sub(1);
        let mut keeps = vec![true; history.entries().len()];
        for (index, unit) in units.iter().enumerate() {
            if self.is_left_out(unit, cut, index == last) {
                keeps[unit.entries.clone()].fill(false);
            }
        }
        let mut keeps = keeps.into_iter();
        history.retain(|_| keeps.next().unwrap_or(true));
        Ok(())
    }
}
