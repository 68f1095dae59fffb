//! Graphs as JSON: what is written is read back the same, runs the same, and every fault is told at once.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use stepwell_agent::{
    Channels, ChannelsUpdate, Command, END, Graph, GraphBuilder, GraphFile, NodeError, NodeOptions,
    NodeRegistry, Reducer, Retry, RunContext, START, Subgraph, node_fn, node_sync,
};
use stepwell_core::{Error, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    amount: i64,
}

async fn fail(_: &Channels, _: &RunContext) -> Result<ChannelsUpdate, NodeError> {
    Err(NodeError::new("it always does"))
}

fn inner() -> Graph<Channels> {
    GraphBuilder::new(Channels::new().slot("sum", Reducer::Add))
        .name("inner")
        .node(
            "one",
            node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("sum", 1))),
        )
        .edge(START, "one")
        .edge("one", END)
        .build()
        .expect("checked")
}

fn registry() -> NodeRegistry<Channels> {
    NodeRegistry::new()
        .factory("add", |add: Add| {
            if add.amount > 1_000 {
                return Err(Error::invalid("amount", "it is more than 1000"));
            }
            Ok(node_sync(move |_: &Channels, _| {
                Ok(ChannelsUpdate::new().set("sum", add.amount))
            }))
        })
        .node(
            "log",
            node_sync(|_: &Channels, cx: &RunContext| Ok(ChannelsUpdate::new().set("log", [cx.node()]))),
        )
        .node("fail", node_fn(fail))
        .node(
            "inner",
            Subgraph::new(
                inner(),
                |_: &Channels, _| Ok(ChannelsUpdate::new()),
                |inner: Channels| Ok(ChannelsUpdate::new().set("sum", inner.get("sum")?)),
            ),
        )
        .factory(
            "panics",
            |_: Value| -> Result<Arc<dyn stepwell_agent::Node<Channels>>> { panic!("secret words") },
        )
        .route("enough", |state: &Channels| {
            if state.get("sum").ok().and_then(|sum| sum.as_i64()) > Some(10) {
                END
            } else {
                "add"
            }
        })
}

fn text() -> Value {
    json!({
        "version": 1,
        "graph": {
            "name": "count",
            "nodes": [
                { "name": "add", "made": { "from": "add", "settings": { "amount": 4 } }, "reads": [], "writes": ["sum"] },
                { "name": "try", "made": { "from": "fail" },
                  "options": { "retry": { "attempts": 2, "first_delay_ms": 1, "factor_percent": 150, "has_jitter": false },
                               "timeout_ms": 5000, "idle_timeout_ms": 4000, "on_error": { "from": "log" } } },
                { "name": "nested", "made": { "from": "inner" } },
                { "name": "late", "made": { "from": "log" } }
            ],
            "edges": [["__start__", "add"], ["add", "try"], ["add", "nested"], ["late", "__end__"]],
            "routes": [["check", ["add", "__end__"]]],
            "choosers": ["enough"],
            "joins": [{ "sources": ["try", "nested"], "to": "check" }],
            "deferred": ["late"],
            "channels": [{ "key": "sum", "reducer": "add" }, { "key": "log", "reducer": "append" }]
        }
    })
}

fn whole() -> Value {
    let mut file = text();
    let nodes = file["graph"]["nodes"].as_array_mut().expect("nodes");
    nodes.push(json!({ "name": "check", "made": { "from": "log" } }));
    let edges = file["graph"]["edges"].as_array_mut().expect("edges");
    edges.push(json!(["add", "late"]));
    file
}

fn build(file: &Value) -> Result<Graph<Channels>> {
    let file = GraphFile::from_json(&file.to_string())?;
    file.build(file.channels()?, &registry())
}

fn faults(file: &Value) -> Vec<String> {
    match build(file) {
        Err(Error::InvalidGraph { faults }) => faults,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_graph_of_a_file_runs_and_is_written_as_it_was_read() {
    let graph = build(&whole()).expect("checked");
    let written: Value = serde_json::from_str(&GraphFile::of(&graph).to_json()).expect("JSON");
    let mut expected = whole();
    expected["graph"]["nodes"][0]
        .as_object_mut()
        .expect("an object")
        .shift_remove("reads");
    expected["graph"]["nodes"][2]["graph"] = serde_json::to_value(inner().shape()).expect("plain data");
    // Objects are equal in any order of their keys.
    assert_eq!(written, expected);
    let again = GraphFile::from_json(&GraphFile::of(&graph).to_json()).expect("reads back");
    let again = again
        .build(again.channels().expect("known reducers"), &registry())
        .expect("checked");
    assert_eq!(again.shape(), graph.shape());
    for graph in [graph, again] {
        let ended = graph.run_input(ChannelsUpdate::new()).await.expect("it ends");
        assert_eq!(
            ended.state.get("sum").expect("written"),
            json!(15),
            "three times four and one"
        );
        let log = ended.state.get("log").expect("written");
        assert_eq!(log.as_array().map(Vec::len), Some(7), "{log}");
    }
}

#[test]
fn what_a_file_adds_does_not_change_the_fingerprint_that_stored_runs_are_told_by() {
    let of_file = build(&whole()).expect("checked");
    let file = whole();
    let mut plain = of_file.shape().clone();
    for node in &mut plain.nodes {
        node.made = stepwell_agent::MadeShape::default();
        node.options = None;
    }
    plain.choosers.clear();
    assert_eq!(plain.fingerprint(), of_file.fingerprint());
    assert_eq!(file["version"], 1);
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let mut file = whole();
    let graph = &mut file["graph"];
    graph["nodes"][0]["made"]["settings"] = json!({ "amount": "four" });
    graph["nodes"][1]["made"] = json!({ "from": "no such" });
    graph["nodes"][1]["options"]["on_error"] = json!({});
    graph["nodes"][1]["options"]["is_cached"] = json!(true);
    graph["nodes"][1]["options"]["retry"]["is_conditional"] = json!(true);
    graph["nodes"][2]["graph"] = json!({ "name": "another", "nodes": [] });
    graph["nodes"][3]["made"] = json!({ "from": "log", "settings": 3 });
    graph["nodes"][4]["made"] = json!({ "from": "panics" });
    graph["choosers"] = json!(["no such route"]);
    graph["edges"]
        .as_array_mut()
        .expect("edges")
        .push(json!(["add", "nowhere"]));
    let faults = faults(&file);
    for expected in [
        "node `add` cannot be made from `add`: settings: they do not fit",
        "node `try` is made from `no such`, which is not registered; there is: add, fail, inner, log, panics",
        "the handler of node `try` is code without a registered name",
        "node `try` has a cache",
        "which failures of node `try`",
        "the graph inside node `nested` is another",
        "node `late` cannot be made from `log`: settings: `log` takes none",
        "node `check` cannot be made from `panics`: its factory panicked",
        "the route from `check` is decided by `no such route`, which is not registered; there is: enough",
        "there is no node `nowhere`",
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{faults:#?}"
        );
    }
    assert_eq!(faults.len(), 10, "{faults:#?}");
    assert!(!format!("{faults:?}").contains("secret words"));
}

#[test]
fn a_graph_built_in_code_is_written_and_says_what_is_missing_when_it_is_built_again() {
    let graph = GraphBuilder::new(Channels::new())
        .node("code", node_fn(fail))
        .options(
            "code",
            NodeOptions::new()
                .retry(Retry::attempts(3).factor(3.0))
                .timeout(Duration::from_secs(1))
                .on_error(node_sync(|_: &Channels, _| {
                    Ok(Command::<ChannelsUpdate>::default())
                })),
        )
        .edge(START, "code")
        .route("code", |_: &Channels| END, [END, "code"])
        .build()
        .expect("checked");
    let file = GraphFile::of(&graph);
    assert!(
        file.to_json().contains("\"factor_percent\": 300"),
        "{}",
        file.to_json()
    );
    let read = GraphFile::from_json(&file.to_json()).expect("reads back");
    assert_eq!(read, file);
    let Err(Error::InvalidGraph { faults }) = read.build(Channels::new(), &registry()) else {
        panic!("it has no names");
    };
    assert_eq!(faults.len(), 3, "{faults:#?}");
    let other = Channels::new().slot("more", Reducer::Last);
    let Err(Error::InvalidGraph { faults }) = read.build(other, &registry()) else {
        panic!("another state");
    };
    assert!(faults[0].starts_with("the slots of the file are not those of the state"));
}

#[test]
fn unknown_fields_versions_and_what_is_too_large_are_refused() {
    let code = |text: &str| GraphFile::from_json(text).expect_err("refused").code();
    for at in [
        "/unknown",
        "/graph/unknown",
        "/graph/nodes/0/unknown",
        "/graph/nodes/0/made/unknown",
        "/graph/nodes/1/options/unknown",
    ] {
        let mut file = whole();
        let (place, key) = at.rsplit_once('/').expect("a place");
        let place = if place.is_empty() {
            Some(&mut file)
        } else {
            file.pointer_mut(place)
        };
        place.expect("it is there")[key] = json!(1);
        assert_eq!(code(&file.to_string()), "invalid_input", "{at}");
    }
    assert_eq!(
        code(&json!({ "version": 2, "future": true }).to_string()),
        "unknown_version"
    );
    assert_eq!(
        code(&json!({ "version": 0, "graph": {} }).to_string()),
        "unknown_version"
    );
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"version\":1}",
        &"[".repeat(100_000),
        "{\"version\":1,\"version\":1}",
    ] {
        assert_eq!(code(text), "invalid_input", "{}", &text[..text.len().min(40)]);
    }
    assert_eq!(code(&" ".repeat((4 << 20) + 1)), "limit_exceeded");
    let many: Vec<Value> = (0..5_001).map(|at| json!({ "name": format!("n{at}") })).collect();
    assert_eq!(
        code(&json!({ "version": 1, "graph": { "name": "", "nodes": many } }).to_string()),
        "limit_exceeded"
    );
    let mut deep = json!({ "name": "", "nodes": [] });
    for _ in 0..17 {
        deep = json!({ "name": "", "nodes": [{ "name": "n", "graph": deep }] });
    }
    assert_eq!(
        code(&json!({ "version": 1, "graph": deep }).to_string()),
        "limit_exceeded"
    );
}

/// A graph that holds: nodes in a row, each before the end, and ways that lead on.
fn graphs() -> impl Strategy<Value = Value> {
    let node = (
        0..3u8,
        -9..9i64,
        any::<bool>(),
        proptest::option::of((1..9u32, 0..9_000u64, 100..900u32)),
        any::<bool>(),
    );
    (proptest::collection::vec(node, 1..12), proptest::collection::vec((any::<u8>(), any::<u8>(), 0..4u8), 0..12)).prop_map(
        |(nodes, ways)| {
            let count = nodes.len();
            let name = |at: usize| format!("node {at}");
            let mut edges = vec![json!(["__start__", name(0)])];
            let (mut routes, mut choosers, mut gotos, mut joins) = (vec![], vec![], vec![], vec![]);
            for at in 0..count {
                edges.push(json!([name(at), if at + 1 == count { "__end__".to_owned() } else { name(at + 1) }]));
            }
            for (from, to, kind) in ways {
                let (from, to) = (name(usize::from(from) % count), name(usize::from(to) % count));
                match kind {
                    0 => edges.push(json!([from, to])),
                    1 => {
                        routes.push(json!([from, [to, "__end__"]]));
                        choosers.push("enough");
                    }
                    2 => gotos.push(json!([from, [to]])),
                    _ => joins.push(json!({ "sources": [from], "to": to, "need": 1 })),
                }
            }
            let nodes: Vec<Value> = nodes
                .into_iter()
                .enumerate()
                .map(|(at, (kind, amount, writes, retry, handler))| {
                    let mut node = match kind {
                        0 => json!({ "name": name(at), "made": { "from": "add", "settings": { "amount": amount } } }),
                        1 => json!({ "name": name(at), "made": { "from": "log" } }),
                        _ => json!({ "name": name(at), "made": { "from": "fail" } }),
                    };
                    if writes {
                        node["writes"] = json!(["sum"]);
                    }
                    if let Some((attempts, delay, factor)) = retry {
                        node["options"] = json!({ "retry": { "attempts": attempts, "first_delay_ms": delay, "factor_percent": factor } });
                        if handler {
                            node["options"]["on_error"] = json!({ "from": "add", "settings": { "amount": 1 } });
                        }
                    }
                    node
                })
                .collect();
            let deferred = if joins.is_empty() { vec![name(count - 1)] } else { vec![] };
            json!({ "version": 1, "graph": {
                "name": "by chance", "nodes": nodes, "edges": edges, "routes": routes, "choosers": choosers, "gotos": gotos,
                "joins": joins, "deferred": deferred, "inputs": ["log"],
                "channels": [{ "key": "sum", "reducer": "add" }, { "key": "log", "reducer": "append", "is_ephemeral": true }]
            } })
        },
    )
}

proptest! {
    #[test]
    fn a_file_that_builds_is_written_as_it_was_read(file in graphs()) {
        let read = GraphFile::from_json(&file.to_string()).expect("well formed");
        let graph = read.build(read.channels().expect("known reducers"), &registry()).expect("a graph that holds");
        prop_assert_eq!(graph.shape(), read.shape());
        let again = GraphFile::from_json(&GraphFile::of(&graph).to_json()).expect("reads back");
        prop_assert_eq!(&again, &read);
        prop_assert_eq!(again.to_json(), read.to_json());
    }
}
