//! A placed graph as SVG.

use super::{
    Tone,
    layout::{Line, Placed, Spot, Way},
    plan::{LinkKind, VertexKind},
};
use std::fmt::Write as _;

/// Colours stand in custom properties, so that a page may set its own.
const STYLE: &str = "\
.sw{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:13px}\
.sw .paper{fill:var(--sw-paper,#fff)}\
.sw .node rect{fill:var(--sw-node,#f8fafc);stroke:var(--sw-line,#64748b);stroke-width:1.2}\
.sw .node text{fill:var(--sw-ink,#0f172a);text-anchor:middle;font-weight:500}\
.sw .node .note{fill:var(--sw-soft,#64748b);font-size:11px;font-weight:400}\
.sw .node.deferred>rect{stroke-dasharray:7 3}\
.sw .node.graph>rect{fill:var(--sw-graph,#f1f5f9);stroke:var(--sw-soft,#94a3b8)}\
.sw .node.done>rect{fill:var(--sw-done,#ecfdf5);stroke:var(--sw-done-line,#059669)}\
.sw .node.failed>rect{fill:var(--sw-failed,#fef2f2);stroke:var(--sw-failed-line,#dc2626)}\
.sw .node.waiting>rect{fill:var(--sw-waiting,#fffbeb);stroke:var(--sw-waiting-line,#d97706)}\
.sw .node.idle>rect{fill:var(--sw-paper,#fff);stroke:var(--sw-idle,#cbd5e1)}\
.sw .node.idle>text{fill:var(--sw-soft,#64748b)}\
.sw .end rect{fill:var(--sw-ink,#0f172a)}\
.sw .end text{fill:var(--sw-paper,#fff);text-anchor:middle;font-size:12px}\
.sw .join rect{fill:var(--sw-ink,#0f172a)}\
.sw .join text{fill:var(--sw-soft,#64748b);font-size:11px}\
.sw .way{fill:none;stroke:var(--sw-line,#64748b);stroke-width:1.3}\
.sw .route{stroke:var(--sw-route,#2563eb);stroke-dasharray:6 4}\
.sw .goto{stroke:var(--sw-goto,#9333ea);stroke-dasharray:2 4;stroke-linecap:round;stroke-width:1.6}\
.sw .tip{fill:var(--sw-line,#64748b)}\
.sw .tip-route{fill:var(--sw-route,#2563eb)}\
.sw .tip-goto{fill:var(--sw-goto,#9333ea)}\
.sw .legend text{fill:var(--sw-soft,#64748b);font-size:11px}";

const LEGEND: f64 = 22.0;

pub(super) fn write(placed: &Placed, title: &str, id: &str) -> String {
    let mut kinds = Vec::new();
    collect_kinds(placed, &mut kinds);
    kinds.sort_unstable();
    kinds.dedup();
    let legend: Vec<(&str, &str, f64)> = kinds
        .iter()
        .filter_map(|kind| match kind {
            LinkKind::Route => Some(("route", "a route chooses", 136.0)),
            LinkKind::Goto => Some(("goto", "the node may go", 136.0)),
            _ => None,
        })
        .collect();
    let legend_width: f64 = legend.iter().map(|entry| entry.2).sum::<f64>() + 20.0;
    let width = if legend.is_empty() {
        placed.width
    } else {
        placed.width.max(legend_width)
    };
    let height = placed.height + if legend.is_empty() { 0.0 } else { LEGEND };
    let mut out = String::with_capacity(4_096);
    let (w, h) = (number(width), number(height));
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sw\" role=\"img\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n<title>{}</title>\n<style>{STYLE}</style>\n<defs>",
        escape(title)
    );
    for (name, class) in [("", "tip"), ("-route", "tip-route"), ("-goto", "tip-goto")] {
        let _ = write!(
            out,
            "<marker id=\"{id}-tip{name}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"{class}\" d=\"M0 0.6L8 4L0 7.4z\"/></marker>"
        );
    }
    let _ = write!(
        out,
        "</defs>\n<rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>\n"
    );
    let shift = (width - placed.width) / 2.0;
    if shift > 0.0 {
        let _ = writeln!(out, "<g transform=\"translate({},0)\">", number(shift));
    }
    write_graph(&mut out, placed, id);
    if shift > 0.0 {
        out.push_str("</g>\n");
    }
    if !legend.is_empty() {
        let y = placed.height + 6.0;
        out.push_str("<g class=\"legend\">");
        let mut x = 12.0;
        for (class, words, room) in legend {
            let _ = write!(
                out,
                "<path class=\"way {class}\" d=\"M{} {}h24\" marker-end=\"url(#{id}-tip-{class})\"/><text x=\"{}\" y=\"{}\">{words}</text>",
                number(x),
                number(y),
                number(x + 30.0),
                number(y + 4.0)
            );
            x += room;
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>");
    out
}

fn collect_kinds(placed: &Placed, kinds: &mut Vec<LinkKind>) {
    kinds.extend(placed.lines.iter().map(|line| line.kind));
    for spot in &placed.spots {
        if let Some(inner) = &spot.vertex.inner {
            collect_kinds(inner, kinds);
        }
    }
}

fn write_graph(out: &mut String, placed: &Placed, id: &str) {
    for line in &placed.lines {
        write_line(out, line, &placed.spots, id);
    }
    for spot in &placed.spots {
        write_spot(out, spot, id);
    }
}

fn write_line(out: &mut String, line: &Line, spots: &[Spot], id: &str) {
    let (class, tip) = match line.kind {
        LinkKind::Edge | LinkKind::Gather => ("way", "-tip"),
        LinkKind::Route => ("way route", "-tip-route"),
        LinkKind::Goto => ("way goto", "-tip-goto"),
    };
    let _ = write!(out, "<path class=\"{class}\" d=\"");
    match &line.way {
        Way::Loop { x, top, bottom } => {
            let (far, x) = (number(x + 30.0), number(*x));
            let (top, bottom) = (number(*top), number(*bottom));
            let _ = write!(out, "M{x} {top}C{far} {top} {far} {bottom} {x} {bottom}");
        }
        Way::Pieces(pieces) => {
            let mut before: Option<(f64, f64)> = None;
            for [from, to] in pieces {
                match before {
                    None => {
                        let _ = write!(out, "M{} {}", number(from.0), number(from.1));
                    }
                    Some(before) => {
                        let middle = number(f64::midpoint(before.1, from.1));
                        let _ = write!(
                            out,
                            "C{} {middle} {} {middle} {} {}",
                            number(before.0),
                            number(from.0),
                            number(from.0),
                            number(from.1)
                        );
                    }
                }
                if (from.1 - to.1).abs() > 0.05 {
                    let _ = write!(out, "V{}", number(to.1));
                }
                before = Some(*to);
            }
        }
    }
    // A join's bar is where the arrow ends that leaves it; into it lines run without a tip.
    if line.kind == LinkKind::Gather {
        out.push_str("\">");
    } else {
        let _ = write!(out, "\" marker-end=\"url(#{id}{tip})\">");
    }
    let name = |at: usize| escape(&spots[at].vertex.name);
    let _ = writeln!(
        out,
        "<title>{} → {}</title></path>",
        name(line.from),
        name(line.to)
    );
}

fn write_spot(out: &mut String, spot: &Spot, id: &str) {
    let vertex = &spot.vertex;
    let left = spot.x - vertex.width / 2.0;
    let rect = |radius: f64| {
        format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>",
            number(left),
            number(spot.top),
            number(vertex.width),
            number(vertex.height),
            number(radius)
        )
    };
    let text = |class: &str, y: f64, words: &str| {
        format!(
            "<text{class} x=\"{}\" y=\"{}\">{}</text>",
            number(spot.x),
            number(y),
            escape(words)
        )
    };
    match vertex.kind {
        VertexKind::Bend => {}
        VertexKind::Start | VertexKind::End => {
            let _ = writeln!(
                out,
                "<g class=\"end\">{}{}</g>",
                rect(vertex.height / 2.0),
                text("", spot.top + 17.0, &vertex.label)
            );
        }
        VertexKind::Join => {
            let _ = writeln!(
                out,
                "<g class=\"join\"><title>{}</title>{}<text x=\"{}\" y=\"{}\">{}</text></g>",
                escape(&vertex.name),
                rect(3.0),
                number(left + vertex.width + 6.0),
                number(spot.top + 7.0),
                escape(&vertex.label)
            );
        }
        VertexKind::Node { is_deferred } => {
            let mut class = String::from("node");
            class.push_str(match vertex.tone {
                Tone::Plain => "",
                Tone::Done => " done",
                Tone::Failed => " failed",
                Tone::Waiting => " waiting",
                Tone::Idle => " idle",
            });
            class.push_str(if is_deferred { " deferred" } else { "" });
            class.push_str(if vertex.inner.is_some() { " graph" } else { "" });
            let _ = write!(
                out,
                "<g class=\"{class}\"><title>{}</title>{}{}",
                escape(&vertex.name),
                rect(9.0),
                text("", spot.top + 22.5, &vertex.label)
            );
            let mut y = spot.top + 22.5;
            for note in &vertex.notes {
                y += 17.0;
                out.push_str(&text(" class=\"note\"", y, note));
            }
            if let Some(inner) = &vertex.inner {
                let x = spot.x - inner.width / 2.0;
                let _ = writeln!(
                    out,
                    "\n<g transform=\"translate({},{})\">",
                    number(x),
                    number(y + 10.0)
                );
                write_graph(out, inner, id);
                out.push_str("</g>");
            }
            out.push_str("</g>\n");
        }
    }
}

/// A number with at most one digit behind the point: the same on every machine.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Text for XML and HTML. What XML cannot hold is shown as the replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}');
            }
            letter => out.push(letter),
        }
    }
    out
}
