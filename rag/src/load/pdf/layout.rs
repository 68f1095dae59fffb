//! From places on a page to lines and paragraphs. The order of drawing is kept: programs draw in reading order, and
//! sorting by height would shuffle columns.

/// Above this part of the size a step along the line is a space. A guessed width needs more room for error.
const SPACE: f64 = 0.15;
const SPACE_BY_GUESS: f64 = 0.3;
/// Above this part of the size a step across the line is a new line; less is a raised or lowered sign.
const LINE: f64 = 0.5;
/// Above this many sizes, and not the usual step here, a new line is a new paragraph.
const PARAGRAPH: f64 = 1.8;

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
        if let Some(last) = self.last.take() {
            let near = 0.15 * run.size;
            if last.text == run.text && distance(last.start, run.start) < near {
                // Bold, made by drawing twice.
                self.last = Some(last);
                return;
            }
            self.step(&last, run);
        }
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

    fn step(&mut self, last: &Last, run: &Run<'_>) {
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
        } else {
            let space = if last.has_widths { SPACE } else { SPACE_BY_GUESS };
            if along > space * run.size.min(last.size) {
                self.push(' ');
            } else if along < -run.size.min(last.size) {
                // Back to the left on the same line: another part of the page, or one drawn over the other.
                self.break_line(false);
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
        self.text
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
}
