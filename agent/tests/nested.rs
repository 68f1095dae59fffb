//! Agents inside of agents and graphs: one budget, one journal, one list of questions.

mod support;

use futures::StreamExt;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{
    Agent, AgentState, Approval, END, EventKind, Graph, GraphBuilder, HasMessages, NodeError, RunContext,
    START, node_fn,
};
use stepwell_core::{
    AllowAll, BudgetLimits, Effect, Message, Part, Risk, Role, Tool, ToolContext, ToolError, ToolOptions,
    Usage, store::RunStatus,
};
use support::{LogStore, Script};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct PayArgs {
    cents: i64,
}

/// Pays, which is not to be repeated.
struct Pay(Arc<AtomicUsize>);

impl Tool for Pay {
    const NAME: &'static str = "pay";
    const DESCRIPTION: &'static str = "Pays an amount.";
    type Args = PayArgs;
    type Output = String;
    fn options(&self) -> ToolOptions {
        ToolOptions::default()
            .effect(Effect::AtMostOnce)
            .risk(Risk::Write)
    }
    async fn call(&self, args: PayArgs, _: &ToolContext) -> Result<String, ToolError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(format!("paid {}", args.cents))
    }
}

fn says(text: &str) -> Vec<Part> {
    Message::assistant(text).parts.to_vec()
}

fn calls(id: &str, tool: &str, arguments: Value) -> Vec<Part> {
    vec![Part::tool_call(id, tool, arguments)]
}

/// A clerk that pays and says so, and a boss that asks the clerk twice side by side.
fn office(paid: &Arc<AtomicUsize>) -> (Agent, Arc<Script>) {
    let clerk = Script::new(vec![calls("c1", "pay", json!({ "cents": 5 })), says("I paid 5.")]);
    let clerk = Agent::new(clerk)
        .name("clerk")
        .tool(Pay(Arc::clone(paid)))
        .build()
        .expect("no fault");
    let mut both = calls("a", "clerk", json!({ "task": "pay ann" }));
    both.extend(calls("b", "clerk", json!({ "task": "pay bob" })));
    let boss = Script::new(vec![both, says("Both are paid.")]);
    let agent = Agent::new(boss.clone())
        .name("boss")
        .tool(clerk.tool("clerk", "Pays people."))
        .policy(AllowAll)
        .build()
        .expect("no fault");
    (agent, boss)
}

#[tokio::test]
async fn approvals_of_agents_within_are_questions_of_the_run_and_each_payment_is_made_once() {
    for has_store in [false, true] {
        let paid = Arc::new(AtomicUsize::new(0));
        let (agent, boss) = office(&paid);
        let store = LogStore::new();
        let graph = agent.graph();
        let run = graph
            .run(agent.begin("pay both", None).expect("a question"))
            .run_id("r");
        let run = if has_store { run.store(store.clone()) } else { run };
        let outcome = run.await.expect("it pauses");
        assert_eq!(outcome.status, RunStatus::Paused);
        let questions = outcome.questions.clone();
        let paths: Vec<_> = questions.iter().map(|question| question.path.clone()).collect();
        assert_eq!(paths, [vec!["tools@a".to_owned()], vec!["tools@b".to_owned()]]);
        assert_eq!(questions[0].payload["arguments"], json!({ "cents": 5 }));
        assert_eq!(paid.load(Ordering::SeqCst), 0);
        // One is answered: its clerk goes on; the other still waits.
        let allow = Approval::allow(&questions[0]).expect("about a call");
        let paused = outcome.paused().expect("it is");
        let outcome = paused
            .resume()
            .answer(&questions[0].id, &allow)
            .await
            .expect("it pauses again");
        assert_eq!(outcome.status, RunStatus::Paused, "{has_store}");
        assert_eq!(paid.load(Ordering::SeqCst), 1);
        assert_eq!(outcome.questions.len(), 1);
        assert_eq!(outcome.questions[0].id, questions[1].id);
        let deny = Approval::deny(&questions[1], "not bob").expect("about a call");
        let outcome = outcome
            .paused()
            .expect("it is")
            .resume()
            .answer(&questions[1].id, &deny)
            .await
            .expect("ends");
        assert_eq!(outcome.status, RunStatus::Done);
        assert_eq!(
            paid.load(Ordering::SeqCst),
            1,
            "nothing is repeated, and bob is not paid"
        );
        let results: Vec<String> = outcome.state.messages[2]
            .parts
            .iter()
            .map(|part| match part {
                Part::ToolResult(result) => result.text(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(results, ["I paid 5.", "I paid 5."]);
        assert_eq!(boss.asked.lock().expect("no panic holds it").len(), 2);
    }
}

#[tokio::test]
async fn an_answer_for_other_arguments_or_an_unknown_question_is_refused_and_nothing_is_written() {
    let paid = Arc::new(AtomicUsize::new(0));
    let (agent, _) = office(&paid);
    let store = LogStore::new();
    let graph = agent.graph();
    let begin = agent.begin("pay both", None).expect("a question");
    let outcome = graph
        .run(begin)
        .run_id("r")
        .store(store.clone())
        .await
        .expect("it pauses");
    let written = store.records("r").len();
    let question = &outcome.questions[0];
    let mut forged = serde_json::to_value(Approval::allow(question).expect("about a call")).expect("plain");
    forged["digest"] = json!("0".repeat(32));
    for (id, answer, code) in [
        (question.id.as_str(), forged, "invalid_input"),
        (question.id.as_str(), json!(true), "invalid_input"),
        ("nothing", json!(true), "not_found"),
    ] {
        let refused = graph.resume("r").store(store.clone()).answer(id, answer).await;
        assert_eq!(refused.expect_err("refused").code(), code);
    }
    let bare = graph
        .resume("r")
        .store(store.clone())
        .reply(true)
        .await
        .expect_err("two are open");
    assert!(bare.to_string().contains(&outcome.questions[1].id), "{bare}");
    assert_eq!(store.records("r").len(), written);
    assert_eq!(paid.load(Ordering::SeqCst), 0);
}

async fn check(state: &AgentState, _: &RunContext) -> Result<stepwell_agent::AgentUpdate, NodeError> {
    let last = state.messages.last().map(Message::text).unwrap_or_default();
    Ok(AgentState::add_messages(vec![Message::user(format!(
        "checked: {last}"
    ))]))
}

#[tokio::test]
async fn an_agent_as_a_node_adds_what_it_says_and_its_tokens_are_counted_once() {
    let mut script = Script::new(vec![says("first words")]);
    let mut usage = Usage::default();
    (usage.input_tokens, usage.output_tokens) = (Some(7), Some(2));
    Arc::get_mut(&mut script).expect("alone").usage = usage;
    let writer = Agent::new(script).name("writer").build().expect("no fault");
    let graph: Graph<AgentState> = GraphBuilder::new(AgentState::default())
        .node("write", writer.node())
        .node("check", node_fn(check))
        .edge(START, "write")
        .edge("write", "check")
        .edge("check", END)
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let mut state = AgentState::default();
    state.messages.put(Message::user("write"));
    let mut stream = graph.run(state).run_id("r").store(store.clone()).stream();
    let mut paths = Vec::new();
    while let Some(event) = stream.next().await {
        if matches!(event.kind, EventKind::Model { .. }) {
            paths.push(event.path.to_vec());
        }
    }
    assert!(
        !paths.is_empty() && paths.iter().all(|path| *path == ["write"]),
        "{paths:?}"
    );
    let outcome = stream.finish().await.expect("a result");
    let said: Vec<(Role, String)> = outcome
        .state
        .messages
        .iter()
        .map(|message| (message.role, message.text()))
        .collect();
    assert_eq!(
        said,
        [
            (Role::User, "write".to_owned()),
            (Role::Assistant, "first words".to_owned()),
            (Role::User, "checked: first words".to_owned()),
        ]
    );
    assert_eq!(outcome.usage.total(), 9);
    let view = graph
        .view(&*store, &stepwell_core::Scope::local(), "r")
        .await
        .expect("reads");
    assert_eq!((view.usage.total(), view.spent), (9, outcome.spent));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_time_is_spent_stops_in_the_middle_of_a_call_with_a_closed_history_and_can_go_on() {
    struct Slow;
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Nothing {}
    impl Tool for Slow {
        const NAME: &'static str = "slow";
        const DESCRIPTION: &'static str = "Takes its time.";
        type Args = Nothing;
        type Output = String;
        async fn call(&self, _: Nothing, _: &ToolContext) -> Result<String, ToolError> {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok("at last".into())
        }
    }
    let script = Script::new(vec![calls("1", "slow", json!({})), says("done")]);
    let mut limits = BudgetLimits::default();
    limits.time_ms = Some(5_000);
    let store = LogStore::new();
    let agent = Agent::new(script)
        .tool(Slow)
        .budget(limits)
        .store(store.clone())
        .build()
        .expect("no fault");
    let result = agent.run("go").run_id("r").outcome().await;
    assert_eq!(
        result.error.as_ref().map(stepwell_core::Error::code),
        Some("budget_exceeded")
    );
    assert_eq!(
        result.messages.last().map(|message| message.role),
        Some(Role::Tool),
        "the history is closed"
    );
    let result = agent
        .resume("r")
        .budget(stepwell_core::Budget::unlimited())
        .await
        .expect("goes on");
    assert_eq!(result.answer, "done");
}

#[tokio::test]
async fn a_paused_run_goes_on_with_the_tools_of_the_agent_that_lets_it() {
    let [first, second] = [(), ()].map(|()| Arc::new(AtomicUsize::new(0)));
    let agent = |paid: &Arc<AtomicUsize>| {
        let steps = vec![calls("c1", "pay", json!({ "cents": 5 })), says("paid")];
        Agent::new(Script::new(steps))
            .tool(Pay(Arc::clone(paid)))
            .build()
            .expect("an agent")
    };
    let (asks, goes_on) = (agent(&first), agent(&second));

    let paused = asks.run("pay").await.expect("pauses");
    assert_eq!(paused.status, RunStatus::Paused);
    let question = paused.questions[0].clone();
    assert!(question.check(&json!({ "decision": "perhaps" })).is_err());
    let approval = Approval::allow(&question).expect("a call");
    let shown = serde_json::to_value(&approval).expect("JSON");
    question.check(&shown).expect("an answer");

    let done = goes_on
        .go_on(paused)
        .expect("paused")
        .answer(question.id, approval);
    assert_eq!(done.await.expect("ends").answer, "paid");
    assert_eq!(
        (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)),
        (0, 1)
    );
}
