//! [`Cached`]: an answer that was given before is given again.

mod key;
#[cfg(test)]
mod tests;

use super::clock::{Clock, system_clock};
use crate::seconds::{seconds, some_seconds};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    future::{Either, select},
    stream,
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, Cost, FinishReason, Fold, ModelInfo, Result, Scope,
    StreamEvent, Usage, Warning, store::Cache, whole,
};
use tokio::sync::OwnedMutexGuard;

/// What is kept, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How long an answer is good: a day.
    #[serde(deserialize_with = "some_seconds")]
    pub time_to_live: Option<Duration>,
    /// Answers longer than this are not kept: 1 MiB as JSON.
    pub max_bytes: usize,
    /// Equal requests at the same time are asked once, and the others wait for that answer: yes.
    pub shares_calls: bool,
    /// The longest wait for somebody else's answer; then the model is asked: 30 s.
    #[serde(deserialize_with = "seconds")]
    pub max_wait: Duration,
    /// Where the time comes from: this machine.
    #[serde(skip)]
    pub clock: Arc<dyn Clock>,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            time_to_live: Some(Duration::from_hours(24)),
            max_bytes: 1 << 20,
            shares_calls: true,
            max_wait: Duration::from_secs(30),
            clock: system_clock(),
        }
    }
}

impl CacheOptions {
    /// Sets how long an answer is good; for ever with `None`.
    pub fn time_to_live(mut self, time: Option<Duration>) -> Self {
        self.time_to_live = time;
        self
    }

    /// Sets how long an answer may be to be kept.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets whether equal requests at the same time are asked once.
    pub fn shares_calls(mut self, shares_calls: bool) -> Self {
        self.shares_calls = shares_calls;
        self
    }

    /// Sets the longest wait for somebody else's answer.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Who asks for what just now.
#[derive(Debug, Default)]
struct Flights(Mutex<HashMap<String, Turn>>);

impl Flights {
    fn turn(&self, key: &str) -> Turn {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry(key.to_owned()).or_default())
    }

    /// Forgets a turn nobody takes or waits for.
    fn tidy(&self, key: &str) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            flights.remove(key);
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The right to ask for one key. Dropping it lets the next one look, and ask if nothing was kept.
#[derive(Debug)]
struct Flight {
    flights: Arc<Flights>,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.guard = None;
        self.flights.tidy(&self.key);
    }
}

/// A model whose answers are kept for one tenant.
#[derive(Debug)]
pub(super) struct Cached {
    inner: Arc<dyn ChatModel>,
    store: Store,
    flights: Arc<Flights>,
}

/// Where answers are kept.
#[derive(Clone, Debug)]
struct Store {
    cache: Arc<dyn Cache>,
    scope: Scope,
    options: CacheOptions,
}

impl Store {
    /// The answer of a key; a cache that fails is as good as an empty one.
    async fn get(&self, key: &str) -> Option<ChatResponse> {
        match self.cache.get(&self.scope, key).await {
            Ok(kept) => serde_json::from_slice(&kept?).ok(),
            Err(error) => {
                tracing::warn!(code = error.code(), "the cache of answers could not be read");
                None
            }
        }
    }

    async fn put(&self, key: &str, answer: &ChatResponse) {
        let whole = matches!(answer.finish_reason, FinishReason::Stop | FinishReason::ToolCalls);
        if !whole || answer.refusal.is_some() {
            return;
        }
        let Ok(bytes) = serde_json::to_vec(answer) else {
            return;
        };
        if bytes.len() > self.options.max_bytes {
            return;
        }
        let kept = self
            .cache
            .put(&self.scope, key, Bytes::from(bytes), self.options.time_to_live);
        if let Err(error) = kept.await {
            tracing::warn!(code = error.code(), "an answer could not be kept");
        }
    }
}

impl Cached {
    pub(super) fn new(
        inner: Arc<dyn ChatModel>,
        cache: Arc<dyn Cache>,
        scope: Scope,
        options: CacheOptions,
    ) -> Self {
        Self {
            inner,
            store: Store {
                cache,
                scope,
                options,
            },
            flights: Arc::default(),
        }
    }

    /// The right to ask, once whoever asks the same just now is done; none where that takes too long.
    async fn board(&self, key: &str) -> Option<Flight> {
        let options = &self.store.options;
        if !options.shares_calls {
            return None;
        }
        let mut flight = Flight {
            flights: Arc::clone(&self.flights),
            key: key.to_owned(),
            guard: None,
        };
        let turn = Box::pin(self.flights.turn(key).lock_owned());
        match select(turn, options.clock.sleep(options.max_wait)).await {
            Either::Left((guard, _)) => flight.guard = Some(guard),
            Either::Right(_) => return None,
        }
        Some(flight)
    }

    fn again(&self, mut answer: ChatResponse) -> ChatStream {
        let spared = answer.usage.total();
        answer.usage = Usage::default();
        answer.usage.input_tokens = Some(0);
        answer.usage.output_tokens = Some(0);
        answer.cost = answer.cost.map(|_| Cost { micro_usd: 0 });
        answer.warnings.push(Warning::new(
            "from_cache",
            format!("this answer was given before and took no tokens now; {spared} were spared"),
        ));
        // What the limits and the failures were then says nothing about now.
        answer.rate_limits.clear();
        answer.attempts.clear();
        let mut events = Vec::new();
        let info = self.inner.info();
        if answer.provider != info.provider {
            events.push(StreamEvent::Fallback {
                provider: answer.provider.clone(),
                model: answer.model.clone(),
            });
        }
        events.extend(whole(answer));
        stream::iter(events.into_iter().map(Ok)).boxed()
    }
}

#[async_trait]
impl ChatModel for Cached {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        // A raw answer is the vendor's own and comes from nowhere else.
        if request.include_raw {
            return self.inner.stream(request).await;
        }
        let key = key::key(&self.store.scope, self.inner.info(), &request);
        if let Some(answer) = self.store.get(&key).await {
            return Ok(self.again(answer));
        }
        let flight = self.board(&key).await;
        if flight.is_some()
            && let Some(answer) = self.store.get(&key).await
        {
            return Ok(self.again(answer));
        }
        let stream = self.inner.stream(request).await?;
        let info = self.inner.info();
        let state = Keeping {
            stream,
            fold: Some(Fold::new(&info.provider, &info.model, false)),
            store: self.store.clone(),
            key,
            flight,
        };
        Ok(stream::unfold(state, |mut state| async move {
            let event = state.next().await?;
            Some((event, state))
        })
        .boxed())
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

struct Keeping {
    stream: ChatStream,
    /// `None` where the answer will not be kept.
    fold: Option<Fold>,
    store: Store,
    key: String,
    flight: Option<Flight>,
}

impl Keeping {
    async fn next(&mut self) -> Option<Result<StreamEvent>> {
        let event = match self.stream.next().await? {
            Ok(event) => event,
            Err(error) => {
                self.fold = None;
                return Some(Err(error));
            }
        };
        if let Some(fold) = &mut self.fold
            && fold.push(event.clone()).is_err()
        {
            self.fold = None;
        }
        // Kept before the end mark is handed out: many stop reading there.
        if matches!(event, StreamEvent::Finish { .. }) {
            if let Some(answer) = self.fold.take().and_then(|fold| fold.finish().ok()) {
                self.store.put(&self.key, &answer).await;
            }
            self.flight = None;
        }
        Some(Ok(event))
    }
}
