//! Drives a graph: awaits the tasks of a step, folds them, writes the journal, pauses, cancels. What comes next is decided
//! in `step.rs`; nothing is spawned, so dropping a run drops everything in it.

use crate::{
    EventKind, Failure, Graph, Outcome, Run, RunContext, RunEvent, State, Targets,
    ask::give,
    checkpoints::migrate,
    command::Next,
    context::{Shared, TaskMemory, Used},
    event::{EventQueue, Keeper, keep_nowhere},
    journal::{
        AnswerBody, EditBody, EndBody, EventBody, InputBody, Journal, Replay, SnapshotBody, StartBody,
        StepBody, Stored, TaskDone, TaskRef, UsageBody,
    },
    outcome::Rest,
    run::{Begin, Given, Pause, RunOptions},
    state::{apply, fold},
    step::{Exit, NodeIndex, Schedule, TaskId},
    task::{Ended, run_task},
    tasks::Tasks,
};
use futures::FutureExt;
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};
use stepwell_core::{
    Budget, Error, Result,
    store::{RecordKind, RunStatus, RunStore, check_name},
};
use tracing::Instrument;

pub(crate) fn names<S: State>(graph: &Graph<S>, tasks: impl Iterator<Item = TaskId>) -> Vec<String> {
    tasks.map(|task| graph.name_of(task.node).to_string()).collect()
}

/// How far a run is.
pub(crate) struct Progress<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    /// The step its last input came before: limits count from there.
    pub(crate) base: u32,
    pub(crate) finished: Vec<TaskDone<S>>,
    pub(crate) memory: HashMap<TaskId, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) pause: Option<Pause>,
    /// Where the graph around it goes on.
    pub(crate) leave: Option<Targets>,
    pub(crate) failure: Option<Failure>,
    pub(crate) failures: Vec<(TaskRef, Failure)>,
    pub(crate) kept: HashMap<String, Value>,
    pub(crate) is_step_void: bool,
    pub(crate) is_reshaped: bool,
    /// The number of the last event.
    pub(crate) last_event: u64,
}

impl<S: State> Progress<S> {
    pub(crate) fn blank(graph: &Graph<S>) -> Self {
        Self {
            state: graph.blank().clone(),
            schedule: Schedule::default(),
            base: 0,
            finished: Vec::new(),
            memory: HashMap::new(),
            used: Used::default(),
            status: RunStatus::Running,
            pause: None,
            leave: None,
            failure: None,
            failures: Vec::new(),
            kept: HashMap::new(),
            is_step_void: false,
            is_reshaped: false,
            last_event: 0,
        }
    }

    pub(crate) fn of(replay: Replay<S>) -> Self {
        let last_event = replay.last_event();
        Self {
            state: replay.state,
            schedule: replay.schedule,
            base: replay.base,
            finished: replay.finished,
            memory: replay.memory,
            used: replay.used,
            status: replay.status,
            pause: replay.pause,
            leave: replay.leave,
            failure: replay.failure,
            failures: replay.failures,
            kept: replay.kept,
            is_step_void: false,
            is_reshaped: replay.is_reshaped,
            last_event,
        }
    }

    /// The state for whoever watches, where it was asked for.
    pub(crate) fn values(&self, shared: &Shared) -> Result<Option<Value>> {
        let is_wanted = shared.events.is_some() && shared.wants_values;
        is_wanted.then(|| self.state.save()).transpose()
    }

    /// What the last event tells.
    pub(crate) fn run_end(
        &self,
        (now_ms, wants_values): (u64, bool),
        status: RunStatus,
        pause: Option<&Pause>,
        error: Option<&Error>,
    ) -> EventKind {
        let is_paused = status == RunStatus::Paused;
        EventKind::RunEnd {
            status,
            pause: pause.cloned(),
            failure: error.map(Failure::from),
            questions: if is_paused {
                self.questions(now_ms)
            } else {
                Vec::new()
            },
            // A state that cannot be saved is told when a step ends.
            values: (is_paused && wants_values)
                .then(|| self.state.save().ok())
                .flatten(),
        }
    }

    /// Folds what had finished of a step that is under way.
    pub(crate) fn fold_finished(&mut self, graph: &Graph<S>) -> Result<()> {
        let mut finished = std::mem::take(&mut self.finished);
        if finished.is_empty() {
            return Ok(());
        }
        finished.sort_by_key(|task| task.id.order());
        let updates = finished
            .into_iter()
            .map(|task| (&**graph.name_of(task.id.node), task.updates))
            .collect();
        self.state.expire(graph.blank());
        fold(&mut self.state, updates)
    }

    /// Whether nothing can be done until an answer comes.
    fn is_waiting(&self, path: &[String], now_ms: u64) -> bool {
        let mut open = self
            .schedule
            .tasks()
            .filter(|id| !self.finished.iter().any(|done| done.id == *id))
            .peekable();
        open.peek().is_some()
            && open.all(|id| {
                self.memory
                    .get(&id)
                    .is_some_and(|memory| memory.is_waiting(path, now_ms))
            })
    }

    /// Takes what a run that goes on is given. Everything is checked before anything is changed or written.
    fn take_given(&mut self, given: Given<S>, options: &RunOptions) -> Result<Taken<S>> {
        if let Some(fault) = given.fault {
            return Err(fault);
        }
        let now = (options.clock)();
        let mut answers = given.answers;
        if let Some(reply) = given.reply {
            let mut open: Vec<String> = self
                .questions(now)
                .into_iter()
                .map(|question| question.id)
                .collect();
            match (open.pop(), open.is_empty()) {
                (Some(only), true) => answers.push((only, reply)),
                (Some(last), false) => {
                    open.push(last);
                    return Err(Error::invalid(
                        "answer",
                        format!(
                            "the run waits for {} answers; name the question: {}",
                            open.len(),
                            open.join(", ")
                        ),
                    ));
                }
                (None, _) => return Err(Error::invalid("answer", "the run waits for no answer")),
            }
        }
        let mut state = (!given.updates.is_empty()).then(|| self.state.clone());
        if let Some(state) = &mut state {
            fold(state, vec![("the caller", given.updates.clone())])?;
        }
        give(&mut self.memory, &answers, now)?;
        if let Some(state) = state {
            self.state = state;
        }
        Ok(Taken {
            answers,
            updates: given.updates,
        })
    }
}

/// What a run that goes on was given, checked.
struct Taken<S: State> {
    answers: Vec<(String, Value)>,
    updates: Vec<S::Update>,
}

/// Runs it to its end, whatever that is.
pub(crate) async fn drive<S: State>(run: Run<S>, events: Option<EventQueue>) -> Outcome<S> {
    let Run {
        graph,
        begin,
        given,
        options,
    } = run;
    let run_id: Arc<str> = match &options.run_id {
        Some(run_id) => run_id.as_str().into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    };
    let span = tracing::info_span!("invoke_workflow", graph = graph.name(), run_id = &*run_id);
    let mut driver = Driver {
        graph: &graph,
        options: &options,
        run_id: &run_id,
        progress: Progress::blank(&graph),
        journal: None,
        shared: None,
        is_begun: false,
        is_refused: false,
    };
    let events = events.or_else(|| options.keeps_events.then(EventQueue::to_nobody));
    let result = driver.go(begin, given, events.clone()).instrument(span).await;
    let Driver {
        mut progress,
        mut journal,
        shared,
        is_begun,
        is_refused,
        ..
    } = driver;
    let (mut pause, mut error) = match result {
        Ok(pause) => (pause, None),
        Err(error) if is_refused => (progress.pause.clone(), Some(error)),
        Err(error) => (None, Some(error)),
    };
    let mut status = if is_refused {
        progress.status
    } else {
        status_of(pause.as_ref(), error.as_ref())
    };
    // The last event has a number also where nobody watches: whoever does next time finds it taken. A run that did not
    // begin only says its last event again.
    progress.last_event = if is_begun {
        events
            .as_ref()
            .map_or(progress.last_event, EventQueue::last)
            .saturating_add(1)
    } else {
        progress.last_event.max(1)
    };
    let wishes = ((options.clock)(), options.wants_values);
    let mut end = events.as_ref().map(|_| RunEvent {
        seq: progress.last_event,
        run_id: Arc::clone(&run_id),
        path: Arc::from([]),
        step: progress.schedule.step,
        node: None,
        send: None,
        kind: progress.run_end(wishes, status, pause.as_ref(), error.as_ref()),
    });
    if let (Some(events), Some(end)) = (&events, &end) {
        events.keep_end(end);
    }
    if let Some(journal) = &mut journal
        && let Err(failed) = journal
            .end(&end_of(status, pause.as_ref(), error.as_ref(), &progress))
            .await
        && error.is_none()
    {
        (status, pause, error) = (RunStatus::Failed, None, Some(failed));
        if let Some(end) = &mut end {
            end.kind = progress.run_end(wishes, status, None, error.as_ref());
        }
    }
    let next = if status == RunStatus::Done {
        Vec::new()
    } else {
        let is_open = |id: &TaskId| !progress.finished.iter().any(|task| task.id == *id);
        names(&graph, progress.schedule.tasks().filter(is_open))
    };
    let questions = if status == RunStatus::Paused {
        progress.questions((options.clock)())
    } else {
        Vec::new()
    };
    if let (Some(events), Some(end)) = (events, end) {
        events.end(end);
    }
    let mut outcome = Outcome {
        run_id: run_id.to_string(),
        status,
        state: graph.blank().clone(),
        steps: progress.schedule.step,
        next,
        pause,
        questions,
        usage: progress.used.usage.clone(),
        spent: progress.used.spend,
        error,
        rest: None,
    };
    if status == RunStatus::Paused && options.store.is_none() {
        // The run goes on from memory: what is shown is a copy.
        (progress.status, progress.pause) = (status, outcome.pause.clone());
        outcome.state = progress.state.clone();
        if let Some(shared) = shared {
            progress.kept = std::mem::take(&mut *shared.kept());
        }
        let shown: Vec<_> = progress
            .finished
            .iter()
            .map(|task| (task.id, task.updates.clone()))
            .collect();
        show_finished(&graph, &mut outcome.state, shown);
        outcome.rest = Some(Box::new(Rest {
            graph: graph.clone(),
            options,
            progress: Some(Box::new(progress)),
        }));
        return outcome;
    }
    if !progress.is_step_void {
        // A conflict among the finished is told on resume, when all of the step have; here it only limits the view.
        let _ = progress.fold_finished(&graph);
    }
    outcome.state = progress.state;
    if status == RunStatus::Paused {
        outcome.rest = Some(Box::new(Rest {
            graph: graph.clone(),
            options,
            progress: None,
        }));
    }
    outcome
}

fn show_finished<S: State>(graph: &Graph<S>, state: &mut S, mut finished: Vec<(TaskId, Vec<S::Update>)>) {
    if finished.is_empty() {
        return;
    }
    finished.sort_by_key(|(id, _)| id.order());
    let updates = finished
        .into_iter()
        .map(|(id, updates)| (&**graph.name_of(id.node), updates))
        .collect();
    state.expire(graph.blank());
    let _ = fold(state, updates); // as above
}

pub(crate) fn status_of(pause: Option<&Pause>, error: Option<&Error>) -> RunStatus {
    match (error, pause) {
        (Some(Error::Cancelled), _) => RunStatus::Cancelled,
        (Some(_), _) => RunStatus::Failed,
        (None, Some(_)) => RunStatus::Paused,
        (None, None) => RunStatus::Done,
    }
}

pub(crate) fn end_of<'a, S: State>(
    status: RunStatus,
    pause: Option<&'a Pause>,
    error: Option<&Error>,
    progress: &'a Progress<S>,
) -> EndBody<'a> {
    EndBody {
        status,
        pause: pause.map(Cow::Borrowed),
        failure: error.map(Failure::from),
        leave: progress.leave.as_ref().map(Cow::Borrowed),
        is_step_void: progress.is_step_void,
        last_event: progress.last_event,
    }
}

/// One drive of an outermost run.
struct Driver<'a, S: State> {
    graph: &'a Graph<S>,
    options: &'a RunOptions,
    run_id: &'a Arc<str>,
    progress: Progress<S>,
    /// Set once the run has one that an end has to be written to.
    journal: Option<Journal>,
    shared: Option<Arc<Shared>>,
    /// Whether the run came as far as its first event.
    is_begun: bool,
    /// A run that goes on was given what does not fit: it stands where it stood.
    is_refused: bool,
}

impl<S: State> Driver<'_, S> {
    /// From the begin to the end or a pause.
    async fn go(
        &mut self,
        begin: Begin<S>,
        given: Given<S>,
        events: Option<EventQueue>,
    ) -> Result<Option<Pause>> {
        check_name("run id", self.run_id)?;
        let options = self.options;
        if options.keeps_events && options.store.is_none() {
            return Err(keep_nowhere());
        }
        let breaks = Breaks::new(self.graph, options);
        let goes_on = matches!(begin, Begin::Journal | Begin::Progress(_));
        let is_resumed = goes_on || matches!(begin, Begin::Turn(_));
        let Begun { mut journal, is_over } = self.begin(begin, given).await?;
        self.is_refused = goes_on && breaks.is_err();
        let breaks = breaks?;
        if is_over {
            return Ok(self.progress.pause.take());
        }
        let progress = &mut self.progress;
        let budget = options
            .budget
            .clone()
            .unwrap_or_else(|| Budget::resume(options.budget_limits.clone(), progress.used.spend));
        let time = budget.limits().time_ms;
        let cancel = match time {
            None => options.cancel.clone(),
            Some(_) => options.cancel.child(), // the clock pulls it too
        };
        let shared = Arc::new(Shared {
            run_id: Arc::clone(self.run_id),
            graph: Arc::clone(self.graph.name_arc()),
            scope: options.scope.clone(),
            path: Arc::from([]),
            prefix: String::new(),
            outer: None,
            cancel: cancel.clone(),
            drain: options.drain.clone(),
            budget: budget.clone(),
            limits: options.limits.clone(),
            wants_values: options.wants_values,
            events,
            journal: journal.as_ref().map(|journal| journal.queue.clone()),
            concurrency: options.concurrency,
            seed: options.seed,
            clock: Arc::clone(&options.clock),
            recording: options.recording.clone(),
            kept: Arc::new(Mutex::new(std::mem::take(&mut progress.kept))),
        });
        self.shared = Some(Arc::clone(&shared));
        if progress.is_reshaped {
            // What follows is written by this graph: readers have to know.
            let graph = Cow::Borrowed(self.graph.shape());
            if let Some(journal) = &journal {
                journal.queue.push(RecordKind::Start, &StartBody { graph })?;
            }
        }
        if let Some(journal) = &mut journal {
            // Before any work: a run of this id that exists, or that another process drives, is refused here.
            journal.drain().await?;
        }
        let values = progress.values(&shared)?;
        if let Some(events) = &shared.events {
            let keeper = journal
                .as_ref()
                .filter(|_| options.keeps_events)
                .map(|journal| Keeper::new(journal.queue.clone()));
            events.begin(progress.last_event, keeper);
        }
        self.journal = journal;
        self.is_begun = true;
        shared.emit(progress.schedule.step, || EventKind::RunStart {
            is_resumed,
            values,
        });
        let mut walked = pin!(walk(
            self.graph,
            &shared,
            progress,
            self.journal.as_mut(),
            &breaks
        ));
        let Some(limit) = time else {
            return walked.await;
        };
        let left = limit.saturating_sub(budget.spent().time_ms);
        tokio::select! {
            biased;
            ended = &mut walked => return ended,
            () = tokio::time::sleep(Duration::from_millis(left)) => cancel.cancel(),
        }
        // What runs closes its history; what had finished stands.
        match walked.await {
            Err(Error::Cancelled) if !options.cancel.is_cancelled() => Err(Error::BudgetExceeded {
                what: "time".into(),
                limit: format!("{limit} ms"),
                partial: None,
            }),
            ended => ended,
        }
    }

    /// Sets the run's progress and opens its journal, where it has one.
    async fn begin(&mut self, begin: Begin<S>, given: Given<S>) -> Result<Begun> {
        let options = self.options;
        let is_new = begin.is_new();
        if is_new && !given.is_empty() {
            return Err(Error::invalid(
                "answer",
                "a run that begins waits for none; resume one that paused",
            ));
        }
        match begin {
            Begin::State(state) => self.progress.state = *state,
            Begin::Input(input) => apply(&mut self.progress.state, *input)?,
            Begin::Progress(progress) => {
                self.progress = *progress;
                self.is_refused = true;
                self.progress.take_given(given, options)?;
                self.is_refused = false;
                if self.progress.is_waiting(&[], (options.clock)()) {
                    self.progress.pause = Some(Pause::Questions);
                    return Ok(Begun::over());
                }
                return Ok(Begun::with(None));
            }
            Begin::Journal => return self.begin_again(given).await,
            Begin::Turn(input) => return self.begin_turn(*input, given).await,
        }
        self.progress.schedule = self.graph.start(&self.progress.state)?;
        let Some(store) = &options.store else {
            return Ok(Begun::with(None));
        };
        let journal = self.open(store, 0);
        let start = StartBody {
            graph: Cow::Borrowed(self.graph.shape()),
        };
        journal.queue.push(RecordKind::Start, &start)?;
        let input = InputBody::<S::Update> {
            state: Some(self.progress.state.save()?),
            updates: Vec::new(),
            schedule: self.progress.schedule.clone(),
        };
        journal.queue.push(RecordKind::Input, &input)?;
        Ok(Begun::with(Some(journal)))
    }

    fn open(&self, store: &Arc<dyn RunStore>, last_seq: u64) -> Journal {
        Journal::new(
            Arc::clone(store),
            self.options.scope.clone(),
            Arc::clone(self.run_id),
            Arc::clone(self.graph.name_arc()),
            self.options.saving,
            last_seq,
        )
    }

    async fn read_back(&mut self) -> Result<Journal> {
        let Some(store) = &self.options.store else {
            return Err(Error::invalid("resume", "name the store the run is kept in"));
        };
        let stored = Stored::new(&**store, &self.options.scope, self.run_id);
        let (replay, migrated) = if let Some(migration) = &self.options.migration {
            migrate(self.graph, &stored, migration).await?
        } else {
            let head = stored.head().await?;
            (stored.replay(self.graph, &head, head.last_seq).await?, Vec::new())
        };
        let journal = self.open(store, replay.last_seq);
        journal.queue.weigh(replay.weight);
        for record in migrated {
            journal.queue.push_record(record);
        }
        self.progress = Progress::of(replay);
        Ok(journal)
    }

    async fn begin_again(&mut self, given: Given<S>) -> Result<Begun> {
        let journal = self.read_back().await?;
        let is_given = !given.is_empty();
        self.is_refused = true;
        let Taken { answers, updates } = self.progress.take_given(given, self.options)?;
        self.is_refused = false;
        let progress = &mut self.progress;
        if progress.status == RunStatus::Done {
            progress.pause = None;
            return Ok(Begun::over());
        }
        if !is_given && progress.is_waiting(&[], (self.options.clock)()) {
            progress.pause = Some(Pause::Questions);
            return Ok(Begun::over());
        }
        journal.queue.push(RecordKind::Event, &EventBody::Resumed {})?;
        if !updates.is_empty() {
            journal
                .queue
                .push(RecordKind::Edit, &EditBody::of_caller(updates))?;
        }
        for (question, answer) in answers {
            journal
                .queue
                .push(RecordKind::Answer, &AnswerBody { question, answer })?;
        }
        Ok(Begun::with(Some(journal)))
    }

    async fn begin_turn(&mut self, input: S::Update, given: Given<S>) -> Result<Begun> {
        if !given.is_empty() {
            return Err(Error::invalid(
                "answer",
                "a further input gives open questions up; resume the run to answer them",
            ));
        }
        let journal = self.read_back().await?;
        let progress = &mut self.progress;
        progress.fold_finished(self.graph)?;
        progress.memory.clear();
        progress.failures.clear();
        apply(&mut progress.state, input.clone())?;
        let steps = progress.schedule.step;
        progress.schedule = self.graph.start(&progress.state)?;
        progress.schedule.step = steps;
        progress.base = steps;
        (progress.pause, progress.leave) = (None, None);
        let body = InputBody {
            state: None,
            updates: vec![input],
            schedule: progress.schedule.clone(),
        };
        journal.queue.push(RecordKind::Input, &body)?;
        Ok(Begun::with(Some(journal)))
    }
}

struct Begun {
    journal: Option<Journal>,
    /// There is nothing to do: it is done, or waits for what it was not given.
    is_over: bool,
}

impl Begun {
    fn with(journal: Option<Journal>) -> Self {
        Self {
            journal,
            is_over: false,
        }
    }

    fn over() -> Self {
        Self {
            journal: None,
            is_over: true,
        }
    }
}

/// Where a run pauses though it could go on.
#[derive(Default)]
pub(crate) struct Breaks {
    before: Vec<NodeIndex>,
    after: Vec<NodeIndex>,
}

impl Breaks {
    fn new<S: State>(graph: &Graph<S>, options: &RunOptions) -> Result<Self> {
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
    let now = (shared.clock)();
    let mut has_paused = false;
    let mut open: Vec<TaskId> = Vec::new();
    for task in schedule.tasks() {
        if finished.iter().any(|done| done.id == task) || race.has_beaten(task) {
            continue;
        }
        if memory
            .get(&task)
            .is_some_and(|memory| memory.is_waiting(&shared.path, now))
        {
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
                memory.remove(task),
            )
        })
        .collect();
    let state = &*state;
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
    let mut running: Vec<bool> = vec![true; open.len()];
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
                    running[at] = false;
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
                            if let Err(error) = finish_task(shared, context, &task, used) {
                                return Poll::Ready(Err(error));
                            }
                            if topology.has_races {
                                race.note(&task);
                                race.decide(schedule, topology);
                                for (at, beaten) in open.iter().enumerate() {
                                    if running[at] && race.has_beaten(*beaten) {
                                        running[at] = false;
                                        closing.retain(|open| *open != at);
                                        tasks.drop_task(at);
                                        contexts[at].abandon();
                                        let _ = book(shared, &contexts[at], used);
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
                            if let Err(error) = book(shared, context, used) {
                                return Poll::Ready(Err(error));
                            }
                            memory.insert(open[at], context.take_memory());
                            context.event(|| EventKind::NodeEnd { failure: None });
                        }
                        Ended::Failed(error) => {
                            context.abandon();
                            let failed = fail_task(shared, context, &error, used, failures);
                            memory.insert(open[at], context.take_memory());
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
    if ended.is_err() {
        drop(tasks);
        for (at, context) in contexts.iter().enumerate().filter(|(at, _)| running[*at]) {
            context.abandon();
            let _ = book(shared, context, used); // the first error is the one that is told
            memory.insert(open[at], context.take_memory());
        }
    }
    ended.map(|()| has_paused)
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
    for more in own.iter().chain(&inner) {
        used.add(&more.usage, more.spend);
    }
    if let Some(journal) = &shared.journal {
        journal.task(cx.task_ref(), task, own.as_deref())?;
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
    for task in finished {
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
    progress.state.expire(graph.blank());
    let state = &mut progress.state;
    let mut leave: Option<Targets> = None;
    let folded = fold(state, updates).and_then(|()| {
        ways.into_iter()
            .map(|(node, next)| {
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
                Ok((node, graph.exit(node, next, state)?))
            })
            .collect::<Result<Vec<_>>>()
    });
    let mut exits = match folded {
        Ok(exits) => exits,
        Err(error) => {
            progress.is_step_void = true;
            return Err(error);
        }
    };
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
        let written = queue.push_waiting(RecordKind::Step, &body, false)?;
        if queue.is_snapshot_due() {
            snapshot(graph, shared, progress)?;
        }
        match (journal, written) {
            (Some(journal), _) if queue.is_sync() || queue.is_full() => journal.drain().await?,
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

fn snapshot<S: State>(graph: &Graph<S>, shared: &Shared, progress: &Progress<S>) -> Result<()> {
    let Some(queue) = &shared.journal else {
        return Ok(());
    };
    let body = SnapshotBody {
        graph: Cow::Borrowed(graph.shape()),
        state: progress.state.save()?,
        schedule: Cow::Borrowed(&progress.schedule),
        base: progress.base,
        used: Cow::Borrowed(&progress.used),
        kept: shared.kept().clone(),
    };
    queue.push(RecordKind::Snapshot, &body)
}
