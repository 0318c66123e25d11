//! How `quantize` chooses the types of tensors: by a file type, or by prices for a target.

use anyhow::{Context as _, bail};
use kquant::job::{Method, PreparedStatistics, Types, read_prices};
use kquant::recipe::{self, Allocation, Menu, Overrides, Target, TensorType};
use kquant_formats::whole;

use super::{Args, means};
use crate::cli::prices::measured;

impl Args {
    /// What the file is to be, where that is said by its size or divergence.
    pub(super) fn target(&self) -> Option<Target> {
        let size = self.size.size.map(Target::Size);
        let bits = self.size.bpw.map(Target::BitsPerWeight);
        size.or(bits).or(self.size.predicted_kl.map(Target::PredictedKl))
    }

    /// Types that the arguments name.
    pub(super) fn overrides(&self) -> anyhow::Result<Overrides> {
        let mut tensor_types =
            self.tensor_type.iter().map(|a| TensorType::parse(a)).collect::<Result<Vec<_>, _>>()?;
        if let Some(path) = &self.tensor_type_file {
            let text = String::from_utf8(whole::read(path, whole::CONFIGURATION)?)
                .with_context(|| format!("{}: the file is not UTF-8", path.display()))?;
            let listed = TensorType::parse_file(&text).with_context(|| path.display().to_string())?;
            tensor_types.extend(listed);
        }
        let block = |name: &Option<String>| name.as_deref().map(recipe::block_type).transpose();
        Ok(Overrides {
            tensor_types,
            output_tensor_type: block(&self.output_tensor_type)?,
            token_embedding_type: block(&self.token_embedding_type)?,
            leave_output_tensor: self.leave_output_tensor,
            allow_requantize: self.allow_requantize,
        })
    }

    /// Types by the file type that the arguments name.
    pub(super) fn by_file_type(&self) -> anyhow::Result<Types> {
        let Some(kind) = &self.kind else {
            bail!("no types: give --type TYPE, or --size BYTES to have them chosen by what tensors cost")
        };
        let file_type = recipe::file_type(kind)?;
        Ok(Types::FileType(recipe::Options { file_type, pure: self.pure, overrides: self.overrides()? }))
    }

    /// Types by prices for `target`: from the file that the arguments name, or measured by `made`.
    pub(super) fn by_prices(
        &self,
        target: Target,
        method: &Method,
        made: &PreparedStatistics,
    ) -> anyhow::Result<Types> {
        let (menu, overrides) = (Menu::parse(&self.size.menu)?, self.overrides()?);
        let repaired = method.encoder.wants_hessians() && self.calibration.calibrate.is_some();
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
