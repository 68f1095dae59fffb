//! How a run is read back from its journal.

use super::{
    TaskDone,
    record::{
        EffectBody, EndBody, EventBody, InputBody, IntentBody, MemoIn, SnapshotBody, StartBody, StepBody,
        TaskIn, UsageBody, damaged, decode,
    },
};
use crate::{
    Graph, State,
    command::{Next, Targets},
    context::{TaskMemory, Used, add_spend},
    event::Failure,
    state::fold,
    step::Schedule,
};
use std::collections::HashMap;
use stepwell_core::{
    Error, Result, Scope,
    store::{RecordKind, RunRecord, RunStatus, RunStore},
};

/// Records are read in pieces of so many.
const PAGE: usize = 512;

/// A run as its journal tells it.
pub(crate) struct Replay<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    /// Tasks of the broken step that had ended.
    pub(crate) finished: Vec<TaskDone<S>>,
    /// What is remembered of those that had not.
    pub(crate) memory: HashMap<String, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) last_seq: u64,
    /// Bytes of the last snapshot, and of the records since.
    pub(crate) weight: (usize, usize),
}

/// Reads a run back.
pub(crate) async fn replay<S: State>(
    graph: &Graph<S>,
    store: &dyn RunStore,
    scope: &Scope,
    run_id: &str,
) -> Result<Replay<S>> {
    let not_found = || Error::NotFound {
        what: "run".into(),
        name: run_id.to_owned(),
        hint: "check the id, the scope and the store".into(),
    };
    let head = store.head(scope, run_id).await?.ok_or_else(not_found)?;
    let mut reader = Reader {
        graph,
        replay: Replay {
            state: graph.blank().clone(),
            schedule: Schedule::default(),
            finished: Vec::new(),
            memory: HashMap::new(),
            used: Used::default(),
            status: RunStatus::Running,
            failure: None,
            last_seq: 0,
            weight: (0, 0),
        },
        has_start: false,
    };
    let mut from = head.snapshot_seq.max(1);
    loop {
        let records = store.read(scope, run_id, from, PAGE).await?;
        for record in &records {
            if record.seq != from {
                return Err(damaged(record.seq, format!("record {from} is missing before it")));
            }
            reader.take(record)?;
            from += 1;
        }
        if records.len() < PAGE {
            break;
        }
    }
    if reader.has_start {
        Ok(reader.replay)
    } else {
        Err(not_found())
    }
}

struct Reader<'a, S: State> {
    graph: &'a Graph<S>,
    replay: Replay<S>,
    has_start: bool,
}

impl<S: State> Reader<'_, S> {
    fn take(&mut self, record: &RunRecord) -> Result<()> {
        self.replay.last_seq = record.seq;
        self.replay.weight.1 += record.body.len();
        if !self.has_start && !matches!(record.kind, RecordKind::Start | RecordKind::Snapshot) {
            return Err(damaged(
                record.seq,
                "the journal does not begin with a start or a snapshot",
            ));
        }
        match record.kind {
            RecordKind::Start => {
                let start: StartBody = decode(record)?;
                self.check_graph(&start.graph, &start.fingerprint)?;
                self.has_start = true;
            }
            RecordKind::Input => {
                let input: InputBody = decode(record)?;
                self.replay.state = self.graph.blank().restore(input.state)?;
                self.replay.schedule = self.known(record.seq, input.schedule)?;
                self.replay.weight = (record.body.len(), 0);
            }
            RecordKind::Snapshot => {
                let snapshot: SnapshotBody = decode(record)?;
                self.check_graph(&snapshot.graph, &snapshot.fingerprint)?;
                self.has_start = true;
                self.replay.state = self.graph.blank().restore(snapshot.state)?;
                self.replay.schedule = self.known(record.seq, snapshot.schedule)?;
                self.replay.used = Used {
                    usage: snapshot.usage,
                    spend: snapshot.spend,
                };
                self.replay.weight = (record.body.len(), 0);
            }
            RecordKind::Task => self.take_task(record)?,
            RecordKind::Step => {
                let step: StepBody = decode(record)?;
                let mut finished = std::mem::take(&mut self.replay.finished);
                finished.sort_by_key(|task| task.node);
                let updates = finished
                    .into_iter()
                    .map(|task| (self.graph.name_of(task.node).as_ref(), task.updates))
                    .collect();
                fold(&mut self.replay.state, updates)?;
                self.replay.memory.clear();
                self.replay.schedule = self.known(record.seq, step.schedule)?;
            }
            RecordKind::Memo => {
                let memo: MemoIn = decode(record)?;
                if self.is_current(memo.step) {
                    let memory = self.replay.memory.entry(memo.node).or_default();
                    memory.memos.insert(memo.key, memo.value);
                }
            }
            RecordKind::Intent => {
                let intent: IntentBody = decode(record)?;
                if self.is_current(intent.step) {
                    let memory = self.replay.memory.entry(intent.node).or_default();
                    *memory.intents.entry(intent.call_id).or_default() += 1;
                }
            }
            RecordKind::Effect => {
                let effect: EffectBody = decode(record)?;
                if self.is_current(effect.step) {
                    let memory = self.replay.memory.entry(effect.node).or_default();
                    memory
                        .effects
                        .insert(effect.result.call_id.clone(), effect.result);
                }
            }
            RecordKind::Usage => {
                let body: UsageBody = decode(record)?;
                self.replay.used.usage.add(&body.usage);
                add_spend(&mut self.replay.used.spend, body.spend);
            }
            RecordKind::Event => {
                let _: EventBody = decode(record)?;
                (self.replay.status, self.replay.failure) = (RunStatus::Running, None);
            }
            RecordKind::End => {
                let end: EndBody = decode(record)?;
                (self.replay.status, self.replay.failure) = (end.status, end.failure);
                if end.is_step_void {
                    self.replay.finished.clear();
                    self.replay.memory.clear();
                }
            }
            // This version writes no other kind; a newer one that does marks its records with a newer version.
            other => {
                return Err(damaged(
                    record.seq,
                    format!("a record of kind `{}` does not belong there", other.as_str()),
                ));
            }
        }
        Ok(())
    }

    fn take_task(&mut self, record: &RunRecord) -> Result<()> {
        let task: TaskIn<S::Update> = decode(record)?;
        if let Some(usage) = &task.usage {
            self.replay.used.usage.add(usage);
        }
        if let Some(spend) = task.spend {
            add_spend(&mut self.replay.used.spend, spend);
        }
        if !self.is_current(task.step) {
            return Err(damaged(record.seq, "a task of another step stands there"));
        }
        let Some(node) = self.graph.index_of(&task.node) else {
            return Err(damaged(
                record.seq,
                format!("the graph has no node `{}`", task.node),
            ));
        };
        self.replay.finished.push(TaskDone {
            node,
            updates: task.updates,
            next: match task.goto {
                Some(names) => Next::Goto(Targets::from(names)),
                None => Next::Edges,
            },
            stop: None,
            used: None, // counted above
        });
        Ok(())
    }

    fn is_current(&self, step: u32) -> bool {
        step == self.replay.schedule.step + 1
    }

    fn known(&self, seq: u64, schedule: Schedule) -> Result<Schedule> {
        if schedule
            .ready
            .iter()
            .all(|node| (*node as usize) < self.graph.len())
        {
            Ok(schedule)
        } else {
            Err(damaged(seq, "it names a node the graph does not have"))
        }
    }

    fn check_graph(&self, name: &str, fingerprint: &str) -> Result<()> {
        if fingerprint == self.graph.fingerprint() {
            return Ok(());
        }
        Err(Error::Unsupported {
            who: format!("the graph `{}`", self.graph.name()),
            what: format!("a run of the graph `{name}` with other nodes, edges or keys"),
            hint: "resume it with the graph that started it".into(),
        })
    }
}
