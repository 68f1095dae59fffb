//! Answers that rest on documents, with models that play: citations, checks, rewriting, routing, summaries.

mod ask;
mod check;
mod model;
mod search;
mod summary;
