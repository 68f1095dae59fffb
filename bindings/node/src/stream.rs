//! Streams: `take()` gives everything that is ready as one JSON text, `wait()` one promise per dry spell.
//!
//! Items are written as JSON where they are made, off the JavaScript thread; there a batch costs one crossing and one
//! `JSON.parse`. An item leaves the queue only in `take`. The producer sleeps above a bound.

use crate::{convert::to_json, error::to_napi, runtime::promise};
use napi::{
    Env,
    bindgen_prelude::{PromiseRaw, spawn},
};
use napi_derive::napi;
use serde::Serialize;
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use stepwell::{Error, Result};
use tokio::{sync::Notify, task::AbortHandle};

/// Above so many items, or bytes, the producer sleeps until `take` makes room.
const HIGH_WATER: usize = 1024;
const HIGH_WATER_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Queue {
    /// Items as JSON with commas between.
    ready: String,
    count: usize,
    /// The words among them, for a reader who wants nothing else.
    words: String,
    /// Comes after what is ready.
    failure: Option<Error>,
    outcome: Option<String>,
    is_done: bool,
}

impl Queue {
    fn clear(&mut self) {
        self.ready.clear();
        self.words.clear();
        self.count = 0;
    }
}

/// What a producer fills.
#[derive(Default)]
pub(crate) struct Feed {
    queue: Mutex<Queue>,
    ready: Notify,
    space: Notify,
    /// The reader has asked for words: items are not written any more.
    is_words_only: AtomicBool,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, and the words it brings.
    pub(crate) fn push_event<T: Serialize + ?Sized>(&self, item: &T, words: Option<&str>) -> Result<()> {
        if self.is_words_only.load(Ordering::Relaxed) {
            if words.is_some() {
                self.push("", words);
            }
            return Ok(());
        }
        self.push(&to_json(item)?, words);
        Ok(())
    }

    /// The same for an item that is written already.
    pub(crate) fn push_written(&self, json: Result<String>, words: Option<&str>) -> Result<()> {
        self.push(&json?, words);
        Ok(())
    }

    /// Adds an item that is JSON already.
    pub(crate) fn push_json(&self, json: &str) {
        self.push(json, None);
    }

    fn push(&self, json: &str, words: Option<&str>) {
        let mut queue = self.lock();
        if queue.is_done {
            return; // closed meanwhile
        }
        if queue.count > 0 {
            queue.ready.push(',');
        }
        queue.ready.push_str(json);
        queue.words.push_str(words.unwrap_or_default());
        queue.count += 1;
        drop(queue);
        self.ready.notify_one();
    }

    /// Ends when there is room.
    pub(crate) async fn room(&self) {
        loop {
            {
                let queue = self.lock();
                let is_full =
                    queue.count >= HIGH_WATER || queue.ready.len() + queue.words.len() >= HIGH_WATER_BYTES;
                if !is_full || queue.is_done {
                    return;
                }
            }
            self.space.notified().await;
        }
    }

    fn end(&self, outcome: Result<Option<String>>) {
        let mut queue = self.lock();
        if !queue.is_done {
            match outcome {
                Ok(outcome) => queue.outcome = outcome,
                Err(error) => queue.failure = Some(error),
            }
            queue.is_done = true;
        }
        drop(queue);
        self.ready.notify_one();
    }
}

/// A running stream of the engine; closing or dropping it stops the engine's side.
#[napi]
pub struct NativeStream {
    feed: Arc<Feed>,
    producer: AbortHandle,
}

/// Whatever becomes of the producer (a panic too), the reader is told that it ended.
struct EndOfFeed(Arc<Feed>);

impl Drop for EndOfFeed {
    fn drop(&mut self) {
        self.0.end(Err(Error::internal(
            "the engine stopped before the end of the stream",
        )));
    }
}

impl NativeStream {
    /// Runs a producer. What it returns is the outcome, read after the last item; its failure comes after the items.
    pub(crate) fn open<F, Fut>(produce: F) -> Self
    where
        F: FnOnce(Arc<Feed>) -> Fut,
        Fut: Future<Output = Result<Option<String>>> + Send + 'static,
    {
        let feed = Arc::new(Feed::default());
        let producer = produce(Arc::clone(&feed));
        let end = EndOfFeed(Arc::clone(&feed));
        let task = spawn(async move {
            let outcome = producer.await;
            end.0.end(outcome);
        });
        Self {
            feed,
            producer: task.abort_handle(),
        }
    }
}

#[napi]
impl NativeStream {
    /// Everything that is ready, as a JSON array; empty when nothing is, null at the end. A failure comes alone,
    /// after the items before it.
    #[napi]
    pub fn take(&self) -> napi::Result<Option<String>> {
        self.take_ready(|queue| format!("[{}]", queue.ready))
    }

    /// The words among what is ready, in one piece; the rest is dropped.
    #[napi]
    pub fn take_words(&self) -> napi::Result<Option<String>> {
        self.feed.is_words_only.store(true, Ordering::Relaxed);
        self.take_ready(|queue| std::mem::take(&mut queue.words))
    }

    fn take_ready(&self, read: impl FnOnce(&mut Queue) -> String) -> napi::Result<Option<String>> {
        let mut queue = self.feed.lock();
        if queue.count == 0 {
            if let Some(error) = queue.failure.take() {
                drop(queue);
                return Err(to_napi(error));
            }
            return Ok((!queue.is_done).then(String::new));
        }
        let text = read(&mut queue);
        queue.clear();
        drop(queue);
        self.feed.space.notify_one();
        Ok(Some(text))
    }

    /// Ends when `take` has something to say.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn wait<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let feed = Arc::clone(&self.feed);
        promise(env, stepwell::Cancel::new(), async move {
            loop {
                {
                    let queue = feed.lock();
                    if queue.count > 0 || queue.is_done {
                        return Ok(());
                    }
                }
                feed.ready.notified().await;
            }
        })
    }

    /// What the producer gave in the end, as JSON; null before the end.
    #[napi]
    pub fn outcome(&self) -> Option<String> {
        self.feed.lock().outcome.clone()
    }

    /// Stops the engine's side and drops what was not taken. A pending `wait` ends.
    #[napi]
    pub fn close(&self) {
        self.producer.abort();
        let mut queue = self.feed.lock();
        queue.is_done = true;
        queue.failure = None;
        queue.clear();
        drop(queue);
        self.feed.ready.notify_one();
        self.feed.space.notify_one();
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        self.producer.abort();
    }
}
