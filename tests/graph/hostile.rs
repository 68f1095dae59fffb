//! Tools, policies, caches, stores and reducers that misbehave: the run ends with an error or goes on, never with a panic, and
//! the history stays whole.

use crate::{
    board::{Board, Count, OnDrop, Slate, chain, is_long, says, waits},
    kept::Kept,
    tools::{asked, assert_closed, call, model, results, talk, tool, words},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell::{
    AllowAll, Decision, MediaSource, Origin, Part, Policy, PolicyRequest, Result, Scope, ToolOptions,
    ToolOutput,
    agent::{
        Channels, ChannelsUpdate, GraphBuilder, NodeCache, NodeOptions, Reducer, RunContext, ToolsNode,
        node_sync,
    },
    store::{Cache, RunStatus},
};

async fn told<S: Slate>(tools: ToolsNode, calls: i64) -> Vec<stepwell::ToolResult> {
    let calls: Vec<Part> = (1..=calls).map(|n| call(&format!("c{n}"), "act", n)).collect();
    let kept = Kept::sqlite();
    let graph = talk::<S>(model(vec![calls, vec![words("done")]]), tools);
    let run = graph.run_input(asked::<S>()).run_id("r").store(kept.store());
    let outcome = run.outcome().await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_closed(outcome.state.messages());
    let view = graph
        .view(&*kept.store, &Scope::local(), "r")
        .await
        .expect("kept");
    assert_eq!(view.state.messages()[..], outcome.state.messages()[..]);
    results(outcome.state.messages())
}

fn allowed(tool: Arc<dyn stepwell::DynTool>) -> ToolsNode {
    ToolsNode::new([tool], Arc::new(AllowAll))
}

#[tokio::test]
async fn a_tool_that_panics_at_once_or_later_is_told_without_its_words() {
    let panics = tool("act", ToolOptions::default(), |arguments, _| {
        assert!(arguments["n"] != 1, "secret words");
        async move {
            waits(2).await;
            if arguments["n"] == 2 {
                std::panic::panic_any(42);
            }
            Ok(ToolOutput::text("fine"))
        }
    });
    let told = told::<Board>(allowed(panics), 3).await;
    assert_eq!(
        told.iter().map(|one| one.is_error).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert!(told.iter().all(|one| !one.text().contains("secret")));
}

#[tokio::test]
async fn a_gigabyte_of_output_is_cut_and_not_kept_in_memory() {
    let bytes = if is_long() { 1 << 30 } else { 128 << 20 };
    let floods = tool("act", ToolOptions::default(), move |_, _| async move {
        Ok(ToolOutput::text("y".repeat(bytes)))
    });
    let mut told = told::<Channels>(allowed(floods.clone()), 1).await;
    told.extend(told_typed(allowed(floods)).await);
    for result in told {
        let Part::Text(text) = &result.parts[0] else {
            panic!("no text")
        };
        assert!(text.text.len() <= 256 << 10, "{} bytes", text.text.len());
        assert!(
            text.text.capacity() <= 1 << 20,
            "{} bytes are held",
            text.text.capacity()
        );
        assert!(text.text.contains(&format!("{bytes} bytes in all")));
    }
}

async fn told_typed(tools: ToolsNode) -> Vec<stepwell::ToolResult> {
    told::<Board>(tools, 1).await
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_whole_and_control_characters_do_no_harm() {
    let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
    let sent = bytes.clone();
    let binary = tool("act", ToolOptions::default(), move |arguments, _| {
        let sent = sent.clone();
        async move {
            Ok(match arguments["n"].as_i64() {
                Some(1) => ToolOutput::parts(vec![Part::media(
                    "application/octet-stream",
                    MediaSource::Bytes(sent),
                )]),
                Some(2) => ToolOutput::text(String::from_utf8_lossy(&sent).into_owned()),
                _ => ToolOutput::text("\0\u{1b}[2J\u{202e}\u{feff}\n\r"),
            })
        }
    });
    let told = told::<Board>(allowed(binary), 3).await;
    let Part::Media(media) = &told[0].parts[0] else {
        panic!("no medium")
    };
    assert_eq!(media.source, MediaSource::Bytes(bytes));
    assert_eq!(media.origin, Origin::Tool);
    assert!(told[1].text().contains('\u{fffd}'));
    assert_eq!(told[2].text(), "\0\u{1b}[2J\u{202e}\u{feff}\n\r");
}

/// It holds its thread: nothing can cut it off before it gives way, and then its time is over.
#[tokio::test]
async fn a_tool_that_does_not_give_way_is_stopped_when_it_does_and_its_siblings_are_answered() {
    let dropped = Count::default();
    let holds = {
        let dropped = dropped.clone();
        let options = ToolOptions::default().timeout(Duration::from_millis(40));
        tool("act", options, move |arguments, _| {
            let guard = OnDrop(dropped.clone());
            async move {
                let _guard = guard;
                if arguments["n"] == 1 {
                    loop {
                        std::thread::sleep(Duration::from_millis(20));
                        tokio::task::yield_now().await;
                    }
                }
                Ok(ToolOutput::text("fine"))
            }
        })
    };
    let began = Instant::now();
    let told = told::<Board>(allowed(holds), 3).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(
        told[0].text().contains("did not end within 40ms"),
        "{}",
        told[0].text()
    );
    assert_eq!((told[1].text(), told[2].text()), ("fine".into(), "fine".into()));
    assert_eq!(dropped.now(), 3, "its future is gone");
}

/// What a tool started on its own outlives it: it has the switch to stop by.
#[tokio::test]
async fn what_a_tool_left_behind_that_ran_out_of_time_is_told_to_stop() {
    let stopped = Count::default();
    let leaks = {
        let stopped = stopped.clone();
        let options = ToolOptions::default().timeout(Duration::from_millis(20));
        tool("act", options, move |arguments, cx| {
            let stopped = stopped.clone();
            async move {
                let switch = cx.cancel.clone();
                tokio::spawn(async move {
                    switch.cancelled().await;
                    stopped.more();
                });
                if arguments["n"] == 2 {
                    std::future::pending::<()>().await;
                }
                Ok(ToolOutput::text("left something behind"))
            }
        })
    };
    let told = told::<Board>(allowed(leaks), 2).await;
    assert_eq!(
        told.iter().map(|one| one.is_error).collect::<Vec<_>>(),
        [false, true]
    );
    waits(5).await;
    assert_eq!(stopped.now(), 1, "the one whose time was over is told");
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl Policy for Panics {
    async fn decide(&self, _: PolicyRequest<'_>) -> Decision {
        waits(1).await;
        panic!("secret words")
    }
}

#[async_trait]
impl Cache for Panics {
    async fn get(&self, _: &Scope, _: &str) -> Result<Option<Bytes>> {
        panic!("secret words")
    }
    async fn put(&self, _: &Scope, _: &str, _: Bytes, _: Option<Duration>) -> Result<()> {
        panic!("secret words")
    }
    async fn remove(&self, _: &Scope, _: &str) -> Result<bool> {
        Ok(false)
    }
    async fn clear(&self, _: &Scope) -> Result<u64> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_policy_that_panics_allows_nothing() {
    let ran = Count::default();
    let counts = {
        let ran = ran.clone();
        tool("act", ToolOptions::default(), move |_, _| {
            ran.more();
            async { Ok(ToolOutput::text("ran")) }
        })
    };
    let told = told::<Board>(ToolsNode::new([counts], Arc::new(Panics)), 2).await;
    assert!(
        told.iter()
            .all(|one| one.is_error && !one.text().contains("secret"))
    );
    assert_eq!(ran.now(), 0);
}

#[tokio::test]
async fn a_cache_that_panics_costs_time_and_never_the_run() {
    let act = tool(
        "act",
        ToolOptions::default().cache(Duration::from_mins(1)),
        |_, _| async { Ok(ToolOutput::text("ran")) },
    );
    let told = told::<Board>(allowed(act).cache(Arc::new(Panics)), 2).await;
    assert!(told.iter().all(|one| one.text() == "ran"));

    let options = NodeOptions::new().cache(NodeCache::new(Arc::new(Panics), |_: &Board, _| 1.into()));
    let graph = chain(
        Board::builder().node("a", says("a")).options("a", options),
        &["a"],
    );
    assert_eq!(graph.run(Board::blank()).await.expect("runs").state.words(), "a");
}

#[tokio::test]
async fn a_reducer_or_an_injected_argument_that_panics_is_an_error_of_the_run() {
    let panics: stepwell::agent::JsonReducer = Arc::new(|_, _| panic!("secret words"));
    let state = Channels::new().slot("bad", Reducer::Custom("bad".into(), panics));
    let writes = node_sync(|_: &Channels, _: &RunContext| Ok(ChannelsUpdate::new().set("bad", 1)));
    let builder = GraphBuilder::new(state.clone()).node("writes", writes);
    let graph = builder
        .edge(stepwell::agent::START, "writes")
        .edge("writes", stepwell::agent::END)
        .build()
        .expect("no fault");
    let outcome = graph.run(state).outcome().await;
    let error = outcome.error.expect("it panics");
    assert_eq!(error.code(), "invalid_update");
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = graph
        .run_input(ChannelsUpdate::new().set("bad", 1))
        .await
        .expect_err("it panics");
    assert_eq!(error.code(), "invalid_update");

    let act = tool("act", ToolOptions::default(), |_, _| async {
        Ok(ToolOutput::text("ran"))
    });
    let inject = |_: &Board, _: &RunContext| -> serde_json::Value { panic!("secret words") };
    let tools = allowed(act)
        .inject("act", "secret", inject)
        .expect("there is one");
    let graph = talk::<Board>(model(vec![vec![call("1", "act", 1)]]), tools);
    let outcome = graph.run_input(asked::<Board>()).outcome().await;
    assert_eq!(outcome.status, RunStatus::Failed);
    let error = outcome.error.expect("it panics");
    assert_eq!(error.code(), "node_failed");
    assert!(!error.to_string().contains("secret"), "{error}");
}
