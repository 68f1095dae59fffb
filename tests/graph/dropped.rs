//! Every future of the agent crate dropped after each of its polls; those that work on stored runs also in SQLite, at each
//! call to the store, which then lands behind their back. What is left is sound: nothing hangs, the journal reads, the run
//! goes on to the same end, and what was recorded is not done again.
//!
//! All that waits in the crate and can be reached from outside, and the test that drops it. A test compares this table with
//! the sources.
//!
//! | What waits | Where | Test |
//! |---|---|---|
//! | `Run::outcome` | `dropped/runs.rs` | `a_run_and_a_resumed_one_dropped_after_any_poll_go_on_to_the_same_end` |
//! | `IntoFuture for Run` | `dropped/runs.rs` | `a_run_and_a_resumed_one_dropped_after_any_poll_go_on_to_the_same_end` |
//! | `Stream for RunStream` | `dropped/runs.rs` | `a_stream_dropped_after_any_event_leaves_a_run_that_goes_on` |
//! | `RunStream::finish` | `dropped/runs.rs` | `a_stream_dropped_after_any_event_leaves_a_run_that_goes_on` |
//! | `AgentRun::outcome` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `IntoFuture for AgentRun` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `Node for PassagesNode` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `DynTool for Search` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `ContextPolicy for Trim` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `ContextPolicy for DropToolOutputs` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `ContextPolicy for Summarise` | `dropped/runs.rs` | `an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end` |
//! | `RunHandle::outcome` | `dropped/by_id.rs` | `whoever_waits_for_a_run_that_goes_by_itself_may_leave_after_any_poll` |
//! | `RunHandle::result` | `dropped/by_id.rs` | `whoever_waits_for_a_run_that_goes_by_itself_may_leave_after_any_poll` |
//! | `Runs::idle` | `dropped/by_id.rs` | `whoever_waits_for_a_run_that_goes_by_itself_may_leave_after_any_poll` |
//! | `Stream for Watch` | `dropped/by_id.rs` | `a_watch_dropped_after_any_poll_is_joined_again_where_it_was` |
//! | `RunContext::step` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `IntoFuture for Ask` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Agent::run_within` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for Subgraph` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for AgentNode` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for ModelNode` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for ToolsNode` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for FnNode` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for SyncNode` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Node for Arc` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `DynTool for Handed` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `ChatModel for AgentModel` | `dropped/nodes.rs` | `a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was` |
//! | `Graph::view` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::view_migrated` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::history` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::state_at` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::check_runs` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::run_size` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Stream for KeptEvents` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `RunFile::export` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::replay_file` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `RunStore for OneRun` | `dropped/journals.rs` | `looking_at_a_run_dropped_anywhere_changes_nothing` |
//! | `Graph::fork` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `Graph::replay` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `Graph::copy` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `RunFile::import` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `RunFile::fork` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `Graph::update_states` | `dropped/journals.rs` | `a_new_run_made_of_another_is_whole_or_not_there` |
//! | `Graph::update_state` | `dropped/journals.rs` | `a_change_of_a_stored_run_is_made_or_is_not` |
//! | `Graph::prune` | `dropped/journals.rs` | `a_change_of_a_stored_run_is_made_or_is_not` |
//! | `Graph::delete` | `dropped/journals.rs` | `a_change_of_a_stored_run_is_made_or_is_not` |
//! | `IntoFuture for Connect` | `mcp/dropped.rs` | `a_connection_dropped_after_any_poll_leaves_no_server_behind` |
//! | `Client::refresh` | `mcp/dropped.rs` | `a_list_that_was_not_read_to_its_end_is_read_before_the_next_call` |
//! | `Client::repin` | `mcp/dropped.rs` | `a_list_that_was_not_read_to_its_end_is_read_before_the_next_call` |
//! | `Client::close` | `mcp/dropped.rs` | `a_connection_that_is_being_closed_ends_though_nobody_waits` |
//! | `DynTool for RemoteTool` | `mcp/dropped.rs` | `a_call_dropped_after_any_poll_is_cancelled_and_the_next_one_works` |
//! | `DynTool for AnswerTool` | `mcp/dropped.rs` | `a_server_dropped_after_any_poll_ends_its_calls` |
//! | `Server::serve_http` | `mcp/dropped.rs` | `a_server_dropped_after_any_poll_ends_its_calls` |
//! | `Service for HttpService` | `mcp/dropped.rs` | `a_server_dropped_after_any_poll_ends_its_calls` |
//! | `Server::serve_stdio` | `mcp/dropped.rs` | `our_server_on_its_own_pipes_may_be_dropped_after_any_poll` |
//!
//! A stand-in for a node that a file names and nobody has (`Node for Missing`) waits for nothing.

mod by_id;
mod journals;
mod nodes;
mod runs;

use crate::{
    board::{Slate, is_long},
    kept::{Fault, Hooked, Kept},
    works::{Came, Notes, assert_effects, finish, graph, recorded},
};
use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use stepwell::{store::RunStore, stores::MemoryStore};

/// A future that takes more polls than this hangs.
const HANGS: u32 = 20_000;

/// Polls a future so often and drops it; what it came to where it did.
async fn polled<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    assert!(polls < HANGS, "it hangs");
    for _ in 0..polls {
        if let Poll::Ready(ended) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(ended);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Numbers of polls: all of them, or every so many where what is dropped is long.
fn poll_numbers() -> impl Iterator<Item = u32> {
    (0..).step_by(if is_long() { 1 } else { 3 })
}

/// Does something to stored runs and drops it: in memory after each poll, in SQLite at each call to the store, which lands
/// behind its back or does not. `sound` is told where it was dropped, and what it came to where it was not.
async fn broken_off<T>(
    what: &str,
    prepare: impl AsyncFn(&Arc<dyn RunStore>),
    act: impl AsyncFn(Arc<dyn RunStore>) -> T,
    sound: impl AsyncFn(&str, &Arc<dyn RunStore>, Option<T>),
) {
    for polls in 0.. {
        let memory: Arc<dyn RunStore> = Arc::new(MemoryStore::new());
        prepare(&memory).await;
        let came = polled(act(Arc::new(Hooked::slow(Arc::clone(&memory)))), polls).await;
        let is_over = came.is_some();
        sound(&format!("{what} dropped after poll {polls}"), &memory, came).await;
        if is_over {
            break;
        }
    }
    for call in 0.. {
        let kept = Kept::sqlite();
        prepare(&kept.store).await;
        let cut = Arc::new(Hooked::faulty(kept.store(), call, Fault::Unanswered));
        let came = cut.drive(act(Arc::clone(&cut) as Arc<dyn RunStore>)).await;
        let is_over = came.is_some();
        // Whatever was sent has landed.
        kept.store.flush().await.expect("works");
        sound(&format!("{what} dropped at call {call}"), &kept.store, came).await;
        if is_over {
            break;
        }
    }
}

/// Goes on with a run that was dropped: it ends like the undisturbed one, and what was recorded is not done again.
pub(crate) async fn goes_on<S: Slate>(
    place: &str,
    notes: &Notes,
    store: &Arc<dyn RunStore>,
    whole: &(Came, Vec<String>),
) {
    let known = recorded(store, "r").await;
    let graph = graph::<S>(&notes.note());
    let came = Came::of(&finish(&graph, store, "r").await.expect("ends"));
    assert!(came.is_like(&whole.0), "{place}: {came:#?} is not {:#?}", whole.0);
    assert_effects(place, &known, &notes.lines(), &whole.1);
}

pub(crate) async fn undisturbed<S: Slate>() -> (Came, Vec<String>) {
    let (notes, kept) = (Notes::default(), Kept::slow());
    let graph = graph::<S>(&notes.note());
    let came = Came::of(&finish(&graph, &kept.store(), "r").await.expect("ends"));
    (came, notes.lines())
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Where the name of a type ends: `Outcome<S> {` is `Outcome`.
fn name_of(text: &str) -> String {
    let name = text.trim_start().trim_start_matches('&');
    let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':');
    let path = &name[..end.unwrap_or(name.len())];
    path.rsplit("::").next().unwrap_or_default().to_owned()
}

/// `impl<S: State> Node<S> for Subgraph<S, C> {` is a Node of Subgraph.
fn implemented(line: &str) -> Option<(Option<String>, String)> {
    let mut rest = line.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.char_indices().find_map(|(at, letter)| {
            let is_arrow = rest[..at].ends_with('-');
            match letter {
                '<' => depth += 1,
                '>' if !is_arrow => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(at + 1)
        });
        rest = &rest[end?..];
    }
    Some(match rest.split_once(" for ") {
        Some((what, whom)) => (Some(name_of(what)), name_of(whom)),
        None => (None, name_of(rest)),
    })
}

/// All that waits in this source and can be reached from outside.
fn waiting(source: &str) -> Vec<String> {
    const WAITING: [&str; 11] = [
        "Future",
        "IntoFuture",
        "Stream",
        "Service",
        "Node",
        "DynTool",
        "ContextPolicy",
        "Hooks",
        "ChatModel",
        "RunStore",
        "Retriever",
    ];
    let mut found = Vec::new();
    let mut owner = String::new();
    let tests = source.find("#[cfg(test)]\nmod tests {");
    for line in source[..tests.unwrap_or(source.len())].lines() {
        if let Some((what, whom)) = implemented(line) {
            owner.clone_from(&whom);
            if let Some(what) = what.filter(|what| WAITING.contains(&&**what)) {
                found.push(format!("{what} for {whom}"));
            }
        }
        let text = line.trim_start();
        let waits = text.split_once("->").is_some_and(|(_, gives)| {
            ["BoxFuture", "BoxStream", "impl Future", "impl Stream"]
                .iter()
                .any(|kind| gives.contains(kind))
        });
        let name = text
            .strip_prefix("pub async fn ")
            .or_else(|| text.strip_prefix("pub fn ").filter(|_| waits));
        if let Some(name) = name {
            found.push(if line.starts_with(' ') {
                format!("{owner}::{}", name_of(name))
            } else {
                name_of(name)
            });
        }
    }
    found
}

#[test]
fn the_table_has_everything_that_waits_and_its_tests_are_there() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut files = Vec::new();
    sources(&root.join("agent/src"), &mut files);
    assert!(files.len() > 80, "{} files", files.len());
    let mut waits: Vec<String> = files
        .iter()
        .flat_map(|path| waiting(&std::fs::read_to_string(path).expect("text")))
        .filter(|what| what != "Node for Missing")
        .collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 50, "{waits:?}");
    let table = std::fs::read_to_string(root.join("tests/graph/dropped.rs")).expect("this file");
    let rows: BTreeMap<String, (String, String)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("//! | `")?.split("` | `");
            let test = |cell: &str| cell.trim_end_matches("` |").to_owned();
            Some((
                cells.next()?.to_owned(),
                (cells.next()?.to_owned(), test(cells.next()?)),
            ))
        })
        .collect();
    let missing: Vec<&String> = waits.iter().filter(|what| !rows.contains_key(*what)).collect();
    assert!(
        missing.is_empty(),
        "drop these in a test and name it in the table: {missing:#?}"
    );
    let gone: Vec<&String> = rows.keys().filter(|what| !waits.contains(what)).collect();
    assert!(gone.is_empty(), "the table names what is not there: {gone:#?}");
    for (what, (file, test)) in &rows {
        let folder = if file.starts_with("mcp/") {
            "agent/tests"
        } else {
            "tests/graph"
        };
        let text = std::fs::read_to_string(root.join(folder).join(file)).expect(file);
        assert!(
            text.contains(&format!("fn {test}(")),
            "{what}: there is no {test} in {file}"
        );
    }
}

#[test]
fn what_waits_is_found_in_sources() {
    let source = "impl<S: State, F: Fn() -> u8> Graph<S> {\n    pub async fn view(\n    pub(crate) async fn hidden(\n}\n\
                  impl<'a> Stream for Views<'a> {\n    pub fn all(&self) -> BoxStream<'a, u8> {\n}\n\
                  pub async fn alone() {}\n#[cfg(test)]\nmod tests {\n    pub async fn x() {}\n}\n";
    assert_eq!(
        waiting(source),
        ["Graph::view", "Stream for Views", "Views::all", "alone"]
    );
}
