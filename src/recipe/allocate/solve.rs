//! The cheapest choice of one offer per item within a number of bytes: a multiple-choice knapsack.
//!
//! Offers of an item on the lower convex hull of cost over bytes are what any Lagrange multiplier chooses, so the hulls' segments in order of
//! falling gain per byte are all solutions of the relaxed problem; where the bytes end inside a segment, the part of it that fits gives the
//! lower bound. The whole segments that fit are the first solution. Single moves to any offer fill what is left, and exchanges, one item to fewer bytes and another one to more,
//! improve until none helps. Everything is decided by costs and positions, so equal inputs give equal choices.

/// What an item can be had for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recipe) struct Offer {
    /// Bytes that it takes.
    pub bytes: u64,
    /// What it costs; finite.
    pub cost: f64,
}

/// One offer for each item.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::recipe) struct Solution {
    /// Index of the offer that each item gets.
    pub picks: Vec<usize>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Cost of all of them.
    pub cost: f64,
    /// No choice within the bytes costs less than this.
    pub bound: f64,
}

/// Exchanges after which the search stops; each one lowers the cost, and a few dozen are usual.
const MOST_EXCHANGES: usize = 10_000;

/// A step along the hull of an item, from one offer to the next larger.
struct Segment {
    item: usize,
    /// Number of the step in its item's hull.
    step: usize,
    to: usize,
    bytes: u64,
    gain: f64,
}

impl Segment {
    fn gain_per_byte(&self) -> f64 {
        self.gain / self.bytes as f64
    }
}

/// An item that leaves its present offer for another.
#[derive(Debug, Clone, Copy)]
struct Move {
    item: usize,
    to: usize,
    /// Bytes more than now; negative for fewer.
    bytes: i128,
    /// Cost less than now; negative for more.
    gain: f64,
}

/// Chooses for `items` within `budget` bytes; `None` where not even the smallest offers fit, or an item has none.
pub(in crate::recipe) fn solve(items: &[Vec<Offer>], budget: u64) -> Option<Solution> {
    let fronts: Vec<Vec<usize>> = items.iter().map(|offers| front(offers)).collect();
    let mut picks = fronts.iter().map(|front| front.first().copied()).collect::<Option<Vec<_>>>()?;
    let bound = along_the_hulls(items, &fronts, budget, &mut picks)?;
    let mut search = Exchanges { items, fronts: &fronts, picks, budget };
    for _ in 0..MOST_EXCHANGES {
        if !search.improve() {
            break;
        }
    }
    let Exchanges { picks, .. } = search;
    let (bytes, cost) = totals(items, &picks);
    Some(Solution { picks, bytes, cost, bound: bound.min(cost) })
}

/// Bytes and cost of what is picked.
fn totals(items: &[Vec<Offer>], picks: &[usize]) -> (u64, f64) {
    let picked = || items.iter().zip(picks).map(|(offers, &pick)| offers[pick]);
    (picked().map(|offer| offer.bytes).sum(), picked().map(|offer| offer.cost).sum())
}

/// The offers that no other one beats in both bytes and cost, by rising bytes.
fn front(offers: &[Offer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (offers[a], offers[b]);
        a.bytes.cmp(&b.bytes).then(a.cost.total_cmp(&b.cost))
    });
    let mut least = f64::INFINITY;
    order.retain(|&i| {
        let better = offers[i].cost < least;
        least = least.min(offers[i].cost);
        better
    });
    order
}

/// The offers of `front` on the lower convex hull.
fn hull(offers: &[Offer], front: &[usize]) -> Vec<usize> {
    let slope = |from: usize, to: usize| {
        (offers[from].cost - offers[to].cost) / (offers[to].bytes - offers[from].bytes) as f64
    };
    let mut hull: Vec<usize> = Vec::new();
    for &next in front {
        while let [.., before, last] = hull[..] {
            if slope(before, last) > slope(last, next) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Moves `picks`, the smallest offers, along the hulls while `budget` allows; returns the bound of the relaxed problem.
fn along_the_hulls(
    items: &[Vec<Offer>],
    fronts: &[Vec<usize>],
    budget: u64,
    picks: &mut [usize],
) -> Option<f64> {
    let (mut bytes, mut cost) = totals(items, picks);
    if bytes > budget {
        return None;
    }
    let mut segments = Vec::new();
    for (item, (offers, front)) in items.iter().zip(fronts).enumerate() {
        segments.extend(hull(offers, front).windows(2).enumerate().map(|(step, pair)| Segment {
            item,
            step,
            to: pair[1],
            bytes: offers[pair[1]].bytes - offers[pair[0]].bytes,
            gain: offers[pair[0]].cost - offers[pair[1]].cost,
        }));
    }
    segments.sort_by(|a, b| {
        b.gain_per_byte().total_cmp(&a.gain_per_byte()).then((a.item, a.step).cmp(&(b.item, b.step)))
    });
    let (mut bound, mut steps) = (None, vec![0; items.len()]);
    for segment in &segments {
        if bytes + segment.bytes > budget {
            bound = bound.or(Some(cost - segment.gain_per_byte() * (budget - bytes) as f64));
        } else if steps[segment.item] == segment.step {
            steps[segment.item] += 1;
            picks[segment.item] = segment.to;
            bytes += segment.bytes;
            cost -= segment.gain;
        }
    }
    Some(bound.unwrap_or(cost))
}

/// A choice that is being improved.
struct Exchanges<'a> {
    items: &'a [Vec<Offer>],
    fronts: &'a [Vec<usize>],
    picks: Vec<usize>,
    budget: u64,
}

impl Exchanges<'_> {
    /// Makes the move, or exchange of two, that lowers the cost most within the budget; says whether there was one.
    fn improve(&mut self) -> bool {
        let (bytes, cost) = totals(self.items, &self.picks);
        let free = i128::from(self.budget) - i128::from(bytes);
        let moves = self.moves();
        let single = moves.iter().filter(|m| m.bytes <= free).max_by(|a, b| a.gain.total_cmp(&b.gain));
        let mut best: (f64, Vec<Move>) = single.map_or((0.0, Vec::new()), |&m| (m.gain, vec![m]));
        if let Some((gain, pair)) = best_exchange(&moves, free)
            && gain > best.0
        {
            best = (gain, pair.to_vec());
        }
        // Gains below the precision of the sum would go on for ever.
        if best.0 <= cost.abs() * 1e-12 {
            return false;
        }
        best.1.iter().for_each(|m| self.picks[m.item] = m.to);
        true
    }

    /// Every move of one item to another offer of its front.
    fn moves(&self) -> Vec<Move> {
        let of_item = |(item, front): (usize, &Vec<usize>)| {
            let (offers, from) = (&self.items[item], self.picks[item]);
            let moved = |&to: &usize| Move {
                item,
                to,
                bytes: i128::from(offers[to].bytes) - i128::from(offers[from].bytes),
                gain: offers[from].cost - offers[to].cost,
            };
            front.iter().filter(|&&to| to != from).map(moved).collect::<Vec<_>>()
        };
        self.fronts.iter().enumerate().flat_map(of_item).collect()
    }
}

/// The two moves of different items, one to fewer and one to more bytes, that gain most together within `free` bytes.
fn best_exchange(moves: &[Move], free: i128) -> Option<(f64, [Move; 2])> {
    let (mut up, down): (Vec<Move>, Vec<Move>) = moves.iter().partition(|m| m.bytes > 0);
    up.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.item.cmp(&b.item)));
    let best_two = best_two_by_prefix(&up);
    let mut best: Option<(f64, [Move; 2])> = None;
    for lower in &down {
        let fitting = up.partition_point(|m| m.bytes + lower.bytes <= free);
        let Some(candidates) = fitting.checked_sub(1).and_then(|last| best_two.get(last)) else { continue };
        let other = candidates.iter().flatten().map(|&i| up[i]).find(|m| m.item != lower.item);
        let Some(higher) = other else { continue };
        let gain = lower.gain + higher.gain;
        if best.is_none_or(|(known, _)| gain > known) {
            best = Some((gain, [*lower, higher]));
        }
    }
    best
}

/// For each prefix of `moves` the two of different items that gain most.
fn best_two_by_prefix(moves: &[Move]) -> Vec<[Option<usize>; 2]> {
    let mut best: [Option<usize>; 2] = [None, None];
    let prefix = |(i, m): (usize, &Move)| {
        let gains = |at: Option<usize>| at.map_or(f64::NEG_INFINITY, |at| moves[at].gain);
        let same = |at: Option<usize>| at.is_some_and(|at| moves[at].item == m.item);
        if m.gain > gains(best[0]) {
            best = if same(best[0]) { [Some(i), best[1]] } else { [Some(i), best[0]] };
        } else if m.gain > gains(best[1]) && !same(best[0]) {
            best[1] = Some(i);
        }
        best
    };
    moves.iter().enumerate().map(prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(all: &[(u64, f64)]) -> Vec<Offer> {
        all.iter().map(|&(bytes, cost)| Offer { bytes, cost }).collect()
    }

    /// The least cost of any choice within `budget`, by trying all.
    fn least(items: &[Vec<Offer>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = items.split_first() else { return Some(0.0) };
        let with = |offer: &Offer| {
            budget.checked_sub(offer.bytes).and_then(|left| Some(offer.cost + least(rest, left)?))
        };
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    /// Items of `offers` offers each with pseudo-random bytes and costs that fall about as they do with more bits.
    fn noise(seed: u64, items: u64, offers: u64) -> Vec<Vec<Offer>> {
        let number = |i: u64| (i.wrapping_mul(6364136223846793005).wrapping_add(seed) >> 33) % 1000;
        let offer = |item: u64, o: u64| {
            let bytes = 50 * (o + 1) + number(item * 31 + o) % 60;
            Offer { bytes, cost: (1 + number(item * 17 + o + 7)) as f64 / (bytes * bytes) as f64 }
        };
        (0..items).map(|item| (0..offers).map(|o| offer(item, o)).collect()).collect()
    }

    #[test]
    fn choices_are_near_the_best_and_never_beyond_the_bound() {
        let (mut excess, mut cases) = (0.0, 0.0);
        for seed in 0..40 {
            let items = noise(seed * 977, 6, 5);
            for budget in [400, 700, 1000, 1400] {
                let (solution, best) = (solve(&items, budget), least(&items, budget));
                assert_eq!(solution.is_some(), best.is_some());
                let (Some(solution), Some(best)) = (solution, best) else { continue };
                assert!(solution.bytes <= budget);
                assert_eq!(totals(&items, &solution.picks), (solution.bytes, solution.cost));
                let slack = 1e-9 * best;
                assert!(solution.bound <= best + slack && best <= solution.cost + slack, "{seed} {budget}");
                excess += solution.cost / best - 1.0;
                cases += 1.0;
            }
        }
        assert!(cases > 100.0 && excess / cases < 0.01, "{}", excess / cases);
    }

    #[test]
    fn offers_above_the_hull_fill_what_is_left() {
        let items = vec![offers(&[(10, 5.0), (14, 4.9), (30, 0.0)]), offers(&[(10, 1.0)])];
        let solution = solve(&items, 26).unwrap();
        assert_eq!((solution.picks, solution.bytes), (vec![1, 0], 24));
        assert!((solution.bound - (6.0 - 5.0 * 6.0 / 20.0)).abs() < 1e-12);
    }

    #[test]
    fn exchanges_undo_what_was_greedy() {
        // By gain per byte the first item comes first, and then nothing else fits.
        let items = vec![offers(&[(0, 3.0), (6, 0.0)]), offers(&[(0, 4.0), (10, 0.0)])];
        assert_eq!(solve(&items, 10).unwrap().picks, [0, 1]);
    }

    #[test]
    fn what_does_not_fit_has_no_solution() {
        assert_eq!(solve(&[offers(&[(10, 1.0)])], 9), None);
        assert_eq!(solve(&[Vec::new()], 9), None);
        assert_eq!(solve(&[], 0).unwrap().picks, [0; 0]);
    }

    #[test]
    fn more_bytes_that_cost_more_are_never_taken() {
        let items = vec![offers(&[(10, 1.0), (20, 2.0), (20, 0.5), (30, 0.5)])];
        assert_eq!(solve(&items, 100).unwrap().picks, [2]);
    }
}
