//! One run of twelve steps with everything that can be cut off: memoised steps, Sends, a graph inside a node, a question, and a
//! model that calls tools of all three effects. Used by the suites that cut, kill and drop.

use crate::{
    board::{Slate, acts, chain, says},
    tools::{call, model, tool, words},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use stepwell::{
    AllowAll, Effect, Message, Scope, ToolOptions, ToolOutput, ToolResult,
    agent::{
        Command, END, Graph, ModelNode, NodeError, Outcome, RunContext, START, Send, Subgraph, Targets,
        ToolsNode, node_sync,
    },
    store::{RunStatus, RunStore},
};

/// Takes note of what happened out there.
pub(crate) type Note = Arc<dyn Fn(&str) + std::marker::Send + Sync>;

/// Notes in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn note(&self) -> Note {
        let notes = self.0.clone();
        Arc::new(move |effect| notes.lock().expect("free").push(effect.to_owned()))
    }
    pub(crate) fn clear(&self) {
        self.0.lock().expect("free").clear();
    }
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("free").clone()
    }
}

/// Does something in the world, once, and says which.
async fn once(cx: &RunContext, name: &str, note: &Note) -> Result<String, NodeError> {
    let effect = format!("did:{name}");
    let note = note.clone();
    cx.step(name, async move {
        note(&effect);
        crate::board::waits(1).await;
        Ok::<_, NodeError>(effect)
    })
    .await
}

pub(crate) fn acting<S: Slate>(name: &'static str, note: &Note) -> impl stepwell::agent::Node<S> + 'static {
    let note = note.clone();
    acts(move |_: &S, cx: &RunContext| {
        let note = note.clone();
        Box::pin(async move {
            let number: u32 = if cx.has_input() { cx.input()? } else { 0 };
            let did = once(cx, &format!("{name}{number}"), &note).await?;
            Ok(Command::update(S::says(did)).and(S::adds(1)))
        })
    })
}

fn acting_tool(name: &'static str, effect: Effect, note: &Note) -> Arc<dyn stepwell::DynTool> {
    let note = note.clone();
    tool(
        name,
        ToolOptions::default().effect(effect),
        move |arguments, cx| {
            let note = note.clone();
            async move {
                let did = format!("did:{name}{}:{}", arguments["n"], cx.idempotency_key);
                note(&did);
                crate::board::waits(1).await;
                Ok(ToolOutput::text(did))
            }
        },
    )
}

/// The whole of it, twelve steps long.
pub(crate) fn graph<S: Slate>(note: &Note) -> Graph<S> {
    let lines = vec![
        vec![call("1", "look", 1), call("2", "put", 2), call("3", "pay", 3)],
        vec![call("4", "pay", 4), call("5", "put", 5)],
        vec![call("6", "pay", 6)],
        vec![words("all is done")],
    ];
    let tools = ToolsNode::new(
        [
            acting_tool("look", Effect::Pure, note),
            acting_tool("put", Effect::Idempotent, note),
            acting_tool("pay", Effect::AtMostOnce, note),
        ],
        Arc::new(AllowAll),
    );
    let inner = chain(
        S::builder()
            .node("first", acting("first", note))
            .node("second", acting("second", note)),
        &["first", "second"],
    );
    let asks = acts(|_: &S, cx: &RunContext| {
        Box::pin(async move {
            let answer: u8 = cx.ask("sure", ()).await?;
            Ok(S::says(format!("sure={answer}")).into())
        })
    });
    let sends = |_: &S| {
        (1..=3).fold(Targets::default(), |targets, number| {
            targets.and(Send::new("part", number).expect("a number"))
        })
    };
    let hello =
        node_sync(|_: &S, _: &RunContext| Ok(S::add_messages(vec![Message::user("go").with_id("question")])));
    S::builder()
        .node("start", acting("start", note))
        .node("part", acting("part", note))
        .node("beside", says("beside"))
        .node(
            "inside",
            Subgraph::new(
                inner,
                |_: &S, _| Ok(S::adds(1)),
                |inner: S| Ok(S::says(inner.words())),
            ),
        )
        .node("asks", asks)
        .node("hello", hello)
        .node("model", ModelNode::new(model(lines)).tools_at("tools"))
        .node("tools", tools)
        .edge(START, "start")
        .route("start", sends, "part")
        .edge("part", "inside")
        .edge("part", "beside")
        .join(["inside", "beside"], "asks")
        .edge("asks", "hello")
        .edge("hello", "model")
        .goto("model", ["tools", END])
        .edge("tools", "model")
        .build()
        .expect("no fault")
}

/// Lets a run go on until it is done, by the answers that are asked for.
pub(crate) async fn finish<S: Slate>(
    graph: &Graph<S>,
    store: &Arc<dyn RunStore>,
    run_id: &str,
) -> Result<Outcome<S>, stepwell::Error> {
    loop {
        let resumed = graph.resume(run_id).store(store.clone()).sync().await;
        let outcome = match resumed {
            // It died before its first record: it never began.
            Err(error) if error.code() == "not_found" => {
                graph
                    .run(S::blank())
                    .run_id(run_id)
                    .store(store.clone())
                    .sync()
                    .await?
            }
            resumed => resumed?,
        };
        if outcome.status != RunStatus::Paused {
            return Ok(outcome);
        }
        let mut run = graph.resume(run_id).store(store.clone()).sync();
        for question in outcome.questions {
            run = run.answer(question.id, 7);
        }
        let outcome = run.await?;
        if outcome.status != RunStatus::Paused {
            return Ok(outcome);
        }
    }
}

/// What a run came to, apart from a call whose outcome nobody knows.
#[derive(Debug, PartialEq)]
pub(crate) struct Came {
    words: String,
    sum: i64,
    messages: Vec<String>,
    steps: u32,
    tokens: u64,
    calls: u64,
}

pub(crate) const UNKNOWN: &str = "its outcome is not known";

impl Came {
    pub(crate) fn of<S: Slate>(outcome: &Outcome<S>) -> Self {
        let told = |message: &Message| {
            let mut told = vec![format!("{:?} {}", message.role, message.text())];
            let results = crate::tools::results(std::slice::from_ref(message));
            told.extend(results.iter().map(ToolResult::text));
            told.join("|")
        };
        Self {
            words: outcome.state.words(),
            sum: outcome.state.sum(),
            messages: outcome.state.messages().iter().map(told).collect(),
            steps: outcome.steps,
            tokens: outcome.usage.total(),
            calls: outcome.spent.calls,
        }
    }

    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// Whether it is the other, but for calls that must not happen twice and were cut off in the middle.
    pub(crate) fn is_like(&self, whole: &Self) -> bool {
        let pieces = |came: &Self| -> Vec<String> {
            came.messages
                .iter()
                .flat_map(|message| message.split('|').map(str::to_owned).collect::<Vec<_>>())
                .collect()
        };
        let (mine, theirs) = (pieces(self), pieces(whole));
        (&self.words, self.sum, self.steps) == (&whole.words, whole.sum, whole.steps)
            && mine.len() == theirs.len()
            && mine.iter().zip(&theirs).all(|(mine, theirs)| {
                mine == theirs || mine.contains(UNKNOWN) && theirs.starts_with("did:pay")
            })
    }
}

/// What the journal knows to have been done.
pub(crate) async fn recorded(store: &Arc<dyn RunStore>, run_id: &str) -> Vec<String> {
    let records = store
        .read(&Scope::local(), run_id, 1, 10_000)
        .await
        .expect("reads");
    let mut done = Vec::new();
    for record in records {
        let text = String::from_utf8_lossy(&record.body).into_owned();
        for piece in text
            .split('"')
            .filter(|piece| piece.starts_with("did:") && !piece.contains(' '))
        {
            done.push(piece.trim_end_matches('\\').to_owned());
        }
    }
    done.sort();
    done.dedup();
    done
}

/// What the journal knew to be done happened once; what must not happen twice did not; and nothing is left out.
pub(crate) fn assert_effects(place: &str, known: &[String], happened: &[String], whole: &[String]) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for effect in happened {
        *counts.entry(effect).or_default() += 1;
    }
    for effect in known {
        assert_eq!(
            counts.get(effect.as_str()),
            Some(&1),
            "{place}: {effect} was recorded"
        );
    }
    for (effect, count) in &counts {
        assert!(*count <= 2, "{place}: {effect} happened {count} times");
        assert!(
            *count == 1 || !effect.starts_with("did:pay"),
            "{place}: {effect} happened {count} times"
        );
    }
    for effect in whole {
        let is_there = counts.contains_key(effect.as_str());
        assert!(
            is_there || effect.starts_with("did:pay"),
            "{place}: {effect} never happened"
        );
    }
    assert!(
        counts.keys().all(|effect| whole.iter().any(|one| one == effect)),
        "{place}: {counts:?}"
    );
}
