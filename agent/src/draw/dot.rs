//! A graph in the DOT language.

use super::join_word;
use crate::{END, GraphShape, START};
use std::{collections::HashMap, fmt::Write as _};

pub(super) fn write(shape: &GraphShape) -> String {
    let mut out = format!("digraph {} {{\n", quote(&shape.name));
    out.push_str("  rankdir=TB; compound=true; node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    write_graph(&mut out, shape, "", 1);
    out.push_str("}\n");
    out
}

/// How an edge meets a node: at itself, or at the border of the cluster that stands for it.
struct Place {
    enter: String,
    leave: String,
    cluster: Option<String>,
}

fn write_graph(out: &mut String, shape: &GraphShape, path: &str, depth: usize) {
    let pad = "  ".repeat(depth);
    let mut places: HashMap<&str, Place> = HashMap::new();
    let point = |id: &str| Place {
        enter: id.to_owned(),
        leave: id.to_owned(),
        cluster: None,
    };
    let (start, end) = (format!("{path}start"), format!("{path}end"));
    let pill = "shape=box, style=\"rounded,filled\", fillcolor=\"#0f172a\", fontcolor=white";
    let _ = writeln!(out, "{pad}{start} [label=\"start\", {pill}];");
    for (at, node) in shape.nodes.iter().enumerate() {
        if places.contains_key(node.name.as_str()) {
            continue;
        }
        let id = format!("{path}n{at}");
        let place = match &node.graph {
            Some(inner) if depth <= super::DEPTH => {
                let inside = format!("{id}_");
                let _ = writeln!(out, "{pad}subgraph cluster_{id} {{");
                let _ = writeln!(out, "{pad}  label={}; style=rounded;", quote(&node.name));
                write_graph(out, inner, &inside, depth + 1);
                let _ = writeln!(out, "{pad}}}");
                Place {
                    enter: format!("{inside}start"),
                    leave: format!("{inside}end"),
                    cluster: Some(format!("cluster_{id}")),
                }
            }
            _ => {
                let style = if shape.deferred.contains(&node.name) {
                    ", style=\"rounded,dashed\""
                } else {
                    ""
                };
                let _ = writeln!(out, "{pad}{id} [label={}{style}];", quote(&node.name));
                point(&id)
            }
        };
        places.insert(&node.name, place);
    }
    let _ = writeln!(out, "{pad}{end} [label=\"end\", {pill}];");
    places.insert(START, point(&start));
    places.insert(END, point(&end));
    let mut arrow = |from: &Place, to: &Place, style: &str| {
        let mut options: Vec<String> = Vec::new();
        options.extend((!style.is_empty()).then(|| style.to_owned()));
        options.extend(from.cluster.as_ref().map(|cluster| format!("ltail={cluster}")));
        options.extend(to.cluster.as_ref().map(|cluster| format!("lhead={cluster}")));
        let options = if options.is_empty() {
            String::new()
        } else {
            format!(" [{}]", options.join(", "))
        };
        let _ = writeln!(out, "{pad}{} -> {}{options};", from.leave, to.enter);
    };
    let edges = shape.edges.iter().map(|(from, to)| (from, to, ""));
    let routes = shape.routes.iter().flat_map(|(from, targets)| {
        targets
            .iter()
            .map(move |to| (from, to, "style=dashed, color=\"#2563eb\""))
    });
    let gotos = shape.gotos.iter().flat_map(|(from, targets)| {
        targets
            .iter()
            .map(move |to| (from, to, "style=dotted, color=\"#9333ea\""))
    });
    for (from, to, style) in edges.chain(routes).chain(gotos) {
        if let (Some(from), Some(to)) = (places.get(from.as_str()), places.get(to.as_str())) {
            arrow(from, to, style);
        }
    }
    let mut bars = String::new();
    for (at, join) in shape.joins.iter().enumerate() {
        let bar = point(&format!("{path}j{at}"));
        let _ = writeln!(
            bars,
            "{pad}{} [label=\"\", xlabel=\"{}\", shape=box, style=filled, fillcolor=\"#0f172a\", width=0.8, height=0.06];",
            bar.enter,
            join_word(join)
        );
        for source in &join.sources {
            if let Some(source) = places.get(source.as_str()) {
                arrow(source, &bar, "arrowhead=none");
            }
        }
        if let Some(to) = places.get(join.to.as_str()) {
            arrow(&bar, to, "");
        }
    }
    out.push_str(&bars);
}

/// A quoted string: backslashes too, since DOT reads `\N` and the like in labels.
fn quote(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for letter in name.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
