//! [`Outline`]: where a run went, read from its journal without its state.

use super::{
    ForkBody, StartBody, StepBody, TaskRef, damaged, read,
    replay::{is_known, renumber},
};
use crate::{CheckpointSource, END, Failure, GraphShape, START, step::Schedule};
use serde::{Deserialize, de::IgnoredAny};
use stepwell_core::{
    Result,
    store::{RecordKind, RunRecord},
};

/// Whether a record of this kind is a place one can return to.
pub(crate) fn is_place(kind: RecordKind) -> bool {
    matches!(
        kind,
        RecordKind::Input | RecordKind::Step | RecordKind::Edit | RecordKind::Fork | RecordKind::Snapshot
    )
}

/// A place one can return to.
pub(crate) struct Place {
    pub(crate) source: CheckpointSource,
    /// Whose writes it folded in.
    pub(crate) nodes: Vec<String>,
    /// Nothing of a step is under way after it.
    pub(crate) is_boundary: bool,
}

/// Where a run went. It knows the parts of records that tell so, and passes over the rest.
#[derive(Default)]
pub(crate) struct Outline {
    /// The graph that wrote last.
    pub(crate) shape: GraphShape,
    pub(crate) schedule: Schedule,
    /// Why the run stopped last.
    pub(crate) failure: Option<Failure>,
    /// Nodes that ended in the step that is under way.
    ended: Vec<String>,
    /// Nodes that wrote last, where that is known.
    writers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Snapshot {
    graph: GraphShape,
    schedule: Schedule,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    state: Option<IgnoredAny>,
    schedule: Schedule,
}

#[derive(Deserialize)]
struct Task {
    task: TaskRef,
}

#[derive(Deserialize)]
struct Write {
    #[serde(default)]
    as_node: Option<String>,
}

#[derive(Deserialize)]
struct Edit {
    writes: Vec<Write>,
    #[serde(default)]
    schedule: Option<Schedule>,
}

#[derive(Deserialize)]
struct End {
    #[serde(default)]
    failure: Option<Failure>,
    #[serde(default)]
    is_step_void: bool,
}

impl Outline {
    /// Takes the next record; the place it is, where it is one.
    pub(crate) fn take(&mut self, record: &RunRecord, text: &[u8]) -> Result<Option<Place>> {
        let seq = record.seq;
        let place = match record.kind {
            RecordKind::Start => {
                let start: StartBody<'_> = read(seq, text)?;
                let shape = start.graph.into_owned();
                renumber(&mut self.schedule, &self.shape, &shape)?;
                self.shape = shape;
                return Ok(None);
            }
            RecordKind::Snapshot => {
                let snapshot: Snapshot = read(seq, text)?;
                self.shape = snapshot.graph;
                self.go_to(seq, snapshot.schedule)?;
                Place::new(CheckpointSource::Snapshot, Vec::new())
            }
            RecordKind::Input => {
                let input: Input = read(seq, text)?;
                let folded = match input.state {
                    Some(_) => Vec::new(),
                    None => self.ended(),
                };
                self.go_to(seq, input.schedule)?;
                self.writers = Some(vec![START.to_owned()]);
                Place::new(CheckpointSource::Input, folded)
            }
            RecordKind::Step => {
                let step: StepBody<'_> = read(seq, text)?;
                let nodes = self.ended();
                self.go_to(seq, step.schedule.into_owned())?;
                self.writers = Some(nodes.clone());
                Place::new(CheckpointSource::Step, nodes)
            }
            RecordKind::Edit => {
                let edit: Edit = read(seq, text)?;
                let Some(schedule) = edit.schedule else {
                    return Ok(Some(Place {
                        is_boundary: false,
                        ..Place::new(CheckpointSource::Edit, Vec::new())
                    }));
                };
                let named = edit.writes.into_iter().filter_map(|write| write.as_node);
                let named: Vec<String> = named.filter(|name| name != END).collect();
                let mut nodes = self.ended();
                nodes.extend(named.iter().cloned());
                self.sort(&mut nodes);
                self.go_to(seq, schedule)?;
                self.writers = Some(named);
                Place::new(CheckpointSource::Edit, nodes)
            }
            RecordKind::Fork => {
                let ForkBody { run_id, seq } = read(seq, text)?;
                self.ended.clear();
                Place::new(CheckpointSource::Fork { run_id, seq }, Vec::new())
            }
            RecordKind::Task => {
                let Task { task } = read(seq, text)?;
                self.ended.push(task.node);
                return Ok(None);
            }
            RecordKind::End => {
                let end: End = read(seq, text)?;
                self.failure = end.failure;
                if end.is_step_void {
                    self.ended.clear();
                }
                return Ok(None);
            }
            _ => return Ok(None),
        };
        self.failure = None;
        Ok(Some(place))
    }

    /// The nodes of the next step.
    pub(crate) fn next(&self) -> Vec<String> {
        let names = self.schedule.tasks();
        let mut names: Vec<String> = names
            .map(|task| self.shape.nodes[task.node as usize].name.clone())
            .collect();
        self.sort(&mut names);
        names
    }

    /// The nodes that wrote last; `None` where the journal does not reach back to them.
    pub(crate) fn writers(&self) -> Option<Vec<String>> {
        if self.ended.is_empty() {
            return self.writers.clone();
        }
        let mut nodes = self.ended.clone();
        self.sort(&mut nodes);
        Some(nodes)
    }

    fn ended(&mut self) -> Vec<String> {
        let mut nodes = std::mem::take(&mut self.ended);
        self.sort(&mut nodes);
        nodes
    }

    /// Each once, in order of declaration.
    fn sort(&self, nodes: &mut Vec<String>) {
        nodes.sort_by_cached_key(|name| self.shape.index_of(name));
        nodes.dedup();
    }

    fn go_to(&mut self, seq: u64, schedule: Schedule) -> Result<()> {
        if !is_known(&schedule, &self.shape) {
            return Err(damaged(seq, "it names a node the graph does not have"));
        }
        self.schedule = schedule;
        self.ended.clear();
        Ok(())
    }
}

impl Place {
    fn new(source: CheckpointSource, nodes: Vec<String>) -> Self {
        Self {
            source,
            nodes,
            is_boundary: true,
        }
    }
}
