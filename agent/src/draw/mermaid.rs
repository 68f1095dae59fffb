//! A graph as a Mermaid flowchart.

use super::join_word;
use crate::{END, GraphShape, START};
use std::{collections::HashMap, fmt::Write as _};

pub(super) fn write(shape: &GraphShape) -> String {
    let mut out = format!("---\ntitle: \"{}\"\n---\nflowchart TD\n", plain(&shape.name));
    write_graph(&mut out, shape, "", 1);
    out.push_str("  classDef end_ fill:#0f172a,color:#fff,stroke:#0f172a\n");
    out.push_str("  classDef deferred stroke-dasharray:6 3\n");
    out
}

fn write_graph(out: &mut String, shape: &GraphShape, path: &str, depth: usize) {
    let pad = "  ".repeat(depth);
    let mut ids: HashMap<&str, String> = HashMap::new();
    let (start, end) = (format!("{path}start"), format!("{path}end_"));
    let _ = writeln!(out, "{pad}{start}([start]):::end_");
    for (at, node) in shape.nodes.iter().enumerate() {
        let id = format!("{path}n{at}");
        if ids.contains_key(node.name.as_str()) {
            continue;
        }
        match &node.graph {
            Some(inner) if depth <= super::DEPTH => {
                let _ = writeln!(out, "{pad}subgraph {id} [\"{}\"]", escape(&node.name));
                write_graph(out, inner, &format!("{id}_"), depth + 1);
                let _ = writeln!(out, "{pad}end");
            }
            _ => {
                let mark = if shape.deferred.contains(&node.name) {
                    ":::deferred"
                } else {
                    ""
                };
                let _ = writeln!(out, "{pad}{id}(\"{}\"){mark}", escape(&node.name));
            }
        }
        ids.insert(&node.name, id);
    }
    let _ = writeln!(out, "{pad}{end}([end]):::end_");
    ids.insert(START, start);
    ids.insert(END, end);
    let mut arrow = |from: &str, to: &str, arrow: &str| {
        if let (Some(from), Some(to)) = (ids.get(from), ids.get(to)) {
            let _ = writeln!(out, "{pad}{from} {arrow} {to}");
        }
    };
    for (from, to) in &shape.edges {
        arrow(from, to, "-->");
    }
    for (from, targets) in &shape.routes {
        for to in targets {
            arrow(from, to, "-.->");
        }
    }
    for (from, targets) in &shape.gotos {
        for to in targets {
            arrow(from, to, "-. goto .->");
        }
    }
    for (at, join) in shape.joins.iter().enumerate() {
        let id = format!("{path}j{at}");
        let _ = writeln!(out, "{pad}{id}[/\"{}\"/]", join_word(join));
        for source in &join.sources {
            if let Some(source) = ids.get(source.as_str()) {
                let _ = writeln!(out, "{pad}{source} --> {id}");
            }
        }
        if let Some(to) = ids.get(join.to.as_str()) {
            let _ = writeln!(out, "{pad}{id} --> {to}");
        }
    }
}

/// A label: what is not a letter, a digit or one of a few harmless signs becomes an entity.
fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            ' ' | '_' | '-' | '.' | ',' => out.push(letter),
            letter if letter.is_alphanumeric() => out.push(letter),
            letter if letter.is_control() => out.push(' '),
            letter => {
                let _ = write!(out, "#{};", u32::from(letter));
            }
        }
    }
    out
}

/// The title is no label: entities do not work there, so other signs are left out.
fn plain(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_alphanumeric() || "_-., ".contains(letter) {
                letter
            } else {
                ' '
            }
        })
        .collect()
}
