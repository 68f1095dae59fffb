//! Turns as wholes: where words of the program stand, whose turn is first, last and beside which.

use super::{
    change::ChangeKind,
    draft::{Chart, Draft},
    rules::{Prefill, SystemPlace, Turns},
};
use std::{borrow::Cow, collections::HashSet};
use stepwell_core::{Origin, Part, Role};

/// Said for the user where the history begins with the model.
const BEFORE_FIRST: &str = "(The conversation began earlier.)";
/// Said for the user where the history ends with the model, and the model does not go on by itself.
const GO_ON: &str = "Go on.";
/// Said for the model where a user speaks directly after results.
pub(crate) const NOTED: &str = "Noted.";

impl Chart<'_, '_> {
    /// Puts words of the program where the wire wants them.
    pub(super) fn place_system(&mut self) {
        if self.rules.system == SystemPlace::InPlace {
            return;
        }
        let head = self.drafts.iter().take_while(|draft| draft.is_system()).count();
        let late: Vec<usize> = self.drafts[head..]
            .iter()
            .filter(|draft| draft.is_system())
            .map(|draft| draft.index)
            .collect();
        if !late.is_empty() {
            for index in late {
                self.change(index, ChangeKind::SystemMoved, "it stood between the turns");
            }
            // Stable: words of the program keep their order, and so do the turns.
            self.drafts.sort_by_key(|draft| !draft.is_system());
        }
        let count = self.drafts.iter().take_while(|draft| draft.is_system()).count();
        if self.rules.system == SystemPlace::First && count > 1 {
            let mut rest = self.drafts.split_off(1);
            let more: Vec<Draft<'_>> = rest.drain(..count - 1).collect();
            for mut draft in more {
                self.change(draft.index, ChangeKind::TurnsJoined, "words of the program");
                join(&mut self.drafts[0], &mut draft);
            }
            self.drafts.append(&mut rest);
        }
    }

    /// Leaves out calls of the vendor's own tools that have no result block, and such blocks without their call.
    /// A call at the very end stays: the vendor paused there, and goes on.
    pub(super) fn pair_server_results(&mut self) {
        if !self.rules.server_results {
            return;
        }
        let runs = self.runs();
        let paused = self.paused_calls();
        let mut calls: HashSet<(usize, String)> = HashSet::new();
        let mut pairs: HashSet<(usize, String)> = HashSet::new();
        let mut has_any = false;
        for (draft, run) in self.drafts.iter().zip(&runs) {
            for part in draft.parts.iter() {
                match (part, run) {
                    (Part::ToolCall(call), Some(run)) if call.is_provider_executed => {
                        has_any = true;
                        calls.insert((*run, call.id.clone()));
                    }
                    (part, run) => {
                        if let Some(id) = server_result_id(part) {
                            has_any = true;
                            let key = run.map(|run| (run, id.to_owned()));
                            if let Some(key) = key.filter(|key| calls.contains(key)) {
                                pairs.insert(key);
                            }
                        }
                    }
                }
            }
        }
        if !has_any {
            return;
        }
        let mut dropped = Vec::new();
        // The first call and the first result of an id stay; what comes twice is as good as alone.
        let mut seen: HashSet<(bool, usize, String)> = HashSet::new();
        for (draft, run) in self.drafts.iter_mut().zip(&runs) {
            let mut keep = |part: &Part| -> bool {
                let (id, is_result) = match part {
                    Part::ToolCall(call) if call.is_provider_executed => (call.id.as_str(), false),
                    part => match server_result_id(part) {
                        Some(id) => (id, true),
                        None => return true,
                    },
                };
                let Some(run) = *run else { return false };
                let is_paired = pairs.contains(&(run, id.to_owned()));
                let is_paused = !is_result && paused.contains(id);
                let is_ready = !is_result || seen.contains(&(false, run, id.to_owned()));
                (is_paired || is_paused) && is_ready && seen.insert((is_result, run, id.to_owned()))
            };
            let keeps: Vec<bool> = draft.parts.iter().map(&mut keep).collect();
            if keeps.iter().all(|keep| *keep) {
                continue;
            }
            let parts = draft.take_parts();
            let before = parts.len();
            let kept: Vec<Part> = parts
                .into_iter()
                .zip(keeps)
                .filter_map(|(part, keep)| keep.then_some(part))
                .collect();
            dropped.extend(std::iter::repeat_n(draft.index, before - kept.len()));
            draft.parts = Cow::Owned(kept);
        }
        for index in dropped {
            self.change(index, ChangeKind::ServerCallDropped, "one half without its other");
        }
        self.drop_empty();
    }

    /// The ids of the vendor's calls behind which nothing more was said, at the very end.
    fn paused_calls(&self) -> HashSet<String> {
        let Some(last) = self.drafts.last().filter(|draft| draft.is_assistant()) else {
            return HashSet::new();
        };
        let tail = last.parts.iter().rev().take_while(|part| match part {
            Part::ToolCall(call) => call.is_provider_executed,
            Part::Data(_) => true,
            part => server_result_id(part).is_some(),
        });
        tail.filter_map(|part| match part {
            Part::ToolCall(call) => Some(call.id.clone()),
            _ => None,
        })
        .collect()
    }

    /// Leaves out reasoning that nothing of its turn comes behind.
    pub(super) fn drop_dangling_reasoning(&mut self) {
        if !self.rules.reasoning_leads {
            return;
        }
        let runs = self.runs();
        let mut dropped = Vec::new();
        let mut done = None;
        for at in (0..self.drafts.len()).rev() {
            let Some(run) = runs[at] else { continue };
            if done == Some(run) {
                continue;
            }
            let parts = &self.drafts[at].parts;
            // Media are shown beside what made them, or not at all.
            let is_sent = |part: &Part| !matches!(part, Part::Data(_) | Part::Media(_));
            let tail = parts
                .iter()
                .rev()
                .take_while(|part| !is_sent(part) || matches!(part, Part::Reasoning(_)))
                .count();
            if tail < parts.len() {
                done = Some(run);
            }
            let count = parts.iter().rev().take(tail).filter(|part| is_sent(part)).count();
            if count == 0 {
                continue;
            }
            let index = self.drafts[at].index;
            let mut parts = self.drafts[at].take_parts();
            let from = parts.len() - tail;
            let rest = parts.split_off(from);
            parts.extend(rest.into_iter().filter(|part| !is_sent(part)));
            self.drafts[at].parts = Cow::Owned(parts);
            dropped.extend(std::iter::repeat_n(index, count));
        }
        for index in dropped.into_iter().rev() {
            self.change(
                index,
                ChangeKind::ReasoningDropped,
                "nothing of its turn comes behind it",
            );
        }
        self.drop_empty();
    }

    /// Leaves out turns of the model that are reasoning alone: it was cut before it said anything.
    pub(super) fn drop_lone_reasoning(&mut self) {
        if self.rules.reasoning_alone {
            return;
        }
        let runs = self.runs();
        let mut says: HashSet<usize> = HashSet::new();
        for (draft, run) in self.drafts.iter().zip(&runs) {
            let is_said = |part: &Part| !matches!(part, Part::Data(_) | Part::Reasoning(_));
            if let Some(run) = run.filter(|_| draft.parts.iter().any(is_said)) {
                says.insert(run);
            }
        }
        let mut dropped = Vec::new();
        for (draft, run) in self.drafts.iter_mut().zip(&runs) {
            let is_thought = |part: &Part| matches!(part, Part::Reasoning(_));
            let is_lone = run.is_some_and(|run| !says.contains(&run));
            if !is_lone || !draft.parts.iter().any(is_thought) {
                continue;
            }
            let mut parts = draft.take_parts();
            let before = parts.len();
            parts.retain(|part| !is_thought(part));
            dropped.extend(std::iter::repeat_n(draft.index, before - parts.len()));
            draft.parts = Cow::Owned(parts);
        }
        for index in dropped {
            self.change(index, ChangeKind::ReasoningDropped, "nothing else was said");
        }
        self.drop_empty();
    }

    /// Joins and adds turns, so that roles stand in the order the wire wants.
    pub(super) fn order_turns(&mut self) {
        if !self.rules.user_after_results {
            self.part_results_from_users();
        }
        self.end_turns();
        if self.rules.turns == Turns::Alternating {
            self.join_neighbours();
        }
        let first = self.drafts.iter().position(|draft| !draft.is_system());
        if let Some(at) = first
            && !self.rules.assistant_first
            && self.drafts[at].is_assistant()
        {
            let index = self.drafts[at].index;
            self.change(index, ChangeKind::TurnAdded, "of the user, before the first");
            let words = vec![Part::text(BEFORE_FIRST, Origin::System)];
            self.drafts.insert(at, Draft::added(index, Role::User, words));
        }
    }

    /// What the wire says about a history that ends with the model.
    fn end_turns(&mut self) {
        if self.rules.prefill == Prefill::Trimmed {
            self.trim_end();
        }
        if self.rules.prefill == Prefill::Refused
            && let Some(last) = self.drafts.last().filter(|draft| draft.is_assistant())
            && !ends_in_a_pause(last)
        {
            let index = last.index;
            self.change(index, ChangeKind::TurnAdded, "of the user, behind the last");
            let words = vec![Part::text(GO_ON, Origin::System)];
            self.drafts.push(Draft::added(index, Role::User, words));
        }
    }

    fn trim_end(&mut self) {
        let Some(last) = self.drafts.last_mut().filter(|draft| draft.is_assistant()) else {
            return;
        };
        let place = last.parts.iter().rposition(|part| !matches!(part, Part::Data(_)));
        let Some(place) = place else { return };
        let Part::Text(text) = &last.parts[place] else {
            return;
        };
        let length = text.text.trim_end().len();
        if length == text.text.len() {
            return;
        }
        let index = last.index;
        let mut parts = last.take_parts();
        if let Part::Text(text) = &mut parts[place] {
            text.text.truncate(length);
        }
        if length == 0 {
            parts.remove(place);
        }
        last.parts = Cow::Owned(parts);
        self.change(index, ChangeKind::BlanksTrimmed, "text");
        self.drop_empty();
        if length == 0 {
            self.trim_end(); // as often as there are texts of blanks alone
        }
    }

    /// Puts a word of the model between results and a user who speaks directly after them.
    fn part_results_from_users(&mut self) {
        let has_results = |draft: &Draft<'_>| {
            !draft.is_assistant() && draft.parts.iter().any(|part| matches!(part, Part::ToolResult(_)))
        };
        let has_words = |draft: &Draft<'_>| {
            !draft.is_assistant()
                && !draft.is_system()
                && draft
                    .parts
                    .iter()
                    .any(|part| !matches!(part, Part::ToolResult(_) | Part::Data(_)))
        };
        let needs = (0..self.drafts.len()).any(|at| {
            has_results(&self.drafts[at])
                && (has_words(&self.drafts[at])
                    || self
                        .drafts
                        .get(at + 1)
                        .is_some_and(|next| has_words(next) && !has_results(next)))
        });
        if !needs {
            return;
        }
        let drafts = std::mem::take(&mut self.drafts);
        let mut parted: Vec<Draft<'_>> = Vec::with_capacity(drafts.len() + 1);
        for mut draft in drafts {
            let index = draft.index;
            // Results come first in what the pairing left.
            let words = (has_results(&draft) && has_words(&draft)).then(|| {
                let (results, words): (Vec<Part>, Vec<Part>) = draft
                    .take_parts()
                    .into_iter()
                    .partition(|part| matches!(part, Part::ToolResult(_)));
                draft.parts = Cow::Owned(results);
                draft.role = Role::Tool;
                words
            });
            let follows = parted.last().is_some_and(has_results);
            if follows && has_words(&draft) {
                self.change(index, ChangeKind::TurnAdded, "of the model, behind results");
                let said = vec![Part::text(NOTED, Origin::System)];
                parted.push(Draft::added(index, Role::Assistant, said));
            }
            parted.push(draft);
            if let Some(words) = words {
                self.change(index, ChangeKind::TurnAdded, "of the model, behind results");
                let said = vec![Part::text(NOTED, Origin::System)];
                parted.push(Draft::added(index, Role::Assistant, said));
                parted.push(Draft::added(index, Role::User, words));
            }
        }
        self.drafts = parted;
    }

    fn join_neighbours(&mut self) {
        let joins = |one: &Draft<'_>, next: &Draft<'_>| {
            let has_results =
                |draft: &Draft<'_>| draft.parts.iter().any(|part| matches!(part, Part::ToolResult(_)));
            // Results are a turn of their own; words behind them are the user's.
            let ends_in_words = |draft: &Draft<'_>| {
                let last = draft.parts.iter().rfind(|part| !matches!(part, Part::Data(_)));
                !matches!(last, Some(Part::ToolResult(_)))
            };
            !one.is_system()
                && !next.is_system()
                && one.is_assistant() == next.is_assistant()
                && (has_results(one) == has_results(next) || (!has_results(next) && ends_in_words(one)))
        };
        if !self.drafts.windows(2).any(|pair| joins(&pair[0], &pair[1])) {
            return;
        }
        let drafts = std::mem::take(&mut self.drafts);
        let mut joined: Vec<Draft<'_>> = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            match joined.last_mut() {
                Some(last) if joins(last, &draft) => {
                    join(last, &mut draft);
                    let index = draft.index;
                    self.change(index, ChangeKind::TurnsJoined, "neighbours of one role");
                }
                _ => joined.push(draft),
            }
        }
        self.drafts = joined;
    }
}

/// Adds the parts of the next; encoders join texts as they are, so a line is left between them.
fn join(one: &mut Draft<'_>, next: &mut Draft<'_>) {
    let mut parts = one.take_parts();
    if let (Some(Part::Text(last)), Some(Part::Text(_))) = (parts.last_mut(), next.parts.first()) {
        last.text.push_str("\n\n");
    }
    parts.append(&mut next.take_parts());
    one.parts = Cow::Owned(parts);
}

/// The call's id of a block with the result of a tool that the vendor ran.
fn server_result_id(part: &Part) -> Option<&str> {
    let Part::Unknown(part) = part else { return None };
    part.value
        .get("type")
        .and_then(|kind| kind.as_str())
        .filter(|kind| kind.ends_with("_tool_result"))?;
    part.value.get("tool_use_id")?.as_str()
}

/// Whether a turn of the model ends where the vendor paused to go on by itself.
fn ends_in_a_pause(draft: &Draft<'_>) -> bool {
    let last = draft.parts.iter().rfind(|part| !matches!(part, Part::Data(_)));
    match last {
        Some(Part::ToolCall(call)) => call.is_provider_executed,
        Some(Part::Unknown(_)) => true,
        _ => false,
    }
}
