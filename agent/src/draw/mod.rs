//! Drawings of a graph: [`GraphShape::mermaid`], [`GraphShape::dot`], [`GraphShape::svg`], and [`Drawing`] for an SVG with
//! notes. Nothing outside this crate is needed, and the same graph gives the same drawing.
//!
//! ```text
//! GraphShape ─▶ Plan (vertices, links) ─▶ layout (ranks, order, places) ─▶ svg
//!       └─────────────────────────────────────────────────────────────▶ mermaid, dot
//! ```

mod dot;
mod layout;
mod mermaid;
mod order;
mod plan;
mod svg;

pub(crate) use svg::escape;

use crate::GraphShape;
use plan::Plan;
use std::collections::HashMap;

/// Graphs inside of nodes are drawn so deep; one further in is a mark on its node.
const DEPTH: usize = 4;

/// How a node of a [`Drawing`] looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tone {
    /// As any node.
    #[default]
    Plain,
    /// It ran and ended well.
    Done,
    /// It failed.
    Failed,
    /// It waits for a person.
    Waiting,
    /// It never ran.
    Idle,
}

#[derive(Clone, Debug, Default)]
struct Mark {
    note: String,
    tone: Tone,
}

/// A graph about to be drawn as SVG, with a note and a tone per node.
///
/// ```
/// # use stepwell_agent::{Channels, ChannelsUpdate, Drawing, END, GraphBuilder, START, Tone, node_sync};
/// let graph = GraphBuilder::new(Channels::new())
///     .node("hello", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new())))
///     .edge(START, "hello").edge("hello", END)
///     .build()?;
/// let svg = Drawing::new(graph.shape()).mark("hello", "2 ms", Tone::Done).to_svg();
/// assert!(svg.starts_with("<svg ") && svg.contains("2 ms"));
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `.to_svg()`"]
pub struct Drawing<'a> {
    shape: &'a GraphShape,
    marks: HashMap<String, Mark>,
    depth: usize,
    id: String,
}

impl<'a> Drawing<'a> {
    /// This graph without notes, and the graphs inside its nodes as boxes.
    pub fn new(shape: &'a GraphShape) -> Self {
        Self {
            shape,
            marks: HashMap::new(),
            depth: DEPTH,
            id: "graph".into(),
        }
    }

    /// Writes a note under a node's name and gives it a tone. A node inside of others is named by its path, `outer/inner`.
    pub fn mark(mut self, node: impl Into<String>, note: impl Into<String>, tone: Tone) -> Self {
        let note = note.into();
        self.marks.insert(node.into(), Mark { note, tone });
        self
    }

    /// Draws graphs inside of nodes so deep, at most 4; 0 draws none.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.min(DEPTH);
        self
    }

    /// What the ids inside the SVG begin with, where several stand on one page; `graph` otherwise. Only letters, digits and
    /// `-` of it are taken.
    pub fn id(mut self, id: &str) -> Self {
        self.id = id
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
            .collect();
        self
    }

    /// The drawing as one `<svg>` element: no script, nothing loaded from elsewhere, every name escaped.
    pub fn to_svg(&self) -> String {
        let plan = Plan::of(self.shape, &self.marks, "", self.depth);
        svg::write(&layout::place(plan), &self.shape.name, &self.id)
    }
}

impl GraphShape {
    /// The graph as a Mermaid flowchart. Characters that mean something to Mermaid are written as entities.
    pub fn mermaid(&self) -> String {
        mermaid::write(self)
    }

    /// The graph in the DOT language of Graphviz.
    pub fn dot(&self) -> String {
        dot::write(self)
    }

    /// The graph as one `<svg>` element; see [`Drawing`] for notes.
    pub fn svg(&self) -> String {
        Drawing::new(self).to_svg()
    }
}

/// How a join reads: `all`, `any` or `2 of 3`.
fn join_word(join: &crate::JoinShape) -> String {
    let sources: std::collections::BTreeSet<&String> = join.sources.iter().collect();
    match join.need {
        None => "all".to_owned(),
        Some(need) if need >= sources.len() => "all".to_owned(),
        Some(1) => "any".to_owned(),
        Some(need) => format!("{need} of {}", sources.len()),
    }
}
