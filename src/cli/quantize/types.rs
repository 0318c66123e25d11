//! How `quantize` chooses the types of tensors: by a file type, or by prices for a target.

use anyhow::bail;
use kquant::job::{Method, PreparedStatistics, Types, read_prices};
use kquant::recipe::{self, Allocation, Menu, Overrides, PriceList, Target};

use super::{Args, means};
use crate::cli::prices::measured;

impl Args {
    /// What the file is to be, where that is said by its size or divergence.
    pub(super) fn target(&self) -> Option<Target> {
        let size = self.size.size.map(Target::Size);
        let bits = self.size.bpw.map(Target::BitsPerWeight);
        size.or(bits).or(self.size.predicted_kl.map(Target::PredictedKl))
    }

    /// Whether prices have to be measured.
    pub(super) fn needs_prices(&self) -> bool {
        self.target().is_some() && self.size.prices.is_none()
    }

    /// Types by the file type that the arguments name.
    pub(super) fn by_file_type(&self) -> anyhow::Result<Types> {
        let Some(kind) = &self.kind else {
            bail!("no types: give --type TYPE, or --size BYTES to have them chosen by what tensors cost")
        };
        let file_type = recipe::file_type(kind)?;
        Ok(Types::FileType(recipe::Options { file_type, pure: self.pure, overrides: self.overrides.read()? }))
    }

    /// What types are chosen from for `target`.
    pub(super) fn listed(&self, target: Target) -> anyhow::Result<Listed> {
        let prices = self.size.prices.as_deref().map(read_prices).transpose()?;
        Ok(Listed { target, menu: Menu::parse(&self.size.menu)?, overrides: self.overrides.read()?, prices })
    }

    /// Types by prices: those of a file that the arguments name, or measured by `made`.
    pub(super) fn by_prices(
        &self,
        listed: Listed,
        method: &Method,
        made: &PreparedStatistics,
    ) -> anyhow::Result<Types> {
        let Listed { target, menu, overrides, prices } = listed;
        let repaired = method.layers.is_some() && self.calibration.runs_a_text(self.needs_prices())?;
        let prices = match prices {
            Some(prices) => prices,
            None => {
                let types = Allocation::priced_types(&menu, &overrides);
                measured((&self.model, &self.text_args), &types, method, made, &means(self))?
            }
        };
        Ok(Types::Prices(Box::new(Allocation { target, menu, prices, overrides, repaired })))
    }
}

/// A target and what types are chosen from for it, read before any work.
pub(super) struct Listed {
    target: Target,
    menu: Menu,
    overrides: Overrides,
    prices: Option<PriceList>,
}
