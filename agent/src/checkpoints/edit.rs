//! [`StateUpdate`]: a change of a stored run from outside, as if a node had written it.

use crate::{
    END, Graph, START, State,
    command::Next,
    journal::{EditBody, EditWrite, InputBody, Outline, Replay, StartBody, Stored, encode, now_ms},
    step::{Exit, NodeIndex, Schedule, TaskId},
};
use bytes::Bytes;
use std::borrow::Cow;
use stepwell_core::{
    Error, Result, Scope,
    store::{NewRecord, RecordKind, RunAppend, RunHead, RunStore},
};

/// A change of a stored run, as if a node had written it.
#[derive(Clone, Debug)]
pub struct StateUpdate<S: State> {
    update: S::Update,
    as_node: Option<String>,
}

impl<S: State> StateUpdate<S> {
    /// As if the node had written it that wrote last.
    pub fn new(update: S::Update) -> Self {
        Self {
            update,
            as_node: None,
        }
    }

    /// As if this node had written it; [`START`] for an input, [`END`] to leave nothing to do.
    pub fn as_node(mut self, node: impl Into<String>) -> Self {
        self.as_node = Some(node.into());
        self
    }
}

impl<S: State> Graph<S> {
    /// Changes a stored run as if a node had written the update in a step of its own and had gone along its edges; the run
    /// then stands before what these lead to, and is resumed as ever. Gives the number of the new checkpoint.
    ///
    /// Without `as_node` it is the node that wrote last. [`START`] stands for an input, as that of a further turn;
    /// [`END`] leaves nothing to do. A step that is under way is given up, with its questions; what had finished of it
    /// is folded first. Written as a node that had not finished in it, the update takes the place of that node's result: the
    /// step ends with what had finished and this, and goes on from both.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where several nodes wrote last, [`Error::NotFound`] for an unknown run or node,
    /// [`Error::InvalidUpdate`] for one that does not fit, [`Error::Conflict`] where the run goes on at the same time.
    /// Nothing is written then.
    pub async fn update_state(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        update: S::Update,
        as_node: Option<&str>,
    ) -> Result<u64> {
        let update = StateUpdate {
            update,
            as_node: as_node.map(str::to_owned),
        };
        self.update_states(store, scope, run_id, vec![vec![update]]).await
    }

    /// The same for several steps, one after the other, each of updates that fold together: all are written, or none. A
    /// run that is not there yet begins with them, where the first step is an input; so a run can be told from what its
    /// nodes wrote. Gives the number of the last checkpoint.
    ///
    /// # Errors
    /// Those of [`Graph::update_state`].
    pub async fn update_states(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        steps: Vec<Vec<StateUpdate<S>>>,
    ) -> Result<u64> {
        let mut steps = steps.into_iter().peekable();
        let Some(first) = steps.peek().filter(|first| !first.is_empty()) else {
            return Err(Error::invalid("state update", "give at least one"));
        };
        let mut records = Vec::new();
        let mut add = |kind, bytes| records.push(NewRecord::new(kind, now_ms(), bytes));
        let start = || {
            let graph = Cow::Borrowed(self.shape());
            encode(RecordKind::Start, &StartBody { graph })
        };
        let begins = is_input(first) && store.head(scope, run_id).await?.is_none();
        let (mut replay, after, mut writers) = if begins {
            let mut replay = Replay::blank(self.blank());
            for input in steps.next().into_iter().flatten() {
                replay.state.apply(input.update)?;
            }
            replay.schedule = self.start(&replay.state)?;
            add(RecordKind::Start, start()?);
            let input = InputBody::<S::Update> {
                state: Some(replay.state.save()?),
                updates: Vec::new(),
                schedule: replay.schedule.clone(),
            };
            add(RecordKind::Input, encode(RecordKind::Input, &input)?);
            (replay, 0, Some(vec![START.to_owned()]))
        } else {
            let stored = Stored::new(store, scope, run_id);
            let head = stored.head().await?;
            let replay = stored.replay(self, &head, head.last_seq).await?;
            if replay.is_reshaped {
                add(RecordKind::Start, start()?);
            }
            let is_told = first.iter().all(|update| update.as_node.is_some());
            let writers = if is_told {
                None
            } else {
                last_writers(&stored, &head).await?
            };
            (replay, head.last_seq, writers)
        };
        for step in steps {
            let step = named(step, writers.as_deref())?;
            writers = Some(step.iter().map(|write| write.0.clone()).collect());
            let (kind, bytes) = self.edit(&mut replay, step)?;
            add(kind, bytes);
        }
        store
            .append(scope, RunAppend::new(run_id, self.name(), after, records).sync())
            .await
    }

    /// Makes one step of these updates, and its record.
    fn edit(&self, replay: &mut Replay<S>, step: Vec<(String, S::Update)>) -> Result<(RecordKind, Bytes)> {
        if step.iter().all(|(name, _)| name == START) {
            let updates = step.into_iter().map(|(_, update)| update).collect();
            return Ok((RecordKind::Input, self.input(replay, updates)?));
        }
        let nodes = step
            .iter()
            .map(|(name, _)| self.writer(name))
            .collect::<Result<Vec<Option<NodeIndex>>>>()?;
        let open: Vec<TaskId> = {
            let is_done = |id: &TaskId| replay.finished.iter().any(|task| task.id == *id);
            replay.schedule.tasks().filter(|id| !is_done(id)).collect()
        };
        let is_open = |node: &Option<NodeIndex>| open.iter().any(|task| Some(task.node) == *node);
        let ends_step = !replay.finished.is_empty() && nodes.iter().all(is_open);
        let mut ways: Vec<(TaskId, Next)> = Vec::new();
        if ends_step {
            ways.extend(replay.finished.iter().map(|task| (task.id, task.next.clone())));
        }
        for &node in nodes.iter().flatten() {
            ways.push((TaskId { node, send: None }, Next::Edges));
        }
        ways.sort_by_key(|(id, _)| id.order());
        let writes = nodes.iter().zip(&step);
        let writes = writes.map(|(node, (_, update))| (*node, vec![update.clone()]));
        replay.fold_edit(self.blank(), self.shape(), writes.collect(), ends_step)?;
        let mut exits: Vec<(NodeIndex, Exit)> = Vec::with_capacity(ways.len());
        let mut gone: Vec<NodeIndex> = Vec::new();
        for (id, next) in ways {
            // As in a step: tasks of one node that follow its edges lead to the same places.
            if matches!(next, Next::Edges) {
                if gone.contains(&id.node) {
                    continue;
                }
                gone.push(id.node);
            }
            exits.push((id.node, self.exit(id.node, next, &replay.state)?));
        }
        let given_up = open.into_iter().filter(|task| !nodes.contains(&Some(task.node)));
        exits.extend(given_up.map(|task| (task.node, Exit::dropped())));
        replay.schedule.advance(self.topology(), exits);
        if nodes.contains(&None) {
            replay.schedule.close();
        }
        let body = EditBody {
            writes: step
                .into_iter()
                .map(|(name, update)| EditWrite {
                    as_node: Some(name),
                    updates: vec![update],
                })
                .collect(),
            schedule: Some(replay.schedule.clone()),
            ends_step,
        };
        Ok((RecordKind::Edit, encode(RecordKind::Edit, &body)?))
    }

    fn input(&self, replay: &mut Replay<S>, updates: Vec<S::Update>) -> Result<Bytes> {
        replay.fold_finished(self.blank(), self.shape())?;
        replay.go_on();
        for update in updates.clone() {
            replay.state.apply(update)?;
        }
        let steps = replay.schedule.step;
        replay.schedule = Schedule {
            step: steps,
            ..self.start(&replay.state)?
        };
        replay.base = steps;
        let body = InputBody {
            state: None,
            updates,
            schedule: replay.schedule.clone(),
        };
        encode(RecordKind::Input, &body)
    }

    /// The node of this name; `None` for the end.
    fn writer(&self, name: &str) -> Result<Option<NodeIndex>> {
        match name {
            END => Ok(None),
            START => Err(Error::invalid(
                "state update",
                "an input folds into no step of others; give it a step of its own",
            )),
            name => self.index_of(name).map(Some).ok_or_else(|| Error::NotFound {
                what: "node".into(),
                name: name.to_owned(),
                hint: format!(
                    "the graph has: {}",
                    self.node_names().collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }
}

fn is_input<S: State>(step: &[StateUpdate<S>]) -> bool {
    step.iter().all(|update| update.as_node.as_deref() == Some(START))
}

/// Each update with its node: the one that wrote last, where none is named.
fn named<S: State>(
    step: Vec<StateUpdate<S>>,
    writers: Option<&[String]>,
) -> Result<Vec<(String, S::Update)>> {
    if step.is_empty() {
        return Err(Error::invalid("state update", "a step needs at least one"));
    }
    step.into_iter()
        .map(|update| {
            let name = match (update.as_node, writers) {
                (Some(name), _) => name,
                (None, Some([only])) => only.clone(),
                (None, Some([]) | None) => {
                    return Err(Error::invalid(
                        "state update",
                        "the journal does not tell which node wrote last; name one",
                    ));
                }
                (None, Some(several)) => {
                    return Err(Error::invalid(
                        "state update",
                        format!("{} wrote last; name one of them", several.join(", ")),
                    ));
                }
            };
            Ok((name, update.update))
        })
        .collect()
}

async fn last_writers(stored: &Stored<'_>, head: &RunHead) -> Result<Option<Vec<String>>> {
    let mut at = head.last_seq;
    loop {
        let base = stored.base(head, at).await?;
        if base > at {
            return Ok(None);
        }
        let mut outline = Outline::default();
        stored
            .read(base, at, |record, text| outline.take(record, text).map(drop))
            .await?;
        if let Some(writers) = outline.writers() {
            return Ok(Some(writers));
        }
        if base == 1 {
            return Ok(None);
        }
        at = base - 1;
    }
}
