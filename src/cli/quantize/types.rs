//! How `quantize` chooses the types of tensors: by a file type, or by prices for a target.

use anyhow::bail;
use kquant::job::{Method, PreparedStatistics, Types, read_prices};
use kquant::recipe::{self, Allocation, Menu, Target};

use super::{Args, means};
use crate::cli::prices::measured;

impl Args {
    /// What the file is to be, where that is said by its size or divergence.
    pub(super) fn target(&self) -> Option<Target> {
        let size = self.size.size.map(Target::Size);
        let bits = self.size.bpw.map(Target::BitsPerWeight);
        size.or(bits).or(self.size.predicted_kl.map(Target::PredictedKl))
    }

    /// Types by the file type that the arguments name.
    pub(super) fn by_file_type(&self) -> anyhow::Result<Types> {
        let Some(kind) = &self.kind else {
            bail!("no types: give --type TYPE, or --size BYTES to have them chosen by what tensors cost")
        };
        let file_type = recipe::file_type(kind)?;
        Ok(Types::FileType(recipe::Options { file_type, pure: self.pure, overrides: self.overrides.read()? }))
    }

    /// Types by prices for `target`: from the file that the arguments name, or measured by `made`.
    pub(super) fn by_prices(
        &self,
        target: Target,
        method: &Method,
        made: &PreparedStatistics,
    ) -> anyhow::Result<Types> {
        let (menu, overrides) = (Menu::parse(&self.size.menu)?, self.overrides.read()?);
        let repaired = method.layers.is_some() && self.calibration.calibrate.is_some();
        let prices = match &self.size.prices {
            Some(path) => read_prices(path)?,
            None => {
                let types = Allocation::priced_types(&menu, &overrides);
                measured((&self.model, &self.text_args), &types, method, made, &means(self))?
            }
        };
        Ok(Types::Prices(Box::new(Allocation { target, menu, prices, overrides, repaired })))
    }
}
