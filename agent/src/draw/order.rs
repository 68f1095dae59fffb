//! Ranks of a graph's vertices, and their order within a rank: as few crossings as sweeps of medians find.

/// Sweeps over all ranks; each goes down and up.
const SWEEPS: usize = 12;
/// With more vertices neighbours are not tried in exchange: it takes the square of a rank's length.
const EXCHANGE: usize = 400;

/// Which links run against the rest: turned round they leave no cycle. Found by a search from the first vertex, so that
/// what is declared first comes first.
pub(super) fn backward(count: usize, links: &[(usize, usize)]) -> Vec<bool> {
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (at, (from, _)) in links.iter().enumerate() {
        leaving[*from].push(at);
    }
    let mut turned = vec![false; links.len()];
    let (mut is_open, mut is_done) = (vec![false; count], vec![false; count]);
    for root in 0..count {
        if is_done[root] {
            continue;
        }
        is_open[root] = true;
        let mut path = vec![(root, 0)];
        while let Some((vertex, next)) = path.last_mut() {
            let Some(&link) = leaving[*vertex].get(*next) else {
                is_open[*vertex] = false;
                is_done[*vertex] = true;
                path.pop();
                continue;
            };
            *next += 1;
            let to = links[link].1;
            if is_open[to] {
                turned[link] = true;
            } else if !is_done[to] {
                is_open[to] = true;
                path.push((to, 0));
            }
        }
    }
    turned
}

/// The longest way to each vertex over links without a cycle.
pub(super) fn ranks(count: usize, links: &[(usize, usize)]) -> Vec<usize> {
    let mut entering = vec![0usize; count];
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in links {
        entering[*to] += 1;
        leaving[*from].push(*to);
    }
    let mut ranks = vec![0; count];
    let mut open: Vec<usize> = (0..count).filter(|vertex| entering[*vertex] == 0).collect();
    while let Some(vertex) = open.pop() {
        for &to in &leaving[vertex] {
            ranks[to] = ranks[to].max(ranks[vertex] + 1);
            entering[to] -= 1;
            if entering[to] == 0 {
                open.push(to);
            }
        }
    }
    ranks
}

/// The vertices of each rank, in order; `links` lead from each rank to the next.
pub(super) fn arrange(ranks: &[usize], links: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let count = ranks.len();
    let mut up: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut down: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in links {
        up[*to].push(*from);
        down[*from].push(*to);
    }
    let depth = ranks.iter().max().map_or(0, |last| last + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); depth];
    // Depth first, so that what hangs together begins together.
    let mut is_seen = vec![false; count];
    for root in 0..count {
        let mut open = vec![root];
        while let Some(vertex) = open.pop() {
            if !std::mem::replace(&mut is_seen[vertex], true) {
                rows[ranks[vertex]].push(vertex);
                open.extend(down[vertex].iter().rev().copied());
            }
        }
    }
    let mut best = rows.clone();
    let mut fewest = crossings(&rows, &down);
    for sweep in 0..SWEEPS {
        if fewest == 0 {
            break;
        }
        if sweep % 2 == 0 {
            for row in 1..depth {
                sort_by_median(&mut rows, row, row - 1, &up);
            }
        } else {
            for row in (0..depth.saturating_sub(1)).rev() {
                sort_by_median(&mut rows, row, row + 1, &down);
            }
        }
        if count <= EXCHANGE {
            exchange(&mut rows, &up, &down);
        }
        let found = crossings(&rows, &down);
        if found < fewest {
            (fewest, best) = (found, rows.clone());
        }
    }
    best
}

fn positions(row: &[usize], count: usize) -> Vec<usize> {
    let mut places = vec![usize::MAX; count];
    for (at, vertex) in row.iter().enumerate() {
        places[*vertex] = at;
    }
    places
}

/// Sorts a row by the medians of its neighbours in another; what has none there keeps its place.
fn sort_by_median(rows: &mut [Vec<usize>], row: usize, beside: usize, neighbours: &[Vec<usize>]) {
    let places = positions(&rows[beside], neighbours.len());
    let median = |vertex: usize| -> Option<f64> {
        let mut found: Vec<usize> = neighbours[vertex]
            .iter()
            .map(|other| places[*other])
            .filter(|place| *place != usize::MAX)
            .collect();
        found.sort_unstable();
        let middle = found.len() / 2;
        match found.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(found[middle] as f64),
            _ => Some((found[middle - 1] + found[middle]) as f64 / 2.0),
        }
    };
    let medians: Vec<Option<f64>> = rows[row].iter().map(|vertex| median(*vertex)).collect();
    let mut moving: Vec<(f64, usize)> = rows[row]
        .iter()
        .zip(&medians)
        .filter_map(|(vertex, median)| median.map(|median| (median, *vertex)))
        .collect();
    moving.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: equals keep their order
    let mut moving = moving.into_iter();
    for (at, median) in medians.iter().enumerate() {
        if median.is_some()
            && let Some((_, vertex)) = moving.next()
        {
            rows[row][at] = vertex;
        }
    }
}

/// Exchanges neighbours of a row as long as that saves crossings.
fn exchange(rows: &mut [Vec<usize>], up: &[Vec<usize>], down: &[Vec<usize>]) {
    for _ in 0..4 {
        let mut has_gained = false;
        for row in 0..rows.len() {
            let above = row.checked_sub(1).map(|above| positions(&rows[above], up.len()));
            let below = rows.get(row + 1).map(|below| positions(below, up.len()));
            for at in 1..rows[row].len() {
                let (left, right) = (rows[row][at - 1], rows[row][at]);
                let (mut kept, mut changed) = (0, 0);
                for (places, neighbours) in [(&above, up), (&below, down)] {
                    let Some(places) = places else { continue };
                    for a in &neighbours[left] {
                        for b in &neighbours[right] {
                            kept += usize::from(places[*a] > places[*b]);
                            changed += usize::from(places[*a] < places[*b]);
                        }
                    }
                }
                if changed < kept {
                    rows[row].swap(at - 1, at);
                    has_gained = true;
                }
            }
        }
        if !has_gained {
            break;
        }
    }
}

/// Crossings between all rows that follow each other.
pub(super) fn crossings(rows: &[Vec<usize>], down: &[Vec<usize>]) -> usize {
    let mut sum = 0;
    for pair in rows.windows(2) {
        let places = positions(&pair[1], down.len());
        let mut ends = Vec::new();
        for vertex in &pair[0] {
            let mut targets: Vec<usize> = down[*vertex].iter().map(|to| places[*to]).collect();
            targets.sort_unstable();
            ends.extend(targets);
        }
        // Inversions, counted by a tree of prefix sums.
        let mut tree = vec![0usize; pair[1].len() + 1];
        for (before, end) in ends.into_iter().enumerate() {
            let mut at = end + 1;
            let mut not_greater = 0;
            while at > 0 {
                not_greater += tree[at];
                at &= at - 1;
            }
            sum += before - not_greater;
            at = end + 1;
            while at < tree.len() {
                tree[at] += 1;
                at += at & at.wrapping_neg();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{arrange, backward, crossings, ranks};

    #[test]
    fn a_loop_is_turned_at_the_link_that_leads_back() {
        let links = [(0, 1), (1, 2), (2, 1), (1, 3)];
        assert_eq!(backward(4, &links), [false, false, true, false]);
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (1, 2), (1, 3)]), [0, 1, 2, 2]);
    }

    #[test]
    fn links_that_need_not_cross_do_not() {
        // 0 leads to 2 and 3, which lead crosswise to 5 and 4.
        let links = [(0, 1), (0, 2), (1, 4), (2, 3)];
        let rows = arrange(&[0, 1, 1, 2, 2], &links);
        let mut down = vec![Vec::new(); 5];
        for (from, to) in links {
            down[from].push(to);
        }
        assert_eq!(crossings(&rows, &down), 0);
        assert_eq!(crossings(&[vec![1, 2], vec![3, 4]], &down), 1);
    }
}
