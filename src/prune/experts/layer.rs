//! What a layer with experts gives when tokens are routed without some of them.

use rayon::prelude::*;

use super::PruneError;
use super::cost::{Costs, Terms};
use crate::model::ModelError;
use crate::model::router::Router;
use crate::model::stages::{BoundStage, Stage, Stages, State};
use crate::symmetric::{dot, product_transposed};

/// A layer from its router on, with its weights.
pub(super) struct Mixture<'a> {
    stages: &'a Stages<'a>,
    /// The stage that the router follows.
    before: &'a Stage,
    /// The stage of the router.
    routing: &'a Stage,
    router: Router,
    route: BoundStage<'a>,
    rest: Vec<BoundStage<'a>>,
}

/// Some tokens where the router reads, of whole chunks.
pub(super) struct Tokens {
    /// Number of the first token in the text.
    first: usize,
    /// The state before the router's stage.
    state: State,
    /// The state after it, with routes that are replaced.
    routed: State,
    /// The router's logits, `[tokens][experts]`.
    logits: Vec<f32>,
}

impl<'a> Mixture<'a> {
    /// Reads the layer of `layer`, its stages, if it has a router; returns the number of stages before the router with it.
    pub(super) fn read(
        stages: &'a Stages<'a>,
        layer: &'a [Stage],
    ) -> Result<Option<(usize, Self)>, ModelError> {
        for (at, pair) in layer.windows(2).enumerate() {
            if let Some(router) = stages.router(&pair[0])? {
                let bind = |stage| stages.bind(stage, None);
                let rest = layer[at + 2..].iter().map(bind).collect::<Result<_, _>>()?;
                let (before, routing) = (&pair[0], &pair[1]);
                let route = bind(routing)?;
                return Ok(Some((at + 1, Self { stages, before, routing, router, route, rest })));
            }
        }
        Ok(None)
    }

    /// Returns the number of experts, and the number of those that a token is routed to.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.router.counts()
    }

    /// Prepares tokens, given the state before the router.
    pub(super) fn tokens(&self, first: usize, state: State) -> Result<Tokens, ModelError> {
        let logits = self.stages.router_logits(&self.router, self.before, state.clone())?;
        let routed = self.stages.run(&self.route, first, state.clone())?;
        Ok(Tokens { first, state, routed, logits })
    }

    /// Returns the stream `[tokens][hidden]` after the layer when tokens take `routes` `[tokens][2 * used]`.
    fn after(&self, tokens: &Tokens, routes: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let mut state = tokens.routed.clone();
        self.routing.reroute(&mut state, routes)?;
        for stage in &self.rest {
            state = self.stages.run(stage, tokens.first, state)?;
        }
        Ok(state.concat())
    }

    /// Returns the stream `[tokens][hidden]` after the layer when the experts `absent` are.
    pub(super) fn without(&self, tokens: &Tokens, absent: &[bool]) -> Result<Vec<f32>, ModelError> {
        self.after(tokens, self.router.routes(&tokens.logits, |_, expert| absent[expert]))
    }

    /// Adds what tokens lose more when one of the experts that they are routed to is absent, given that those of `absent` are; `target`
    /// `[tokens][hidden]` is the original's stream after the layer, and `fisher` `[hidden][hidden]` that of the layer's output.
    pub(super) fn add_costs(
        &self,
        tokens: &Tokens,
        target: &[f32],
        (absent, fisher): (&[bool], Option<&[f64]>),
        costs: &mut Costs,
    ) -> Result<(), PruneError> {
        let (_, used) = self.counts();
        let routes = self.router.routes(&tokens.logits, |_, expert| absent[expert]);
        let chosen = |token: usize, rank: usize| routes[token * 2 * used + rank] as usize;
        let present = self.after(tokens, routes.clone())?;
        let hidden = target.len() / (routes.len() / (2 * used)).max(1);
        let lost = weighed(wide_difference(&present, target), fisher, hidden);
        let mut changes = Vec::new();
        for rank in 0..used {
            let gone = |token: usize, expert: usize| absent[expert] || chosen(token, rank) == expert;
            let after = self.after(tokens, self.router.routes(&tokens.logits, gone))?;
            changes.push(weighed(wide_difference(&after, &present), fisher, hidden));
        }
        let terms = |token: usize| {
            let row = |values: &[f64]| -> Vec<f64> { values[token * hidden..(token + 1) * hidden].to_vec() };
            // Where too few experts are left, absent ones come last and lose nothing.
            let ranks: Vec<usize> = (0..used).filter(|&rank| !absent[chosen(token, rank)]).collect();
            let plain: Vec<Vec<f64>> = ranks.iter().map(|&rank| row(&changes[rank].plain)).collect();
            let by_fisher: Vec<Vec<f64>> = ranks.iter().map(|&rank| row(&changes[rank].weighed)).collect();
            let (loss, loss_by_fisher) = (row(&lost.plain), row(&lost.weighed));
            Terms {
                experts: ranks.iter().map(|&rank| chosen(token, rank)).collect(),
                linear: by_fisher.iter().map(|change| dot(&loss, change)).collect(),
                pairs: plain.iter().flat_map(|a| by_fisher.iter().map(|b| dot(a, b))).collect(),
                lost: dot(&loss, &loss_by_fisher),
            }
        };
        let all: Vec<Terms> = (0..target.len() / hidden).into_par_iter().map(terms).collect();
        all.iter().for_each(|terms| costs.add(terms));
        Ok(())
    }

    /// Adds for each expert the weight times the norm of its output over the tokens that are routed to it to `sums`, and their number to
    /// `counts`, both `[experts]`.
    pub(super) fn add_outputs(
        &self,
        tokens: &Tokens,
        (sums, counts): (&mut [f64], &mut [f64]),
    ) -> Result<(), PruneError> {
        let (_, used) = self.counts();
        let routes = self.router.routes(&tokens.logits, |_, _| false);
        // The output of an expert is what the stream gains by a weight of 1.
        let alone = |rank: Option<usize>| {
            let mut routes = routes.clone();
            for row in routes.chunks_exact_mut(2 * used) {
                row[used..].iter_mut().enumerate().for_each(|(i, w)| *w = f32::from(Some(i) == rank));
            }
            self.after(tokens, routes)
        };
        let none = alone(None)?;
        let hidden = none.len() / (routes.len() / (2 * used)).max(1);
        let unit = 1.0 / f64::from(self.stages.residual_scale());
        let outputs = (0..used).map(|rank| Ok(wide_difference(&alone(Some(rank))?, &none)));
        let outputs: Vec<Vec<f64>> = outputs.collect::<Result<_, ModelError>>()?;
        for (token, route) in routes.chunks_exact(2 * used).enumerate() {
            for (rank, outputs) in outputs.iter().enumerate() {
                let output = &outputs[token * hidden..(token + 1) * hidden];
                let expert = route[rank] as usize;
                sums[expert] += f64::from(route[used + rank]) * dot(output, output).sqrt() * unit;
                counts[expert] += 1.0;
            }
        }
        Ok(())
    }

    /// Returns the sum of the squares of the weights of all routes of `tokens`.
    pub(super) fn squared_weights(&self, tokens: &Tokens) -> f64 {
        let (_, used) = self.counts();
        let routes = self.router.routes(&tokens.logits, |_, _| false);
        let squares = routes.chunks_exact(2 * used).flat_map(|row| &row[used..]);
        squares.map(|&weight| f64::from(weight).powi(2)).sum()
    }
}

impl Tokens {
    /// Returns the state before the router.
    pub(super) fn into_state(self) -> State {
        self.state
    }
}

/// Returns `a - b`, element by element.
fn wide_difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

/// Changes of the stream `[tokens][hidden]`.
struct Changes {
    plain: Vec<f64>,
    /// The same times the Fisher matrix.
    weighed: Vec<f64>,
}

/// Returns `plain` `[tokens][hidden]` with its product with `fisher` `[hidden][hidden]`.
fn weighed(plain: Vec<f64>, fisher: Option<&[f64]>, hidden: usize) -> Changes {
    let weighed = match fisher {
        Some(fisher) => product_transposed(&plain, fisher, hidden),
        None => plain.clone(),
    };
    Changes { plain, weighed }
}
