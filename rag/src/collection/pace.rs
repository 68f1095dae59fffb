//! How fast an `add` goes of late, and when it will be done.

use std::collections::VecDeque;
use std::time::Duration;

use super::progress::AddProgress;

/// The pace is that of this time, or of the last two steps where one takes longer.
const WINDOW: Duration = Duration::from_secs(30);
/// More steps than this in a window say nothing more.
const MOST_MARKS: usize = 256;

/// Where it was at a step.
#[derive(Clone, Copy)]
struct Mark {
    at: Duration,
    documents: u64,
    chunks: u64,
}

/// The steps of late.
pub(super) struct Pace {
    start: Duration,
    marks: VecDeque<Mark>,
}

impl Pace {
    pub(super) fn new(now: Duration) -> Self {
        let mark = Mark {
            at: Duration::ZERO,
            documents: 0,
            chunks: 0,
        };
        Self {
            start: now,
            marks: VecDeque::from([mark]),
        }
    }

    /// Notes a step, and writes times and rate into the progress.
    pub(super) fn note(&mut self, now: Duration, progress: &mut AddProgress) {
        let at = now.saturating_sub(self.start);
        let mark = Mark {
            at,
            documents: progress.documents_done,
            chunks: progress.chunks,
        };
        // The second oldest is far enough back: the oldest tells of other times.
        while self.marks.len() >= MOST_MARKS
            || self
                .marks
                .get(1)
                .is_some_and(|next| at.saturating_sub(next.at) >= WINDOW)
        {
            self.marks.pop_front();
        }
        let from = self.marks.front().copied().unwrap_or(mark);
        self.marks.push_back(mark);
        let seconds = at.saturating_sub(from.at).as_secs_f64();
        progress.elapsed = at;
        progress.chunks_per_second = (seconds > 0.0).then(|| (mark.chunks - from.chunks) as f64 / seconds);
        let done = mark.documents - from.documents;
        progress.remaining = progress
            .documents_total
            .filter(|_| done > 0 && seconds > 0.0)
            .map(|total| {
                let rest = total.saturating_sub(mark.documents);
                Duration::try_from_secs_f64(rest as f64 * seconds / done as f64).unwrap_or(Duration::MAX)
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_late_tells_rate_and_rest() {
        let mut pace = Pace::new(Duration::from_secs(1_000));
        let mut progress = AddProgress {
            documents_total: Some(1_000),
            ..AddProgress::default()
        };
        pace.note(Duration::from_secs(1_000), &mut progress);
        assert_eq!((progress.chunks_per_second, progress.remaining), (None, None));
        // 500 documents were there already: that pace is soon forgotten.
        progress.documents_done = 500;
        pace.note(Duration::from_secs(1_001), &mut progress);
        assert_eq!(progress.remaining, Some(Duration::from_secs(1)));
        for second in 1..=100_u64 {
            progress.documents_done += 1;
            progress.chunks += 4;
            pace.note(Duration::from_secs(1_001 + second), &mut progress);
        }
        assert_eq!(progress.elapsed, Duration::from_secs(101));
        assert_eq!(progress.chunks_per_second, Some(4.0));
        assert_eq!(progress.remaining, Some(Duration::from_secs(400)));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_tells_nothing() {
        let mut pace = Pace::new(Duration::from_secs(5));
        let mut progress = AddProgress {
            documents_total: Some(10),
            documents_done: 3,
            ..AddProgress::default()
        };
        for now in [5, 4, 5] {
            pace.note(Duration::from_secs(now), &mut progress);
            assert_eq!((progress.chunks_per_second, progress.remaining), (None, None));
        }
    }
}
