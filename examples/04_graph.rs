//! Lesson 4: a graph with a typed state, two nodes side by side, a route, and a journal in SQLite.
//!
//! The second part of the lesson opens the finished run from the journal, as another process would.

use std::{future::IntoFuture, sync::Arc};
use stepwell::{
    State,
    agent::{END, Graph, NodeError, RunContext, START, node_fn},
    prelude::*,
    stores::SqliteStore,
};

/// What flows through the graph.
#[derive(Clone, Debug, Default, State)]
struct Review {
    text: String,
    /// Both checkers write this in one step; their notes are joined in the order in which the nodes are declared.
    #[state(append)]
    notes: Vec<String>,
    is_accepted: bool,
}

async fn length(review: &Review, _: &RunContext) -> Result<ReviewUpdate, NodeError> {
    Ok(ReviewUpdate::notes([format!(
        "{} words",
        review.text.split_whitespace().count()
    )]))
}

async fn tone(review: &Review, _: &RunContext) -> Result<ReviewUpdate, NodeError> {
    let note = if review.text.contains('!') {
        "too loud"
    } else {
        "calm"
    };
    Ok(ReviewUpdate::notes([note.to_owned()]))
}

/// Waits for both, and only routes.
async fn decide(_: &Review, _: &RunContext) -> Result<ReviewUpdate, NodeError> {
    Ok(ReviewUpdate::default())
}

async fn accept(_: &Review, _: &RunContext) -> Result<ReviewUpdate, NodeError> {
    Ok(ReviewUpdate::is_accepted(true))
}

#[tokio::main]
async fn main() -> Result<()> {
    let graph = Graph::<Review>::builder()
        .name("review")
        .node("length", node_fn(length))
        .node("tone", node_fn(tone))
        .node("decide", node_fn(decide))
        .node("accept", node_fn(accept))
        .edge(START, "length")
        .edge(START, "tone")
        .join(["length", "tone"], "decide")
        .route(
            "decide",
            |review| {
                if review.notes.iter().any(|note| note == "calm") {
                    "accept"
                } else {
                    END
                }
            },
            ["accept", END],
        )
        .edge("accept", END)
        .build()?;

    let folder = tempfile::tempdir().map_err(|error| Error::io("making a folder", error))?;
    let store = Arc::new(SqliteStore::open(folder.path().join("runs.db"))?);
    let review = Review {
        text: "A journal only grows.".into(),
        ..Review::default()
    };
    let ended = graph
        .run(review)
        .run_id("review-1")
        .store(store.clone())
        .into_future()
        .await?;
    println!("{:?}", ended.state);

    let seen = graph.view(store.as_ref(), &Scope::local(), "review-1").await?;
    println!(
        "from the journal: {:?}, notes {:?}",
        seen.status, seen.state.notes
    );
    Ok(())
}
