//! What a run is made of and gave, for whoever wants to check or repeat it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Job, Prepared, QuantizeError, Report, Types};
use crate::hash::{Digest, Manifest, SourceFile, bytes_sha256, file_sha256};
use crate::layerwise::Calibration;
use crate::recipe::Overrides;

impl Prepared {
    /// A SHA-256 of everything that the encoded tensors depend on: the sources, which are read whole, the plan, the options and the
    /// version of kquant.
    ///
    /// # Errors
    /// [`QuantizeError::Hash`] when a source cannot be read.
    pub fn run_sha256(&self) -> Result<String, QuantizeError> {
        let calibration = self.job.statistics.calibration().map(Calibration::options);
        let run = serde_json::json!({
            "kquant": env!("CARGO_PKG_VERSION"),
            "plan_sha256": self.view().sha256()?,
            "options": options(&self.job),
            "calibration": calibration,
            "sources": self.sources()?,
        });
        Ok(bytes_sha256(run.to_string().as_bytes()))
    }

    /// Names, sizes and hashes of the sources.
    fn sources(&self) -> Result<Vec<SourceFile>, QuantizeError> {
        let known = self.job.statistics.text();
        let statistics = self.job.statistics.path().filter(|_| known.is_none());
        let sources: Vec<&PathBuf> =
            self.opened.files.iter().chain(&self.job.metadata).chain(statistics).collect();
        let hash = |path: &&PathBuf| match file_sha256(path) {
            Ok((sha256, bytes)) => Ok(SourceFile { name: file_name(path), bytes, sha256 }),
            Err(source) => Err(QuantizeError::Hash { path: (*path).clone(), source }),
        };
        let mut sources: Vec<SourceFile> = sources.par_iter().map(hash).collect::<Result<_, _>>()?;
        sources.extend(known);
        Ok(sources)
    }

    /// The manifest of the run that `report` tells of; hashes the sources.
    pub(super) fn manifest(&self, report: &Report) -> Result<Manifest, QuantizeError> {
        let job = &self.job;
        Ok(Manifest {
            kquant: env!("CARGO_PKG_VERSION").to_owned(),
            plan_sha256: report.plan_sha256.clone(),
            options: options(job),
            sources: self.sources()?,
            files: report
                .files
                .iter()
                .map(|f| Digest { path: file_name(&f.path).into(), ..f.clone() })
                .collect(),
        })
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// The options that the bytes depend on.
pub(super) fn options(job: &Job) -> serde_json::Value {
    let none = Overrides::default();
    let (chosen, named) = match &job.types {
        Types::Chosen(chosen) => {
            let names: Vec<&str> = chosen.choices.iter().map(|choice| choice.block.name).collect();
            (serde_json::json!({ "types": names }), &none)
        }
        Types::FileType(options) => {
            (serde_json::json!({ "type": options.file_type.name, "pure": options.pure }), &options.overrides)
        }
        Types::Prices(allocation) => {
            let (target, menu) = (allocation.target.to_string(), &allocation.menu.name);
            (
                serde_json::json!({ "target": target, "menu": menu, "prices": allocation.prices.origin }),
                &allocation.overrides,
            )
        }
    };
    let overrides = job.overrides.iter().map(|o| format!("{}={:?}", o.key, o.value));
    let tensor_types = named.tensor_types.iter().map(|t| format!("{}={}", t.pattern(), t.block.name));
    let mut all = serde_json::json!({
        "encoder": job.encoder.name(),
        "calibration": job.statistics.calibration().map(Calibration::provenance),
        "tensor_types": tensor_types.collect::<Vec<_>>(),
        "output_tensor_type": named.output_tensor_type.map(|t| t.name),
        "token_embedding_type": named.token_embedding_type.map(|t| t.name),
        "leave_output_tensor": named.leave_output_tensor,
        "allow_requantize": named.allow_requantize,
        "override_kv": overrides.collect::<Vec<_>>(),
        "keep_split": job.keep_split,
        "pre": job.pre,
    });
    if let (Some(all), serde_json::Value::Object(chosen)) = (all.as_object_mut(), chosen) {
        all.extend(chosen);
    }
    all
}
