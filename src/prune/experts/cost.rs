//! The cost of the absence of sets of experts, to second order.
//!
//! Let `d_t` be what the output of token t has lost already, and `c_tj` what it loses more when expert j, which t is routed to, is absent
//! alone. A set S of absent experts costs about the mean of `1/2 (d_t + sum of c_tj)' F (d_t + sum of c_tj)`, where the sum is over the
//! experts of S that t is routed to: a quadratic form in the choice, whose coefficients are sums over the tokens.

/// Sums over tokens for the experts of a layer.
pub(super) struct Costs {
    experts: usize,
    tokens: f64,
    /// The sum of `d_t' F c_tj`, `[experts]`.
    linear: Vec<f64>,
    /// The sum of `c_ti' F c_tj`, `[experts][experts]`.
    pairs: Vec<f64>,
    /// The sum of `d_t' F d_t`.
    lost: f64,
}

/// The terms of one token, which is routed to some experts.
pub(super) struct Terms {
    /// The experts.
    pub experts: Vec<usize>,
    /// `d_t' F c_tj` for each of them.
    pub linear: Vec<f64>,
    /// `c_ti' F c_tj` for each pair of them.
    pub pairs: Vec<f64>,
    /// `d_t' F d_t`.
    pub lost: f64,
}

impl Costs {
    /// Creates empty sums.
    pub(super) fn new(experts: usize) -> Self {
        let pairs = vec![0.0; experts * experts];
        Self { experts, tokens: 0.0, linear: vec![0.0; experts], pairs, lost: 0.0 }
    }

    /// Adds a token.
    pub(super) fn add(&mut self, terms: &Terms) {
        let used = terms.experts.len();
        for (a, &i) in terms.experts.iter().enumerate() {
            self.linear[i] += terms.linear[a];
            for (b, &j) in terms.experts.iter().enumerate() {
                self.pairs[i * self.experts + j] += terms.pairs[a * used + b];
            }
        }
        self.lost += terms.lost;
        self.tokens += 1.0;
    }

    /// Adds the cheapest `count` experts to those that are `absent`, one after the other, and returns the cost of all that are absent
    /// then. Of each of `groups` equal groups of neighbours, `per_group` experts are absent at most. Ties go to the lower number.
    pub(super) fn cut(&self, absent: &mut [bool], count: usize, (groups, per_group): (usize, usize)) -> f64 {
        let width = self.experts / groups;
        let mut taken: Vec<usize> = Vec::new();
        let mut total = self.lost;
        for _ in 0..count {
            let is_free = |&j: &usize| {
                let group = &absent[j / width * width..(j / width + 1) * width];
                !absent[j] && group.iter().filter(|&&absent| absent).count() < per_group
            };
            let more = |j: usize| {
                let with: f64 = taken.iter().map(|&i| self.pairs[i * self.experts + j]).sum();
                2.0 * (self.linear[j] + with) + self.pairs[j * self.experts + j]
            };
            let priced = (0..self.experts).filter(is_free).map(|j| (j, more(j)));
            let Some((expert, price)) = priced.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            absent[expert] = true;
            taken.push(expert);
            total += price;
        }
        0.5 * total / self.tokens.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tokens, each routed to two of four experts, with changes in one dimension.
    fn costs() -> Costs {
        let mut costs = Costs::new(4);
        for (experts, changes, lost) in
            [([0, 1], [3.0, 1.0], 0.0), ([0, 2], [1.0, 1.0], -1.0), ([1, 2], [2.0, -2.0], 0.0)]
        {
            costs.add(&Terms {
                experts: experts.to_vec(),
                linear: changes.iter().map(|c| c * lost).collect(),
                pairs: changes.iter().flat_map(|a| changes.map(|b| a * b)).collect(),
                lost: lost * lost,
            });
        }
        costs
    }

    #[test]
    fn the_cheapest_go_first_and_what_they_lose_together_counts() {
        let costs = costs();
        let cut = |count, limits| {
            let mut absent = vec![false; 4];
            (costs.cut(&mut absent, count, limits), absent)
        };
        // No token uses the last expert, and what was lost before stays.
        assert_eq!(cut(1, (1, 4)), (0.5 * 1.0 / 3.0, vec![false, false, false, true]));
        // Without the third, the second token gets back what it had lost.
        assert_eq!(cut(2, (1, 4)), (0.5 * 4.0 / 3.0, vec![false, false, true, true]));
        // What the second and the third expert change cancels in the last token.
        assert_eq!(cut(3, (1, 4)), (0.5 * 1.0 / 3.0, vec![false, true, true, true]));
        assert_eq!(cut(2, (2, 1)).1, [false, true, false, true]);
    }
}
