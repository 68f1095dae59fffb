//! [`units`]: the pieces of a history that stay whole, and the turns they make.

use super::HistoryEntry;
use crate::prompt::is_question;
use std::{collections::HashSet, ops::Range};
use stepwell_core::{Message, Part, Role};

/// What a piece of a history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitKind {
    /// Words of the program, or what a policy put in.
    Fixed,
    /// Words of a person: a turn begins.
    Question,
    /// Calls with all their results.
    Round,
    /// Anything else.
    Other,
}

/// A piece of a history that is sent whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its entries.
    pub(super) entries: Range<usize>,
    /// The place of its first message in the conversation; of a fixed one, 0.
    pub(super) at: usize,
    pub(super) kind: UnitKind,
    /// The turn it belongs to, from 0: what comes before the first question belongs to the first.
    pub(super) turn: usize,
}

/// The pieces in order.
pub(super) fn units(entries: &[HistoryEntry<'_>]) -> Vec<Unit> {
    let mut units = Vec::new();
    let (mut turn, mut has_question) = (0, false);
    let mut index = 0;
    while index < entries.len() {
        let entry = &entries[index];
        let mut end = index + 1;
        let kind = match (entry.at, entry.message.role) {
            (None, _) | (_, Role::System | Role::Developer) => UnitKind::Fixed,
            _ if is_question(&entry.message) => {
                turn += usize::from(has_question);
                has_question = true;
                UnitKind::Question
            }
            (_, Role::Assistant) => {
                end = end_of_round(entries, index);
                if end > index + 1 {
                    UnitKind::Round
                } else {
                    UnitKind::Other
                }
            }
            _ => UnitKind::Other,
        };
        units.push(Unit {
            entries: index..end,
            at: entry.at.unwrap_or(0),
            kind,
            turn,
        });
        index = end;
    }
    units
}

/// Behind the last message that has a result for a call of this one.
fn end_of_round(entries: &[HistoryEntry<'_>], index: usize) -> usize {
    let calls: HashSet<&str> = entries[index]
        .message
        .tool_calls()
        .map(|call| call.id.as_str())
        .collect();
    let mut end = index + 1;
    if calls.is_empty() {
        return end;
    }
    for (at, entry) in entries.iter().enumerate().skip(index + 1) {
        if entry.message.role == Role::Assistant {
            break;
        }
        if answers(&entry.message, &calls) {
            end = at + 1;
        }
    }
    end
}

fn answers(message: &Message, calls: &HashSet<&str>) -> bool {
    message.parts.iter().any(|part| match part {
        Part::ToolResult(result) => calls.contains(result.call_id.as_str()),
        _ => false,
    })
}
