//! What a file may cost, and the thread its reader runs on: a parser that panics, loops or recurses costs one file.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use stepwell_core::{Cancel, Error};

use super::limits::LoadLimits;
use super::refusal::Refusal;

/// The name of reader threads: the panic hook keeps quiet on them, since their panics become errors.
const THREAD: &str = "stepwell-load";
/// Deep enough for recursive parsers at their own nesting limits; pages are only touched when used.
const STACK_BYTES: usize = 64 << 20;
/// Readers that passed their time and have not ended yet; above this, further files are refused, not started.
const MOST_ABANDONED: usize = 8;
/// How often a waiting caller looks at its cancel switch.
const TICK: Duration = Duration::from_millis(50);

static ABANDONED: AtomicUsize = AtomicUsize::new(0);

// Text, Markdown and HTML inflate nothing.
#[cfg_attr(
    not(any(feature = "pdf", feature = "docx", feature = "epub")),
    allow(dead_code)
)]
/// The limits as a reader meets them: its loops ask [`Guard::check`], its inflaters [`Guard::inflate`].
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) limits: LoadLimits,
    stop: Arc<AtomicBool>,
    end: Instant,
    inflated: Cell<u64>,
}

#[cfg_attr(
    not(any(feature = "pdf", feature = "docx", feature = "epub")),
    allow(dead_code)
)] // as above
impl Guard {
    fn new(limits: LoadLimits, stop: Arc<AtomicBool>) -> Self {
        let end = Instant::now() + limits.time;
        Self {
            limits,
            stop,
            end,
            inflated: Cell::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn unbounded() -> Self {
        Self::new(LoadLimits::default(), Arc::default())
    }

    /// Fails once the time is over or nobody waits any longer.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end {
            return Err(self.limits.too_slow());
        }
        Ok(())
    }

    /// The time alone, for where the guard cannot go.
    #[cfg(feature = "pdf")]
    pub(super) fn clock(&self) -> Clock {
        Clock {
            limits: self.limits.clone(),
            stop: Arc::clone(&self.stop),
            end: self.end,
        }
    }

    /// Bytes that may still be inflated.
    pub(super) fn left(&self) -> u64 {
        self.limits.inflated_bytes.saturating_sub(self.inflated.get())
    }

    /// Counts inflated bytes.
    pub(super) fn inflate(&self, bytes: u64) -> Result<(), Refusal> {
        self.inflated.set(self.inflated.get().saturating_add(bytes));
        if self.inflated.get() > self.limits.inflated_bytes {
            Err(self.limits.inflates_too_far())
        } else {
            Ok(())
        }
    }

    /// Most bytes a packed part of this size may inflate to now, and what is said of one that goes on.
    pub(super) fn room(&self, packed: u64) -> (u64, Refusal) {
        let (by_ratio, left) = (self.limits.by_ratio(packed), self.left());
        if by_ratio < left {
            (by_ratio, self.limits.inflates_too_fast())
        } else {
            (left, self.limits.inflates_too_far())
        }
    }

    /// Fails when a text has grown too long.
    pub(super) fn text(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.limits.text_bytes {
            return Err(self.limits.too_long());
        }
        Ok(())
    }
}

/// The clock of a guard.
#[cfg(feature = "pdf")]
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) limits: LoadLimits,
    stop: Arc<AtomicBool>,
    end: Instant,
}

#[cfg(feature = "pdf")]
impl Clock {
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end
    }
}

/// Runs a reader on a thread with a deep stack. A panic is a refusal; so is a reader that passes its time: it is left
/// behind, told to stop at its next check, and its answer is dropped. `Ok(Err(_))` refuses, `Err(_)` was cancelled.
pub(super) fn isolated<T, F>(
    limits: &LoadLimits,
    cancel: &Cancel,
    what: &'static str,
    read: F,
) -> stepwell_core::Result<Result<T, Refusal>>
where
    T: Send + 'static,
    F: FnOnce(&Guard) -> Result<T, Refusal> + Send + 'static,
{
    if ABANDONED.load(Ordering::Relaxed) >= MOST_ABANDONED {
        return Ok(Err(Refusal::new(
            "not read: too many earlier files are still being given up",
        )));
    }
    keep_quiet();
    let stop = Arc::new(AtomicBool::new(false));
    // Whoever comes second finds `true`: the reader on ending, or the caller on leaving.
    let parted = Arc::new(AtomicBool::new(false));
    let guard = Guard::new(limits.clone(), Arc::clone(&stop));
    let end = guard.end;
    let (answer, answered) = mpsc::sync_channel(1);
    let reader_parted = Arc::clone(&parted);
    let started = thread::Builder::new()
        .name(THREAD.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let result = panic::catch_unwind(AssertUnwindSafe(|| read(&guard)));
            let result = result.unwrap_or_else(|panic| {
                forget(panic);
                Err(Refusal::new(format!("broken {what}: its reader failed")))
            });
            // A caller that has left does not hear it.
            let _ = answer.send(result);
            if reader_parted.swap(true, Ordering::AcqRel) {
                ABANDONED.fetch_sub(1, Ordering::Relaxed);
            }
        });
    if let Err(error) = started {
        return Err(Error::io("starting a thread to read a file", error));
    }
    loop {
        match answered.recv_timeout(TICK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err(Refusal::new(format!("broken {what}: its reader failed"))));
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() || Instant::now() >= end => {
                stop.store(true, Ordering::Relaxed);
                ABANDONED.fetch_add(1, Ordering::Relaxed);
                if parted.swap(true, Ordering::AcqRel) {
                    ABANDONED.fetch_sub(1, Ordering::Relaxed);
                }
                cancel.check()?;
                return Ok(Err(limits.too_slow()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// A panic's payload may itself panic when dropped; it is a message in all cases we know, and a small leak in others.
pub(super) fn forget(panic: Box<dyn Any + Send>) {
    if panic.is::<String>() || panic.is::<&'static str>() {
        drop(panic);
    } else {
        std::mem::forget(panic);
    }
}

/// Keeps the default message of a panic off the terminal for reader threads: the panic is reported as an error.
/// Every other thread goes on to the hook that was there before.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T: Send + 'static>(
        limits: &LoadLimits,
        read: impl FnOnce(&Guard) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, String> {
        let result = isolated(limits, &Cancel::new(), "file", read).map_err(|error| error.to_string())?;
        result.map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_reader_that_panics_costs_one_file() {
        let limits = LoadLimits::default();
        assert_eq!(
            run::<()>(&limits, |_| panic!("a parser's own fault")),
            Err("broken file: its reader failed".to_owned())
        );
        assert_eq!(run(&limits, |_| Ok(7)), Ok(7));
    }

    #[test]
    fn a_reader_that_loops_is_left_behind_and_told_to_stop() {
        let limits = LoadLimits::default().with_time(Duration::from_millis(80));
        let (ended, end) = mpsc::channel();
        let result = run::<()>(&limits, move |guard| {
            let refusal = loop {
                if let Err(refusal) = guard.check() {
                    break refusal;
                }
                thread::sleep(Duration::from_millis(1));
            };
            ended.send(()).expect("the test listens");
            Err(refusal)
        });
        assert_eq!(result, Err(limits.too_slow().reason()));
        end.recv_timeout(Duration::from_secs(5))
            .expect("the reader ends by itself");
    }

    #[test]
    fn a_recursion_far_beyond_a_common_stack_fits() {
        fn depth(left: usize, guard: &Guard) -> usize {
            if left == 0 || guard.check().is_err() {
                0
            } else {
                1 + std::hint::black_box(depth(left - 1, guard))
            }
        }
        assert_eq!(
            run(&LoadLimits::default(), |guard| Ok(depth(100_000, guard))),
            Ok(100_000)
        );
    }

    #[test]
    fn a_pulled_switch_ends_the_waiting() {
        let cancel = Cancel::new();
        cancel.cancel();
        let result = isolated::<(), _>(&LoadLimits::default(), &cancel, "file", |guard| {
            loop {
                guard.check()?;
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(result.expect_err("cancelled").code(), "cancelled");
    }

    #[test]
    fn inflated_bytes_are_counted_over_all_parts() {
        let guard = Guard::new(
            LoadLimits::default().with_inflated_bytes(10 << 10),
            Arc::default(),
        );
        assert_eq!((guard.inflate(6 << 10), guard.left()), (Ok(()), 4 << 10));
        assert!(
            guard
                .inflate(5 << 10)
                .expect_err("too far")
                .reason()
                .starts_with("what it inflates to is over the limit of 10 KiB")
        );
    }
}
