//! What each tensor of a model costs at each type: data between whoever measures it and whoever chooses types by it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecipeError, TensorFacts};

/// Version of the file's form, which a reader must know.
pub const PRICES_VERSION: u32 = 1;

/// The prices of a model's tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceList {
    /// Version of the form.
    pub version: u32,
    /// What made the list and from what.
    pub origin: PriceOrigin,
    /// The tensors that may get another type, in the order of the output.
    pub tensors: Vec<TensorPrices>,
}

/// What prices were made with. They hold for files that are made likewise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceOrigin {
    /// What the costs are.
    pub unit: PriceUnit,
    /// Name of the encoder whose errors were priced.
    pub encoder: String,
    /// Whether errors are fed back over rows as well as columns.
    pub both_sides: bool,
    /// Names of the texts, or of the file, that the statistics are of.
    pub datasets: Vec<String>,
    /// Tokens of the statistics.
    pub tokens: u64,
}

/// What costs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceUnit {
    /// Nats of KL divergence per token, to second order.
    Nats,
    /// Errors of outputs relative to the outputs, weighted by importance: they order choices and predict no divergence.
    RelativeError,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorPrices {
    /// GGUF name.
    pub name: String,
    /// Dimensions, columns first.
    pub shape: Vec<u64>,
    /// What it costs at each type.
    pub prices: Vec<Price>,
}

/// One type of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes, without padding.
    pub bytes: u64,
    /// Cost, in the list's unit; none where the tensor cannot have the type, for want of importance.
    pub cost: Option<f64>,
}

impl PriceList {
    /// Reads the text of a price list.
    ///
    /// # Errors
    /// When it is no price list, of another version, or holds costs that no prices can be.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let bad = |what: String| RecipeError::Prices { what };
        let list: Self = serde_json::from_str(text)
            .map_err(|e| bad(format!("is no price list of `kquant prices`: {e}")))?;
        if list.version != PRICES_VERSION {
            return Err(bad(format!(
                "has version {}, and this kquant reads version {PRICES_VERSION}; make it again",
                list.version
            )));
        }
        for tensor in &list.tensors {
            let odd = |p: &&Price| p.cost.is_some_and(|cost| !cost.is_finite() || cost < 0.0);
            if let Some(Price { kind, cost: Some(cost), .. }) = tensor.prices.iter().find(odd) {
                return Err(bad(format!("tensor `{}`: {cost} is no price of {kind}", tensor.name)));
            }
        }
        Ok(list)
    }

    /// Checks that the list is of a model that has `tensors`: every priced one of these has its shape.
    ///
    /// # Errors
    /// [`RecipeError::Prices`] naming the first tensor that differs.
    pub fn check(&self, tensors: &[TensorFacts]) -> Result<(), RecipeError> {
        let shapes: BTreeMap<&str, &[u64]> = tensors.iter().map(|t| (t.name, t.shape)).collect();
        let differs = |t: &&TensorPrices| shapes.get(t.name.as_str()).is_none_or(|&shape| shape != t.shape);
        self.tensors.iter().find(differs).map_or(Ok(()), |t| {
            let what = match shapes.get(t.name.as_str()) {
                Some(shape) => format!("is {shape:?} in the model and {:?} in the list", t.shape),
                None => "is not in the model".to_owned(),
            };
            Err(RecipeError::Prices { what: format!("is of another model: tensor `{}` {what}", t.name) })
        })
    }

    /// The prices of the tensor `name`.
    pub fn of(&self, name: &str) -> Option<&TensorPrices> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

impl TensorPrices {
    /// What the tensor costs as `kind`, if that was priced and can be had.
    pub fn cost(&self, kind: &str) -> Option<f64> {
        self.prices.iter().find(|p| p.kind == kind)?.cost
    }

    /// Whether the list says that the tensor cannot be `kind`.
    pub fn rules_out(&self, kind: &str) -> bool {
        self.prices.iter().any(|p| p.kind == kind && p.cost.is_none())
    }
}
