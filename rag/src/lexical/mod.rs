//! The lexical leg: analyser, terms, BM25.
//!
//! A question never reaches a query parser: its words become terms of which any may match. What stands in a title or a
//! heading counts on top of the text, see [`FieldBoosts`]. Phrases, mistyped words, exact names and expressions are
//! stages that a query asks for.
//!
//! Measured, nDCG@10 of words alone on SciFact and Cranfield, a document counting at its best chunk:
//!
//! | what is searched | SciFact | Cranfield |
//! |---|---|---|
//! | whole documents, title and text in one field | .689 | .357 |
//! | the same with exact lengths instead of tantivy's one byte | .691 | .359 |
//! | chunks of 256 tokens | .677 | .362 |
//! | chunks, titles at ¼ beside (the default) | .681 | .376 |
//! | chunks, the title put into the text of every chunk but the first; of every chunk | .679; - | .361; .369 |
//! | a document's best chunk and a tenth (all) of its others | .674 (.539) | .357 (.261) |
//! | for each word the chunk that has it best | .676 | .341 |
//!
//! So cutting is what costs SciFact .012; titles give a third of it back. Adding up chunks loses on both.
//!
//! | file | what it is |
//! |---|---|
//! | `language.rs`, `words.rs` | the analyser of each language |
//! | `question.rs` | a question's words, and where they stand in a hit |
//! | `terms.rs` | words → BM25 → the best rows; how much of a question a row has |
//! | `search.rs` | the same for phrases, expressions and large segments, by tantivy's queries |
//! | `fuzzy.rs` | words that nothing has → words that something has |
//! | `exact.rs` | documents that are called like the question |
//! | `expression.rs` | the syntax for experts, behind limits |

pub(crate) mod exact;
mod expression;
mod fuzzy;
mod language;
mod question;
mod search;
mod terms;
mod words;

pub(crate) use self::expression::Expression;
pub(crate) use self::fuzzy::mend;
pub use self::language::Language;
pub(crate) use self::language::{analyzer, tokenizer_name, tokenizers};
pub(crate) use self::question::{Question, Questions};
pub use self::search::FieldBoosts;
pub(crate) use self::search::{matching_rows, run, words_query};
pub(crate) use self::terms::{Coverage, Terms};
