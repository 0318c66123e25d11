//! Prices of the embedding table and of the output projection, whose rows are tokens.

use super::error::PriceError;
use super::linear::rounded_error;
use super::measure::{Costs, Pricing};
use super::rounded::Rounding;
use super::sample::Sample;
use crate::context::Context;
use crate::encode::feedback::{Damping, Feedback, FeedbackError, Hessian, losses_of_rows};
use crate::model::{EMBEDDING, OUTPUT};
use crate::statistics::{Half, HessianFile};
use crate::tensor::MappedTensor;

/// One thing that a table is for: an error e of row v costs `1/2 weights[v] e H e'`.
struct TableRole {
    hessian: Hessian,
    /// `[rows]`
    weights: Vec<f64>,
}

impl Pricing<'_> {
    /// Costs of the table `tensor`, the embeddings or the output projection; `None` where `file` does not know what it is for.
    pub(super) fn table(
        &self,
        tensor: &MappedTensor,
        file: &HessianFile,
        context: &Context,
    ) -> Result<Option<Costs>, PriceError> {
        let (rows, columns) = (tensor.rows(), tensor.columns());
        let needed = 4 * (6 * columns * columns + 8 * rows);
        if needed > context.memory {
            return Err(PriceError::Memory { tensor: tensor.name.clone(), needed });
        }
        let Some(roles) = self.roles(tensor, file)? else { return Ok(None) };
        let differs =
            |role: &&TableRole| role.hessian.columns as u64 != columns || role.weights.len() as u64 != rows;
        if let Some(role) = roles.iter().find(differs) {
            let (what, found, expected) = match role.hessian.columns as u64 {
                found if found != columns => ("columns", found, columns),
                _ => ("rows", role.weights.len() as u64, rows),
            };
            return Err(PriceError::OtherModel { tensor: tensor.name.clone(), what, found, expected });
        }
        self.table_costs(tensor, &roles, file).map(Some)
    }

    /// What the table is for; `None` where that is not known.
    fn roles(&self, tensor: &MappedTensor, file: &HessianFile) -> Result<Option<Vec<TableRole>>, PriceError> {
        let curvatures = file.output_fisher()?.map(|all| all.into_iter().map(f64::from).collect::<Vec<_>>());
        let projection = || -> Result<Option<TableRole>, PriceError> {
            let Some(group) = file.group_of(OUTPUT) else { return Ok(None) };
            let hessian = group.read(0, Half::Train)?;
            let role =
                hessian.zip(curvatures.clone()).map(|(hessian, weights)| TableRole { hessian, weights });
            Ok(role)
        };
        if tensor.name == OUTPUT {
            return Ok(projection()?.map(|role| vec![role]));
        }
        let Some(hessian) = file.fisher(EMBEDDING)? else { return Ok(None) };
        let scale = f64::from(self.model.hyper.embedding_scale).powi(2);
        // How often a token is looked up follows from how often it is predicted.
        let lookups = curvatures.clone().unwrap_or_else(|| vec![1.0; tensor.rows() as usize]);
        let all: f64 = lookups.iter().sum();
        let weights = lookups.iter().map(|n| scale * n / all.max(f64::MIN_POSITIVE)).collect();
        let lookup = TableRole { hessian, weights };
        if !self.model.is_tied() {
            return Ok(Some(vec![lookup]));
        }
        Ok(projection()?.map(|projection| vec![lookup, projection]))
    }

    fn table_costs(
        &self,
        tensor: &MappedTensor,
        roles: &[TableRole],
        file: &HessianFile,
    ) -> Result<Costs, PriceError> {
        let columns = tensor.columns() as usize;
        let traces: Vec<f64> = roles.iter().map(|role| trace(&role.hessian)).collect();
        let weight = |row: usize| -> f64 {
            roles.iter().zip(&traces).map(|(role, trace)| role.weights[row] * trace).sum()
        };
        let weights: Vec<f64> = (0..tensor.rows() as usize).map(weight).collect();
        let sample = Sample::new(&weights, Self::sampled_rows(columns));
        let values = self.read(tensor, 0, &sample.parts)?;
        let rows = Self::rows(tensor, 0, &sample.parts, &values);
        let importance = self.table_importance(tensor, file);
        let rounding =
            Rounding { encoder: self.encoder, layers: self.layers, importance: importance.as_deref() };
        let types = self.types_for(tensor);
        let mut order: Vec<usize> = (0..types.len()).collect();
        order.sort_by_key(|&i| self.unit_of(types[i]));
        let mut feedback = self.table_feedback(tensor, roles)?;
        let mut costs = vec![None; types.len()];
        // A calibrated run knows no importance of tables.
        let known = importance.is_some() && self.layers.is_none();
        for i in order.into_iter().filter(|&i| self.can_have(types[i], known)) {
            let errors = rows.errors(types[i], feedback.as_mut(), &rounding);
            let errors = errors.map_err(|error| rounded_error(&tensor.name, error))?;
            let losses: Vec<Vec<f64>> =
                roles.iter().map(|role| losses_of_rows(&role.hessian, &errors)).collect();
            let measured: Vec<f64> = sample
                .parts
                .iter()
                .enumerate()
                .map(|(at, &row)| {
                    let loss: f64 =
                        roles.iter().zip(&losses).map(|(role, all)| role.weights[row] * all[at]).sum();
                    if weights[row] > 0.0 { loss / weights[row] } else { 0.0 }
                })
                .collect();
            costs[i] = Some(0.5 * sample.total(&measured));
        }
        Ok(costs)
    }

    /// The factored Hessian that the table's columns are rounded with, where they get feedback.
    fn table_feedback(
        &self,
        tensor: &MappedTensor,
        roles: &[TableRole],
    ) -> Result<Option<Feedback>, PriceError> {
        let gets = if tensor.name == OUTPUT { self.with_output } else { self.uses_fishers() };
        let Some((first, rest)) = roles.split_first().filter(|_| gets && self.layers.is_some()) else {
            return Ok(None);
        };
        let mut hessian = first.hessian.clone();
        let sum = |role: &TableRole| role.weights.iter().sum::<f64>() as f32;
        let own = if rest.is_empty() { 1.0 } else { sum(first) };
        hessian.mean.iter_mut().for_each(|x| *x *= own);
        for role in rest {
            let share = sum(role);
            hessian.mean.iter_mut().zip(&role.hessian.mean).for_each(|(x, y)| *x += share * y);
        }
        let damping = Damping::for_tokens(hessian.columns, hessian.tokens);
        match Feedback::new(hessian, damping) {
            Ok(feedback) => Ok(Some(feedback)),
            Err(FeedbackError::Inactive) => Ok(None),
            Err(source) => Err(PriceError::Factor { tensor: tensor.name.clone(), source }),
        }
    }

    /// The importance of the table's columns as the encoder is given it; a tied table is known under the output projection's name, too.
    fn table_importance(&self, tensor: &MappedTensor, file: &HessianFile) -> Option<Vec<f32>> {
        let entries = &file.importance().entries;
        let other = || entries.get(OUTPUT).filter(|_| self.model.is_tied());
        let all = entries.get(&tensor.name).or_else(other)?.importance();
        let columns = tensor.columns() as usize;
        (all.len() == columns).then(|| self.encoder.prepare_importance(&all, columns))
    }
}

fn trace(hessian: &Hessian) -> f64 {
    hessian.diagonal().into_iter().map(f64::from).sum()
}
