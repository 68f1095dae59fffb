//! [`Tasks`]: the tasks of one step side by side, at most so many at once, and for tests in an order that chance decides.

use futures::{
    FutureExt, Stream,
    future::{AbortHandle, Abortable, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Most turns that chance makes a task wait.
const DELAYS: u64 = 4;

/// A small generator of pseudo-random numbers (SplitMix64): the same seed gives the same order on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Tasks of a step. Each gives its number and its end.
pub(crate) enum Tasks<'a, T> {
    /// Most steps have one, which needs no set.
    One(Option<BoxFuture<'a, T>>),
    Many(Many<'a, T>),
    Seeded(Seeded<'a, T>),
}

pub(crate) struct Many<'a, T> {
    running: FuturesUnordered<Abortable<BoxFuture<'a, T>>>,
    handles: Vec<Option<AbortHandle>>,
    waiting: VecDeque<(usize, BoxFuture<'a, T>)>,
    most: usize,
}

pub(crate) struct Seeded<'a, T> {
    running: Vec<(usize, u64, BoxFuture<'a, T>)>,
    waiting: VecDeque<(usize, BoxFuture<'a, T>)>,
    most: usize,
    chance: Chance,
}

impl<'a, T> Tasks<'a, T> {
    pub(crate) fn new<F: Future<Output = T> + Send + 'a>(
        tasks: impl ExactSizeIterator<Item = F>,
        most: Option<usize>,
        seed: Option<u64>,
    ) -> Self {
        let most = most.unwrap_or(usize::MAX).max(1);
        let count = tasks.len();
        let mut tasks = tasks.map(FutureExt::boxed);
        if let Some(seed) = seed {
            return Self::Seeded(Seeded {
                running: Vec::new(),
                waiting: tasks.enumerate().collect(),
                most,
                chance: Chance(seed),
            });
        }
        if count == 1 {
            return Self::One(tasks.next());
        }
        Self::Many(Many {
            running: FuturesUnordered::new(),
            handles: vec![None; count],
            waiting: tasks.enumerate().collect(),
            most,
        })
    }

    /// Drops a task that runs or waits, by its place in the list it was given in.
    pub(crate) fn drop_task(&mut self, at: usize) {
        match self {
            Self::One(task) => *task = None,
            Self::Many(many) => {
                many.waiting.retain(|(waiting, _)| *waiting != at);
                if let Some(handle) = many.handles[at].take() {
                    handle.abort();
                }
            }
            Self::Seeded(seeded) => {
                seeded.waiting.retain(|(waiting, _)| *waiting != at);
                seeded.running.retain(|(running, ..)| *running != at);
            }
        }
    }

    /// The next end; `None` when no task is left.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self {
            Self::One(slot) => match slot {
                None => Poll::Ready(None),
                Some(task) => task.as_mut().poll(cx).map(|ended| {
                    *slot = None;
                    Some(ended)
                }),
            },
            Self::Many(many) => many.poll_next(cx),
            Self::Seeded(seeded) => seeded.poll_next(cx),
        }
    }
}

impl<T> Many<'_, T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            while self.running.len() < self.most
                && let Some((at, task)) = self.waiting.pop_front()
            {
                let (task, handle) = abortable(task);
                self.handles[at] = Some(handle);
                self.running.push(task);
            }
            match Pin::new(&mut self.running).poll_next(cx) {
                Poll::Ready(Some(Ok(ended))) => return Poll::Ready(Some(ended)),
                Poll::Ready(None) if self.waiting.is_empty() => return Poll::Ready(None),
                Poll::Ready(Some(Err(_)) | None) => {} // it was dropped, or another waits
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<T> Seeded<'_, T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        while self.running.len() < self.most && !self.waiting.is_empty() {
            let place = self.chance.below(self.waiting.len() as u64);
            let place = usize::try_from(place).unwrap_or(0);
            if let Some((at, task)) = self.waiting.remove(place) {
                let delay = self.chance.below(DELAYS);
                self.running.push((at, delay, task));
            }
        }
        if self.running.is_empty() {
            return Poll::Ready(None);
        }
        // Another order at each turn.
        for last in (1..self.running.len()).rev() {
            let place = self.chance.below(last as u64 + 1);
            self.running.swap(last, usize::try_from(place).unwrap_or(0));
        }
        for place in 0..self.running.len() {
            let (_, delay, task) = &mut self.running[place];
            if *delay > 0 {
                *delay -= 1;
                cx.waker().wake_by_ref();
                continue;
            }
            if let Poll::Ready(ended) = task.as_mut().poll(cx) {
                drop(self.running.swap_remove(place));
                return Poll::Ready(Some(ended));
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use std::{
        collections::HashSet,
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    async fn order(count: usize, most: Option<usize>, seed: Option<u64>) -> (Vec<usize>, usize) {
        let (running, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |at: usize| {
            let (running, peak) = (&running, &peak);
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                peak.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                at
            }
        };
        let mut tasks = Tasks::new((0..count).map(work), most, seed);
        let mut ends = Vec::new();
        while let Some(at) = poll_fn(|cx| tasks.poll_next(cx)).await {
            ends.push(at);
        }
        (ends, peak.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn every_task_ends_once_and_never_more_than_allowed_run_at_once() {
        for most in [None, Some(1), Some(3)] {
            for seed in [None, Some(1), Some(2)] {
                let (mut ends, peak) = order(10, most, seed).await;
                ends.sort_unstable();
                assert_eq!(ends, (0..10).collect::<Vec<_>>());
                assert!(peak <= most.unwrap_or(10), "{peak} at once, {most:?} allowed");
            }
        }
    }

    #[tokio::test]
    async fn a_seed_gives_the_same_order_again_and_seeds_differ() {
        let mut orders = HashSet::new();
        for seed in 0..20 {
            let (first, _) = order(6, None, Some(seed)).await;
            assert_eq!(first, order(6, None, Some(seed)).await.0);
            orders.insert(first);
        }
        assert!(orders.len() > 10, "{} orders of 20 seeds", orders.len());
    }

    #[tokio::test]
    async fn a_dropped_task_never_ends() {
        for seed in [None, Some(7)] {
            let mut tasks = Tasks::new((0..3).map(|at| async move { at }), Some(1), seed);
            tasks.drop_task(1);
            let mut ends = Vec::new();
            while let Some(at) = poll_fn(|cx| tasks.poll_next(cx)).await {
                ends.push(at);
            }
            ends.sort_unstable();
            assert_eq!(ends, [0, 2]);
        }
    }
}
