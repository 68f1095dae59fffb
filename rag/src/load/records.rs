//! Records in, normalised text out: what CSV and JSON have in common.
//!
//! A record is a block of lines `name: value`, so that a chunk says what its values are wherever it is cut. Its heading
//! names its place in the file and stands over its first line.

use stepwell_core::Heading;

use super::guard::Guard;
use super::refusal::Refusal;
use super::text;

/// How many values pass between two looks at the clock.
const PACE: usize = 256;

#[derive(Debug)]
pub(super) struct Records<'g> {
    pub(super) guard: &'g Guard,
    text: String,
    headings: Vec<Heading>,
    /// Where the open record starts once it has words, and what it is called.
    open: Option<(usize, String)>,
    values: usize,
}

impl<'g> Records<'g> {
    pub(super) fn new(guard: &'g Guard) -> Self {
        Self {
            guard,
            text: String::new(),
            headings: Vec::new(),
            open: None,
            values: 0,
        }
    }

    /// Begins a record of this name; without words it leaves no trace.
    pub(super) fn open(&mut self, name: impl Into<String>) {
        self.close();
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.open = Some((self.text.len(), name.into()));
    }

    /// Counts a value, read or passed over, and looks at the clock.
    pub(super) fn count(&mut self) -> Result<(), Refusal> {
        self.values += 1;
        if self.values.is_multiple_of(PACE) {
            self.guard.check()?;
        }
        Ok(())
    }

    /// A line `name: value`; an empty name is left out, and so is a line without value.
    pub(super) fn field(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(());
        }
        self.guard.text(self.text.len() + name.len() + value.len())?;
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        if !name.is_empty() {
            self.push(name);
            self.text.push_str(": ");
        }
        self.push(value);
        Ok(())
    }

    /// One more value on the line of the last.
    pub(super) fn more(&mut self, value: &str) -> Result<(), Refusal> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(());
        }
        self.guard.text(self.text.len() + value.len())?;
        self.text.push_str(", ");
        self.push(value);
        Ok(())
    }

    fn push(&mut self, words: &str) {
        let signs = words.chars().filter(|sign| !is_unseen(*sign));
        if words.contains('\r') {
            self.text.push_str(&text::normalise(&signs.collect::<String>()));
        } else {
            self.text.extend(signs);
        }
    }

    fn close(&mut self) {
        let Some((from, name)) = self.open.take() else {
            return;
        };
        self.text.truncate(self.text.trim_end().len());
        let Some(lines) = self.text.get(from..).filter(|lines| !lines.trim().is_empty()) else {
            return;
        };
        let first = from + (lines.len() - lines.trim_start().len());
        let line = self.text[first..].lines().next().unwrap_or_default().trim_end();
        if !name.is_empty() {
            self.headings
                .push(Heading::new(1, name, first..first + line.len()));
        }
    }

    /// Undoes what was written since this length of the text, for a record that turns out to be none.
    pub(super) fn undo(&mut self, length: usize) {
        self.text.truncate(length);
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The text and the headings of its records.
    pub(super) fn finish(mut self) -> (String, Vec<Heading>) {
        self.close();
        self.text.truncate(self.text.trim_end().len());
        (self.text, self.headings)
    }
}

/// What text has no use for: an escape of JSON may spell it.
fn is_unseen(sign: char) -> bool {
    text::is_tag(sign) || sign == '\u{FEFF}' || (sign.is_control() && !matches!(sign, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stands_under_its_place_and_an_empty_one_leaves_no_trace() {
        let guard = Guard::unbounded();
        let mut records = Records::new(&guard);
        records.open("row 1");
        records.field("name", " Ada\r\nL. ").expect("room");
        records.field("note", "").expect("room");
        records.open("row 2");
        records.open("row 3");
        records.field("", "a\u{0}").expect("room");
        records.more("b").expect("room");
        let (text, headings) = records.finish();
        assert_eq!(text, "name: Ada\nL.\n\na, b");
        let seen: Vec<_> = headings
            .iter()
            .map(|heading| (heading.title.as_str(), &text[heading.span.clone()]))
            .collect();
        assert_eq!(seen, [("row 1", "name: Ada"), ("row 3", "a, b")]);
    }
}
