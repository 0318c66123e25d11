//! Options that name the types of tensors, which `quantize` and `sweep` share.

use std::path::PathBuf;

use anyhow::Context;
use kquant::recipe::{self, Overrides, TensorType};
use kquant_formats::whole;

/// Types that the user names.
#[derive(Debug, clap::Args)]
pub(super) struct OverrideArgs {
    /// Type of the tensors whose GGUF name matches; the first match wins; repeatable.
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<String>,
    /// File of REGEX=TYPE, separated by white space; after those of --tensor-type.
    #[arg(long, value_name = "FILE")]
    pub tensor_type_file: Option<PathBuf>,
    /// Type of output.weight.
    #[arg(long, value_name = "TYPE")]
    output_tensor_type: Option<String>,
    /// Type of the token embeddings.
    #[arg(long, value_name = "TYPE")]
    token_embedding_type: Option<String>,
    /// Keep output.weight in its type.
    #[arg(long)]
    leave_output_tensor: bool,
    /// Quantize tensors that are quantized already; costs quality.
    #[arg(long)]
    allow_requantize: bool,
}

impl OverrideArgs {
    /// The types, with those that the file lists.
    pub(super) fn read(&self) -> anyhow::Result<Overrides> {
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
}
