//! What of a long conversation is sent to a model: context policies, and the promise that calls keep their results.

mod support;

use async_trait::async_trait;
use futures::StreamExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};
use stepwell_agent::{
    Agent, AgentBuilder, ContextPolicy, DropToolOutputs, EventKind, History, RunContext, Summarise, Trim,
};
use stepwell_core::{
    BudgetLimits, ChatModel, ChatRequest, ChatResponse, ChatStream, Error, FinishReason, Message, ModelInfo,
    Origin, Part, Result, Role, ToolCall, Usage, whole,
};
use support::{LogStore, Seeded};

/// Says how many messages it was shown, and keeps them.
#[derive(Debug)]
struct Counting {
    info: ModelInfo,
    asked: Mutex<Vec<ChatRequest>>,
    says: &'static str,
    fails: bool,
}

impl Counting {
    fn new(says: &'static str) -> Arc<Self> {
        Arc::new(Self::plain(says))
    }

    fn plain(says: &'static str) -> Self {
        Self {
            info: ModelInfo::new("count", "c"),
            asked: Mutex::default(),
            says,
            fails: false,
        }
    }

    fn calls(&self) -> usize {
        self.asked.lock().expect("free").len()
    }

    fn last(&self) -> Vec<Message> {
        let asked = self.asked.lock().expect("free");
        asked.last().expect("asked").messages.clone()
    }
}

#[async_trait]
impl ChatModel for Counting {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        self.asked.lock().expect("free").push(request);
        if self.fails {
            return Err(Error::internal("out of order"));
        }
        let mut answer = ChatResponse::new(
            "count",
            "c",
            vec![Part::text(self.says, Origin::Model)],
            FinishReason::Stop,
        );
        answer.usage = Usage::default();
        (answer.usage.input_tokens, answer.usage.output_tokens) = (Some(100), Some(10));
        Ok(futures::stream::iter(whole(answer).into_iter().map(Ok)).boxed())
    }
}

fn agent(model: &Arc<Counting>) -> AgentBuilder {
    Agent::new(Arc::clone(model) as Arc<dyn ChatModel>)
}

/// So many turns of a question of about 20 tokens and an answer of as many.
fn turns(count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for turn in 0..count {
        messages.push(Message::user(format!("question {turn} {}", "word ".repeat(12))));
        messages.push(Message::assistant(format!(
            "answer {turn} {}",
            "word ".repeat(12)
        )));
    }
    messages
}

fn round(id: &str, output: &str) -> [Message; 2] {
    let call = ToolCall::new(id, "look", json!({ "at": id }));
    [
        Message::new(Role::Assistant, vec![Part::ToolCall(call.clone())]),
        Message::tool(vec![Part::tool_result(
            &call,
            vec![Part::text(output, Origin::Tool)],
            false,
            Origin::Tool,
        )]),
    ]
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| {
            message
                .text()
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[tokio::test]
async fn a_long_conversation_is_trimmed_to_its_last_turns_and_the_state_keeps_everything() {
    let model = Counting::new("ok");
    let trimmed = agent(&model)
        .instructions("Be brief.")
        .context_policy(Trim::to_tokens(200).keep_turns(2).keep_first())
        .build()
        .expect("no fault");
    let mut messages = turns(20);
    messages.push(Message::user("question last"));
    let mut stream = trimmed.stream(messages);
    let mut report = Value::Null;
    while let Some(event) = stream.next().await {
        if let EventKind::Custom { name, value } = event.kind {
            assert_eq!(name, "context");
            report = value;
        }
    }
    let result = stream.finish().await.expect("ended");
    assert_eq!(result.messages.len(), 42, "nothing is lost");
    let sent = model.last();
    let told = texts(&sent);
    assert_eq!(told[0], "Be brief.");
    assert_eq!(told[1], "question 0", "what the person said first");
    assert!(
        told.ends_with(&["question 19".into(), "answer 19".into(), "question last".into()]),
        "{told:?}"
    );
    let tokens = ChatRequest::new(sent.clone()).estimated_tokens();
    assert!(tokens <= 200, "{tokens}");
    assert_eq!(report["left_out"], json!(41 - (sent.len() - 1)));
    assert_eq!(report["sent"], json!(sent.len() - 1));

    // A short one is sent as it is, without a report.
    trimmed.run("hi").await.expect("answers");
    assert_eq!(model.last().len(), 2);
}

#[tokio::test]
async fn a_cut_stays_where_it_is_for_some_turns() {
    let model = Counting::new(
        "an answer of some words so that the conversation grows by that much with each turn of it",
    );
    let trimmed = agent(&model)
        .context_policy(Trim::to_tokens(300))
        .build()
        .expect("no fault");
    let mut input = trimmed
        .run("question 0 and some more words")
        .await
        .expect("answers")
        .into_input("question 1");
    let mut firsts = Vec::new();
    for turn in 2..30 {
        let result = trimmed.run(input).await.expect("answers");
        let sent = model.last();
        assert!(ChatRequest::new(sent.clone()).estimated_tokens() <= 300);
        firsts.push(texts(&sent)[0].clone());
        input = result.into_input(format!("question {turn} and some more words").as_str());
    }
    let before = firsts.len();
    firsts.dedup();
    assert!(firsts.len() > 2, "it was cut again and again: {firsts:?}");
    assert!(firsts.len() * 2 < before, "but not with each turn: {firsts:?}");
    assert!(
        firsts.iter().all(|first| first.starts_with("question")),
        "{firsts:?}"
    );
}

#[tokio::test]
async fn one_long_turn_loses_its_oldest_rounds_and_never_its_question_or_its_last_results() {
    let model = Counting::new("ok");
    let trimmed = agent(&model)
        .context_policy(Trim::to_tokens(200))
        .build()
        .expect("no fault");
    let mut messages = vec![Message::user("the question")];
    for at in 0..20 {
        messages.extend(round(&format!("c{at}"), &"word ".repeat(20)));
    }
    trimmed.run(messages).await.expect("answers");
    let sent = model.last();
    assert_eq!(sent[0].text(), "the question");
    assert!(sent.len() < 20 && sent.len() % 2 == 1, "{}", sent.len());
    let calls: Vec<&str> = sent
        .iter()
        .flat_map(Message::tool_calls)
        .map(|call| call.id.as_str())
        .collect();
    assert_eq!(calls.last(), Some(&"c19"));
    // The last results stay even where they alone are too long.
    let mut messages = vec![Message::user("the question")];
    messages.extend(round("long", &"word ".repeat(1_000)));
    trimmed.run(messages).await.expect("answers");
    assert_eq!(model.last().len(), 3);
}

#[tokio::test]
async fn old_tool_outputs_give_way_to_a_mark_and_the_calls_stay() {
    let model = Counting::new("ok");
    let dropping = agent(&model)
        .context_policy(DropToolOutputs::default().keep_rounds(1).min_bytes(100))
        .build()
        .expect("no fault");
    let mut messages = vec![Message::user("go")];
    messages.extend(round("a", &"x".repeat(500)));
    messages.extend(round("b", "short"));
    messages.extend(round("c", &"y".repeat(500)));
    let result = dropping.run(messages.clone()).await.expect("answers");
    assert_eq!(result.messages[..7], messages[..], "the state keeps them");
    let outputs: Vec<String> = model
        .last()
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some(result.text()),
            _ => None,
        })
        .collect();
    assert!(
        outputs[0].contains("500 bytes") && outputs[0].len() < 100,
        "{}",
        outputs[0]
    );
    assert_eq!((outputs[1].as_str(), outputs[2].len()), ("short", 500));
}

#[tokio::test]
async fn a_summary_is_made_once_kept_and_carried_into_the_next_run() {
    let (model, writer) = (Counting::new("ok"), Counting::new("They spoke of words."));
    let summing = agent(&model)
        .context_policy(Summarise::over_tokens(400, writer.clone()).keep_turns(2))
        .build()
        .expect("no fault");
    let mut messages = turns(20);
    messages.push(Message::user("question last"));
    let result = summing.run(messages).await.expect("answers");
    assert_eq!((writer.calls(), result.messages.len()), (1, 42));
    assert_eq!(
        result.usage.input_tokens,
        Some(200),
        "the summary is paid by the run"
    );
    let sent = model.last();
    assert_eq!(sent.len(), 4, "summary, one turn, the question");
    assert!(
        sent[0].text().contains("They spoke of words.") && sent[0].text().contains("never an instruction")
    );
    assert_eq!(sent[0].parts[0].origin(), Origin::Model);
    let task = writer.last();
    assert_eq!(task[0].role, Role::System);
    assert!(task[1].text().contains("question 0") && !task[1].text().contains("question 19"));

    let result = summing
        .run(result.into_input("question more"))
        .await
        .expect("answers");
    assert_eq!(writer.calls(), 1, "it is not made again");
    assert_eq!(model.last().len(), 6);

    // Messages alone carry no summary; edited ones are not taken for those it was made of.
    let mut edited = result.into_input("question again");
    summing.run(edited.messages().to_vec()).await.expect("answers");
    assert_eq!(writer.calls(), 2);
    edited = {
        let result = summing.run(edited).await.expect("answers");
        assert_eq!(writer.calls(), 2);
        result.into_input("x")
    };
    drop(edited);
}

#[tokio::test]
async fn a_summary_grows_into_the_next_one_when_the_conversation_is_too_long_again() {
    let (model, writer) = (
        Counting::new("an answer of some words so that the conversation grows with each turn"),
        Counting::new("the gist"),
    );
    let summing = agent(&model)
        .context_policy(Summarise::over_tokens(250, writer.clone()).keep_turns(1))
        .build()
        .expect("no fault");
    let mut input = summing
        .run("question 0")
        .await
        .expect("answers")
        .into_input("question 1");
    for turn in 2..30 {
        let result = summing.run(input).await.expect("answers");
        assert!(ChatRequest::new(model.last()).estimated_tokens() <= 250);
        input = result.into_input(format!("question {turn}").as_str());
    }
    let calls = writer.calls();
    assert!((2..15).contains(&calls), "{calls}");
    let task = writer.last()[1].text();
    assert!(
        task.contains("What was said earlier: the gist") && !task.contains("question 1\n"),
        "{task}"
    );
}

#[tokio::test]
async fn one_long_turn_is_summarised_too_and_its_question_stays() {
    let (model, writer) = (Counting::new("ok"), Counting::new("the gist"));
    let summing = agent(&model)
        .context_policy(Summarise::over_tokens(200, writer.clone()))
        .build()
        .expect("no fault");
    let mut messages = vec![Message::user("the question")];
    for at in 0..20 {
        messages.extend(round(&format!("c{at}"), &"word ".repeat(20)));
    }
    summing.run(messages).await.expect("answers");
    let sent = model.last();
    assert_eq!(sent.len(), 6, "summary, question, two rounds");
    assert!(sent[0].text().contains("the gist"));
    assert_eq!(sent[1].text(), "the question");
    assert_eq!(writer.calls(), 1);
}

#[tokio::test]
async fn a_summary_that_was_paid_is_not_paid_again_after_a_failure() {
    let mut broken = Counting::plain("ok");
    broken.fails = true;
    let (broken, writer) = (Arc::new(broken), Counting::new("the gist"));
    let store = LogStore::new();
    let build = |model: &Arc<Counting>| {
        agent(model)
            .context_policy(Summarise::over_tokens(400, writer.clone()))
            .store(store.clone())
            .build()
            .expect("no fault")
    };
    let mut messages = turns(20);
    messages.push(Message::user("question last"));
    let failed = build(&broken).run(messages).run_id("r").outcome().await;
    assert_eq!(failed.error.as_ref().map(Error::code), Some("internal"));
    assert_eq!(failed.usage.input_tokens, Some(100));
    let model = Counting::new("ok");
    let resumed = build(&model).resume("r").await.expect("goes on");
    assert_eq!((resumed.answer.as_str(), writer.calls()), ("ok", 1));
    assert!(model.last()[0].text().contains("the gist"));
}

#[tokio::test]
async fn a_summary_beyond_the_budget_or_that_fails_ends_the_run_with_its_own_error() {
    let mut broken = Counting::plain("x");
    broken.fails = true;
    for (writer, code) in [
        (Arc::new(broken), "internal"),
        (Counting::new("  "), "invalid_response"),
    ] {
        let model = Counting::new("ok");
        let summing = agent(&model)
            .context_policy(Summarise::over_tokens(400, writer))
            .build()
            .expect("no fault");
        let error = summing.run(turns(20)).await.expect_err("it failed");
        assert_eq!((error.code(), model.calls()), (code, 0));
    }
    let (model, writer) = (Counting::new("ok"), Counting::new("x"));
    let mut limits = BudgetLimits::default();
    limits.calls = Some(0);
    let summing = agent(&model)
        .budget(limits)
        .context_policy(Summarise::over_tokens(400, writer.clone()))
        .build()
        .expect("no fault");
    let error = summing.run(turns(20)).await.expect_err("no money");
    assert_eq!(
        (error.code(), model.calls(), writer.calls()),
        ("budget_exceeded", 0, 0)
    );
}

#[tokio::test]
async fn a_policy_that_parts_calls_panics_or_fails_is_an_error_before_any_call() {
    #[derive(Debug)]
    struct Bad(&'static str);
    #[async_trait]
    impl ContextPolicy for Bad {
        async fn shape<'a>(&self, history: &mut History<'a>, _: &RunContext) -> Result<()> {
            match self.0 {
                "parts" => history.retain(|entry| entry.message.role != Role::Tool),
                "panics" => panic!("canary"),
                "index" => return history.change(99).map(drop),
                _ => return Err(Error::invalid("policy", "no")),
            }
            Ok(())
        }
    }
    for (how, code) in [
        ("parts", "invalid_input"),
        ("panics", "host"),
        ("index", "invalid_input"),
        ("fails", "invalid_input"),
    ] {
        let model = Counting::new("ok");
        let bad = agent(&model).context_policy(Bad(how)).build().expect("no fault");
        let mut messages = vec![Message::user("go")];
        messages.extend(round("a", "x"));
        let error = bad.run(messages).await.expect_err(how);
        assert_eq!((error.code(), model.calls()), (code, 0), "{how}: {error}");
        assert!(!format!("{error}{error:?}").contains("canary"));
    }
}

/// A conversation as a model may have made it: turns, rounds of parallel calls, results in one message or in several,
/// ids that repeat, words of the program in between.
fn random_history(seed: u64) -> Vec<Message> {
    let mut random = Seeded(seed);
    let mut messages = Vec::new();
    if random.below(2) == 0 {
        messages.push(Message::system("rules"));
    }
    for turn in 0..=random.below(6) {
        messages.push(Message::user(format!(
            "q{turn} {}",
            "w ".repeat(usize::try_from(random.below(30)).expect("small"))
        )));
        for step in 0..random.below(5) {
            let calls: Vec<ToolCall> = (0..=random.below(4))
                .map(|at| {
                    // Vendors that make no ids give each answer the same ones.
                    let id = if random.below(4) == 0 {
                        format!("t{turn}s{step}c{at}")
                    } else {
                        format!("{turn}-{step}-{at}")
                    };
                    ToolCall::new(id, "look", json!({}))
                })
                .collect();
            let mut parts: Vec<Part> = vec![Part::text("let me see", Origin::Model)];
            parts.extend(calls.iter().cloned().map(Part::ToolCall));
            messages.push(Message::new(Role::Assistant, parts));
            let mut results: Vec<Part> = calls
                .iter()
                .map(|call| {
                    let words = "out ".repeat(usize::try_from(random.below(400)).expect("small"));
                    Part::tool_result(call, vec![Part::text(words, Origin::Tool)], false, Origin::Tool)
                })
                .collect();
            if random.below(2) == 0 {
                results.reverse();
            }
            if random.below(2) == 0 {
                messages.push(Message::tool(results));
            } else {
                messages.extend(results.into_iter().map(|result| Message::tool(vec![result])));
            }
            if random.below(6) == 0 {
                messages.push(Message::system("a note of the program"));
            }
        }
        if random.below(4) != 0 {
            messages.push(Message::assistant(format!("a{turn}")));
        }
    }
    if messages
        .last()
        .is_some_and(|message| message.role == Role::Assistant)
    {
        messages.push(Message::user("last"));
    }
    messages
}

/// Every call is followed by its result, and no result stands without its call.
fn assert_paired(messages: &[Message]) -> Result<(), TestCaseError> {
    let mut open: HashSet<String> = HashSet::new();
    for message in messages {
        match message.role {
            Role::Assistant | Role::User => prop_assert!(open.is_empty(), "open: {open:?}"),
            _ => {}
        }
        for part in &message.parts {
            match part {
                Part::ToolCall(call) => {
                    open.insert(call.id.clone());
                }
                Part::ToolResult(result) => prop_assert!(open.remove(&result.call_id), "no call"),
                _ => {}
            }
        }
    }
    prop_assert!(open.is_empty(), "open at the end: {open:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn calls_and_results_are_never_parted_whatever_is_left_out(
        seed in any::<u64>(), tokens in 0u64..2_000, keep in 1usize..4, keeps_first in any::<bool>(), mode in 0u8..16,
    ) {
        let history = random_history(seed);
        assert_paired(&history)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (model, writer) = (Counting::new("ok"), Counting::new("the gist"));
        let mut builder = agent(&model);
        if mode & 1 != 0 {
            builder = builder.context_policy(DropToolOutputs::default().keep_rounds(keep).min_bytes(50));
        }
        if mode & 2 != 0 {
            builder = builder.context_policy(Summarise::over_tokens(tokens, writer.clone()).keep_turns(keep));
        }
        if mode & 4 != 0 {
            let trim = Trim::to_tokens(tokens).keep_turns(keep);
            builder = builder.context_policy(if keeps_first { trim.keep_first() } else { trim });
        }
        if mode & 8 != 0 {
            builder = builder.context_policy(Trim::to_tokens(tokens / 2));
        }
        let shaping = builder.build().expect("no fault");
        runtime.block_on(async {
            let question = history.iter().rfind(|message| message.role == Role::User).expect("a question").text();
            let mut result = shaping.run(history.clone()).await.expect("answers");
            // And in the turns after it, with what the policies keep.
            for next in ["and", "then"] {
                prop_assert_eq!(&result.messages[..history.len()], &history[..], "the state keeps everything");
                let sent = model.last();
                assert_paired(&sent)?;
                let first = sent.iter().find(|message| message.role != Role::System).expect("one");
                prop_assert_eq!(first.role, Role::User, "a person or a summary comes first");
                let systems = |messages: &[Message]| messages.iter().filter(|m| m.role == Role::System).count();
                prop_assert_eq!(systems(&sent), systems(&history));
                let asked: Vec<String> = sent.iter().filter(|m| m.role == Role::User).map(Message::text).collect();
                prop_assert!(asked.contains(&question) || asked.iter().any(|text| text == "and"), "the question stays");
                result = shaping.run(result.into_input(next)).await.expect("answers");
            }
            Ok(())
        })?;
    }
}
