//! Drives a graph: awaits the tasks of a step, folds them, writes the journal, cancels. What comes next is decided in
//! `step.rs`; nothing is spawned, so dropping a run drops everything in it.

use crate::{
    EventKind, Failure, Graph, Outcome, Run, RunContext, State,
    command::Command,
    context::{Shared, TaskMemory, Used, add_spend},
    event::EventQueue,
    graph::Entry,
    journal::{Journal, Replay, TaskDone, replay},
    run::{Begin, RunOptions},
    state::fold,
    step::{NodeIndex, Schedule},
};
use futures::{FutureExt, Stream, stream::FuturesUnordered};
use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use stepwell_core::{
    Budget, Error, Result,
    store::{RunStatus, RunStore, check_name},
};
use tracing::Instrument;

pub(crate) fn names<'a, S: State>(
    graph: &Graph<S>,
    nodes: impl Iterator<Item = &'a NodeIndex>,
) -> Vec<String> {
    nodes.map(|node| graph.name_of(*node).to_string()).collect()
}

/// How far a run is.
pub(crate) struct Progress<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    pub(crate) finished: Vec<TaskDone<S>>,
    pub(crate) memory: HashMap<String, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) is_step_void: bool,
}

impl<S: State> Progress<S> {
    pub(crate) fn blank(graph: &Graph<S>) -> Self {
        Self {
            state: graph.blank().clone(),
            schedule: Schedule::default(),
            finished: Vec::new(),
            memory: HashMap::new(),
            used: Used::default(),
            status: RunStatus::Running,
            failure: None,
            is_step_void: false,
        }
    }

    pub(crate) fn of(replay: Replay<S>) -> Self {
        Self {
            state: replay.state,
            schedule: replay.schedule,
            finished: replay.finished,
            memory: replay.memory,
            used: replay.used,
            status: replay.status,
            failure: replay.failure,
            is_step_void: false,
        }
    }

    pub(crate) fn fold_finished(&mut self, graph: &Graph<S>) -> Result<()> {
        let mut finished = std::mem::take(&mut self.finished);
        finished.sort_by_key(|task| task.node);
        let updates = finished
            .into_iter()
            .map(|task| (&**graph.name_of(task.node), task.updates))
            .collect();
        fold(&mut self.state, updates)
    }
}

/// Runs it to its end, whatever that is.
pub(crate) async fn drive<S: State>(run: Run<S>, events: Option<EventQueue>) -> Outcome<S> {
    let Run {
        graph,
        begin,
        options,
    } = run;
    let run_id: Arc<str> = match &options.run_id {
        Some(run_id) => run_id.as_str().into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    };
    let span = tracing::info_span!("invoke_workflow", graph = graph.name(), run_id = &*run_id);
    let mut progress = Progress::blank(&graph);
    let mut journal = None;
    let result = go(
        &graph,
        begin,
        &options,
        &run_id,
        events.clone(),
        &mut progress,
        &mut journal,
    )
    .instrument(span)
    .await;
    let mut error = result.err();
    let mut status = match &error {
        None => RunStatus::Done,
        Some(Error::Cancelled) => RunStatus::Cancelled,
        Some(_) => RunStatus::Failed,
    };
    let next = if status == RunStatus::Done {
        Vec::new()
    } else {
        let is_open = |node: &&NodeIndex| !progress.finished.iter().any(|task| task.node == **node);
        names(&graph, progress.schedule.ready.iter().filter(is_open))
    };
    if let Some(journal) = &mut journal
        && let Err(failed) = journal.end(status, error.as_ref(), progress.is_step_void).await
        && error.is_none()
    {
        (status, error) = (RunStatus::Failed, Some(failed));
    }
    if !progress.is_step_void {
        // A conflict among the finished is told on resume, when all of the step have; here it only limits the view.
        let _ = progress.fold_finished(&graph);
    }
    if let Some(events) = events {
        let failure = error.as_ref().map(Failure::from);
        events.push(
            &run_id,
            progress.schedule.step,
            None,
            EventKind::RunEnd { status, failure },
        );
    }
    Outcome {
        run_id: run_id.to_string(),
        status,
        state: progress.state,
        steps: progress.schedule.step,
        next,
        usage: progress.used.usage,
        spent: progress.used.spend,
        error,
    }
}

/// From the begin to the last step. `journal` is left behind for the end record, once the run has one.
async fn go<S: State>(
    graph: &Graph<S>,
    begin: Begin<S>,
    options: &RunOptions,
    run_id: &Arc<str>,
    events: Option<EventQueue>,
    progress: &mut Progress<S>,
    journal: &mut Option<Journal>,
) -> Result<()> {
    check_name("run id", run_id)?;
    let is_resumed = matches!(begin, Begin::Journal);
    let mut opened = begin_run(graph, begin, options, run_id, progress).await?;
    if is_resumed && progress.status == RunStatus::Done {
        return Ok(());
    }
    let shared = Arc::new(Shared {
        run_id: Arc::clone(run_id),
        scope: options.scope.clone(),
        cancel: options.cancel.clone(),
        budget: options
            .budget
            .clone()
            .unwrap_or_else(|| Budget::resume(options.budget_limits.clone(), progress.used.spend)),
        limits: options.limits.clone(),
        wants_updates: events.is_some(),
        wants_values: options.wants_values,
        events,
        journal: opened.as_ref().map(|journal| journal.queue.clone()),
    });
    if let Some(journal) = &mut opened {
        // Before any work: a run of this id that exists, or that another process drives, is refused here.
        journal.drain().await?;
    }
    *journal = opened;
    shared.emit(progress.schedule.step, None, || EventKind::RunStart {
        is_resumed,
    });
    let mut cancelled = pin!(options.cancel.cancelled().fuse());
    while !progress.schedule.ready.is_empty() {
        options.cancel.check()?;
        if progress.schedule.step >= options.limits.steps {
            return Err(Error::StepLimit {
                limit: options.limits.steps,
            });
        }
        tokio::task::coop::consume_budget().await; // nodes that never wait would starve their neighbours
        run_step(graph, &shared, progress, journal.as_mut(), cancelled.as_mut()).await?;
        end_step(graph, &shared, progress, journal.as_mut()).await?;
    }
    Ok(())
}

/// Sets the run's progress and opens its journal, where it has one.
async fn begin_run<S: State>(
    graph: &Graph<S>,
    begin: Begin<S>,
    options: &RunOptions,
    run_id: &Arc<str>,
    progress: &mut Progress<S>,
) -> Result<Option<Journal>> {
    let open = |store: &Arc<dyn RunStore>, last_seq| {
        Journal::new(
            Arc::clone(store),
            options.scope.clone(),
            Arc::clone(run_id),
            Arc::clone(graph.name_arc()),
            options.durability,
            last_seq,
        )
    };
    match begin {
        Begin::State(state) => progress.state = *state,
        Begin::Input(input) => progress.state.apply(*input)?,
        Begin::Journal => {
            let Some(store) = &options.store else {
                return Err(Error::invalid("resume", "name the store the run is kept in"));
            };
            let replay = replay(graph, &**store, &options.scope, run_id).await?;
            let journal = open(store, replay.last_seq);
            let weight = replay.weight;
            *progress = Progress::of(replay);
            if progress.status != RunStatus::Done {
                journal.resumed(weight)?;
            }
            return Ok(Some(journal));
        }
    }
    progress.schedule = graph.start(&progress.state)?;
    let Some(store) = &options.store else {
        return Ok(None);
    };
    let journal = open(store, 0);
    journal.start(graph.fingerprint(), progress.state.save()?, &progress.schedule)?;
    Ok(Some(journal))
}

/// The tasks of a step: most steps have one, which needs no set.
enum Tasks<F> {
    One(Option<Pin<Box<F>>>),
    Many(FuturesUnordered<F>),
}

impl<F: Future> Tasks<F> {
    fn new(mut tasks: impl ExactSizeIterator<Item = F>) -> Self {
        if tasks.len() == 1 {
            Self::One(tasks.next().map(Box::pin))
        } else {
            Self::Many(tasks.collect())
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        match self {
            Self::Many(tasks) => Pin::new(tasks).poll_next(cx),
            Self::One(slot) => match slot {
                None => Poll::Ready(None),
                Some(task) => task.as_mut().poll(cx).map(|ended| {
                    *slot = None;
                    Some(ended)
                }),
            },
        }
    }
}

async fn run_task<S: State>(entry: &Entry<S>, state: &S, cx: &RunContext) -> Result<Command<S::Update>> {
    cx.event(|| EventKind::NodeStart);
    let work = AssertUnwindSafe(async { entry.node.run(state, cx).await }).catch_unwind();
    let span = tracing::debug_span!("node", name = &*entry.name, step = cx.step);
    match work.instrument(span).await {
        Ok(result) => result.map_err(|error| error.into_error(&entry.name)),
        Err(_) => Err(Error::NodeFailed {
            node: entry.name.to_string(),
            source: "it panicked".into(), // the panic's words may quote anything: they are left out
        }),
    }
}

/// Runs the ready nodes that had not finished before; all their ends are in `progress.finished` afterwards. An error
/// drops those that still run.
async fn run_step<S: State>(
    graph: &Graph<S>,
    shared: &Arc<Shared>,
    progress: &mut Progress<S>,
    mut journal: Option<&mut Journal>,
    mut cancelled: Pin<&mut impl futures::future::FusedFuture<Output = ()>>,
) -> Result<()> {
    let step = progress.schedule.step + 1;
    shared.emit(step, None, || EventKind::StepStart {
        nodes: progress
            .schedule
            .ready
            .iter()
            .map(|node| Arc::clone(graph.name_of(*node)))
            .collect(),
    });
    let Progress {
        state,
        schedule,
        finished,
        memory,
        used,
        ..
    } = progress;
    let open: Vec<NodeIndex> = schedule
        .ready
        .iter()
        .copied()
        .filter(|node| !finished.iter().any(|task| task.node == *node))
        .collect();
    let contexts: Vec<RunContext> = open
        .iter()
        .map(|node| {
            let name = graph.name_of(*node);
            RunContext::new(Arc::clone(shared), Arc::clone(name), step, memory.remove(&**name))
        })
        .collect();
    let state = &*state;
    let mut tasks = Tasks::new(open.iter().zip(&contexts).enumerate().map(|(at, (node, cx))| {
        let entry = graph.entry(*node);
        async move { (at, run_task(entry, state, cx).await) }
    }));
    // Those that end by themselves once the switch is pulled, and are waited for then.
    let mut closing: Vec<usize> = (0..open.len())
        .filter(|at| graph.entry(open[*at]).node.ends_on_cancel())
        .collect();
    let mut is_cancelled = false;
    poll_fn(|cx| {
        loop {
            match tasks.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some((at, ended))) => {
                    closing.retain(|open| *open != at);
                    let task_used = contexts[at].take_used();
                    if let Some(more) = &task_used {
                        used.usage.add(&more.usage);
                        add_spend(&mut used.spend, more.spend);
                    }
                    let journal = journal.as_deref();
                    match end_task(shared, journal, &contexts[at], open[at], ended, task_used) {
                        Ok(task) => finished.push(task),
                        Err(error) => return Poll::Ready(Err(error)),
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
    .await
}

fn end_task<S: State>(
    shared: &Shared,
    journal: Option<&Journal>,
    cx: &RunContext,
    node: NodeIndex,
    ended: Result<Command<S::Update>>,
    used: Option<Box<Used>>,
) -> Result<TaskDone<S>> {
    match ended {
        Ok(command) => {
            let task = TaskDone {
                node,
                updates: command.updates,
                next: command.next,
                stop: command.stop,
                used,
            };
            if let Some(journal) = journal {
                journal.task(cx.step, &cx.node, &task)?;
            }
            if shared.wants_updates {
                for update in &task.updates {
                    let update = serde_json::to_value(update)
                        .map_err(|error| Error::invalid("update", format!("it is no JSON: {error}")))?;
                    cx.event(|| EventKind::Update { update });
                }
                cx.event(|| EventKind::NodeEnd { failure: None });
            }
            Ok(task)
        }
        Err(error) => {
            if let (Some(journal), Some(used)) = (journal, &used) {
                journal.used(&cx.node, used)?;
            }
            cx.event(|| EventKind::NodeEnd {
                failure: Some(Failure::from(&error)),
            });
            Err(error)
        }
    }
}

/// Folds what the step's tasks returned, in declaration order, and sets what comes next.
async fn end_step<S: State>(
    graph: &Graph<S>,
    shared: &Shared,
    progress: &mut Progress<S>,
    journal: Option<&mut Journal>,
) -> Result<()> {
    let mut finished = std::mem::take(&mut progress.finished);
    finished.sort_by_key(|task| task.node);
    let mut updates = Vec::with_capacity(finished.len());
    let mut ways = Vec::with_capacity(finished.len());
    let mut stop = None;
    for task in finished {
        updates.push((&**graph.name_of(task.node), task.updates));
        ways.push((task.node, task.next));
        stop = stop.or(task.stop);
    }
    let folded = fold(&mut progress.state, updates).and_then(|()| {
        ways.into_iter()
            .map(|(node, next)| Ok((node, graph.exit(node, &next, &progress.state)?)))
            .collect::<Result<Vec<_>>>()
    });
    let exits = match folded {
        Ok(exits) => exits,
        Err(error) => {
            progress.is_step_void = true;
            return Err(error);
        }
    };
    progress.schedule.advance(graph.topology(), &exits);
    if let Some(journal) = journal {
        journal.step(&progress.schedule)?;
        journal.snapshot_if_due(graph, &progress.state, &progress.schedule, &progress.used)?;
        if journal.queue.is_sync() || journal.is_full() {
            journal.drain().await?;
        } else {
            // Begins the append; it goes on beside the next step.
            poll_fn(|cx| match journal.poll(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(())),
            })
            .await?;
        }
    }
    if let Some(events) = &shared.events {
        let values = shared.wants_values.then(|| progress.state.save()).transpose()?;
        events.push(
            &shared.run_id,
            progress.schedule.step,
            None,
            EventKind::StepEnd { values },
        );
    }
    stop.map_or(Ok(()), Err)
}
