//! The journal of calibrated encoding: what a killed run has finished, from which another goes on to the same bytes.
//!
//! It is a folder beside the output. `run.json` says which run it belongs to, by a hash of everything that the bytes depend on.
//! `gradients.gguf` holds the Fisher matrices of the backward pass. `tensors-N.gguf` hold the tensors that were encoded, in the
//! order of the run, and `state.gguf` how far the run has come: the number of those files, the report, and the hidden states at the
//! boundary of a layer. Each file gets its name when it is complete and on the disk, the state last.

mod state;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kquant_formats::partial::PartialFile;
use kquant_formats::{FormatError, whole};
use serde::{Deserialize, Serialize};

use super::report::CalibrationReport;
use super::streams::Streams;
use crate::statistics::Fishers;
use crate::tensor::Stash;
use state::State;
pub(super) use state::Tokens;

/// Version of the journal's files.
const VERSION: u32 = 1;
const RUN: &str = "run.json";
const GRADIENTS: &str = "gradients.gguf";
const STATE: &str = "state.gguf";
const LOCK: &str = "lock";

/// The journal is written when at least so many times the time has gone by that its last writing took, so that it costs no more than
/// three hundredths of the run.
const RARELY: u32 = 32;

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    run: String,
    /// Locked for as long as the run lives.
    _lock: File,
    marks: Mutex<Marks>,
}

/// What the journal holds, and when it was last written.
#[derive(Debug)]
struct Marks {
    /// Number of files of encoded tensors.
    files: usize,
    /// Names of the tensors that are in them.
    kept: BTreeSet<String>,
    written: Option<(Instant, Duration)>,
    /// Why the journal is no longer written, if it is not.
    fault: Option<String>,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An earlier run has left one.
    #[error(
        "{} holds {holds} of an earlier run; go on with --resume, or remove it with `kquant clean {}`",
        folder.display(), out.display()
    )]
    Exists {
        /// The journal.
        folder: PathBuf,
        /// The output that it belongs to.
        out: PathBuf,
        /// What it holds, in words.
        holds: String,
    },
    /// The journal is that of a run with other inputs or options.
    #[error(
        "{} is of a run with other inputs, options or another version of kquant; give those of that run, or remove it with `kquant clean {}`",
        folder.display(), out.display()
    )]
    Other {
        /// The journal.
        folder: PathBuf,
        /// The output that it belongs to.
        out: PathBuf,
    },
    /// A living run writes it.
    #[error("{}: another run is writing it", .0.display())]
    Busy(PathBuf),
    /// A file of it cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
}

/// What `run.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    version: u32,
    run: String,
}

/// Returns the journal's folder of the output `out`.
pub fn folder_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".kquant-journal");
    PathBuf::from(name)
}

/// Returns what the journal of the output `out` holds, in words; `None` if there is no journal.
pub fn holds(out: &Path) -> Option<String> {
    let folder = folder_of(out);
    if !folder.is_dir() {
        return None;
    }
    Some(match State::read_reached(&folder.join(STATE)) {
        Ok(reached) => format!("{reached} layers or groups"),
        Err(_) if folder.join(GRADIENTS).exists() => "the backward pass".into(),
        Err(_) => "the beginning".into(),
    })
}

/// Removes the journal of the output `out`, and returns whether there was one.
///
/// # Errors
/// Fails when a living run writes it, or the system cannot remove it.
pub fn clean(out: &Path) -> Result<bool, JournalError> {
    let folder = folder_of(out);
    // A link or a file of that name is not a journal.
    if !folder.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Ok(false);
    }
    let _lock = lock(&folder)?;
    remove(&folder)?;
    Ok(true)
}

impl Journal {
    /// Opens the journal of the output `out` for the run that `run` identifies, or begins one. A journal that is there is gone on from if
    /// `resume` is true.
    ///
    /// # Errors
    /// Fails when there is a journal and `resume` is false, it is of another run or in use, or a file cannot be read or written.
    pub fn open(out: &Path, run: &str, resume: bool) -> Result<Self, JournalError> {
        let folder = folder_of(out);
        if !resume {
            Self::check_absent(out)?;
        }
        fs::create_dir_all(&folder).map_err(|e| FormatError::io(&folder, "create", e))?;
        let held = lock(&folder)?;
        let path = folder.join(RUN);
        match whole::read_if_there(&path, whole::CONFIGURATION)? {
            Some(bytes) => {
                let found: Option<Run> = serde_json::from_slice(&bytes).ok();
                if found.is_none_or(|found| (found.version, &*found.run) != (VERSION, run)) {
                    return Err(JournalError::Other { folder, out: out.to_owned() });
                }
            }
            None => {
                let text = serde_json::json!(Run { version: VERSION, run: run.to_owned() }).to_string();
                let mut file = PartialFile::create(&path, 0, true)?;
                file.fill(text.as_bytes())?;
                file.finish()?;
            }
        }
        let marks = Marks { files: 0, kept: BTreeSet::new(), written: None, fault: None };
        Ok(Self { folder, run: run.to_owned(), _lock: held, marks: Mutex::new(marks) })
    }

    /// Fails if there is a journal of the output `out`.
    ///
    /// # Errors
    /// [`JournalError::Exists`] with what it holds.
    pub fn check_absent(out: &Path) -> Result<(), JournalError> {
        match holds(out) {
            Some(holds) => Err(JournalError::Exists { folder: folder_of(out), out: out.to_owned(), holds }),
            None => Ok(()),
        }
    }

    /// Returns true if a later run could go on from the journal.
    pub fn holds_something(&self) -> bool {
        [STATE, GRADIENTS].iter().any(|name| self.folder.join(name).exists())
    }

    /// Removes the journal, whose run is over.
    ///
    /// # Errors
    /// Fails when the system cannot remove it.
    pub fn remove(self) -> Result<(), JournalError> {
        remove(&self.folder)
    }

    /// Returns why the journal is no longer written, if it is not; the run goes on without it.
    pub fn fault(&self) -> Option<String> {
        self.marks().fault.clone()
    }

    /// Returns the Fisher matrices of an earlier run, which may use `room` bytes of memory.
    pub(super) fn gradients(&self, room: u64) -> Result<Option<Fishers>, FormatError> {
        let path = self.folder.join(GRADIENTS);
        path.exists().then(|| state::read_gradients(&path, &self.run, room)).transpose()
    }

    /// Keeps the Fisher matrices.
    pub(super) fn keep_gradients(&self, fishers: &Fishers) {
        self.attempt(|_| state::write_gradients(&self.folder.join(GRADIENTS), &self.run, fishers));
    }

    /// Takes up an earlier run: fills the `stash`, the `report` and the `streams`, if the run has any, and returns how many layers or groups are
    /// done, and the units of work.
    pub(super) fn restore(
        &self,
        stash: &mut Stash,
        report: &mut CalibrationReport,
        streams: Option<(&mut Streams, Tokens)>,
    ) -> Result<Option<(usize, u64)>, FormatError> {
        let path = self.folder.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let state = State::open(&path, &self.run)?;
        let mut marks = self.marks();
        for number in 0..state.numbers.files {
            marks.kept.extend(state::read_tensors(&self.tensors(number), &self.run, stash)?);
        }
        marks.files = state.numbers.files;
        if let Some((streams, tokens)) = streams {
            state.read_streams(streams, tokens)?;
        }
        let reached = (state.numbers.reached, state.numbers.done);
        *report = state.numbers.report;
        Ok(Some(reached))
    }

    /// Keeps what is done after `reached` layers or groups, unless the last time was a moment ago.
    pub(super) fn keep(
        &self,
        (reached, done): (usize, u64),
        stash: &Stash,
        report: &CalibrationReport,
        streams: Option<(&mut Streams, Tokens)>,
    ) {
        if self.marks().written.is_some_and(|(last, took)| last.elapsed() < RARELY * took) {
            return;
        }
        let start = Instant::now();
        self.attempt(|marks| {
            let new: Vec<&str> = stash.names().filter(|name| !marks.kept.contains(*name)).collect();
            let mut files = marks.files;
            if !new.is_empty() {
                state::write_tensors(&self.tensors(files), &self.run, stash, &new)?;
                files += 1;
            }
            let numbers = state::Numbers { reached, done, files, report: report.clone() };
            State::write(&self.folder.join(STATE), &self.run, &numbers, streams)?;
            marks.kept.extend(new.into_iter().map(str::to_owned));
            marks.files = files;
            marks.written = Some((Instant::now(), start.elapsed()));
            Ok(())
        });
    }

    /// Writes to the journal by `write`. The first failure is the last attempt: what took hours is not given up for its record.
    fn attempt(&self, write: impl FnOnce(&mut Marks) -> Result<(), FormatError>) {
        let mut marks = self.marks();
        if marks.fault.is_none()
            && let Err(error) = write(&mut marks)
        {
            marks.fault = Some(error.to_string());
        }
    }

    fn tensors(&self, number: usize) -> PathBuf {
        self.folder.join(format!("tensors-{number}.gguf"))
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks the journal in `folder` for as long as the file lives.
fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|e| FormatError::io(&path, "create", e))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(JournalError::Busy(folder.to_owned())),
        // Where the file system has no locks, runs are not told apart.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes the journal's own files in `folder`, and the folder if nothing else is in it.
fn remove(folder: &Path) -> Result<(), JournalError> {
    let fault = |e: io::Error| JournalError::File(FormatError::io(folder, "remove", e));
    for entry in fs::read_dir(folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let own = [RUN, GRADIENTS, STATE, LOCK].iter().any(|own| name.starts_with(own));
        if own || name.starts_with("tensors-") {
            fs::remove_file(entry.path()).map_err(fault)?;
        }
    }
    fs::remove_dir(folder).map_err(fault)
}
