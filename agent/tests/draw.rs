//! Drawings: what they look like (golden files), that they are the same each time, and that no name breaks out of one.
//! `STEPWELL_BLESS=1` writes the golden files anew.

use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use stepwell_agent::{Drawing, GraphShape, Tone};

fn shape(mut shape: Value) -> GraphShape {
    let nodes = shape["nodes"].as_array().expect("nodes").clone();
    shape["nodes"] = nodes
        .into_iter()
        .map(|node| {
            if node.is_string() {
                json!({ "name": node })
            } else {
                node
            }
        })
        .collect();
    serde_json::from_value(shape).expect("a shape")
}

fn agent() -> GraphShape {
    shape(json!({
        "name": "agent", "nodes": ["model", "tools"],
        "edges": [["__start__", "model"], ["tools", "model"]],
        "gotos": [["model", ["tools", "__end__"]]]
    }))
}

/// Everything a graph can have, and a graph inside a node.
fn research() -> GraphShape {
    let inner = shape(json!({
        "name": "writer", "nodes": ["draft", "review"],
        "edges": [["__start__", "draft"], ["draft", "review"]],
        "routes": [["review", ["draft", "__end__"]]]
    }));
    shape(json!({
        "name": "research desk",
        "nodes": ["plan", "search web", "search papers", "ask people", "merge", { "name": "write", "graph": inner }, "log"],
        "edges": [["__start__", "plan"], ["plan", "search web"], ["plan", "search papers"], ["plan", "ask people"],
                  ["merge", "write"], ["merge", "log"], ["log", "__end__"], ["write", "__end__"]],
        "routes": [["merge", ["plan", "merge"]]],
        "joins": [{ "sources": ["search web", "search papers", "ask people"], "to": "merge", "need": 2 }],
        "deferred": ["log"]
    }))
}

fn hostile() -> GraphShape {
    shape(json!({
        "name": "\"]; click n0 \"javascript:alert(1)\" %%{init: {}}%%\n---",
        "nodes": ["</text></svg><script>alert(1)</script>", "\"];\nn0[\"x", "\\\" -> evil; \\", "`**bold**` #quot; <b>&amp;",
                  "\u{202e}lt\u{0}\u{1b}[31m", "日本語の名前がここにある長い長い長い長い長い名前です"],
        "edges": [["__start__", "</text></svg><script>alert(1)</script>"],
                  ["</text></svg><script>alert(1)</script>", "\"];\nn0[\"x"], ["\"];\nn0[\"x", "\\\" -> evil; \\"],
                  ["\\\" -> evil; \\", "`**bold**` #quot; <b>&amp;"], ["`**bold**` #quot; <b>&amp;", "\u{202e}lt\u{0}\u{1b}[31m"],
                  ["\u{202e}lt\u{0}\u{1b}[31m", "日本語の名前がここにある長い長い長い長い長い名前です"],
                  ["日本語の名前がここにある長い長い長い長い長い名前です", "__end__"]]
    }))
}

/// A graph of so many nodes, by chance.
fn random(nodes: u64, mut seed: u64) -> GraphShape {
    let mut chance = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below.max(1)
    };
    let name = |at: u64| format!("step {at}");
    let mut edges = vec![json!(["__start__", name(0)])];
    let mut routes = Vec::new();
    for at in 1..nodes {
        edges.push(json!([name(at - 1 - chance(at.min(4))), name(at)]));
        if chance(4) == 0 {
            edges.push(json!([name(chance(at)), name(at)]));
        }
        if chance(7) == 0 {
            routes.push(json!([name(at), [name(chance(at)), "__end__"]]));
        }
    }
    edges.push(json!([name(nodes - 1), "__end__"]));
    shape(json!({
        "name": "by chance", "nodes": (0..nodes).map(name).collect::<Vec<_>>(), "edges": edges, "routes": routes
    }))
}

fn golden(name: &str, drawn: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("STEPWELL_BLESS").is_some() {
        fs::write(&path, drawn).expect("the folder is there");
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == drawn,
        "{name} is drawn in another way; look at it and bless it with STEPWELL_BLESS=1"
    );
}

#[test]
fn drawings_look_as_they_did() {
    for (name, shape) in [
        ("agent", agent()),
        ("research", research()),
        ("hostile", hostile()),
    ] {
        golden(&format!("{name}.svg"), &(shape.svg() + "\n"));
        golden(&format!("{name}.mmd"), &shape.mermaid());
        golden(&format!("{name}.dot"), &shape.dot());
    }
    let marked = Drawing::new(&research())
        .mark("plan", "1.2 s · 812 tokens", Tone::Done)
        .mark("search web", "failed", Tone::Failed)
        .mark("ask people", "waits for a person", Tone::Waiting)
        .mark("write/draft", "never ran", Tone::Idle)
        .to_svg();
    golden("marked.svg", &(marked + "\n"));
}

/// A reader of XML that knows what a drawing has: it must be well formed, and hold no element or attribute besides.
fn check_xml(svg: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        check_text(text);
        let end = tag.find('>').expect("a tag ends");
        let inside = &tag[1..end];
        rest = &tag[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "elements close in order");
            continue;
        }
        let name = inside.split([' ', '/']).next().expect("a name");
        assert!(
            [
                "svg", "title", "style", "defs", "marker", "path", "rect", "g", "text"
            ]
            .contains(&name),
            "an element `{name}`"
        );
        for attribute in inside[name.len()..].split("=\"").skip(1) {
            assert!(!attribute.contains('<'), "{attribute}");
        }
        assert!(!inside.to_ascii_lowercase().contains(" on"), "{inside}");
        if !inside.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "everything is closed: {open:?}");
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let entity: String = text[at..].chars().take_while(|letter| *letter != ';').collect();
        assert!(
            ["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&entity.as_str()),
            "{entity}"
        );
    }
    assert!(
        text.chars()
            .all(|letter| !letter.is_control() || "\n\t\r".contains(letter))
    );
}

#[test]
fn no_name_breaks_out_of_a_drawing() {
    let hostile = hostile();
    check_xml(&hostile.svg());
    check_xml(
        &Drawing::new(&hostile)
            .mark(hostile.nodes[0].name.clone(), "<img onerror=x>", Tone::Done)
            .id("\"><b")
            .to_svg(),
    );
    let mermaid = hostile.mermaid();
    assert!(
        !mermaid.contains("script>") && !mermaid.contains("%%{") && !mermaid.contains('`'),
        "{mermaid}"
    );
    // Every line is one of those that are written; a name ended none and began none.
    for line in mermaid.lines().skip(4).filter(|line| !line.contains("classDef")) {
        let line = line.trim();
        let is_known = line.ends_with(":::end_")
            || line.contains(" --> ")
            || line.starts_with('n') && line.ends_with("\")");
        assert!(is_known, "{line}");
    }
    let dot = hostile.dot();
    assert_eq!(dot.lines().count(), 2 + 6 + 2 + 7 + 1, "{dot}");
    assert!(!dot.contains("-> evil;\n"));
}

#[test]
fn every_vertex_has_its_own_room_and_the_same_graph_gives_the_same_drawing() {
    for (nodes, seed) in (0..40).map(|seed| (2 + seed * 3 / 2, seed)) {
        let shape = random(nodes, seed);
        let svg = shape.svg();
        check_xml(&svg);
        assert_eq!(svg, random(nodes, seed).svg());
        let mut boxes: Vec<[f64; 4]> = Vec::new();
        for piece in svg.split("<rect x=\"").skip(1) {
            let number = |text: &str, key: &str| -> f64 {
                let rest = text.split_once(key).expect("it has one").1;
                rest.split('"')
                    .next()
                    .and_then(|text| text.parse().ok())
                    .expect("a number")
            };
            let x: f64 = piece
                .split('"')
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a number");
            let y = number(piece, "y=\"");
            boxes.push([
                x,
                y,
                x + number(piece, "width=\""),
                y + number(piece, "height=\""),
            ]);
        }
        assert_eq!(boxes.len() as u64, nodes + 2, "each node, the start and the end");
        for (at, a) in boxes.iter().enumerate() {
            for b in &boxes[at + 1..] {
                let is_apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(is_apart, "{a:?} {b:?} of {nodes} nodes by seed {seed}");
            }
        }
    }
}

#[test]
fn a_shape_that_was_never_checked_is_drawn_too_and_a_huge_one_in_bounds() {
    let odd = shape(json!({
        "name": "", "nodes": ["a", "a", "b"],
        "edges": [["a", "nowhere"], ["b", "b"], ["a", "b"], ["__end__", "a"], ["b", "__start__"]],
        "joins": [{ "sources": [], "to": "a", "need": 7 }], "deferred": ["nowhere"]
    }));
    check_xml(&odd.svg());
    let (_, _) = (odd.mermaid(), odd.dot());
    let empty = GraphShape::default();
    check_xml(&empty.svg());
    let mut nested = agent();
    for _ in 0..12 {
        let mut outer = agent();
        outer.nodes[1].graph = Some(Box::new(nested));
        nested = outer;
    }
    check_xml(&nested.svg());
    let huge = random(1_200, 5);
    let svg = huge.svg();
    assert!(svg.len() < 4 << 20, "{} bytes", svg.len());
}

#[test]
#[ignore = "writes pictures to look at into the folder STEPWELL_PICTURES"]
fn pictures_to_look_at() {
    let folder = PathBuf::from(std::env::var_os("STEPWELL_PICTURES").expect("a folder"));
    for (name, shape) in [
        ("agent", agent()),
        ("research", research()),
        ("hostile", hostile()),
        ("random12", random(12, 3)),
        ("random30", random(30, 8)),
        ("random60", random(60, 1)),
    ] {
        fs::write(folder.join(format!("{name}.svg")), shape.svg()).expect("written");
    }
}
