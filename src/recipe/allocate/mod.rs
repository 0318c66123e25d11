//! Types by what they cost: for a number of bytes, or a divergence, the choice with the least sum of prices.
//!
//! llama-quantize's mixtures are tables that were tuned on models of one family. Here each tensor has a price at each type
//! ([`PriceList`]), and errors of different tensors add up to second order, so the best file of a size is a knapsack problem (`solve`).
//!
//! | file | what |
//! |---|---|
//! | `curve` | the choices of all sizes, and llama-quantize's file types beside them |
//! | `menu` | the types to choose from |
//! | `offers` | what each tensor can be had for |
//! | `solve` | the choice |
//! | `target` | what is asked for |

mod curve;
mod menu;
mod offers;
mod solve;
mod target;
#[cfg(test)]
mod tests;

use kquant_kernels::block::{BlockType, TYPES};

use super::{
    Choice, FILE_TYPES, FileType, ModelFacts, Overrides, PriceList, PriceUnit, RecipeError, TensorFacts,
};
use offers::{Offered, offered};
use solve::{Offer, Solution, solve};

pub use curve::{FileTypePoint, FileTypePoints};
pub use menu::Menu;
pub use target::Target;

/// How types are chosen by prices.
#[derive(Debug, Clone)]
pub struct Allocation {
    /// What the file is to be.
    pub target: Target,
    /// The types to choose from.
    pub menu: Menu,
    /// What tensors cost at them.
    pub prices: PriceList,
    /// Types that the user names; they hold.
    pub overrides: Overrides,
    /// Whether the layers will be encoded one after the other, each repairing what those before it lost.
    pub repaired: bool,
}

/// What was chosen.
#[derive(Debug, Clone)]
pub struct Allocated {
    /// What the file was to be.
    pub target: Target,
    /// The menu that the types are from.
    pub menu: Menu,
    /// The unit of costs.
    pub unit: PriceUnit,
    /// The type of each tensor.
    pub choices: Vec<Choice>,
    /// The price of each tensor at its type, where it is known.
    pub costs: Vec<Option<f64>>,
    /// The file type that stands for most weights.
    pub file_type: &'static FileType,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the target that no choice of the menu's types needs.
    pub unneeded: u64,
    /// Sum of the prices, in the list's unit.
    pub cost: f64,
    /// No choice of the menu's types has a lower sum at this size.
    pub bound: f64,
}

/// What files the menu can make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Bytes of the smallest and of the largest file.
    pub bytes: [u64; 2],
    /// Their sums of prices.
    pub costs: [f64; 2],
}

/// A model's offers, ready to be solved for any number of targets.
pub struct Market<'a> {
    /// Bytes that each tensor's data is padded to a multiple of.
    alignment: u64,
    allocation: &'a Allocation,
    tensors: &'a [TensorFacts<'a>],
    offered: Vec<Offered>,
    /// Bytes of the file besides the tensors that are chosen for.
    fixed: u64,
}

impl Allocation {
    /// The block types that need prices: the menu's and those that the user names.
    pub fn priced_types(menu: &Menu, overrides: &Overrides) -> Vec<&'static BlockType> {
        let named = overrides.tensor_types.iter().map(|t| t.block);
        let special = overrides.output_tensor_type.into_iter().chain(overrides.token_embedding_type);
        let wanted: Vec<_> = menu.types.iter().copied().chain(named).chain(special).collect();
        TYPES.iter().copied().filter(|block| wanted.contains(block)).collect()
    }
}

impl<'a> Market<'a> {
    /// The offers of `allocation` for `tensors`, all that the output has. `overhead` is what the file takes besides tensor data;
    /// the data of each tensor is padded to `alignment` bytes.
    ///
    /// # Errors
    /// [`RecipeError`] when prices are missing or of another model, or an option has no effect.
    pub fn new(
        allocation: &'a Allocation,
        model: &ModelFacts,
        tensors: &'a [TensorFacts<'a>],
        (overhead, alignment): (u64, u64),
    ) -> Result<Self, RecipeError> {
        allocation.prices.check(tensors)?;
        allocation.overrides.check(&model.arch, tensors)?;
        let offered = offered(allocation, model, tensors, alignment)?;
        let fixed = overhead + offered.iter().filter_map(Offered::fixed_bytes).sum::<u64>();
        Ok(Self { alignment, allocation, tensors, offered, fixed })
    }

    /// Padded bytes and price of `tensor` as `block`; `None` where its rows are no whole blocks, no price where that is not known.
    fn offer(&self, tensor: &TensorFacts, block: &'static BlockType) -> Option<(u64, Option<f64>)> {
        let bytes = offers::padded_bytes(tensor, block, self.alignment).ok()?;
        let cost = offers::price(self.allocation, tensor, block);
        Some((bytes, cost))
    }

    /// Weights of all tensors.
    fn weights(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum()
    }

    /// Bytes of the file besides tensor data.
    fn overhead(&self) -> u64 {
        self.fixed - self.offered.iter().filter_map(Offered::fixed_bytes).sum::<u64>()
    }

    /// The smallest and the largest file.
    pub fn range(&self) -> Range {
        let ends = |smallest: bool| {
            let ends = self.offered.iter().filter_map(|offered| offered.end(smallest));
            ends.fold((self.fixed, self.known_cost()), |(bytes, cost), offer| {
                (bytes + offer.bytes, cost + offer.cost)
            })
        };
        let (least, most) = (ends(true), ends(false));
        Range { bytes: [least.0, most.0], costs: [least.1, most.1] }
    }

    /// The prices of tensors whose type is fixed.
    fn known_cost(&self) -> f64 {
        self.offered.iter().filter_map(Offered::fixed_cost).sum()
    }

    /// The best file of at most `bytes` bytes; `None` where the smallest is larger.
    pub fn within(&self, bytes: u64) -> Option<Allocated> {
        let items: Vec<Vec<Offer>> = self.offered.iter().filter_map(Offered::items).collect();
        let solution = solve(&items, bytes.checked_sub(self.fixed)?)?;
        Some(self.allocated(&solution))
    }

    /// Puts the picks of `solution` between the tensors whose type is fixed.
    fn allocated(&self, solution: &Solution) -> Allocated {
        let mut picks = solution.picks.iter();
        let (mut choices, mut costs) = (Vec::new(), Vec::new());
        for offered in &self.offered {
            let (choice, cost) = offered.choose(&mut picks);
            choices.push(choice);
            costs.push(cost);
        }
        Allocated {
            target: self.allocation.target,
            menu: self.allocation.menu.clone(),
            unit: self.allocation.prices.origin.unit,
            file_type: self.file_type(&choices),
            choices,
            costs,
            bytes: self.fixed + solution.bytes,
            unneeded: 0,
            cost: self.known_cost() + solution.cost,
            bound: self.known_cost() + solution.bound,
        }
    }

    /// The first file type whose base is the type that most weights of matrices have.
    fn file_type(&self, choices: &[Choice]) -> &'static FileType {
        let mut weights: Vec<(&'static BlockType, u64)> = Vec::new();
        for (tensor, choice) in self.tensors.iter().zip(choices).filter(|(t, _)| t.shape.len() > 1) {
            let count: u64 = tensor.shape.iter().product();
            match weights.iter_mut().find(|(block, _)| *block == choice.block) {
                Some((_, sum)) => *sum += count,
                None => weights.push((choice.block, count)),
            }
        }
        let most = weights.iter().max_by_key(|&&(block, sum)| (sum, std::cmp::Reverse(block.id)));
        let named = most.and_then(|(block, _)| FILE_TYPES.iter().find(|t| t.base == Some(block.name)));
        named.unwrap_or(&FILE_TYPES[0])
    }
}
