//! Progress on the terminal: a bar where there is one, a line now and then where not.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kquant::context::{Progress, Unit};

use super::bytes;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a run has come, on standard error.
pub(super) struct Display {
    part: Mutex<RunPart>,
    /// Shown behind the figures, instead of what is being worked on.
    note: Mutex<Option<String>>,
    shown: Shown,
}

/// The part of the run that is under way.
#[derive(Clone, Copy)]
struct RunPart {
    total: u64,
    unit: Unit,
    start: Instant,
    /// Units that an earlier run has done.
    resumed: u64,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Mutex<Instant>),
    Nothing,
}

impl Display {
    /// A display for `total` units.
    pub(super) fn new(total: u64, unit: Unit, quiet: bool) -> Self {
        let start = Instant::now();
        let shown = if quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            Shown::Bar(bar(total, unit))
        } else {
            Shown::Lines(Mutex::new(start))
        };
        Self { part: Mutex::new(RunPart { total, unit, start, resumed: 0 }), note: Mutex::new(None), shown }
    }

    /// A display for a run that says itself how much its parts take.
    pub(super) fn of_parts(quiet: bool) -> Self {
        Self::new(0, Unit::Work, quiet)
    }

    /// Shows `note` from now on.
    pub(super) fn note(&self, note: String) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(note.clone());
        }
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn line(&self, done: u64, what: &str) -> String {
        let RunPart { total, unit, start, resumed } =
            *self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = done.saturating_sub(resumed) as f64 / start.elapsed().as_secs_f64();
        let left = match rate > 0.0 {
            true => format!("{:.0} s", (total - done.min(total)) as f64 / rate),
            false => "unknown".into(),
        };
        let share = done as f64 * 100.0 / total.max(1) as f64;
        let sizes = match unit {
            Unit::Bytes => {
                format!("{} of {}  {}/s  ", bytes::show(done), bytes::show(total), bytes::show(rate as u64))
            }
            Unit::Work => String::new(),
        };
        format!("{share:3.0} %  {sizes}ETA {left}  {what}")
    }
}

fn bar(total: u64, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    set_style(&bar, unit);
    bar
}

fn set_style(bar: &ProgressBar, unit: Unit) {
    let template = match unit {
        Unit::Bytes => "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}  {msg}",
        Unit::Work => "{bar:30} {percent} %  ETA {eta}  {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

impl Progress for Display {
    fn begin(&self, total: u64, unit: Unit) {
        let part = RunPart { total, unit, start: Instant::now(), resumed: 0 };
        *self.part.lock().unwrap_or_else(PoisonError::into_inner) = part;
        if let Shown::Bar(bar) = &self.shown {
            bar.reset();
            bar.set_length(total);
            set_style(bar, unit);
        }
    }

    fn resume(&self, done: u64) {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        (part.start, part.resumed) = (Instant::now(), done);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    fn advance(&self, done: u64, what: &str) {
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        let what = note.as_deref().unwrap_or(what);
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(what.to_owned());
            }
            Shown::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_EVERY && done > 0 {
                    *last = Instant::now();
                    let _ = writeln!(io::stderr(), "{}", self.line(done, what));
                }
            }
        }
    }
}
