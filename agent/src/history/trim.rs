//! [`Trim`]: leaves the oldest turns out.

use super::{
    ContextPolicy, History,
    units::{Unit, UnitKind, units},
};
use crate::{RunContext, prompt::is_question};
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
}

/// Where it cuts, by places of the conversation: policies before this one may have left messages out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    /// Turns that begin before this place are left out.
    turns: usize,
    /// So are rounds of calls that begin before this one.
    rounds: usize,
    /// So many messages there were: fewer are another conversation.
    messages: usize,
}

/// The pieces of a history, what each costs, and which may not go.
struct Pieces {
    units: Vec<Unit>,
    tokens: Vec<u64>,
    /// Where each turn begins.
    starts: Vec<usize>,
    /// What the person said first, where that is kept.
    first: Option<usize>,
}

impl Pieces {
    fn is_left_out(&self, index: usize, cut: Cut) -> bool {
        let unit = &self.units[index];
        match unit.kind {
            UnitKind::Fixed => false,
            UnitKind::Question if self.first == Some(unit.at) => false,
            _ if self.starts[unit.turn] < cut.turns => true,
            UnitKind::Round => unit.at < cut.rounds && index + 1 < self.units.len(),
            _ => false,
        }
    }

    fn tokens_left(&self, cut: Cut) -> u64 {
        (0..self.units.len())
            .filter(|index| !self.is_left_out(*index, cut))
            .map(|index| self.tokens[index])
            .sum()
    }
}

#[async_trait]
impl ContextPolicy for Trim {
    async fn shape<'a>(&self, history: &mut History<'a>, _: &RunContext) -> Result<()> {
        let pieces = self.pieces(history);
        let (messages, around) = (history.whole().len(), history.tokens_around());
        let last_kept = pieces.starts.len().saturating_sub(self.keep_turns);
        let most = pieces.starts.get(last_kept).copied().unwrap_or_default();
        let known = history
            .recall(NAME)
            .and_then(|known| Cut::deserialize(known).ok())
            .filter(|known| known.messages <= messages)
            .unwrap_or_default();
        let mut cut = Cut {
            turns: known.turns.min(most),
            ..known
        };
        let left = |cut| around + pieces.tokens_left(cut);
        if left(cut) > self.tokens {
            let enough = self.tokens - self.tokens / 4;
            for start in pieces.starts.iter().take(last_kept + 1) {
                if *start > cut.turns && left(cut) > enough {
                    cut.turns = *start;
                }
            }
            if left(cut) > self.tokens {
                for unit in pieces.units.iter().filter(|unit| unit.kind == UnitKind::Round) {
                    if unit.at >= cut.turns && left(cut) > enough {
                        cut.rounds = cut.rounds.max(unit.at + 1);
                    }
                }
            }
        }
        if cut != known {
            cut.messages = messages;
            history.keep(NAME, serde_json::to_value(cut).unwrap_or_default());
        }
        let mut keeps = vec![true; history.entries().len()];
        for (index, unit) in pieces.units.iter().enumerate() {
            if pieces.is_left_out(index, cut) {
                keeps[unit.entries.clone()].fill(false);
            }
        }
        let mut keeps = keeps.into_iter();
        history.retain(|_| keeps.next().unwrap_or(true));
        Ok(())
    }
}

impl Trim {
    fn pieces(&self, history: &History<'_>) -> Pieces {
        let units = units(history.entries());
        let tokens = units
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
        let mut starts = vec![0; units.last().map_or(0, |unit| unit.turn + 1)];
        for unit in units.iter().rev().filter(|unit| unit.kind != UnitKind::Fixed) {
            starts[unit.turn] = unit.at;
        }
        let first = history.whole().iter().position(is_question);
        Pieces {
            units,
            tokens,
            starts,
            first: first.filter(|_| self.keeps_first),
        }
    }
}
