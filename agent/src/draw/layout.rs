//! Where everything stands: rows by rank, places within a row close to what a vertex is linked with, and the lines.

use super::{
    order,
    plan::{Link, LinkKind, Plan, Vertex, VertexKind},
};

const MARGIN: f64 = 14.0;
/// Between two boxes of a row, and between a line that passes and its neighbours.
const GAP: f64 = 30.0;
const LINE_GAP: f64 = 20.0;
const ROW_GAP: f64 = 44.0;
/// Long links beyond this many bends in all are drawn straight.
const BENDS: usize = 8_000;
const ROUNDS: usize = 24;
/// From this round on the bends of a line stand below each other where there is room.
const STRAIGHT: usize = 12;

/// A vertex at its place: the middle, and the top.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) vertex: Vertex,
    pub(super) x: f64,
    pub(super) top: f64,
}

/// A line, from its beginning to its arrowhead.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) kind: LinkKind,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) way: Way,
}

#[derive(Debug)]
pub(super) enum Way {
    /// Straight pieces from a point to the one below or above, with a curve from each piece to the next.
    Pieces(Vec<[(f64, f64); 2]>),
    /// Back to its own vertex.
    Loop { x: f64, top: f64, bottom: f64 },
}

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) spots: Vec<Spot>,
    pub(super) lines: Vec<Line>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A link with the bends it passes, from the upper to the lower end.
struct Chain {
    link: Link,
    is_turned: bool,
    through: Vec<usize>,
}

pub(super) fn place(plan: Plan) -> Placed {
    let Plan { mut vertices, links } = plan;
    let (loops, links): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| link.from == link.to);
    for link in &loops {
        vertices[link.from].width += 44.0; // room beside it
    }
    let pairs: Vec<(usize, usize)> = links.iter().map(|link| (link.from, link.to)).collect();
    let turned = order::backward(vertices.len(), &pairs);
    let downward: Vec<(usize, usize)> = pairs
        .iter()
        .zip(&turned)
        .map(|((from, to), is_turned)| if *is_turned { (*to, *from) } else { (*from, *to) })
        .collect();
    let mut ranks = order::ranks(vertices.len(), &downward);
    lower_ends(&vertices, &downward, &mut ranks);
    let mut chains = Vec::new();
    let mut steps: Vec<(usize, usize)> = Vec::new();
    let mut bends = 0;
    for ((link, is_turned), (upper, lower)) in links.into_iter().zip(turned).zip(downward) {
        let mut through = vec![upper];
        let between = ranks[upper] + 1..ranks[lower];
        if bends + between.len() <= BENDS {
            bends += between.len();
            for rank in between {
                through.push(vertices.len());
                vertices.push(bend());
                ranks.push(rank);
            }
        }
        through.push(lower);
        if through.len() == ranks[lower] - ranks[upper] + 1 {
            steps.extend(through.windows(2).map(|pair| (pair[0], pair[1])));
        }
        chains.push(Chain {
            link,
            is_turned,
            through,
        });
    }
    let rows = order::arrange(&ranks, &steps);
    let mut xs = places(&rows, &vertices, &steps, &chains);
    let left = (0..xs.len())
        .map(|at| xs[at] - vertices[at].width / 2.0)
        .fold(f64::INFINITY, f64::min);
    for x in &mut xs {
        *x += MARGIN - left;
    }
    let width = (0..xs.len())
        .map(|at| xs[at] + vertices[at].width / 2.0)
        .fold(0.0, f64::max)
        + MARGIN;
    for link in &loops {
        vertices[link.from].width -= 44.0;
    }
    let bands = bands(&rows, &vertices, &steps, &xs);
    let height = bands.last().map_or(0.0, |band| band[1]) + MARGIN;
    let tops: Vec<f64> = (0..vertices.len())
        .map(|at| {
            let band = bands[ranks[at]];
            f64::midpoint(band[0], band[1]) - vertices[at].height / 2.0
        })
        .collect();
    let mut lines = lines(chains, &vertices, &xs, &tops, &ranks, &bands);
    for link in loops {
        let at = link.from;
        lines.push(Line {
            kind: link.kind,
            from: at,
            to: at,
            way: Way::Loop {
                x: xs[at] + vertices[at].width / 2.0,
                top: tops[at] + vertices[at].height * 0.3,
                bottom: tops[at] + vertices[at].height * 0.7,
            },
        });
    }
    let spots = vertices
        .into_iter()
        .zip(xs.iter().zip(tops))
        .map(|(vertex, (x, top))| Spot { vertex, x: *x, top })
        .collect();
    Placed {
        spots,
        lines,
        width,
        height,
    }
}

/// The end stands in the last row; a join's bar right above what it leads to.
fn lower_ends(vertices: &[Vertex], downward: &[(usize, usize)], ranks: &mut [usize]) {
    let last = ranks.iter().max().copied().unwrap_or(0);
    for at in 0..vertices.len() {
        let has_below = downward.iter().any(|(upper, _)| *upper == at);
        if vertices[at].kind == VertexKind::End && !has_below {
            ranks[at] = last;
        }
    }
    for at in 0..vertices.len() {
        if vertices[at].kind == VertexKind::Join {
            let below = downward
                .iter()
                .filter(|(upper, _)| *upper == at)
                .map(|(_, lower)| ranks[*lower])
                .min();
            if let Some(below) = below {
                ranks[at] = ranks[at].max(below.saturating_sub(1));
            }
        }
    }
}

fn bend() -> Vertex {
    Vertex {
        kind: VertexKind::Bend,
        name: String::new(),
        label: String::new(),
        notes: Vec::new(),
        tone: super::Tone::Plain,
        inner: None,
        width: 2.0,
        height: 2.0,
    }
}

/// The middles of all vertices: each as near to its neighbours as its row has room, round after round.
fn places(rows: &[Vec<usize>], vertices: &[Vertex], steps: &[(usize, usize)], chains: &[Chain]) -> Vec<f64> {
    let count = vertices.len();
    let mut up: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut down: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (upper, lower) in steps {
        up[*lower].push(*upper);
        down[*upper].push(*lower);
    }
    let is_bend = |at: usize| vertices[at].kind == VertexKind::Bend;
    let apart = |a: usize, b: usize| {
        let gap = if is_bend(a) || is_bend(b) { LINE_GAP } else { GAP };
        f64::midpoint(vertices[a].width, vertices[b].width) + gap
    };
    let mut xs = vec![0.0; count];
    for row in rows {
        let mut x = 0.0;
        for (at, vertex) in row.iter().enumerate() {
            if at > 0 {
                x += apart(row[at - 1], *vertex);
            }
            xs[*vertex] = x;
        }
        let middle = x / 2.0;
        for vertex in row {
            xs[*vertex] -= middle;
        }
    }
    let mut means: Vec<Option<f64>> = vec![None; count];
    for round in 0..ROUNDS {
        let is_last = round + 1 == ROUNDS;
        if round >= STRAIGHT {
            for chain in chains {
                let bends = &chain.through[1..chain.through.len() - 1];
                let mean = bends.iter().map(|bend| xs[*bend]).sum::<f64>() / bends.len().max(1) as f64;
                for bend in bends {
                    means[*bend] = Some(mean);
                }
            }
        }
        let downwards = round % 2 == 0;
        let order: Vec<usize> = if downwards {
            (0..rows.len()).collect()
        } else {
            (0..rows.len()).rev().collect()
        };
        for row in order {
            let wished: Vec<(f64, f64)> = rows[row]
                .iter()
                .map(|vertex| {
                    // A line that passes is worth keeping straight.
                    if let Some(mean) = means[*vertex] {
                        return (mean, 3.0);
                    }
                    let sides: Vec<usize> = match (downwards, is_last) {
                        (_, true) => up[*vertex].iter().chain(&down[*vertex]).copied().collect(),
                        (true, _) => up[*vertex].clone(),
                        (false, _) => down[*vertex].clone(),
                    };
                    let weight = |other: usize| {
                        if is_bend(*vertex) && is_bend(other) {
                            6.0
                        } else {
                            1.0
                        }
                    };
                    let total: f64 = sides.iter().map(|other| weight(*other)).sum();
                    if total == 0.0 {
                        return (xs[*vertex], 0.2);
                    }
                    let sum: f64 = sides.iter().map(|other| xs[*other] * weight(*other)).sum();
                    (sum / total, if is_bend(*vertex) { 3.0 } else { total })
                })
                .collect();
            for (vertex, x) in rows[row].iter().zip(settle(&rows[row], &wished, &apart)) {
                xs[*vertex] = x;
            }
        }
    }
    xs
}

/// The places nearest to what is wished (by weighted squares) that keep order and distance: pools of neighbours that
/// push each other share their mean.
fn settle(row: &[usize], wished: &[(f64, f64)], apart: &impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(row.len());
    let mut offset = 0.0;
    for at in 0..row.len() {
        if at > 0 {
            offset += apart(row[at - 1], row[at]);
        }
        offsets.push(offset);
    }
    // Each pool: weighted sum, weight, how many.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (at, (wish, weight)) in wished.iter().enumerate() {
        let weight = weight.max(1e-6);
        pools.push(((wish - offsets[at]) * weight, weight, 1));
        while let [.., before, last] = &pools[..]
            && before.0 / before.1 > last.0 / last.1
        {
            let joined = (before.0 + last.0, before.1 + last.1, before.2 + last.2);
            pools.truncate(pools.len() - 2);
            pools.push(joined);
        }
    }
    let mut places = Vec::with_capacity(row.len());
    for (sum, weight, count) in pools {
        for _ in 0..count {
            places.push(sum / weight + offsets[places.len()]);
        }
    }
    places
}

/// Top and bottom of each row; rows between which lines go far aside stand further apart.
fn bands(rows: &[Vec<usize>], vertices: &[Vertex], steps: &[(usize, usize)], xs: &[f64]) -> Vec<[f64; 2]> {
    let mut of_row = vec![0; vertices.len()];
    for (row, members) in rows.iter().enumerate() {
        for vertex in members {
            of_row[*vertex] = row;
        }
    }
    let mut widest = vec![0.0f64; rows.len()];
    for (upper, lower) in steps {
        let row = of_row[*upper];
        widest[row] = widest[row].max((xs[*upper] - xs[*lower]).abs());
    }
    let mut bands = Vec::with_capacity(rows.len());
    let mut top = MARGIN;
    for (row, members) in rows.iter().enumerate() {
        let height = members
            .iter()
            .map(|vertex| vertices[*vertex].height)
            .fold(0.0, f64::max);
        bands.push([top, top + height]);
        top += height + ROW_GAP + (widest[row] * 0.06).min(60.0);
    }
    bands
}

fn lines(
    chains: Vec<Chain>,
    vertices: &[Vertex],
    xs: &[f64],
    tops: &[f64],
    ranks: &[usize],
    bands: &[[f64; 2]],
) -> Vec<Line> {
    let leaving = ports(&chains, vertices, xs, true);
    let entering = ports(&chains, vertices, xs, false);
    chains
        .into_iter()
        .enumerate()
        .map(|(at, chain)| {
            let last = chain.through.len() - 1;
            let mut pieces = Vec::with_capacity(chain.through.len());
            for (place, &vertex) in chain.through.iter().enumerate() {
                let [row_top, row_bottom] = bands[ranks[vertex]];
                pieces.push(if place == 0 {
                    let x = leaving[at];
                    [(x, tops[vertex] + vertices[vertex].height), (x, row_bottom)]
                } else if place == last {
                    let x = entering[at];
                    [(x, row_top), (x, tops[vertex])]
                } else {
                    [(xs[vertex], row_top), (xs[vertex], row_bottom)]
                });
            }
            let mut line = Line {
                kind: chain.link.kind,
                from: chain.link.from,
                to: chain.link.to,
                way: Way::Pieces(Vec::new()),
            };
            if chain.is_turned {
                pieces.reverse();
                for piece in &mut pieces {
                    piece.reverse();
                }
            }
            line.way = Way::Pieces(pieces);
            line
        })
        .collect()
}

/// Where each chain leaves its upper vertex, or enters its lower one: side by side, in the order of what they lead to.
fn ports(chains: &[Chain], vertices: &[Vertex], xs: &[f64], is_leaving: bool) -> Vec<f64> {
    let mut ports = vec![0.0; chains.len()];
    let mut at_vertex: Vec<Vec<(f64, usize)>> = vec![Vec::new(); vertices.len()];
    for (at, chain) in chains.iter().enumerate() {
        let last = chain.through.len() - 1;
        let (end, beside) = if is_leaving {
            (chain.through[0], chain.through[1])
        } else {
            (chain.through[last], chain.through[last - 1])
        };
        at_vertex[end].push((xs[beside], at));
    }
    for (vertex, mut found) in at_vertex.into_iter().enumerate() {
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let room = match vertices[vertex].kind {
            VertexKind::Join => vertices[vertex].width - 16.0,
            VertexKind::Start | VertexKind::End => vertices[vertex].width - 30.0,
            _ => vertices[vertex].width - 28.0,
        };
        let count = found.len();
        let space = if count > 1 {
            (room / (count - 1) as f64).min(26.0)
        } else {
            0.0
        };
        let first = xs[vertex] - space * (count.saturating_sub(1)) as f64 / 2.0;
        for (place, (_, chain)) in found.into_iter().enumerate() {
            ports[chain] = first + space * place as f64;
        }
    }
    ports
}
