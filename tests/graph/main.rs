//! The behaviours that graphs of stepwell promise, each run over a typed state and over Channels, in memory and in SQLite, and
//! under many seeds where the order in which nodes end might show. Numbers are those of the list in `docs/graphs.md`.
//!
//! With `STEPWELL_LONG=1` every seed, crash point and random graph is run; otherwise a sample.
#![allow(clippy::items_after_statements)] // a node of one test stands in that test

mod board;
mod breaks;
mod budgets;
mod crash;
mod dropped;
mod failures;
mod faulty;
mod fold;
mod hostile;
mod joins;
mod journal;
mod kept;
mod limits;
mod pauses;
mod portions;
mod random;
mod sends;
mod subgraphs;
mod tools;
mod ways;
mod works;
