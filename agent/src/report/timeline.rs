//! [`Timeline`]: when what ran, and where that stands on the page. Waits for people are drawn short.

use super::{Report, content::grouped};
use crate::{Failure, TraceRun, TraceTask};

/// Rows beyond are cut.
pub(super) const ROWS: usize = 400;

/// Something that took time.
pub(super) struct Bar {
    pub(super) depth: usize,
    pub(super) label: String,
    pub(super) kind: &'static str,
    pub(super) step: u32,
    pub(super) began_ms: u64,
    pub(super) ended_ms: Option<u64>,
    pub(super) note: String,
}

/// Time as it is drawn: from 0 to 100.
pub(super) struct Timeline {
    pub(super) bars: Vec<Bar>,
    /// Times and where they stand, rising.
    points: Vec<(u64, f64)>,
    /// Waits that were cut short: where they stand, and how long they were.
    pub(super) waits: Vec<(f64, f64, u64)>,
    pub(super) rows_cut: usize,
}

impl Timeline {
    pub(super) fn of(report: &Report) -> Self {
        let trace = &report.trace;
        let mut bars = Vec::new();
        collect(report, &trace.run, "", 0, &mut bars);
        let rows_cut = bars.len().saturating_sub(ROWS);
        let mut active: Vec<(u64, u64)> = bars
            .iter()
            .map(|bar| (bar.began_ms, bar.ended_ms.unwrap_or(bar.began_ms)))
            .collect();
        bars.truncate(ROWS);
        active.push((trace.began_ms, trace.began_ms));
        active.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in active {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to.max(from))),
            }
        }
        let busy: u64 = merged.iter().map(|(from, to)| to - from).sum::<u64>().max(1);
        let most = (busy / 8).max(20);
        let short = busy as f64 * 0.04;
        let (mut points, mut waits) = (Vec::new(), Vec::new());
        let mut at = 0.0;
        let mut before: Option<u64> = None;
        for (from, to) in merged {
            if let Some(before) = before {
                let gap = from - before;
                let drawn = if gap > most { short } else { gap as f64 };
                if gap > most {
                    waits.push((at, at + drawn, gap));
                }
                at += drawn;
            }
            points.push((from, at));
            at += (to - from) as f64;
            points.push((to, at));
            before = Some(to);
        }
        let whole = at.max(1.0);
        for point in &mut points {
            point.1 = point.1 / whole * 100.0;
        }
        for wait in &mut waits {
            wait.0 = wait.0 / whole * 100.0;
            wait.1 = wait.1 / whole * 100.0;
        }
        Self {
            bars,
            points,
            waits,
            rows_cut,
        }
    }

    pub(super) fn place(&self, time_ms: u64) -> f64 {
        let after = self.points.partition_point(|(time, _)| *time < time_ms);
        let Some(&(next_time, next)) = self.points.get(after) else {
            return 100.0;
        };
        let Some(&(last_time, last)) = after.checked_sub(1).and_then(|before| self.points.get(before)) else {
            return next;
        };
        let share = (time_ms - last_time) as f64 / (next_time - last_time).max(1) as f64;
        last + (next - last) * share
    }
}

fn collect(report: &Report, run: &TraceRun, path: &str, depth: usize, bars: &mut Vec<Bar>) {
    for step in &run.steps {
        for task in &step.tasks {
            let (began_ms, ended_ms) = times(report, path, step.step, task);
            let mut notes = Vec::new();
            if task.usage.total() > 0 {
                notes.push(format!("{} tokens", grouped(task.usage.total())));
            }
            let place = (path.to_owned(), step.step, task.node.clone());
            if let Some(retries) = report.seen.retries.get(&place) {
                notes.push(format!("tried {} times", retries + 1));
            }
            bars.push(Bar {
                depth,
                label: named(task),
                kind: kind(task),
                step: if depth == 0 { step.step } else { 0 },
                began_ms,
                ended_ms,
                note: notes.join(" · "),
            });
            for call in &task.calls {
                let (seen_began, seen_ended) =
                    report.seen.calls.get(&call.call_id).copied().unwrap_or_default();
                let is_failed = call.result.as_ref().is_some_and(|result| result.is_error);
                bars.push(Bar {
                    depth: depth + 1,
                    label: call.tool.clone(),
                    kind: if is_failed { "tool failed" } else { "tool" },
                    step: 0,
                    began_ms: seen_began.unwrap_or(call.began_ms),
                    ended_ms: seen_ended.or(call.ended_ms),
                    note: String::new(),
                });
                if let Some(inner) = task.runs.iter().find(|run| run.key == call.call_id) {
                    let path = format!("{}@{}", joined(path, &named(task)), call.call_id);
                    collect(report, inner, &path, depth + 2, bars);
                }
            }
            for inner in task.runs.iter().filter(|run| run.key.is_empty()) {
                collect(report, inner, &joined(path, &named(task)), depth + 1, bars);
            }
        }
    }
}

fn joined(path: &str, place: &str) -> String {
    if path.is_empty() {
        place.to_owned()
    } else {
        format!("{path}/{place}")
    }
}

pub(super) fn named(task: &TraceTask) -> String {
    match task.send {
        Some(send) => format!("{}#{send}", task.node),
        None => task.node.clone(),
    }
}

/// From when to when: as events saw it, as the model's own clock did, or as records stand.
pub(super) fn times(report: &Report, path: &str, step: u32, task: &TraceTask) -> (u64, Option<u64>) {
    let place = (path.to_owned(), step, task.node.clone());
    // Sends of one node cannot be told apart by their events.
    let seen = report.seen.tasks.get(&place).filter(|_| task.send.is_none());
    let (seen_began, seen_ended) = seen.copied().unwrap_or_default();
    let began_ms = match (seen_began, task.ended_ms) {
        (Some(began), _) => began,
        // A model call's own time is exact; nodes that wait for nothing begin with their step.
        (None, Some(ended)) if task.usage.total() > 0 && task.calls.is_empty() => {
            ended.saturating_sub(task.spent.time_ms).max(task.began_ms)
        }
        _ => task.began_ms,
    };
    (began_ms, seen_ended.or(task.ended_ms))
}

fn kind(task: &TraceTask) -> &'static str {
    let has_failed: Option<&Failure> = task.failure.as_ref().or(task.stop.as_ref());
    match task {
        _ if has_failed.is_some() => "node failed",
        task if task.ended_ms.is_none() => "node open",
        task if task.usage.total() > 0 => "model",
        _ => "node",
    }
}

/// `120 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn lasted(ms: u64) -> String {
    let s = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", s, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", s / 60, s % 60),
        3_600_000..86_400_000 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// `2026-11-29 06:55:10 UTC`.
pub(super) fn date(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // The civil calendar from days since 1970: years begin in March, so that the leap day is the last of one.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{date, lasted};

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_709_251_199_000), "2024-02-29 23:59:59 UTC");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        assert_eq!(
            (lasted(999), lasted(61_500)),
            ("999 ms".to_owned(), "1 min 1 s".to_owned())
        );
    }
}
