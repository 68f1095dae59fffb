//! CSV: rows as records, each value under the name of its column.

use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use stepwell_core::Document;

use super::guard::Guard;
use super::records::Records;
use super::refusal::Refusal;
use super::text;

/// Rows are parted by one of these; the first of equals is taken.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How much of a file is looked at to tell its delimiter.
const SAMPLE: usize = 64 << 10;
/// How many rows of the sample count.
const SAMPLE_ROWS: usize = 100;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let source = text::decode(bytes)?;
    let (declared, source) = declared_delimiter(&source);
    let delimiter = declared
        .or_else(|| id.to_ascii_lowercase().ends_with(".tsv").then_some(b'\t'))
        .or_else(|| delimiter(source).map(|(delimiter, _)| delimiter))
        .unwrap_or(b',');
    let mut rows = Rows::new(source, delimiter, guard);
    let mut records = Records::new(guard);
    let Some(first) = rows.next()? else {
        return Ok(Document::new(id, ""));
    };
    let mut next = rows.next()?;
    let names = match &next {
        Some(second) if is_header(&first, second) => first,
        Some(_) => {
            write(&mut records, 1, &[], &first)?;
            Vec::new()
        }
        // One row alone names nothing.
        None => {
            write(&mut records, 1, &[], &first)?;
            return Ok(finish(id, records));
        }
    };
    let mut number = if names.is_empty() { 2 } else { 1 };
    while let Some(row) = next {
        write(&mut records, number, &names, &row)?;
        number += 1;
        next = rows.next()?;
    }
    Ok(finish(id, records))
}

fn finish(id: &str, records: Records<'_>) -> Document {
    let (text, headings) = records.finish();
    let mut document = Document::new(id, text);
    document.headings = headings;
    document
}

fn write(records: &mut Records<'_>, number: usize, names: &[String], row: &[String]) -> Result<(), Refusal> {
    records.open(format!("row {number}"));
    for (at, value) in row.iter().enumerate() {
        records.count()?;
        match names
            .get(at)
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
        {
            Some(name) => records.field(name, value)?,
            None if names.is_empty() && row.len() == 1 => records.field("", value)?,
            None => records.field(&format!("column {}", at + 1), value)?,
        }
    }
    Ok(())
}

/// Spreadsheets may say it in a first line `sep=;`.
fn declared_delimiter(source: &str) -> (Option<u8>, &str) {
    let declared = source
        .strip_prefix("sep=")
        .and_then(|rest| rest.split_once('\n'))
        .and_then(|(sign, rest)| match sign.as_bytes() {
            [sign] if sign.is_ascii() => Some((Some(*sign), rest)),
            _ => None,
        });
    declared.unwrap_or((None, source))
}

/// The delimiter that parts the most rows alike, and their columns; `None` when no delimiter parts any.
pub(super) fn delimiter(source: &str) -> Option<(u8, Sniffed)> {
    let sample = &source[..source.floor_char_boundary(SAMPLE)];
    let is_cut = sample.len() < source.len();
    DELIMITERS
        .into_iter()
        .filter_map(|delimiter| {
            let mut counts = columns(sample, delimiter);
            if is_cut && counts.len() > 1 {
                counts.pop();
            }
            let sniffed = usual(&counts)?;
            (sniffed.columns > 1).then_some((delimiter, sniffed))
        })
        // The last of equals would win.
        .rev()
        .max_by_key(|(_, sniffed)| (sniffed.alike * 100 / sniffed.rows, sniffed.columns))
}

/// What a delimiter makes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sniffed {
    pub(super) rows: usize,
    /// Rows with the usual number of columns.
    pub(super) alike: usize,
    /// The usual number of columns.
    pub(super) columns: usize,
}

fn usual(counts: &[usize]) -> Option<Sniffed> {
    let of = |columns: usize| counts.iter().filter(|count| **count == columns).count();
    let columns = counts
        .iter()
        .copied()
        .max_by_key(|columns| (of(*columns), *columns))?;
    Some(Sniffed {
        rows: counts.len(),
        alike: of(columns),
        columns,
    })
}

/// How many columns each row of a sample has.
fn columns(sample: &str, delimiter: u8) -> Vec<usize> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let (mut input, mut counts, mut fields) = (sample.as_bytes(), Vec::new(), 0);
    let mut buffer = [0; 1024];
    while counts.len() < SAMPLE_ROWS {
        let (result, taken, _) = reader.read_field(input, &mut buffer);
        input = &input[taken..];
        match result {
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
            ReadFieldResult::Field { record_end } => {
                fields += 1;
                if record_end {
                    counts.push(std::mem::take(&mut fields));
                }
            }
            ReadFieldResult::End => break,
        }
    }
    counts
}

/// Names stand in a first row when each is there once, and none is a number where the row below holds one.
fn is_header(first: &[String], second: &[String]) -> bool {
    let mut seen = std::collections::HashSet::new();
    let is_number = |value: &str| value.trim().parse::<f64>().is_ok();
    let named = first.iter().filter(|name| !name.trim().is_empty()).count();
    // The index column of a table may be nameless.
    named > 0
        && named + 1 >= first.len()
        && first
            .iter()
            .all(|name| name.trim().is_empty() || seen.insert(name.trim()))
        && !first.iter().any(|name| is_number(name))
        && first != second
}

/// The rows of a file, none longer than the limit.
struct Rows<'a> {
    reader: Reader,
    input: &'a [u8],
    number: usize,
    guard: &'a Guard,
}

impl<'a> Rows<'a> {
    fn new(source: &'a str, delimiter: u8, guard: &'a Guard) -> Self {
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            input: source.as_bytes(),
            number: 0,
            guard,
        }
    }

    fn next(&mut self) -> Result<Option<Vec<String>>, Refusal> {
        self.guard.check()?;
        self.number += 1;
        let (mut row, mut field) = (Vec::new(), Vec::new());
        let (mut buffer, mut length) = ([0; 4096], 0);
        loop {
            let (result, taken, written) = self.reader.read_field(self.input, &mut buffer);
            self.input = &self.input[taken..];
            field.extend_from_slice(&buffer[..written]);
            // A field of no bytes costs memory all the same.
            length += taken;
            if length > self.guard.limits.record_bytes {
                return Err(self.guard.limits.record_too_long(&format!("row {}", self.number)));
            }
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => {
                    row.push(String::from_utf8_lossy(&field).into_owned());
                    field.clear();
                    if record_end {
                        return Ok(Some(row));
                    }
                }
                ReadFieldResult::End => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, source: &str) -> Document {
        read(name, source.as_bytes(), &Guard::unbounded()).expect("CSV")
    }

    #[test]
    fn a_row_is_a_record_under_the_names_of_its_columns() {
        let document = table(
            "people.csv",
            "\u{FEFF}name,age,note\r\nAda,36,\"wrote \"\"notes\"\",\nthen more\"\r\n,,\r\nBo,,short,extra\r\n",
        );
        assert_eq!(
            document.text,
            "name: Ada\nage: 36\nnote: wrote \"notes\",\nthen more\n\nname: Bo\nnote: short\ncolumn 4: extra"
        );
        let seen: Vec<_> = document
            .headings
            .iter()
            .map(|heading| (heading.title.as_str(), &document.text[heading.span.clone()]))
            .collect();
        assert_eq!(seen, [("row 1", "name: Ada"), ("row 3", "name: Bo")]);
        assert_eq!(document.heading_path(document.text.len() - 1), ["row 3"]);
    }

    #[test]
    fn the_delimiter_is_told_from_the_rows() {
        for (source, delimiter) in [
            ("a,b\n1,2\n", b','),
            ("a;b\n1,5;2,5\n3;4\n", b';'),
            ("a\tb\nx, y\tz\n", b'\t'),
            ("a|b|c\n1|2|3\n", b'|'),
            ("\"x;y\",b\n\"p;q\",d\n", b','),
        ] {
            assert_eq!(
                super::delimiter(source).map(|(sign, _)| sign),
                Some(delimiter),
                "{source:?}"
            );
        }
        assert_eq!(super::delimiter("one\ntwo\n"), None);
        assert_eq!(table("a.csv", "sep=:\na:b\n1:2\n").text, "a: 1\nb: 2");
        assert_eq!(table("a.tsv", "a\tb\n1,2,3\t4,5,6\n").text, "a: 1,2,3\nb: 4,5,6");
    }

    #[test]
    fn rows_without_names_are_numbered_by_column() {
        assert_eq!(
            table("a.csv", "1,2\n3,4\n").text,
            "column 1: 1\ncolumn 2: 2\n\ncolumn 1: 3\ncolumn 2: 4"
        );
        assert_eq!(table("a.csv", "one\ntwo\nthree\n").text, "one: two\n\none: three");
        assert_eq!(table("a.csv", "lonely").text, "lonely");
        assert_eq!(table("a.csv", ",x\n0,1\n").text, "column 1: 0\nx: 1");
    }

    #[test]
    fn a_row_longer_than_the_limit_is_refused_with_its_number() {
        let source = format!("a,b\n1,2\n{}", ",".repeat(2 << 20));
        let refusal = read("a.csv", source.as_bytes(), &Guard::unbounded()).expect_err("too long");
        assert_eq!(
            refusal.reason(),
            "the size of row 3 is over the limit of 1 MiB; raise `record_bytes` of the load limits"
        );
        // A quote that never ends takes the rest for one value.
        let source = format!("a,b\n1,\"{}", "x\n".repeat(1 << 20));
        assert!(read("a.csv", source.as_bytes(), &Guard::unbounded()).is_err());
    }
}
