//! [`JudgedSet`]: questions with the documents that answer them, as the BEIR collections lay them out.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use stepwell_core::{Document, Error, Result};

/// Longer lines are refused.
const LONGEST_LINE: u64 = 64 << 20;
/// More lines of one file are refused.
const MOST_LINES: usize = 50_000_000;

/// A question and what answers it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct JudgedQuestion {
    /// Its id in the set.
    pub id: String,
    /// Its words.
    pub text: String,
    /// Documents by id with their gains; those above 0 are relevant.
    pub gains: HashMap<String, f64>,
}

impl JudgedQuestion {
    /// A question with the gains of documents.
    pub fn new<I, D>(id: impl Into<String>, text: impl Into<String>, gains: I) -> Self
    where
        I: IntoIterator<Item = (D, f64)>,
        D: Into<String>,
    {
        Self {
            id: id.into(),
            text: text.into(),
            gains: gains.into_iter().map(|(id, gain)| (id.into(), gain)).collect(),
        }
    }
}

/// Judged questions over one collection of documents.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct JudgedSet {
    /// The questions with one relevant document at least, in the file's order.
    pub questions: Vec<JudgedQuestion>,
    folder: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

impl JudgedSet {
    /// Questions of the program's own.
    pub fn new(questions: Vec<JudgedQuestion>) -> Self {
        Self {
            questions,
            folder: None,
        }
    }

    /// Reads a folder with `queries.jsonl` (`_id`, `text`), `qrels.tsv` or `qrels/test.tsv` (a header line; question,
    /// document, gain), and `corpus.jsonl` (`_id`, `title`, `text`) for [`JudgedSet::documents`]. The JSON lines may be
    /// gzipped, under the same names with `.gz`. Questions without a relevant document are left out.
    ///
    /// # Errors
    /// `io` for a file that is missing or cannot be read; `invalid_input` for a line that is not of its form.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut gains: HashMap<String, HashMap<String, f64>> = HashMap::new();
        let qrels = ["qrels.tsv", "qrels/test.tsv"].map(|name| folder.join(name));
        let qrels = qrels.iter().find(|path| path.exists()).unwrap_or(&qrels[0]);
        each_line(qrels, |number, line| {
            let mut cells = line.split('\t');
            let (Some(question), Some(document), Some(gain)) = (cells.next(), cells.next(), cells.next())
            else {
                return Err(bad_line(qrels, number, "three cells between tabs"));
            };
            if number == 1 {
                return Ok(());
            }
            let gain = gain.trim().parse::<f64>().ok().filter(|gain| gain.is_finite());
            let gain = gain.ok_or_else(|| bad_line(qrels, number, "a number in the third cell"))?;
            gains
                .entry(question.to_owned())
                .or_default()
                .insert(document.to_owned(), gain);
            Ok(())
        })?;
        let mut questions = Vec::new();
        each_entry(folder, "queries", |entry| {
            if let Some(gains) = gains
                .remove(&entry.id)
                .filter(|gains| gains.values().any(|gain| *gain > 0.0))
            {
                questions.push(JudgedQuestion {
                    id: entry.id,
                    text: entry.text,
                    gains,
                });
            }
        })?;
        if questions.is_empty() {
            return Err(Error::invalid(
                "judged set",
                format!("no question of {} has a relevant document", folder.display()),
            ));
        }
        Ok(Self {
            questions,
            folder: Some(folder.to_path_buf()),
        })
    }

    /// The documents of the folder it was read from. Title and text of an entry are both the document's text, as published
    /// figures have it, and the title is its title too. Empty entries are left out.
    ///
    /// # Errors
    /// `io`, `invalid_input` as [`JudgedSet::read`]; `unsupported` for a set that was not read from a folder.
    pub fn documents(&self) -> Result<Vec<Document>> {
        let folder = self.folder.as_deref().ok_or_else(|| Error::Unsupported {
            who: "a judged set of the program's own".to_owned(),
            what: "documents".to_owned(),
            hint: "bring them yourself, or read the set from a folder".to_owned(),
        })?;
        let mut documents = Vec::new();
        each_entry(folder, "corpus", |entry| {
            let text = format!("{} {}", entry.title, entry.text);
            if text.trim().is_empty() {
                return;
            }
            let document = Document::new(entry.id, text);
            documents.push(if entry.title.trim().is_empty() {
                document
            } else {
                document.with_title(entry.title)
            });
        })?;
        Ok(documents)
    }
}

fn bad_line(path: &Path, number: usize, wanted: &str) -> Error {
    Error::invalid(
        "judged set",
        format!("line {number} of {} needs {wanted}", path.display()),
    )
}

fn each_entry(folder: &Path, name: &str, mut see: impl FnMut(Entry)) -> Result<()> {
    let zipped = folder.join(format!("{name}.jsonl.gz"));
    let path = if zipped.exists() {
        zipped
    } else {
        folder.join(format!("{name}.jsonl"))
    };
    each_line(&path, |number, line| {
        let entry = serde_json::from_str(line)
            .map_err(|_| bad_line(&path, number, "a JSON object with the strings `_id` and `text`"))?;
        see(entry);
        Ok(())
    })
}

/// Calls `see` with the number, from 1, and the words of each line that is not empty.
fn each_line(path: &Path, mut see: impl FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let file = File::open(path).map_err(|error| Error::io(doing(), error))?;
    let is_zipped = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn BufRead> = if is_zipped {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut line = String::new();
    for number in 1..=MOST_LINES {
        line.clear();
        let read = reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_line(&mut line)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidData => bad_line(path, number, "to be UTF-8"),
                _ => Error::io(doing(), error),
            })?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LONGEST_LINE {
            return Err(bad_line(path, number, "to be shorter"));
        }
        let words = line.trim_end_matches(['\n', '\r']);
        if !words.is_empty() {
            see(number, words)?;
        }
    }
    Err(Error::LimitExceeded {
        what: path.display().to_string(),
        limit: format!("{MOST_LINES} lines"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes");
        write(
            "queries.jsonl",
            "{\"_id\":\"q1\",\"text\":\"wells\"}\n\n{\"_id\":\"q2\",\"text\":\"none\"}\n",
        );
        write(
            "qrels.tsv",
            "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tb\t0\n",
        );
        let corpus = File::create(folder.path().join("corpus.jsonl.gz")).expect("makes");
        let mut corpus = flate2::write::GzEncoder::new(corpus, flate2::Compression::fast());
        corpus
            .write_all(
                b"{\"_id\":\"a\",\"title\":\"Wells\",\"text\":\"are deep\"}\n{\"_id\":\"c\",\"text\":\"\"}\n",
            )
            .expect("writes");
        corpus.finish().expect("ends");
        folder
    }

    #[test]
    fn a_folder_gives_its_questions_with_gains_and_its_documents_with_titles() {
        let folder = folder();
        let set = JudgedSet::read(folder.path()).expect("reads");
        assert_eq!(
            set.questions,
            [JudgedQuestion::new("q1", "wells", [("a", 1.0), ("b", 0.0)])]
        );
        let documents = set.documents().expect("reads");
        assert_eq!(
            documents,
            [Document::new("a", "Wells are deep").with_title("Wells")]
        );
        assert_eq!(
            JudgedSet::new(Vec::new()).documents().expect_err("none").code(),
            "unsupported"
        );
    }

    #[test]
    fn a_missing_file_and_a_bad_line_are_told_by_name_and_number() {
        let folder = folder();
        let path = folder.path().join("qrels.tsv");
        std::fs::write(&path, "header\ta\tb\nq1\ta\tmany\n").expect("writes");
        let error = JudgedSet::read(folder.path()).expect_err("bad");
        assert!(error.to_string().contains("line 2"), "{error}");
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(JudgedSet::read(folder.path()).expect_err("missing").code(), "io");
    }
}
