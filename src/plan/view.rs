//! A plan as data to print, store and hash.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::encode::Encoder;
use crate::hash::Hex;
use crate::plan::{Plan, PlannedTensor};
use crate::recipe::{Allocated, PriceUnit};
use crate::tensor::{RowOrder, Source};

/// A type that a row length ruled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FallbackView {
    /// The type that the recipe asked for.
    pub wanted: &'static str,
    /// Why it cannot be.
    pub why: String,
}

/// One output tensor.
#[derive(Debug, Clone, Serialize)]
pub struct TensorView<'a> {
    /// GGUF name.
    pub name: &'a str,
    /// Dimensions, columns first.
    pub shape: &'a [u64],
    /// Name in the checkpoint.
    pub source: &'a str,
    /// Type in the checkpoint.
    pub source_type: &'a str,
    /// How its rows are rearranged.
    pub rows: String,
    /// Type in the output.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Whether importance is used.
    pub importance: bool,
    /// Bytes in the output, without padding.
    pub bytes: u64,
    /// Bits per weight.
    pub bits_per_weight: f64,
    /// Output file.
    pub file: usize,
    /// First byte in that file.
    pub offset: u64,
    /// The type that was not possible, and why.
    pub fallback: Option<&'a FallbackView>,
    /// The price of the tensor at its type, where types were chosen by prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

/// How types were chosen by prices.
#[derive(Debug, Clone, Serialize)]
pub struct AllocationView<'a> {
    /// What the file was to be.
    pub target: String,
    /// The menu.
    pub menu: &'a str,
    /// The unit of prices.
    pub unit: PriceUnit,
    /// Sum of the prices of all tensors: the predicted KL divergence where the unit is nats.
    pub predicted: f64,
    /// No choice of the menu's types has a lower sum at this size.
    pub bound: f64,
    /// Bytes of the target that no choice of the menu's types needs.
    #[serde(skip_serializing_if = "is_zero")]
    pub unneeded: u64,
    /// Each type of the menu for phones that the file uses, with the runtimes that have kernels for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<(&'static str, Vec<&'static str>)>,
}

/// A whole plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanView<'a> {
    /// Name of the encoder.
    pub encoder: &'a str,
    /// All output tensors, in file order.
    pub tensors: Vec<TensorView<'a>>,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of tensor data, without padding.
    pub tensor_bytes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Of all weights.
    pub bits_per_weight: f64,
    /// Tensors whose type was not possible.
    pub fallbacks: usize,
    /// Share of the weights in such tensors, 0 to 1.
    pub fallback_weights: f64,
    /// How the types were chosen, where that was by prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationView<'a>>,
    /// SHA-256 of each file's metadata.
    pub metadata_sha256: Vec<String>,
    /// What a user should know.
    pub warnings: &'a [String],
    /// What is no fault, but good to know.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub notes: &'a [String],
}

impl Plan {
    /// The plan as data.
    pub fn view<'a>(&'a self, checkpoint: &'a dyn Checkpoint, encoder: &dyn Encoder) -> PlanView<'a> {
        let weights: u64 = self.tensors.iter().map(|t| t.mapped.weights()).sum();
        let tensor_bytes: u64 = self.tensors.iter().map(|t| t.bytes).sum();
        let fallen: Vec<_> = self.tensors.iter().filter(|t| t.fallback.is_some()).collect();
        let fallen_weights: u64 = fallen.iter().map(|t| t.mapped.weights()).sum();
        PlanView {
            encoder: encoder.name(),
            tensors: self.tensors.iter().map(|t| tensor_view(t, checkpoint)).collect(),
            weights,
            tensor_bytes,
            file_bytes: self.files.iter().map(|f| f.bytes).sum(),
            bits_per_weight: bits(tensor_bytes, weights),
            fallbacks: fallen.len(),
            fallback_weights: fallen_weights as f64 / weights.max(1) as f64,
            allocation: None,
            metadata_sha256: self.files.iter().map(|f| Sha256::digest(&f.header).hex()).collect(),
            warnings: &self.warnings,
            notes: &self.notes,
        }
    }
}

impl<'a> PlanView<'a> {
    /// The view with the prices by which `allocated` chose the types; its choices are in the order of the tensors.
    pub fn with_prices(mut self, allocated: &'a Allocated) -> Self {
        for (tensor, &cost) in self.tensors.iter_mut().zip(&allocated.costs) {
            tensor.price = cost;
        }
        let used = |kind: &str| allocated.choices.iter().any(|choice| choice.block.name == kind);
        let kernels = allocated.menu.types.iter().filter(|t| used(t.name));
        let kernels = kernels.map(|t| (t.name, allocated.menu.kernels(t.name)));
        self.allocation = Some(AllocationView {
            target: allocated.target.to_string(),
            menu: &allocated.menu.name,
            unit: allocated.unit,
            predicted: allocated.cost,
            bound: allocated.bound,
            unneeded: allocated.unneeded,
            kernels: kernels.filter(|(_, runtimes)| !runtimes.is_empty()).collect(),
        });
        self
    }

    /// SHA-256 of the plan as JSON: equal plans over equal inputs give equal bytes.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn sha256(&self) -> serde_json::Result<String> {
        Ok(Sha256::digest(serde_json::to_vec(self)?).hex())
    }
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

fn bits(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights.max(1) as f64
}

/// Says how the rows follow from the checkpoint's.
fn origin(source: &Source) -> String {
    match source {
        Source::Tensor { rows: RowOrder::Same, .. } => "same".to_owned(),
        Source::Tensor { rows: RowOrder::RotaryPart { heads, rotary }, .. } => {
            format!("first {rotary} rows of {heads} heads as rotary pairs")
        }
        Source::Tensor { rows: RowOrder::RotaryPairs { heads }, .. } => {
            format!("rotary pairs of {heads} heads")
        }
        Source::Tensor { rows: RowOrder::Picked { first, step, .. }, .. } => {
            format!("some, from {first} in steps of {step}")
        }
        Source::Tensor { rows: RowOrder::Tiled { groups, .. }, .. } => {
            format!("{groups} groups that take turns")
        }
        Source::Tensor { rows: RowOrder::Regrouped { queries, .. }, .. } => {
            format!("{} parts taken apart", queries + 2)
        }
        Source::Tensor { rows: RowOrder::Flat, .. } => "a vector cut into rows".to_owned(),
        Source::Tensor { rows: RowOrder::Transposed { .. }, .. } => "transposed".to_owned(),
        Source::Shifted { by, .. } => format!("with {by} added"),
        Source::Stacked { indices } => format!("{} stacked", indices.len()),
        Source::Scaled { of, .. } => format!("times factors: {}", origin(&of.source)),
        Source::Rates { of } => format!("rates of: {}", origin(&of.source)),
        Source::Values(_) => "computed".to_owned(),
        Source::Selected { of, selection } => {
            let lists = [
                (&selection.matrices, "matrices"),
                (&selection.rows, "rows"),
                (&selection.columns, "columns"),
            ];
            let taken: Vec<String> =
                lists.iter().filter_map(|(l, what)| Some(format!("{} {what}", l.as_ref()?.len()))).collect();
            format!("{} of: {}", taken.join(", "), origin(&of.source))
        }
        Source::Changed { .. } => "changed".to_owned(),
    }
}

fn tensor_view<'a>(t: &'a PlannedTensor, checkpoint: &'a dyn Checkpoint) -> TensorView<'a> {
    let rows = origin(&t.mapped.source);
    TensorView {
        name: &t.mapped.name,
        shape: &t.mapped.shape,
        source: t.mapped.source_name(checkpoint),
        source_type: t.source_type,
        rows,
        kind: t.block.name,
        importance: t.importance,
        bytes: t.bytes,
        bits_per_weight: bits(t.bytes, t.mapped.weights()),
        file: t.file,
        offset: t.offset,
        fallback: t.fallback.as_ref(),
        price: None,
    }
}
