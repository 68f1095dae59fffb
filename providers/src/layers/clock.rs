//! [`Clock`]: time passed in, so that waits can be tested without waiting; [`Dice`]: randomness with a seed.

use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, SystemTime},
};

/// Where the layers take their time from.
pub trait Clock: Send + Sync + Debug {
    /// The time since a moment that stays the same; it never goes back.
    fn now(&self) -> Duration;

    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;

    /// Ends after so long.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The time of this machine, on tokio's timers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        static ORIGIN: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);
        let origin = *ORIGIN;
        tokio::time::Instant::now().saturating_duration_since(origin)
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

pub(super) fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

#[derive(Debug, Default)]
struct Wheel {
    now: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

/// A clock that stands still until it is moved: for tests of waits. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use stepwell_providers::layers::{Clock, VirtualClock};
/// let clock = VirtualClock::new();
/// let nap = clock.sleep(Duration::from_secs(3_600));
/// futures::executor::block_on(clock.run(nap)); // at once
/// assert_eq!(clock.now(), Duration::from_secs(3_600));
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<Mutex<Wheel>>);

impl VirtualClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    fn wheel(&self) -> MutexGuard<'_, Wheel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the time on and wakes whoever slept until then.
    pub fn advance(&self, time: Duration) {
        let until = {
            let mut wheel = self.wheel();
            wheel.now += time;
            wheel.now
        };
        self.wake(until);
    }

    fn wake(&self, until: Duration) {
        let due = {
            let mut wheel = self.wheel();
            let later = wheel.sleepers.split_off(&(until + Duration::from_nanos(1), 0));
            std::mem::replace(&mut wheel.sleepers, later)
        };
        for (_, waker) in due {
            waker.wake();
        }
    }

    /// Moves to the next moment somebody sleeps until; whether there was one.
    fn skip(&self) -> bool {
        let until = {
            let mut wheel = self.wheel();
            let Some((until, _)) = wheel.sleepers.keys().next().copied() else {
                return false;
            };
            wheel.now = wheel.now.max(until);
            wheel.now
        };
        self.wake(until);
        true
    }

    /// Runs a future whose only waits are on this clock: whenever it stands still, the time moves on to the next
    /// moment somebody sleeps until.
    pub async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            loop {
                let flag = Arc::new(Flag {
                    is_woken: AtomicBool::new(false),
                    outer: cx.waker().clone(),
                });
                let waker = Waker::from(Arc::clone(&flag));
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Poll::Ready(output);
                }
                if !flag.is_woken.load(Ordering::SeqCst) && !self.skip() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

struct Flag {
    is_woken: AtomicBool,
    outer: Waker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.outer.wake_by_ref();
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.wheel().now
    }

    fn unix_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut wheel = self.wheel();
        wheel.next += 1;
        let key = (wheel.now.saturating_add(time), wheel.next);
        drop(wheel);
        Box::pin(Nap {
            clock: self.clone(),
            key,
        })
    }
}

struct Nap {
    clock: VirtualClock,
    key: (Duration, u64),
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut wheel = self.clock.wheel();
        if wheel.now >= self.key.0 {
            return Poll::Ready(());
        }
        wheel.sleepers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        self.clock.wheel().sleepers.remove(&self.key);
    }
}

/// Random numbers that a seed repeats (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    /// From a seed; without one, different in every process.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(seed.unwrap_or_else(|| {
            RandomState::new().hash_one(std::process::id())
        })))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to and without 1.
    pub(super) fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Dice, VirtualClock};
    use std::time::Duration;

    #[test]
    fn time_moves_on_only_when_everybody_sleeps() {
        let clock = VirtualClock::new();
        let other = clock.clone();
        let both = async {
            let short = async {
                other.sleep(Duration::from_secs(1)).await;
                other.now()
            };
            let long = async {
                other.sleep(Duration::from_secs(5)).await;
                other.now()
            };
            futures::join!(long, short)
        };
        let (long, short) = futures::executor::block_on(clock.run(both));
        assert_eq!((long.as_secs(), short.as_secs()), (5, 1));
    }

    #[test]
    fn a_seed_repeats_its_numbers_and_they_lie_between_zero_and_one() {
        let (one, two) = (Dice::new(Some(7)), Dice::new(Some(7)));
        for _ in 0..1_000 {
            let number = one.unit();
            assert!((0.0..1.0).contains(&number));
            assert!((number - two.unit()).abs() < f64::EPSILON);
        }
        assert_ne!(Dice::new(None).next(), Dice::new(None).next());
    }
}
