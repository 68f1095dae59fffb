//! Columns that a program drew row by row: read down, not across.
//!
//! Most programs draw in reading order, and then nothing is changed. A table is drawn row by row too and is left as it
//! is; what tells prose in two columns from it is that its lines are long, evenly spaced, and break inside sentences.

use std::ops::Range;

use super::layout::Point;

/// Least rows of two parts that make a pair of columns.
const LEAST_ROWS: usize = 4;
/// Words of a line of prose in a column, at least.
const LEAST_WORDS: usize = 3;

/// A part of a line: what stands together without a gap as wide as between columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Where its words begin in the text.
    pub(super) at: usize,
    /// Whether it begins a line; otherwise it stands to the right of the last.
    pub(super) starts_line: bool,
    /// Along the line.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Downwards.
    pub(super) down: f64,
    pub(super) size: f64,
    pub(super) along: Point,
}

/// The text with its columns one after the other.
pub(super) fn read_down(text: String, segments: &[Segment]) -> String {
    let rows = rows(segments);
    if rows.iter().filter(|row| row.len() == 2).count() < LEAST_ROWS {
        return text;
    }
    let words = |segment: usize| {
        let end = segments.get(segment + 1).map_or(text.len(), |next| next.at);
        text[segments[segment].at..end].trim()
    };
    let mut out = String::with_capacity(text.len() + 64);
    let (mut copied, mut row) = (0, 0);
    while row < rows.len() {
        let Some(end) = columns(&rows[row..], segments, words).map(|length| row + length) else {
            row += 1;
            continue;
        };
        let first = rows[row].start;
        out.push_str(&text[copied..segments[first].at]);
        let gutter = segments[first + 1].from;
        let usual = usual_step(&rows[row..end], segments).unwrap_or(f64::MAX);
        for is_left in [true, false] {
            let mut last: Option<f64> = None;
            let parts = rows[row..end].iter().cloned().flatten();
            for part in parts.filter(|part| is_left_of(&segments[*part], gutter) == is_left) {
                let down = segments[part].down;
                match last {
                    Some(above) if down - above > usual * 1.35 => out.push_str("\n\n"),
                    Some(_) => out.push('\n'),
                    None => {}
                }
                last = Some(down);
                out.push_str(words(part));
            }
            out.push_str("\n\n");
        }
        copied = segments.get(rows[end - 1].end).map_or(text.len(), |next| next.at);
        row = end;
    }
    if copied == 0 {
        return text;
    }
    out.push_str(&text[copied..]);
    out
}

/// The segments of each line.
fn rows(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut rows: Vec<Range<usize>> = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        match rows.last_mut() {
            Some(row) if !segment.starts_line => row.end = number + 1,
            _ => rows.push(number..number + 1),
        }
    }
    rows
}

fn is_left_of(segment: &Segment, gutter: f64) -> bool {
    segment.from < gutter - segment.size
}

/// How many rows from the first on are a pair of columns of prose.
fn columns<'t>(
    rows: &[Range<usize>],
    segments: &[Segment],
    words: impl Fn(usize) -> &'t str,
) -> Option<usize> {
    let first = rows.first().filter(|row| row.len() == 2)?;
    let gutter = segments[first.start + 1].from;
    let mut length = 1;
    while let (Some(above), Some(row)) = (rows.get(length - 1), rows.get(length)) {
        if !fits(&segments[row.clone()], &segments[above.start], gutter) {
            break;
        }
        length += 1;
    }
    let pairs: Vec<_> = rows[..length].iter().filter(|row| row.len() == 2).collect();
    if pairs.len() < LEAST_ROWS || pairs.len() * 3 < length * 2 {
        return None;
    }
    let share = |holds: &dyn Fn(&str) -> bool| {
        let parts = pairs.iter().flat_map(|row| (*row).clone());
        parts.filter(|part| holds(words(*part))).count() * 100 / (pairs.len() * 2)
    };
    let is_long = share(&|words| words.split_whitespace().count() >= LEAST_WORDS && words.len() >= 14) >= 75;
    let breaks_off = share(&|words| words.ends_with(['.', '!', '?', ':', ';'])) <= 40;
    let usual = usual_step(&rows[..length], segments)?;
    let steps = steps(&rows[..length], segments);
    let even = steps
        .iter()
        .filter(|step| (**step - usual).abs() < usual * 0.2)
        .count();
    let is_even = even * 100 >= steps.len() * 70;
    (is_long && breaks_off && is_even).then_some(length)
}

/// Whether a row goes on with both columns, or with one of them.
fn fits(row: &[Segment], above: &Segment, gutter: f64) -> bool {
    let is_next = row.iter().all(|part| {
        let step = part.down - above.down;
        let turned = part.along.0 * above.along.0 + part.along.1 * above.along.1;
        step > 0.0 && step < part.size * 3.0 && turned > 0.99
    });
    let is_left = |part: &Segment| part.to < gutter - part.size * 0.5;
    let is_right = |part: &Segment| (part.from - gutter).abs() < part.size * 2.0;
    is_next
        && match row {
            [left, right] => is_left(left) && is_right(right),
            [one] => is_left(one) || is_right(one),
            _ => false,
        }
}

fn steps(rows: &[Range<usize>], segments: &[Segment]) -> Vec<f64> {
    let down = |row: &Range<usize>| segments[row.start].down;
    rows.windows(2).map(|two| down(&two[1]) - down(&two[0])).collect()
}

/// The middle one of the steps from line to line.
fn usual_step(rows: &[Range<usize>], segments: &[Segment]) -> Option<f64> {
    let mut steps = steps(rows, segments);
    steps.sort_by(f64::total_cmp);
    steps.get(steps.len() / 2).copied()
}
