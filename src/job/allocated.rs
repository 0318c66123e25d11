//! A plan whose types are chosen by prices.

use kquant_formats::gguf::{Metadata, Value};

use crate::plan::{self, ImportanceMap, Plan, PlanError};
use crate::recipe::{Allocated, Allocation, Choice, Market, ModelFacts, PriceUnit, Reason};

/// Bytes that a file of `allocation` takes besides tensor data, and the alignment of these: they do not depend on the types, so a plan that
/// keeps every tensor has them.
pub(super) fn overhead(allocation: &Allocation, request: &plan::Request) -> Result<(u64, u64), PlanError> {
    let mut provenance = request.provenance.clone();
    record(allocation, 0.0, &mut provenance);
    let kept: Vec<Choice> = request
        .inventory
        .facts()
        .iter()
        .map(|t| Choice { block: t.source, reason: Reason::Kept, fallback: None })
        .collect();
    let (plan, _) = plan::build(&plan::Request { choices: &kept, provenance: &provenance, ..*request })?;
    let alignment = plan.files.first().map_or(1, |file| file.alignment);
    let data: u64 = plan.tensors.iter().map(|t| t.bytes.next_multiple_of(alignment)).sum();
    let files: u64 = plan.files.iter().map(|f| f.bytes).sum();
    Ok((files.saturating_sub(data), alignment))
}

/// Plans the tensors of `request` with the types that `allocation` chooses. Choices, file type and keys take the place of those of
/// `request`.
pub(super) fn allocated(
    allocation: &Allocation,
    model: &ModelFacts,
    request: &plan::Request,
) -> Result<(Plan, ImportanceMap, Option<Allocated>), PlanError> {
    let mut provenance = request.provenance.clone();
    let facts = request.inventory.facts();
    let outside = overhead(allocation, request)?;
    let market = Market::new(allocation, model, &facts, outside)?;
    let allocated = market.allocate()?;
    record(allocation, allocated.cost, &mut provenance);
    let Allocated { choices, file_type, .. } = &allocated;
    let request = plan::Request { choices, file_type, provenance: &provenance, ..*request };
    let (plan, importance) = plan::build(&request)?;
    Ok((plan, importance, Some(allocated)))
}

/// Sets the keys `kquant.types.*`, which say how the types were chosen; their length does not depend on the choice.
fn record(allocation: &Allocation, cost: f64, metadata: &mut Metadata) {
    let origin = &allocation.prices.origin;
    metadata.set("kquant.types.target", allocation.target.to_string().as_str().into());
    metadata.set("kquant.types.menu", allocation.menu.name.as_str().into());
    metadata.set("kquant.types.prices_encoder", origin.encoder.as_str().into());
    metadata.set("kquant.types.prices_text", origin.datasets.join(", ").as_str().into());
    if origin.unit == PriceUnit::Nats {
        metadata.set("kquant.types.predicted_kl", Value::F64(cost));
    }
}
