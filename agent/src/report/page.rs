//! The page, from top to bottom.

use super::{
    Report,
    content::{Html, count, grouped},
    timeline::{Timeline, date, lasted, named, times},
};
use crate::{Drawing, RunTrace, Tone, TraceCall, TraceChange, TraceRun, TraceStep, TraceTask, run_file::usd};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Write as _};
use stepwell_core::{Hit, Part, Role, ToolResult, store::RunStatus};

const STYLE: &str = include_str!("page.css");
/// Most messages and steps that are shown.
const MESSAGES: usize = 400;
const STEPS: usize = 400;
/// Steps of a run this short are open at once.
const OPEN_STEPS: usize = 12;

pub(super) fn write(report: &Report) -> String {
    let trace = &report.trace;
    let mut html = Html::new(report.has_content, report.bytes);
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // Nothing is loaded and nothing runs, whatever a run's words hold.
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n");
    html.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    html.name(&trace.graph.name);
    html.raw(" · run ");
    html.name(&trace.run_id);
    html.raw("</title>\n<style>");
    html.raw(STYLE);
    html.raw("</style>\n</head>\n<body>\n<main>\n");
    write_head(&mut html, trace);
    html.raw("<div class=\"two\">\n<section class=\"card\" id=\"graph\"><h2>Graph</h2><div class=\"graph\">");
    html.raw(&drawing(report));
    html.raw("</div></section>\n");
    write_timeline(&mut html, report);
    html.raw("</div>\n");
    write_messages(&mut html, trace);
    write_questions(&mut html, trace);
    html.raw("<section class=\"card\" id=\"steps\"><h2>Steps</h2>\n");
    write_steps(&mut html, report, &trace.run, "", true);
    html.raw("</section>\n");
    write_foot(&mut html, report);
    html.raw("</main>\n</body>\n</html>\n");
    html.out
}

fn write_head(html: &mut Html, trace: &RunTrace) {
    html.raw("<h1>");
    html.name(&trace.graph.name);
    let status = trace.status.as_str();
    html.raw(&format!(
        "<span class=\"chip {status}\">{status}</span></h1>\n<p class=\"sub\">Run "
    ));
    html.name(&trace.run_id);
    html.raw(&format!(" · began {}", date(trace.began_ms)));
    if trace.resumed > 0 {
        html.raw(&format!(
            " · taken up again {}",
            count(trace.resumed as usize, "time")
        ));
    }
    html.raw("</p>\n");
    if let Some(failure) = &trace.failure {
        html.raw("<p class=\"bad\"><span class=\"tag\">");
        html.name(&failure.code);
        html.raw("</span> ");
        html.text(&failure.message);
        html.raw("</p>\n");
    }
    let steps = trace
        .run
        .steps
        .iter()
        .filter(|step| step.ended_ms.is_some())
        .count();
    let tasks = trace.tasks();
    let calls: usize = tasks.iter().map(|(_, task)| task.calls.len()).sum();
    let cost = match trace.spent.micro_usd {
        0 => "–".to_owned(),
        micro_usd => usd(micro_usd),
    };
    html.raw("<div class=\"tiles\">");
    for (figure, what) in [
        (
            lasted(trace.ended_ms.saturating_sub(trace.began_ms)),
            "from first to last record",
        ),
        (steps.to_string(), "steps"),
        (tasks.len().to_string(), "nodes run"),
        (calls.to_string(), "tool calls"),
        (grouped(trace.usage.total_input()), "tokens in"),
        (grouped(trace.usage.total_output()), "tokens out"),
        (cost, "cost, where a price is known"),
    ] {
        html.raw(&format!(
            "<div class=\"tile\"><b>{figure}</b><span>{what}</span></div>"
        ));
    }
    html.raw("</div>\n");
}

#[derive(Default)]
struct Tally {
    runs: usize,
    time_ms: u64,
    tokens: u64,
    is_failed: bool,
    is_open: bool,
}

/// The graph with what each node took.
fn drawing(report: &Report) -> String {
    let trace = &report.trace;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    tally(report, &trace.run, "", "", &mut tallies);
    let mut drawing = Drawing::new(&trace.graph).id("run");
    let mut open = vec![(String::new(), &trace.graph)];
    while let Some((path, shape)) = open.pop() {
        for node in &shape.nodes {
            let at = format!("{path}{}", node.name);
            let (note, tone) = match tallies.get(&at) {
                None => (String::new(), Tone::Idle),
                Some(tally) => {
                    let mut notes = vec![format!("{}×", tally.runs), lasted(tally.time_ms)];
                    if tally.tokens > 0 {
                        notes.push(format!("{} tokens", grouped(tally.tokens)));
                    }
                    let tone = match tally {
                        tally if tally.is_failed => Tone::Failed,
                        tally if tally.is_open && trace.status == RunStatus::Paused => Tone::Waiting,
                        _ => Tone::Done,
                    };
                    (notes.join(" · "), tone)
                }
            };
            if let Some(inner) = &node.graph {
                open.push((format!("{at}/"), inner));
            }
            drawing = drawing.mark(at, note, tone);
        }
    }
    drawing.to_svg()
}

fn tally(
    report: &Report,
    run: &TraceRun,
    path: &str,
    seen_path: &str,
    tallies: &mut BTreeMap<String, Tally>,
) {
    for step in &run.steps {
        for task in &step.tasks {
            let (began, ended) = times(report, seen_path, step.step, task);
            let at = format!("{path}{}", task.node);
            let tally_of = tallies.entry(at.clone()).or_default();
            tally_of.runs += 1;
            tally_of.time_ms += ended.map_or(0, |ended| ended.saturating_sub(began));
            tally_of.tokens += task.usage.total();
            tally_of.is_failed |= task.stop.is_some() || task.failure.is_some();
            tally_of.is_open |= task.ended_ms.is_none();
            for inner in task.runs.iter().filter(|run| run.key.is_empty()) {
                let seen_path = if seen_path.is_empty() {
                    named(task)
                } else {
                    format!("{seen_path}/{}", named(task))
                };
                tally(report, inner, &format!("{at}/"), &seen_path, tallies);
            }
        }
    }
}

fn write_timeline(html: &mut Html, report: &Report) {
    let timeline = Timeline::of(report);
    html.raw("<section class=\"card\" id=\"time\"><h2>Time</h2>\n");
    let mut waits = String::new();
    for (from, to, ms) in &timeline.waits {
        let _ = write!(
            waits,
            "<span class=\"wait\" style=\"left:{from:.2}%;width:{:.2}%\" title=\"waited {}\"></span>",
            to - from,
            lasted(*ms)
        );
    }
    let mut last_step = 0;
    for bar in &timeline.bars {
        let (from, to) = (
            timeline.place(bar.began_ms),
            timeline.place(bar.ended_ms.unwrap_or(report.trace.ended_ms).max(bar.began_ms)),
        );
        html.raw(&format!(
            "<div class=\"row\"><div class=\"label\" style=\"padding-left:{}px\">",
            bar.depth.min(8) * 16
        ));
        if bar.depth == 0 {
            let step = if bar.step == last_step {
                String::new()
            } else {
                bar.step.to_string()
            };
            last_step = bar.step;
            html.raw(&format!("<i>{step}</i>"));
        }
        html.name(&bar.label);
        html.raw(&format!(
            "</div><div class=\"track\">{waits}<span class=\"bar {}\" style=\"left:{:.2}%;width:{:.2}%\" title=\"{}\"></span></div><div class=\"time\">{}</div></div>\n",
            bar.kind,
            from.min(99.4),
            (to - from).max(0.3),
            bar.note,
            bar.ended_ms
                .map_or_else(|| "open".to_owned(), |ended| lasted(ended.saturating_sub(bar.began_ms))),
        ));
    }
    if timeline.rows_cut > 0 {
        html.cuts += 1;
        html.raw(&format!(
            "<p class=\"hidden\">cut: {}</p>",
            count(timeline.rows_cut, "further row")
        ));
    }
    html.raw("<div class=\"key\"><span class=\"model\">model</span><span class=\"tool\">tool</span><span>node</span><span class=\"failed\">failed</span><span class=\"open\">did not end</span></div>");
    if !timeline.waits.is_empty() {
        let waited: u64 = timeline.waits.iter().map(|wait| wait.2).sum();
        html.raw(&format!(
            "<p class=\"hidden\">Between dashed lines nothing ran; drawn short: {} in all.</p>",
            lasted(waited)
        ));
    }
    html.raw("</section>\n");
}

fn write_questions(html: &mut Html, trace: &RunTrace) {
    if trace.questions.is_empty() {
        return;
    }
    html.raw("<section class=\"card\" id=\"questions\"><h2>Questions to people</h2>\n");
    for asked in trace.questions.iter().take(MESSAGES) {
        if !html.has_room() {
            break;
        }
        html.raw("<div class=\"message\"><div class=\"who\">");
        html.name(&asked.question.node);
        html.raw("</div><div><div class=\"line\"><span class=\"tag\">");
        html.name(&asked.question.key);
        html.raw(&format!(
            "</span><span class=\"meta\">step {}</span>",
            asked.question.step
        ));
        html.value(&asked.question.payload);
        html.raw("</div><div class=\"line\"><span class=\"meta\">");
        match (&asked.answer, asked.answered_ms) {
            (Some(answer), Some(at)) => {
                let after = at.saturating_sub(asked.question.asked_ms);
                html.raw(&format!("answered after {}</span>", lasted(after)));
                html.value(answer);
            }
            _ => html.raw("not answered</span>"),
        }
        html.raw("</div></div></div>\n");
    }
    html.raw("</section>\n");
}

fn write_messages(html: &mut Html, trace: &RunTrace) {
    if trace.messages.is_empty() {
        return;
    }
    html.raw("<section class=\"card\" id=\"messages\"><h2>Conversation</h2>\n");
    for (at, message) in trace.messages.iter().enumerate() {
        if at >= MESSAGES || !html.has_room() {
            html.cuts += 1;
            let rest = trace.messages.len() - at;
            html.raw(&format!(
                "<p class=\"hidden\">cut: {}</p>",
                count(rest, "further message")
            ));
            break;
        }
        html.raw("<div class=\"message\"><div class=\"who\">");
        html.raw(match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tools",
            Role::System => "system",
            _ => "developer",
        });
        if let Some(name) = &message.name {
            html.raw("<br>");
            html.name(name);
        }
        html.raw("</div><div>");
        for part in &message.parts {
            match part {
                Part::ToolCall(call) => {
                    html.raw("<div class=\"call\"><div class=\"line\"><span class=\"meta\">calls</span><span class=\"tag\">");
                    html.name(&call.name);
                    html.raw("</span>");
                    html.value(&call.arguments);
                    html.raw("</div></div>");
                }
                Part::ToolResult(result) => write_result(html, result, true),
                part => html.part(part),
            }
        }
        html.raw("</div></div>\n");
        html.spend(160);
    }
    html.raw("</section>\n");
}

fn write_result(html: &mut Html, result: &ToolResult, is_named: bool) {
    let class = if result.is_error { "call failed" } else { "call" };
    html.raw(&format!("<div class=\"{class}\"><div class=\"line\">"));
    if is_named {
        html.raw("<span class=\"tag\">");
        html.name(&result.name);
        html.raw("</span>");
    }
    html.raw(if result.is_error {
        "<span class=\"bad\">failed</span>"
    } else {
        "<span class=\"meta\">gave</span>"
    });
    html.raw("</div>");
    for part in &result.parts {
        match part {
            Part::Data(data) if data.name == "hits" => match Vec::<Hit>::deserialize(&data.value) {
                Ok(hits) => write_hits(html, &hits),
                Err(_) => html.part(part),
            },
            part => html.part(part),
        }
    }
    html.raw("</div>");
}

fn write_hits(html: &mut Html, hits: &[Hit]) {
    html.raw(&format!(
        "<details class=\"aside\" open><summary>{}</summary><table><tr><th>score</th><th>passage</th><th>words</th></tr>",
        count(hits.len(), "hit")
    ));
    for hit in hits.iter().take(50) {
        html.raw(&format!("<tr><td>{:.4}</td><td>", hit.score));
        html.text(&hit.chunk.id);
        html.raw("</td><td>");
        html.text(&hit.chunk.text);
        html.raw("</td></tr>");
        html.spend(48);
    }
    html.raw("</table></details>");
}

fn write_steps(html: &mut Html, report: &Report, run: &TraceRun, path: &str, is_top: bool) {
    let is_open = run.steps.len() <= OPEN_STEPS && is_top;
    for (at, step) in run.steps.iter().enumerate() {
        if at >= STEPS || !html.has_room() {
            html.cuts += 1;
            let rest = run.steps.len() - at;
            html.raw(&format!(
                "<p class=\"hidden\">cut: {}</p>\n",
                count(rest, "further step")
            ));
            return;
        }
        let nodes: Vec<&str> = step.tasks.iter().take(8).map(|task| task.node.as_str()).collect();
        html.raw(if is_open {
            "<details class=\"step\" open><summary><b>"
        } else {
            "<details class=\"step\"><summary><b>"
        });
        html.raw(&format!("{}</b> ", step.step));
        html.name(&nodes.join(", "));
        if step.tasks.len() > nodes.len() {
            html.raw(&format!(" and {} more", step.tasks.len() - nodes.len()));
        }
        let time = match step.ended_ms {
            Some(ended) => lasted(ended.saturating_sub(step.began_ms)),
            None => "did not end".to_owned(),
        };
        html.raw(&format!(" <span class=\"meta\">{time}</span></summary>\n"));
        html.spend(120);
        if !step.edits.is_empty() {
            html.raw("<div class=\"task\"><span class=\"meta\">given from outside</span>");
            write_changes(html, &step.edits);
            html.raw("</div>");
        }
        for task in &step.tasks {
            write_task(html, report, step, task, path);
        }
        html.raw("</details>\n");
    }
}

fn write_task(html: &mut Html, report: &Report, step: &TraceStep, task: &TraceTask, path: &str) {
    if !html.has_room() {
        return;
    }
    html.spend(200);
    let (began, ended) = times(report, path, step.step, task);
    html.raw("<div class=\"task\"><h3>");
    html.name(&named(task));
    html.raw(" <span class=\"meta\">");
    let mut facts = vec![ended.map_or_else(
        || "did not end".to_owned(),
        |ended| lasted(ended.saturating_sub(began)),
    )];
    if task.usage.total() > 0 {
        facts.push(format!(
            "{} tokens in, {} out",
            grouped(task.usage.total_input()),
            grouped(task.usage.total_output())
        ));
    }
    if task.spent.micro_usd > 0 {
        facts.push(usd(task.spent.micro_usd));
    }
    html.raw(&facts.join(" · "));
    if !task.goto.is_empty() {
        html.raw(" · goes to ");
        let names: Vec<&str> = task
            .goto
            .iter()
            .take(12)
            .map(|name| {
                if name == crate::END {
                    "the end"
                } else {
                    name.as_str()
                }
            })
            .collect();
        html.name(&names.join(", "));
    }
    html.raw("</span></h3>\n");
    for (failure, what) in [(&task.failure, "failed"), (&task.stop, "stopped the run")] {
        if let Some(failure) = failure {
            html.raw(&format!(
                "<div class=\"line\"><span class=\"bad\">{what}</span><span class=\"tag\">"
            ));
            html.name(&failure.code);
            html.raw("</span>");
            html.text(&failure.message);
            html.raw("</div>");
        }
    }
    for memo in &task.memos {
        html.raw("<div class=\"line\"><span class=\"meta\">did once</span><span class=\"tag\">");
        html.name(&memo.key);
        html.raw("</span>");
        html.value(&memo.value);
        html.raw("</div>");
    }
    for call in &task.calls {
        write_call(html, report, task, call, path);
    }
    write_changes(html, &task.changes);
    for inner in task.runs.iter().filter(|run| run.key.is_empty()) {
        let path = if path.is_empty() {
            named(task)
        } else {
            format!("{path}/{}", named(task))
        };
        write_inner(html, report, inner, &path);
    }
    html.raw("</div>\n");
}

fn write_inner(html: &mut Html, report: &Report, inner: &TraceRun, path: &str) {
    html.raw("<details class=\"task\"><summary>inside: ");
    html.name(&inner.graph);
    html.raw(&format!(
        " <span class=\"meta\">{}</span></summary>",
        count(inner.steps.len(), "step")
    ));
    write_steps(html, report, inner, path, false);
    html.raw("</details>\n");
}

fn write_call(html: &mut Html, report: &Report, task: &TraceTask, call: &TraceCall, path: &str) {
    if !html.has_room() {
        return;
    }
    html.spend(160);
    let is_failed = call.result.as_ref().is_some_and(|result| result.is_error);
    html.raw(if is_failed {
        "<div class=\"call failed\">"
    } else {
        "<div class=\"call\">"
    });
    html.raw("<div class=\"line\"><span class=\"tag\">");
    html.name(&call.tool);
    html.raw("</span><span class=\"meta\">");
    let (seen_began, seen_ended) = report.seen.calls.get(&call.call_id).copied().unwrap_or_default();
    let began = seen_began.unwrap_or(call.began_ms);
    html.raw(&match seen_ended.or(call.ended_ms) {
        Some(ended) => lasted(ended.saturating_sub(began)),
        None => "no result".to_owned(),
    });
    if call.intents > 1 {
        html.raw(&format!(" · begun {} times", call.intents));
    }
    html.raw("</span>");
    if let Some(arguments) = &call.arguments {
        html.value(arguments);
    }
    html.raw("</div>");
    if let Some(result) = &call.result {
        write_result(html, result, false);
    }
    if let Some(inner) = task.runs.iter().find(|run| run.key == call.call_id) {
        write_inner(html, report, inner, &format!("{path}@{}", call.call_id));
    }
    html.raw("</div>\n");
}

/// What was written into each slot; messages stand in the conversation.
fn write_changes(html: &mut Html, changes: &[TraceChange]) {
    for change in changes {
        if !html.has_room() {
            return;
        }
        html.spend(80);
        html.raw("<div class=\"line\"><span class=\"meta\">");
        html.raw(if change.is_overwrite { "replaces" } else { "writes" });
        html.raw("</span><span class=\"tag\">");
        html.name(&change.key);
        html.raw("</span>");
        let messages = change
            .value
            .as_array()
            .filter(|items| !items.is_empty() && items.iter().all(|item| item.get("parts").is_some()));
        match messages {
            Some(items) => html.raw(&format!(
                "<span class=\"hidden\">{}</span>",
                count(items.len(), "message")
            )),
            None => html.value(&change.value),
        }
        if let Some(after) = &change.after {
            html.raw("<span class=\"meta\">now</span>");
            html.value(after);
        }
        html.raw("</div>\n");
    }
}

fn write_foot(html: &mut Html, report: &Report) {
    html.raw("<footer>");
    if report.has_content {
        html.raw("This page holds the run's words. ");
    } else {
        html.raw("The run's words are left out: kinds and lengths stand for them. ");
    }
    if report.seen.count == 0 {
        html.raw("Times are those of the journal's records. ");
    }
    if html.cuts > 0 {
        html.raw("The run is longer than the page: parts are cut, as marked. ");
    }
    html.raw(&format!("stepwell {}</footer>\n", env!("CARGO_PKG_VERSION")));
}
