//! Lesson 10: an orchestrator, its workers and an aggregator. How many workers there are is known only when it runs.
//!
//! The first node sends one piece of work to the worker for each city; all of them run side by side, each with its own
//! input, and what they write is joined in the order of the pieces. The last node comes once, after all of them.

use stepwell::{
    State,
    agent::{Command, END, Graph, NodeError, RunContext, START, node_fn},
    prelude::*,
};

#[derive(Clone, Debug, Default, State)]
struct Survey {
    cities: Vec<String>,
    #[state(append)]
    findings: Vec<String>,
    report: String,
}

async fn divide(survey: &Survey, _: &RunContext) -> Result<Command<SurveyUpdate>, NodeError> {
    Ok(Command::send("look", &survey.cities)?)
}

async fn look(_: &Survey, cx: &RunContext) -> Result<SurveyUpdate, NodeError> {
    let city: String = cx.input()?;
    // Done once, whatever happens after it: a resumed run gets the record.
    let letters = cx
        .step("count", async { Ok::<_, NodeError>(city.chars().count()) })
        .await?;
    Ok(SurveyUpdate::findings([format!("{city} has {letters} letters")]))
}

async fn report(survey: &Survey, _: &RunContext) -> Result<SurveyUpdate, NodeError> {
    Ok(SurveyUpdate::report(survey.findings.join("; ")))
}

#[tokio::main]
async fn main() -> Result<()> {
    let graph = Graph::<Survey>::builder()
        .node("divide", node_fn(divide))
        .node("look", node_fn(look))
        .node("report", node_fn(report))
        .edge(START, "divide")
        .goto("divide", "look")
        .edge("look", "report")
        .edge("report", END)
        .build()?;
    let survey = Survey {
        cities: ["Oslo", "Lisbon", "Ljubljana"].map(str::to_owned).to_vec(),
        ..Survey::default()
    };
    let ended = graph.run(survey).concurrency(2).await?;
    println!("{} ({} steps)", ended.state.report, ended.steps);
    Ok(())
}
