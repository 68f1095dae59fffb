//! Source code: the text stays the source; its functions, types and sections are headings, so that it is cut there.
//!
//! Items are told by the first words of a line and by its indentation, not by a grammar: a mistake moves a cut and
//! loses nothing.

mod language;

use stepwell_core::{Document, Heading};

pub(super) use self::language::Language;
use self::language::Shape;
use super::guard::Guard;
use super::refusal::Refusal;
use super::text;

/// How many lines pass between two looks at the clock.
const PACE: usize = 1024;
/// Longest title of an item, in bytes.
const LONGEST_TITLE: usize = 120;
/// Most lines of comments and attributes that go with an item.
const LONGEST_LEAD: usize = 200;
/// A line longer than this, in bytes, is data and no item.
const LONGEST_LINE: usize = 1000;
/// Deepest item that is a heading.
const DEEPEST: usize = 4;

pub(super) fn read(id: &str, language: Language, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let source = text::decode(bytes)?;
    guard.text(source.len())?;
    let headings = headings(&source, language, guard)?;
    let mut document = Document::new(id, source);
    document.headings = headings;
    document
        .metadata
        .insert("language".to_owned(), language.name().into());
    Ok(document)
}

/// A line of the source.
struct Line<'a> {
    start: usize,
    words: &'a str,
    indent: usize,
}

fn headings(source: &str, language: Language, guard: &Guard) -> Result<Vec<Heading>, Refusal> {
    let shape = language.shape();
    let mut found: Vec<Heading> = Vec::new();
    // The items a line stands in: their indentation, and whether items may stand in them.
    let mut open: Vec<(usize, bool)> = Vec::new();
    // Where the comments and attributes right above a line begin, and how many lines they have.
    let mut lead: Option<(usize, usize, usize)> = None;
    let mut at = 0;
    for (number, piece) in source.split_inclusive('\n').enumerate() {
        if number.is_multiple_of(PACE) {
            guard.check()?;
        }
        let line = line(at, piece);
        at += piece.len();
        if line.words.is_empty() {
            lead = None;
            continue;
        }
        let item = item(shape, &line, &source[at..]);
        if item.is_none() && is_lead(shape, line.words) {
            lead = match lead {
                Some((start, indent, lines)) if indent == line.indent && lines < LONGEST_LEAD => {
                    Some((start, indent, lines + 1))
                }
                _ => Some((line.start, line.indent, 1)),
            };
            continue;
        }
        let above = lead.take();
        let Some(holds_items) = item else { continue };
        while open.last().is_some_and(|(indent, _)| *indent >= line.indent) {
            open.pop();
        }
        let is_free = open.iter().all(|(_, holds_items)| *holds_items);
        // Indented further than anything it could stand in.
        let is_placed = line.indent == 0 || !open.is_empty();
        if is_free && is_placed && open.len() < DEEPEST {
            let start = above
                .filter(|(_, indent, _)| *indent == line.indent)
                .map_or(line.start, |(start, ..)| start);
            let level = u8::try_from(open.len() + 1).unwrap_or(u8::MAX);
            let end = line.start + piece.trim_end().len();
            found.push(Heading::new(level, title(line.words), start..end));
        }
        open.push((line.indent, holds_items));
    }
    Ok(found)
}

fn line(start: usize, piece: &str) -> Line<'_> {
    let words = piece.trim();
    let indent = piece
        .chars()
        .take_while(|sign| matches!(sign, ' ' | '\t'))
        .map(|sign| if sign == '\t' { 4 } else { 1 })
        .sum();
    Line { start, words, indent }
}

/// Whether a line begins an item; then, whether items may stand in it. `below` is what follows the line.
fn item(shape: Shape, line: &Line<'_>, below: &str) -> Option<bool> {
    if line.words.len() > LONGEST_LINE {
        return None;
    }
    match shape {
        Shape::Words {
            modifiers,
            holders,
            leaves,
            calls,
        } => {
            let mut rest = line.words;
            loop {
                let word = first_word(rest);
                if holders.contains(&word) {
                    return Some(true);
                }
                if leaves.contains(&word) {
                    return Some(false);
                }
                if !modifiers.contains(&word) {
                    break;
                }
                rest = past_word(rest, word);
            }
            (calls && is_function(rest, below)).then_some(false)
        }
        Shape::Sections => (line.words.starts_with('[') && line.words.ends_with(']')).then_some(true),
        Shape::Keys => {
            let is_key = line.indent == 0
                && !line.words.starts_with(['-', '#', '\'', '"', '{', '['])
                && line.words.split_once(':').is_some_and(|(key, value)| {
                    !key.is_empty() && (value.is_empty() || value.starts_with(' '))
                });
            is_key.then_some(false)
        }
        Shape::None => None,
    }
}

/// Comments, attributes, decorators: what stands above an item belongs to it.
fn is_lead(shape: Shape, words: &str) -> bool {
    match shape {
        Shape::Words { .. } => {
            words.starts_with("//")
                || words.starts_with("/*")
                || words.starts_with('*')
                || words.starts_with('#')
                || words.starts_with('@')
                || words.starts_with("--")
                || words.starts_with("template")
                || (words.starts_with('[') && words.ends_with(']'))
        }
        Shape::Sections | Shape::Keys => words.starts_with(['#', ';']),
        Shape::None => false,
    }
}

fn first_word(line: &str) -> &str {
    let end = line
        .find(|sign: char| !(sign.is_alphanumeric() || sign == '_' || sign == '!'))
        .unwrap_or(line.len());
    &line[..end]
}

/// What stands behind a modifier and what belongs to it: `pub(crate)`, `extern "C"`.
fn past_word<'a>(line: &'a str, word: &str) -> &'a str {
    let rest = line[word.len()..].trim_start();
    for (open, close) in [('(', ')'), ('"', '"')] {
        if let Some(inner) = rest.strip_prefix(open)
            && let Some((_, after)) = inner.split_once(close)
            && !word.is_empty()
        {
            return after.trim_start();
        }
    }
    rest
}

/// `int add(int a, int b) {`, `render() {`, `const f = (x) => {`: a name and arguments, and no end of a statement.
fn is_function(line: &str, below: &str) -> bool {
    const NONE: [&str; 16] = [
        "if", "for", "while", "switch", "return", "else", "do", "catch", "throw", "case", "new", "delete",
        "using", "await", "sizeof", "match",
    ];
    let Some((before, _)) = line.split_once('(') else {
        return false;
    };
    let begins = before.trim_start_matches(['*', '~', '#', '_']);
    let is_named =
        begins.starts_with(|sign: char| sign.is_alphabetic()) && !NONE.contains(&first_word(before));
    let assigns = before.contains('=');
    let is_open = line.ends_with(['{', '}'])
        || line.ends_with("=>")
        || (line.ends_with(')') && below.trim_start().starts_with('{'));
    is_named
        && is_open
        && (!assigns || line.contains("=>") || line.contains("function"))
        && !before.contains(['"', '\'', '.'])
}

fn title(words: &str) -> String {
    let words = words.trim_end_matches(['{', ':', ' ']);
    words[..words.floor_char_boundary(LONGEST_TITLE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(name: &str, source: &str) -> Vec<(u8, String)> {
        let language = Language::of(name, source.as_bytes()).expect("a language");
        let document = read(name, language, source.as_bytes(), &Guard::unbounded()).expect("code");
        assert_eq!(document.text, source);
        for heading in &document.headings {
            let words = &source[heading.span.clone()];
            assert!(!words.trim().is_empty() && words.trim_end() == words, "{words:?}");
        }
        let headings = document.headings.into_iter();
        headings.map(|heading| (heading.level, heading.title)).collect()
    }

    fn of(items: &[(u8, &str)]) -> Vec<(u8, String)> {
        items
            .iter()
            .map(|(level, title)| (*level, (*title).to_owned()))
            .collect()
    }

    #[test]
    fn rust_is_cut_at_items_and_methods_with_what_stands_above_them() {
        let source = "//! A crate.\n\nuse std::io;\n\n/// A thing.\n#[derive(Debug)]\npub(crate) struct Thing {\n    a: u8,\n}\n\nimpl Thing {\n    /// Adds.\n    pub const fn add(&self) -> u8 {\n        fn inner() {}\n        self.a\n    }\n}\n\nfn main() {\n    if true {}\n}\n";
        assert_eq!(
            outline("a.rs", source),
            of(&[
                (1, "pub(crate) struct Thing"),
                (1, "impl Thing"),
                (2, "pub const fn add(&self) -> u8"),
                (1, "fn main()")
            ])
        );
        let language = Language::of("a.rs", b"").expect("Rust");
        let document = read("a.rs", language, source.as_bytes(), &Guard::unbounded()).expect("code");
        assert!(source[document.headings[0].span.clone()].starts_with("/// A thing.\n#[derive"));
        assert_eq!(document.metadata["language"], "rust");
    }

    #[test]
    fn other_languages_are_cut_where_their_readers_would() {
        for (name, source, items) in [
            (
                "a.py",
                "import os\n\n@cached\nasync def load(path):\n    def inner():\n        pass\n\nclass A(B):\n\n    @property\n    def name(self):\n        return 1\n",
                of(&[
                    (1, "async def load(path)"),
                    (1, "class A(B)"),
                    (2, "def name(self)"),
                ]),
            ),
            (
                "a.ts",
                "import x from 'x';\nexport default class A {\n  render(a: number): void {\n    if (a) {\n    }\n    call(() => {\n    });\n  }\n}\nexport const go = async (x) => {\n};\nfunction f() {}\n",
                of(&[
                    (1, "export default class A"),
                    (2, "render(a: number): void"),
                    (1, "export const go = async (x) =>"),
                    (1, "function f() {}"),
                ]),
            ),
            (
                "a.c",
                "#include <x.h>\n\n/* Adds. */\nstatic int add(int a, int b) {\n  while (a) {\n  }\n  return f(a);\n}\nstruct point {\n  int x;\n};\nint declared(int a);\nint main(void)\n{\n}\n",
                of(&[
                    (1, "static int add(int a, int b)"),
                    (1, "struct point"),
                    (1, "int main(void)"),
                ]),
            ),
            (
                "A.java",
                "package a;\npublic final class A extends B {\n    @Override\n    public int add(int a) {\n        return a;\n    }\n}\n",
                of(&[
                    (1, "public final class A extends B"),
                    (2, "public int add(int a)"),
                ]),
            ),
            (
                "a.go",
                "package a\n\nfunc (s *S) Add(a int) int {\n\treturn a\n}\n\ntype S struct {\n\ta int\n}\n",
                of(&[(1, "func (s *S) Add(a int) int"), (1, "type S struct")]),
            ),
            (
                "a.rb",
                "module A\n  class B\n    def c\n    end\n  end\nend\n",
                of(&[(1, "module A"), (2, "class B"), (3, "def c")]),
            ),
            (
                "a.toml",
                "a = 1\n\n[package]\nname = \"x\"\n[dependencies]\n",
                of(&[(1, "[package]"), (1, "[dependencies]")]),
            ),
            (
                "a.yaml",
                "on: push\njobs:\n  a:\n    b: c\n- x: y\n",
                of(&[(1, "on: push"), (1, "jobs")]),
            ),
            (
                "run",
                "#!/usr/bin/env bash\nset -u\nbuild() {\n  x\n}\n",
                of(&[(1, "build()")]),
            ),
            (
                "a.sql",
                "CREATE TABLE a (\n  b int\n);\nselect 1;\n",
                of(&[(1, "CREATE TABLE a (")]),
            ),
        ] {
            assert_eq!(outline(name, source), items, "{name}");
        }
    }
}
