//! [`Migration`]: turns a run that another version of the graph has stored into one of this graph.

use crate::{
    Channels, Compatibility, Graph, GraphShape, Reducer, RunView, State,
    journal::{
        EndBody, Outline, Reader, Replay, SnapshotBody, Stored, encode, open, read, refused, renumber,
    },
};
use serde_json::Value;
use std::{
    borrow::Cow,
    fmt::{self, Debug},
    sync::Arc,
};
use stepwell_core::{
    Error, Result, Scope,
    store::{RecordKind, RunRecord, RunStore},
};

type Turn = Arc<dyn Fn(Value) -> Result<Value> + Send + Sync>;

/// Turns a run that another version of the graph has stored into one of this graph: names first, then the state.
///
/// ```
/// # use stepwell_agent::Migration;
/// let migration = Migration::new()
///     .rename_node("answer", "reply")
///     .rename_key("question", "prompt")
///     .drop_key("scratch")
///     .state(|mut state| {
///         let words = state["text"].as_str().unwrap_or_default().split(' ').count();
///         state["words"] = words.into();
///         Ok(state)
///     });
/// ```
#[derive(Clone, Default)]
pub struct Migration {
    nodes: Vec<(String, String)>,
    /// `None` for one that goes.
    keys: Vec<(String, Option<String>)>,
    turn: Option<Turn>,
}

impl Migration {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node has another name now.
    pub fn rename_node(mut self, old: impl Into<String>, new: impl Into<String>) -> Self {
        self.nodes.push((old.into(), new.into()));
        self
    }

    /// The key has another name now.
    pub fn rename_key(mut self, old: impl Into<String>, new: impl Into<String>) -> Self {
        self.keys.push((old.into(), Some(new.into())));
        self
    }

    /// The key is gone, with what it held.
    pub fn drop_key(mut self, key: impl Into<String>) -> Self {
        self.keys.push((key.into(), None));
        self
    }

    /// Turns the saved state, an object of its keys, after their names were changed. Keys that are not in it are as in a
    /// blank state.
    pub fn state(mut self, turn: impl Fn(Value) -> Result<Value> + Send + Sync + 'static) -> Self {
        self.turn = Some(Arc::new(turn));
        self
    }

    fn node<'a>(&'a self, old: &'a str) -> &'a str {
        let renamed = self.nodes.iter().find(|(from, _)| from == old);
        renamed.map_or(old, |(_, new)| new)
    }

    /// The old graph under the new names of its nodes.
    fn shape(&self, old: &GraphShape) -> GraphShape {
        let mut shape = old.clone();
        let rename = |name: &mut String| *name = self.node(name).to_owned();
        shape.nodes.iter_mut().for_each(|node| rename(&mut node.name));
        for join in &mut shape.joins {
            join.sources.iter_mut().for_each(rename);
            rename(&mut join.to);
        }
        shape
    }

    fn turn(&self, saved: Value) -> Result<Value> {
        let Value::Object(mut saved) = saved else {
            return Err(Error::internal("a saved state is no object"));
        };
        for (old, new) in &self.keys {
            for (old, new) in [
                (old.clone(), new.clone()),
                (origins_of(old), new.as_deref().map(origins_of)),
            ] {
                let Some(value) = saved.remove(&old) else { continue };
                if let Some(new) = new
                    && saved.insert(new.clone(), value).is_some()
                {
                    return Err(Error::invalid(
                        "migration",
                        format!("the key `{old}` cannot become `{new}`: the run has both"),
                    ));
                }
            }
        }
        match &self.turn {
            Some(turn) => turn(Value::Object(saved)),
            None => Ok(Value::Object(saved)),
        }
    }
}

impl Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("nodes", &self.nodes)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl<S: State> Graph<S> {
    /// Looks at a run as it would be after this migration, without going on; nothing is written.
    ///
    /// # Errors
    /// Those of [`Graph::view`] and of the migration.
    pub async fn view_migrated(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        migration: &Migration,
    ) -> Result<RunView<S>> {
        let (replay, _) = migrate(self, &Stored::new(store, scope, run_id), migration).await?;
        RunView::new(self, replay)
    }
}

/// Reads a run back through a migration. What is to be written before anything else, so that the run never needs it again;
/// nothing where it does not need it.
pub(crate) async fn migrate<S: State>(
    graph: &Graph<S>,
    stored: &Stored<'_>,
    migration: &Migration,
) -> Result<(Replay<S>, Vec<RunRecord>)> {
    if let Some((_, unknown)) = migration
        .nodes
        .iter()
        .find(|(_, new)| graph.index_of(new).is_none())
    {
        return Err(Error::NotFound {
            what: "node".into(),
            name: unknown.clone(),
            hint: "rename to a node that the graph has".into(),
        });
    }
    let head = stored.head().await?;
    let base = stored.base(&head, head.last_seq).await?;
    let (mut outline, mut boundary, mut records) = (Outline::default(), base, Vec::new());
    stored
        .read(base, head.last_seq, |record, text| {
            if outline.take(record, text)?.is_some_and(|place| place.is_boundary) {
                boundary = record.seq;
            }
            records.push(record.clone());
            Ok(())
        })
        .await?;
    let old = outline.shape;
    if old.fingerprint() == graph.fingerprint() {
        return Ok((stored.replay(graph, &head, head.last_seq).await?, Vec::new()));
    }
    let renamed = migration.shape(&old);
    if let Compatibility::Refused { reasons } = renamed.compare(graph.shape()) {
        return Err(refused(graph.name(), &old.name, &reasons));
    }
    let blank = state_of(&old)?;
    let mut reader = Reader::of(&blank, &old);
    let mut used = reader.used().clone();
    // What a task of the step that is under way remembers; it tells nothing of the state.
    let mut remembered: Vec<RunRecord> = Vec::new();
    for record in records {
        let text = open(&record)?;
        reader
            .take(record.seq, record.kind, text)
            .map_err(|error| unfoldable(error, &old))?;
        let is_void = record.kind == RecordKind::End && read::<EndBody<'_>>(record.seq, text)?.is_step_void;
        if is_void || record.seq == boundary {
            used = reader.used().clone();
            remembered.clear();
        } else if record.seq > boundary && !matches!(record.kind, RecordKind::Start | RecordKind::Edit) {
            remembered.push(record);
            continue;
        }
        if is_void {
            remembered.push(record);
        }
    }
    let mut replay = reader.finish()?;
    let name = |node: u32| old.nodes[node as usize].name.as_str();
    if let Some(task) = replay.finished.first() {
        return Err(Error::Unsupported {
            who: "a migration".into(),
            what: format!(
                "a run in the middle of a step, of which `{}` has finished",
                name(task.id.node)
            ),
            hint: "let the graph that wrote it end the step, or give the step up there with `update_state`"
                .into(),
        });
    }
    if let Some(node) = replay
        .memory
        .keys()
        .map(|id| name(id.node))
        .find(|node| migration.node(node) != *node)
    {
        return Err(Error::Unsupported {
            who: "a migration".into(),
            what: format!("another name for `{node}`, which is in the middle of its work"),
            hint:
                "let the graph that wrote the run end the step, or give the step up there with `update_state`"
                    .into(),
        });
    }
    renumber(&mut replay.schedule, &renamed, graph.shape())?;
    let saved = migration.turn(replay.state.save()?)?;
    let state = graph.blank().restore(saved).map_err(|error| match error {
        Error::Damaged { message, .. } => Error::invalid(
            "migration",
            format!(
                "what it made does not fit the state of the graph `{}`: {message}",
                graph.name()
            ),
        ),
        other => other,
    })?;
    let snapshot = SnapshotBody {
        graph: Cow::Borrowed(graph.shape()),
        state: state.save()?,
        schedule: Cow::Borrowed(&replay.schedule),
        base: replay.base,
        used: Cow::Borrowed(&used),
        kept: replay
            .kept
            .into_iter()
            .map(|(place, state)| (renamed_place(migration, &place), state))
            .collect(),
    };
    let bytes = encode(RecordKind::Snapshot, &snapshot)?;
    let mut written = vec![RunRecord::new(boundary, RecordKind::Snapshot, 0, bytes)];
    written.append(&mut remembered);
    let mut reader = Reader::new(graph);
    for record in &written {
        reader.take(record.seq, record.kind, open(record)?)?;
    }
    let mut replay = reader.finish()?;
    replay.last_seq = head.last_seq;
    Ok((replay, written))
}

/// A state of the slots the old graph had. What a custom reducer did is known to the old program alone.
fn state_of(shape: &GraphShape) -> Result<Channels> {
    let (custom, known): (Vec<_>, Vec<_>) = shape
        .channels
        .iter()
        .cloned()
        .partition(|channel| channel.reducer.starts_with("custom"));
    let mut state = Channels::from_channels(&known)?;
    for channel in custom {
        let reducer = Reducer::Custom(channel.reducer.into(), Arc::new(|_, _| Err(CUSTOM.to_owned())));
        let slot = match (channel.is_ephemeral, channel.is_untracked) {
            (true, _) => reducer.ephemeral(),
            (_, true) => reducer.untracked(),
            _ => reducer.into(),
        };
        state = state.slot(&*channel.key, slot);
    }
    Ok(state)
}

const CUSTOM: &str = "its reducer is the old program's";

/// Says plainly that a write needs a reducer that is not there.
fn unfoldable(error: Error, old: &GraphShape) -> Error {
    match error {
        Error::InvalidUpdate { key, message } if message == CUSTOM => {
            let reducer = old.channels.iter().find(|channel| channel.key == key);
            let reducer = reducer.map_or("custom", |channel| &channel.reducer);
            Error::Unsupported {
                who: "a migration".into(),
                what: format!("writes to the key `{key}`, which `{reducer}` folds"),
                hint: "prune the run with the program that wrote it: a snapshot needs no reducer".into(),
            }
        }
        other => other,
    }
}

/// Where a graph inside a node keeps its state.
fn renamed_place(migration: &Migration, place: &str) -> String {
    let (outermost, inner) = match place.split_once('/') {
        Some((outermost, inner)) => (outermost, Some(inner)),
        None => (place, None),
    };
    let end = outermost.find(['#', '@']).unwrap_or(outermost.len());
    let (node, mark) = outermost.split_at(end);
    let renamed = format!("{}{mark}", migration.node(node));
    match inner {
        Some(inner) => format!("{renamed}/{inner}"),
        None => renamed,
    }
}

/// Where the origins of a list of messages are saved that it does not show any more.
fn origins_of(key: &str) -> String {
    crate::messages::origins_key(key)
}
