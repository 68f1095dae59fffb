//! [`Plan`]: what is to be drawn, before anything has a place.

use super::{Mark, Tone, join_word, layout};
use crate::{END, GraphShape, START};
use std::collections::{BTreeSet, HashMap};

/// Names longer than this are cut; the whole name is the tooltip.
const NAME_CHARS: usize = 28;
const LINE: f64 = 17.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VertexKind {
    Start,
    End,
    Node {
        is_deferred: bool,
    },
    Join,
    /// A place that a long link passes.
    Bend,
}

/// Something with a place.
#[derive(Debug)]
pub(super) struct Vertex {
    pub(super) kind: VertexKind,
    pub(super) name: String,
    /// The name as it fits.
    pub(super) label: String,
    /// Lines under the name.
    pub(super) notes: Vec<String>,
    pub(super) tone: Tone,
    /// The graph inside it.
    pub(super) inner: Option<Box<layout::Placed>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkKind {
    Edge,
    Route,
    Goto,
    /// Into a join's bar.
    Gather,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: LinkKind,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) vertices: Vec<Vertex>,
    pub(super) links: Vec<Link>,
}

impl Plan {
    /// `path` is where the graph stands inside of others: `outer/` or empty.
    pub(super) fn of(shape: &GraphShape, marks: &HashMap<String, Mark>, path: &str, depth: usize) -> Self {
        let mut plan = Self::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        places.insert(START, plan.add(terminal(VertexKind::Start, "start")));
        let deferred: BTreeSet<&str> = shape.deferred.iter().map(String::as_str).collect();
        for node in &shape.nodes {
            if places.contains_key(node.name.as_str()) {
                continue; // an unchecked shape may name one twice
            }
            let mark = marks.get(&format!("{path}{}", node.name));
            let mut notes = Vec::new();
            let is_deferred = deferred.contains(node.name.as_str());
            if is_deferred {
                notes.push("deferred".to_owned());
            }
            if let Some(mark) = mark.filter(|mark| !mark.note.is_empty()) {
                notes.push(cut(&mark.note, NAME_CHARS + 12));
            }
            let inner = match &node.graph {
                Some(inner) if depth > 0 => {
                    let path = format!("{path}{}/", node.name);
                    let inner = Self::of(inner, marks, &path, depth - 1);
                    Some(Box::new(layout::place(inner)))
                }
                Some(inner) => {
                    notes.push(format!("a graph of {} nodes", inner.nodes.len()));
                    None
                }
                None => None,
            };
            let vertex = node_vertex(&node.name, is_deferred, notes, mark, inner);
            places.insert(&node.name, plan.add(vertex));
        }
        places.insert(END, plan.add(terminal(VertexKind::End, "end")));
        plan.link_ways(shape, &places);
        for join in &shape.joins {
            let sources: BTreeSet<usize> = join
                .sources
                .iter()
                .filter_map(|source| places.get(source.as_str()).copied())
                .collect();
            let Some(&target) = places.get(join.to.as_str()) else {
                continue;
            };
            let bar = plan.add(bar(&join_word(join), sources.len()));
            for from in sources {
                plan.link(from, bar, LinkKind::Gather);
            }
            plan.link(bar, target, LinkKind::Edge);
        }
        plan
    }

    fn link_ways(&mut self, shape: &GraphShape, places: &HashMap<&str, usize>) {
        let find = |name: &str| places.get(name).copied();
        for (from, to) in &shape.edges {
            if let (Some(from), Some(to)) = (find(from), find(to)) {
                self.link(from, to, LinkKind::Edge);
            }
        }
        for (choices, kind) in [(&shape.routes, LinkKind::Route), (&shape.gotos, LinkKind::Goto)] {
            for (from, targets) in choices {
                for to in targets {
                    if let (Some(from), Some(to)) = (find(from), find(to)) {
                        self.link(from, to, kind);
                    }
                }
            }
        }
    }

    fn add(&mut self, vertex: Vertex) -> usize {
        self.vertices.push(vertex);
        self.vertices.len() - 1
    }

    /// Two ways of one kind between the same places are one line.
    fn link(&mut self, from: usize, to: usize, kind: LinkKind) {
        let link = Link { from, to, kind };
        if !self.links.contains(&link) {
            self.links.push(link);
        }
    }
}

fn terminal(kind: VertexKind, word: &str) -> Vertex {
    Vertex {
        kind,
        name: word.to_owned(),
        label: word.to_owned(),
        notes: Vec::new(),
        tone: Tone::Plain,
        inner: None,
        width: 58.0,
        height: 26.0,
    }
}

fn bar(word: &str, sources: usize) -> Vertex {
    Vertex {
        kind: VertexKind::Join,
        name: format!("waits for {word}"),
        label: word.to_owned(),
        notes: Vec::new(),
        tone: Tone::Plain,
        inner: None,
        width: (44.0 + 14.0 * sources as f64).min(140.0),
        height: 6.0,
    }
}

fn node_vertex(
    name: &str,
    is_deferred: bool,
    notes: Vec<String>,
    mark: Option<&Mark>,
    inner: Option<Box<layout::Placed>>,
) -> Vertex {
    let label = cut(name, NAME_CHARS);
    let widest = notes
        .iter()
        .map(|note| text_width(note, 6.0))
        .fold(text_width(&label, 7.4), f64::max);
    let mut width = (widest + 32.0).max(84.0);
    let mut height = 19.0 + LINE * (1.0 + notes.len() as f64);
    if let Some(inner) = &inner {
        width = width.max(inner.width + 24.0);
        height += inner.height + 12.0;
    }
    Vertex {
        kind: VertexKind::Node { is_deferred },
        name: name.to_owned(),
        label,
        notes,
        tone: mark.map_or(Tone::Plain, |mark| mark.tone),
        inner,
        width: width.ceil(),
        height,
    }
}

fn cut(text: &str, most: usize) -> String {
    let plain = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    if text.chars().count() <= most {
        return plain.collect();
    }
    plain.take(most - 1).chain(['…']).collect()
}

/// About how wide a text is: wide scripts take nearly twice the room of Latin letters.
fn text_width(text: &str, letter_width: f64) -> f64 {
    text.chars()
        .map(|letter| match u32::from(letter) {
            0x1100.. => 1.8,
            _ if matches!(letter, 'm' | 'w' | 'M' | 'W') => 1.35,
            _ if matches!(letter, 'i' | 'l' | 'j' | 't' | 'f' | ' ' | '.' | ',') => 0.62,
            _ if letter.is_uppercase() => 1.15,
            _ => 1.0,
        })
        .sum::<f64>()
        * letter_width
}
