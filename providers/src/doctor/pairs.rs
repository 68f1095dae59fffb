//! Calls and their results: every call has one result directly behind its turn, and every result a call.

use super::{
    change::ChangeKind,
    draft::{Chart, Draft},
    ids::Renamer,
    parts::{result_text, server_call},
    rules::OrphanResults,
};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};
use stepwell_core::{Origin, Part, Role, ToolCall};

/// What a call is told whose result is not in the history.
const NO_RESULT: &str = "no result was recorded: the run was interrupted";

/// A call, and where its result is.
struct Call {
    draft: usize,
    part: usize,
    run: usize,
    new_id: Option<String>,
}

/// A result, and the call it answers.
struct Answer {
    draft: usize,
    part: usize,
    call: Option<usize>,
    is_duplicate: bool,
}

/// What the result of a call has to carry.
#[derive(Default)]
struct Label {
    id: String,
    name: String,
}

/// Who answers whom.
struct Plan {
    calls: Vec<Call>,
    /// Turn of the model → its calls.
    calls_of: Vec<Vec<usize>>,
    answers: Vec<Answer>,
    /// Place of a part → its answer.
    at: HashMap<(usize, usize), usize>,
    /// Turns whose results stand where they should.
    is_settled: Vec<bool>,
}

impl Chart<'_, '_> {
    /// Gives every call its result and every result its place.
    pub(super) fn pair_results(&mut self) {
        let has_any = self.drafts.iter().any(|draft| {
            draft
                .parts
                .iter()
                .any(|part| matches!(part, Part::ToolCall(_) | Part::ToolResult(_)))
        });
        if !has_any {
            return;
        }
        let runs = self.runs();
        let mut plan = self.plan(&runs);
        let mut renamer = Renamer::new(self.rules.ids);
        for at in 0..plan.calls.len() {
            let (draft, part) = (plan.calls[at].draft, plan.calls[at].part);
            let Part::ToolCall(call) = &self.drafts[draft].parts[part] else {
                continue;
            };
            plan.calls[at].new_id = renamer.rename(&call.id);
            if plan.calls[at].new_id.is_some() {
                let index = self.drafts[draft].index;
                self.change(index, ChangeKind::IdChanged, "not of the wire's form, or taken");
            }
        }
        let is_sound = plan.is_settled.iter().all(|settled| *settled)
            && plan.calls.iter().all(|call| call.new_id.is_none())
            && plan.answers.iter().all(|answer| {
                answer
                    .call
                    .is_some_and(|call| self.is_labelled(answer, &plan.calls[call]))
            });
        if !is_sound {
            self.rebuild(&runs, &plan);
            self.drop_empty();
        }
    }

    /// Whether a result carries its tool's name, or need not.
    fn is_labelled(&self, answer: &Answer, call: &Call) -> bool {
        !self.rules.results_named
            || match (
                &self.drafts[answer.draft].parts[answer.part],
                &self.drafts[call.draft].parts[call.part],
            ) {
                (Part::ToolResult(result), Part::ToolCall(call)) => result.name == call.name,
                _ => true,
            }
    }

    fn plan(&self, runs: &[Option<usize>]) -> Plan {
        let mut calls: Vec<Call> = Vec::new();
        let mut answers: Vec<Answer> = Vec::new();
        let mut open: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut known: HashSet<&str> = HashSet::new();
        let name = |call: &Call| match &self.drafts[call.draft].parts[call.part] {
            Part::ToolCall(call) => call.name.as_str(),
            _ => "",
        };
        for (at, draft) in self.drafts.iter().enumerate() {
            for (place, part) in draft.parts.iter().enumerate() {
                match (part, runs[at]) {
                    (Part::ToolCall(call), Some(run)) if !call.is_provider_executed => {
                        open.entry(&call.id).or_default().push(calls.len());
                        known.insert(&call.id);
                        calls.push(Call {
                            draft: at,
                            part: place,
                            run,
                            new_id: None,
                        });
                    }
                    (Part::ToolResult(result), run) => {
                        if run.is_some() && server_call(&draft.parts, &result.call_id).is_some() {
                            continue; // of a tool of the vendor's own
                        }
                        // Of the latest turn that waits for it: the first call, rather one of the same tool.
                        let call = open.get_mut(result.call_id.as_str()).and_then(|waiting| {
                            let run = calls[*waiting.last()?].run;
                            let first = waiting.iter().position(|call| calls[*call].run == run)?;
                            let place = waiting[first..]
                                .iter()
                                .position(|call| name(&calls[*call]) == result.name)
                                .unwrap_or(0);
                            Some(waiting.remove(first + place))
                        });
                        answers.push(Answer {
                            draft: at,
                            part: place,
                            call,
                            is_duplicate: false,
                        });
                    }
                    _ => {}
                }
            }
        }
        // A result may stand before its call.
        for answer in &mut answers {
            if answer.call.is_some() {
                continue;
            }
            let Part::ToolResult(result) = &self.drafts[answer.draft].parts[answer.part] else {
                continue;
            };
            let id = result.call_id.as_str();
            answer.call = open
                .get_mut(id)
                .filter(|waiting| !waiting.is_empty())
                .map(|waiting| waiting.remove(0));
            answer.is_duplicate = answer.call.is_none() && known.contains(id);
        }
        let at = answers
            .iter()
            .enumerate()
            .map(|(number, answer)| ((answer.draft, answer.part), number))
            .collect();
        let count = runs.iter().flatten().max().map_or(0, |last| last + 1);
        let mut calls_of: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (number, call) in calls.iter().enumerate() {
            calls_of[call.run].push(number);
        }
        let mut plan = Plan {
            calls,
            calls_of,
            answers,
            at,
            is_settled: Vec::new(),
        };
        plan.is_settled = self.settled(runs, &plan);
        plan
    }

    /// For each turn of the model, whether its results stand directly behind it, and in the order the wire wants.
    fn settled(&self, runs: &[Option<usize>], plan: &Plan) -> Vec<bool> {
        let mut settled = vec![true; plan.calls_of.len()];
        for (at, run) in runs.iter().enumerate() {
            let Some(run) = *run else { continue };
            if plan.calls_of[run].is_empty() || runs.get(at + 1).copied().flatten() == Some(run) {
                continue;
            }
            let mut found = Vec::new();
            'head: for next in at + 1..self.drafts.len() {
                let draft = &self.drafts[next];
                if draft.is_assistant() || draft.is_system() {
                    break;
                }
                for (place, part) in draft.parts.iter().enumerate() {
                    match plan
                        .at
                        .get(&(next, place))
                        .map(|number| plan.answers[*number].call)
                    {
                        Some(Some(call)) if plan.calls[call].run == run => found.push(call),
                        // It will be left out.
                        Some(None) if self.rules.orphan_results == OrphanResults::Drop => {}
                        _ if matches!(part, Part::Data(_)) => {}
                        _ => break 'head,
                    }
                }
            }
            settled[run] = if self.rules.results_in_order {
                found == plan.calls_of[run]
            } else {
                found.len() == plan.calls_of[run].len()
            };
        }
        settled
    }

    /// What the results of a call are told of it.
    fn labels(&self, plan: &Plan) -> Vec<Label> {
        plan.calls
            .iter()
            .map(|call| match &self.drafts[call.draft].parts[call.part] {
                Part::ToolCall(part) => Label {
                    id: call.new_id.clone().unwrap_or_else(|| part.id.clone()),
                    name: part.name.clone(),
                },
                _ => Label::default(),
            })
            .collect()
    }

    fn rebuild(&mut self, runs: &[Option<usize>], plan: &Plan) {
        let labels = self.labels(plan);
        // Results on the move are taken before the drafts are.
        let mut moved: HashMap<usize, Part> = plan
            .answers
            .iter()
            .filter_map(|answer| {
                let call = answer.call?;
                (!plan.is_settled[plan.calls[call].run])
                    .then(|| (call, self.drafts[answer.draft].parts[answer.part].clone()))
            })
            .collect();
        let calls_at: HashMap<(usize, usize), usize> = plan
            .calls
            .iter()
            .enumerate()
            .map(|(number, call)| ((call.draft, call.part), number))
            .collect();
        let drafts = std::mem::take(&mut self.drafts);
        let mut rebuilt = Vec::with_capacity(drafts.len());
        for (at, mut draft) in drafts.into_iter().enumerate() {
            self.edit(at, &mut draft, plan, &calls_at, &labels);
            let index = draft.index;
            rebuilt.push(draft);
            let Some(run) = runs[at] else { continue };
            let is_last = runs.get(at + 1).copied().flatten() != Some(run);
            if is_last && !plan.is_settled[run] {
                let results = plan.calls_of[run]
                    .iter()
                    .map(|call| self.result_of(index, moved.remove(call), &labels[*call]))
                    .collect();
                rebuilt.push(Draft::added(index, Role::Tool, results));
            }
        }
        self.drafts = rebuilt;
    }

    /// New ids, and no results that are elsewhere or nowhere now.
    fn edit(
        &mut self,
        at: usize,
        draft: &mut Draft<'_>,
        plan: &Plan,
        calls_at: &HashMap<(usize, usize), usize>,
        labels: &[Label],
    ) {
        let is_changed = draft.parts.iter().enumerate().any(|(place, part)| {
            match plan.at.get(&(at, place)).map(|answer| plan.answers[*answer].call) {
                Some(Some(call)) => {
                    !plan.is_settled[plan.calls[call].run] || self.is_mislabelled(part, &labels[call])
                }
                Some(None) => true,
                None => calls_at
                    .get(&(at, place))
                    .is_some_and(|call| plan.calls[*call].new_id.is_some()),
            }
        });
        if !is_changed {
            return;
        }
        let mut kept = Vec::with_capacity(draft.parts.len());
        for (place, mut part) in draft.take_parts().into_iter().enumerate() {
            if let (Some(call), Part::ToolCall(part)) = (calls_at.get(&(at, place)), &mut part) {
                part.id.clone_from(&labels[*call].id);
            }
            let Some(answer) = plan.at.get(&(at, place)).map(|answer| &plan.answers[*answer]) else {
                kept.push(part);
                continue;
            };
            match answer.call {
                Some(call) if plan.is_settled[plan.calls[call].run] => {
                    self.address(draft.index, &mut part, &labels[call]);
                    kept.push(part);
                }
                Some(_) => self.change(draft.index, ChangeKind::ResultMoved, "behind its call"),
                None if answer.is_duplicate => {
                    self.change(draft.index, ChangeKind::DuplicateDropped, "its call has a result");
                }
                None => {
                    let text = match (&part, self.rules.orphan_results) {
                        (Part::ToolResult(result), OrphanResults::AsText) => result_text(result),
                        _ => None,
                    };
                    if let Some(text) = text {
                        self.change(draft.index, ChangeKind::ResultAsText, "its call is not there");
                        kept.push(text);
                    } else {
                        self.change(draft.index, ChangeKind::ResultDropped, "its call is not there");
                    }
                }
            }
        }
        draft.parts = Cow::Owned(kept);
    }

    /// Whether a result does not carry the id, or the name where the wire wants one, of its call.
    fn is_mislabelled(&self, part: &Part, label: &Label) -> bool {
        matches!(part, Part::ToolResult(result) if result.call_id != label.id
            || (self.rules.results_named && result.name != label.name))
    }

    /// Writes the call's id and name on its result.
    fn address(&mut self, index: usize, part: &mut Part, label: &Label) {
        let Part::ToolResult(result) = part else { return };
        result.call_id.clone_from(&label.id);
        if self.rules.results_named && result.name != label.name {
            result.name.clone_from(&label.name);
            self.change(index, ChangeKind::ResultNamed, "as its call");
        }
    }

    /// The result of a call, or one of ours where there is none.
    fn result_of(&mut self, index: usize, result: Option<Part>, label: &Label) -> Part {
        if let Some(mut part) = result {
            self.address(index, &mut part, label);
            return part;
        }
        self.change(index, ChangeKind::CallClosed, "no result was recorded");
        let call = ToolCall::new(label.id.as_str(), label.name.as_str(), Value::Null);
        let said = vec![Part::text(NO_RESULT, Origin::Tool)];
        Part::tool_result(&call, said, true, Origin::Tool)
    }
}
