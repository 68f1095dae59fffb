//! Expressions: the syntax for experts, read by a parser of our own that knows nothing else.
//!
//! ```text
//! wells -lithium               any of the words; none of those with a minus
//! +sodium +"ion batter*"       all of those with a plus; quotes hold words side by side
//! title:wells heading:faq      words of the title, of the headings, of the text: title, heading, text
//! (sodium OR lithium) AND well groups
//! cathod*                      any ending, behind three letters at least
//! ```
//!
//! What is not named here is refused with a sentence: other fields, wildcards elsewhere, ranges, regular expressions.

use std::iter::Peekable;
use std::vec;

use stepwell_core::{Error, Result};
use tantivy::Searcher;
use tantivy::query::{BooleanQuery, Occur, PhraseQuery, Query};
use tantivy::schema::{Field, Term};

use super::question::{Question, Questions, Sought};
use super::search::{FieldBoosts, boosted, term};
use crate::error::Place;
use crate::fact::after_prefix;
use crate::schema::Fields;

/// Longer expressions are refused.
const LONGEST: usize = 2_048;
/// More words and phrases are refused.
const MOST_CLAUSES: usize = 64;
/// Deeper groups are refused.
const DEEPEST: usize = 8;
/// Letters before a `*`, at least.
const SHORTEST_PREFIX: usize = 3;
/// Words that a `*` stands for; the first in the order of the alphabet.
const MOST_ENDINGS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    Title,
    Heading,
    Text,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// Words side by side; one is a word.
    Words(Part, Vec<String>),
    /// Any ending.
    Prefix(Part, String),
    Group(Vec<(Occur, Node)>),
}

/// A read expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expression {
    root: Node,
    /// Its words that are looked for, without those with a minus.
    pub(crate) question: Question,
}

#[derive(Clone, Debug, PartialEq)]
enum Sign {
    Open,
    Close,
    Plus,
    Minus,
    And,
    Or,
    Not,
    /// Before a colon.
    Field(String),
    Quoted(String),
    Word(String),
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::invalid("expression", reason.into())
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// `invalid_input` for what is no expression; `limit_exceeded` for one too long, too wide or too deep.
    pub(crate) fn read(text: &str, questions: &Questions) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::LimitExceeded {
                what: "the expression".to_owned(),
                limit: format!("{LONGEST} bytes"),
            });
        }
        let mut parser = Parser {
            signs: signs(text)?.into_iter().peekable(),
            questions,
            clauses: 0,
        };
        let root = parser.group(0)?;
        if parser.signs.next().is_some() {
            return Err(refuse("a `)` has no `(` before it"));
        }
        let mut question = Question::default();
        collect(&root, &mut question);
        if question.words.is_empty() && !has_prefix(&root) {
            return Err(refuse("name a word to find; a minus alone finds nothing"));
        }
        Ok(Self { root, question })
    }

    /// The query of this expression over an index as it is now.
    pub(crate) fn query(
        &self,
        searcher: &Searcher,
        fields: &Fields,
        boosts: FieldBoosts,
        place: &Place,
    ) -> Result<Box<dyn Query>> {
        let compiler = Compiler {
            searcher,
            fields,
            boosts,
        };
        place.check("searching", compiler.query(&self.root))
    }
}

/// Words and prefixes that may make a row match.
fn collect(node: &Node, question: &mut Question) {
    match node {
        Node::Words(_, words) => {
            for word in words {
                let word = Sought::word(word);
                if !question.words.contains(&word) {
                    question.words.push(word);
                }
            }
        }
        Node::Prefix(..) => {}
        Node::Group(clauses) => clauses
            .iter()
            .filter(|(occur, _)| *occur != Occur::MustNot)
            .for_each(|(_, node)| collect(node, question)),
    }
}

fn has_prefix(node: &Node) -> bool {
    match node {
        Node::Words(..) => false,
        Node::Prefix(..) => true,
        Node::Group(clauses) => clauses
            .iter()
            .any(|(occur, node)| *occur != Occur::MustNot && has_prefix(node)),
    }
}

fn signs(text: &str) -> Result<Vec<Sign>> {
    let mut signs = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let is_before_word = after.chars().next().is_some_and(|next| !next.is_whitespace());
        let sign = match first {
            '(' => Sign::Open,
            ')' => Sign::Close,
            '+' if is_before_word => Sign::Plus,
            '-' if is_before_word => Sign::Minus,
            '"' => {
                let Some(end) = after.find('"') else {
                    return Err(refuse("a quote is not closed: write the second `\"`"));
                };
                signs.push(Sign::Quoted(after[..end].to_owned()));
                rest = after[end + 1..].trim_start();
                continue;
            }
            _ => {
                let end = rest
                    .find(|sign: char| sign.is_whitespace() || matches!(sign, '(' | ')' | '"' | ':'))
                    .unwrap_or(rest.len());
                let word = &rest[..end];
                if rest[end..].starts_with(':') {
                    signs.push(Sign::Field(word.to_owned()));
                    rest = rest[end + 1..].trim_start();
                    continue;
                }
                signs.push(match word {
                    "AND" => Sign::And,
                    "OR" => Sign::Or,
                    "NOT" => Sign::Not,
                    _ => Sign::Word(word.to_owned()),
                });
                rest = rest[end..].trim_start();
                continue;
            }
        };
        signs.push(sign);
        rest = after.trim_start();
    }
    Ok(signs)
}

struct Parser<'a> {
    signs: Peekable<vec::IntoIter<Sign>>,
    questions: &'a Questions,
    clauses: usize,
}

impl Parser<'_> {
    /// Up to the `)` that closes it, or the end.
    fn group(&mut self, depth: usize) -> Result<Node> {
        if depth > DEEPEST {
            return Err(Error::LimitExceeded {
                what: "the depth of the expression".to_owned(),
                limit: format!("{DEEPEST} groups"),
            });
        }
        let mut clauses: Vec<(Occur, Node)> = Vec::new();
        // `a AND b` asks for both; `a OR b` for any, which is what two words mean anyway.
        let mut joined: Option<Sign> = None;
        loop {
            let occur = match self.signs.peek() {
                None | Some(Sign::Close) => break,
                Some(Sign::And | Sign::Or) => {
                    let sign = self.signs.next();
                    if clauses.is_empty() || joined.is_some() {
                        return Err(refuse(
                            "AND and OR stand between two words; in quotes they are words",
                        ));
                    }
                    joined = sign;
                    continue;
                }
                Some(Sign::Plus) => {
                    self.signs.next();
                    Occur::Must
                }
                Some(Sign::Minus | Sign::Not) => {
                    self.signs.next();
                    Occur::MustNot
                }
                Some(_) => Occur::Should,
            };
            let node = self.clause(depth)?;
            let is_and = joined.take() == Some(Sign::And);
            if is_and
                && let Some((before, _)) = clauses.last_mut().filter(|(occur, _)| *occur == Occur::Should)
            {
                *before = Occur::Must;
            }
            let occur = if is_and && occur == Occur::Should {
                Occur::Must
            } else {
                occur
            };
            clauses.extend(node.map(|node| (occur, node)));
        }
        if joined.is_some() {
            return Err(refuse(
                "AND and OR stand between two words; in quotes they are words",
            ));
        }
        Ok(Node::Group(clauses))
    }

    /// A word, phrase or group with its field; `None` for signs that hold no word.
    fn clause(&mut self, depth: usize) -> Result<Option<Node>> {
        self.clauses += 1;
        if self.clauses > MOST_CLAUSES {
            return Err(Error::LimitExceeded {
                what: "the expression".to_owned(),
                limit: format!("{MOST_CLAUSES} words and phrases"),
            });
        }
        let mut field = Part::Any;
        if let Some(Sign::Field(_)) = self.signs.peek()
            && let Some(Sign::Field(name)) = self.signs.next()
        {
            field = match name.as_str() {
                "title" => Part::Title,
                "heading" => Part::Heading,
                "text" => Part::Text,
                _ => {
                    return Err(refuse(
                        "a field before a colon is `title`, `heading` or `text`; put words with a colon in quotes",
                    ));
                }
            };
        }
        match self.signs.next() {
            Some(Sign::Word(word)) => self.word(field, &word),
            Some(Sign::Quoted(words)) => Ok(self.words(field, &words)),
            Some(Sign::Open) if field == Part::Any => {
                let group = self.group(depth + 1)?;
                if self.signs.next() != Some(Sign::Close) {
                    return Err(refuse("a `(` is not closed: write the `)`"));
                }
                match &group {
                    Node::Group(clauses) if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) => {
                        if clauses.is_empty() {
                            Ok(None)
                        } else {
                            Err(refuse(
                                "a group of words with a minus finds nothing; put the minus before the group",
                            ))
                        }
                    }
                    _ => Ok(Some(group)),
                }
            }
            Some(Sign::Open) => Err(refuse(
                "a field stands before a word or a quote, not before a group",
            )),
            _ => Err(refuse("a word is missing after an operator or a field")),
        }
    }

    fn word(&self, field: Part, word: &str) -> Result<Option<Node>> {
        let Some(at) = word.find(['*', '?', '~', '^', '[', ']', '{', '}', '/', '\\']) else {
            return Ok(self.words(field, word));
        };
        let stem = &word[..at];
        if &word[at..] != "*" {
            return Err(refuse(
                "of wildcards only a `*` at the end of a word is known; put other signs in quotes",
            ));
        }
        match self.questions.all(stem).as_slice() {
            [(term, _)]
                if stem.chars().all(char::is_alphanumeric) && stem.chars().count() >= SHORTEST_PREFIX =>
            {
                // The index has stems: `batteries*` has to find `batteri`, and `happy*` what begins with `happ`.
                let typed = stem.to_lowercase();
                let shared = typed
                    .chars()
                    .zip(term.chars())
                    .take_while(|(left, right)| left == right);
                let shared: String = shared.map(|(letter, _)| letter).collect();
                let is_enough = shared.chars().count() >= SHORTEST_PREFIX;
                Ok(Some(Node::Prefix(field, if is_enough { shared } else { typed })))
            }
            _ => Err(refuse(format!(
                "a `*` stands behind {SHORTEST_PREFIX} letters or digits at least"
            ))),
        }
    }

    fn words(&self, field: Part, text: &str) -> Option<Node> {
        let words: Vec<String> = self
            .questions
            .all(text)
            .into_iter()
            .map(|(word, _)| word)
            .collect();
        (!words.is_empty()).then_some(Node::Words(field, words))
    }
}

struct Compiler<'a> {
    searcher: &'a Searcher,
    fields: &'a Fields,
    boosts: FieldBoosts,
}

impl Compiler<'_> {
    fn query(&self, node: &Node) -> tantivy::Result<Box<dyn Query>> {
        Ok(match node {
            Node::Words(place, words) => self.anywhere(*place, |field, boost| {
                let query = if let [word] = words.as_slice() {
                    term(field, word, boost)
                } else {
                    let terms = words.iter().map(|word| Term::from_field_text(field, word));
                    boosted(Box::new(PhraseQuery::new(terms.collect())), boost)
                };
                Ok(vec![query])
            })?,
            Node::Prefix(place, stem) => self.anywhere(*place, |field, boost| {
                let endings = self.endings(field, stem)?;
                Ok(endings.iter().map(|word| term(field, word, boost)).collect())
            })?,
            Node::Group(clauses) => {
                let clauses = clauses
                    .iter()
                    .map(|(occur, node)| Ok((*occur, self.query(node)?)))
                    .collect::<tantivy::Result<_>>()?;
                Box::new(BooleanQuery::new(clauses))
            }
        })
    }

    /// What `make` gives for any field of this place.
    fn anywhere(
        &self,
        place: Part,
        make: impl Fn(Field, f32) -> tantivy::Result<Vec<Box<dyn Query>>>,
    ) -> tantivy::Result<Box<dyn Query>> {
        let fields = match place {
            Part::Any => self.boosts.fields(self.searcher, self.fields)?,
            // Whoever names a field wants it, whatever it counts elsewhere.
            Part::Title => vec![(self.fields.title, 1.0)],
            Part::Heading => vec![(self.fields.heading, 1.0)],
            Part::Text => vec![(self.fields.body, 1.0)],
        };
        let mut any = Vec::new();
        for (field, boost) in fields {
            any.extend(make(field, boost)?);
        }
        Ok(Box::new(BooleanQuery::union(any)))
    }

    fn endings(&self, field: Field, stem: &str) -> tantivy::Result<Vec<String>> {
        let end = after_prefix(stem.as_bytes());
        let mut words = std::collections::BTreeSet::new();
        for reader in self.searcher.segment_readers() {
            let index = reader.inverted_index(field)?;
            let mut terms = index.terms().range().ge(stem.as_bytes()).lt(&end).into_stream()?;
            let mut count = 0;
            while count < MOST_ENDINGS && terms.advance() {
                count += 1;
                words.insert(String::from_utf8_lossy(terms.key()).into_owned());
            }
        }
        Ok(words.into_iter().take(MOST_ENDINGS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::language::Language;
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Expression> {
        Expression::read(text, &Questions::new(Language::English))
    }

    fn word(text: &str) -> Node {
        Node::Words(Part::Any, text.split(' ').map(str::to_owned).collect())
    }

    fn refusal(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn signs_operators_fields_and_groups_are_read() {
        use Occur::{Must, MustNot, Should};
        let cases: [(&str, Vec<(Occur, Node)>); 6] = [
            (
                "wells -lithium",
                vec![(Should, word("well")), (MustNot, word("lithium"))],
            ),
            (
                "+wells \"the sodium cathodes\"",
                vec![(Must, word("well")), (Should, word("the sodium cathod"))],
            ),
            (
                "a AND b c",
                vec![(Must, word("a")), (Must, word("b")), (Should, word("c"))],
            ),
            (
                "a OR b NOT c",
                vec![(Should, word("a")), (Should, word("b")), (MustNot, word("c"))],
            ),
            (
                "title:wells cath*",
                vec![
                    (Should, Node::Words(Part::Title, vec!["well".to_owned()])),
                    (Should, Node::Prefix(Part::Any, "cath".to_owned())),
                ],
            ),
            (
                "+(a b) - c",
                vec![
                    (Must, Node::Group(vec![(Should, word("a")), (Should, word("b"))])),
                    (Should, word("c")),
                ],
            ),
        ];
        for (text, clauses) in cases {
            assert_eq!(read(text).expect(text).root, Node::Group(clauses), "{text}");
        }
        let question = read("+sodium -lithium wells wells").expect("good").question;
        assert_eq!(question.words, ["sodium", "well"].map(Sought::word));
    }

    #[test]
    fn everything_else_is_refused_with_a_sentence() {
        for (text, part) in [
            ("\"open", "a quote is not closed"),
            ("(open", "a `(` is not closed"),
            ("close)", "a `)` has no `(`"),
            ("*thode", "only a `*` at the end"),
            ("ca*", "3 letters"),
            ("c?thode", "only a `*` at the end"),
            ("cathode~2", "only a `*` at the end"),
            ("/ca.*/", "only a `*` at the end"),
            ("tenant:other", "`title`, `heading` or `text`"),
            ("document:x", "`title`, `heading` or `text`"),
            ("AND a", "stand between two words"),
            ("a OR", "stand between two words"),
            ("-a", "name a word to find"),
            ("", "name a word to find"),
            ("a (-b)", "put the minus before the group"),
            ("title:(a b)", "not before a group"),
            ("a +", "a"),
        ] {
            if text == "a +" {
                // A plus alone is no sign and holds no word.
                assert!(read(text).is_ok());
                continue;
            }
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn long_wide_and_deep_expressions_are_refused() {
        for text in [
            "a ".repeat(2_000),
            "a ".repeat(65),
            format!("{}a{}", "(".repeat(9), ")".repeat(9)),
        ] {
            assert_eq!(read(&text).expect_err("too much").code(), "limit_exceeded");
        }
        assert!(read(&"a ".repeat(64)).is_ok());
        assert!(read(&format!("{}a{}", "(".repeat(8), ")".repeat(8))).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z ()\\\"+:*AND OR NOT~é漢-]{0,60}") {
            if let Err(error) = read(&text) {
                prop_assert!(["invalid_input", "limit_exceeded"].contains(&error.code()));
            }
        }
    }
}
