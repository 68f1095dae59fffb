//! What all tests stand on: one state in two kinds, stores, seeds, and nodes that do what a closure says.

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use stepwell::{
    State,
    agent::{
        Channels, ChannelsUpdate, Command, Graph, GraphBuilder, HasMessages, Messages, Node, NodeError,
        Reducer, RunContext, node_sync,
    },
};

/// The state of most tests, typed.
#[derive(Clone, Debug, Default, PartialEq, State)]
pub(crate) struct Board {
    plain: Option<i64>,
    #[state(append)]
    log: Vec<String>,
    #[state(add)]
    sum: i64,
    #[state(append, ephemeral)]
    leads: Vec<String>,
    #[state(messages)]
    messages: Messages,
}

/// What a node returns.
pub(crate) type Done<S> = Result<Command<<S as stepwell::agent::State>::Update>, NodeError>;

/// The same state in its two kinds.
pub(crate) trait Slate: HasMessages {
    fn blank() -> Self;
    /// Appends to the log.
    fn says(word: impl Into<String>) -> Self::Update;
    /// Adds to the sum.
    fn adds(amount: i64) -> Self::Update;
    /// Writes the key without a reducer.
    fn puts(number: i64) -> Self::Update;
    /// Appends to the list that lasts one step.
    fn leads_to(word: &str) -> Self::Update;
    /// Replaces the log.
    fn overwrites(words: &[&str]) -> Self::Update;
    /// An update as plain JSON gives it, `$overwrite` for what replaces a key.
    fn from_json(update: Value) -> Self::Update;
    fn log(&self) -> Vec<String>;
    fn leads(&self) -> Vec<String>;
    fn sum(&self) -> i64;
    fn plain(&self) -> Option<i64>;

    fn builder() -> GraphBuilder<Self> {
        GraphBuilder::new(Self::blank())
    }

    fn words(&self) -> String {
        self.log().join(" ")
    }
}

impl Slate for Board {
    fn blank() -> Self {
        Self::default()
    }
    fn says(word: impl Into<String>) -> BoardUpdate {
        BoardUpdate::log([word.into()])
    }
    fn adds(amount: i64) -> BoardUpdate {
        BoardUpdate::sum(amount)
    }
    fn puts(number: i64) -> BoardUpdate {
        BoardUpdate::plain(number)
    }
    fn leads_to(word: &str) -> BoardUpdate {
        BoardUpdate::leads([word.to_owned()])
    }
    fn overwrites(words: &[&str]) -> BoardUpdate {
        BoardUpdate::default().overwrite_log(words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
    fn from_json(update: Value) -> BoardUpdate {
        let Value::Object(fields) = update else {
            panic!("give an object")
        };
        let written = fields.into_iter().map(|(key, value)| {
            let write = match value.get("$overwrite") {
                Some(over) => json!({ "o": over }),
                None => json!({ "w": value }),
            };
            (key, write)
        });
        serde_json::from_value(Value::Object(written.collect())).expect("it fits")
    }
    fn log(&self) -> Vec<String> {
        self.log.clone()
    }
    fn leads(&self) -> Vec<String> {
        self.leads.clone()
    }
    fn sum(&self) -> i64 {
        self.sum
    }
    fn plain(&self) -> Option<i64> {
        self.plain
    }
}

impl Slate for Channels {
    fn blank() -> Self {
        Channels::new()
            .slot("plain", Reducer::Last)
            .slot("log", Reducer::Append)
            .slot("sum", Reducer::Add)
            .slot("leads", Reducer::Append.ephemeral())
            .slot("messages", Reducer::Messages)
    }
    fn says(word: impl Into<String>) -> ChannelsUpdate {
        ChannelsUpdate::new().set("log", vec![word.into()])
    }
    fn adds(amount: i64) -> ChannelsUpdate {
        ChannelsUpdate::new().set("sum", amount)
    }
    fn puts(number: i64) -> ChannelsUpdate {
        ChannelsUpdate::new().set("plain", number)
    }
    fn leads_to(word: &str) -> ChannelsUpdate {
        ChannelsUpdate::new().set("leads", [word])
    }
    fn overwrites(words: &[&str]) -> ChannelsUpdate {
        ChannelsUpdate::new().overwrite("log", words)
    }
    fn from_json(update: Value) -> ChannelsUpdate {
        ChannelsUpdate::from_json(update).expect("an object")
    }
    fn log(&self) -> Vec<String> {
        strings(self, "log")
    }
    fn leads(&self) -> Vec<String> {
        strings(self, "leads")
    }
    fn sum(&self) -> i64 {
        self.get("sum").ok().and_then(|sum| sum.as_i64()).unwrap_or(0)
    }
    fn plain(&self) -> Option<i64> {
        self.get("plain").ok().and_then(|plain| plain.as_i64())
    }
}

fn strings(state: &Channels, key: &str) -> Vec<String> {
    let list = state.get(key).unwrap_or_else(|_| json!([]));
    serde_json::from_value(list).expect("a list of words")
}

/// A node that does what an async closure says, which may own what it needs.
struct Acts<F>(F);

#[async_trait]
impl<S, F> Node<S> for Acts<F>
where
    S: stepwell::agent::State,
    F: for<'a> Fn(&'a S, &'a RunContext) -> BoxFuture<'a, Done<S>> + Send + Sync,
{
    async fn run(&self, state: &S, cx: &RunContext) -> Done<S> {
        (self.0)(state, cx).await
    }
}

pub(crate) fn acts<S, F>(act: F) -> impl Node<S> + 'static
where
    S: stepwell::agent::State,
    F: for<'a> Fn(&'a S, &'a RunContext) -> BoxFuture<'a, Done<S>> + Send + Sync + 'static,
{
    Acts(act)
}

/// A node that writes a word into the log.
pub(crate) fn says<S: Slate>(word: &'static str) -> impl Node<S> + 'static {
    node_sync(move |_: &S, _: &RunContext| Ok(S::says(word)))
}

/// The same, after it has let its neighbours go ahead a few times, and counted.
pub(crate) fn slowly<S: Slate>(word: &'static str, turns: u32, ran: &Count) -> impl Node<S> + 'static {
    let ran = ran.clone();
    acts(move |_: &S, _| {
        let ran = ran.clone();
        Box::pin(async move {
            ran.more();
            waits(turns).await;
            Ok(S::says(word).into())
        })
    })
}

pub(crate) async fn waits(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicU32>);

impl Count {
    pub(crate) fn of(number: u32) -> Self {
        Self(Arc::new(AtomicU32::new(number)))
    }
    /// One more; how many there were.
    pub(crate) fn more(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
    /// One less, where there is one; whether there was.
    pub(crate) fn less(&self) -> bool {
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |number| number.checked_sub(1))
            .is_ok()
    }
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped.
pub(crate) struct OnDrop(pub(crate) Count);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.more();
    }
}

pub(crate) fn is_long() -> bool {
    std::env::var_os("STEPWELL_LONG").is_some()
}

/// Seeds for the order in which nodes end.
pub(crate) fn seeds() -> Range<u64> {
    0..if is_long() { 200 } else { 20 }
}

/// Edges from START to each, and from each to END.
pub(crate) fn side_by_side<S: Slate>(mut builder: GraphBuilder<S>, nodes: &[&str]) -> Graph<S> {
    for node in nodes {
        builder = builder
            .edge(stepwell::agent::START, *node)
            .edge(*node, stepwell::agent::END);
    }
    builder.build().expect("no fault")
}

/// A chain from START to END.
pub(crate) fn chain<S: Slate>(mut builder: GraphBuilder<S>, nodes: &[&str]) -> Graph<S> {
    let mut from = stepwell::agent::START;
    for node in nodes {
        builder = builder.edge(from, *node);
        from = node;
    }
    builder
        .edge(from, stepwell::agent::END)
        .build()
        .expect("no fault")
}
