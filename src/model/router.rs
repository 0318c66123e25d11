//! The routing of tokens as it would be without some experts.

use super::ops::{route, scale_experts};
use super::rope::Ropes;
use super::stages::{Stage, Stages, State};
use super::steps::{BoundSteps, Positions};
use super::tile::Tile;
use super::weights::WeightSource;
use super::{ModelError, routed};
use crate::graph::{Experts, Op, Slot};

/// The router of a layer, with its weights.
pub(crate) struct Router {
    /// The linear map from the normed stream to logits.
    steps: BoundSteps,
    experts: Experts,
    /// Correction of the scores, `[experts]`.
    correction: Option<Vec<f32>>,
    /// Factor of each expert's weight, `[experts]`, if experts have some.
    factors: Option<Vec<f32>>,
}

impl Stages<'_> {
    /// Reads the router that follows `stage`; `None` if what follows is no router.
    ///
    /// # Errors
    /// Fails when its weights cannot be read.
    pub(crate) fn router(&self, stage: &Stage) -> Result<Option<Router>, ModelError> {
        let model = self.model();
        let layer = stage.layer();
        let Some(group) = stage.group.as_ref().filter(|group| group.ops.len() == 1) else { return Ok(None) };
        let Some(Op::Route { bias }) = model.ops(layer)?.get(group.ops.end) else { return Ok(None) };
        let source = WeightSource { model, layer, replaced: None };
        let factors = match model.ops(layer)?.get(group.ops.end + 1) {
            Some(Op::ScaleExperts { name }) => Some(source.whole(name)?),
            _ => None,
        };
        Ok(Some(Router {
            steps: model.steps(layer, group.ops.clone(), None)?,
            experts: model.experts(&source.full(bias))?.clone(),
            correction: source.bias(bias)?,
            factors,
        }))
    }

    /// Returns the router's logits `[tokens][experts]` for the `state` after `stage`, which the router follows.
    pub(crate) fn router_logits(
        &self,
        router: &Router,
        stage: &Stage,
        state: State,
    ) -> Result<Vec<f32>, ModelError> {
        let mut tile = Tile::new(self.context());
        tile.set(stage.exit(), state, self.model().hyper.hidden, 0);
        let ropes: &Ropes = self.ropes();
        router.steps.run(&mut tile, &mut Positions::of_chunks(ropes), &mut None)?;
        Ok(tile.take_slot(Slot::Router))
    }
}

impl Router {
    /// Returns the number of experts, and the number of those that a token is routed to.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.experts.count, self.experts.used)
    }

    /// Returns the experts of each token, best first, and their weights, `[tokens][2 * used]`, for `logits` `[tokens][experts]`, as if
    /// the router had no rows for the experts that `is_absent` is true for, given a token and an expert.
    ///
    /// Where fewer experts are present than are used, absent ones come last, with a weight of 0.
    pub(crate) fn routes(&self, logits: &[f32], is_absent: impl Fn(usize, usize) -> bool) -> Vec<f32> {
        let (count, width) = (self.experts.count, routed::Routes::width(&self.experts));
        let mut routes = vec![0.0; logits.len() / count * width];
        let rows = logits.chunks_exact(count).zip(routes.chunks_exact_mut(width)).enumerate();
        for (token, (logits, routes)) in rows {
            let mask = |values: &[f32]| -> Vec<f32> {
                let or_none = |(expert, &value)| match is_absent(token, expert) {
                    true => f32::NEG_INFINITY,
                    false => value,
                };
                values.iter().enumerate().map(or_none).collect()
            };
            let correction = self.correction.as_deref().map(mask);
            route(&self.experts, correction.as_deref(), &mask(logits), routes);
            if let Some(factors) = &self.factors {
                scale_experts(factors, routes);
            }
        }
        routes
    }
}

impl Stage {
    /// Puts `routes` `[tokens][2 * used]` in the place of those in the `state` after this stage.
    ///
    /// # Errors
    /// Fails when no experts follow.
    pub(crate) fn reroute(&self, state: &mut State, routes: Vec<f32>) -> Result<(), ModelError> {
        let at = self.exit().iter().position(|&slot| slot == Slot::Routes);
        match at.and_then(|at| state.get_mut(at)) {
            Some(values) => *values = routes,
            None => {
                let what = "has no routes after its router".into();
                return Err(ModelError::Graph { layer: self.layer(), what });
            }
        }
        Ok(())
    }
}
