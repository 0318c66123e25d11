//! What each tensor can be had for: its fixed type, or the types of the menu with their bytes and prices.

use kquant_kernels::block::BlockType;

use super::Allocation;
use super::solve::Offer;
use crate::recipe::fallback::{ANY_LENGTH, fits};
use crate::recipe::roles::role_of;
use crate::recipe::{
    Choice, Fallback, ModelFacts, PriceUnit, Reason, RecipeError, TensorFacts, eligible, fallback, types,
};
use crate::tensor::TensorName;

/// What of the price of a tensor inside a layer is left when each layer repairs what those before it lost: the mean over six types of what
/// corrected targets add to feedback over both sides, by KL divergence on a small trained model (`docs/measurements.md`).
const REPAIRED: f64 = 0.73;

/// One tensor's offers.
pub(super) enum Offered {
    /// Its type is not to be chosen.
    Fixed {
        choice: Choice,
        /// Padded bytes.
        bytes: u64,
        /// Its price, where the list has it.
        cost: Option<f64>,
    },
    /// One of these, in the order of the menu.
    Open { blocks: Vec<&'static BlockType>, offers: Vec<Offer> },
}

impl Offered {
    /// Bytes of a tensor whose type is fixed.
    pub(super) fn fixed_bytes(&self) -> Option<u64> {
        if let Self::Fixed { bytes, .. } = self { Some(*bytes) } else { None }
    }

    /// The price of a tensor whose type is fixed.
    pub(super) fn fixed_cost(&self) -> Option<f64> {
        if let Self::Fixed { cost, .. } = self { *cost } else { None }
    }

    /// The offers to choose from.
    pub(super) fn items(&self) -> Option<Vec<Offer>> {
        if let Self::Open { offers, .. } = self { Some(offers.clone()) } else { None }
    }

    /// The smallest offer, or the one that no larger one betters; of equal ones the cheaper.
    pub(super) fn end(&self, smallest: bool) -> Option<Offer> {
        let Self::Open { offers, .. } = self else { return None };
        let by_bytes = |a: &&Offer, b: &&Offer| a.bytes.cmp(&b.bytes).then(a.cost.total_cmp(&b.cost));
        let by_cost = |a: &&Offer, b: &&Offer| a.cost.total_cmp(&b.cost).then(a.bytes.cmp(&b.bytes));
        let end = if smallest { offers.iter().min_by(by_bytes) } else { offers.iter().min_by(by_cost) };
        end.copied()
    }

    /// The tensor's choice and price; an open one takes its pick from `picks`.
    pub(super) fn choose<'a>(&self, picks: &mut impl Iterator<Item = &'a usize>) -> (Choice, Option<f64>) {
        match self {
            Self::Fixed { choice, cost, .. } => (choice.clone(), *cost),
            Self::Open { blocks, offers } => {
                let pick = picks.next().copied().unwrap_or_default();
                let choice = Choice { block: blocks[pick], reason: Reason::Price, fallback: None };
                (choice, Some(offers[pick].cost))
            }
        }
    }
}

/// What `tensor` costs as `block`: nothing in its own type, otherwise its price, if there is one.
pub(super) fn price(allocation: &Allocation, tensor: &TensorFacts, block: &'static BlockType) -> Option<f64> {
    if block == tensor.source {
        return Some(0.0);
    }
    let repaired = allocation.repaired && allocation.prices.origin.unit == PriceUnit::Nats;
    let share = if repaired && TensorName(tensor.name).is_in_layers() { REPAIRED } else { 1.0 };
    Some(share * allocation.prices.of(tensor.name)?.cost(block.name)?)
}

/// The offers of all `tensors`, padded to `alignment` bytes.
pub(super) fn offered(
    allocation: &Allocation,
    model: &ModelFacts,
    tensors: &[TensorFacts],
    alignment: u64,
) -> Result<Vec<Offered>, RecipeError> {
    tensors.iter().map(|tensor| of_tensor(allocation, model, tensor, alignment)).collect()
}

fn of_tensor(
    allocation: &Allocation,
    model: &ModelFacts,
    tensor: &TensorFacts,
    alignment: u64,
) -> Result<Offered, RecipeError> {
    let overrides = &allocation.overrides;
    let fixed = |choice: Choice| -> Result<Offered, RecipeError> {
        let bytes = padded_bytes(tensor, choice.block, alignment)?;
        let cost = price(allocation, tensor, choice.block);
        Ok(Offered::Fixed { choice, bytes, cost })
    };
    if !eligible::may_convert(&model.arch, overrides.leave_output_tensor, tensor) {
        return fixed(Choice { block: tensor.source, reason: Reason::Kept, fallback: None });
    }
    if let Some(named) = overrides.named(tensor.name, role_of(&model.arch, tensor.name)) {
        let (block, fallback) = fallback::fit(named, tensor.columns())?;
        return fixed(Choice { block, reason: Reason::Override, fallback });
    }
    let prices = allocation.prices.of(tensor.name);
    let can_be = |block: &BlockType| prices.is_none_or(|prices| !prices.rules_out(block.name));
    let fitting: Vec<&'static BlockType> = allocation
        .menu
        .types
        .iter()
        .copied()
        .filter(|block| fits(block, tensor.columns()) && can_be(block))
        .collect();
    let Some(&first) = allocation.menu.types.first().filter(|_| fitting.is_empty()) else {
        return open(allocation, tensor, fitting, alignment);
    };
    let why = format!("rows of {} fit no type of the menu", tensor.columns());
    let fallback = Some(Fallback { wanted: first, why });
    fixed(Choice { block: types::of_table(ANY_LENGTH)?, reason: Reason::Price, fallback })
}

/// The types of `blocks` at their prices, and the tensor's own type, which costs nothing, where it is quantized.
fn open(
    allocation: &Allocation,
    tensor: &TensorFacts,
    blocks: Vec<&'static BlockType>,
    alignment: u64,
) -> Result<Offered, RecipeError> {
    let own = Some(tensor.source).filter(|source| source.quantized && !blocks.contains(source));
    let blocks: Vec<_> = blocks.into_iter().chain(own).collect();
    let offer = |block: &&'static BlockType| {
        let missing = || unpriced(allocation, tensor, block);
        let cost = price(allocation, tensor, block).ok_or_else(missing)?;
        Ok(Offer { bytes: padded_bytes(tensor, block, alignment)?, cost })
    };
    let offers = blocks.iter().map(offer).collect::<Result<_, RecipeError>>()?;
    Ok(Offered::Open { blocks, offers })
}

fn unpriced(allocation: &Allocation, tensor: &TensorFacts, block: &BlockType) -> RecipeError {
    let tensor = tensor.name.to_owned();
    match allocation.prices.of(&tensor) {
        Some(_) => RecipeError::Unpriced { tensor, block: block.name },
        None => RecipeError::NoPrices { tensor },
    }
}

/// Bytes of `tensor` as `block`, padded to a multiple of `alignment`.
pub(super) fn padded_bytes(
    tensor: &TensorFacts,
    block: &'static BlockType,
    alignment: u64,
) -> Result<u64, RecipeError> {
    let rows = tensor.shape.iter().skip(1).try_fold(1u64, |rows, &n| rows.checked_mul(n));
    let bytes = block.row_bytes(tensor.columns()).zip(rows).and_then(|(row, rows)| row.checked_mul(rows));
    bytes.and_then(|bytes| bytes.checked_next_multiple_of(alignment)).ok_or_else(|| RecipeError::Size {
        tensor: tensor.name.to_owned(),
        columns: tensor.columns(),
        block: block.name,
    })
}
