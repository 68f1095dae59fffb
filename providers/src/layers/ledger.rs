//! [`CallRecord`]: what one try of a call took, delivered exactly once however it ended.

use super::{
    clock::{Clock, SystemClock},
    meter::Meter,
    watch::{Watcher, watch},
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell_core::{
    Attempt, ChatModel, ChatRequest, ChatStream, Cost, Error, ModelInfo, Result, Scope, StreamEvent, Timer,
    Usage,
    store::{UsageLedger, UsageRow},
};
use uuid::Uuid;

/// Most rows that wait for a ledger that fails.
const MOST_PENDING: usize = 10_000;

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// With its end mark.
    Finished,
    /// With the error of this code.
    Failed(String),
    /// The caller dropped it.
    Cancelled,
}

/// What one try of a call took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallRecord {
    /// An id of its own.
    pub id: String,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The vendor that was asked.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// The vendor's id of the request.
    pub request_id: Option<String>,
    /// Tokens; flagged where they are an estimate, empty where nothing was used.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds it took; `None` for a try that an inner layer reports.
    pub took_ms: Option<u64>,
}

/// Is told what each try took, exactly once. It may be called while a stream is dropped: it must not block.
pub type UsageHook = Arc<dyn Fn(CallRecord) + Send + Sync>;

/// Rows on their way into a ledger.
#[derive(Debug)]
struct Book {
    ledger: Arc<dyn UsageLedger>,
    scope: Scope,
    purpose: String,
    pending: Mutex<VecDeque<UsageRow>>,
}

impl Book {
    fn add(&self, record: CallRecord) {
        // A try that used nothing is no call to be counted.
        if record.usage.total() == 0 && record.outcome != Outcome::Finished {
            return;
        }
        let mut row = UsageRow::new(
            record.id,
            record.at_ms,
            &self.purpose,
            record.provider,
            record.model,
            record.usage,
        );
        row.actor = self.scope.actor().map(str::to_owned);
        row.cost = record.cost;
        let mut pending = self.pending();
        if pending.len() < MOST_PENDING {
            pending.push_back(row);
        } else {
            tracing::error!("the usage ledger fails for too long; a row is lost");
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, VecDeque<UsageRow>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits. A row is taken away only after it is written: writing it twice counts once.
    async fn flush(&self) {
        loop {
            let Some(row) = self.pending().front().cloned() else {
                return;
            };
            let id = row.id.clone();
            if let Err(error) = self.ledger.record(&self.scope, row).await {
                tracing::warn!(
                    code = error.code(),
                    "the usage ledger could not be written; it is tried again"
                );
                return;
            }
            self.pending().retain(|row| row.id != id);
        }
    }

    /// The same where nobody can wait: in a task of its own, which is all that a drop can do. Without a runtime the
    /// rows wait for the next call.
    fn flush_soon(self: &Arc<Self>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.pending().is_empty()
        {
            let book = Arc::clone(self);
            runtime.spawn(async move { book.flush().await });
        }
    }
}

/// A model whose calls are booked.
pub(super) struct Booked {
    inner: Arc<dyn ChatModel>,
    hook: UsageHook,
    book: Option<Arc<Book>>,
}

impl fmt::Debug for Booked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Booked")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Booked {
    pub(super) fn told(inner: Arc<dyn ChatModel>, hook: UsageHook) -> Self {
        Self {
            inner,
            hook,
            book: None,
        }
    }

    pub(super) fn written(
        inner: Arc<dyn ChatModel>,
        ledger: Arc<dyn UsageLedger>,
        scope: Scope,
        purpose: String,
    ) -> Self {
        let book = Arc::new(Book {
            ledger,
            scope,
            purpose,
            pending: Mutex::default(),
        });
        let writer = Arc::clone(&book);
        Self {
            inner,
            hook: Arc::new(move |record| writer.add(record)),
            book: Some(book),
        }
    }
}

#[async_trait]
impl ChatModel for Booked {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let mut entry = Entry {
            hook: Some(Arc::clone(&self.hook)),
            book: self.book.clone(),
            info: self.inner.info().clone(),
            meter: Meter::new(request.estimated_tokens()),
            request_id: None,
            began: SystemClock.now(),
        };
        let stream = match self.inner.stream(request).await {
            Ok(stream) => watch(stream, entry),
            Err(error) => {
                entry.refused(&error);
                drop(entry);
                if let Some(book) = &self.book {
                    book.flush().await;
                }
                return Err(error);
            }
        };
        let Some(book) = self.book.clone() else {
            return Ok(stream);
        };
        // Written before the end is handed out: many stop reading there.
        Ok(stream
            .then(move |event| {
                let is_last = matches!(event, Err(_) | Ok(StreamEvent::Finish { .. }));
                let book = is_last.then(|| Arc::clone(&book));
                async move {
                    if let Some(book) = book {
                        book.flush().await;
                    }
                    event
                }
            })
            .chain(stream::empty())
            .boxed())
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

/// A try that is under way. Dropping it tells what was used by then.
struct Entry {
    /// `None` once it is told.
    hook: Option<UsageHook>,
    book: Option<Arc<Book>>,
    info: ModelInfo,
    meter: Meter,
    request_id: Option<String>,
    began: Duration,
}

impl Entry {
    fn record(&self, usage: Usage, cost: Option<Cost>, outcome: Outcome) -> CallRecord {
        CallRecord {
            id: Uuid::now_v7().to_string(),
            at_ms: SystemClock.unix_ms(),
            provider: self.info.provider.clone(),
            model: self.info.model.clone(),
            request_id: self.request_id.clone(),
            usage,
            cost,
            outcome,
            took_ms: None,
        }
    }

    fn tell(&mut self, outcome: Outcome, is_used: bool) {
        let Some(hook) = self.hook.take() else { return };
        let usage = if is_used {
            self.meter.usage()
        } else {
            Usage::default()
        };
        let cost = is_used
            .then(|| {
                self.meter
                    .cost()
                    .or_else(|| self.info.price.as_ref()?.cost(&usage))
            })
            .flatten();
        let mut record = self.record(usage, cost, outcome);
        let took = SystemClock.now().saturating_sub(self.began);
        record.took_ms = u64::try_from(took.as_millis()).ok();
        hook(record);
    }

    /// A try that an inner layer made and that failed.
    fn earlier(&self, attempt: &Attempt) {
        let Some(hook) = &self.hook else { return };
        let mut record = self.record(
            attempt.usage.clone().unwrap_or_default(),
            attempt.cost,
            Outcome::Failed(attempt.code.clone()),
        );
        record.provider.clone_from(&attempt.provider);
        record.model.clone_from(&attempt.model);
        record.request_id.clone_from(&attempt.request_id);
        hook(record);
    }

    /// The call failed before its first event.
    fn refused(&mut self, error: &Error) {
        if let Some(failure) = error.vendor_failure() {
            for attempt in &failure.attempts {
                self.earlier(attempt);
            }
            self.request_id.clone_from(&failure.request_id);
        }
        self.meter.failure(error);
        // Who stalled had read the request; who refused it, or was not reached, bills nothing.
        let is_used = self.meter.has_begun()
            || matches!(error, Error::Timeout { timer, .. } if !matches!(timer, Timer::Connect | Timer::Queue));
        self.tell(Outcome::Failed(error.code().to_owned()), is_used);
    }
}

impl Watcher for Entry {
    fn event(&mut self, event: &StreamEvent) -> Result<()> {
        self.meter.event(event);
        match event {
            StreamEvent::MessageStart {
                request_id: Some(id), ..
            } => self.request_id = Some(id.clone()),
            StreamEvent::Attempt(attempt) => self.earlier(attempt),
            StreamEvent::Fallback { provider, model } => {
                self.info = ModelInfo::new(provider, model);
            }
            StreamEvent::Finish { .. } => self.tell(Outcome::Finished, true),
            _ => {}
        }
        Ok(())
    }

    fn failure(&mut self, error: Error) -> Error {
        self.meter.failure(&error);
        let is_used = self.meter.has_begun();
        self.tell(Outcome::Failed(error.code().to_owned()), is_used);
        error
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tell(Outcome::Cancelled, true);
        if let Some(book) = &self.book {
            book.flush_soon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CallRecord, Outcome};
    use crate::layers::{
        FallbackOptions, ModelExt, RetryOptions, VirtualClock,
        played::{Played, Step, overloaded, start, usage},
    };
    use async_trait::async_trait;
    use futures::{StreamExt, executor::block_on};
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };
    use stepwell_core::{
        ChatModel, Error, Result, Scope,
        store::{Page, PageRequest, UsageGroup, UsageLedger, UsageRow, UsageTotal},
    };

    #[derive(Debug, Default)]
    struct Paper {
        rows: Mutex<Vec<UsageRow>>,
        is_broken: AtomicBool,
    }

    #[async_trait]
    impl UsageLedger for Paper {
        async fn record(&self, _scope: &Scope, row: UsageRow) -> Result<()> {
            if self.is_broken.load(Ordering::SeqCst) {
                return Err(Error::internal("no ink"));
            }
            let mut rows = self.rows.lock().expect("no panic inside");
            if !rows.iter().any(|known| known.id == row.id) {
                rows.push(row);
            }
            Ok(())
        }

        async fn totals(&self, _: &Scope, _: u64, _: u64, _: UsageGroup) -> Result<Vec<UsageTotal>> {
            Ok(Vec::new())
        }

        async fn rows(&self, _: &Scope, _: u64, _: u64, _: PageRequest) -> Result<Page<UsageRow>> {
            Ok(Page::new(Vec::new(), None))
        }

        async fn prune(&self, _: &Scope, _: u64) -> Result<u64> {
            Ok(0)
        }
    }

    impl Paper {
        fn rows(&self) -> Vec<UsageRow> {
            self.rows.lock().expect("no panic inside").clone()
        }
    }

    #[test]
    fn each_try_is_told_once_also_those_of_a_retry_and_a_fallback_inside() {
        let clock = VirtualClock::new();
        let retry = RetryOptions::default()
            .max_retries(1)
            .seed(1)
            .clock(Arc::new(clock.clone()));
        let seen: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
        let log = seen.clone();
        let second: Arc<dyn ChatModel> = Arc::new(Played::new("two", &clock).say("hello"));
        let model = Played::new("one", &clock)
            .fail(overloaded())
            .play(vec![
                Step::Event(start()),
                Step::Event(usage(7, 0)),
                Step::Fail(overloaded()),
            ])
            .with_retry(retry)
            .with_fallback([second], FallbackOptions::default())
            .with_usage_hook(move |record| log.lock().expect("no panic inside").push(record));
        block_on(clock.run(model.chat("x".into()))).expect("the second model");
        let seen = seen.lock().expect("no panic inside");
        let told: Vec<(&str, &Outcome, u64)> = seen
            .iter()
            .map(|record| (record.model.as_str(), &record.outcome, record.usage.total()))
            .collect();
        let failed = Outcome::Failed("overloaded".into());
        assert_eq!(
            told,
            [
                ("one", &failed, 0),
                ("one", &failed, 7),
                ("two", &Outcome::Finished, 15)
            ]
        );
        assert!(seen[1].usage.is_estimated && !seen[2].usage.is_estimated);
        assert_eq!(seen[1].request_id.as_deref(), Some("req_1"));
    }

    #[tokio::test]
    async fn a_ledger_has_a_row_for_what_was_used_however_the_call_ended() {
        let clock = VirtualClock::new();
        let paper = Arc::new(Paper::default());
        let scope = Scope::new("tenant").expect("a name").with_actor("ada");
        let model = Played::new("m", &clock)
            .say("whole")
            .break_off("half of it", overloaded())
            .say("left early")
            .fail(overloaded())
            .with_ledger(paper.clone(), scope, "chat");
        model.chat("x".into()).await.expect("whole");
        assert_eq!(paper.rows().len(), 1, "written before the end was handed out");
        model.chat("x".into()).await.expect_err("breaks off");
        let mut stream = model.stream("x".into()).await.expect("begins");
        for _ in 0..3 {
            stream.next().await;
        }
        drop(stream);
        while paper.rows().len() < 3 {
            tokio::task::yield_now().await;
        }
        model.chat("x".into()).await.expect_err("used nothing");
        let rows = paper.rows();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows.iter().map(|row| row.usage.is_estimated).collect::<Vec<_>>(),
            [false, true, true]
        );
        assert!(
            rows.iter().all(|row| row.purpose == "chat"
                && row.actor.as_deref() == Some("ada")
                && row.cost.is_some())
        );
    }

    #[tokio::test]
    async fn rows_wait_for_a_ledger_that_fails_and_are_written_once() {
        let clock = VirtualClock::new();
        let paper = Arc::new(Paper::default());
        paper.is_broken.store(true, Ordering::SeqCst);
        let model =
            Played::new("m", &clock)
                .say("a")
                .say("b")
                .with_ledger(paper.clone(), Scope::local(), "chat");
        model.chat("x".into()).await.expect("an answer all the same");
        assert!(paper.rows().is_empty());
        paper.is_broken.store(false, Ordering::SeqCst);
        model.chat("x".into()).await.expect("an answer");
        assert_eq!(paper.rows().len(), 2);
    }
}
