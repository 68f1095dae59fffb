//! From places on a page to lines and paragraphs. The order of drawing is kept: programs draw in reading order, and
//! sorting by height would shuffle columns. Only columns drawn row by row are put one after the other.

use super::columns::{self, Segment};

/// Above this part of the size a step along the line is a space. A guessed width needs more room for error.
const SPACE: f64 = 0.15;
const SPACE_BY_GUESS: f64 = 0.3;
/// Above this part of the size a step across the line is a new line; less is a raised or lowered sign.
const LINE: f64 = 0.5;
/// Above this many sizes, and not the usual step here, a new line is a new paragraph.
const PARAGRAPH: f64 = 1.8;
/// Above this part of the size a step along the line may lead into another column.
const GUTTER: f64 = 1.0;
/// Most parts of lines of a page that are looked at for columns.
const MOST_SEGMENTS: usize = 100_000;

pub(super) type Point = (f64, f64);

/// A string as it is shown.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    pub(super) start: Point,
    pub(super) end: Point,
    /// Direction of the line, of length 1.
    pub(super) along: Point,
    pub(super) size: f64,
    pub(super) has_widths: bool,
}

#[derive(Debug, Default)]
pub(super) struct Layout {
    text: String,
    last: Option<Last>,
    /// The last step from line to line, in sizes.
    leading: Option<f64>,
    segments: Vec<Segment>,
}

/// How a string follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Same,
    Gutter,
    Line,
}

#[derive(Debug)]
struct Last {
    text: String,
    start: Point,
    end: Point,
    size: f64,
    has_widths: bool,
}

impl Layout {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn show(&mut self, run: &Run<'_>) {
        if run.text.is_empty() || !is_finite(run.start) || !is_finite(run.end) {
            return;
        }
        let mut step = Step::Line;
        if let Some(last) = self.last.take() {
            let near = 0.15 * run.size;
            if last.text == run.text && distance(last.start, run.start) < near {
                // Bold, made by drawing twice.
                self.last = Some(last);
                return;
            }
            step = self.step(&last, run);
        }
        self.segment(step, run);
        for sign in run.text.chars() {
            self.push(sign);
        }
        self.last = Some(Last {
            text: run.text.to_owned(),
            start: run.start,
            end: run.end,
            size: run.size,
            has_widths: run.has_widths,
        });
    }

    /// Notes where a part of a line begins, or how far it goes.
    fn segment(&mut self, step: Step, run: &Run<'_>) {
        let along = |point: Point| point.0 * run.along.0 + point.1 * run.along.1;
        let (from, to) = (along(run.start), along(run.end));
        if step == Step::Same
            && let Some(last) = self.segments.last_mut()
        {
            last.to = last.to.max(to);
        } else if self.segments.len() < MOST_SEGMENTS {
            self.segments.push(Segment {
                at: self.text.len(),
                starts_line: step == Step::Line,
                from,
                to,
                down: run.start.0 * run.along.1 - run.start.1 * run.along.0,
                size: run.size,
                along: run.along,
            });
        }
    }

    fn step(&mut self, last: &Last, run: &Run<'_>) -> Step {
        let (dx, dy) = (run.start.0 - last.end.0, run.start.1 - last.end.1);
        let along = dx * run.along.0 + dy * run.along.1;
        // Downwards is positive.
        let across = dx * run.along.1 - dy * run.along.0;
        let size = run.size.max(last.size).max(f64::MIN_POSITIVE);
        if across.abs() > LINE * size {
            let leading = across / size;
            let is_usual = self
                .leading
                .is_some_and(|usual| leading > 0.0 && leading < usual * 1.25);
            let is_paragraph = leading < -LINE || (leading > PARAGRAPH && !is_usual);
            self.leading = Some(leading).filter(|leading| *leading > 0.0);
            self.break_line(is_paragraph);
            Step::Line
        } else {
            let space = if last.has_widths { SPACE } else { SPACE_BY_GUESS };
            if along > space * run.size.min(last.size) {
                self.push(' ');
                if along > GUTTER * size {
                    Step::Gutter
                } else {
                    Step::Same
                }
            } else if along < -run.size.min(last.size) {
                // Back to the left on the same line: another part of the page, or one drawn over the other.
                self.break_line(false);
                Step::Line
            } else {
                Step::Same
            }
        }
    }

    fn break_line(&mut self, is_paragraph: bool) {
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        if end > 0 {
            let breaks = self.text.len() - self.text.trim_end_matches('\n').len();
            for _ in breaks..if is_paragraph { 2 } else { 1 } {
                self.text.push('\n');
            }
        }
    }

    /// A character in its plain form.
    fn push(&mut self, sign: char) {
        match sign {
            sign if sign.is_whitespace() => {
                if self
                    .text
                    .chars()
                    .next_back()
                    .is_some_and(|last| !last.is_whitespace())
                {
                    self.text.push(' ');
                }
            }
            'ﬀ' => self.text.push_str("ff"),
            'ﬁ' => self.text.push_str("fi"),
            'ﬂ' => self.text.push_str("fl"),
            'ﬃ' => self.text.push_str("ffi"),
            'ﬄ' => self.text.push_str("ffl"),
            'ﬅ' | 'ﬆ' => self.text.push_str("st"),
            '\u{F0B7}' | '\u{F0A7}' => self.text.push('•'),
            // Private characters are pictures of one font; a soft hyphen shows where a line broke.
            '\u{E000}'..='\u{F8FF}' | '\u{AD}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}' => {}
            sign if sign.is_control() || super::super::text::is_tag(sign) => {}
            sign => self.text.push(sign),
        }
    }

    pub(super) fn finish(self) -> String {
        columns::read_down(self.text, &self.segments)
    }
}

fn is_finite(point: Point) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

fn distance(a: Point, b: Point) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(runs: &[(&str, f64, f64, f64)]) -> String {
        let mut layout = Layout::default();
        for (text, x, y, width) in runs {
            let run = Run {
                text,
                start: (*x, *y),
                end: (x + width, *y),
                along: (1.0, 0.0),
                size: 10.0,
                has_widths: true,
            };
            layout.show(&run);
        }
        layout.finish()
    }

    #[test]
    fn steps_become_spaces_lines_and_paragraphs() {
        assert_eq!(
            laid(&[("a", 0., 100., 10.), ("b", 11., 100., 10.), ("c", 25., 103., 10.)]),
            "ab c"
        );
        assert_eq!(
            laid(&[("a", 0., 100., 10.), ("b", 0., 88., 10.), ("c", 0., 60., 10.)]),
            "a\nb\n\nc"
        );
        assert_eq!(
            laid(&[
                ("a", 0., 100., 9.),
                ("b", 0., 75., 9.),
                ("c", 0., 50., 9.),
                ("d", 0., 25., 9.)
            ]),
            "a\n\nb\nc\nd"
        );
        assert_eq!(
            laid(&[("left", 0., 100., 30.), ("right", 300., 700., 30.)]),
            "left\n\nright"
        );
        assert_eq!(
            laid(&[
                ("bold", 0., 100., 30.),
                ("bold", 0.2, 100., 30.),
                ("oﬃce", 33., 100., 9.)
            ]),
            "bold office"
        );
    }

    const LEFT: [&str; 5] = [
        "The first column tells of",
        "a house by the sea that",
        "nobody had lived in for",
        "many years before they",
        "came to see it at last.",
    ];
    const RIGHT: [&str; 5] = [
        "In the second column the",
        "garden is shown, with its",
        "old trees and a well that",
        "gives water all through",
        "the summer months too.",
    ];

    /// Two columns of lines, drawn row by row or column by column, turned by so many degrees.
    fn two_columns(left: &[&str], right: &[&str], by_row: bool, degrees: f64) -> String {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let mut layout = Layout::default();
        let mut show = |text: &str, x: f64, y: f64| {
            let turned = |x: f64, y: f64| (x * cos - y * sin, x * sin + y * cos);
            layout.show(&Run {
                text,
                start: turned(x, y),
                end: turned(x + text.len() as f64 * 5.0, y),
                along: (cos, sin),
                size: 10.0,
                has_widths: true,
            });
        };
        let down = |row: usize| 700.0 - row as f64 * 12.0;
        show("A title over both of the columns of this page here", 50.0, 730.0);
        if by_row {
            for (row, (left, right)) in left.iter().zip(right).enumerate() {
                show(left, 50.0, down(row));
                show(right, 250.0, down(row));
            }
        } else {
            for (lines, x) in [(left, 50.0), (right, 250.0)] {
                for (row, line) in lines.iter().enumerate() {
                    show(line, x, down(row));
                }
            }
        }
        show("A line below both, from one side to the other one", 50.0, 600.0);
        layout.finish()
    }

    #[test]
    fn columns_are_read_down_however_they_were_drawn_and_turned() {
        let wanted = format!(
            "A title over both of the columns of this page here\n\n{}\n\n{}\n\nA line below both, from one side to the other one",
            LEFT.join("\n"),
            RIGHT.join("\n")
        );
        for degrees in [0.0, 90.0, 180.0, 270.0] {
            for by_row in [true, false] {
                assert_eq!(
                    two_columns(&LEFT, &RIGHT, by_row, degrees),
                    wanted,
                    "{by_row} {degrees}"
                );
            }
        }
    }

    #[test]
    fn a_table_is_read_across() {
        let left = ["Apples", "Pears", "Plums", "Cherries", "Grapes"];
        let right = [
            "1.20 a kilo",
            "2.40 a kilo",
            "1.80 a kilo",
            "5.10 a kilo",
            "2.00 a kilo",
        ];
        assert!(two_columns(&left, &right, true, 0.0).contains("Apples 1.20 a kilo\nPears 2.40 a kilo\n"));
        // Whole sentences in both.
        let left = LEFT.map(|line| format!("{line}."));
        let left = left.each_ref().map(String::as_str);
        let right = RIGHT.map(|line| format!("{line}."));
        let right = right.each_ref().map(String::as_str);
        let text = two_columns(&left, &right, true, 0.0);
        assert!(text.contains(&format!("{} {}\n", left[0], right[0])), "{text}");
    }
}
