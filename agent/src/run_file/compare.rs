//! [`RunComparison`]: two runs beside each other.

use super::RunTrace;
use serde::Serialize;
use std::fmt::{self, Display};
use stepwell_core::{Spend, store::RunStatus};

/// A run in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// Its id.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The words of its answer.
    pub answer: String,
    /// Steps that ended.
    pub steps: usize,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
    /// What it spent; money counts only what had a known price.
    pub spent: Spend,
    /// From its first record to its last, milliseconds; waits for people included.
    pub time_ms: u64,
}

/// A node in both runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeComparison {
    /// The node, with those around it: `outer/inner`.
    pub node: String,
    /// How often it ran.
    pub runs: [usize; 2],
    /// Tokens it used itself.
    pub tokens: [u64; 2],
    /// Money it spent itself, millionths of a US dollar.
    pub micro_usd: [u64; 2],
    /// Time it took, milliseconds.
    pub time_ms: [u64; 2],
    /// Whether it wrote the same each time it ran.
    pub is_same: bool,
}

/// Two runs beside each other. As text it is a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunComparison {
    /// The two.
    pub runs: [RunSummary; 2],
    /// Whether both answers are the same words.
    pub is_answer_same: bool,
    /// Their nodes: those of the first in the order they ran, then those only the second has.
    pub nodes: Vec<NodeComparison>,
}

impl RunComparison {
    /// Puts them beside each other.
    pub fn of(first: &RunTrace, second: &RunTrace) -> Self {
        let runs = [summary(first), summary(second)];
        let mut nodes: Vec<NodeComparison> = Vec::new();
        let mut written: Vec<[Vec<String>; 2]> = Vec::new();
        for (side, trace) in [first, second].into_iter().enumerate() {
            for (node, task) in trace.tasks() {
                let at = nodes
                    .iter()
                    .position(|known| known.node == node)
                    .unwrap_or_else(|| {
                        nodes.push(NodeComparison {
                            node,
                            ..NodeComparison::default()
                        });
                        written.push([Vec::new(), Vec::new()]);
                        nodes.len() - 1
                    });
                let known = &mut nodes[at];
                known.runs[side] += 1;
                known.tokens[side] += task.usage.total();
                known.micro_usd[side] += task.spent.micro_usd;
                let ended = task.ended_ms.unwrap_or(task.began_ms);
                known.time_ms[side] += ended.saturating_sub(task.began_ms);
                written[at][side].push(words(task));
            }
        }
        for (node, [a, b]) in nodes.iter_mut().zip(&written) {
            node.is_same = a == b;
        }
        Self {
            is_answer_same: runs[0].answer == runs[1].answer,
            runs,
            nodes,
        }
    }
}

/// What a task wrote and where it went; ids of messages, which hold the run's, are left out.
fn words(task: &super::TraceTask) -> String {
    let messages: Vec<_> = task
        .messages
        .iter()
        .map(|message| (message.role, &message.name, &message.parts))
        .collect();
    let is_messages = |value: &serde_json::Value| {
        let items = value.as_array();
        items.is_some_and(|items| !items.is_empty() && items.iter().all(|item| item.get("role").is_some()))
    };
    let changes: Vec<_> = task
        .changes
        .iter()
        .filter(|change| !is_messages(&change.value))
        .map(|change| (&change.key, change.is_overwrite, &change.value))
        .collect();
    serde_json::to_string(&(messages, changes, &task.goto)).unwrap_or_default()
}

fn summary(trace: &RunTrace) -> RunSummary {
    RunSummary {
        run_id: trace.run_id.clone(),
        status: trace.status,
        answer: trace.answer(),
        steps: trace
            .run
            .steps
            .iter()
            .filter(|step| step.ended_ms.is_some())
            .count(),
        input_tokens: trace.usage.total_input(),
        output_tokens: trace.usage.total_output(),
        spent: trace.spent,
        time_ms: trace.ended_ms.saturating_sub(trace.began_ms),
    }
}

/// Money in US dollars.
pub(crate) fn usd(micro_usd: u64) -> String {
    format!("${}.{:06}", micro_usd / 1_000_000, micro_usd % 1_000_000)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

impl Display for RunComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<[String; 4]> =
            vec![[String::new(), "first".into(), "second".into(), "change".into()]];
        let [first, second] = &self.runs;
        rows.push([
            "run".into(),
            first.run_id.clone(),
            second.run_id.clone(),
            String::new(),
        ]);
        rows.push([
            "status".into(),
            first.status.as_str().into(),
            second.status.as_str().into(),
            String::new(),
        ]);
        let figures = |run: &RunSummary| {
            [
                ("steps", run.steps as u64),
                ("tokens in", run.input_tokens),
                ("tokens out", run.output_tokens),
                ("calls", run.spent.calls),
                ("time, ms", run.time_ms),
            ]
        };
        for ((name, x), (_, y)) in figures(first).into_iter().zip(figures(second)) {
            rows.push([name.into(), x.to_string(), y.to_string(), change(x, y)]);
        }
        let (x, y) = (first.spent.micro_usd, second.spent.micro_usd);
        rows.push(["cost".into(), usd(x), usd(y), change(x, y)]);
        for node in &self.nodes {
            let cell = |side: usize| {
                format!(
                    "{}×, {} tokens, {} ms",
                    node.runs[side], node.tokens[side], node.time_ms[side]
                )
            };
            let same = if node.is_same {
                "wrote the same"
            } else {
                "wrote otherwise"
            };
            rows.push([
                format!("node {}", plain(&node.node)),
                cell(0),
                cell(1),
                same.into(),
            ]);
        }
        let widths: Vec<usize> = (0..4)
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &rows {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        if self.is_answer_same {
            writeln!(f, "\nBoth answered: {}", short(&first.answer))
        } else {
            writeln!(
                f,
                "\nFirst:  {}\nSecond: {}",
                short(&first.answer),
                short(&second.answer)
            )
        }
    }
}

fn change(a: u64, b: u64) -> String {
    match (a, b) {
        (a, b) if a == b => "=".into(),
        (0, _) => "new".into(),
        (a, b) => {
            let percent = (b as f64 - a as f64) / a as f64 * 100.0;
            format!("{percent:+.0} %")
        }
    }
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn short(text: &str) -> String {
    let line = plain(text);
    if line.chars().count() <= 200 {
        return if line.is_empty() { "(nothing)".into() } else { line };
    }
    line.chars().take(199).chain(['…']).collect()
}
