//! [`Graph::replay_file`]: runs the nodes of a recorded run again, with models, tools and memoised steps answered from the
//! recording, and compares what it writes with what was recorded.

use super::{Recording, RunFile, flat::flatten, one_run::OneRun};
use crate::{
    Compatibility, Graph, Outcome, State,
    journal::{AnswerBody, EditBody, EventBody, ForkBody, InputBody, StartBody, TaskRef, open, read},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug, Display},
    sync::Arc,
};
use stepwell_core::{
    Error, Result,
    store::{RecordKind, RunRecord, RunStatus, RunStore},
};

/// A place where a replayed run went another way than the recorded one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Divergence {
    /// The recorded record, where there is one.
    pub seq: Option<u64>,
    /// Where in nested runs, as the ids of questions begin: `outer.1/`; empty in the outermost run.
    pub path: String,
    /// The step; 0 for the run itself.
    pub step: u32,
    /// The node, where it is one's.
    pub node: Option<String>,
    /// One sentence. It names places and keys, never values.
    pub what: String,
    /// What was recorded there.
    pub recorded: Option<Value>,
    /// What the replay came to.
    pub replayed: Option<Value>,
}

impl Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.step > 0 {
            write!(f, "step {}", self.step)?;
        } else {
            f.write_str("the run")?;
        }
        if let Some(node) = &self.node {
            write!(f, ", node `{}{node}`", self.path)?;
        } else if !self.path.is_empty() {
            write!(f, " of `{}`", self.path)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// How a replay went.
#[non_exhaustive]
pub struct ReplayReport<S: State> {
    /// How the replayed run ended.
    pub outcome: Outcome<S>,
    /// Records that were compared, runs inside nodes included.
    pub compared: usize,
    /// Where it went another way, the first first; empty where it is the same bit for bit.
    pub divergences: Vec<Divergence>,
}

impl<S: State> ReplayReport<S> {
    /// Whether every compared record is the same bit for bit.
    pub fn is_same(&self) -> bool {
        self.divergences.is_empty()
    }

    /// Where it first went another way.
    pub fn first_divergence(&self) -> Option<&Divergence> {
        self.divergences.first()
    }
}

impl<S: State> Debug for ReplayReport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayReport")
            .field("status", &self.outcome.status)
            .field("compared", &self.compared)
            .field("divergences", &self.divergences)
            .finish_non_exhaustive()
    }
}

/// What was given to the run from outside, in order.
enum Given<S: State> {
    Resume {
        answers: Vec<(String, Value)>,
        updates: Vec<S::Update>,
        at_ms: u64,
    },
    Turn {
        update: Box<S::Update>,
        at_ms: u64,
    },
}

impl<S: State> Graph<S> {
    /// Runs a recorded run again without calling anything: the nodes run, and what models, tools and
    /// [`crate::RunContext::step`] gave is given from the recording. Nothing is stored. The records the run writes are
    /// compared with the recorded ones, body for body; what is left out of the comparison is what chance decides (times,
    /// which task of a step ended first, where a snapshot stands) and runs inside tool calls, whose recorded results stand
    /// for them.
    ///
    /// A node that calls something without `step` does so again: wrap such calls, they are then also safe against crashes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a run of another graph, one whose beginning was pruned or one whose place was changed from
    /// outside; [`Error::Damaged`]. That the run fails is no error: see [`ReplayReport::outcome`].
    pub async fn replay_file(&self, file: &RunFile) -> Result<ReplayReport<S>> {
        let recording = Arc::new(Recording::of(file.records())?);
        let (state, given, began_ms) = self.script(file)?;
        let run_id = file.head().run_id.clone();
        let store = Arc::new(OneRun::new(&run_id, self.name()));
        let steps = u32::try_from(file.records().len()).unwrap_or(u32::MAX);
        let prepare = |mut run: crate::Run<S>, at_ms: u64| {
            run.options.recording = Some(Arc::clone(&recording));
            run.store(Arc::clone(&store) as Arc<dyn RunStore>)
                .step_limit(steps.saturating_add(100))
                .clock(move || at_ms)
        };
        let mut outcome = prepare(self.run(state).run_id(&run_id), began_ms).outcome().await;
        for given in given {
            let run = match given {
                Given::Turn { update, at_ms } => prepare(self.turn(&run_id, *update), at_ms),
                Given::Resume { .. } if outcome.status != RunStatus::Paused => continue,
                Given::Resume {
                    answers,
                    updates,
                    at_ms,
                } => {
                    let mut run = prepare(self.resume(&run_id), at_ms);
                    for update in updates {
                        run = run.with_update(update);
                    }
                    for (question, answer) in answers {
                        run = run.answer(question, answer);
                    }
                    run
                }
            };
            let next = run.outcome().await;
            let is_refused =
                matches!(next.error, Some(Error::InvalidInput { .. })) && next.status == RunStatus::Failed;
            outcome = next;
            if is_refused {
                break; // an answer to a question that was not asked this time
            }
        }
        let mut ids = vec![run_id.clone()];
        for record in file
            .records()
            .iter()
            .filter(|record| record.kind == RecordKind::Fork)
        {
            let fork: ForkBody = read(record.seq, open(record)?)?;
            ids.push(fork.run_id);
        }
        let recorded = canonical(file.records(), &ids)?;
        let replayed = canonical(&store.records(), &ids)?;
        let compared = recorded.values().map(Vec::len).sum();
        Ok(ReplayReport {
            divergences: compare(&recorded, &replayed),
            outcome,
            compared,
        })
    }

    /// The state the run began with, and what it was given later.
    fn script(&self, file: &RunFile) -> Result<(S, Vec<Given<S>>, u64)> {
        let refuse = |what: &str, hint: &str| Error::Unsupported {
            who: "a replay".into(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        };
        let mut state = None;
        let mut given: Vec<Given<S>> = Vec::new();
        let mut began_ms = 0;
        for (at, record) in file.records().iter().enumerate() {
            let text = open(record)?;
            let (seq, at_ms) = (record.seq, record.at_ms);
            match record.kind {
                RecordKind::Snapshot if at == 0 => {
                    return Err(refuse(
                        "a run whose beginning was pruned",
                        "replay a file that was taken before, or fork this one to go on",
                    ));
                }
                RecordKind::Start => {
                    let start: StartBody<'_> = read(seq, text)?;
                    if let Compatibility::Refused { .. } | Compatibility::NeedsMigration { .. } =
                        start.graph.compare(self.shape())
                    {
                        return Err(refuse(
                            &format!("a run of the graph `{}`", start.graph.name),
                            &format!(
                                "`{}` is another; replay it with the graph that ran it",
                                self.name()
                            ),
                        ));
                    }
                }
                RecordKind::Input => {
                    let input: InputBody<S::Update> = read(seq, text)?;
                    if let Some(saved) = input.state {
                        state = Some(self.blank().restore(saved)?);
                        began_ms = at_ms;
                    }
                    for update in input.updates {
                        let update = Box::new(update);
                        given.push(Given::Turn { update, at_ms });
                    }
                }
                RecordKind::Event => {
                    if matches!(read(seq, text)?, EventBody::Resumed {}) {
                        given.push(Given::Resume {
                            answers: Vec::new(),
                            updates: Vec::new(),
                            at_ms,
                        });
                    }
                }
                RecordKind::Answer => {
                    let answer: AnswerBody = read(seq, text)?;
                    if let Some(Given::Resume { answers, .. }) = given.last_mut() {
                        answers.push((answer.question, answer.answer));
                    }
                }
                RecordKind::Edit => {
                    let edit: EditBody<S::Update> = read(seq, text)?;
                    if edit.schedule.is_some() || edit.writes.iter().any(|write| write.as_node.is_some()) {
                        return Err(refuse(
                            "a run whose place was changed from outside",
                            "replay a file that was taken before the change",
                        ));
                    }
                    if let Some(Given::Resume { updates, .. }) = given.last_mut() {
                        updates.extend(edit.writes.into_iter().flat_map(|write| write.updates));
                    }
                }
                _ => {}
            }
        }
        // Taken up again without anything: after a crash, a drain, a breakpoint or a failure, none of which come again.
        given.retain(|given| match given {
            Given::Resume { answers, updates, .. } => !answers.is_empty() || !updates.is_empty(),
            Given::Turn { .. } => true,
        });
        let state =
            state.ok_or_else(|| refuse("a run without an input", "its recording ends before it began"))?;
        Ok((state, given, began_ms))
    }
}

/// Whose records: a run's own, or those of a task of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    prefix: String,
    task: Option<(u32, String, Option<u32>)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Told {
    seq: u64,
    step: u32,
    kind: RecordKind,
    /// What tells records of one kind in one group apart.
    key: String,
    body: Value,
}

type Groups = BTreeMap<Group, Vec<Told>>;

/// Records without what chance decides. Where a run was forked, ids that begin with the id of the run it comes from count
/// as its own.
fn canonical(records: &[RunRecord], ids: &[String]) -> Result<Groups> {
    let mut groups = Groups::new();
    let mut turns: HashMap<String, u32> = HashMap::new();
    let mut ended: Vec<Group> = Vec::new();
    for flat in flatten(records)? {
        // What something follows was not the end: the run was taken up again.
        ended.retain(|run| {
            let goes_on = flat.prefix.starts_with(&run.prefix);
            if goes_on && let Some(told) = groups.get_mut(run) {
                told.retain(|told| told.kind != RecordKind::End);
            }
            !goes_on
        });
        if flat.is_in_call {
            continue;
        }
        let mut body: Value = read(flat.seq, &flat.text)?;
        let mut told = Told {
            seq: flat.seq,
            step: 0,
            kind: flat.kind,
            key: String::new(),
            body: Value::Null,
        };
        let task: Option<TaskRef> = match body.get("task") {
            Some(task) => TaskRef::deserialize(task).ok(),
            None => None,
        };
        let text = |body: &Value, key: &str| body[key].as_str().unwrap_or_default().to_owned();
        match flat.kind {
            RecordKind::Start => {
                let start: StartBody<'_> = read(flat.seq, &flat.text)?;
                body = Value::String(start.graph.fingerprint());
            }
            RecordKind::Input => {
                let turn = turns.entry(flat.prefix.clone()).or_default();
                told.key = turn.to_string();
                *turn += 1;
            }
            RecordKind::Step => {
                let step = body["schedule"]["step"].as_u64().unwrap_or_default();
                told.step = u32::try_from(step).unwrap_or(u32::MAX);
                told.key = format!("{step:010}");
            }
            RecordKind::Task => {
                if let Some(body) = body.as_object_mut()
                    && body.shift_remove("stop").is_some()
                {
                    body.insert("stop".to_owned(), Value::Bool(true));
                }
            }
            RecordKind::Memo => told.key = text(&body, "key"),
            RecordKind::Intent => told.key = text(&body, "call_id"),
            RecordKind::Interrupt => {
                told.key = text(&body["question"], "id");
                if let Some(question) = body["question"].as_object_mut() {
                    question.shift_remove("asked_ms");
                    question.shift_remove("expires_ms");
                }
            }
            RecordKind::Answer => told.key = text(&body, "question"),
            RecordKind::Event if body["event"] == "failed" => body = Value::Bool(true),
            RecordKind::End => body = end_of(&body),
            // Effects are in the result of their task; the rest is chance.
            _ => continue,
        }
        if let Some(task) = &task {
            told.step = task.step;
        }
        if ids.len() > 1 {
            same_ids(&mut body, ids);
        }
        told.body = body;
        let group = Group {
            prefix: flat.prefix,
            task: task.map(|task| (task.step, task.node, task.send)),
        };
        if told.kind == RecordKind::End {
            ended.push(group.clone());
        }
        let group = groups.entry(group).or_default();
        // Only the last word of a kind and key counts: a call that began twice.
        group.retain(|known| known.kind != told.kind || known.key != told.key);
        group.push(told);
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| (a.kind.as_str(), &a.key).cmp(&(b.kind.as_str(), &b.key)));
    }
    Ok(groups)
}

fn same_ids(value: &mut Value, ids: &[String]) {
    match value {
        Value::String(text) => {
            let rest = ids.iter().find_map(|id| text.strip_prefix(id.as_str()));
            if let Some(rest) = rest.filter(|rest| rest.starts_with(['.', ':'])) {
                *text = format!("{}{rest}", ids[0]);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| same_ids(item, ids)),
        Value::Object(fields) => fields.values_mut().for_each(|value| same_ids(value, ids)),
        _ => {}
    }
}

/// How a run ended, without the words of a failure and without where a person let it rest.
fn end_of(body: &Value) -> Value {
    let mut end = Map::new();
    let status = body["status"].as_str().unwrap_or_default();
    let is_cut = matches!(status, "failed" | "cancelled")
        || status == "paused" && body["pause"]["pause"] != "questions";
    let status = if is_cut { "cut off" } else { status };
    end.insert("status".to_owned(), status.into());
    if let Some(leave) = body.get("leave") {
        end.insert("leave".to_owned(), leave.clone());
    }
    Value::Object(end)
}

fn compare(recorded: &Groups, replayed: &Groups) -> Vec<Divergence> {
    // A recording that was cut off says nothing of what would have come.
    let is_open = recorded
        .get(&Group {
            prefix: String::new(),
            task: None,
        })
        .is_none_or(|run| {
            run.iter()
                .find(|told| told.kind == RecordKind::End)
                .is_none_or(|end| end.body["status"] == "cut off")
        });
    let mut found: Vec<(u64, Divergence)> = Vec::new();
    for (group, records) in recorded {
        let others = replayed.get(group).map_or(&[][..], Vec::as_slice);
        for told in records {
            let other = others
                .iter()
                .find(|other| other.kind == told.kind && other.key == told.key);
            let what = match other {
                Some(other) if other.body == told.body => continue,
                _ if told.kind == RecordKind::End && told.body["status"] == "cut off" => continue,
                Some(other) => format!(
                    "its {} is another{}",
                    word(told.kind),
                    difference(&told.body, &other.body, String::new())
                ),
                None => format!("its {} is missing{}", word(told.kind), named(&told.key)),
            };
            let replayed = other.map(|other| other.body.clone());
            found.push((told.seq, divergence(group, told, what, true, replayed)));
        }
    }
    for (group, records) in replayed.iter().filter(|_| !is_open) {
        let others = recorded.get(group).map_or(&[][..], Vec::as_slice);
        for told in records {
            let is_known = others
                .iter()
                .any(|other| other.kind == told.kind && other.key == told.key);
            if !is_known {
                let what = format!("its {} was not recorded{}", word(told.kind), named(&told.key));
                found.push((told.seq, divergence(group, told, what, false, None)));
            }
        }
    }
    // By step first: records of the two runs are numbered differently once they part.
    found.sort_by_key(|(seq, divergence)| {
        let step = divergence.step;
        (
            if step == 0 && *seq > 2 { u32::MAX } else { step },
            divergence.seq.is_none(),
            *seq,
        )
    });
    found.into_iter().map(|(_, divergence)| divergence).collect()
}

fn divergence(
    group: &Group,
    told: &Told,
    what: String,
    is_recorded: bool,
    replayed: Option<Value>,
) -> Divergence {
    let body = Some(told.body.clone());
    Divergence {
        seq: is_recorded.then_some(told.seq),
        path: group.prefix.clone(),
        step: told.step,
        node: group.task.as_ref().map(|(_, node, send)| match send {
            Some(send) => format!("{node}#{send}"),
            None => node.clone(),
        }),
        what,
        recorded: if is_recorded { body.clone() } else { None },
        replayed: if is_recorded { replayed } else { body },
    }
}

fn word(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Start => "graph",
        RecordKind::Input => "input",
        RecordKind::Task => "result",
        RecordKind::Step => "way on",
        RecordKind::Memo => "memoised step",
        RecordKind::Intent => "tool call with an effect",
        RecordKind::Interrupt => "question",
        RecordKind::Answer => "answer",
        RecordKind::Event => "failure",
        RecordKind::End => "end",
        kind => kind.as_str(),
    }
}

fn named(key: &str) -> String {
    if key.is_empty() || key.bytes().all(|byte| byte.is_ascii_digit()) {
        String::new()
    } else {
        format!(" (`{key}`)")
    }
}

/// Where two values first differ.
fn difference(a: &Value, b: &Value, at: String) -> String {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) if x == y => {}
                    (Some(x), Some(y)) => return difference(x, y, format!("{at}/{key}")),
                    (Some(_), None) => return format!(", at {at}/{key}, which is gone"),
                    _ => return format!(", at {at}/{key}, which is new"),
                }
            }
            String::new()
        }
        (Value::Array(a), Value::Array(b)) => {
            for (place, pair) in a.iter().zip(b).enumerate() {
                if pair.0 != pair.1 {
                    return difference(pair.0, pair.1, format!("{at}/{place}"));
                }
            }
            format!(", at {at}: {} items instead of {}", b.len(), a.len())
        }
        _ if at.is_empty() => String::new(),
        _ => format!(", at {at}"),
    }
}
