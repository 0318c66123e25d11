//! Progress on the terminal: a bar where there is one, a line now and then where not.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kquant::pipeline::Progress;

use super::bytes;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far the output has come, on standard error.
pub(super) enum Display {
    Bar(ProgressBar),
    Lines { total: u64, start: Instant, last: Mutex<Instant> },
    Quiet,
}

impl Display {
    /// A display for `total` bytes.
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        if quiet {
            return Display::Quiet;
        }
        if !io::stderr().is_terminal() {
            let now = Instant::now();
            return Display::Lines { total, start: now, last: Mutex::new(now) };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Display::Bar(bar)
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Display {
    fn advance(&self, done: u64, tensor: &str) {
        match self {
            Display::Quiet => {}
            Display::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(tensor.to_owned());
            }
            Display::Lines { total, start, last } => {
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() < LINE_EVERY || done == 0 {
                    return;
                }
                *last = Instant::now();
                let elapsed = start.elapsed().as_secs_f64();
                let rate = done as f64 / elapsed;
                let left = (total - done.min(*total)) as f64 / rate;
                let _ = writeln!(
                    io::stderr(),
                    "{:3.0} %  {} of {}  {}/s  ETA {left:.0} s  {tensor}",
                    done as f64 * 100.0 / (*total).max(1) as f64,
                    bytes::show(done),
                    bytes::show(*total),
                    bytes::show(rate as u64),
                );
            }
        }
    }
}
