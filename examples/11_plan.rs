//! Lesson 11: plan and execute. A planner writes a list of tasks, an agent does one after the other, and the plan is
//! written anew when a task fails.
//!
//! The graph has a cycle, and a bound: at most twelve steps.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stepwell::{
    State,
    agent::{Agent, Command, END, Graph, Node, NodeError, RunContext, START, node_sync},
    prelude::*,
    providers::Scripted,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Tasks {
    /// What to do, in order.
    tasks: Vec<String>,
}

#[derive(Clone, Debug, Default, State)]
struct Work {
    goal: String,
    plan: Vec<String>,
    #[state(append)]
    done: Vec<String>,
}

/// Asks the planner for what is still to be done.
struct Plan(Agent);

#[async_trait::async_trait]
impl Node<Work> for Plan {
    async fn run(&self, work: &Work, cx: &RunContext) -> Result<Command<WorkUpdate>, NodeError> {
        let question = format!("Goal: {}. Done so far: {}.", work.goal, work.done.join("; "));
        let planned: Tasks = self.0.run_within(cx, "plan", question).await?.output()?;
        println!("plan: {}", planned.tasks.join(", "));
        Ok(WorkUpdate::plan(planned.tasks).into())
    }
}

/// Does the first task of the plan. One that cannot be done empties the plan, so that another is made.
struct Execute(Agent);

#[async_trait::async_trait]
impl Node<Work> for Execute {
    async fn run(&self, work: &Work, cx: &RunContext) -> Result<Command<WorkUpdate>, NodeError> {
        let Some((task, rest)) = work.plan.split_first() else {
            return Ok(Command::goto("plan"));
        };
        let answer = self.0.run_within(cx, "task", task.as_str()).await?.answer;
        println!("  {task}: {answer}");
        let update = WorkUpdate::done([format!("{task}: {answer}")]);
        if answer.starts_with("cannot") {
            return Ok(Command::update(update.with_plan(Vec::<String>::new())).with_goto("plan"));
        }
        let next = if rest.is_empty() { "finish" } else { "execute" };
        Ok(Command::update(update.with_plan(rest.to_vec())).with_goto(next))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let planner = Scripted::new()
        .say(r#"{ "tasks": ["open the door", "water the plants"] }"#)
        .say(r#"{ "tasks": ["ask the neighbour", "water the plants"] }"#);
    let worker = Scripted::new()
        .say("cannot, it is locked")
        .say("she has a key")
        .say("watered");
    let planner = Agent::new(Arc::new(planner))
        .name("planner")
        .output::<Tasks>()
        .build()?;
    let worker = Agent::new(Arc::new(worker)).name("worker").build()?;
    let graph = Graph::<Work>::builder()
        .node("plan", Plan(planner))
        .node("execute", Execute(worker))
        .node("finish", node_sync(|_: &Work, _| Ok(WorkUpdate::default())))
        .edge(START, "plan")
        .edge("plan", "execute")
        .goto("execute", ["plan", "execute", "finish"])
        .edge("finish", END)
        .build()?;
    let work = Work {
        goal: "the plants are watered".to_owned(),
        ..Work::default()
    };
    let ended = graph.run(work).step_limit(12).await?;
    println!("done in {} steps: {}", ended.steps, ended.state.done.len());
    Ok(())
}
