//! One task from its first attempt to its end: time limits, attempts, the handler of its failure, its cache.

use crate::{
    Command, EventKind, Failure, NodeError, RunContext, State,
    command::{Next, Targets},
    graph::Entry,
    journal::EventBody,
    options::{NodeCache, NodeOptions},
    tasks::Chance,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use std::{panic::AssertUnwindSafe, time::Duration};
use stepwell_core::{Error, Result, Timer, store::RecordKind};
use tokio::time::Instant;
use tracing::Instrument;

/// How long the winner of a recorded race may take when it is replayed.
const HEAD_START: Duration = Duration::from_secs(5);

/// How a task ended.
pub(crate) enum Ended<U> {
    Done(Command<U>),
    /// It waits for answers, or a run inside it was drained.
    Paused,
    Failed(Error),
}

/// Runs a task to its end. `timeout` is a Send's own time limit.
pub(crate) async fn run_task<S: State>(
    entry: &Entry<S>,
    state: &S,
    cx: &RunContext,
    timeout: Option<Duration>,
) -> Ended<S::Update> {
    cx.event(|| EventKind::NodeStart);
    if cx.was_dropped() {
        // Another won the race when the run was recorded: here it gets the time to.
        tokio::time::sleep(HEAD_START).await;
    }
    let Some(options) = &entry.options else {
        return match once(entry, state, cx, timeout, None).await {
            Ok(command) => Ended::Done(command),
            Err(error) => ended(error, entry),
        };
    };
    if cx.failure().is_some() {
        // Before a crash it had failed for good: only its handler is still to run.
        return handle(entry, options, state, cx).await;
    }
    let key = match &options.cache {
        Some(cache) => match cached::<S>(cache, entry, state, cx).await {
            Ok((_, Some(command))) => return Ended::Done(command),
            Ok((key, None)) => Some((cache, key)),
            Err(error) => return ended(error, entry),
        },
        None => None,
    };
    let most = options.retry.as_ref().map_or(1, |retry| retry.attempts);
    let mut attempt = 1;
    let error = loop {
        let own = cx.for_attempt();
        match once(
            entry,
            state,
            &own,
            timeout.or(options.timeout),
            options.idle_timeout,
        )
        .await
        {
            Ok(command) => {
                if let Some((cache, key)) = &key {
                    keep::<S>(cache, key, &command, cx).await;
                }
                return Ended::Done(command);
            }
            Err(error) if error.is_interrupt() => return Ended::Paused,
            Err(error) => {
                // What it started and nobody waits for any more stops.
                own.cancel().cancel();
                let Some(retry) = options.retry.as_ref().filter(|_| attempt < most) else {
                    break error;
                };
                if !retry.takes(error.error()) {
                    break error;
                }
                let mut chance =
                    Chance(cx.shared.seed.unwrap_or_else(|| (cx.shared.clock)()) ^ u64::from(attempt));
                let delay = retry.delay(attempt, chance.unit());
                cx.event(|| EventKind::NodeRetry {
                    attempt,
                    failure: Failure::from(error.error()),
                    delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                });
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = cx.shared.cancel.cancelled() => return Ended::Failed(Error::Cancelled),
                }
                attempt += 1;
                cx.begin_attempt(attempt);
            }
        }
    };
    let is_handled = options.on_error.is_some() && !matches!(error.error(), Error::Cancelled);
    if !is_handled {
        return ended(error, entry);
    }
    let failure = Failure::from(error.error());
    let body = EventBody::Failed {
        task: cx.task_ref(),
        failure: failure.clone(),
    };
    let written = match cx.leave(RecordKind::Event, &body, false) {
        Ok(written) => written,
        Err(error) => return ended(error, entry),
    };
    cx.memory().failure = Some(failure);
    if let Err(error) = written.safe().await {
        return ended(error, entry);
    }
    cx.begin_attempt(attempt);
    handle(entry, options, state, cx).await
}

fn ended<S: State>(error: NodeError, entry: &Entry<S>) -> Ended<S::Update> {
    if error.is_interrupt() {
        Ended::Paused
    } else {
        Ended::Failed(error.into_error(&entry.name))
    }
}

async fn handle<S: State>(
    entry: &Entry<S>,
    options: &NodeOptions<S>,
    state: &S,
    cx: &RunContext,
) -> Ended<S::Update> {
    let Some(handler) = &options.on_error else {
        let failure = cx.failure().unwrap_or_default();
        return Ended::Failed(Error::NodeFailed {
            node: entry.name.to_string(),
            source: failure.message.into(),
        });
    };
    match guarded(&entry.name, handler.run(state, cx)).await {
        Ok(command) => Ended::Done(command),
        Err(error) => ended(error, entry),
    }
}

/// One attempt.
async fn once<S: State>(
    entry: &Entry<S>,
    state: &S,
    cx: &RunContext,
    timeout: Option<Duration>,
    idle: Option<Duration>,
) -> Result<Command<S::Update>, NodeError> {
    let span = tracing::debug_span!("node", name = &*entry.name, step = cx.step);
    let work = guarded(&entry.name, entry.node.run(state, cx)).instrument(span);
    if timeout.is_none() && idle.is_none() {
        return work.await;
    }
    let timed = async {
        match idle {
            None => work.await,
            Some(idle) => {
                tokio::select! {
                    biased;
                    ended = work => ended,
                    () = silence(cx, idle) => Err(late(entry, idle, Timer::Idle)),
                }
            }
        }
    };
    match timeout {
        None => timed.await,
        Some(timeout) => tokio::time::timeout(timeout, timed)
            .await
            .unwrap_or_else(|_| Err(late(entry, timeout, Timer::Attempt))),
    }
}

/// A panic is an error of the node; the panic's words may quote anything and are left out.
async fn guarded<C>(node: &str, work: impl Future<Output = Result<C, NodeError>>) -> Result<C, NodeError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(ended) => ended,
        Err(_) => Err(NodeError::passed_on(Error::NodeFailed {
            node: node.to_owned(),
            source: "it panicked".into(),
        })),
    }
}

/// Ends when the task has shown no sign of life for so long; up to an eighth later.
async fn silence(cx: &RunContext, idle: Duration) {
    let mut beats = cx.beats();
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(idle / 8).await;
        let now = cx.beats();
        if now != beats {
            (beats, since) = (now, Instant::now());
        } else if since.elapsed() >= idle {
            return;
        }
    }
}

fn late<S: State>(entry: &Entry<S>, after: Duration, timer: Timer) -> NodeError {
    let what = match timer {
        Timer::Idle => format!("a sign of life of node `{}`", entry.name),
        _ => format!("node `{}`", entry.name),
    };
    NodeError::passed_on(Error::Timeout {
        what,
        after,
        timer,
        partial: None,
    })
}

/// What a cache keeps of a command.
#[derive(Serialize, Deserialize)]
struct Cached<U> {
    updates: Vec<U>,
    goto: Option<Targets>,
}

async fn cached<S: State>(
    cache: &NodeCache<S>,
    entry: &Entry<S>,
    state: &S,
    cx: &RunContext,
) -> Result<(String, Option<Command<S::Update>>), NodeError> {
    let key = std::panic::catch_unwind(AssertUnwindSafe(|| (cache.key)(state, cx))).map_err(|_| {
        NodeError::passed_on(Error::NodeFailed {
            node: entry.name.to_string(),
            source: "the key of its cache panicked".into(),
        })
    })?;
    let text = serde_json::to_string(&(&*cx.shared.graph, cx.path(), &*entry.name, key)).unwrap_or_default();
    let key = format!("node:{}", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    // A cache that fails costs time, never the run.
    let found = AssertUnwindSafe(cache.cache.get(cx.scope(), &key))
        .catch_unwind()
        .await;
    let known = match found {
        Ok(Ok(Some(bytes))) => serde_json::from_slice::<Cached<S::Update>>(&bytes).ok(),
        _ => None,
    };
    let command = known.map(|known| Command {
        updates: known.updates,
        next: known.goto.map_or(Next::Edges, Next::Goto),
        stop: None,
    });
    Ok((key, command))
}

async fn keep<S: State>(cache: &NodeCache<S>, key: &str, command: &Command<S::Update>, cx: &RunContext) {
    #[derive(Serialize)]
    struct Kept<'a, U> {
        updates: &'a [U],
        goto: Option<&'a Targets>,
    }
    let goto = match &command.next {
        Next::Edges => None,
        Next::Goto(targets) => Some(targets),
        Next::Leave(_) => return,
    };
    if command.stop.is_some() {
        return;
    }
    let kept = Kept {
        updates: &command.updates,
        goto,
    };
    if let Ok(bytes) = serde_json::to_vec(&kept) {
        let put = AssertUnwindSafe(cache.cache.put(cx.scope(), key, bytes.into(), cache.time));
        let code = match put.catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.code(),
            Err(_) => "panicked",
        };
        tracing::warn!(node = &*cx.node, code, "the result of a node could not be cached");
    }
}
