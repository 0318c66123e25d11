//! A share of a job's tensors, encoded by itself: the same job on several machines, each its part.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::manifest::{file_name, options};
use super::{Job, Outputs, Prepared, QuantizeError, Report, Resources, prepare_divided};
use crate::context::Progress;
use crate::hash::{Digest, Manifest, SourceFile, bytes_sha256};
use crate::layerwise::{Calibrated, Calibration};
use crate::parts::{PartState, part_path, record_path, state};
use crate::plan::Division;

/// Bytes at the beginning and at the end of a source by which it is recognised: to hash a large model as often as it has parts would
/// take longer than to encode it.
const ENDS: u64 = 1 << 20;

/// One part of a job that has been checked.
pub struct PreparedPart {
    /// The job with a plan of this part's tensors alone.
    pub prepared: Prepared,
    /// Number of the part, from 0.
    no: u16,
    /// Number of parts.
    count: u16,
    /// What all parts of the run have in common.
    run: Manifest,
}

/// Prepares part `no`, from 0, of `count` of a job, as [`super::prepare`] does for the whole. The parts of a job are the files of a
/// split model, between which its tensors are divided.
///
/// # Errors
/// [`QuantizeError`] as for the whole job; also when layers would be encoded after those before them, so that no part can be made by
/// itself, and when a source cannot be read.
pub fn prepare_part(job: Job, no: u16, count: u16) -> Result<PreparedPart, QuantizeError> {
    let mut prepared = prepare_divided(job, |input| input, Division::Parts(count))?;
    if prepared.calibration().is_some_and(|calibration| !calibration.is_one_shot()) {
        return Err(QuantizeError::PartOfSequence);
    }
    let run = prepared.common_record()?;
    prepared.keep_file(no);
    Ok(PreparedPart { prepared, no, count, run })
}

impl PreparedPart {
    /// The path of the part in `folder`.
    pub fn path(&self, folder: &Path) -> PathBuf {
        part_path(folder, self.no, self.count)
    }

    /// Returns what is at the part's place in `folder`.
    ///
    /// # Errors
    /// [`QuantizeError::Parts`] when a part of another run is there, or a file cannot be read.
    pub fn state(&self, folder: &Path) -> Result<PartState, QuantizeError> {
        Ok(state(&self.path(folder), &self.run)?)
    }

    /// Encodes the part and writes it to `folder`, with its record. What is there is replaced: it is this part, damaged or without
    /// its record, as [`PreparedPart::state`] finds, or the caller wants it to be.
    ///
    /// # Errors
    /// [`QuantizeError`]; nothing is left behind.
    pub fn run(
        &self,
        calibrated: Option<&Calibrated>,
        folder: &Path,
        resources: &Resources,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Report, QuantizeError> {
        let outputs = self.outputs(folder);
        self.prepared.write(calibrated, &outputs, resources, (cancel, progress), |report| {
            let named = |file: &Digest| Digest { path: file_name(&file.path).into(), ..file.clone() };
            Ok(Manifest { files: report.files.iter().map(named).collect(), ..self.run.clone() })
        })
    }

    /// Where the part and its record go.
    pub fn outputs(&self, folder: &Path) -> Outputs {
        let model = self.path(folder);
        Outputs { manifest: Some(record_path(&model)), model, report: None, force: true }
    }
}

impl Prepared {
    /// What all parts of the run have in common: everything that the bytes depend on.
    fn common_record(&self) -> Result<Manifest, QuantizeError> {
        let mut all = options(&self.job);
        if let Some(all) = all.as_object_mut() {
            let calibration = self.calibration().map(Calibration::options);
            all.insert("feedback".into(), serde_json::json!(calibration));
        }
        let sources = self.opened.files.iter().chain(&self.job.metadata).chain(self.job.statistics.path());
        let hash =
            |path: &PathBuf| ends(path).map_err(|source| QuantizeError::Hash { path: path.clone(), source });
        Ok(Manifest {
            kquant: env!("CARGO_PKG_VERSION").to_owned(),
            plan_sha256: self.view().sha256()?,
            options: all,
            sources: sources.map(hash).collect::<Result<_, _>>()?,
            files: Vec::new(),
        })
    }

    /// Leaves out of the plan what goes to other files than number `no`.
    fn keep_file(&mut self, no: u16) {
        let no = usize::from(no);
        self.plan.tensors.retain(|tensor| tensor.file == no);
        self.plan.tensors.iter_mut().for_each(|tensor| tensor.file = 0);
        self.plan.files = self.plan.files.drain(..).skip(no).take(1).collect();
    }
}

/// Name and size of a source, and the hash of its first and its last bytes.
fn ends(path: &Path) -> io::Result<SourceFile> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut read = Vec::new();
    file.by_ref().take(ENDS).read_to_end(&mut read)?;
    file.seek(SeekFrom::Start(bytes.saturating_sub(ENDS)))?;
    file.take(ENDS).read_to_end(&mut read)?;
    Ok(SourceFile { name: file_name(path), bytes, sha256: bytes_sha256(&read) })
}
