//! History, forks, edits and pruning on the stores that are shipped: what the agent crate's tests show on a journal of
//! their own.

#[path = "../agent/tests/support/random.rs"]
mod random;

use serde_json::json;
use std::sync::Arc;
use stepwell::{
    Scope,
    agent::{ChannelsUpdate, END, Graph, GraphBuilder, Keep, START, node_sync},
    store::{PageRequest, RunFilter, RunStatus, RunStore},
    stores::{MemoryStore, SqliteStore},
};

async fn on_each_store<F: Future<Output = ()>>(test: impl Fn(Arc<dyn RunStore>) -> F) {
    test(Arc::new(MemoryStore::new())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("runs.db")).expect("opens");
    test(Arc::new(store)).await;
}

#[tokio::test]
async fn checkpoints_of_random_runs_hold_what_they_promise_on_each_store() {
    on_each_store(|store| async move {
        for seed in 100..112 {
            random::checkpoints_hold(&store, seed).await;
        }
    })
    .await;
}

fn graph(name: &str, pauses: bool) -> Graph<stepwell::agent::Channels> {
    GraphBuilder::new(random::state())
        .name(name)
        .node(
            "add",
            node_sync(|_: &stepwell::agent::Channels, _: &stepwell::agent::RunContext| {
                Ok(ChannelsUpdate::new().set("sum", 1).set("log", ["added"]))
            }),
        )
        .node(
            "end",
            node_sync(
                move |_: &stepwell::agent::Channels, _: &stepwell::agent::RunContext| {
                    if pauses {
                        return Err(stepwell::agent::NodeError::new("not yet"));
                    }
                    Ok(ChannelsUpdate::new().set("sum", 10))
                },
            ),
        )
        .edge(START, "add")
        .edge("add", "end")
        .edge("end", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
async fn runs_are_listed_by_every_filter_and_a_deleted_one_is_gone_with_its_history() {
    // Behaviour 47.
    on_each_store(|store| async move {
        let scope = Scope::local();
        for (run, name, fails) in [
            ("a", "one", false),
            ("b", "one", true),
            ("c", "two", false),
            ("d", "two", true),
        ] {
            let graph = graph(name, fails);
            graph
                .run(random::state())
                .run_id(run)
                .store(Arc::clone(&store))
                .outcome()
                .await;
        }
        let mut filter = RunFilter::default();
        filter.graph = Some("one".into());
        let list = |filter: RunFilter| {
            let (store, scope) = (Arc::clone(&store), scope.clone());
            async move {
                let page = store
                    .list(&scope, &filter, PageRequest::default())
                    .await
                    .expect("lists");
                let mut ids: Vec<String> = page.items.into_iter().map(|head| head.run_id).collect();
                ids.sort();
                ids
            }
        };
        assert_eq!(list(filter.clone()).await, ["a", "b"]);
        filter.status = Some(RunStatus::Failed);
        assert_eq!(list(filter.clone()).await, ["b"], "each filter has to fit");
        let one = graph("one", false);
        let check = one
            .check_runs(&*store, &scope, &RunFilter::default())
            .await
            .expect("checks");
        assert_eq!(
            (check.total(), check.same.len()),
            (4, 4),
            "names do not enter a fingerprint"
        );
        assert!(one.delete(&*store, &scope, "b").await.expect("deletes"));
        assert!(list(filter).await.is_empty());
        let gone = one.history(&*store, &scope, "b", PageRequest::default()).await;
        assert_eq!(gone.expect_err("gone").code(), "not_found");
    })
    .await;
}

#[tokio::test]
async fn a_copy_keeps_order_and_what_had_finished_and_a_pruned_one_goes_on_as_before() {
    // Behaviour 48.
    on_each_store(|store| async move {
        let scope = Scope::local();
        graph("g", true)
            .run(random::state())
            .run_id("r")
            .store(Arc::clone(&store))
            .outcome()
            .await;
        let graph = graph("g", false);
        graph.copy(&*store, &scope, "r", "copy").await.expect("copies");
        let whole = store.read(&scope, "r", 1, 100).await.expect("reads");
        assert_eq!(store.read(&scope, "copy", 1, 100).await.expect("reads"), whole);
        let gone = graph
            .prune(&*store, &scope, "copy", Keep::Latest)
            .await
            .expect("prunes");
        assert_eq!(gone, whole.len() as u64);
        let left = graph
            .history(&*store, &scope, "copy", PageRequest::default())
            .await
            .expect("a history");
        assert_eq!(left.items.len(), 1);
        assert!(left.items[0].failure.is_some(), "why it stopped is still told");
        for run in ["r", "copy"] {
            let ended = graph
                .resume(run)
                .store(Arc::clone(&store))
                .await
                .expect("goes on");
            assert_eq!(ended.state.get("sum").expect("written"), json!(11));
            assert_eq!(ended.state.get("log").expect("written"), json!(["added"]));
        }
    })
    .await;
}
