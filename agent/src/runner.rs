//! Drives a graph: awaits the tasks of a step, folds them, writes the journal, pauses, cancels. What comes next is decided
//! in `step.rs`; nothing is spawned, so dropping a run drops everything in it.

use crate::{
    EventKind, Failure, Graph, RunContext, State, Targets,
    command::Next,
    context::{Shared, TaskMemory, Used},
    journal::{Journal, JournalQueue, SnapshotBody, StepBody, TaskDone, TaskRef, UsageBody},
    progress::Progress,
    run::{Pause, RunOptions},
    state::fold,
    step::{Exit, NodeIndex, Schedule, TaskId},
    task::{Ended, run_task},
    tasks::Tasks,
};
use futures::FutureExt;
use std::{
    borrow::Cow,
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use stepwell_core::{Budget, Error, Result, store::RecordKind};

/// Where a run pauses though it could go on.
#[derive(Default)]
pub(crate) struct Breaks {
    before: Vec<NodeIndex>,
    after: Vec<NodeIndex>,
}

impl Breaks {
    pub(crate) fn new<S: State>(graph: &Graph<S>, options: &RunOptions) -> Result<Self> {
        let find = |names: &[String]| -> Result<Vec<NodeIndex>> {
            names
                .iter()
                .map(|name| {
                    graph.index_of(name).ok_or_else(|| Error::NotFound {
                        what: "node".into(),
                        name: name.clone(),
                        hint: format!(
                            "the graph has: {}",
                            graph.node_names().collect::<Vec<_>>().join(", ")
                        ),
                    })
                })
                .collect()
        };
        Ok(Self {
            before: find(&options.break_before)?,
            after: find(&options.break_after)?,
        })
    }
}

fn broken_at<S: State>(
    graph: &Graph<S>,
    at: &[NodeIndex],
    tasks: impl Iterator<Item = TaskId>,
) -> Option<Vec<String>> {
    if at.is_empty() {
        return None;
    }
    let mut nodes: Vec<NodeIndex> = tasks
        .map(|task| task.node)
        .filter(|node| at.contains(node))
        .collect();
    nodes.dedup();
    let nodes: Vec<String> = nodes
        .into_iter()
        .map(|node| graph.name_of(node).to_string())
        .collect();
    (!nodes.is_empty()).then_some(nodes)
}

/// Step after step, until nothing is left to do or the run pauses. An outermost run brings its journal; one inside a task
/// leaves the writing to the run around it.
pub(crate) async fn walk<S: State>(
    graph: &Graph<S>,
    shared: &Arc<Shared>,
    progress: &mut Progress<S>,
    mut journal: Option<&mut Journal>,
    breaks: &Breaks,
) -> Result<Option<Pause>> {
    let mut cancelled = pin!(shared.cancel.cancelled().fuse());
    // A run that paused before this step has been looked at there.
    let mut is_passed = matches!(progress.pause.take(), Some(Pause::Before { .. }));
    let mut has_stepped = false;
    while !progress.schedule.is_done() {
        shared.cancel.check()?;
        if has_stepped && shared.is_drained() {
            return Ok(Some(Pause::Drained));
        }
        if progress.schedule.step - progress.base >= shared.limits.steps {
            return Err(Error::StepLimit {
                limit: shared.limits.steps,
            });
        }
        if !std::mem::take(&mut is_passed)
            && let Some(nodes) = broken_at(graph, &breaks.before, progress.schedule.tasks())
        {
            return Ok(Some(Pause::Before { nodes }));
        }
        tokio::task::coop::consume_budget().await; // nodes that never wait would starve their neighbours
        if run_step(
            graph,
            shared,
            progress,
            journal.as_deref_mut(),
            cancelled.as_mut(),
        )
        .await?
        {
            // A run inside that was drained waits for nobody.
            let is_waiting = !shared.is_drained() || !progress.questions((shared.clock)()).is_empty();
            return Ok(Some(if is_waiting {
                Pause::Questions
            } else {
                Pause::Drained
            }));
        }
        let broken = broken_at(graph, &breaks.after, progress.schedule.tasks());
        end_step(graph, shared, progress, journal.as_deref_mut()).await?;
        has_stepped = true;
        if let Some(nodes) = broken
            && !progress.schedule.is_done()
        {
            return Ok(Some(Pause::After { nodes }));
        }
    }
    Ok(None)
}

/// Runs the tasks of a step that had not finished before and need not wait; their ends are in `progress.finished`
/// afterwards. True where the step cannot end before answers come. An error drops those that still run.
async fn run_step<S: State>(
    graph: &Graph<S>,
    shared: &Arc<Shared>,
    progress: &mut Progress<S>,
    mut journal: Option<&mut Journal>,
    mut cancelled: Pin<&mut impl futures::future::FusedFuture<Output = ()>>,
) -> Result<bool> {
    let step = progress.schedule.step + 1;
    let Progress {
        state,
        schedule,
        finished,
        memory,
        used,
        failures,
        ..
    } = progress;
    failures.clear();
    let topology = graph.topology();
    let mut race = Race::default();
    if topology.has_races {
        for task in &*finished {
            race.note(task);
        }
        race.decide(schedule, topology);
    }
    let mut now = None;
    let mut has_paused = false;
    let mut open: Vec<TaskId> = Vec::new();
    for task in schedule.tasks() {
        if finished.iter().any(|done| done.id == task) || race.has_beaten(task) {
            continue;
        }
        if memory.get(&task).is_some_and(|memory| {
            memory.is_waiting(&shared.path, *now.get_or_insert_with(|| (shared.clock)()))
        }) {
            has_paused = true;
            continue;
        }
        open.push(task);
    }
    shared.emit(step, || EventKind::StepStart {
        nodes: open
            .iter()
            .map(|task| Arc::clone(graph.name_of(task.node)))
            .collect(),
    });
    let shares = shares(shared, &open);
    let contexts: Vec<RunContext> = open
        .iter()
        .enumerate()
        .map(|(at, task)| {
            RunContext::new(
                Arc::clone(shared),
                Arc::clone(graph.name_of(task.node)),
                step,
                *task,
                schedule.sent(*task).map(|sent| Arc::clone(&sent.input)),
                shares.get(at).cloned().flatten(),
                (!memory.is_empty()).then(|| memory.remove(task)).flatten(),
            )
        })
        .collect();
    let state = &*state;
    let mut running = Running {
        shared,
        open: &open,
        contexts: &contexts,
        going: vec![true; open.len()],
        memory,
        used,
    };
    let mut tasks = Tasks::new(
        open.iter().zip(&contexts).enumerate().map(|(at, (task, cx))| {
            let entry = graph.entry(task.node);
            let timeout = schedule
                .sent(*task)
                .and_then(|sent| sent.timeout_ms)
                .map(Duration::from_millis);
            async move { (at, run_task(entry, state, cx, timeout).await) }
        }),
        shared.concurrency,
        shared.seed.map(|seed| seed.wrapping_add(u64::from(step))),
    );
    // Those that end by themselves once the switch is pulled, and are waited for then.
    let mut closing: Vec<usize> = (0..open.len())
        .filter(|at| graph.entry(open[*at].node).node.ends_on_cancel())
        .collect();
    let mut is_cancelled = false;
    let ended = poll_fn(|cx| {
        loop {
            match tasks.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some((at, ended))) => {
                    closing.retain(|open| *open != at);
                    running.going[at] = false;
                    let context = &contexts[at];
                    match ended {
                        Ended::Done(mut command) => {
                            for update in &mut command.updates {
                                state.mark_untracked(update);
                            }
                            let task = TaskDone {
                                id: open[at],
                                updates: command.updates,
                                next: command.next,
                                stop: command.stop,
                            };
                            if let Err(error) = finish_task(shared, context, &task, running.used) {
                                return Poll::Ready(Err(error));
                            }
                            if topology.has_races {
                                race.note(&task);
                                race.decide(schedule, topology);
                                for (at, beaten) in open.iter().enumerate() {
                                    if running.going[at] && race.has_beaten(*beaten) {
                                        running.going[at] = false;
                                        closing.retain(|open| *open != at);
                                        tasks.drop_task(at);
                                        contexts[at].abandon();
                                        let _ = book(shared, &contexts[at], running.used);
                                        contexts[at].event(|| EventKind::NodeEnd {
                                            failure: Some(Failure::from(&Error::Cancelled)),
                                        });
                                    }
                                }
                            }
                            finished.push(task);
                        }
                        Ended::Paused => {
                            has_paused = true;
                            if let Err(error) = book(shared, context, running.used) {
                                return Poll::Ready(Err(error));
                            }
                            running.memory.insert(open[at], context.take_memory());
                            context.event(|| EventKind::NodeEnd { failure: None });
                        }
                        Ended::Failed(error) => {
                            context.abandon();
                            let failed = fail_task(shared, context, &error, running.used, failures);
                            running.memory.insert(open[at], context.take_memory());
                            return Poll::Ready(Err(failed.err().unwrap_or(error)));
                        }
                    }
                }
            }
        }
        if let Some(journal) = journal.as_deref_mut()
            && let Poll::Ready(Err(error)) = journal.poll(cx)
        {
            return Poll::Ready(Err(error));
        }
        if !is_cancelled {
            is_cancelled = cancelled.is_terminated() || cancelled.as_mut().poll(cx).is_ready();
        }
        if is_cancelled && closing.is_empty() {
            return Poll::Ready(Err(Error::Cancelled));
        }
        Poll::Pending
    })
    .await;
    drop(tasks);
    drop(running);
    ended.map(|()| has_paused)
}

/// The tasks of a step while they run. What is known of those that did not end is kept, whatever ends the step: an error, or
/// that it is dropped by a node around it which may try again.
struct Running<'a> {
    shared: &'a Shared,
    open: &'a [TaskId],
    contexts: &'a [RunContext],
    going: Vec<bool>,
    memory: &'a mut HashMap<TaskId, TaskMemory>,
    used: &'a mut Used,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for at in (0..self.open.len()).filter(|at| self.going[*at]) {
            let context = &self.contexts[at];
            context.abandon();
            let _ = book(self.shared, context, self.used); // the first error is the one that is told
            self.memory.insert(self.open[at], context.take_memory());
        }
    }
}

/// Parts of a bounded budget for Sends that run side by side: one cannot spend what another was meant to have.
fn shares(shared: &Shared, open: &[TaskId]) -> Vec<Option<Budget>> {
    let sends = open.iter().filter(|task| task.send.is_some()).count();
    if sends < 2 || !shared.budget.is_bounded() {
        return Vec::new();
    }
    let mut parts = shared.budget.split(sends).into_iter();
    open.iter()
        .map(|task| task.send.and_then(|_| parts.next()))
        .collect()
}

/// Which tasks of a step no race waits for any more.
#[derive(Default)]
struct Race {
    through: Vec<NodeIndex>,
    beaten: Vec<NodeIndex>,
}

impl Race {
    fn note<S: State>(&mut self, task: &TaskDone<S>) {
        if matches!(task.next, Next::Edges) {
            self.through.push(task.id.node);
        }
    }

    fn decide(&mut self, schedule: &Schedule, topology: &crate::step::Topology) {
        self.beaten = schedule.beaten(topology, &self.through);
    }

    fn has_beaten(&self, task: TaskId) -> bool {
        self.beaten.contains(&task.node)
    }
}

/// Books what a task used that did not end well.
fn book(shared: &Shared, cx: &RunContext, used: &mut Used) -> Result<()> {
    let (own, inner) = cx.take_used();
    if let Some(inner) = inner {
        used.add(&inner.usage, inner.spend);
    }
    let Some(own) = own else { return Ok(()) };
    used.add(&own.usage, own.spend);
    if let Some(journal) = &shared.journal {
        let body = UsageBody {
            task: cx.task_ref(),
            used: Cow::Borrowed(&own),
        };
        journal.push(RecordKind::Usage, &body)?;
    }
    Ok(())
}

fn finish_task<S: State>(
    shared: &Shared,
    cx: &RunContext,
    task: &TaskDone<S>,
    used: &mut Used,
) -> Result<()> {
    let (own, inner) = cx.take_used();
    let own = cx.recorded_used().or(own);
    for more in own
        .as_deref()
        .into_iter()
        .chain(inner.as_deref())
        .chain(cx.recorded_booked())
    {
        used.add(&more.usage, more.spend);
    }
    if let Some(journal) = &shared.journal {
        journal.task(cx, task, own.as_deref())?;
    }
    if shared.events.is_some() {
        for update in &task.updates {
            let update = serde_json::to_value(update)
                .map_err(|error| Error::invalid("update", format!("it is no JSON: {error}")))?;
            cx.event(|| EventKind::Update { update });
        }
        cx.event(|| EventKind::NodeEnd { failure: None });
    }
    Ok(())
}

fn fail_task(
    shared: &Shared,
    cx: &RunContext,
    error: &Error,
    used: &mut Used,
    failures: &mut Vec<(TaskRef, Failure)>,
) -> Result<()> {
    let failure = Failure::from(error);
    cx.event(|| EventKind::NodeEnd {
        failure: Some(failure.clone()),
    });
    failures.push((cx.task_ref(), failure));
    book(shared, cx, used)
}

/// Folds what the step's tasks returned, in their order, and sets what comes next.
async fn end_step<S: State>(
    graph: &Graph<S>,
    shared: &Arc<Shared>,
    progress: &mut Progress<S>,
    journal: Option<&mut Journal>,
) -> Result<()> {
    let mut finished = std::mem::take(&mut progress.finished);
    finished.sort_by_key(|task| task.id.order());
    let has_all = progress.schedule.tasks().count() == finished.len();
    let dropped: Vec<NodeIndex> = if has_all {
        Vec::new()
    } else {
        let is_done = |id: &TaskId| finished.iter().any(|task| task.id == *id);
        let dropped = progress.schedule.tasks().filter(|id| !is_done(id));
        dropped.map(|id| id.node).collect()
    };
    progress.memory.clear();
    let mut updates = Vec::with_capacity(finished.len());
    let mut ways: Vec<(NodeIndex, Next)> = Vec::with_capacity(finished.len());
    let mut stop = None;
    for task in finished.drain(..) {
        updates.push((&**graph.name_of(task.id.node), task.updates));
        // Tasks of one node that follow its edges lead to the same places: once is enough.
        let is_known = matches!(task.next, Next::Edges)
            && ways
                .iter()
                .any(|(node, next)| *node == task.id.node && matches!(next, Next::Edges));
        if !is_known {
            ways.push((task.id.node, task.next));
        }
        stop = stop.or(task.stop);
    }
    progress.finished = finished; // empty, with its room for the next step
    progress.state.expire(graph.blank());
    let state = &mut progress.state;
    let mut leave: Option<Targets> = None;
    let mut exits = Vec::with_capacity(ways.len() + dropped.len());
    let end = || {
        fold(state, updates)?;
        for (node, next) in ways {
            if let Next::Leave(targets) = &next {
                if shared.path.is_empty() {
                    return Err(Error::InvalidGraph {
                        faults: vec![format!(
                            "`{}` left its graph, which is inside of no other; use a goto to END",
                            graph.name_of(node)
                        )],
                    });
                }
                leave = Some(match leave.take() {
                    Some(earlier) => earlier.and(targets.clone()),
                    None => targets.clone(),
                });
            }
            exits.push((node, graph.exit(node, next, state)?));
        }
        Ok(())
    };
    if let Err(error) = end() {
        progress.is_step_void = true;
        return Err(error);
    }
    exits.extend(dropped.into_iter().map(|node| (node, Exit::dropped())));
    progress.schedule.advance(graph.topology(), exits);
    if leave.is_some() {
        progress.leave = leave;
        progress.schedule.close();
    }
    if let Some(queue) = &shared.journal {
        let body = StepBody {
            schedule: Cow::Borrowed(&progress.schedule),
        };
        let pushed = queue.push_waiting(RecordKind::Step, &body, false)?;
        let is_full = if pushed.is_snapshot_due {
            snapshot(graph, queue, shared, progress)?
        } else {
            pushed.is_full
        };
        match (journal, pushed.written) {
            (Some(journal), _) if queue.is_sync() || is_full => journal.drain().await?,
            // Begins the append; it goes on beside the next step.
            (Some(journal), _) => {
                poll_fn(|cx| match journal.poll(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Ready(Ok(())),
                })
                .await?;
            }
            // The run around this one writes; it ends itself where that fails.
            (None, Some(written)) => written.await.map_err(|_| Error::Cancelled)?,
            (None, None) => {}
        }
    }
    if shared.events.is_some() {
        let values = progress.values(shared)?;
        shared.emit(progress.schedule.step, || EventKind::StepEnd { values });
    }
    stop.map_or(Ok(()), Err)
}

/// Writes the whole state; whether so much waits then that the run should.
fn snapshot<S: State>(
    graph: &Graph<S>,
    queue: &JournalQueue,
    shared: &Shared,
    progress: &Progress<S>,
) -> Result<bool> {
    let body = SnapshotBody {
        graph: Cow::Borrowed(graph.shape()),
        state: progress.state.save()?,
        schedule: Cow::Borrowed(&progress.schedule),
        base: progress.base,
        used: Cow::Borrowed(&progress.used),
        kept: shared.kept().clone(),
    };
    let pushed = queue.push_waiting(RecordKind::Snapshot, &body, false)?;
    Ok(pushed.is_full)
}
