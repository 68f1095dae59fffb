//! Words and breaks in, normalised text out: what HTML and DOCX have in common.

use stepwell_core::Heading;

/// What stands between two words, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

/// The text so far. Breaks are written when the next word comes, so there are none at the ends, and of several the
/// strongest counts. Cells of a table row stand on one line with tabs between.
#[derive(Debug, Default)]
pub(super) struct Flow {
    text: String,
    headings: Vec<Heading>,
    gap: Gap,
    tabs: usize,
    row: Option<Row>,
    heading: Option<(u8, Option<usize>)>,
}

#[derive(Debug, Default)]
struct Row {
    cells: usize,
    has_text: bool,
}

impl Flow {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// What was written from a place on.
    #[cfg(feature = "docx")]
    pub(super) fn since(&self, from: usize) -> &str {
        self.text.get(from..).unwrap_or_default()
    }

    /// Words; runs of white space count as one space.
    pub(super) fn words(&mut self, words: &str) {
        for sign in words.chars() {
            if sign.is_whitespace() && sign != '\u{A0}' {
                self.gap(Gap::Space);
            } else {
                self.push(sign);
            }
        }
    }

    /// Words whose spaces and line ends are kept, as in `<pre>`.
    pub(super) fn verbatim(&mut self, words: &str) {
        for sign in words.chars() {
            match sign {
                '\n' if self.gap >= Gap::Line || self.text.is_empty() => self.gap(Gap::Paragraph),
                '\n' => self.gap(Gap::Line),
                '\r' => {}
                // Indentation matters after a line end; a space cannot wait in the gap there.
                ' ' | '\t' if self.gap >= Gap::Line && !self.text.is_empty() => self.push(sign),
                ' ' | '\t' if !self.text.is_empty() && self.gap == Gap::None => self.text.push(sign),
                sign if sign.is_whitespace() => self.gap(Gap::Space),
                sign => self.push(sign),
            }
        }
    }

    fn push(&mut self, sign: char) {
        if super::text::is_tag(sign)
            || (sign.is_control() && sign != '\t')
            || sign == '\u{AD}'
            || sign == '\u{FEFF}'
        {
            return;
        }
        if !self.text.is_empty() {
            match self.gap {
                Gap::None => {}
                Gap::Space if self.tabs > 0 => {}
                Gap::Space => self.text.push(' '),
                Gap::Line => self.text.push('\n'),
                Gap::Paragraph => self.text.push_str("\n\n"),
            }
        }
        for _ in 0..self.tabs {
            self.text.push('\t');
        }
        (self.gap, self.tabs) = (Gap::None, 0);
        if let Some(row) = &mut self.row {
            row.has_text = true;
        }
        if let Some((_, from @ None)) = &mut self.heading {
            *from = Some(self.text.len());
        }
        self.text.push(if sign == '\u{A0}' { ' ' } else { sign });
    }

    /// At least this much stands before the next word.
    pub(super) fn gap(&mut self, gap: Gap) {
        // Before the first word of a row, and at the start of a cell, a break would tear the row apart.
        let is_at_start = self.tabs > 0
            || self
                .row
                .as_ref()
                .is_some_and(|row| row.cells > 0 && !row.has_text);
        if !is_at_start {
            self.gap = self.gap.max(gap);
        }
    }

    /// A line break; the second in a row is a blank line.
    pub(super) fn line_break(&mut self) {
        self.gap(if self.gap >= Gap::Line {
            Gap::Paragraph
        } else {
            Gap::Line
        });
    }

    pub(super) fn open_heading(&mut self, level: u8) {
        self.close_heading();
        self.gap(Gap::Paragraph);
        self.heading = Some((level, None));
    }

    pub(super) fn close_heading(&mut self) {
        if let Some((level, Some(from))) = self.heading.take() {
            let title = self.text[from..].split_whitespace().collect::<Vec<_>>().join(" ");
            let end = from + self.text[from..].trim_end().len();
            if !title.is_empty() {
                self.headings.push(Heading::new(level, title, from..end));
            }
        }
        self.gap(Gap::Paragraph);
    }

    pub(super) fn open_row(&mut self) {
        self.tabs = 0;
        self.gap(Gap::Line);
        self.row = Some(Row::default());
    }

    pub(super) fn open_cell(&mut self) {
        let Some(row) = &mut self.row else { return };
        row.cells += 1;
        if row.cells > 1 {
            if row.has_text {
                self.gap = Gap::None;
            }
            self.tabs += 1;
        }
    }

    pub(super) fn close_row(&mut self) {
        self.tabs = 0;
        match self.row.take() {
            // The breaks inside its last cell do not push the next row away.
            Some(row) if row.has_text => self.gap = Gap::Line,
            _ => self.gap(Gap::Line),
        }
    }

    /// The text and its headings.
    pub(super) fn finish(mut self) -> (String, Vec<Heading>) {
        self.close_heading();
        self.text.truncate(self.text.trim_end().len());
        let end = self.text.len();
        for heading in &mut self.headings {
            heading.span.end = heading.span.end.min(end);
        }
        (self.text, self.headings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_break_counts_and_cells_stay_on_their_row() {
        let mut flow = Flow::default();
        flow.gap(Gap::Paragraph);
        flow.words("  one  two ");
        flow.gap(Gap::Line);
        flow.gap(Gap::Paragraph);
        for row in [["a", "b"], ["", "d"]] {
            flow.open_row();
            for cell in row {
                flow.open_cell();
                flow.gap(Gap::Paragraph);
                flow.words(cell);
                flow.gap(Gap::Paragraph);
            }
            flow.close_row();
        }
        flow.open_heading(2);
        flow.words(" A  heading ");
        flow.close_heading();
        flow.words("end ");
        let (text, headings) = flow.finish();
        assert_eq!(text, "one two\n\na\tb\n\td\n\nA heading\n\nend");
        assert_eq!(&text[headings[0].span.clone()], "A heading");
    }

    #[test]
    fn verbatim_text_keeps_its_lines_and_indents() {
        let mut flow = Flow::default();
        flow.verbatim("\nfn a() {\n    b();\n\n\n}\n");
        flow.gap(Gap::Paragraph);
        flow.words("after");
        assert_eq!(flow.finish().0, "fn a() {\n    b();\n\n}\n\nafter");
    }
}
