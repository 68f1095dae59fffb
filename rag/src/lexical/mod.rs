//! The lexical leg: analyser, terms, BM25.
//!
//! A question never reaches a query parser: its words become terms of which any may match. What stands in a title or a
//! heading counts on top of the text, see [`FieldBoosts`]. Phrases, mistyped words, exact names and expressions are
//! stages that a query asks for.
//!
//! | file | what it is |
//! |---|---|
//! | `language.rs`, `words.rs` | the analyser of each language |
//! | `question.rs` | a question's words, and where they stand in a hit |
//! | `search.rs` | terms → BM25 → the best rows; how much of a question a row has |
//! | `fuzzy.rs` | words that nothing has → words that something has |
//! | `exact.rs` | documents that are called like the question |
//! | `expression.rs` | the syntax for experts, behind limits |

pub(crate) mod exact;
mod expression;
mod fuzzy;
mod language;
mod question;
mod search;
mod words;

pub(crate) use self::expression::Expression;
pub(crate) use self::fuzzy::mend;
pub use self::language::Language;
pub(crate) use self::language::{tokenizer_name, tokenizers};
pub(crate) use self::question::{Question, Questions};
pub use self::search::FieldBoosts;
pub(crate) use self::search::{Coverage, coverage, matching_rows, run, words_query};
