//! Drives an outermost run: begins or takes it up again, opens its journal, tells how it ended.

use crate::{
    EventKind, Failure, Graph, Outcome, Run, RunEvent, State,
    checkpoints::migrate,
    context::Shared,
    event::{EventQueue, Keeper, keep_nowhere},
    journal::{AnswerBody, EditBody, EndBody, EventBody, InputBody, Journal, StartBody, Stored},
    outcome::Rest,
    progress::{Progress, Taken, names},
    run::{Begin, Given, Pause, RunOptions},
    runner::{Breaks, walk},
    state::{apply, fold},
    step::TaskId,
};
use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::{
    Budget, Error, Result,
    store::{RecordKind, RunStatus, RunStore, check_name},
};
use tracing::Instrument;

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
        let mut walked = Box::pin(walk(
            self.graph,
            &shared,
            progress,
            self.journal.as_mut(),
            &breaks,
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
